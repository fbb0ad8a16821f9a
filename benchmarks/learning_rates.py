"""Transfer of the learning rate over widths: the best one of four widths, under muP and without.

    python benchmarks/learning_rates.py [--steps 80] [--seeds 2]

Bytes of the project's own documentation, two layers of width 32 to 256 with heads of 16, AdamW at a constant rate: the
mean training loss of the last quarter of the steps at each rate 2^-10 to 2^-3. Figures: the best rate of each width,
and by how many doublings it moves between the widths. One JSON line a parametrisation.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

WIDTHS, RATES = (32, 64, 128, 256), range(-10, -2)
CONTEXT, BATCH = 64, 8


def loss(kind: str, width: int, rate: float, steps: int, seed: int, ids: np.ndarray, folder: Path) -> float:
    """Infinite where the run diverged."""
    from engine.pretrain import parametrisation as widths
    from engine.pretrain.config import configure
    from engine.pretrain.shape import ModelShape, config_of
    from engine.tune import trainer
    from engine.tune.config import Config
    from engine.tune.token_rows import TokenRows
    from models.families import registry

    model = registry.blank(config_of(ModelShape("llama", 2, width, width // 16), 256, CONTEXT))
    chosen = widths.parametrisation(configure({"parametrisation": kind}), model)
    widths.start(model, chosen, seed)
    rows = TokenRows(ids, np.array([len(ids)]), CONTEXT + 1)
    settings = Config(kind="full", loss="all", length=CONTEXT + 1, batch=BATCH, steps=steps, rate=rate, seed=seed,
                      schedule="constant", warmup=steps // 20, eval_every=0, save_every=0)  # fmt: skip
    groups = widths.groups(model, chosen, "adamw", 0.0)
    run = trainer.prepare(model, settings, trainer.Set(rows), folder, groups=groups)
    run.keep = lambda run, folder: None
    found = []
    for event in trainer.train(run):
        if isinstance(event, trainer.Stepped):
            found.append(event.loss)
            if event.step == steps:
                return float(np.mean(found[-steps // 4 :]))
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    text = "".join(p.read_text() for p in sorted((Path(__file__).parent.parent / "docs").glob("*.md")))
    ids = np.frombuffer(text.encode(), np.uint8)[: 1 << 18]
    for kind in ("mup", "standard"):
        best: dict[int, int] = {}
        table: dict[int, list[float]] = {}
        for width in WIDTHS:
            losses = []
            for power in RATES:
                with tempfile.TemporaryDirectory() as root:
                    each = [
                        loss(kind, width, 2.0**power, options.steps, seed, ids, Path(root) / str(seed))
                        for seed in range(options.seeds)
                    ]
                losses.append(round(float(np.mean(each)), 4))
            table[width] = losses
            best[width] = RATES[int(np.argmin(losses))]
            print(kind, width, losses, flush=True)
        moved = max(best.values()) - min(best.values())
        print(json.dumps({"parametrisation": kind, "best": best, "doublings": moved, "losses": table}), flush=True)


if __name__ == "__main__":
    main()
