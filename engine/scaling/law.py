"""The law of two power laws: loss as parameters and tokens grow, and the best division of a budget between them.

L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al., arXiv:2203.15556, eq. 2), losses in nats a token, C = 6 N D
floating-point operations. Knows nothing of runs or of fits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

FLOP = 6.0  # of a token and a parameter, forward and backward

Number = Any  # a float, or an array of them


@dataclass(frozen=True, slots=True)
class Law:
    """E, that no model gets below, and how fast the rest falls with parameters and with tokens."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: Number, tokens: Number) -> Number:
        return self.E + self.A * parameters**-self.alpha + self.B * tokens**-self.beta

    @property
    def size_exponent(self) -> float:
        """a of N* = G (C / 6)^a: how the best size grows with the budget (eq. 4)."""
        return self.beta / (self.alpha + self.beta)

    def best(self, compute: float) -> tuple[float, float]:
        """The parameters and tokens that a budget of so many operations is best spent on (eq. 4)."""
        g = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        parameters = g * (compute / FLOP) ** self.size_exponent
        return parameters, compute / FLOP / parameters


def effective(tokens: np.ndarray, unique: np.ndarray, half_life: Number) -> np.ndarray:
    """The worth of repeated tokens in unique ones: U + U R* (1 - exp(-R / R*)), R the repetitions after the first
    epoch, R* = `half_life` (Muennighoff et al., arXiv:2305.16264, eq. 5)."""
    used = np.minimum(tokens, unique)
    repeats = tokens / used - 1.0
    worth: np.ndarray = used - used * half_life * np.expm1(-repeats / half_life)
    return worth
