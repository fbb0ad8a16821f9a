"""Difference of two models on one text: KL at every position, and the tokens that rose and fell. Plain data.

Log-probabilities in nats. Knows no model: `engine.statistics.compare` measures.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from likely.engine.statistics.scores import surprisal


@dataclass(frozen=True)
class Shift:
    """A token whose probability changed; log-probabilities before and now."""

    token: int
    before: float
    now: float

    @property
    def change(self) -> float:
        """How much the token's probability rose."""
        return float(np.exp(self.now) - np.exp(self.before))


@dataclass(frozen=True)
class Position:
    """The next-token distributions after one token of the text."""

    token: int  # the one that they follow
    kl: float  # KL(B || A)
    entropy: tuple[float, float]
    next: tuple[float, float] | None  # log-probabilities of the token that came; None at the end
    top: tuple[int, int]  # the most likely token of each
    risen: tuple[Shift, ...]
    fallen: tuple[Shift, ...]
    likely: tuple[Shift, ...] = ()  # the most likely before and the most likely now, by the probability now
    metrics: Mapping[str, float] = field(default_factory=dict)  # those that were asked for


@dataclass(frozen=True)
class Difference:
    """Two models on one text: A before, B now."""

    names: tuple[str, str]
    positions: tuple[Position, ...]
    risen: tuple[Shift, ...] = ()  # of the mean probability along the text
    fallen: tuple[Shift, ...] = ()

    @property
    def kl(self) -> float:
        """Mean KL(B || A) a token."""
        return float(np.mean([p.kl for p in self.positions]))

    @property
    def same_top(self) -> float:
        """Share of positions where the most likely token is the same."""
        return float(np.mean([p.top[0] == p.top[1] for p in self.positions]))

    @property
    def nll(self) -> tuple[float, float]:
        """Mean negative log-probability of the text's tokens under each; NaN for a text of one token."""
        pairs = [p.next for p in self.positions if p.next is not None]
        before, now = surprisal(a for a, _ in pairs), surprisal(b for _, b in pairs)
        return math.nan if before is None else before, math.nan if now is None else now

    @property
    def spread(self) -> dict[str, dict[str, float]]:
        """Mean, median and 99th percentile over the positions of the KL and each metric that was asked for."""
        values = {"kl": [p.kl for p in self.positions]}
        values |= {name: [p.metrics[name] for p in self.positions] for name in self.positions[0].metrics}
        return {
            name: {"mean": float(np.mean(v)), "median": float(np.median(v)), "p99": float(np.quantile(v, 0.99))}
            for name, v in values.items()
        }

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric that was asked for, its mean a token."""
        return {name: float(np.mean([p.metrics[name] for p in self.positions])) for name in self.positions[0].metrics}
