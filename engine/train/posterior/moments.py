"""Moments of weights along a training: mean, diagonal second moment and last deviations, a Gaussian (SWAG).

Maddox et al. 2019 (arXiv:1902.02476, eq. 1): half the covariance is diagonal, half of rank K. numpy, float64 inside.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
LEAST = 1e-30  # of a variance: below it is rounding


@dataclass(frozen=True, eq=False, slots=True)
class Swag:
    """Gaussian of one array of weights [...]: its mean, its variance by the diagonal, and K deviations [K, ...]."""

    mean: Array
    diagonal: Array
    deviations: Array

    def draw(self, own: Array, common: Array) -> Array:
        """The weights that standard normal noise gives: `own` [...] of each, `common` [K] of all arrays together."""
        rank = np.tensordot(common, self.deviations, 1) / np.sqrt(2 * (len(self.deviations) - 1))
        return np.asarray(self.mean + np.sqrt(self.diagonal / 2) * own + rank)

    @property
    def variance(self) -> Array:
        """The variance of each weight, by name."""
        return np.asarray(self.diagonal / 2 + np.square(self.deviations).sum(axis=0) / (2 * (len(self.deviations) - 1)))


class Moments:
    """Running moments of arrays by name; of the deviations from the running mean the last `keep` are kept."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.count = 0
        self._mean: dict[str, Array] = {}
        self._square: dict[str, Array] = {}
        self._deviations: dict[str, list[Array]] = {}

    def add(self, weights: dict[str, Array]) -> None:
        """Take in another set of weights."""
        self.count += 1
        for name, array in weights.items():
            w = np.asarray(array, np.float64)
            mean = self._mean.setdefault(name, np.zeros_like(w))
            square = self._square.setdefault(name, np.zeros_like(w))
            mean += (w - mean) / self.count
            square += (np.square(w) - square) / self.count
            last = self._deviations.setdefault(name, [])
            last.append(w - mean)
            del last[: -self.keep]

    def gaussians(self) -> dict[str, Swag]:
        """Gaussians of all that has been added, which has to be twice or more."""
        return {
            name: Swag(mean, np.maximum(self._square[name] - np.square(mean), LEAST), np.stack(self._deviations[name]))
            for name, mean in self._mean.items()
        }
