"""Transfer of the learning rate over widths: the best one of four widths, under muP and without.

    python benchmarks/learning_rates.py [--kind mup] [--steps 160] [--seeds 2] [--batch 4] [--rates -10 -4]

Bytes of the project's own documentation, two layers of width 32 to 256 with heads of 16, AdamW at a constant rate: the
mean training loss of the last quarter of the steps at each rate, powers of two. Figures: the best rate of each width,
where the parabola through it and its neighbours is lowest, and by how many doublings that moves between the widths. One
JSON line a parametrisation.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

WIDTHS = (32, 64, 128, 256)
CONTEXT = 64


def loss(
    kind: str, width: int, rate: float, seed: int, ids: np.ndarray, folder: Path, *, steps: int, batch: int
) -> float:
    """Infinite where the run diverged."""
    from likely.engine.train.data.token_rows import TokenRows
    from likely.engine.train.pretrain import parametrization as widths
    from likely.engine.train.pretrain.config import configure
    from likely.engine.train.pretrain.shape import ModelShape, config_of
    from likely.engine.train.run import trainer
    from likely.engine.weights.adapters.config import Config
    from likely.models.families import registry

    model = registry.blank(config_of(ModelShape("llama", 2, width, width // 16), 256, CONTEXT))
    chosen = widths.parametrisation(configure({"parametrisation": kind}), model)
    widths.start(model, chosen, seed)
    rows = TokenRows(ids, np.array([len(ids)]), CONTEXT + 1)
    settings = Config(kind="full", loss="all", length=CONTEXT + 1, batch=batch, steps=steps, rate=rate, seed=seed,
                      schedule="constant", warmup=steps // 20, eval_every=0, save_every=0)  # fmt: skip
    groups = widths.groups(model, chosen, "adamw", 0.0)
    run = trainer.prepare(model, settings, trainer.Set(rows), folder, groups=groups)
    run.keep = lambda run, folder: None
    losses = []
    for event in trainer.train(run):
        if isinstance(event, trainer.Stepped):
            losses.append(event.loss)
            if event.step == steps:
                return float(np.mean(losses[-steps // 4 :]))
    return float("inf")


def lowest(powers: range, losses: list[float]) -> float:
    """The power of two at which losses by rate are lowest: of a parabola, or the best rate itself at an end."""
    at = int(np.argmin(losses))
    if not 0 < at < len(losses) - 1 or not np.isfinite(losses[at + 1]):
        return float(powers[at])
    before, here, after = losses[at - 1 : at + 2]
    return powers[at] + (before - after) / (2 * (before - 2 * here + after))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("mup", "standard"), help="one of them alone")
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument(
        "--rates", type=int, nargs=2, default=(-10, -4), help="the lowest and the highest, powers of two"
    )
    options = parser.parse_args()
    powers = range(options.rates[0], options.rates[1] + 1)
    text = "".join(p.read_text() for p in sorted((Path(__file__).parent.parent / "docs").glob("*.md")))
    ids = np.frombuffer(text.encode(), np.uint8)[: 1 << 18]
    for kind in (options.kind,) if options.kind else ("mup", "standard"):
        by_seed = np.zeros((options.seeds, len(WIDTHS), len(powers)))
        for seed in range(options.seeds):
            for i, width in enumerate(WIDTHS):
                for j, power in enumerate(powers):
                    with tempfile.TemporaryDirectory() as root:
                        by_seed[seed, i, j] = loss(
                            kind, width, 2.0**power, seed, ids, Path(root), steps=options.steps, batch=options.batch
                        )
                print(kind, seed, width, by_seed[seed, i].round(4).tolist(), flush=True)
        table = dict(zip(WIDTHS, by_seed.mean(0).round(4).tolist(), strict=True))
        best = {width: lowest(powers, losses) for width, losses in table.items()}
        moved = max(best.values()) - min(best.values())
        print(json.dumps({"parametrisation": kind, "best": best, "doublings": moved, "losses": table}), flush=True)


if __name__ == "__main__":
    main()
