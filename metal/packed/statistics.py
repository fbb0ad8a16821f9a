"""Statistics of one row of logits by the library of packed weights: sums, candidates and a histogram, without a sort.

A sort of 151,936 logits takes ten times as long. Knows neither mlx nor a step of the engine: whoever has logits in
numpy may call it. None where there is no library, and the caller has to sort.
"""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likely.metal.packed import load

CANDIDATES, BINS = 256, 64
SPAN = 32.0  # nats below the most likely token of the rest that the histogram resolves
_STEPS = np.arange(BINS + 1, dtype=np.float32)


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
    others: np.ndarray  # int32: tokens that were to be apart and are not among `ids`, ascending
    edges: np.ndarray  # float32 [BINS + 1]: of the possible others
    counts: np.ndarray  # int32 [BINS], a logit on an edge in the bin above
    lses: np.ndarray  # float64 [BINS], nats: log-sum-exp of the logits of each bin, -inf for an empty one


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over logits, of which some may be impossible."""

    possible: int
    lse: float  # nats
    entropy: float  # nats


def totals(logits: np.ndarray) -> Totals | None:
    """Sums alone; None and LogitsError as for `statistics`."""
    done = _scan(logits, 0)
    if done is None:
        return None
    scan = done[0]
    return Totals(scan.possible, scan.max + math.log(scan.sum), _entropy(scan))


def statistics(logits: np.ndarray, token: int, apart: Sequence[int] | np.ndarray = ()) -> LogitStatistics | None:
    """Of float32 logits [V]; the tokens `apart` are in no bin. None where there is no library.

    LogitsError for a NaN or +inf among them, and where all are -inf.
    """
    done = _scan(logits, token)
    if done is None:
        return None
    scan, ids, library, logits = done
    edges, counts, sums = np.zeros(BINS + 1, np.float32), np.zeros(BINS, np.int32), np.zeros(BINS)
    lses = np.full(BINS, -np.inf)
    others = np.array(sorted({*map(int, apart)}.difference(ids.tolist())), np.int32)
    if scan.possible > CANDIDATES:
        edges = edges_of(scan.least, scan.second)
        base = ctypes.c_float()
        library.likely_bins(
            _at(logits),
            len(logits),
            ctypes.byref(scan),
            _at(ids),
            _at(others),
            len(others),
            _at(edges),
            _at(counts),
            _at(sums),
            ctypes.byref(base),
        )
        np.log(sums, out=lses, where=sums > 0)
        lses += scan.second
        if counts[0]:
            lses[0] = math.log(sums[0]) + base.value
    return LogitStatistics(
        possible=scan.possible,
        rank=scan.rank,
        max=scan.max,
        lse=scan.max + math.log(scan.sum),
        entropy=_entropy(scan),
        mean=scan.mean,
        variance=max(scan.variance, 0.0),
        ids=ids,
        others=others,
        edges=edges,
        counts=counts,
        lses=lses,
    )


def edges_of(least: float, most: float) -> np.ndarray:
    """Edges float32 [BINS + 1] of a histogram from the least to the most likely of the rest, in float32."""
    low, high = np.float32(least), np.float32(most)
    start = max(low, high - np.float32(SPAN))
    edges = _STEPS * ((high - start) / np.float32(BINS)) + start
    edges[0], edges[-1] = low, high
    return edges


def _scan(logits: np.ndarray, token: int) -> tuple[_Scan, np.ndarray, ctypes.CDLL, np.ndarray] | None:
    """Sums, the candidates, the library, and the logits in a row of memory."""
    library = load()
    if library is None:
        return None
    n = len(logits)
    if logits.dtype != np.float32 or logits.ndim != 1 or not 0 <= token < n:
        raise LogitsError(f"float32 logits of {n} tokens expected, got {logits.dtype} {logits.shape} and token {token}")
    logits = np.ascontiguousarray(logits)
    scan, ids, work = _Scan(rank=token), np.empty(CANDIDATES, np.int32), np.empty(n + n // 128 + 1, np.uint64)
    library.handle.likely_scan(_at(logits), n, ctypes.byref(scan), _at(ids), _at(work))
    if scan.unusable:
        bad = int(np.flatnonzero(~(logits < np.inf))[0])
        raise LogitsError(f"logits must be numbers, got {logits[bad]} for token {bad}: the model's output is damaged")
    if not scan.possible:
        raise LogitsError("no token is possible: all logits are -inf")
    return scan, ids[: scan.candidates], library.handle, logits


def _entropy(scan: _Scan) -> float:
    return float(max(math.log(scan.sum) - scan.weighted / scan.sum, 0.0))


def _at(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
