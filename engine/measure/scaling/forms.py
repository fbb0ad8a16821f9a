"""Forms that scaling laws take: the log of a loss by a few free numbers, with its gradient, at given runs.

All are sums of terms that are powers, so a log-loss is a log-sum-exp of lines and its gradient has their shares in it.
Logarithms of the runs are centred, which takes most of the tie between a factor and its exponent away. Knows nothing of
how the numbers are found.
"""

from dataclasses import dataclass, field

import numpy as np

from likely.engine.measure.scaling.scaling_law import ScalingLaw, effective


def log_sum(*terms: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """log of the sum of exp of terms, and the share of each."""
    stacked = np.stack(np.broadcast_arrays(*terms))
    top = stacked.max(0)
    parts = np.exp(stacked - top)
    total = parts.sum(0)
    return top + np.log(total), list(parts / total)


@dataclass(frozen=True)
class PowerLaws:
    """theta = (log A', log B', log E, alpha, beta) at runs of `parameters` and `tokens` [n]; A', B' of the centred."""

    parameters: np.ndarray
    tokens: np.ndarray
    x: np.ndarray = field(init=False)
    y: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", np.log(self.parameters) - np.log(self.parameters).mean())
        object.__setattr__(self, "y", np.log(self.tokens) - np.log(self.tokens).mean())

    def log_loss(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b, e, alpha, beta = theta.T[..., None]
        value, (of_n, of_d, of_e) = log_sum(a - alpha * self.x, b - beta * self.y, e + 0 * self.x)
        return value, np.stack([of_n, of_d, of_e, -of_n * self.x, -of_d * self.y], -1)

    def starts(self, loss: np.ndarray, exponents: np.ndarray) -> np.ndarray:
        """Thetas [R, 5] of all pairs of exponents: given these the law is linear in A', B' and E, which the least
        relative squares give (variable projection, Golub and Pereyra 1973)."""
        alpha, beta = (grid.ravel() for grid in np.meshgrid(exponents, exponents))
        ones = np.ones((len(alpha), len(self.x)))
        parts = np.stack([np.exp(-np.outer(alpha, self.x)), np.exp(-np.outer(beta, self.y)), ones], -1)
        parts /= loss[:, None]
        size = parts.max(1)
        scaled = parts / size[:, None]
        square = scaled.swapaxes(-1, -2) @ scaled + 1e-12 * np.eye(3)
        linear = np.linalg.solve(square, scaled.sum(1)[..., None])[..., 0] / size
        return np.column_stack([np.log(np.maximum(linear, 1e-3 * loss.min())), alpha, beta])

    def laws(self, theta: np.ndarray) -> np.ndarray:
        """E, A, B, alpha, beta [R, 5] of thetas, of parameters and tokens as they are."""
        a, b, e, alpha, beta = theta.T
        a = a + alpha * np.log(self.parameters).mean()
        b = b + beta * np.log(self.tokens).mean()
        with np.errstate(over="ignore"):
            return np.stack([np.exp(e), np.exp(a), np.exp(b), alpha, beta], -1)

    def law(self, theta: np.ndarray) -> ScalingLaw:
        """The law of one theta [5]."""
        return ScalingLaw(*(float(number) for number in self.laws(theta[None])[0]))


@dataclass(frozen=True)
class PowerLaw:
    """theta = (log A', alpha) at n points of one scale: L(x) = A x^-alpha, of a loss that falls to nothing."""

    scale: np.ndarray

    def log_loss(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, alpha = theta.T[..., None]
        x = np.log(self.scale) - np.log(self.scale).mean()
        value = a - alpha * x
        return value, np.stack([np.ones_like(value), np.broadcast_to(-x, value.shape)], -1)


@dataclass(frozen=True)
class RepeatedTokens:
    """theta = (log A', log B', log E, alpha, beta, log R*): tokens that were read again count by `law.effective`."""

    parameters: np.ndarray
    tokens: np.ndarray
    unique: np.ndarray

    def log_loss(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b, e, alpha, beta, half = theta.T[..., None]
        half = np.exp(half)
        once = np.minimum(self.tokens, self.unique)
        worth = effective(self.tokens, self.unique, half)
        x = np.log(self.parameters) - np.log(self.parameters).mean()
        y = np.log(worth) - np.log(once).mean()
        value, (of_n, of_d, of_e) = log_sum(a - alpha * x, b - beta * y, e + 0 * x)
        over = (self.tokens / once - 1.0) / half
        grown = once * half * (-np.expm1(-over) - over * np.exp(-over)) / worth  # d log D' / d log R*
        return value, np.stack([of_n, of_d, of_e, -of_n * x, -of_d * y, -of_d * beta * grown], -1)


@dataclass(frozen=True)
class BrokenPowerLaw:
    """theta = (log b, log E, c0, c1, log d, log f): L(C) = E + b C^-c0 (1 + (C / d)^(1 / f))^(-c1 f), a power of
    compute whose exponent goes from c0 to c0 + c1 around d (Caballero et al., arXiv:2210.14891, eq. 1, one break)."""

    compute: np.ndarray
    centre: float  # that is taken from log C, and so from log d

    def log_loss(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        b, e, c0, c1, d, f = theta.T[..., None]
        x = np.log(self.compute) - self.centre
        f = np.exp(f)
        u = (x - d) / f
        bend = np.logaddexp(0, u)
        past = np.exp(u - bend)  # the logistic function of u
        value, (of_b, of_e) = log_sum(b - c0 * x - c1 * f * bend, e + 0 * x)
        by_f = of_b * c1 * f * (past * u - bend)
        return value, np.stack([of_b, of_e, -of_b * x, -of_b * f * bend, of_b * c1 * past, by_f], -1)
