"""Noise schedules of masked diffusion: with which probability a token is masked at time t in [0, 1].

At time 0 nothing is masked, at 1 all. Of the cosine alpha is cos(pi t / 2), as in the code of MDLM and BD3-LM. The
bound does not depend on the schedule (arXiv:2406.07524), its variance does. No mlx; knows nothing of models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """1 - alpha(t) and its derivative, for times of any shape."""

    masked: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]

    def weight(self, t: np.ndarray) -> np.ndarray:
        """-alpha'(t) / (1 - alpha(t)): what the loss of each masked token counts (arXiv:2406.07524)."""
        weights: np.ndarray = self.slope(t) / self.masked(t)
        return weights


LINEAR = NoiseSchedule(lambda t: t, lambda t: np.ones_like(t))
COSINE = NoiseSchedule(lambda t: 1 - np.cos(t * math.pi / 2), lambda t: np.sin(t * math.pi / 2) * math.pi / 2)
SCHEDULES = {"linear": LINEAR, "cosine": COSINE}


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
