"""Learning from rewards beside what it must beat: held-out pass@k on countdown, by a tiny model of its own.

    python benchmarks/rewards.py --root FOLDER [--seeds 0,1,2] [--steps 300] [--rate 0.001]

A problem is four digits and a target, an answer the digits in some order with + and - between. A model of characters
(2 layers, width 64) is pretrained on problems with an answer (`--shown`); 6,000 others have none, and 300 are held out.
Each seed is a base of its own, and from it a run of rewards, supervised learning that goes on with the same
demonstrations for the same time of the processor, and expert iteration that draws and learns as much as rewards did.
What is done is kept in FOLDER, and one JSON line at the end compares all by problem.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

DEMONSTRATIONS, FREE, HELD, DRAWN = 3000, 6000, 300, 32
LARGEST = 36  # target
RATE = 1e-3
OPTIONS = {"kind": "lora", "rank": 32, "layers": -1, "valid": 0.0, "length": 32, "save_every": 0, "eval_every": 0,
           "verdict": False}  # fmt: skip


def problems(count: int) -> list[tuple[str, str]]:
    """So many problems, none twice, each with one of its answers; always the same."""
    chance, found = random.Random(0), dict[str, str]()
    while len(found) < count:
        digits = [chance.choice("123456789") for _ in range(4)]
        answer = digits[0] + "".join(chance.choice("+-") + digit for digit in digits[1:])
        chance.shuffle(digits)
        if 0 <= (target := eval(answer)) <= LARGEST:  # of our own letters
            found.setdefault(f"{''.join(digits)}={target}:", answer)
    return list(found.items())


def written(path: Path, rows: Sequence[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prepared(root: Path, count: int) -> dict[str, str]:
    """Files of demonstrations, problems and held-out problems, and the verifier."""
    root.mkdir(parents=True, exist_ok=True)
    verifier = root / "countdown"
    if not verifier.exists():
        subprocess.run(["cc", "-O1", "-o", str(verifier), str(Path(__file__).parent / "countdown.c")], check=True)
    every = problems(DEMONSTRATIONS + HELD + FREE)
    shown, rest = every[:count], every[DEMONSTRATIONS:]
    held, free = rest[:HELD], rest[HELD:]
    asked = lambda some: [{"prompt": p, "completion": a} for p, a in some]  # noqa: E731
    return {
        "texts": written(root / "texts.jsonl", [{"text": p + a} for p, a in shown]),
        "shown": written(root / "shown.jsonl", asked(shown)),
        "free": written(root / "free.jsonl", asked(free)),
        "held": written(root / "held.jsonl", asked(held)),
        "verifier": str(verifier),
    }


def base(root: Path, files: dict[str, str], seed: int, tokens: int) -> Path:
    """A model pretrained on the demonstrations."""
    from likely.engine.train.pretrain.config import configure
    from likely.engine.train.pretrain.pretraining import pretrain

    out = root / f"base-{seed}"
    if not (out / "model.safetensors").exists():
        (root / "shape.toml").write_text('family = "llama"\nlayers = 2\nwidth = 64\nheads = 4\nmlp_width = 256\n')
        config = configure(
            {"data": files["texts"], "out": str(out), "size": str(root / "shape.toml"), "tokenizer": "characters",
             "tokens": tokens, "context": 32, "batch": 32, "accumulate": 1, "rate": 0.01, "eval_every": 0,
             "save_every": 0, "sample_tokens": 0, "seed": seed, "schedule": "cosine", "decay": 0.01}
        )  # fmt: skip
        for _ in pretrain(config):
            pass
    return out


def rights(run: Any, files: dict[str, str], *, of_base: bool) -> list[int]:
    """Right answers among those drawn to each held-out problem."""
    from likely.engine.text.rows.training_row import TrainingRow  # noqa: F401
    from likely.engine.train.data import data, samples
    from likely.engine.train.run import rollouts

    rows = data.read(files["held"], valid=0).train
    run.config = replace(run.config, tokens=16, verifier=files["verifier"], timeout=10.0, seed=99)
    found = []
    for i, row in enumerate(samples.prepare(rows, run.session.tokenizer, length=32).samples):
        answers = rollouts.draw(run, rollouts.problem(run, row), DRAWN, (1 << 30, i), base=of_base)
        found.append(sum(one.right for one in answers))
    return found


def trained(run: Any, limit_s: float = 0.0) -> Iterator[Any]:
    """The events of a training, which is stopped after so many seconds of the processor; 0: never."""
    from likely.engine.train.control import TrainControl
    from likely.engine.train.run.trainer import train

    control, began = TrainControl(), time.process_time()
    for event in train(run, control):
        yield event
        if limit_s and time.process_time() - began > limit_s:
            control.stop()


def opened(files: dict[str, str], model: Path, out: Path, **options: Any) -> Any:
    from likely.engine.train.open_run import open_run
    from likely.engine.weights.adapters.config import configure

    how = {**OPTIONS, "model": str(model), "out": str(out), **options}
    return open_run(configure(how), lambda *_: None).run


def rewarded(root: Path, files: dict[str, str], model: Path, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """A run of rewards: what it took, its figures, and right answers of base and policy."""
    from likely.engine.train.rewards.figures import Rewarded

    name = "-".join(["reward", str(seed), *(f"{k}={v}" for k, v in options.items())])
    place = root / f"{name}.json"
    if place.exists():
        found: dict[str, Any] = json.loads(place.read_text())
        return found
    run = opened(files, model, root / name, data=files["free"], objective="reward", verifier=files["verifier"],
                 tokens=16, seed=seed, schedule="constant", **options)  # fmt: skip
    began, clock = time.process_time(), time.perf_counter()
    steps: list[list[float]] = []
    for event in trained(run):
        if isinstance(event, Rewarded):
            steps.append([event.reward, *event.groups, event.kl, event.entropy, event.drawn_s])
            if event.step % 10 == 1:
                print(name, event.step, [round(x, 3) for x in steps[-1]], round(time.process_time() - began, 1),
                      flush=True)  # fmt: skip
    result: dict[str, Any] = {
        "processor_s": time.process_time() - began, "clock_s": time.perf_counter() - clock, "steps": steps,
        "tokens": run.counters.tokens,
    }  # fmt: skip
    result["policy"] = rights(run, files, of_base=False)
    place.write_text(json.dumps(result))
    return result


def supervised(root: Path, files: dict[str, str], model: Path, seed: int, limit_s: float) -> dict[str, Any]:
    """Supervised learning that goes on with the demonstrations for so many seconds of the processor."""
    place = root / f"supervised-{seed}.json"
    if not place.exists():
        run = opened(files, model, root / f"supervised-{seed}", data=files["shown"], steps=100_000, batch=32, seed=seed,
                     packing=False, rate=RATE, schedule="constant", rehearsal=0.0, reword=0.0)  # fmt: skip
        began = time.process_time()
        steps = sum(1 for _ in trained(run, limit_s))
        used = time.process_time() - began
        place.write_text(json.dumps({"processor_s": used, "steps": steps, "policy": rights(run, files, of_base=False)}))
    return dict(json.loads(place.read_text()))


def iterated(root: Path, files: dict[str, str], model: Path, seed: int, options: dict[str, Any], tokens: int,
             more: float = 1.0) -> dict[str, Any]:  # fmt: skip
    """Three rounds of expert iteration: as many answers and tokens as by rewards, or so many times more."""
    from likely.engine.train.control import TrainControl
    from likely.engine.train.run import expert

    place = root / f"expert-{seed}{'' if more == 1 else f'-{more:g}'}.json"
    if not place.exists():
        run = opened(files, model, root / f"expert-{seed}", data=files["free"], objective="reward", tokens=16,
                     seed=seed, verifier=files["verifier"], expert=3, test=files["held"], verdict=True,
                     **options)  # fmt: skip
        run.counters.batch, run.counters.tokens = round(more * options["steps"]), round(more * tokens)
        began = time.process_time()
        kept, drawn, learned = expert.iterated(run, run.trained, TrainControl())
        found = {"processor_s": time.process_time() - began, "kept": kept, "drawn": drawn, "tokens": learned}
        place.write_text(json.dumps({**found, "policy": rights(run, files, of_base=False)}))
    return dict(json.loads(place.read_text()))


def of_base(root: Path, files: dict[str, str], model: Path, seed: int) -> list[int]:
    place = root / f"base-{seed}.json"
    if not place.exists():
        run = opened(files, model, root / f"nothing-{seed}", data=files["shown"], steps=1)
        place.write_text(json.dumps(rights(run, files, of_base=True)))
    found: list[int] = json.loads(place.read_text())
    return found


def row(counts: Sequence[int], base: Sequence[int], policy: Sequence[int]) -> dict[str, Any]:
    """pass@k of one way, and the differences by problem from the base to it and from it to rewards, with intervals."""
    from likely.engine.train.rewards.figures import held_out

    sides = {"over_base": held_out(base, counts, DRAWN), "rewards_over": held_out(counts, policy, DRAWN)}
    return {
        "pass": {one.k: round(one.policy.mean, 3) for one in sides["over_base"].passed},
        "crossing": sides["over_base"].crossing,
        **{
            name: {one.k: [round(x, 3) for x in (one.rise.estimate.mean, *one.rise.estimate.interval)]
                   for one in found.passed if one.k in (1, DRAWN)}
            for name, found in sides.items()
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=RATE, help="of rewards")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of the base's pretraining")
    parser.add_argument("--shown", type=int, default=DEMONSTRATIONS, help="problems with an answer, 3,000 at most")
    parser.add_argument("--ways", default="supervised,expert")
    options = parser.parse_args()
    files, figures = prepared(options.root, options.shown), dict[str, Any]()
    for seed in map(int, options.seeds.split(",")):
        model = base(options.root, files, seed, options.tokens)
        before = of_base(options.root, files, model, seed)
        how = {"steps": options.steps, "answers": options.answers, "batch": options.batch, "rate": options.rate}
        result = rewarded(options.root, files, model, seed, how)
        ways = {"base": {"policy": before}, "rewards": result}
        if "supervised" in options.ways:
            ways["supervised"] = supervised(options.root, files, model, seed, result["processor_s"])
        if "expert" in options.ways:
            ways["expert"] = iterated(options.root, files, model, seed, how, result["tokens"])
        figures[str(seed)] = {
            name: {
                **row(way["policy"], before, result["policy"]),
                **{key: way[key] for key in ("processor_s", "kept", "drawn", "tokens") if key in way},
            }
            for name, way in ways.items()
        }
        print(json.dumps({"seed": seed, **figures[str(seed)]}), flush=True)
    print(json.dumps({"machine": platform.machine(), **figures}))


if __name__ == "__main__":
    main()
