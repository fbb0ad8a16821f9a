"""Reward against KL: the law that buys most reward for its distance from the base, and the best of n draws beside it.

q* = argmax E_q r - beta KL(q || p) is p e^(r / beta) / Z (arXiv:2305.18290, eq. 4). Over listed answers, float64, nats;
no mlx.
"""

from dataclasses import dataclass

import numpy as np

from likely.engine.base import arrays


@dataclass(frozen=True, eq=False, slots=True)
class AlignedDistribution:
    """A law q [n] of answers, its mean reward, and KL(q || p) in nats."""

    q: np.ndarray
    reward: float
    kl: float


def aligned(q: np.ndarray, p: np.ndarray, rewards: np.ndarray) -> AlignedDistribution:
    """A law beside its base p [n], with rewards [n] of the answers."""
    with np.errstate(divide="ignore"):
        return AlignedDistribution(q, float(q @ rewards), float(arrays.kl(np.log(q), np.log(p), np)))


def tilted(p: np.ndarray, rewards: np.ndarray, beta: float) -> AlignedDistribution:
    """q* of a price `beta` of a nat: p e^(r / beta), normalised."""
    weights = p * np.exp((rewards - rewards.max()) / beta)
    return aligned(weights / weights.sum(), p, rewards)


def best_of(count: int, p: np.ndarray, rewards: np.ndarray) -> AlignedDistribution:
    """The best by reward of so many answers drawn from p; of equal ones any, by its p."""
    q = np.zeros(len(p))
    for reward in np.unique(rewards):
        equal = rewards == reward
        below, upto = p[rewards < reward].sum(), p[rewards <= reward].sum()
        q[equal] = (upto**count - below**count) * p[equal] / p[equal].sum()
    return aligned(q, p, rewards)
