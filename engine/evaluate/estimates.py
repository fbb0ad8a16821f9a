"""Estimates: a mean with its standard error and interval, from items that need not be independent. No mlx."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error, and the degrees of freedom of that error."""

    mean: float
    error: float
    df: float = math.inf

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, by Student's t."""
        half = student(self.df) * self.error
        return self.mean - half, self.mean + half


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent items, such as rows or windows of a text; the error of one alone is infinite."""
    n = len(values)
    if not n:
        return Estimate(math.nan, math.nan)
    middle = math.fsum(values) / n
    if n == 1:
        return Estimate(middle, math.inf, 1)
    variance = math.fsum((value - middle) ** 2 for value in values) / (n - 1)
    return Estimate(middle, math.sqrt(variance / n), n - 1)


def paired(before: Sequence[float], now: Sequence[float]) -> Estimate:
    """By how much items rose from before to now: what all have in common is in neither mean nor error.

    ValueError where they are not the same number.
    """
    return mean([b - a for a, b in zip(before, now, strict=True)])


def ratio(rows: Sequence[tuple[float, float, int]]) -> Estimate:
    """The mean over all tokens from each row's sum, sum of squares and number of tokens.

    The standard error is clustered by row (Miller, arXiv:2411.00640, eq. 4): s^2 / n plus the covariances within rows.
    """
    n = sum(count for _, _, count in rows)
    if not n:
        return Estimate(math.nan, math.nan)
    mean = math.fsum(total for total, _, _ in rows) / n
    deviations = [(total - mean * count) for total, _, count in rows]
    own = [square - 2 * mean * total + mean * mean * count for total, square, count in rows]
    within = math.fsum(d * d - o for d, o in zip(deviations, own, strict=True))
    plain = math.fsum(own) * (n / (n - 1) if n > 1 else 0.0)
    return Estimate(mean, math.sqrt(max(0.0, plain + within)) / n)


def student(df: float) -> float:
    """The 97.5 % quantile of Student's t (Cornish-Fisher expansion; exact to 1 % from 3 degrees of freedom on)."""
    exact: dict[float, float] = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
    z = 1.959964
    a = (z**3 + z) / 4
    b = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return exact.get(df, z + a / df + b / df**2)
