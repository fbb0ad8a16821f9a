"""Sampling-importance-resampling: of K answers that a constraint bound token by token, one by its weight.

Each was drawn from q(x) = prod p(x_i | x_<i) / A_i, A_i being the mass of all that was allowed, while the law that is
meant is p(x | x matches) (`engine.transforms.constraint`). So an answer has the weight w(x) = prod A_i, which is
p(x) / q(x), and each of the K is drawn with the probability w over the sum of all w (Rubin, JASA 82, 1987; Smith and
Gelfand, The American Statistician 46, 1992). As K grows its law goes to the one that is meant, at the rate 1/K
where weights are bounded, as these are; with K = 1 it is q. The K are worth (sum w)^2 / sum w^2 answers (Kong 1992).

Words that were forced have no weight, as nothing was drawn. Knows nothing of models; plain numpy.
"""

import math
from collections.abc import Sequence

import numpy as np

from likely.engine.base.arrays import logprobs
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.transforms import uniform


def constrained(steps: Sequence[TokenStep]) -> bool:
    """Whether a constraint bound an answer while it was drawn."""
    return any(step.logprob_allowed is not None for step in steps)


def log_weight(steps: Sequence[TokenStep]) -> float:
    """The logarithm of an answer's weight, nats: 0 where no constraint took anything away."""
    return math.fsum(step.logprob_allowed or 0.0 for step in steps if step.origin == "drawn")


def shares(log_weights: Sequence[float]) -> np.ndarray:
    """The probabilities [K] with which each is drawn."""
    weights: np.ndarray = np.exp(logprobs(np.array(log_weights, np.float64), np))
    return weights


def resampled(log_weights: Sequence[float], seed: int) -> int:
    """The place of the one that is drawn, the same for the same seed."""
    mass = np.cumsum(shares(log_weights))
    return int(np.searchsorted(mass, uniform((seed, len(log_weights)), "resample") * mass[-1], side="right"))


def effective_size(log_weights: Sequence[float]) -> float:
    """How many answers of one weight these are worth: 1 to K."""
    return float(1 / (shares(log_weights) ** 2).sum())
