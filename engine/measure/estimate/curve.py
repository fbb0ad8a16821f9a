"""Learning curves: a loss as a power law of the rows it was learned from, E + B n^-beta, and what more rows are worth.

Losses have normal noise in proportion to themselves. Given beta the law is linear in E and B, so the posterior is on a
grid of beta, under Jeffreys' prior (Proc. R. Soc. 1946), by which intervals hold as often as they say also where so few
runs hardly tell a floor from a slow fall: `coverage` simulates it. A floor below 0 is not excluded. No mlx.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from likely.engine.base.errors import DataError

EXPONENTS = np.geomspace(0.02, 5.0, 150)
FINER = 2  # times that the grid is laid anew where the posterior is
DRAWS = 2000
Numbers = Sequence[float] | np.ndarray
LEVEL = 1e-9  # by which losses differ at least, as a share of them


@dataclass(frozen=True, slots=True)
class CurveForecast:
    """A quantity that is told, its 95 % interval, and what was seen where it has been."""

    told: float
    low: float
    high: float
    seen: float | None = None

    @property
    def is_inside(self) -> bool | None:
        return None if self.seen is None else self.low <= self.seen <= self.high


@dataclass(frozen=True)
class LearningCurve:
    """Draws [R] from the posterior of the law of runs [n] of so many rows, and of their noise."""

    rows: np.ndarray  # [n]
    losses: np.ndarray  # [n]
    floor: np.ndarray  # E
    fall: np.ndarray  # B of rows over the largest size
    beta: np.ndarray
    noise: np.ndarray  # standard deviation of losses, as a share of them

    @property
    def largest(self) -> float:
        return float(self.rows.max())

    def loss(self, rows: float) -> np.ndarray:
        """Expected losses [R] with so many rows."""
        losses: np.ndarray = self.floor + self.fall * (rows / self.largest) ** -self.beta
        return losses

    @property
    def numbers(self) -> dict[str, CurveForecast]:
        return {"E": forecast(self.floor), "beta": forecast(self.beta)}

    def worth(self, begin: float, end: float) -> CurveForecast:
        """How much the expected loss falls from `begin` rows to `end`."""
        return forecast(self.loss(begin) - self.loss(end))


def forecast(draws: np.ndarray, seen: float | None = None) -> CurveForecast:
    low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975]).tolist()
    return CurveForecast(middle, low, high, seen)


def fit(rows: Numbers, losses: Numbers, *, draws: int = DRAWS, seed: int = 0) -> LearningCurve:
    """The curve of runs. DataError for fewer than 3 sizes or 5 runs, and for a loss that is not above 0."""
    n, loss = np.asarray(rows, np.float64), np.asarray(losses, np.float64)
    if len(n) < 5 or len(np.unique(n)) < 3:
        raise DataError(f"a curve takes 5 runs of 3 sizes or more, got {len(n)} of {len(np.unique(n))}")
    if not ((loss > 0) & np.isfinite(loss)).all():
        raise DataError("a curve is of losses above 0, and one of these is not")
    if np.ptp(loss) < LEVEL * loss.max():
        raise DataError("a curve is of losses that differ, and these are all the same")
    cells, random = _posterior(EXPONENTS, n, loss), np.random.default_rng(seed)
    for _ in range(FINER):  # many runs, or little noise: the posterior may lie within one cell
        there = np.flatnonzero(cells.weight > 1e-9 * cells.weight.max())
        low, high = max(0, there[0] - 1), min(len(cells.beta) - 1, there[-1] + 1)
        cells = _posterior(np.geomspace(cells.beta[low], cells.beta[high], len(EXPONENTS)), n, loss)
    cell = random.choice(len(cells.beta), draws, p=cells.weight / cells.weight.sum())
    noise = np.sqrt(cells.squares[cell] / random.chisquare(len(n) - 2, draws))
    off = np.linalg.cholesky(cells.spread)[cell] @ random.standard_normal((draws, 2, 1))
    floor, fall = (cells.linear[cell] + noise[:, None] * off[..., 0]).T
    return LearningCurve(n, loss, floor, fall, cells.beta[cell], noise)


class _Cells(NamedTuple):
    """Of each beta of a grid [G]: its posterior weight, E and B by least squares [G, 2], their covariance in units of
    the noise [G, 2, 2], and the sum of squares that is left."""

    beta: np.ndarray
    weight: np.ndarray
    linear: np.ndarray
    spread: np.ndarray
    squares: np.ndarray


def _posterior(beta: np.ndarray, n: np.ndarray, loss: np.ndarray) -> _Cells:
    x = (n / n.max()) ** -beta[:, None]
    design = np.stack(np.broadcast_arrays(1 / loss, x / loss), -1)  # [G, n, 2], of losses over themselves
    ridge = 1e-12 * np.einsum("gni,gni->g", design, design)
    spread = np.linalg.inv(design.swapaxes(1, 2) @ design + ridge[:, None, None] * np.eye(2))
    linear = (spread @ design.sum(1)[..., None])[..., 0]
    squares = np.square(1 - (design @ linear[..., None])[..., 0]).sum(1)
    slope = (-x * np.log(n / n.max()) / loss)[..., None]  # d / d beta, over B
    alone = slope - design @ (spread @ (design.swapaxes(1, 2) @ slope))
    logs = (
        (2 - len(n)) / 2 * np.log(np.maximum(squares, 1e-300))
        + np.log(np.abs(linear[:, 1]) * np.sqrt(np.square(alone[..., 0]).sum(1)) + 1e-300)
        + np.log(np.gradient(beta))
    )
    return _Cells(beta, np.exp(logs - logs.max()), linear, spread, squares)


@dataclass(frozen=True, slots=True)
class HeldOutSize:
    """The largest size told by the smaller ones: the mean loss of its runs, and the gain over the size before, as the
    runs of that had it."""

    begin: float
    end: float
    loss: CurveForecast
    gain: CurveForecast


def checked(rows: Numbers, losses: Numbers, *, draws: int = DRAWS, seed: int = 0) -> HeldOutSize | None:
    """The largest size, held out; None where the smaller ones determine no curve."""
    n, loss = np.asarray(rows, np.float64), np.asarray(losses, np.float64)
    top = n == n.max()
    try:
        curve = fit(n[~top], loss[~top], draws=draws, seed=seed)
    except DataError:
        return None
    chance = np.random.default_rng([seed, draws]).standard_normal(draws) * curve.noise / np.sqrt(top.sum())
    to_come, at_end = curve.loss(float(n.max())) * (1 + chance), float(loss[top].mean())
    before = float(loss[n == curve.largest].mean())
    return HeldOutSize(
        curve.largest, float(n.max()), forecast(to_come, at_end), forecast(before - to_come, before - at_end)
    )
