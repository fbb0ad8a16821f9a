"""Posterior over the weights of an adapter, by arrays of its own names: Laplace, SWAG, or an ensemble of members.

Each draws weights by number, the same for the same seed and number, and has a mean and variances. numpy; knows no file,
no model, and not how it was fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from likely.engine.train.posterior.kronecker import Kronecker
from likely.engine.train.posterior.moments import Swag

Array = np.ndarray
Weights = dict[str, Array]


@dataclass(frozen=True, eq=False, slots=True)
class Laplace:
    """Gaussians about a trained adapter's arrays, with one prior; what has none stays as it is."""

    KIND: ClassVar[str] = "laplace"
    parts: Mapping[str, Kronecker]
    precision: float  # of the prior

    def draw(self, trained: Mapping[str, Array], seed: int, number: int) -> Weights:
        """The weights of sample `number`: arrays that differ from the `trained` ones, float32."""
        return {
            name: (trained[name] + part.draw(_noise(trained[name].shape, seed, number, index), self.precision)).astype(
                np.float32
            )
            for index, (name, part) in enumerate(sorted(self.parts.items()))
        }

    def gaussian(self, trained: Mapping[str, Array]) -> tuple[Weights, Weights]:
        """Mean and variance of every weight that has one."""
        return (
            {name: np.asarray(trained[name], np.float64) for name in self.parts},
            {name: part.variance(self.precision) for name, part in self.parts.items()},
        )


@dataclass(frozen=True, eq=False, slots=True)
class SwagPosterior:
    """Moments along a training, of all arrays of an adapter."""

    KIND: ClassVar[str] = "swag"
    parts: Mapping[str, Swag]

    def draw(self, trained: Mapping[str, Array], seed: int, number: int) -> Weights:
        """The weights of sample `number`, float32: mean, diagonal and low-rank deviations of each array."""
        weights = {}
        for index, (name, part) in enumerate(sorted(self.parts.items())):
            common = _noise((len(part.deviations),), seed, number, -1)  # one for all arrays: they go together
            weights[name] = part.draw(_noise(part.mean.shape, seed, number, index), common).astype(np.float32)
        return weights

    def gaussian(self, trained: Mapping[str, Array]) -> tuple[Weights, Weights]:
        """Mean and variance of every weight, by its array's name."""
        return {n: part.mean for n, part in self.parts.items()}, {n: part.variance for n, part in self.parts.items()}


@dataclass(frozen=True, eq=False, slots=True)
class Ensemble:
    """Members that were trained apart, with equal weights: arrays [M, ...]."""

    KIND: ClassVar[str] = "ensemble"
    parts: Mapping[str, Array]

    @property
    def members(self) -> int:
        return len(next(iter(self.parts.values())))

    def draw(self, trained: Mapping[str, Array], seed: int, number: int) -> Weights:
        """The weights of member `number`."""
        return {name: part[number] for name, part in self.parts.items()}

    def gaussian(self, trained: Mapping[str, Array]) -> tuple[Weights, Weights]:
        """Mean and variance of every weight over the members, by its array's name."""
        return (
            {name: part.mean(axis=0, dtype=np.float64) for name, part in self.parts.items()},
            {name: part.var(axis=0, ddof=1, dtype=np.float64) for name, part in self.parts.items()},
        )


Posterior = Laplace | SwagPosterior | Ensemble


def _noise(shape: tuple[int, ...], seed: int, number: int, index: int) -> Array:
    return np.random.default_rng([seed, number, index + 1]).standard_normal(shape)
