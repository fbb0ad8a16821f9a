"""The bound on log p of a text by masked diffusion (NELBO): exact over all masks, or drawn, with its error.

-log p(x) <= sum over masks M of B(k, L - k + 1) sum_{i in M} -log p(x_i | x outside M), for L positions that may be
masked, k of them in M. As an expectation: k uniform in 1..L, M uniform of that size, weight L / k (arXiv:2502.09992).
Both are the same number whatever the noise schedule. Nats, float64; no mlx.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from engine.diffusion.noise import sizes, times
from engine.errors import ParameterError
from engine.evaluate.estimates import Estimate, mean

Denoiser = Callable[[np.ndarray], np.ndarray]  # ids [B, T], some of them masks -> log-probabilities [B, T, V]
BATCH = 8  # canvases of one pass, and draws of one group whose sizes are systematic


def lost(denoise: Denoiser, ids: np.ndarray, masked: np.ndarray, mask: int) -> np.ndarray:
    """sum_{i in M} -log p(x_i | x outside M), [B], for ids [T] and masked bool [B, T]."""
    logp = np.asarray(denoise(np.where(masked, mask, ids)), np.float64)
    said = np.take_along_axis(logp, np.broadcast_to(ids, masked.shape)[..., None], axis=-1)[..., 0]
    found: np.ndarray = -np.where(masked, said, 0.0).sum(axis=-1)
    return found


def exact(denoise: Denoiser, ids: Sequence[int], mask: int, free: Sequence[bool] | None = None) -> float:
    """The bound on -log p(x) over all 2^L - 1 masks of the `free` positions, by default all."""
    text, places = _places(ids, free)
    total = []
    for group in _grouped(_every(places, len(text))):
        k = group.sum(axis=-1)
        weights = np.array([1 / (n * math.comb(len(places), n)) for n in k.tolist()])
        total.extend((weights * lost(denoise, text, group, mask)).tolist())
    return math.fsum(total)


def bound(
    denoise: Denoiser,
    ids: Sequence[int],
    mask: int,
    free: Sequence[bool] | None = None,
    *,
    draws: int = 128,
    seed: int = 0,
) -> Estimate:
    """The bound on -log p(x) from so many random masks, and its Monte-Carlo error; exact where no more masks exist.

    Sizes k are systematic within each group of BATCH draws, and the error is that of the groups, which are independent
    of each other. ParameterError for fewer than two groups.
    """
    text, places = _places(ids, free)
    size = len(places)
    if 2**size - 1 <= draws:
        return Estimate(exact(denoise, ids, mask, free), 0.0, n=2**size - 1)
    if draws < 2 * BATCH:
        raise ParameterError(f"a bound is drawn from {2 * BATCH} masks or more, got {draws}")
    random = np.random.default_rng(seed)
    groups = []
    for _ in range(draws // BATCH):
        k = sizes(size, times(BATCH, random.random()))
        masked = np.zeros((BATCH, len(text)), bool)
        for row, n in zip(masked, k, strict=True):
            row[random.permutation(places)[:n]] = True
        groups.append(float(np.mean(size / k * lost(denoise, text, masked, mask))))
    return mean(groups)


def _places(ids: Sequence[int], free: Sequence[bool] | None) -> tuple[np.ndarray, np.ndarray]:
    text = np.asarray(ids)
    places = np.arange(len(text)) if free is None else np.flatnonzero(free)
    if not len(places):
        raise ParameterError("a bound is of tokens that may be masked, got none")
    return text, places


def _every(places: np.ndarray, length: int) -> Iterator[np.ndarray]:
    for k in range(1, len(places) + 1):
        for chosen in combinations(places.tolist(), k):
            row = np.zeros(length, bool)
            row[list(chosen)] = True
            yield row


def _grouped(rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    group: list[np.ndarray] = []
    for row in rows:
        group.append(row)
        if len(group) == BATCH:
            yield np.stack(group)
            group = []
    if group:
        yield np.stack(group)
