"""A law over all texts of LENGTH tokens, whose every conditional is known: the oracle of what is shown of diffusion."""

from collections.abc import Callable
from itertools import product

import numpy as np

TOKENS, LENGTH, MASK = 3, 4, 3
TEXTS = np.array(list(product(range(TOKENS), repeat=LENGTH)))  # [81, 4]


def drawn(seed: int = 0) -> np.ndarray:
    """p of each text, from a Dirichlet."""
    return np.random.default_rng(seed).dirichlet(np.full(len(TEXTS), 0.5))


def exact(p: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Log p(x_i | what is no mask) [B, T, V + 1], by adding up texts; the mask itself has no mass."""

    def denoise(ids: np.ndarray) -> np.ndarray:
        out = np.full((*ids.shape, TOKENS + 1), -np.inf)
        for row, canvas in zip(out, ids, strict=True):
            agrees = np.all((canvas == MASK) | (canvas == TEXTS), axis=1)
            for at in range(LENGTH):
                mass = np.bincount(TEXTS[agrees, at], p[agrees], TOKENS)
                with np.errstate(divide="ignore"):
                    row[at, :TOKENS] = np.log(mass / mass.sum())
        return out

    return denoise


def marginals(p: np.ndarray) -> np.ndarray:
    """[4, 3]"""
    return np.stack([np.bincount(TEXTS[:, at], p, TOKENS) for at in range(LENGTH)])


def alone(p: np.ndarray) -> np.ndarray:
    """The product of the marginals at each text."""
    found: np.ndarray = np.prod(marginals(p)[np.arange(LENGTH), TEXTS], axis=1)
    return found
