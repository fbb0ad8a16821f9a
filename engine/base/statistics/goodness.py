"""Goodness of fit: Pearson's chi-square of what was counted against known probabilities, and its tail. No mlx.

p-values are exact as n grows; under the right law they are uniform, so one look in twenty falls below 0.05.
"""

import math
from dataclasses import dataclass

import numpy as np

LEAST = 5  # draws that a cell has to expect (Cochran 1954)


@dataclass(frozen=True, slots=True)
class Goodness:
    """Chi-square on its degrees of freedom, and the probability of one as large; None where there are too few draws."""

    chi2: float | None = None
    df: int | None = None
    p: float | None = None


def chi_square(counts: np.ndarray, law: np.ndarray) -> Goodness:
    """Of counts [n] by a law [n] that sums to 1: cells that expect less than `LEAST` are one cell, to which the least
    of the others are added until it expects as much. p is 0 where something was counted that the law does not allow."""
    draws = int(counts.sum())
    order = np.argsort(-law, kind="stable")
    wanted, seen = draws * law[order], counts[order]
    own = int(np.count_nonzero(wanted >= LEAST))
    while 0 < own < len(wanted) and 0 < wanted[own:].sum() < LEAST:
        own -= 1
    if own < len(wanted):
        wanted, seen = (np.append(cells[:own], cells[own:].sum()) for cells in (wanted, seen))
    if wanted[-1] <= 0:  # nothing else is allowed
        wanted, seen = wanted[:-1], seen[:-1]
    impossible = bool(counts[law <= 0].any())
    df = len(wanted) - 1
    if df < 1:
        return Goodness(p=0.0 if impossible else None)
    chi2 = float(((seen - wanted) ** 2 / wanted).sum())
    return Goodness(chi2, df, 0.0 if impossible else above(chi2, df))


def above(chi2: float, df: int) -> float:
    """P(X >= chi2) of the chi-square law: the regularised upper incomplete gamma function at df / 2, chi2 / 2, by its
    series or its continued fraction (Abramowitz and Stegun 6.5.29 and 6.5.31, by Lentz)."""
    a, x = df / 2, chi2 / 2
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, 10_000):
            term *= x / (a + n)
            total += term
            if term < 1e-16 * total:
                break
        return max(0.0, 1 - front * total)
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    value = d
    for n in range(1, 10_000):
        step, b = -n * (n - a), b + 2
        d = 1 / (step * d + b or tiny)
        c = b + step / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value
