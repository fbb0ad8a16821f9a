"""A mean over tokens with an honest error bar: the tokens of one row are not independent. No mlx."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    mean: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        return self.mean - 1.96 * self.error, self.mean + 1.96 * self.error


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
