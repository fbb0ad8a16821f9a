"""Noise schedules of masked diffusion: with which probability a token is masked at time t in [0, 1].

At time 0 nothing is masked, at 1 all. Of the cosine alpha is cos(pi t / 2), as in the code of MDLM and BD3-LM. The
bound does not depend on the schedule (arXiv:2406.07524), its variance does. No mlx; knows nothing of models.
"""

import math
from collections.abc import Callable

import numpy as np

# the probability at times of any shape: 1 - alpha(t)
SCHEDULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda t: t,
    "cosine": lambda t: 1 - np.cos(t * math.pi / 2),
}


def times(count: int, start: float) -> np.ndarray:
    """Low-discrepancy times [count] in [0, 1): (start + i / count) mod 1, each uniform where `start` is.

    Together they cover the interval evenly, so that a batch's mean varies less (arXiv:2107.00630, app. I.1).
    """
    strata: np.ndarray = (start + np.arange(count) / count) % 1
    return strata


def sizes(tokens: np.ndarray | int, t: np.ndarray) -> np.ndarray:
    """How many of so many tokens are masked where t is uniform in [0, 1) and exactly k are: k uniform in 1..tokens."""
    counts: np.ndarray = 1 + np.floor(tokens * t).astype(np.int64)
    return counts
