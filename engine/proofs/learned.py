"""A model of the six letters that is learned on the spot, from texts that are drawn of them: a masked one by counting.

Float64 and seeded: the same texts, the same model. Knows nothing of how it is used; no mlx.
"""

import numpy as np

from likely.engine.diffusion.bound import Denoiser
from likely.engine.proofs.enumeration import CHAIN, END, LETTERS, MASK, TABLE


def drawn(count: int, length: int, seed: int = 0) -> np.ndarray:
    """Texts [count, length] of the source, each letter by the one before; behind ∎ stand only more of them."""
    random = np.random.default_rng(seed)
    texts = np.full((count, length), END)
    for at in range(length):
        rows = CHAIN[texts[:, at - 1]] if at else np.broadcast_to(TABLE[END], (count, len(LETTERS)))
        texts[:, at] = (random.random((count, 1)) > np.cumsum(rows, axis=1)).sum(axis=1).clip(max=len(LETTERS) - 1)
    return texts


def counted(texts: np.ndarray) -> Denoiser:
    """A masked model that has read texts [n, T]: p(x_i | what is seen) by how many of them agree with all that is seen,
    one more for each letter (Laplace). Sure of little where few agree, so its orders do not cost the same."""

    def denoise(ids: np.ndarray) -> np.ndarray:
        agree = ((ids[:, None] == texts) | (ids[:, None] == MASK)).all(axis=-1).astype(np.float64)  # [B, n]
        seen = np.eye(len(LETTERS))[texts]  # [n, T, 6]
        counts = 1 + np.einsum("bn,ntv->btv", agree, seen)
        logp: np.ndarray = np.log(counts / counts.sum(axis=-1, keepdims=True))
        return logp

    return denoise
