"""Attention sink: the first token, on which heads rest what they have nothing to read with (arXiv:2309.17453).

Of weights as arrays: knows no model, no mlx.
"""

import numpy as np


def without_first(weights: np.ndarray) -> np.ndarray:
    """Weights [..., N, T] with the first token left out, each row to sum to 1 again; 0 where it read nothing else."""
    rest = weights.copy()
    rest[..., 0] = 0
    total = rest.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(rest, total, out=np.zeros_like(rest), where=total > 0))
