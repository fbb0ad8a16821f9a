"""Observation: from the logits before and after the transforms, every number of a `TokenStep`. On the host: one pass of
a library where there is one (Linux), numpy elsewhere.

It runs while the next step is being computed, so that looking costs no extra wait. Knows nothing of text: piece and
text are filled in by whoever has the tokenizer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.arrays import logsumexp, rank
from engine.trace.trace import Recipe, TokenStep
from engine.transforms import STAYS
from engine.transforms.snapshot import BINS, CANDIDATES, Snapshot
from metal.packed.statistics import LogitsError, LogitStatistics, statistics, totals

# The histogram resolves this many nats below the rest's most likely token; all that is less likely shares a bin.
SPAN = 32.0
# Below this a mass loses digits in float32, and is summed once more by itself.
FAINT = 1e-30


@dataclass(frozen=True, slots=True)
class KernelStats:
    """What the device has found in the pass that drew the token: nothing of it is summed again here."""

    lse: float  # nats, of all raw logits
    entropy: float  # nats, before the transforms
    kept: int  # the most likely tokens, from which one was drawn
    sharp: float  # 1 / temperature
    removed_by: Callable[
        [np.ndarray, np.ndarray], np.ndarray
    ]  # logits descending, places -> int8, as `kernel_draw.cuts`


def observe(
    raw: np.ndarray,
    token: int,
    *,
    after: np.ndarray | None = None,
    removed_by: np.ndarray | None = None,
    found: KernelStats | None = None,
    recipe: Recipe,
    edited_ids: Sequence[int] | np.ndarray = (),
    position: int,
    origin: str = "drawn",
) -> TokenStep:
    """The step that took `token`, without its text. `raw`, `after` float32 [V], `removed_by` int8 [V].

    Without `after` nothing was transformed, or `found` says what came of it. `edited_ids` are kept in the snapshot
    besides the most likely ones and the token itself.
    """
    edited_ids = np.append(np.asarray(edited_ids, np.int64), token)
    seen = _scanned(raw, token, edited_ids) if found is None else None
    if seen is not None:
        lse, entropy, place, kept = seen.lse, seen.entropy, seen.rank, seen.possible
        snapshot = _of_scan(raw, seen, edited_ids)
    else:
        ordered = np.sort(raw)
        possible = ordered[np.searchsorted(ordered, -np.inf, side="right") :]
        below = possible - possible[-1]
        mass = np.exp(below)
        lse, entropy = _sums(possible[-1], below, mass) if found is None else (found.lse, found.entropy)
        place, kept = int(rank(raw, np.array(token), np)), len(possible)
        snapshot = _snapshot(raw, possible, below, mass, lse, edited_ids)
    chosen, lse_after, entropy_after = float(raw[token]), lse, entropy
    removed = np.full(len(snapshot.ids), STAYS, np.int8) if removed_by is None else removed_by[snapshot.ids]
    if after is not None:
        chosen = float(after[token])
        kept, lse_after, entropy_after = _kept(after)
    elif found is not None:
        kept, chosen = found.kept, chosen * found.sharp
        best = possible[::-1]
        top = best[:kept] * np.float32(found.sharp)
        lse_after, entropy_after = _sums(top[0], top - top[0], np.exp(top - top[0]))
        others = len(raw) - np.searchsorted(ordered, snapshot.logits[CANDIDATES:], side="right")
        removed = found.removed_by(best, np.append(np.arange(min(CANDIDATES, len(possible))), others))
    return TokenStep(
        token=token,
        piece=b"",
        text="",
        logprob=float(raw[token]) - lse,
        logprob_after=chosen - lse_after,
        entropy=entropy,
        entropy_after=entropy_after,
        rank=place,
        kept=kept,
        recipe=recipe,
        snapshot=snapshot,
        removed_by=removed,
        position=position,
        origin=origin,
    )


def _scanned(raw: np.ndarray, token: int, apart: np.ndarray) -> LogitStatistics | None:
    """All of it in one pass; None where there is no library, and where a logit is no number."""
    try:
        return statistics(raw, token, apart)
    except LogitsError:
        return None


def _of_scan(raw: np.ndarray, seen: LogitStatistics, edited_ids: np.ndarray) -> Snapshot:
    """The snapshot of `raw`."""
    extra = np.array(sorted({*edited_ids.tolist()} - {*seen.ids.tolist()}), np.int32)
    ids = np.concatenate([seen.ids, extra])
    return Snapshot(
        vocab=len(raw),
        ids=ids,
        logits=raw[ids],
        lse=seen.lse,
        mean=seen.mean,
        variance=seen.variance,
        edges=seen.edges,
        counts=seen.counts,
        lses=seen.lses.astype(np.float32),
    )


def _kept(after: np.ndarray) -> tuple[int, float, float]:
    """How many tokens the transforms kept, and log-sum-exp and entropy of those, nats."""
    try:
        seen = totals(after)
    except LogitsError:
        seen = None
    if seen is not None:
        return seen.possible, seen.lse, seen.entropy
    left = after > -np.inf
    kept = int(np.count_nonzero(left))
    below = (after if kept == len(after) else after[left]) - after.max()
    return kept, *_sums(after.max(), below, np.exp(below))


def _sums(top: float, below: np.ndarray, mass: np.ndarray) -> tuple[float, float]:
    """Log-sum-exp and entropy, nats, from the largest logit, the logits relative to it and their exponentials."""
    total = float(mass.sum(dtype=np.float64))
    return float(top) + math.log(total), max(math.log(total) - float(mass @ below) / total, 0.0)


def _snapshot(
    raw: np.ndarray, possible: np.ndarray, below: np.ndarray, mass: np.ndarray, lse: float, edited_ids: np.ndarray
) -> Snapshot:
    """The snapshot of `raw`; `possible` is what is finite of it, ascending. `below` and `mass` are used up."""
    ids = np.flatnonzero(raw >= possible[-CANDIDATES:][0])
    ids = ids[np.lexsort((ids, -raw[ids]))][:CANDIDATES]
    extra = np.array(sorted({*edited_ids.tolist()} - {*ids.tolist()}), np.int64)  # setdiff1d would import numpy.ma
    rest = possible[: max(len(possible) - CANDIDATES, 0)]
    # the place in the rest of each edited token, equals side by side, so that each is left out once
    apart = np.sort(raw[extra][raw[extra] > -np.inf])
    places = np.searchsorted(rest, apart) + np.arange(len(apart)) - np.searchsorted(apart, apart)
    mass[places] = 0
    edges, counts, lses = _histogram(rest, mass[: len(rest)], places, float(possible[-1]))
    ids = np.concatenate([ids, extra])
    mean = below.mean(dtype=np.float64)
    below -= mean
    return Snapshot(
        vocab=len(raw),
        ids=ids.astype(np.int32),
        logits=raw[ids].astype(np.float32),
        lse=lse,
        mean=float(possible[-1] + mean),
        variance=float(below @ below) / len(below),
        edges=edges,
        counts=counts,
        lses=(lses + possible[-1]).astype(np.float32),
    )


def _histogram(
    rest: np.ndarray, mass: np.ndarray, apart: np.ndarray, top: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges [BINS + 1], counts and log masses [BINS] of logits, ascending; a logit on an edge is in the bin above.

    Masses are relative to exp(top). The logits at the places `apart` are not counted and have no mass.
    """
    if not len(rest):
        return np.zeros(BINS + 1, np.float32), np.zeros(BINS, np.int32), np.full(BINS, -np.inf)
    edges = np.linspace(max(rest[0], rest[-1] - SPAN), rest[-1], BINS + 1).astype(np.float32)
    edges[0], edges[-1] = rest[0], rest[-1]
    bounds = np.concatenate([[0], np.searchsorted(rest, edges[1:-1]), [len(rest)]])
    counts = np.diff(bounds) - np.diff(np.searchsorted(apart, bounds))
    masses = np.add.reduceat(mass, np.minimum(bounds[:-1], len(rest) - 1), dtype=np.float64)
    with np.errstate(divide="ignore"):
        lses = np.where(counts > 0, np.log(masses), -np.inf)
    for i in np.flatnonzero((counts > 0) & (masses < FAINT)):
        inside = np.delete(rest, apart)[counts[:i].sum() :][: counts[i]].astype(np.float64)
        lses[i] = logsumexp(inside, np) - top
    return edges, counts.astype(np.int32), lses
