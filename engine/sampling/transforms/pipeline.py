"""Transforms in a row, and the draw from what they leave.

States are a tuple beside the transforms. Everything is lazy when `xp` is mlx; with numpy, on a view of evaluated
logits, it takes a tenth of the time on a CPU, and the masses of a row are summed by the library that scans logits.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from likely.engine.base.arrays import Array, Namespace, logsumexp
from likely.engine.sampling.transforms.arrays import Key, uniform
from likely.engine.sampling.transforms.transform import State, Transform, Truncation, Vocabulary
from likely.metal.packed import statistics
from likely.metal.packed.statistics import ROW, ScannedRow

States = tuple[State, ...]

STAYS = -1  # in `removed_by`: no transform removed the token


def start(transforms: Sequence[Transform], vocabulary: Vocabulary | None, ids: Sequence[int], xp: Namespace) -> States:
    """The states after a text, `ids`."""
    return tuple(transform.init(vocabulary, ids, xp) for transform in transforms)


def change(
    transforms: Sequence[Transform],
    before: Sequence[Transform],
    states: States,
    vocabulary: Vocabulary | None,
    ids: Sequence[int],
    xp: Namespace,
) -> States:
    """The states of other transforms in the middle of a text: a transform that stays as it was keeps its own."""
    by_transform = dict(zip(before, states, strict=True))
    return tuple(by_transform[t] if t in by_transform else t.init(vocabulary, ids, xp) for t in transforms)


def run(
    transforms: Sequence[Transform], logits: Array, states: States, key: Key, xp: Namespace, *, greedy: bool = False
) -> tuple[Array, Array]:
    """The logits [V] after the transforms, -inf where a token was removed; and `removed_by`, int8 [V].

    That is the index of the transform that removed each token, `STAYS` where none did. Greedy takes the most likely
    token instead of what truncations would leave, and what removed the others is then the number of transforms.
    """
    masks: list[tuple[int, Array]] = []
    for index, (transform, state) in enumerate(zip(transforms, states, strict=True)):
        if not isinstance(transform, Truncation):
            logits = transform.apply(logits, state, key, xp)
        elif (transform.hard or not greedy) and (mask := transform.keep(logits, state, key, xp)) is not None:
            logits = _kept(mask, logits, -math.inf, xp)
            masks.append((index, mask))
    if greedy:
        logits, removed_by = _only(xp.argmax(logits), logits, len(transforms), xp)
    else:
        removed_by = xp.full(logits.shape, STAYS, dtype=xp.int8)
    for index, mask in reversed(masks):  # the first to remove a token has the last word
        removed_by = _kept(mask, removed_by, xp.array(index, dtype=xp.int8), xp)
    return logits, removed_by


def _kept(mask: Array, values: Array, other: Any, xp: Namespace) -> Array:
    """The values where the mask is true, else `other`. In numpy by the ids of the fewer: `where` takes up to five times
    as long."""
    if xp is not np:
        return xp.where(mask, values, other)
    if 2 * np.count_nonzero(mask) > len(mask):
        out: np.ndarray = values.copy()
        out[np.flatnonzero(~mask)] = other
        return out
    out, ids = np.full_like(values, other), np.flatnonzero(mask)
    out[ids] = values[ids]
    return out


def hard(transforms: Sequence[Transform]) -> tuple[int, ...]:
    """Which of the transforms are constraints, by their places: those that bind a greedy draw and a search too."""
    return tuple(i for i, t in enumerate(transforms) if isinstance(t, Truncation) and t.hard)


def _only(token: Array, logits: Array, by: int, xp: Namespace) -> tuple[Array, Array]:
    """The logits with the token alone, and `removed_by` where that removed all others; numpy without a mask."""
    if xp is not np:
        mask = xp.arange(len(logits)) == token
        stays, gone = (xp.array(index, dtype=xp.int8) for index in (STAYS, by))
        return xp.where(mask, logits, -math.inf), xp.where(mask, stays, gone)
    after, removed_by = np.empty_like(logits), np.empty(logits.shape, np.int8)
    after.fill(-math.inf)
    removed_by.fill(by)
    after[token], removed_by[token] = logits[token], STAYS
    return after, removed_by


def draw(logits: Array, key: Key, xp: Namespace) -> Array:
    """A token drawn from softmax(logits), a scalar.

    Inverse of the distribution function, in two steps so that float32 does not lose rare tokens to rounding: a row of
    `ROW` tokens by its mass, then a token in the row. The same key and logits give the same token under mlx and numpy.
    """
    if xp is np and logits.dtype == np.float32 and (scanned := statistics.scan(logits[None])) is not None:
        return draw_rows(scanned, [key])[0]
    mass = xp.exp(logits - xp.max(logits))
    if odd := -mass.shape[-1] % ROW:
        mass = xp.concatenate([mass, xp.zeros(odd, dtype=mass.dtype)])
    rows = mass.reshape(-1, ROW)
    row = _invert(xp.sum(rows, axis=-1), uniform(key, "row"), xp)
    return row * ROW + _invert(rows[row], uniform(key, "token"), xp)


def draw_rows(rows: Sequence[ScannedRow], keys: Sequence[Key]) -> list[int]:
    """`draw` from each row that was scanned, all in one call."""
    return statistics.draw(rows, [(uniform(key, "row"), uniform(key, "token")) for key in keys])


def _invert(mass: Array, share: float, xp: Namespace) -> Array:
    """The index at which the running mass passes `share` of the total; never one without mass."""
    running = xp.cumsum(mass)
    bound = share * running[-1]
    return running.searchsorted(bound, "right") if xp is np else xp.sum(running <= bound)


def advance(transforms: Sequence[Transform], states: States, token: Any, after: Array, xp: Namespace) -> States:
    """The states after one more token, drawn from softmax(after); token and logits may be lazy."""
    surprisal = logsumexp(after, xp) - after[token] if any(t.surprisal for t in transforms) else None
    return tuple(t.update(s, token, surprisal, xp) for t, s in zip(transforms, states, strict=True))


def along(
    transforms: Sequence[Transform],
    vocabulary: Vocabulary | None,
    logits: np.ndarray,
    ids: Sequence[int],
    start_at: int,
    seed: int,
    *,
    greedy: bool = False,
) -> np.ndarray:
    """Logits [n, V] after the transforms at n positions of a text from one on: each as if it were the last."""
    states = start(transforms, vocabulary, ids[: start_at + 1], np)
    rows = np.empty_like(logits)
    for i, row in enumerate(logits):
        at = start_at + i + 1  # the position that is drawn
        rows[i], _ = run(transforms, row, states, (seed, at), np, greedy=greedy)
        if at < len(ids):
            states = advance(transforms, states, ids[at], rows[i], np)
    return rows


def edited_ids(transforms: Sequence[Transform], states: States) -> np.ndarray:
    """int64 [n]: the ids whose logits the transforms change one by one, each once."""
    edited = [ids for t, s in zip(transforms, states, strict=True) if len(ids := t.edited_ids(s))]
    if not edited:
        return np.empty(0, np.int64)
    ids = np.sort(np.concatenate(edited, dtype=np.int64))
    return ids[np.diff(ids, prepend=-1) > 0]  # np.unique would import numpy.ma, a tenth of the time to a first token
