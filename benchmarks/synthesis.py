"""Rows made by a model: how fast they are drawn and deduplicated, and a chain from 40 rows to a better adapter.

    python benchmarks/synthesis.py duplicates [--rows 100000]
    python benchmarks/synthesis.py drawing [--model smollm2] [--answers 16] [--rounds 3]
    python benchmarks/synthesis.py chain --folder DIR [--problems 120] [--answers 8] [--items 100]

`duplicates`: rows of 100 words, a twentieth of them near copies with 3 words changed; processor time, and the share of
the copies that is found. `drawing`: processor time of answers one at a time, each reading its prompt, over the same
number side by side, by turns; and of ones that share what was read of the prompt.

`chain`: a tiny model adds numbers of three digits with a scratchpad (`benchmarks/reasoning.py` trains it): nearly
always right where it takes the most likely token, less often where it draws. 40 sums with their working are given, and
sums without: of the same kind (`--base 10`), of which it has seen 20,000 before and 40 more say nothing new, or to base
eight (`--base 8`), which it has never seen, in the same signs and the same form. An adapter on the 40 (A) draws answers
to the others; those that a verifier passes, with the 40, train an adapter from the base again (B). Against B stand the
40 for as many tokens as B read in training (C), and for as many more as the drawing cost, where a token that is drawn
or read without a gradient counts a third of one that is trained on (D). The null: as many made rows that nobody
verified (E). All draw answers to the same new sums at temperature 1, so differences are paired by sum. One JSON line
each.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

if TYPE_CHECKING:
    from likely.engine.text.rows.training_row import TrainingRow


def spent(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def find_duplicates(count: int) -> dict[str, Any]:
    from likely.engine.measure.synth.config import DeduplicateOptions
    from likely.engine.measure.synth.duplicates import duplicates

    chance = random.Random(0)
    words = [f"word{i}" for i in range(20_000)]
    texts = [" ".join(chance.choices(words, k=100)) for _ in range(count * 19 // 20)]
    copies = []
    for text in texts[: count - len(texts)]:
        copy = text.split()
        for _ in range(3):
            copy[chance.randrange(100)] = "other"
        copies.append(" ".join(copy))
    seconds, matches = spent(lambda: duplicates([*texts, *copies], DeduplicateOptions()))
    right = sum(earlier is not None and earlier[0] == i for i, earlier in enumerate(matches[len(texts) :]))
    wrong = sum(earlier is not None for earlier in matches[: len(texts)])
    return {"rows": count, "processor_s": seconds, "copies": len(copies), "found": right, "wrong": wrong}


def draw(model: str, answers: int, rounds: int) -> dict[str, Any]:
    from likely.engine.decode.prompt import Prompt
    from likely.engine.decode.session import Session
    from likely.engine.decode.strategy_table import PLAIN
    from likely.engine.measure.synth.writer import Writer
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.weights.sources.checkpoint import load

    session = Session(load(model))
    shown = "".join(
        f"Instruction: name {n} things that are red\nAnswer: a rose, blood, an apple, {n} bricks\n\n" for n in range(6)
    )
    prompt = Prompt(parts=(shown + "Instruction:",))
    writer = Writer(session, SamplingConfig(), PLAIN, 48)
    writer.draw(prompt, 2, 0)
    times: dict[str, list[float]] = {"one": [], "shared": [], "side": []}
    for turn in range(rounds):

        def one(forget: bool, turn: int = turn) -> int:
            tokens = 0
            for branch in range(answers):
                if forget:
                    session.forget()
                tokens += writer.draw(prompt, 1, turn * 1000 + branch)[0].tokens
            return tokens

        def beside(turn: int = turn) -> int:
            return sum(path.tokens for path in writer.draw(prompt, answers, turn * 1000))

        for name, work in (("one", lambda: one(True)), ("shared", lambda: one(False)), ("side", beside)):
            session.forget()
            seconds, tokens = spent(work)
            times[name].append(seconds / tokens)
    side = median(times["side"])
    read = len(prompt.ids(session.tokenizer))
    return {"model": model, "answers": answers, "prompt": read, "one_over_side": median(times["one"]) / side,
            "shared_over_side": median(times["shared"]) / side}  # fmt: skip


def chain(
    folder: Path, problems: int, answers: int, items: int, steps: int, rate: float, radix: int, seed: int
) -> dict[str, Any]:
    from benchmarks.reasoning import ROWS, sums, trained, work, written
    from likely.engine.decode.session import Session
    from likely.engine.measure.evaluate.scoring.protocol import Protocol
    from likely.engine.measure.synth import inputs, pipeline, training
    from likely.engine.measure.synth.config import TrainOptions, configure
    from likely.engine.measure.synth.pipeline import StageYield
    from likely.engine.text.rows.training_row import parse
    from likely.engine.weights.sources.checkpoint import load

    checkpoint = load(str(trained(folder, 1150)))
    run = folder / f"chain-{radix}-{steps}-{rate}-{problems}-{answers}-{items}-{seed}"
    run.mkdir(exist_ok=True)
    known = frozenset(sums(ROWS, 0)) if radix == 10 else frozenset()  # what the model was trained on
    new = sums(40 + problems + items, seed, known, radix)

    def asks(a: int, b: int) -> str:
        return f"{written(a, radix)}+{written(b, radix)}="

    forty = tuple(parse({"prompt": asks(a, b), "completion": work(a, b, radix)}, "forty") for a, b in new[:40])
    for name, some in (("problems", new[40 : 40 + problems]), ("items", new[40 + problems :])):
        lines = [json.dumps({"prompt": asks(a, b), "answer": written(a + b, radix)}) + "\n" for a, b in some]
        (run / f"{name}.jsonl").write_text("".join(lines))
        settings = f'data = "{name}.jsonl"\nscorer = "numeric"\nmax_tokens = 40\nstop = ["\\n"]\n'
        (run / f"{name}.toml").write_text(settings)
    held, protocol = inputs.task_of(str(run / "items.toml")), Protocol(temperature=1.0, samples=4, seed=9)
    options = TrainOptions(steps=steps, rate=rate, rank=8, batch=8, length=128)
    base = Session(checkpoint, reload=False)
    arms = {"base": training.measure("base", base, held, 0, 0, protocol)}

    def teach(name: str, rows: "Sequence[TrainingRow]", tokens: int) -> None:
        opened, read = training.taught(checkpoint, rows, options, run / name[0], tokens=tokens)
        assert opened.run.session is not None
        arms[name] = training.measure(name, opened.run.session, held, len(rows), read, protocol)
        print(name, arms[name].tokens, arms[name].accuracy, file=sys.stderr, flush=True)

    config = configure({
        "seed": 3, "out": str(run / "made"),
        "generate": {"task": str(run / "problems.toml"), "answers": answers, "max_tokens": 40},
        "decontaminate": {"against": [str(run / "items.toml")]}, "split": {"valid": 0.0},
    })  # fmt: skip
    opened, read = training.taught(checkpoint, forty, options, run / "A")
    session = opened.run.session
    assert session is not None
    arms["A forty"] = training.measure("A forty", session, held, 40, read, protocol)
    print("A", read, arms["A forty"].accuracy, file=sys.stderr, flush=True)
    events = list(pipeline.run(config, lambda name, adapters: session))
    drawn = [json.loads(line)["rows"] for line in (run / "made" / pipeline.ROWS).read_text().splitlines()[1:]]
    cost = sum(row["scores"]["tokens"] for rows in drawn for row in rows)
    cost += sum(len(checkpoint.tokenizer.encode(rows[0]["prompt"])) for rows in drawn)  # read once for all answers
    rows_made = inputs.rows(str(run / "made" / "train.jsonl"))
    every = [parse({key: row[key] for key in ("prompt", "completion")}, "any") for rows in drawn for row in rows]
    unchecked = random.Random(0).sample(every, len(rows_made))
    equal = 3 * read  # tokens that B reads
    teach("B verified", (*forty, *rows_made), equal)
    teach("C longer", forty, equal)
    teach("D longest", forty, equal + round(cost / 3))
    teach("E unverified", (*forty, *unchecked), equal)

    def over(a: str, b: str) -> list[float]:
        change = arms[a].over(arms[b])
        return [change.estimate.mean, *change.estimate.interval, change.p]

    pairs = ("A forty", "base"), ("B verified", "A forty"), ("B verified", "C longer"), ("B verified", "D longest")
    pairs = *pairs, ("B verified", "E unverified"), ("E unverified", "C longer")
    return {
        "base": radix, "seed": seed, "items": items, "problems": problems, "answers": answers, "drawn_tokens": cost,
        "yield": {e.stage: [e.came, e.kept] for e in events if isinstance(e, StageYield)},
        "arms": {n: [a.rows, a.tokens, a.accuracy.mean, *a.accuracy.interval] for n, a in arms.items()},
        "over": {f"{a} over {b}": over(a, b) for a, b in pairs},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("duplicates", "drawing", "chain"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("adder"))
    parser.add_argument("--problems", type=int, default=120)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--base", type=int, choices=(8, 10), default=8)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    figures = {
        "duplicates": lambda: find_duplicates(o.rows),
        "drawing": lambda: draw(o.model, o.answers, o.rounds),
        "chain": lambda: chain(o.folder, o.problems, o.answers, o.items, o.steps, o.rate, o.base, o.seed),
    }[o.what]()
    print(json.dumps({"benchmark": f"synthesis {o.what}", **figures}))


if __name__ == "__main__":
    main()
