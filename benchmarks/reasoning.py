"""What searching and voting gain over greedy decoding at matched tokens: a tiny model that adds with a scratchpad.

    python benchmarks/reasoning.py [--folder DIR] [--steps 1500] [--items 240] [--paths 16] [--train]
    python benchmarks/reasoning.py --smollm2 [--terms 3] [--items 200] [--paths 8] [--no-power] [--no-search]

The model is trained here, from random weights, by `likely tune --kind full`, and is in DIR when it was; `--train` does
no more than that. A sum of two numbers of three digits is worked out digit by digit, `865+673=` being followed by
`5+3+0=8 6+7+0=13 8+6+1=15 1538`; the sums asked are none of those trained on. The verifier works each step out by
itself from what is asked; it guides the choice among the vote's paths, and a search by steps. Figures: accuracy of each
method over the items, its tokens an item, the paired difference to greedy with a 95 % interval, accuracy of a vote at
the tokens that power sampling spends, and, where a vote should hurt, what half of the samples foretell of the other
half. With `--smollm2`, sums of `--terms` numbers of one digit, asked of SmolLM2 behind examples. And what giving up
hopeless paths saves: the vote's second half, up to where each path would have been given up, for shares of the first
half (draws are the same either way); texts of no more than 32 tokens are never given up. One JSON line.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

CONFIG = {
    "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 16, "tie_word_embeddings": True,
}  # fmt: skip
ROWS = 20_000
LIMIT = 48  # tokens of an answer


def written(number: int, base: int = 10) -> str:
    """A number to base ten or eight."""
    return f"{number:{'o' if base == 8 else 'd'}}"


def work(a: int, b: int, base: int = 10) -> str:
    """The sum of two numbers of equally many digits to a base, worked out."""
    carry, parts = 0, []
    for x, y in zip(written(a, base)[::-1], written(b, base)[::-1], strict=True):
        total = int(x) + int(y) + carry
        parts.append(f"{x}+{y}+{carry}={written(total, base)}")
        carry = total // base
    return " ".join([*parts, written(a + b, base)])


def sums(
    count: int, seed: int, without: frozenset[tuple[int, int]] = frozenset(), base: int = 10
) -> list[tuple[int, int]]:
    """Pairs of numbers of three digits to a base."""
    import numpy as np

    random, problems = np.random.default_rng(seed), dict[tuple[int, int], None]()
    while len(problems) < count:
        pair = (int(random.integers(base**2, base**3)), int(random.integers(base**2, base**3)))
        if pair not in without:
            problems[pair] = None
    return list(problems)


def trained(folder: Path, steps: int) -> Path:
    """The model in a folder; trained there first, if it is not."""
    model = folder / "model"
    if (model / "model.safetensors").exists():
        return model
    from likely.metal import mx
    from tests.engine import tiny

    config = {**tiny.LLAMA, **CONFIG}
    tiny.write_folder(folder / "start", config, {name: mx.array(a) for name, a in tiny.weights(config).items()})
    rows = [{"prompt": f"{a}+{b}=", "completion": work(a, b)} for a, b in sums(ROWS, 0)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    likely = [sys.executable, "-m", "likely.app"]
    options = f"--kind full --steps {steps} --batch 32 --rate 6e-3 --warmup 50 --no-packing --valid 0.01"
    start, run = str(folder / "start"), str(folder / "run")
    tune = [*likely, "tune", str(folder / "rows.jsonl"), "-M", start, "--out", run, *options.split()]
    subprocess.run(tune, check=True, stdout=sys.stderr)
    subprocess.run([*likely, "fuse", run, "-M", start, "--out", str(model)], check=True, stdout=sys.stderr)
    return model


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem: what is asked of which model, and the share of a text's steps that are right."""

    model: str
    questions: list[Any]  # `Question`
    sound: Callable[[str, str], float]
    step_end: str
    recipe: Any  # `SamplingConfig`
    stop: tuple[str, ...] = ()
    limit: int = LIMIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("adder"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--items", type=int, default=240)
    parser.add_argument("--paths", type=int, default=16)
    parser.add_argument("--power", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--search", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--smollm2", action="store_true")
    parser.add_argument("--terms", type=int, default=3)
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    trial = (
        few_shot(options.items, options.terms)
        if options.smollm2
        else long_sums(options.folder, options.steps, options.items)
    )
    if not options.train:
        outcome = figures(trial, options.paths, with_power=options.power, with_search=options.search)
        print(json.dumps({"benchmark": "reasoning", "model": trial.model, **outcome}))


def long_sums(folder: Path, steps: int, items: int) -> ProblemKind:
    """Sums of two numbers of three digits, asked of the model that was trained for them."""
    from likely.engine.measure.evaluate.tasks.tasks import Question
    from likely.engine.sampling.trace.step import SamplingConfig

    fresh = sums(items, 1, frozenset(sums(ROWS, 0)))
    questions = [Question(f"{a}+{b}=", (str(a + b),)) for a, b in fresh]
    return ProblemKind(str(trained(folder, steps)), questions, sound, " ", SamplingConfig())


def few_shot(items: int, terms: int) -> ProblemKind:
    """Sums of several numbers of one digit, asked of SmolLM2 behind six examples that are worked out, at T 0.7."""
    import numpy as np

    from likely.engine.measure.evaluate.tasks.tasks import Question
    from likely.engine.sampling.trace.step import SamplingConfig
    from likely.engine.sampling.transforms import Temperature

    random, problems = np.random.default_rng(2), dict[tuple[int, ...], None]()
    while len(problems) < items + 6:
        problems[tuple(int(x) for x in random.integers(2, 10, terms))] = None
    (*shots,) = list(problems)[:6]
    shown = "".join(f"Q: {' + '.join(map(str, numbers))}\nA: {chain(*numbers)}\n" for numbers in shots)
    fresh = list(problems)[6:]
    questions = [Question(f"{shown}Q: {' + '.join(map(str, n))}\nA:", (str(sum(n)),)) for n in fresh]
    return ProblemKind("smollm2", questions, chain_sound, ".", SamplingConfig((Temperature(0.7),)), ("\n",), 16 * terms)


def chain(first: int, *others: int) -> str:
    """A sum of several numbers, worked out."""
    parts, total = [], first
    for x in others:
        parts.append(f"{total} + {x} = {total + x}.")
        total += x
    return " ".join(parts)


def chain_sound(prompt: str, text: str) -> float:
    """The share of the steps that are right, each worked out from what is asked; one too many is wrong."""
    numbers = (int(part) for part in prompt.rpartition("Q: ")[2].partition("\n")[0].split(" + "))
    right = [part.strip(" .") for part in chain(*numbers).split(". ")]
    steps = [part.strip(" .") for part in text.strip().split(". ")]
    return sum(x == y for x, y in zip(right, steps, strict=False)) / max(len(right), len(steps))


def given_up(attempts: list[Any], share: float) -> dict[str, Any]:
    """The vote of paths of which the second half is given up by the first: its accuracy, the paired change to that of
    all whole, and the share of the tokens that is saved."""
    from collections.abc import Iterator

    from likely.engine.base.statistics.estimates import compare
    from likely.engine.decode.answers.extraction import Extraction
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Done, Emitted, Event, Stats
    from likely.engine.measure.reason.paths import PathCollector, by_vote

    right, all_whole, spent, had = [], [], 0, 0
    for i, attempt in enumerate(attempts):
        paths, control = attempt.outcome.paths, RunControl()
        half = (len(paths) + 1) // 2
        collector = PathCollector(Extraction("number"), len(paths), control, paths=list(paths[:half]))
        collector.despair(share)

        def again(paths: Any = paths[half:], control: RunControl = control) -> Iterator[Event]:
            for branch, path in enumerate(paths):
                for step in path.steps:
                    yield Emitted(branch, step)
                    if branch in control.given_up:
                        break
                yield Done(branch, "cancelled" if branch in control.given_up else path.finish, Stats(0, 0, 0, 0, 0))

        for _ in collector.watch(again()):
            pass
        outcome = by_vote(collector.paths, seed=7 + i)
        right.append(float(outcome.answer is not None and outcome.answer in attempt.known))
        all_whole.append(float(attempt.solved))
        spent, had = spent + outcome.tokens, had + attempt.outcome.tokens
    return {
        "accuracy": sum(right) / len(right),
        "over_whole": row(compare(all_whole, right).estimate),
        "saved": round(1 - spent / had, 4),
    }


def figures(trial: ProblemKind, paths: int, *, with_power: bool, with_search: bool) -> dict[str, Any]:
    from likely.engine.base.statistics.estimates import compare
    from likely.engine.decode.answers.extraction import Extraction
    from likely.engine.decode.answers.vote import maj_at
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.session import Session
    from likely.engine.measure.reason import problems
    from likely.engine.measure.reason.paths import by_score
    from likely.engine.measure.reason.reasoning import Reasoning
    from likely.engine.measure.reason.step_beam import StepBeam
    from likely.engine.measure.reason.thought import THOUGHTS
    from likely.engine.weights.sources.checkpoint import load

    session, items = Session(load(trial.model)), len(trial.questions)

    def attempts(way: Reasoning) -> list[problems.Attempt]:
        done = []
        control = RunControl(trial.recipe)
        for one in problems.attempt(session, trial.questions, way, control, 7, lambda path, line: None):
            done.append(one)
            print(f"\r{way.method} {len(done)} of {items}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        return done

    raw = {"max_tokens": trial.limit, "raw": True, "stop": trial.stop}
    vote = attempts(Reasoning(THOUGHTS["plain"], Extraction("number"), "vote", paths, **raw))
    gained = problems.gain(vote)
    greedy = [float(attempt.right(attempt.greedy)) for attempt in vote]
    guided = []
    for attempt in vote:
        asks = attempt.question.prompt
        best = by_score(attempt.outcome.paths, lambda path, asks=asks: trial.sound(asks, path.text))  # type: ignore[misc]
        guided.append(float(best.answer in attempt.known))
    more: dict[str, Any] = {}
    if with_search:
        stepped, spent = [], []
        for attempt in vote:
            asks = attempt.question.prompt

            def value(text: str, steps: object, whole: bool, asks: str = asks) -> float:
                return trial.sound(asks, text)

            ids, beam = session.tokenizer.encode(asks), StepBeam(4, 4, trial.step_end, trial.limit, trial.stop)
            texts = beam.search(session, ids, RunControl(trial.recipe), value, extract=Extraction("number"), seed=7)
            stepped.append(float(texts[0].answer in attempt.known))
            spent.append(texts[0].drawn or 0)
        more |= {
            "steps": sum(stepped) / items, "steps_tokens": sum(spent) / items,
            "steps_over_greedy": row(compare(greedy, stepped).estimate),
        }  # fmt: skip
    if with_power:
        power = attempts(Reasoning(THOUGHTS["plain"], Extraction("number"), "power", 1, **raw))
        powered = problems.gain(power)
        matched = min(gained.curve, key=lambda s: abs(s.tokens - powered.tokens))
        more |= {
            "power": row(powered.method), "power_tokens": powered.tokens,
            "vote_at_powers_tokens": [matched.paths, matched.tokens, row(matched.vote)],
            "power_over_greedy": row(compare(greedy, [float(e.solved) for e in power]).estimate),
        }  # fmt: skip
    half = paths // 2
    hurt = [attempt for attempt in vote if maj_at(half, attempt.answers()[:half], "right") == 0]
    alone = [sum(a == "right" for a in attempt.answers()[half:]) / (paths - half) for attempt in hurt]
    voted = [maj_at(paths - half, attempt.answers()[half:], "right") for attempt in hurt]
    return {
        "items": items, "paths": paths, "greedy": row(gained.greedy), "greedy_tokens": gained.greedy_tokens,
        "sample": row(gained.curve[0].one), "vote": row(gained.method), "vote_tokens": gained.tokens,
        "vote_over_greedy": row(gained.change.estimate),
        "vote_curve": [[s.paths, s.tokens, row(s.vote)] for s in gained.curve],
        "pass_at_all": row(gained.curve[-1].one), "guided": sum(guided) / items,
        "guided_over_greedy": row(compare(greedy, guided).estimate),
        "guided_over_vote": row(compare([float(attempt.solved) for attempt in vote], guided).estimate),
        "hopeless": {share: given_up(vote, share) for share in (0.0, 0.1, 0.25, 0.5)},
        "foretold_to_hurt": len(hurt), "vote_over_sample_where_foretold": row(compare(alone, voted).estimate), **more,
    }  # fmt: skip


def sound(prompt: str, text: str) -> float:
    """The share of a text's steps that are right: each equation has the next digits of what is asked and what the one
    before carried, and holds, and the last number is what they spell. The answer is not known to it."""
    a, _, b = prompt.rstrip("=").partition("+")
    carry, digits, correct = 0, "", 0
    *steps, spelled = text.split() or [""]
    if len(steps) < 3 and text.endswith(" "):
        steps, spelled = [*steps, spelled], ""
    for x, y, part in zip(a[::-1], b[::-1], steps, strict=False):
        total = int(x) + int(y) + carry
        correct += part == f"{x}+{y}+{carry}={total}"
        carry, digits = total // 10, str(total % 10) + digits
    return (correct + (len(digits) == 3 and spelled == f"{carry or ''}{digits}")) / 4


def row(estimate: Any) -> list[float]:
    """The mean and its 95 % interval."""
    return [round(value, 4) for value in (estimate.mean, *estimate.interval)]


if __name__ == "__main__":
    main()
