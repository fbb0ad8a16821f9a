"""muP's coordinate check (arXiv:2203.03466, appendix D.1): what a model computes after a few steps does not go with its
width."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.pretrain import parametrization as widths
from likely.engine.train.pretrain.config import configure
from likely.engine.train.pretrain.shape import ModelShape, config_of
from likely.engine.train.run import trainer
from likely.engine.weights.adapters.config import Config
from likely.metal import mx
from likely.models.families import registry
from likely.models.modules.parts import ModelPart

WIDTHS = (64, 128, 256, 512)
VOCAB, STEPS = 64, 5


def coordinates(
    kind: str,
    optimiser: str,
    width: int,
    folder: Path,
    seed: int,
    rows: int,
    made: type[widths.Parametrisation] = widths.Parametrisation,
) -> dict[str, float]:
    """Mean magnitude of what each block adds to the stream, after STEPS on one batch of so many rows; how far the logit
    of a trained target rises above the mean of all; and the mean square of logits.

    The head starts at 0, so a logit is the sum of what the steps wrote for every token of the batch, each times the
    product of two normed states over the width: 1 for the token itself, and for a token that has nothing to do with it
    a number of either sign whose square is 1 / width. The mean square of logits is therefore a + b / width, b growing
    with the rows, and any mean of magnitudes falls at small widths in a right parametrisation too; the mean rise of the
    target, whose sign is known, has no b.
    """
    random = np.random.default_rng(seed)
    model = registry.blank(config_of(ModelShape("llama", 2, width, width // 16), VOCAB, 32))
    options = configure({"parametrisation": kind, "optimiser": optimiser})
    chosen = made(*astuple(widths.parametrisation(options, model)))
    widths.start(model, chosen, seed)
    ids = random.integers(0, VOCAB, (rows, 17))
    samples = [TrainingSample(tuple(row), (False, *(True,) * 16), "x") for row in ids.tolist()]
    settings = Config(kind="full", loss="all", length=17, batch=rows, steps=STEPS, schedule="constant", eval_every=0,
                      rate=widths.RATES[optimiser], save_every=0, clip=0.0)  # fmt: skip
    groups = widths.groups(model, chosen, optimiser, 0.0)
    before = np.asarray(model(mx.array(ids)))
    run = trainer.prepare(model, settings, trainer.Set(samples), folder, groups=groups)
    run.keep = lambda run, folder: None
    for event in trainer.train(run):
        if isinstance(event, trainer.Stepped) and event.step == STEPS:
            break
    seen = model.inspect(mx.array(ids))
    added = [b - a for a, b in zip(seen.hidden, seen.hidden[1:], strict=False)]
    found = {f"block {i}": float(mx.mean(mx.abs(x))) for i, x in enumerate(added)}
    moved = (np.asarray(model.head(seen.final)) - before)[:, :-1]
    rise = np.take_along_axis(moved, ids[:, 1:, None], -1)[..., 0] - moved.mean(-1)
    return found | {"target": float(rise.mean()), "square": float(np.square(moved).mean())}


def over_widths(kind: str, folder: Path, rows: int, optimiser: str = "adamw") -> dict[str, np.ndarray]:
    """Each for WIDTHS, the mean of two seeds."""
    found = [
        [coordinates(kind, optimiser, width, folder / f"{kind}{width}{seed}", seed, rows) for seed in range(2)]
        for width in WIDTHS
    ]
    return {name: np.array([np.mean([each[name] for each in seeds]) for seeds in found]) for name in found[0][0]}


def slopes(means: dict[str, np.ndarray]) -> dict[str, float]:
    """Of the logarithms, over the widths."""
    x = np.log(WIDTHS)
    return {name: float(np.polyfit(x, np.log(mean), 1)[0]) for name, mean in means.items() if name != "square"}


@pytest.mark.slow(5)
def test_activations_do_not_go_with_the_width_under_mup(tmp_path: Path) -> None:
    standard = slopes(over_widths("standard", tmp_path, 4))
    assert min(standard.values()) > 0.25, standard  # the check can fail, in each of its figures
    for rows in (4, 8):
        means = over_widths("mup", tmp_path / str(rows), rows)
        found = slopes(means)
        assert max(map(abs, found.values())) < 0.05, (rows, found)
        chance, limit = np.polyfit(1 / np.array(WIDTHS), means["square"], 1)
        told = limit + chance / np.array(WIDTHS)
        assert chance > 0 and np.abs(means["square"] / told - 1).max() < 0.03, means
        assert limit > 0.9 * means["square"][-1]  # what is left in wide models does not go with the width


class SameHead(widths.Parametrisation):
    """A fault: the head learns at the rate of its vectors."""

    def rate(self, part: ModelPart) -> float:
        return 1.0 if part.role == "head" else super().rate(part)


def test_a_head_that_learns_at_the_rate_of_its_vectors_fails_the_check(tmp_path: Path) -> None:
    rises = [coordinates("mup", "adamw", width, tmp_path / str(width), 0, 2, SameHead)["target"] for width in (32, 64)]
    assert rises[1] > 1.5 * rises[0]


@pytest.mark.parametrize("kind", ["mup", "standard"])
def test_every_parameter_has_the_rate_of_its_kind(kind: str) -> None:
    model = registry.blank(config_of(ModelShape("llama", 1, 128, 4), VOCAB, 32))
    chosen = widths.parametrisation(configure({"parametrisation": kind}), model)
    matrix = 1 / 2 if kind == "mup" else 1.0  # twice the base width
    adam, muon = (widths.groups(model, chosen, optimiser, 0.1) for optimiser in ("adamw", "muon"))
    seen = set()
    for part in model.parts():
        for leaf in part.arrays():
            name = f"{part.path}.{leaf}"
            rate = matrix if part.kind == "matrix" and leaf == "weight" else 1.0
            assert (adam[name].rate, adam[name].decay) == (rate, pytest.approx(0.1 / rate)), name
            orthogonal = part.kind == "matrix" and part.role != "head"
            wanted = (1.0, 0.1) if orthogonal else (0.3 * rate, 0.1 / rate)
            assert (muon[name].rate, muon[name].decay) == pytest.approx(wanted), name
            seen.add((part.kind, orthogonal))
    assert len(seen) > 2
