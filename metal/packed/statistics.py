"""Statistics of rows of logits by the library of packed weights: sums, a draw, candidates and a histogram, without a
sort.

A sort of 151,936 logits takes ten times as long. Rows that stand side by side are looked at in one call. Knows neither
mlx nor a step of the engine: whoever has logits in numpy may call it. None where there is no library, and the caller
has to sort.
"""

import ctypes
import math
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from likely.metal.packed import load

CANDIDATES, BINS = 256, 64
ROW = 256  # logits whose masses are added up: a draw takes such a row, and then a token in it
TOGETHER = 32  # rows that are looked at in one call: each takes room for twice as many numbers as it has
SPAN = 32.0  # nats below the most likely token of the rest that the histogram resolves


class LogitsError(ValueError):
    """Logits that are no numbers, or of which none is possible."""


class _Scan(NamedTuple):
    """`scan_t` of packed.h."""

    max: float
    least: float
    possible: int
    unusable: int
    sum: float
    weighted: float
    mean: float
    variance: float


_SCAN = np.dtype(list(zip(_Scan._fields, 2 * ["f4"] + 2 * ["i4"] + 4 * ["f8"], strict=True)), align=True)
_EDGES, _LSES, _WHOLE, _COUNTS = np.cumsum([0, BINS + 1, BINS, 3]).tolist()  # where they begin in `look_t` of packed.h


class ScannedRow(NamedTuple):
    """Logits [V], of which some may be -inf, that is impossible, and what they come to."""

    logits: np.ndarray  # float32
    possible: int
    max: float
    lse: float  # nats
    entropy: float  # nats
    mean: float  # of the possible ones
    variance: float
    masses: np.ndarray  # float32: of each ROW logits, relative to the largest
    at: tuple[int, int, int]  # addresses of the logits, of what they came to as the library `has` it, and of the masses
    has: np.ndarray


class LogitStatistics(NamedTuple):
    """Statistics of scanned logits [V] about a token of them."""

    rank: int  # of the token asked for: 1 + how many are larger
    candidates: int  # how many of `ids` are the most likely tokens, at most CANDIDATES
    ids: (
        np.ndarray
    )  # int32: the most likely, descending, equal ones by id; then others that were to be apart, ascending
    logits: np.ndarray  # float32, of `ids`
    edges: np.ndarray  # float32 [BINS + 1]: of the possible others
    counts: np.ndarray  # int32 [BINS], a logit on an edge in the bin above
    lses: np.ndarray  # float32 [BINS], nats: log-sum-exp of the logits of each bin, -inf for an empty one


def scan(logits: np.ndarray) -> list[ScannedRow] | None:
    """Of each row of float32 logits [B, V]. None where there is no library.

    LogitsError for a NaN or +inf among them, and where all of a row are -inf.
    """
    library = load()
    if library is None:
        return None
    if logits.dtype != np.float32 or logits.ndim != 2:
        raise LogitsError(f"rows of float32 logits expected, got {logits.dtype} {logits.shape}")
    logits = np.ascontiguousarray(logits)
    count, n = logits.shape
    found, masses = np.empty(count, _SCAN), np.empty((count, -(-n // ROW)), np.float32)
    starts = logits.ctypes.data, found.ctypes.data, masses.ctypes.data
    library.handle.likely_scan(starts[0], count, n, *starts[1:])
    rows = []
    for i, (top, _, possible, unusable, total, weighted, mean, variance) in enumerate(found.tolist()):
        row = logits[i]
        if unusable or not possible:
            raise _refusal(row)
        log = math.log(total)
        at = starts[0] + 4 * n * i, starts[1] + _SCAN.itemsize * i, starts[2] + 4 * masses.shape[1] * i
        entropy = max(log - weighted / total, 0.0)
        rows.append(ScannedRow(row, possible, top, top + log, entropy, mean, max(variance, 0.0), masses[i], at, found))
    return rows


def draw(rows: Sequence[ScannedRow], shares: Sequence[tuple[float, float]]) -> list[int]:
    """A token of each row: the inverse of its distribution function at two shares in [0, 1), of which the first chooses
    ROW tokens by their mass, the second one of them. Shares are of 24 bits."""
    library = load()
    assert library is not None
    found = (ctypes.c_int * len(rows))()
    given = (ctypes.c_float * (2 * len(rows)))(*(share for both in shares for share in both))
    logits, sums, masses = map(_pointers, zip(*(row.at for row in rows), strict=True))
    library.handle.likely_draw(len(rows), logits, len(rows[0].logits), sums, masses, given, found)
    return list(found)


def look(rows: Sequence[ScannedRow], tokens: Sequence[int], apart: Sequence[Sequence[int]]) -> list[LogitStatistics]:
    """About a token of each row; those that are `apart` there are in no bin. LogitsError where a token is none of V."""
    if len(rows) > TOGETHER:
        parts = (slice(at, at + TOGETHER) for at in range(0, len(rows), TOGETHER))
        return [seen for part in parts for seen in look(rows[part], tokens[part], apart[part])]
    library = load()
    assert library is not None
    n, counts = len(rows[0].logits), [len(each) for each in apart]
    most = CANDIDATES + max(counts)
    found = np.empty((len(rows), _COUNTS + BINS), np.int32)
    numbers = found.view(np.float32)
    ids, logits = np.empty((len(rows), most), np.int32), np.empty((len(rows), most), np.float32)
    work = np.empty(library.handle.likely_look_numbers(len(rows), n), np.int32)
    starts, sums, _ = map(_pointers, zip(*(row.at for row in rows), strict=True))
    given = [array("i", each) for each in (tokens, chain(*apart), counts)]
    if library.handle.likely_look(
        len(rows), starts, n, sums, *(each.buffer_info()[0] for each in given), SPAN,
        found.ctypes.data, ids.ctypes.data, logits.ctypes.data, most, work.ctypes.data,
    ):  # fmt: skip
        known = [*tokens, *chain(*apart)]
        raise LogitsError(f"{n} tokens expected, got float32 logits and tokens from {min(known)} to {max(known)}")
    return [
        LogitStatistics(
            rank,
            candidates,
            ids[i, : candidates + others],
            logits[i, : candidates + others],
            numbers[i, _EDGES:_LSES],
            found[i, _COUNTS:],
            numbers[i, _LSES:_WHOLE],
        )
        for i, (rank, candidates, others) in enumerate(found[:, _WHOLE:_COUNTS].tolist())
    ]


def nucleus(scores: np.ndarray, weights: np.ndarray, goal: float) -> float | None:
    """The lowest of float32 scores [V] in the smallest set of highest ones that has `goal` of float32 weights [V]; the
    lowest that is not -inf where all have less. None where there is no library."""
    library = load()
    if library is None:
        return None
    x, of = np.ascontiguousarray(scores), np.ascontiguousarray(weights)
    if not x.dtype == of.dtype == np.float32 or x.ndim != 1 or x.shape != of.shape:
        raise LogitsError(f"scores and weights in float32 expected, got {x.dtype} {x.shape} and {of.dtype} {of.shape}")
    left = np.empty(2 * (len(x) + 16), np.float32)
    found: float = library.handle.likely_nucleus(x.ctypes.data, of.ctypes.data, len(x), goal, left.ctypes.data)
    return found


def edges_of(least: float, most: float) -> np.ndarray:
    """Edges float32 [BINS + 1] of a histogram from the least to the most likely of the rest, in float32."""
    low, high = np.float32(least), np.float32(most)
    start = max(low, high - np.float32(SPAN))
    edges = np.arange(BINS + 1, dtype=np.float32) * ((high - start) / np.float32(BINS)) + start
    edges[0], edges[-1] = low, high
    return edges


def _pointers(addresses: Iterable[int]) -> "ctypes.Array[ctypes.c_void_p]":
    known = tuple(addresses)
    return (ctypes.c_void_p * len(known))(*known)


def _refusal(logits: np.ndarray) -> LogitsError:
    """Of logits [V] that are no numbers, or none of them possible."""
    bad = np.flatnonzero(~(logits < np.inf))
    if not len(bad):
        return LogitsError("no token is possible: all logits are -inf")
    at = int(bad[0])
    return LogitsError(f"logits must be numbers, got {logits[at]} for token {at}: the model's output is damaged")
