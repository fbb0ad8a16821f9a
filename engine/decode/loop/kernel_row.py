"""A row's statistics by the vocabulary kernels: what `engine.trace.row` says of logits that stay on the GPU.

Knows nothing of models and recipes.
"""

import math
from collections.abc import Sequence

import numpy as np

from likely.engine.sampling.trace.row import RowStatistics, require_finite, with_others
from likely.engine.sampling.transforms.snapshot import BINS, CANDIDATES, Snapshot
from likely.metal import mx
from likely.metal.row import UNIT, RowScan


def apart(drawn: mx.array, flying: Sequence[mx.array], texts: Sequence[Sequence[int]], recent: int) -> mx.array:
    """The tokens that a snapshot holds besides the most likely, int32 [N, recent + 1]: the one drawn, and the last.

    `drawn` [N] follow `texts` and, behind those, tokens that are `flying`, one for each text or none. Texts that are
    shorter are filled up with the one drawn.
    """
    first = drawn.astype(mx.int32)[:, None]
    parts = [first]
    if flying:
        parts.append(mx.stack([token.astype(mx.int32) for token in flying])[:, None])
    count = min(len(texts[0]), recent - len(parts) + 1)
    if count:
        parts.append(mx.array([list(text[len(text) - count :]) for text in texts], dtype=mx.int32))
    have = len(parts) - (count > 0) + count
    if have < recent + 1:
        parts.append(mx.broadcast_to(first, (first.shape[0], recent + 1 - have)))
    return mx.concatenate(parts, axis=1)


def measured(
    scan: RowScan, at: mx.array, row: int, vocab: int, *, lse: float, entropy: float, token: int
) -> RowStatistics:
    """Statistics of one row of a scan, with the tokens `at` apart; waits for it.

    NotFinite where logits are no numbers."""
    ids, best, edges, tokens, logits = (np.asarray(x)[row] for x in (scan.ids, scan.best, scan.edges, at, scan.apart))
    counted, larger = np.asarray(scan.possible)[row], int(np.asarray(scan.larger)[row].sum())
    possible = int(counted.sum())
    require_finite(lse if math.isnan(lse) else float(best[0]), vocab)
    best, ids = best[: min(possible, CANDIDATES)], ids[: min(possible, CANDIDATES)]
    everyone = with_others(ids, tokens, token)
    known = dict(zip(tokens.tolist(), logits.tolist(), strict=True))
    others = np.array([known[i] for i in everyone[len(ids) :].tolist()], np.float32)
    mean, variance = _moments(counted, np.asarray(scan.moments)[row].astype(np.float64))
    counts, lses = np.zeros(BINS, np.int32), np.full(BINS, -np.inf)
    if possible > CANDIDATES:
        counts, lses = _bins(scan, row, edges)
    snapshot = Snapshot(
        vocab=vocab,
        ids=everyone,
        logits=np.concatenate([best, others]),
        lse=lse,
        mean=mean,
        variance=variance,
        edges=edges,
        counts=counts,
        lses=lses.astype(np.float32),
    )
    return RowStatistics(snapshot, entropy, possible, known[token], 1 + larger)


def _moments(counts: np.ndarray, moments: np.ndarray) -> tuple[float, float]:
    """Mean and variance of chunks together, from those of each (Chan, Golub, LeVeque 1979)."""
    there = counts > 0
    n, means, squares = counts[there], moments[there, 0] + moments[there, 3], moments[there, 4]
    mean = float(n @ means) / n.sum()
    return mean, float(squares.sum() + n @ (means - mean) ** 2) / float(n.sum())


def _bins(scan: RowScan, row: int, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts int32 and log masses float64 [BINS] of the chunks together."""
    filled, masses = (np.asarray(x)[row] for x in (scan.filled, scan.masses))
    counts = filled.sum(axis=0, dtype=np.int64).astype(np.int32)
    with np.errstate(divide="ignore"):
        lses = np.log(masses.sum(axis=0, dtype=np.float64) * UNIT) + edges[1:]
        if counts[0]:
            chunk_lses = np.log(masses[:, 0] * UNIT) + np.asarray(scan.lows)[row].astype(np.float64)
            lses[0] = np.logaddexp.reduce(chunk_lses[filled[:, 0] > 0])
    return counts, np.where(counts > 0, lses, -np.inf)
