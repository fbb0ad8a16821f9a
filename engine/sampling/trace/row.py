"""Statistics of rows of raw logits: the numbers of a step that need every logit. Without a sort: by the library that
scans logits where there is one (Linux), rows together, else by numpy.

A GPU gives the same value (`engine.decode.kernel_row`). Knows nothing of text and recipes, nor of mlx.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from likely.engine.base.arrays import logsumexp
from likely.engine.base.errors import NotFinite
from likely.engine.sampling.transforms.snapshot import BINS, CANDIDATES, Snapshot
from likely.metal.packed.statistics import LogitsError, ScannedRow, edges_of, look, scan

# Below this a mass loses digits in float32, and is summed once more by itself.
FAINT = 1e-30
# The place of a logit among the bins is this far off at most, in units of the place's last bit.
ROUNDING = 5e-7
CLOSE = 1e-2  # nats: numbers were summed in float32, and read from what is shorter by some
FEW = 4096  # logits that numpy adds up before the library has chosen among them
DEEP = 64  # logits in a block, of which the largest is asked for, where the vocabulary is large


@dataclass(frozen=True, slots=True)
class RowStatistics:
    """Statistics of a row of logits [V] about one token, and its snapshot. -inf is impossible, and only counted."""

    snapshot: Snapshot
    entropy: float  # nats
    possible: int  # tokens that are not -inf
    logit: float  # of the token
    rank: int  # of the token: 1 + how many are larger


def scanned(logits: np.ndarray) -> list[ScannedRow] | None:
    """Scans of float32 logits [B, V], by the library; None where there is none.

    NotFinite for a NaN or +inf among them, and where no token of a row is possible.
    """
    try:
        return scan(logits)
    except LogitsError:  # numpy says which it is
        for row in logits:
            _require_numbers(row)
        raise


def measured(raw: np.ndarray, token: int, edited_ids: Sequence[int] | np.ndarray = ()) -> RowStatistics:
    """`measured_rows` of one row."""
    return measured_rows([raw], [token], [np.asarray(edited_ids).tolist()])[0]


def measured_rows(
    rows: Sequence[np.ndarray | ScannedRow], tokens: Sequence[int], edited_ids: Sequence[Sequence[int]]
) -> list[RowStatistics]:
    """Of float32 logits [V] of each row, about a token of each; a snapshot holds `edited_ids` and the token besides the
    most likely ones.

    NotFinite as for `scanned`.
    """
    known = list[ScannedRow]()
    for row in rows:
        if not isinstance(row, ScannedRow):
            if (found := scanned(row[None])) is None:
                return [by_numpy(*each) for each in zip(map(np.asarray, rows), tokens, edited_ids, strict=True)]
            (row,) = found
        known.append(row)
    looked = look(known, tokens, [[*ids, token] for ids, token in zip(edited_ids, tokens, strict=True)])
    return [
        RowStatistics(
            Snapshot(
                vocab=len(row.logits),
                ids=seen.ids,
                logits=seen.logits,
                lse=row.lse,
                mean=row.mean,
                variance=row.variance,
                edges=seen.edges,
                counts=seen.counts,
                lses=seen.lses,
            ),
            row.entropy,
            row.possible,
            float(row.logits[token]),
            seen.rank,
        )
        for row, seen, token in zip(known, looked, tokens, strict=True)
    ]


def kept_of(after: np.ndarray) -> tuple[int, float, float]:
    """How many of float32 logits [V] are not -inf, and their log-sum-exp and entropy, nats."""
    there = after > -np.inf
    if (count := int(np.count_nonzero(there))) == 1:
        return 1, float(after[there.argmax()]), 0.0
    possible = after if count == len(after) else after[np.flatnonzero(there)]
    found = scan(possible[None]) if len(possible) > FEW else None
    return len(possible), *(sums(possible) if found is None else (found[0].lse, found[0].entropy))


def sums(logits: np.ndarray) -> tuple[float, float]:
    """Log-sum-exp and entropy, nats, of logits that are all possible."""
    top = logits.max()
    below = logits - top
    mass = np.exp(below)
    total = float(mass.sum(dtype=np.float64))
    return float(top) + math.log(total), max(math.log(total) - float(mass @ below) / total, 0.0)


def require_finite(top: float, vocab: int, where: Callable[[], int] | None = None) -> None:
    """Nothing for the largest of `vocab` logits, or NaN; else NotFinite. `where` finds the first that is no number."""
    if top == -math.inf:
        raise NotFinite(
            f"the model's logits are not finite: -inf for each of {vocab:,} tokens, so that none is possible"
        )
    if not math.isfinite(top):
        where_first = f", first for token {where():,} of {vocab:,}" if where is not None else ""
        raise NotFinite(f"the model's logits are not finite: NaN or infinity{where_first}")


def _require_numbers(raw: np.ndarray) -> np.float32:
    """The largest of logits [V]; NotFinite as for `scanned`."""
    top: np.float32 = raw.max()  # NaN if there is one
    require_finite(float(top), len(raw), lambda: int(np.flatnonzero(~(raw < np.inf))[0]))
    return top


def by_numpy(raw: np.ndarray, token: int, edited_ids: Sequence[int] | np.ndarray = ()) -> RowStatistics:
    """`measured` of one row by numpy."""
    top = _require_numbers(raw)
    impossible = None if raw.min() > -np.inf else np.flatnonzero(raw == -np.inf)
    possible = len(raw) - (0 if impossible is None else len(impossible))
    below = raw - top
    if impossible is not None:
        below[impossible] = 0
    mass = np.exp(below)
    if impossible is not None:
        mass[impossible] = 0
    total = float(mass.sum(dtype=np.float64))
    lse = float(top) + math.log(total)
    entropy = max(math.log(total) - float(mass @ below) / total, 0.0)
    mean = float(below.sum(dtype=np.float64)) / possible
    below -= np.float32(mean)
    if impossible is not None:
        below[impossible] = 0

    best = most_likely(raw, CANDIDATES + 1)
    ids = with_others(best[:CANDIDATES], edited_ids, token)
    edges, counts, lses = np.zeros(BINS + 1, np.float32), np.zeros(BINS, np.int32), np.full(BINS, -np.inf)
    if possible > CANDIDATES:
        least = raw.min() if impossible is None else raw[raw > -np.inf].min()
        edges = edges_of(least, raw[best[-1]])
        apart = ids if impossible is None else np.concatenate([ids[raw[ids] > -np.inf], impossible])
        mass[apart] = 0
        counts, lses = _histogram(raw, mass, apart, edges)
    snapshot = Snapshot(
        vocab=len(raw),
        ids=ids,
        logits=raw[ids],
        lse=lse,
        mean=float(top) + mean,
        variance=float(below @ below) / possible,
        edges=edges,
        counts=counts,
        lses=(lses + top).astype(np.float32),
    )
    return RowStatistics(snapshot, entropy, possible, float(raw[token]), 1 + int(np.count_nonzero(raw > raw[token])))


def with_others(best: np.ndarray, edited_ids: Sequence[int] | np.ndarray, token: int) -> np.ndarray:
    """Ids int32: the best, then those of the others that are not among them, ascending."""
    others = {*map(int, edited_ids), int(token)} - {*best.tolist()}
    return np.concatenate([best, np.array(sorted(others), np.int32)], dtype=np.int32, casting="same_kind")


def most_likely(raw: np.ndarray, count: int) -> np.ndarray:
    """The ids of the `count` largest logits that are not -inf, descending, equal ones by id.

    Each of `count` blocks has a logit that is at least the count-th largest of the blocks' maxima: what is less cannot
    be among them, and hardly more is left.
    """
    deep = max(1, min(DEEP, len(raw) // (4 * count)))
    most = raw[: len(raw) // deep * deep].reshape(deep, -1).max(axis=0)
    bar = np.partition(most, -count)[-count] if len(most) >= count else -np.inf
    ids = np.flatnonzero(raw >= bar) if bar > -np.inf else np.flatnonzero(raw > -np.inf)
    if len(ids) > count:
        values = raw[ids]
        least = np.partition(values, -count)[-count]
        above = ids[values > least]
        ids = np.concatenate([above, ids[values == least][: count - len(above)]])
    return ids[np.lexsort((ids, -raw[ids]))]


def _histogram(
    raw: np.ndarray, mass: np.ndarray, apart: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and log masses [BINS] of logits in bins; a logit on an edge is in the bin above.

    Those at the ids `apart` are not counted, and have no `mass`.
    """
    bins = _bins(raw, edges)
    counts = np.bincount(bins, minlength=BINS) - np.bincount(bins[apart], minlength=BINS)
    masses = np.bincount(bins, mass, minlength=BINS)
    with np.errstate(divide="ignore"):
        lses = np.where(counts > 0, np.log(masses), -np.inf)
    top = raw.max()
    for i in np.flatnonzero((counts > 0) & (masses < FAINT)):
        inside = bins == i
        inside[apart] = False
        lses[i] = logsumexp(raw[inside].astype(np.float64), np) - top
    return counts.astype(np.int32), lses


def _bins(raw: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each logit: by its distance where bins are even, looked up where that is too near to an edge."""
    second, most = float(edges[1]), float(edges[-1])
    width = (float(edges[-2]) - second) / (BINS - 2)  # the first may be wider
    error = ROUNDING * (BINS + max(most, -second) / width) if width > 0 else math.inf
    if error > 0.25:
        return np.searchsorted(edges[1:-1], raw, side="right")
    places = raw - np.float32(second - width)
    places *= np.float32(1 / width)
    np.clip(places, 0.5, BINS - 0.5, out=places)
    bins = places.astype(np.intp)
    places -= bins
    places -= 0.5
    near = np.flatnonzero(np.abs(places) > 0.5 - error)
    bins[near] = np.searchsorted(edges[1:-1], raw[near], side="right")
    return bins
