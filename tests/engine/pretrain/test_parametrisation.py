"""muP's coordinate check (arXiv:2203.03466, appendix D.1): activations after a few steps do not go with the width."""

from pathlib import Path

import numpy as np
import pytest

from engine.pretrain import parametrisation as widths
from engine.pretrain.config import configure
from engine.pretrain.shape import ModelShape, config_of
from engine.tune import trainer
from engine.tune.config import Config
from engine.tune.samples import TrainingSample
from metal import mx
from models.families import registry

WIDTHS = (64, 128, 256, 512)
VOCAB, STEPS = 64, 5


def coordinates(kind: str, optimiser: str, width: int, folder: Path, seed: int) -> dict[str, float]:
    """Mean magnitude of what each block adds to the stream, and of the logits, after STEPS on one batch.

    The batch is short: of many tokens a logit is mostly what the others left in it by chance, which falls with width.
    """
    random = np.random.default_rng(seed)
    model = registry.blank(config_of(ModelShape("llama", 2, width, width // 16), VOCAB, 32))
    options = configure({"parametrisation": kind, "optimiser": optimiser})
    chosen = widths.parametrisation(options, model)
    widths.start(model, chosen, seed)
    rows = [
        TrainingSample(tuple(random.integers(0, VOCAB, 17).tolist()), (False, *(True,) * 16), "x") for _ in range(2)
    ]
    settings = Config(kind="full", loss="all", length=17, batch=4, steps=STEPS, schedule="constant", eval_every=0,
                      rate=widths.RATES[optimiser], save_every=0, clip=0.0)  # fmt: skip
    groups = widths.groups(model, chosen, optimiser, 0.0)
    run = trainer.prepare(model, settings, trainer.Set(rows), folder, groups=groups)
    run.keep = lambda run, folder: None
    for event in trainer.train(run):
        if isinstance(event, trainer.Stepped) and event.step == STEPS:
            break
    seen = model.inspect(mx.array([rows[0].ids]))
    added = [b - a for a, b in zip(seen.hidden, seen.hidden[1:], strict=False)]
    found = {f"block {i}": float(mx.mean(mx.abs(x))) for i, x in enumerate(added)}
    return found | {"logits": float(mx.mean(mx.abs(model.head(seen.final))))}


def slopes(kind: str, optimiser: str, folder: Path) -> dict[str, float]:
    """Of the logarithms, over the widths; each the mean of three seeds."""
    found = [
        [coordinates(kind, optimiser, width, folder / f"{kind}{optimiser}{width}{seed}", seed) for seed in range(3)]
        for width in WIDTHS
    ]
    means = [{name: np.mean([each[name] for each in seeds]) for name in seeds[0]} for seeds in found]
    x = np.log(WIDTHS)
    return {name: float(np.polyfit(x, np.log([mean[name] for mean in means]), 1)[0]) for name in means[0]}


@pytest.mark.slow
def test_activations_do_not_go_with_the_width_under_mup(tmp_path: Path) -> None:
    mup, standard = slopes("mup", "adamw", tmp_path), slopes("standard", "adamw", tmp_path)
    assert max(map(abs, mup.values())) < 0.1, mup
    assert max(standard.values()) > 0.3, standard  # the check can fail
