"""Uncertainty of a prediction: entropy that more data could lower (epistemic) and that it could not (aleatoric).

Of M samples of a posterior over weights, p = mean p_m: H(p) = mean H(p_m) + I, and the mutual information I between
the next token and the weights is the epistemic part (Depeweg et al. 2018, eq. 6). Plain data and numpy; no mlx.
"""

import math
from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import ParameterError

FEWEST, MOST = 2, 8  # samples: rows of one batch


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """Uncertainty of a next token, nats: the mean entropy of `samples` samples, and their mean KL to their mean, I.

    For some tokens `ids` [K]: `mean` [K] of their probabilities over the samples, and `spread` [K], the standard
    deviation over them.
    """

    samples: int
    aleatoric: float
    epistemic: float
    ids: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    elapsed_s: float = 0.0  # that it took, where that was measured

    @property
    def total(self) -> float:
        """Entropy of the samples' mean."""
        return self.aleatoric + self.epistemic


def check_samples(samples: int) -> None:
    """ParameterError for a number of samples that cannot be rows of a batch here."""
    if not FEWEST <= samples <= MOST:
        raise ParameterError(f"samples of a posterior must be {FEWEST} to {MOST}, got {samples}")


def probit(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Probabilities [..., K] of classes whose logits are Gaussian: softmax(m / sqrt(1 + pi v / 8)).

    MacKay 1992, eq. 12, and by class as in Kristiadi et al. 2020, where covariances are left out. Of one logit [..., 1]
    it is the sigmoid.
    """
    shrunk = np.asarray(mean, np.float64) / np.sqrt(1 + math.pi / 8 * np.asarray(variance, np.float64))
    if shrunk.shape[-1] == 1:
        return np.asarray(1 / (1 + np.exp(-shrunk)))
    mass = np.exp(shrunk - shrunk.max(axis=-1, keepdims=True))
    return np.asarray(mass / mass.sum(axis=-1, keepdims=True))


def sampled(mean: np.ndarray, covariance: np.ndarray, draws: int = 10_000, seed: int = 0) -> np.ndarray:
    """Probabilities [K] of classes whose logits are N(mean [K], covariance [K, K]): the mean softmax of `draws`."""
    random = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    root = vectors * np.sqrt(np.maximum(values, 0))
    logits = mean + random.standard_normal((draws, len(mean))) @ root.T
    return np.asarray(probit(logits, np.zeros(1)).mean(axis=0))
