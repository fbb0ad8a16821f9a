"""Gaussian of a matrix of weights with a Kronecker-factored precision: curvature L x R plus a prior, by eigenvectors.

Martens & Grosse 2015 (K-FAC) for the factors, Ritter et al. 2018 for the Laplace approximation with them; the prior is
added to products of eigenvalues, so nothing is damped. Of a wide side only the leading eigenvectors are kept, and the
rest of its trace is spread evenly over the directions left (arXiv:2308.13111 leaves it out). numpy, float64 inside.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Spectrum:
    """A positive semidefinite matrix [n, n]: eigenvectors [n, k] with values [k], and `rest` for all others."""

    vectors: Array
    values: Array
    rest: float = 0.0

    @property
    def left_out(self) -> int:
        """How many eigenvectors are left out: each has the eigenvalue `rest`."""
        return int(self.vectors.shape[0] - self.vectors.shape[1])

    @property
    def every(self) -> Array:
        """All n eigenvalues."""
        return np.concatenate([self.values, np.full(self.left_out, self.rest)])


class Curvature:
    """Sum of x x^T over rows x [N, n] that come in parts: whole where n is at most `keep`, else the leading directions.

    What is dropped at each part is the smallest of what was kept so far and the part together. float32 where rows are.
    """

    def __init__(self, size: int, keep: int) -> None:
        self.keep = min(keep, size)
        self.size = size
        self.trace = 0.0
        self._whole = np.zeros((size, size)) if self.keep == size else None
        self._rows = np.zeros((0, size), np.float32)

    def add(self, rows: Array) -> None:
        """Add the outer products of rows [N, n]."""
        self.trace += float(np.square(rows, dtype=np.float64).sum())
        if self._whole is not None:
            self._whole += rows.T @ rows
            return
        for start in range(
            0, len(rows), 2 * self.keep
        ):  # an eigenvalue problem of 3 keep: cheaper than one of all rows
            both = np.concatenate([self._rows, rows[start : start + 2 * self.keep]])
            _, vectors = np.linalg.eigh(both @ both.T)
            self._rows = vectors[:, -self.keep :].T @ both

    def spectrum(self) -> Spectrum:
        """Eigenvalues and vectors of the sum so far."""
        if self._whole is not None:
            values, vectors = np.linalg.eigh(self._whole)
            return Spectrum(vectors, np.maximum(values, 0))
        _, values, vectors = np.linalg.svd(self._rows, full_matrices=False)
        values = np.square(values)
        remaining = self.size - len(values)
        return Spectrum(vectors.T, values, max(self.trace - float(values.sum()), 0.0) / remaining if remaining else 0.0)


@dataclass(frozen=True, eq=False, slots=True)
class Kronecker:
    """N(mean, (L x R + precision I)^-1) for weights [m, n]: `left` of their rows [m], `right` of their columns [n]."""

    left: Spectrum
    right: Spectrum

    @property
    def curvature(self) -> Array:
        """The m n eigenvalues, without the prior."""
        return np.outer(self.left.every, self.right.every).ravel()

    def applied(self, weights: Array, function: Callable[[Array], Array]) -> Array:
        """f(L x R) times weights [..., m, n], f a function of eigenvalues."""
        u, v = self.left.vectors, self.right.vectors
        a, b = np.append(self.left.values, self.left.rest), np.append(self.right.values, self.right.rest)
        f = function(np.outer(a, b))
        inner = np.swapaxes(u, 0, 1) @ weights  # [..., k, n]
        outer = weights @ v  # [..., m, l]
        both = inner @ v  # [..., k, l]
        across, down = inner - both @ v.T, outer - u @ both
        rest = weights - u @ inner - down @ v.T
        product = f[-1, -1] * rest + u @ ((f[:-1, :-1] * both) @ v.T + f[:-1, -1:] * across)
        return np.asarray(product + (down * f[-1, :-1]) @ v.T)

    def draw(self, noise: Array, precision: float) -> Array:
        """The deviation from the mean that standard normal noise [m, n] gives."""
        return self.applied(noise, lambda h: 1 / np.sqrt(h + precision))

    def variance(self, precision: float) -> Array:
        """The variance of each weight, [m, n]."""
        left, right = (np.square(side.vectors) for side in (self.left, self.right))
        left, right = (np.column_stack([side, np.maximum(1 - side.sum(axis=1), 0)]) for side in (left, right))
        a, b = np.append(self.left.values, self.left.rest), np.append(self.right.values, self.right.rest)
        return np.asarray(left @ (1 / (np.outer(a, b) + precision)) @ right.T)
