"""Collapse: a learner retrained on its own samples, generation after generation, beside what chance alone predicts.

Replace: each generation learns from the rows of the one before it. A learner that gives back the frequencies of its
rows keeps 1 - 1 / n of their diversity 1 - sum p^2 in expectation, which is Wright and Fisher's law of genetic drift,
and ends at one kind of row. Accumulate: it learns from all rows so far, the m real ones among them. Generation k is
then n of m + k n rows and costs n / (m + k n)^2 of the diversity, and the product of what is left stays above 0
(Gerstgrasser et al. 2024 show as much for other learners).

Knows no model: a learner is whatever fits rows and draws rows. No mlx.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from likely.engine.base.statistics.estimates import Estimate, jackknife

Row = TypeVar("Row")
WAYS = ("replace", "accumulate")


class Learner(Protocol[Row]):
    """One that learns from rows, from its own start each time, and draws rows like them."""

    def fit(self, rows: Sequence[Row]) -> None: ...
    def draw(self, n: int, seed: int) -> list[Row]: ...


class Frequencies(Generic[Row]):
    """The learner of which Wright and Fisher's law is true: it draws rows as often as they came."""

    def __init__(self) -> None:
        self._rows: Sequence[Row] = ()

    def fit(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def draw(self, n: int, seed: int) -> list[Row]:
        return [self._rows[i] for i in np.random.default_rng(seed).integers(0, len(self._rows), n)]


@dataclass(frozen=True, slots=True)
class Generation:
    """The rows that the next generation learns from: how many kinds, and their diversity 1 - sum p^2 with an error by
    leaving out groups of rows; `expected` of the learner that gives back frequencies. Generation 0 is the real rows."""

    number: int
    way: str
    rows: int
    kinds: int
    diversity: Estimate
    expected: float


def generations(
    real: Sequence[Row],
    learner: Learner[Row],
    count: int,
    way: str,
    kind: Callable[[Row], Hashable],
    *,
    n: int = 0,
    seed: int = 0,
) -> Iterator[Generation]:
    """The real rows, then `count` generations of n rows each (as many as there are real ones), in one of `WAYS`."""
    n, pool, expected = n or len(real), list(real), 0.0
    for number in range(count + 1):
        if number:
            learner.fit(pool)
            drawn = learner.draw(n, seed + number)
            pool = [*pool, *drawn] if way == "accumulate" else drawn
        kinds = [kind(row) for row in pool]
        estimate = jackknife(len(kinds), lambda kept, kinds=kinds: diversity([kinds[i] for i in kept]))  # type: ignore[misc]
        expected = expected * kept_share(number, n, len(real), way) if number else estimate.mean
        yield Generation(number, way, len(pool), len(set(kinds)), estimate, expected)


def kept_share(number: int, n: int, real: int, way: str) -> float:
    """The share of the expected diversity that a generation leaves of that before it."""
    return 1 - (1 / n if way == "replace" else n / (real + number * n) ** 2)


def diversity(kinds: Sequence[Hashable]) -> float:
    """1 - sum p^2 of the frequencies: how often two rows drawn with replacement are of different kinds."""
    if not kinds:
        return 0.0
    numbers = {kind: i for i, kind in enumerate(set(kinds))}
    counts = np.bincount([numbers[kind] for kind in kinds])
    return float(1 - ((counts / len(kinds)) ** 2).sum())
