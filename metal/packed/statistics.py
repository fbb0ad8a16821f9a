"""Statistics of one row of logits by the library of packed weights: sums, candidates and a histogram, without a sort.

A sort of 151,936 logits takes ten times as long. Knows neither mlx nor a step of the engine: whoever has logits in
numpy may call it. None where there is no library, and the caller has to sort.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from likely.metal.frozen import frozen
from likely.metal.packed import load

CANDIDATES, BINS, CHUNK = 256, 64, 64
SPAN = 32.0  # nats below the most likely token of the rest that the histogram resolves


class LogitsError(ValueError):
    """Logits that are no numbers, or of which none is possible."""


class _Scan(NamedTuple):
    """`scan_t` of packed.h."""

    max: float
    least: float
    second: float
    possible: int
    rank: int
    candidates: int
    unusable: int
    sum: float
    weighted: float
    mean: float
    variance: float


_SCAN = np.dtype(list(zip(_Scan._fields, 3 * ["f4"] + 4 * ["i4"] + 4 * ["f8"], strict=True)), align=True)
_LOOK = np.dtype(
    [
        ("found", _SCAN),
        ("sums", np.float64, BINS),
        ("base", np.float32),
        ("edges", np.float32, BINS + 1),
        ("counts", np.int32, BINS),
        ("others", np.int32),
        ("ids", np.int32, CANDIDATES),
    ],
    align=True,
)  # `look_t` of packed.h


@frozen
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


@frozen
class Totals:
    """Sums over logits, of which some may be impossible."""

    possible: int
    lse: float  # nats
    entropy: float  # nats


def totals(logits: np.ndarray) -> Totals | None:
    """Sums alone; None and LogitsError as for `statistics`."""
    library = load()
    if library is None:
        return None
    logits = _row(logits)
    n, found = len(logits), np.empty((), _SCAN)
    work = np.empty(n // CHUNK + 1, np.float32)
    library.handle.likely_totals(logits.ctypes.data, n, found.ctypes.data, work.ctypes.data)
    return Totals(*_sums(_checked(found, logits)))


def masses(logits: np.ndarray, each: int) -> tuple[float, np.ndarray] | None:
    """The largest of float32 logits [V], and float32 sums of exp(x - largest) of `each` of them, a multiple of 16. None
    where there is no library."""
    library = load()
    if library is None:
        return None
    logits = _row(logits)
    found = np.empty(-(-len(logits) // each), np.float32)
    return library.handle.likely_masses(logits.ctypes.data, len(logits), each, found.ctypes.data), found


def statistics(logits: np.ndarray, token: int, apart: Sequence[int] | np.ndarray = ()) -> LogitStatistics | None:
    """Of float32 logits [V]; the tokens `apart` are in no bin. None where there is no library.

    LogitsError for a NaN or +inf among them, and where all are -inf.
    """
    library = load()
    if library is None:
        return None
    tokens = np.array([token, *apart], np.int32)
    logits = _row(logits, tokens)
    n, found = len(logits), np.empty((), _LOOK)
    others, work = np.empty(len(tokens), np.int32), np.empty(2 * n + n // CHUNK + 64, np.int32)
    library.handle.likely_look(
        logits.ctypes.data, n, tokens.ctypes.data, len(tokens), SPAN,
        found.ctypes.data, others.ctypes.data, work.ctypes.data,
    )  # fmt: skip
    scan, sums = _checked(found["found"], logits), found["sums"]
    lowest, *logs = [math.log(mass) if mass > 0 else -math.inf for mass in sums.tolist()]  # few: no work for numpy
    possible, lse, entropy = _sums(scan)
    return LogitStatistics(
        possible=possible,
        rank=scan.rank,
        max=scan.max,
        lse=lse,
        entropy=entropy,
        mean=scan.mean,
        variance=max(scan.variance, 0.0),
        ids=found["ids"][: scan.candidates],
        others=others[: int(found["others"])],
        edges=found["edges"].copy(),  # a view would keep all of it
        counts=found["counts"].copy(),
        lses=np.array([lowest + float(found["base"]), *(log + scan.second for log in logs)]),
    )


def edges_of(least: float, most: float) -> np.ndarray:
    """Edges float32 [BINS + 1] of a histogram from the least to the most likely of the rest, in float32."""
    low, high = np.float32(least), np.float32(most)
    start = max(low, high - np.float32(SPAN))
    edges = np.arange(BINS + 1, dtype=np.float32) * ((high - start) / np.float32(BINS)) + start
    edges[0], edges[-1] = low, high
    return edges


def _row(logits: np.ndarray, tokens: np.ndarray | None = None) -> np.ndarray:
    """Logits in a row of memory; LogitsError for what is no float32 [V], and where one of `tokens` is none of V."""
    n = len(logits)
    if logits.dtype != np.float32 or logits.ndim != 1:
        raise LogitsError(f"float32 logits of {n} tokens expected, got {logits.dtype} {logits.shape}")
    if tokens is not None and not 0 <= min(ids := tokens.tolist()) <= max(ids) < n:
        raise LogitsError(f"{n} tokens expected, got float32 logits and tokens from {min(ids)} to {max(ids)}")
    return np.ascontiguousarray(logits)


def _checked(found: np.ndarray, logits: np.ndarray) -> _Scan:
    """A scan of logits that are numbers; LogitsError where they are none."""
    scan = _Scan(*found.item())
    if scan.unusable:
        bad = int(np.flatnonzero(~(logits < np.inf))[0])
        raise LogitsError(f"logits must be numbers, got {logits[bad]} for token {bad}: the model's output is damaged")
    if not scan.possible:
        raise LogitsError("no token is possible: all logits are -inf")
    return scan


def _sums(scan: _Scan) -> tuple[int, float, float]:
    """How many are possible, their log-sum-exp and entropy, nats."""
    log = math.log(scan.sum)
    return scan.possible, scan.max + log, max(log - scan.weighted / scan.sum, 0.0)
