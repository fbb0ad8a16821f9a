"""What one row of logits has to say, in one pass of the library of packed weights: sums, candidates and a histogram.

The numbers of a step without a sort of the vocabulary: 151,936 logits take some 0.2 ms. Knows neither mlx nor a step of
the engine; whoever has logits in numpy may call it. None where there is no library, and the caller has to sort.
"""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metal.packed import load

CANDIDATES, BINS = 256, 64
SPAN = 32.0  # nats below the most likely token of the rest that the histogram resolves


class LogitsError(ValueError):
    """Logits that are no numbers, or of which none is possible."""


class _Scan(ctypes.Structure):
    """`scan_t` of packed.h."""

    _fields_ = (
        *((name, ctypes.c_float) for name in ("max", "least", "second")),
        *((name, ctypes.c_int) for name in ("possible", "rank", "candidates", "unusable")),
        *((name, ctypes.c_double) for name in ("sum", "weighted", "mean", "variance")),
    )


@dataclass(frozen=True, slots=True)
class LogitStatistics:
    """Of logits [V], of which some may be -inf, that is impossible: nothing but their number counts."""

    possible: int
    rank: int  # of the token asked for: 1 + how many are larger
    max: float
    lse: float  # nats
    entropy: float  # nats
    mean: float  # of the possible ones
    variance: float
    ids: np.ndarray  # int32, at most CANDIDATES: the most likely tokens, descending, equal ones by id
    edges: np.ndarray  # float32 [BINS + 1]: of the possible others
    counts: np.ndarray  # int32 [BINS], a logit on an edge in the bin above
    lses: np.ndarray  # float64 [BINS], nats: log-sum-exp of the logits of each bin, -inf for an empty one


def statistics(logits: np.ndarray, token: int, apart: Sequence[int] | np.ndarray = ()) -> LogitStatistics | None:
    """Of float32 logits [V]; the tokens `apart` are in no bin. None where there is no library.

    LogitsError for a NaN or +inf among them, and where all are -inf.
    """
    library = load()
    if library is None:
        return None
    n = len(logits)
    if logits.dtype != np.float32 or logits.ndim != 1 or not logits.flags.c_contiguous or not 0 <= token < n:
        raise LogitsError(f"float32 logits of {n} tokens in a row expected, got {logits.dtype} {logits.shape}, {token}")
    found, ids, work = _Scan(rank=token), np.empty(CANDIDATES, np.int32), np.empty(n + n // 128 + 1, np.uint64)
    at, scan = ctypes.c_void_p(logits.ctypes.data), ctypes.byref(found)
    library.handle.likely_scan(at, n, scan, ctypes.c_void_p(ids.ctypes.data), ctypes.c_void_p(work.ctypes.data))
    if found.unusable:
        bad = int(np.flatnonzero(~(logits < np.inf))[0])
        raise LogitsError(f"logits must be numbers, got {logits[bad]} for token {bad}: the model's output is damaged")
    if not found.possible:
        raise LogitsError("no token is possible: all logits are -inf")
    ids = ids[: found.candidates]
    edges, counts, sums = np.zeros(BINS + 1, np.float32), np.zeros(BINS, np.int32), np.zeros(BINS)
    lses = np.full(BINS, -np.inf)
    if found.possible > CANDIDATES:
        low, high = np.float32(found.least), np.float32(found.second)
        edges = np.linspace(max(low, high - SPAN), high, BINS + 1).astype(np.float32)
        edges[0], edges[-1] = low, high
        others = np.array(sorted({*map(int, apart)} - {*ids.tolist()}), np.int32)
        base = ctypes.c_float()
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (ids, others, edges, counts, sums))
        ids_at, others_at, edges_at, counts_at, sums_at = pointers
        library.handle.likely_bins(
            at, n, scan, ids_at, others_at, len(others), edges_at, counts_at, sums_at, ctypes.byref(base)
        )
        some = counts > 0
        lses[some] = np.log(sums[some]) + found.second
        if some[0]:
            lses[0] = math.log(sums[0]) + base.value
    log = math.log(found.sum)
    return LogitStatistics(
        possible=found.possible,
        rank=found.rank,
        max=found.max,
        lse=found.max + log,
        entropy=max(log - found.weighted / found.sum, 0.0),
        mean=found.mean,
        variance=max(found.variance, 0.0),
        ids=ids,
        edges=edges,
        counts=counts,
        lses=lses,
    )
