"""Comparison of two models over rows of tokens: a metric's mean and what a token costs under each, row by row.

The tokens of a row are not independent, so rows are the items of every estimate. Knows no model.
"""

import math
from collections.abc import Sequence

import numpy as np

from likely.engine.base import arrays
from likely.engine.base.statistics import measures
from likely.engine.base.statistics.estimates import Estimate, mean, paired


class Comparison:
    """Sums of each row so far: a window of a text, a document."""

    def __init__(self, metrics: Sequence[str]) -> None:
        self.metrics = measures.values(metrics)
        self.rows: dict[str, list[float]] = {name: [] for name in self.metrics}
        self.before: list[float] = []  # a row's mean surprisal, nats
        self.now: list[float] = []
        self.tokens = 0
        self.predicted = 0  # of them, those with a token of their row before them

    def add(self, before: np.ndarray, now: np.ndarray, ids: np.ndarray) -> None:
        """One row: log-probabilities [T, V] before and now, and its tokens [T]."""
        for name, of in self.metrics.items():
            self.rows[name].append(float(np.mean(of(before, now, np), dtype=np.float64)))
        for surprisals, rows in ((self.before, before), (self.now, now)):
            surprisals.append(-float(arrays.chosen(rows[:-1], ids[1:], np).mean()))
        self.tokens += len(ids)
        self.predicted += len(ids) - 1

    def estimate(self, name: str) -> Estimate:
        """A metric over the rows."""
        return mean(self.rows[name])

    @property
    def perplexity(self) -> tuple[float, float]:
        """The perplexity before and now."""
        return math.exp(mean(self.before).mean), math.exp(mean(self.now).mean)

    @property
    def cost(self) -> Estimate:
        """How many nats a token the surprisal rose, the rows paired."""
        return paired(self.before, self.now)
