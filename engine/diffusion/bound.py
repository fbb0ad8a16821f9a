"""The bound on log p of a text by masked diffusion (NELBO): exact over all masks, or drawn, with its error.

-log p(x) <= sum over masks M of B(k, L - k + 1) sum_{i in M} -log p(x_i | x outside M), for L positions that may be
masked, k of them in M. As an expectation: k uniform in 1..L, M uniform of that size, weight L / k (arXiv:2502.09992).
Both are the same number whatever the noise schedule. Of a model of blocks it is the sum of the bounds of each block
given those before (arXiv:2503.09573, eq. 6), and of blocks of one token -log p itself. Nats, float64; no mlx.
"""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import combinations
from typing import Protocol, runtime_checkable

import numpy as np

from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.estimates import Estimate, mean
from likely.engine.sampling.trace.noise import sizes, times

Denoiser = Callable[[np.ndarray], np.ndarray]  # ids [B, T], some of them masks -> log-probabilities [B, T, V]
DRAWS = 128  # masks of a text where nobody says how many (arXiv:2502.09992)
BATCH = 8  # canvases of one pass, and draws of one group whose sizes are systematic


@runtime_checkable
class MaskedLosses(Protocol):
    """Losses of masked texts from whoever need not make all log-probabilities for them."""

    def lost(self, ids: np.ndarray, masked: np.ndarray) -> np.ndarray:
        """sum_{i in M} -log p(x_i | x outside M), [B], for ids [T] and masked bool [B, T]."""
        ...


def lost(denoise: Denoiser | MaskedLosses, ids: np.ndarray, masked: np.ndarray, mask: int) -> np.ndarray:
    """sum_{i in M} -log p(x_i | x outside M), [B], for ids [T] and masked bool [B, T]."""
    if isinstance(denoise, MaskedLosses):
        return denoise.lost(ids, masked)
    logp = np.asarray(denoise(np.where(masked, mask, ids)), np.float64)
    logp_true = np.take_along_axis(logp, np.broadcast_to(ids, masked.shape)[..., None], axis=-1)[..., 0]
    nll: np.ndarray = -np.where(masked, logp_true, 0.0).sum(axis=-1)
    return nll


def exact(
    denoise: Denoiser | MaskedLosses, ids: Sequence[int], mask: int, free: Sequence[bool] | None = None, block: int = 0
) -> float:
    """The bound on -log p(x) over all 2^L - 1 masks of the `free` positions, by default all; of each block's alone."""
    text, positions = _positions(ids, free)
    if block:
        return math.fsum(exact(denoise, part, mask, masked) for part, masked in _by_block(text, positions, block))
    return whole(_over_all(denoise, text, positions, mask))


def _over_all(
    denoise: Denoiser | MaskedLosses, text: np.ndarray, positions: np.ndarray, mask: int
) -> Generator[int, None, float]:
    total = []
    for group in _grouped(_every(positions, len(text))):
        k = group.sum(axis=-1)
        weights = np.array([1 / (n * math.comb(len(positions), n)) for n in k.tolist()])
        total.extend((weights * lost(denoise, text, group, mask)).tolist())
        yield len(group)
    return math.fsum(total)


def bound(
    denoise: Denoiser | MaskedLosses,
    ids: Sequence[int],
    mask: int,
    free: Sequence[bool] | None = None,
    *,
    block: int = 0,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The bound on -log p(x) from so many random masks, and its Monte-Carlo error; exact where no more masks exist.

    Of a model of blocks, `block` their size, as many are drawn for each.

    Sizes k are systematic within each group of BATCH draws, and the error is that of the groups, which are independent
    of each other. ParameterError for fewer than two groups, and for a part of one.
    """
    return whole(bounding(denoise, ids, mask, free, block=block, draws=draws, seed=seed))


def bounding(
    denoise: Denoiser | MaskedLosses,
    ids: Sequence[int],
    mask: int,
    free: Sequence[bool] | None = None,
    *,
    block: int = 0,
    draws: int = DRAWS,
    seed: int = 0,
) -> Generator[int, None, Estimate]:
    """`bound`, which it returns, a pass at a time: yields how many masked texts each has read."""
    text, positions = _positions(ids, free)
    if block:
        parts = []
        for i, (part, may) in enumerate(_by_block(text, positions, block)):
            parts.append((yield from bounding(denoise, part, mask, may, draws=draws, seed=seed + i)))
        error = math.hypot(*(one.error for one in parts))
        return Estimate(math.fsum(one.mean for one in parts), error, n=sum(one.n for one in parts))
    size = len(positions)
    if 2**size - 1 <= draws:
        return Estimate((yield from _over_all(denoise, text, positions, mask)), 0.0, n=2**size - 1)
    check_draws(draws)
    random = np.random.default_rng(seed)
    groups = []
    for _ in range(draws // BATCH):
        k = sizes(size, times(BATCH, random.random()))
        masked = np.zeros((BATCH, len(text)), bool)
        for row, n in zip(masked, k, strict=True):
            row[random.permutation(positions)[:n]] = True
        groups.append(float(np.mean(size / k * lost(denoise, text, masked, mask))))
        yield BATCH
    return mean(groups)


def check_draws(draws: int) -> None:
    """ParameterError where masks are not drawn in whole groups, two of them or more."""
    if draws < 2 * BATCH or draws % BATCH:
        raise ParameterError(f"masks are drawn by {BATCH}, {2 * BATCH} or more: give --draws {DRAWS}, got {draws}")


def _positions(ids: Sequence[int], free: Sequence[bool] | None) -> tuple[np.ndarray, np.ndarray]:
    text = np.asarray(ids)
    positions = np.arange(len(text)) if free is None else np.flatnonzero(free)
    if not len(positions):
        raise ParameterError("a bound is of tokens that may be masked, got none")
    return text, positions


def _by_block(text: np.ndarray, positions: np.ndarray, block: int) -> Iterator[tuple[list[int], list[bool]]]:
    """For each block with a place to mask the text to its end, and which positions of it may be masked."""
    for of in np.unique(positions // block).tolist():
        part = text[: (of + 1) * block]
        at = np.arange(len(part))
        yield part.tolist(), (np.isin(at, positions) & (at // block == of)).tolist()


def _every(positions: np.ndarray, length: int) -> Iterator[np.ndarray]:
    for k in range(1, len(positions) + 1):
        for chosen in combinations(positions.tolist(), k):
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
