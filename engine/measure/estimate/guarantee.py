"""Guarantees of an adapter: bounds by rows that it never saw, and by the rows that it was trained on with a posterior.

A row is wrong where greedy decoding does not give it whole. Its smoothed loss is the mean over its targets of that of
the model mixed with a guess by chance, which is bounded whatever the model says.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.measure.estimate.bounds import (
    DELTA,
    GaussianPosterior,
    RiskBound,
    clopper_pearson,
    hoeffding,
    pac_bayes,
    smoothed,
)
from likely.engine.measure.estimate.trial import encoded
from likely.engine.text.rows.training_row import TrainingRow
from likely.engine.train.losses.row_scores import target_losses
from likely.engine.train.posterior import stored
from likely.engine.train.run.run import TrainingRun
from likely.engine.train.taught import ready
from likely.engine.weights.adapters import adapters
from likely.engine.weights.adapters.config import Config, configure
from likely.engine.weights.adapters.stored import digest
from likely.metal import mx

if TYPE_CHECKING:
    from likely.engine.weights.sources.checkpoint import Checkpoint

SMOOTHING = 0.1  # share of a guess by chance
WIDTHS = (1e-4, 1e-3, 1e-2)  # standard deviations of a posterior that are tried where none is given
PLACES = ("out", "data")
ERRORS, LOSS = "rows wrong", "smoothed loss, nats a token"


def options(folder: Path) -> Config:
    """The options that an adapter was trained with. DataError where it was not trained here, ParameterError for whole
    weights, CheckpointError for a damaged config."""
    values, ours = adapters.options(folder)
    if not ours:
        raise DataError(f"{folder} was not trained by likely tune: its start, where the prior is, is not known")
    if values.get("kind") == "full" or values.get("init") in ("pissa", "contrast"):
        raise ParameterError("a bound takes an adapter of kind lora or dora with init = zero, got another")
    plain = Config()
    return configure({n: v for n, v in values.items() if n not in PLACES and v != getattr(plain, n)})


class Guarantees:
    """An adapter on a twin of its model."""

    def __init__(self, checkpoint: "Checkpoint", folder: Path, rows: Sequence[TrainingRow]) -> None:
        """`rows` are some that say the shapes of a batch alone."""
        config = replace(options(folder), steps=1, epochs=0.0)
        with TemporaryDirectory() as beside:
            out = f"{beside}/run"
            self.start = _numbers(ready(checkpoint, replace(config, out=out), rows[:1]).run)
            opened = ready(checkpoint, replace(config, out=out, warm_start=str(folder)), rows[:1])
        self._opened, self._run, self._begun, self._folder = opened, opened.run, config.warm_start, folder
        self.mean = _numbers(self._run)

    @property
    def trivial(self) -> dict[str, float]:
        """Known of any model, or of a guess by chance."""
        return {ERRORS: 1.0, LOSS: math.log(self._run.model.config.vocab_size)}

    @property
    def largest(self) -> dict[str, float]:
        """A row can lose no more."""
        return {ERRORS: 1.0, LOSS: math.log(self._run.model.config.vocab_size / SMOOTHING)}

    def losses(self, rows: Sequence[TrainingRow]) -> dict[str, np.ndarray]:
        """Errors (0 or 1) and smoothed losses (nats) of each row by the model as it is now, [rows] by name."""
        items = encoded(self._opened, rows).samples
        if len(items) != len(rows):  # pieces of one row are not independent
            raise DataError(
                f"a bound takes whole rows with targets: {len(rows)} rows make {len(items)} samples by the adapter's "
                "length and loss, and pairs none"
            )
        vocabulary, by_row = self._run.model.config.vocab_size, target_losses(self._run.model, items, self._run.config)
        lost = [smoothed(np.exp(-own), vocabulary, SMOOTHING).mean() for own, _ in by_row]
        return {ERRORS: np.array([float(not right) for _, right in by_row]), LOSS: np.array(lost)}

    def held_out(self, rows: Sequence[TrainingRow], delta: float = DELTA) -> list[RiskBound]:
        """Bounds by rows that no training saw: Clopper-Pearson for the wrong ones, Hoeffding for the smoothed loss."""
        losses = self.losses(rows)
        n, wrong, mean = len(losses[ERRORS]), int(losses[ERRORS].sum()), float(losses[LOSS].mean())
        uppers = {
            ERRORS: ("Clopper-Pearson", wrong / n, clopper_pearson(wrong, n, delta)),
            LOSS: ("Hoeffding", mean, hoeffding(mean, n, self.largest[LOSS], delta)),
        }
        return [
            RiskBound(f"{name} ({how})", n, risk, upper, self.trivial[name], 1 - delta)
            for name, (how, risk, upper) in uppers.items()
        ]

    def trained(
        self,
        rows: Sequence[TrainingRow],
        variances: dict[str, np.ndarray] | None = None,
        *,
        draws: int = 20,
        delta: float = DELTA,
        seed: int = 0,
    ) -> list[RiskBound]:
        """Bounds for a model drawn about the adapter, by the rows that it was trained on: PAC-Bayes, with the variances
        of a posterior, or the best of a few that are the same for every weight."""
        candidates = (
            [{name: np.array(width**2) for name in self.mean} for width in WIDTHS] if variances is None else [variances]
        )
        if self._begun:
            raise ParameterError(
                f"the adapter began at warm_start {self._begun}, which may have seen these rows: a prior may not have"
            )
        best: dict[str, RiskBound] = {}
        for candidate in candidates:
            posterior = GaussianPosterior(self.mean, candidate, self.start)
            random, losses_drawn = np.random.default_rng(seed), []
            for _ in range(draws):
                self._set(posterior.draw(random))
                losses_drawn.append(self.losses(rows))
            self._set(self.mean)
            n = len(losses_drawn[0][ERRORS])
            for name, largest in self.largest.items():
                shares = [float(losses[name].mean()) / largest for losses in losses_drawn]
                upper, kl = pac_bayes(shares, n, posterior, delta, len(candidates))
                bound = RiskBound(
                    f"{name} (PAC-Bayes)", n, float(np.mean(shares)) * largest, upper * largest, self.trivial[name],
                    1 - delta, kl,
                )  # fmt: skip
                best[name] = min(best.get(name, bound), bound, key=lambda bound: bound.upper)
        return list(best.values())

    def variances(self) -> dict[str, np.ndarray]:
        """The variance of every weight by the posterior beside the adapter, about whose own weights the bound is.

        CheckpointError where none lies there, ParameterError where some weights have none.
        """
        shapes = {name: array.shape for name, array in self.mean.items()}
        base = self._opened.checkpoint.info.weights
        posterior = stored.read(self._folder, shapes, adapter=digest(self._folder), base=base)[0]
        variances = posterior.gaussian(self.mean)[1]
        if missing := sorted(set(self.mean) - set(variances)):
            raise ParameterError(
                f"the posterior of {self._folder} has no variance for {missing[0]}, and a bound is over every weight: "
                "fit one of all layers (likely posterior laplace --structure kron, or swag)"
            )
        return variances

    def _set(self, weights: dict[str, np.ndarray]) -> None:
        self._run.trained.set({name: mx.array(array.astype(np.float32)) for name, array in weights.items()})


def _numbers(run: TrainingRun) -> dict[str, np.ndarray]:
    return {name: np.asarray(array, np.float64) for name, array in run.trained.parameters().items()}
