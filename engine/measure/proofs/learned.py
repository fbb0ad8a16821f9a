"""Models of the six letters that are learned on the spot, from texts drawn of them: by counting, by gradient descent.

Float64 and seeded: the same texts, the same model. Knows nothing of how it is used; no mlx.
"""

import numpy as np

from likely.engine.diffusion.bound import Denoiser
from likely.engine.measure.proofs.enumeration import (
    CHAIN,
    END,
    LETTERS,
    MASK,
    MOST,
    TABLE,
    entropies,
    normalised,
    spelled,
)


def drawn(count: int, length: int, seed: int = 0, table: np.ndarray = TABLE) -> np.ndarray:
    """Texts [count, length] of the source, or by another table of p(next | last): each letter by the one before; behind
    ∎ stand only more of them."""
    random = np.random.default_rng(seed)
    texts = np.full((count, length), END)
    chain = table.copy()
    chain[END] = CHAIN[END]
    for at in range(length):
        rows = chain[texts[:, at - 1]] if at else np.broadcast_to(table[END], (count, len(LETTERS)))
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


# -- by gradient descent -----------------------------------------------------------------------------------------------

BATCH = 32  # texts of a step


def trained(steps: int, rate: float, seed: int = 0) -> np.ndarray:
    """q(next | last) [steps + 1, 6, 6] after each step, that of knowing nothing first: logits that begin at 0, moved by
    the gradient of the cross-entropy of BATCH new texts, mean over their letters."""
    texts = drawn(steps * BATCH, MOST, seed).reshape(steps, -1, MOST)
    before = np.concatenate([np.full((*texts.shape[:2], 1), END), texts[..., :-1]], axis=-1)
    there = np.cumsum(before == END, axis=-1) == 1  # behind the ∎ that ends a text nothing is predicted
    size, logits = len(LETTERS), np.zeros((len(LETTERS), len(LETTERS)))
    laws = np.full((steps + 1, size, size), 1 / size)
    for step in range(steps):
        pairs = (size * before[step] + texts[step])[there[step]]
        counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
        logits -= rate * (counts.sum(axis=1, keepdims=True) * laws[step] - counts) / len(pairs)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        laws[step + 1] = powers / powers.sum(axis=1, keepdims=True)
    return laws


def visits() -> np.ndarray:
    """Shares [6] of the letters of a text of the source that stand behind each of LETTERS."""
    behind = [np.eye(len(LETTERS))[END]]
    for _ in range(MOST - 1):
        behind.append(np.where(np.arange(len(LETTERS)) == END, 0.0, behind[-1] @ TABLE))
    return normalised(np.sum(behind, axis=0))


def entropy() -> float:
    """H(p) of the source, nats a letter."""
    return float(visits() @ entropies())


def divergences(laws: np.ndarray) -> np.ndarray:
    """KL(p || q) [...] of laws [..., 6, 6] of the next letter, nats; with `entropy` the cross-entropy."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(TABLE > 0, TABLE * (np.log(TABLE) - np.log(laws)), 0.0)
    found: np.ndarray = parts.sum(axis=-1) @ visits()
    return found


def texts_of(table: np.ndarray, count: int, seed: int = 0) -> list[str]:
    """Texts as they are written, drawn by a table of p(next | last)."""
    return [spelled(text).rstrip(LETTERS[END]) or LETTERS[END] for text in drawn(count, MOST, seed, table)]
