"""A real ladder on this machine: its law, its prediction for a run twice as large, made before, and what that run gave.

python benchmarks/scaling.py                                  eight small models on Python's own help
python benchmarks/scaling.py --text plays.txt --out plays     on another text; what is trained already is kept

The prediction is printed, and written beside the runs, before the larger run begins.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from app import ladder_figures
from engine.scaling import fitted, running
from engine.scaling.forecast import foretold, rate
from engine.scaling.ladder import Ladder, read_runs
from engine.scaling.law import FLOP
from engine.scaling.plan import LadderPlan, Rung
from engine.scaling.report import report
from engine.scaling.rung_trainer import PretrainRungs

TRAINING = {"tokenizer": "characters", "context": 128, "batch": 8, "accumulate": 1, "eval_rows": 200}


def train(plan: LadderPlan, rungs: Sequence[Rung], trainer: PretrainRungs) -> None:
    for event in running.run(plan, rungs, trainer):
        if isinstance(event, running.RungEnded):
            print(json.dumps(asdict(event.result)), flush=True)


parser = argparse.ArgumentParser()
parser.add_argument("--text", type=Path)
parser.add_argument("--out", type=Path, default=Path("scaling-ladder"))
parser.add_argument("--sizes", nargs="+", default=["15k", "30k", "60k"])
parser.add_argument("--compute", nargs="+", type=float, default=[7e9, 2.2e10, 7e10])
parser.add_argument("--larger", default="60k", help="the size of the run of twice the largest compute")
asked = parser.parse_args()

asked.out.mkdir(parents=True, exist_ok=True)
text = asked.text
if text is None:
    text = asked.out / "help.txt"
    text.write_text("\n".join(topics.values()), encoding="utf-8")
plan = LadderPlan(
    tuple(asked.sizes), compute=tuple(asked.compute), ratios=(1, 200), out=asked.out,
    training={"data": str(text), **TRAINING},
)  # fmt: skip
trainer = PretrainRungs(plan)
rungs, left = plan.rungs({size: trainer.facts(size).parameters for size in plan.sizes})
print(json.dumps({"runs": [rung.name for rung in rungs], "left out": left}), flush=True)
train(plan, rungs, trainer)

runs, _ = read_runs(asked.out / running.TABLE, {})
runs = runs.where(np.isin(runs.run, [rung.name for rung in rungs]))
law, diverged = fitted.fit_sound(runs)
spans = fitted.intervals(fitted.refits(law))
print(json.dumps({"law": asdict(law.law), "95 %": spans, "diverged": [str(each) for each in diverged]}))
parameters = trainer.facts(asked.larger).parameters
larger = Rung(asked.larger, parameters, round(2 * max(asked.compute) / FLOP / parameters), 0)
one = Ladder(*(np.array([each]) for each in (float(parameters), float(larger.tokens), np.nan, 0)))
(told,) = foretold(law, one)
said = json.dumps({"run": larger.name, "told": told.told, "low": told.low, "high": told.high})
print(said, flush=True)
(asked.out / "told.json").write_text(said)

train(plan, [larger], trainer)
(seen,) = [each for each in running.results(asked.out) if each.run == larger.name]
print(json.dumps({"seen": seen.loss, "inside": seen.loss is not None and told.low <= seen.loss <= told.high}))
every = report(replace(runs, run=None), [])
(asked.out / "ladder.svg").write_text(ladder_figures.svg(every, rate(runs)), encoding="utf-8")
