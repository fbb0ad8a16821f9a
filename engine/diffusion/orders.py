"""Every order in which a masked model can read a text: what each costs, their mean, which is the bound, and -log p.

A model that is asked in order s gives p(x) = prod_k p(x_sk | those before) (arXiv:1310.1757). The mean of -log over all
orders is the bound of `engine.diffusion.bound`; the model's own p is that of the mixture over orders, never dearer
(Jensen). Nats, float64; no mlx.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from likely.engine.base.errors import ParameterError
from likely.engine.diffusion.bound import Denoiser

MOST = 6  # tokens: 720 orders


@dataclass(frozen=True, eq=False, slots=True)
class Orders:
    """All n = L! orders of a text of L tokens, in nats."""

    orders: np.ndarray  # int [n, L], the position that is read first, second, ...; the first row is left to right
    costs: np.ndarray  # [n, L], -log p of each in this turn

    @property
    def totals(self) -> np.ndarray:
        """[n], -log p of the text in each order."""
        sums: np.ndarray = self.costs.sum(axis=1)
        return sums

    @property
    def bound(self) -> float:
        """The mean over orders."""
        return float(self.totals.mean())

    @property
    def mixture(self) -> float:
        """-log p(x), p being the mean over orders."""
        least = self.totals.min()
        return float(least - np.log(np.exp(least - self.totals).mean()))


def every(denoise: Denoiser, ids: Sequence[int], mask: int) -> Orders:
    """All orders of a text, from one pass over its 2^L - 1 masks. ParameterError for a text of none or too many."""
    text, length = np.asarray(ids), len(ids)
    if not 1 <= length <= MOST:
        raise ParameterError(f"orders are listed of 1 to {MOST} tokens, got {length}: there are so many factorial")
    masked = (np.arange(1, 2**length)[:, None] >> np.arange(length) & 1).astype(bool)  # row m - 1: the bits of m
    logp = np.asarray(denoise(np.where(masked, mask, text)), np.float64)
    own = np.take_along_axis(logp, np.broadcast_to(text, masked.shape)[..., None], axis=-1)[..., 0]
    orders = np.array(list(permutations(range(length))))
    left = np.cumsum((1 << orders)[:, ::-1], axis=1)[:, ::-1]  # masks that are left in each turn, as bits
    return Orders(orders, -own[left - 1, orders])
