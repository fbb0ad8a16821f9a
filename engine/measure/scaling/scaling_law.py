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
class ScalingLaw:
    """E, that no model gets below, and how fast the rest falls with parameters and tokens; arrays of several laws."""

    E: Number
    A: Number
    B: Number
    alpha: Number
    beta: Number

    def __str__(self) -> str:
        """One law, as it is read."""
        return f"L(N, D) = {self.E:.3g} + {self.A:.3g}/N^{self.alpha:.3f} + {self.B:.3g}/D^{self.beta:.3f}"

    def loss(self, parameters: Number, tokens: Number) -> Number:
        with np.errstate(all="ignore"):  # far outside of the runs that it is of, inf or nan
            return self.E + self.A * np.power(parameters, -self.alpha) + self.B * np.power(tokens, -self.beta)

    @property
    def size_exponent(self) -> Number:
        """a of N* = G (C / 6)^a: how the best size grows with the budget (eq. 4)."""
        return self.beta / (self.alpha + self.beta)

    def best(self, compute: Number) -> tuple[Number, Number]:
        """The parameters and tokens that a budget of so many operations is best spent on (eq. 4); nan where the loss
        does not fall with both, so that none are."""
        a, b, alpha, beta = (np.asarray(number, np.float64) for number in (self.A, self.B, self.alpha, self.beta))
        falls = np.where((alpha > 0) & (beta > 0), 1.0, np.nan)
        with np.errstate(all="ignore"):
            g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
            parameters = falls * g * (compute / FLOP) ** (beta / (alpha + beta))
            return parameters, compute / FLOP / parameters


def effective(tokens: np.ndarray, unique: np.ndarray, half_life: Number) -> np.ndarray:
    """The worth of repeated tokens in unique ones: U + U R* (1 - exp(-R / R*)), R the repetitions after the first
    epoch, R* = `half_life` (Muennighoff et al., arXiv:2305.16264, eq. 5)."""
    used = np.minimum(tokens, unique)
    repeats = tokens / used - 1.0
    worth: np.ndarray = used - used * half_life * np.expm1(-repeats / half_life)
    return worth
