"""A real ladder on this machine: its law, its prediction for a run twice as large, made before, and what that run gave.

python benchmarks/scaling.py                                  on words of known entropy, about an hour of one busy core
python benchmarks/scaling.py --text plays.txt --out plays     on another text; what is trained already is kept

The words are made here: 20,000 of 2 to 6 of 16 letters, drawn independently with frequencies k^-1.4, twelve and a space
behind each a document, so that no model gets below (12 H - H(first letter)) / (letters and spaces - 1) nats a token.
The ladder is written as a file, which `likely scale plan` and `likely scale run` take too. The prediction is printed,
and written beside the runs, before the larger run begins.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tokenizers

from likely.app.results import scaling_figures
from likely.engine.measure.scaling import fitted, running
from likely.engine.measure.scaling.forecast import foretold, rate
from likely.engine.measure.scaling.plan import ScalingRun, SweepPlan, read_plan
from likely.engine.measure.scaling.report import report
from likely.engine.measure.scaling.run_trainer import PretrainingRuns
from likely.engine.measure.scaling.scaling_law import FLOP
from likely.engine.measure.scaling.sweep import ScalingSweep, read_runs

LADDER = """layout = "isoflop"
sizes = {sizes}
compute = {compute}
ratios = [5, 1000]
out = "ladder"

[training]
data = {data}
tokenizer = {tokenizer}
context = 96
batch = 16
accumulate = 1
eval_rows = 2000
"""
LETTERS, WORDS, EXPONENT, A_DOCUMENT = "abcdefghijklmnop", 20_000, 1.4, 12


def words(folder: Path, characters: float) -> float:
    """Write `words.jsonl` of about so many characters and the tokenizer `letters`; its entropy in nats a token."""
    random = np.random.default_rng(0)
    chances = np.arange(1, WORDS + 1) ** -EXPONENT
    chances /= chances.sum()
    vocabulary: dict[str, None] = {}
    while len(vocabulary) < WORDS:
        length = int(random.integers(2, 7))
        vocabulary.setdefault("".join(LETTERS[i] for i in random.integers(0, len(LETTERS), length)))
    known = [f"{word} " for word in vocabulary]
    mean = float(chances @ [len(word) for word in known])
    drawn = random.choice(WORDS, (int(characters / mean / A_DOCUMENT), A_DOCUMENT), p=chances)
    with (folder / "words.jsonl").open("w") as file:
        for row in drawn:
            file.write(json.dumps({"text": "".join(known[k] for k in row)}) + "\n")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE({letter: i for i, letter in enumerate("\u0120" + LETTERS)}, [])
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    (folder / "letters").mkdir(exist_ok=True)
    tokenizer.save(str(folder / "letters" / "tokenizer.json"))
    (folder / "letters" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    first = np.array([chances[[word[0] == letter for word in known]].sum() for letter in LETTERS])
    whole, start = -(chances @ np.log(chances)), -(first @ np.log(first))
    return float((A_DOCUMENT * whole - start) / (A_DOCUMENT * mean - 1))


def train(plan: SweepPlan, rungs: Sequence[ScalingRun], trainer: PretrainingRuns) -> None:
    for event in running.run(plan, rungs, trainer):
        if isinstance(event, running.ScalingRunEnded):
            print(json.dumps(asdict(event.result)), flush=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--text", type=Path)
parser.add_argument("--out", type=Path, default=Path("scaling-ladder"))
parser.add_argument("--sizes", nargs="+", default=["3k", "5k", "8k", "15k", "30k", "57k"])
parser.add_argument("--compute", nargs="+", type=float, default=[1e10, 3e10, 1e11, 3e11, 8e11])
parser.add_argument("--larger", default="57k", help="the size of the run of twice the largest compute")
options = parser.parse_args()

options.out.mkdir(parents=True, exist_ok=True)
data, tokenizer = "words.jsonl", "letters"
if options.text is not None:
    data, tokenizer = str(options.text.absolute()), "characters"
elif not (options.out / "entropy.json").exists():
    (options.out / "entropy.json").write_text(json.dumps({"nats a token": words(options.out, 1.2e7)}))
values = {"sizes": options.sizes, "compute": options.compute, "data": data, "tokenizer": tokenizer}
(options.out / "ladder.toml").write_text(LADDER.format(**{name: json.dumps(value) for name, value in values.items()}))
plan = read_plan(options.out / "ladder.toml")
trainer = PretrainingRuns(plan)
rungs, left_out = plan.rungs({size: trainer.facts(size).parameters for size in plan.sizes})
print(json.dumps({"runs": [rung.name for rung in rungs], "left out": left_out}), flush=True)
train(plan, rungs, trainer)

runs, _ = read_runs(plan.out / running.TABLE, {})
runs = runs.where(np.isin(runs.run, [rung.name for rung in rungs]))
law, diverged = fitted.fit_sound(runs)
spans = fitted.intervals(fitted.refits(law))
print(json.dumps({"law": asdict(law.law), "95 %": spans, "diverged": [str(rung) for rung in diverged]}))
parameters = trainer.facts(options.larger).parameters
larger = ScalingRun(options.larger, parameters, round(2 * max(plan.compute) / FLOP / parameters), 0)
one = ScalingSweep(*(np.array([number]) for number in (float(parameters), float(larger.tokens), np.nan, 0)))
(forecast,) = foretold(law, one)
words_of_it = json.dumps({"run": larger.name, "told": forecast.told, "low": forecast.low, "high": forecast.high})
print(words_of_it, flush=True)
(plan.out / "told.json").write_text(words_of_it)

train(plan, [larger], trainer)
(largest,) = [result for result in running.results(plan.out) if result.run == larger.name]
inside = largest.loss is not None and forecast.low <= largest.loss <= forecast.high
print(json.dumps({"seen": largest.loss, "inside": inside}))
runs, _ = read_runs(plan.out / running.TABLE, {})
every = report(runs, [])
(plan.out / "ladder.svg").write_text(scaling_figures.svg(every, rate(runs)), encoding="utf-8")
