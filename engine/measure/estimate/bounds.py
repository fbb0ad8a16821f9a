"""Bounds on the risk of rows to come, by rows held out and by a posterior over weights; vacuous ones say so.

All hold with a stated confidence for rows that are drawn independently from one law, whatever it is. Knows no model.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import incomplete_beta

DELTA = 0.05  # how often a bound may fail
FINEST, LARGEST_PRIOR = 100, 0.1  # variances of the prior: 0.1 exp(-j / 100), j = 1, 2, ... (Dziugaite and Roy, sec. 5)
PRIORS = 3000


@dataclass(frozen=True, slots=True)
class RiskBound:
    """The mean loss of `n` rows, and what that of rows to come is below with the confidence; `trivial` is known without
    any row: 1 for a share of errors, log V for a guess by chance."""

    name: str
    n: int
    empirical: float
    upper: float
    trivial: float
    confidence: float
    kl: float | None = None  # of the posterior from the prior, nats

    @property
    def is_vacuous(self) -> bool:
        return self.upper >= self.trivial


def clopper_pearson(errors: int, n: int, delta: float = DELTA) -> float:
    """The largest p at which so few errors of n come with probability delta (Biometrika 1934, one-sided)."""
    if not 0 <= errors <= n or not n:
        raise DataError(f"a bound takes 1 row or more and errors among them, got {errors} of {n}")
    if errors == n:
        return 1.0
    return _last(lambda p: 1 - incomplete_beta(errors + 1, n - errors, p) >= delta, errors / n)


def hoeffding(mean: float, n: int, largest: float, delta: float = DELTA) -> float:
    """mean + largest sqrt(log(1 / delta) / 2 n) for losses from 0 to `largest` (JASA 1963, theorem 2)."""
    return mean + largest * math.sqrt(math.log(1 / delta) / (2 * n))


def smoothed(probabilities: np.ndarray, vocabulary: int, share: float) -> np.ndarray:
    """-log((1 - share) p + share / V): the loss of a model that guesses so often, at most log(V / share) nats (Lotfi et
    al., arXiv:2312.17173, sec. 4)."""
    lost: np.ndarray = -np.log((1 - share) * probabilities + share / vocabulary)
    return lost


def binary_kl(q: float, p: float) -> float:
    """KL(q || p) of two Bernoulli distributions, nats."""
    parts = [(q, p), (1 - q, 1 - p)]
    return math.fsum(0.0 if not a else math.inf if not b else a * math.log(a / b) for a, b in parts)


def kl_inverse(q: float, budget: float) -> float:
    """The largest p with kl(q || p) <= budget."""
    return _last(lambda p: binary_kl(q, p) <= budget, q)


def _last(holds: Callable[[float], bool], low: float, high: float = 1.0) -> float:
    """Where a condition that holds at low ends, from above."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


@dataclass(frozen=True)
class GaussianPosterior:
    """Independent normal weights around `mean`, by name, each with its `variance`; `start` is where the prior is
    centred, which no training row may have moved."""

    mean: Mapping[str, np.ndarray]
    variance: Mapping[str, np.ndarray]
    start: Mapping[str, np.ndarray]

    def draw(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        return {
            name: mean + np.sqrt(self.variance[name]) * random.standard_normal(np.shape(mean))
            for name, mean in self.mean.items()
        }

    def divergence(self, delta: float = DELTA) -> tuple[float, float]:
        """KL from the prior N(start, variance I) nats, of the best of a countable family of variances, and the delta
        that is left for it: 6 delta / (pi j)^2 of the j-th (Dziugaite and Roy, arXiv:1703.11008, eq. 5)."""
        count, far, spread, logs = 0, 0.0, 0.0, 0.0
        for name, mean in self.mean.items():
            variance = np.broadcast_to(np.asarray(self.variance[name], np.float64), np.shape(mean))
            if not (variance > 0).all():
                raise DataError(f"a posterior needs variances above 0, and one of {name} is not")
            count += variance.size
            far += float(np.square(np.asarray(mean, np.float64) - self.start[name]).sum())
            spread += float(variance.sum())
            logs += float(np.log(variance).sum())
        number = np.arange(1, PRIORS + 1)
        prior = LARGEST_PRIOR * np.exp(-number / FINEST)
        kl = 0.5 * ((spread + far) / prior - count + count * np.log(prior) - logs)
        best = int(np.argmin(kl + 2 * np.log(number)))
        return float(kl[best]), 6 * delta / (math.pi * float(number[best])) ** 2


def pac_bayes(
    losses: Sequence[float], n: int, posterior: GaussianPosterior, delta: float = DELTA, tried: int = 1
) -> tuple[float, float]:
    """The risk of a model drawn from the posterior, 0 to 1, and KL: from the mean losses (0 to 1) of some that were
    drawn, on the n rows that it was made of. kl(of rows || of the law) <= (KL + log(2 sqrt(n) / delta)) / n (Maurer,
    cs/0411099), of any posterior, so also of the best of several.

    Half of delta is for the draws being few (Langford and Caruana 2001), a part of it for each posterior `tried`.
    """
    kl, rest = posterior.divergence(delta / 2)
    empirical = kl_inverse(float(np.mean(losses)), math.log(2 / (delta / 2 / tried)) / len(losses))
    return kl_inverse(empirical, (kl + math.log(2 * math.sqrt(n) / rest)) / n), kl
