"""Learning from rewards beside what it must beat: held-out pass@k on countdown, by a tiny model of its own.

    python benchmarks/rewards.py --root FOLDER [--seeds 0,1,2] [--steps 200]

A problem is four digits and a target, an answer the digits in their order with + and - between. A model of characters
(2 layers, width 64) is pretrained on 3,000 problems with an answer; 6,000 others have none, and 300 more are held out.
Each seed is a base of its own, and from it a run of rewards, supervised learning that goes on with the same
demonstrations, and expert iteration on the same problems; each of the latter has the processor time of the first.
What is done is kept in FOLDER, and one JSON line at the end compares all by problem.
"""

import argparse
import json
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
OPTIONS = {"kind": "lora", "rank": 32, "layers": -1, "valid": 0.0, "length": 32, "save_every": 0, "eval_every": 0,
           "verdict": False}  # fmt: skip


def problems(count: int) -> list[tuple[str, str]]:
    """So many problems, none twice, each with one of its answers; always the same."""
    chance, found = random.Random(0), dict[str, str]()
    while len(found) < count:
        digits = [chance.choice("123456789") for _ in range(4)]
        answer = digits[0] + "".join(chance.choice("+-") + digit for digit in digits[1:])
        if 0 <= (target := eval(answer)) <= LARGEST:  # of our own letters
            found.setdefault(f"{''.join(digits)}={target}:", answer)
    return list(found.items())


def written(path: Path, rows: Sequence[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prepared(root: Path) -> dict[str, str]:
    """Files of demonstrations, problems and held-out problems, and the verifier."""
    root.mkdir(parents=True, exist_ok=True)
    verifier = root / "countdown"
    if not verifier.exists():
        subprocess.run(["cc", "-O1", "-o", str(verifier), str(Path(__file__).parent / "countdown.c")], check=True)
    every = problems(DEMONSTRATIONS + HELD + FREE)
    shown, rest = every[:DEMONSTRATIONS], every[DEMONSTRATIONS:]
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
    from likely.engine.pretrain.config import configure
    from likely.engine.pretrain.pretraining import pretrain

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
    from likely.engine.rows.training_row import TrainingRow  # noqa: F401
    from likely.engine.tune import data, rollouts, samples

    rows = data.read(files["held"], valid=0).train
    run.config = replace(run.config, tokens=16, verifier=files["verifier"], timeout=10.0, seed=99)
    found = []
    for i, row in enumerate(samples.prepare(rows, run.session.tokenizer, length=32).samples):
        answers = rollouts.draw(run, rollouts.problem(run, row), DRAWN, (1 << 30, i), base=of_base)
        found.append(sum(one.right for one in answers))
    return found


def trained(run: Any, limit_s: float = 0.0) -> Iterator[Any]:
    """The events of a training, which is stopped after so many seconds of the processor; 0: never."""
    from likely.engine.tune.control import TrainControl
    from likely.engine.tune.trainer import train

    control, began = TrainControl(), time.process_time()
    for event in train(run, control):
        yield event
        if limit_s and time.process_time() - began > limit_s:
            control.stop()


def opened(files: dict[str, str], model: Path, out: Path, **options: Any) -> Any:
    from likely.engine.adapters.config import configure
    from likely.engine.tune.open_run import open_run

    how = {**OPTIONS, "model": str(model), "out": str(out), **options}
    return open_run(configure(how), lambda *_: None).run


def rewarded(root: Path, files: dict[str, str], model: Path, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """A run of rewards: what it took, its figures, and right answers of base and policy."""
    from likely.engine.rewards.figures import Rewarded

    name = "-".join(["reward", str(seed), *(f"{k}={v}" for k, v in options.items())])
    place = root / f"{name}.json"
    if place.exists():
        found: dict[str, Any] = json.loads(place.read_text())
        return found
    run = opened(files, model, root / name, data=files["free"], objective="reward", verifier=files["verifier"],
                 tokens=16, seed=seed, schedule="constant", **options)  # fmt: skip
    began, clock = time.process_time(), time.perf_counter()
    steps = []
    for event in trained(run):
        if isinstance(event, Rewarded):
            steps.append([event.reward, *event.groups, event.kl, event.entropy, event.drawn_s])
            if event.step % 10 == 1:
                print(name, event.step, [round(x, 3) for x in steps[-1]], round(time.process_time() - began, 1),
                      flush=True)  # fmt: skip
    result = {"processor_s": time.process_time() - began, "clock_s": time.perf_counter() - clock, "steps": steps}
    result["policy"] = rights(run, files, of_base=False)
    place.write_text(json.dumps(result))
    return result


def of_base(root: Path, files: dict[str, str], model: Path, seed: int) -> list[int]:
    place = root / f"base-{seed}.json"
    if not place.exists():
        run = opened(files, model, root / f"nothing-{seed}", data=files["shown"], steps=1)
        place.write_text(json.dumps(rights(run, files, of_base=True)))
    found: list[int] = json.loads(place.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--tokens", type=int, default=1_600_000)
    options = parser.parse_args()
    files = prepared(options.root)
    for seed in map(int, options.seeds.split(",")):
        began = time.process_time()
        model = base(options.root, files, seed, options.tokens)
        print("base", time.process_time() - began, flush=True)
        before = of_base(options.root, files, model, seed)
        from likely.engine.rewards.figures import held_out

        print(seed, sum(before) / len(before) / DRAWN, flush=True)
        how = {"steps": options.steps, "answers": options.answers, "batch": options.batch, "rate": options.rate}
        result = rewarded(options.root, files, model, seed, how)
        print(held_out(before, result["policy"], DRAWN), result["processor_s"], flush=True)


if __name__ == "__main__":
    main()
