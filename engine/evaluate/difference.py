"""What one model says of a text beside another: KL at every position, and the tokens that rose and fell. Plain data.

Log-probabilities in nats. Knows no model: `engine.evaluate.compare` measures.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shift:
    """A token whose probability changed; log-probabilities before and now."""

    token: int
    before: float
    now: float

    @property
    def change(self) -> float:
        """In probability."""
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
        found = [p.next for p in self.positions if p.next is not None]
        if not found:
            return float("nan"), float("nan")
        a, b = zip(*found, strict=True)
        return -float(np.mean(a)), -float(np.mean(b))
