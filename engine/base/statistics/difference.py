"""Difference of two models on one text: KL at every position, and the tokens that rose and fell. Plain data.

Log-probabilities in nats. Knows no model: `engine.statistics.compare` measures.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from likely.engine.base.statistics.estimates import Estimate, blockwise
from likely.engine.base.statistics.scores import surprisal

Pair = tuple[int, int]  # whose text it is, and who reads it


@dataclass(frozen=True)
class TokenSequence:
    """A text to be read: what comes after each of its positions from `start` on is looked at."""

    ids: tuple[int, ...]
    start: int = 0
    ended: bool = False  # nothing is to come after its last token


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

    def along(self, name: str = "kl") -> list[float]:
        """The KL(B || A), or a metric that was asked for, at each position."""
        return [p.kl if name == "kl" else p.metrics[name] for p in self.positions]

    def estimate(self, name: str = "kl") -> Estimate:
        """The mean of `along`, with an interval by blocks of neighbours; none of them is ever below 0."""
        return blockwise(self.along(name)).within(0)

    @property
    def costs(self) -> tuple[Estimate, Estimate]:
        """The cost of a token of the text under each, nats."""
        return blockwise([-a for a, _ in self._next]).within(0), blockwise([-b for _, b in self._next]).within(0)

    @property
    def excess(self) -> Estimate:
        """How much more a token costs under B than under A, nats, paired: below 0 where B is the better one."""
        return blockwise([b - a if a != b else 0.0 for b, a in ((-now, -before) for before, now in self._next)])

    @property
    def _next(self) -> list[tuple[float, float]]:
        return [p.next for p in self.positions if p.next is not None]

    @property
    def forks(self) -> tuple[int, ...]:
        """The positions at which their most likely tokens differ."""
        return tuple(i for i, p in enumerate(self.positions) if p.top[0] != p.top[1])

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
        before, now = surprisal(a for a, _ in self._next), surprisal(b for _, b in self._next)
        return math.nan if before is None else before, math.nan if now is None else now

    @property
    def spread(self) -> dict[str, dict[str, float]]:
        """Mean, median and 99th percentile over the positions of the KL and each metric that was asked for."""
        values = {name: self.along(name) for name in ("kl", *self.positions[0].metrics)}
        return {
            name: {"mean": float(np.mean(v)), "median": float(np.median(v)), "p99": float(np.quantile(v, 0.99))}
            for name, v in values.items()
        }

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric that was asked for, its mean a token."""
        return {name: float(np.mean([p.metrics[name] for p in self.positions])) for name in self.positions[0].metrics}
