"""Advantages: what each answer of a group to one problem is worth beside the others, and how its tokens share it.

With s the gradient of an answer's log-probability and r its reward, the gradient of the mean reward is E[r s], and as
E[s] = 0 any baseline that the answer itself has no part in leaves it so. Numbers alone: no model, no text.
"""

from collections.abc import Sequence

import numpy as np

from likely.engine.base.arrays import Array, Namespace

LOWER, HIGHER = 0.2, 0.28  # how far a ratio may be from 1 and still teach (DAPO, arXiv:2503.14476, eq. 10)
SMALL = 1e-4  # beside a standard deviation, as GRPO has it


def advantages(rewards: Sequence[float], how: str = "others") -> np.ndarray:
    """The advantages [G] of a group's rewards [G]; exactly 0 where all are equal.

    others: the reward less the mean of the others' (RLOO, arXiv:2402.14740, eq. 8), which leaves the gradient unbiased.
    std: less the mean of all, over their standard deviation (GRPO, arXiv:2402.03300, sec. 4.1): another objective,
    where rare and near certain successes count more. none: the reward itself (REINFORCE; of 0 and 1, only right answers
    are learned).
    """
    r: np.ndarray = np.asarray(rewards, np.float64)
    if how == "none":
        return r
    found: np.ndarray = np.zeros(len(r))
    if len(r) > 1 and not (r == r[0]).all():
        scale = len(r) / (len(r) - 1) if how == "others" else 1.0 / (float(r.std(ddof=1)) + SMALL)
        found += (r - float(r.mean())) * scale
    return found


def weights(advantages: Sequence[float], lengths: Sequence[int], share: str = "answers") -> np.ndarray:
    """The weight of the log-probability of each token of an answer [N], for the N answers of a step.

    answers: the advantage over N (the gradient of the mean reward). tokens: over the step's tokens (DAPO,
    arXiv:2503.14476, eq. 12). each: over N and the answer's own length (GRPO), by which long wrong answers lose less.
    """
    n: np.ndarray = np.asarray(lengths, np.float64)
    counted: np.ndarray = np.full(len(n), 1.0 / max(1, len(n)))
    if share == "tokens":
        counted[:] = 1.0 / max(1.0, float(n.sum()))
    elif share == "each":
        counted /= np.maximum(n, 1.0)
    counted *= np.asarray(advantages, np.float64)
    return counted


def clipped(change: Array, weights: Array, xp: Namespace) -> Array:
    """The loss [N] of tokens that are learned from again, whose log-probability has changed by so much since they were
    drawn: -min(ratio w, clip(ratio) w), so that what has moved far enough is let go (PPO, arXiv:1707.06347, eq. 7).

    Its slope by the log-probability is -w where that has not changed, as that of -w log p.
    """
    ratio = xp.exp(change)
    near = xp.minimum(xp.maximum(ratio, 1 - LOWER), 1 + HIGHER)
    return -xp.minimum(ratio * weights, near * weights)
