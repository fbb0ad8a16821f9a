"""KV cache of one layer: the keys and values of the tokens that a model has read.

`KVCache` keeps every row as it came. Writing goes through mlx's updates, which reuse the buffer where nobody else
holds it and copy where someone does: that is all that `fork` needs. `length` and `lengths` count positions, a shared
prefix included. Knows nothing of attention; `append` returns the `KV` that it reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from likely.metal import memory, mx
from likely.metal.attention import KV, Mask, QuantizedRows
from likely.metal.qkv_prepare import PLAIN, Format
from likely.models.errors import CacheError

FIRST = 256  # rows of a new buffer


@dataclass(frozen=True, slots=True)
class NewRows:
    """Where T new rows go, made once a step for all layers that hold the same number of rows."""

    starts: mx.array  # int32 [1], or where they differ [B, 1, T, 1], the place of each
    lengths: mx.array  # int32 [B]: valid rows afterwards
    each: list[int] | None  # the same on the host where they differ
    end: int  # the longest


@dataclass(frozen=True, slots=True)
class RowSize:
    """Size of the keys of one position, and of its values: so many numbers of so many bytes each."""

    numbers: int  # Hkv D
    size: int


@dataclass(frozen=True, slots=True)
class Tail:
    """A buffer that the oldest rows leave: it keeps at least `recent`, and `block` or more go at once."""

    recent: int
    block: int

    @property
    def most(self) -> int:
        """Rows that there is room for."""
        return self.recent + 2 * self.block


class KVCache:
    """Keys and values of one layer [B, Hkv, capacity, D], of which the first `rows` (or `each` of B) are valid.

    The other kinds are this one with another idea of what happens to the oldest rows.
    """

    mask: Mask | None = None  # what queries see of it, where that is less than the model says
    EXACT: ClassVar[bool] = True  # whether a row stays what it was, however many were read with it

    def __init__(self, capacity: int = FIRST, tail: Tail | None = None) -> None:
        """`tail`: the kind of cache has another place for what is older, or none (`shed`)."""
        self.tail = tail
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.rows = 0
        self.each: list[int] | None = None  # rows of each of B, where they differ
        self.prefix: KV | None = None  # frozen
        self.gone = 0  # positions that were held and no longer are
        self._first = capacity if tail is None else min(capacity, tail.most)

    @property
    def kind(self) -> str:
        """Two of the same kind hold the same of the same text."""
        return "all"

    @property
    def front(self) -> KV | None:
        """The rows before this cache's own, as attention reads it."""
        return self.prefix

    @property
    def before(self) -> int:
        """Positions in front of this cache's own rows."""
        front = self.front
        return self.gone + (0 if front is None else front.total or 0)

    @property
    def length(self) -> int:
        """Positions read, the maximum over B."""
        return self.before + self.rows

    @property
    def nbytes(self) -> int:
        """Bytes of this cache's own buffers; a frozen prefix is shared and counts for nobody."""
        return 0 if self.keys is None or self.values is None else self.keys.nbytes + self.values.nbytes

    def ready(self, t: int) -> None:
        """Let go of what T more tokens will not see. Once a step, before `place`."""

    def place(self, b: int, t: int) -> NewRows:
        """Where T more rows of each of B go."""
        end = self.rows + t
        if self.each is None:
            return NewRows(mx.array([self.rows], dtype=mx.int32), mx.array([end] * b, dtype=mx.int32), None, end)
        lengths = [n + t for n in self.each]
        places = np.array(self.each, np.int32)[:, None] + np.arange(t, dtype=np.int32)
        return NewRows(mx.array(places[:, None, :, None]), mx.array(lengths, dtype=mx.int32), lengths, end)

    def formats(self, t: int) -> tuple[Format, Format]:
        """How it takes T new keys, and values, if they come at once; it also takes them as they are."""
        return PLAIN, PLAIN

    def append(
        self, keys: mx.array | QuantizedRows, values: mx.array | QuantizedRows, place: NewRows | None = None
    ) -> KV:
        """Add keys and values [B, Hkv, T, D]; what attention reads, the new rows last."""
        assert isinstance(keys, mx.array) and isinstance(values, mx.array)
        if place is None:
            self.ready(keys.shape[2])
            place = self.place(keys.shape[0], keys.shape[2])
        end = place.end
        self.reserve(keys, end)
        assert self.keys is not None and self.values is not None
        self.hold(write(self.keys, keys, place), write(self.values, values, place), place)
        return KV(self.keys, self.values, place.lengths, end, place.each is not None, None, self.front, cached=True)

    def hold(self, keys: mx.array, values: mx.array, place: NewRows) -> None:
        """Take these buffers, in which the rows of `place` stand."""
        self.keys, self.values = keys, values
        self.rows, self.each = place.end, place.each

    def settle(self) -> None:
        """Let go of what no token after those just read will see as it is. Once a step, after its rows are read."""

    def reserve(self, like: mx.array, end: int) -> None:
        """Make room for `end` rows, copying those that are there."""
        have = 0 if self.keys is None else self.keys.shape[2]
        if end <= have:
            return
        capacity = self._capacity(have, end)
        if self.keys is None or self.values is None:
            b, heads, _, size = like.shape
            self.keys = self.values = mx.zeros((b, heads, capacity, size), like.dtype)
        else:
            self.keys = grown(self.keys, self.rows, capacity)
            self.values = grown(self.values, self.rows, capacity)

    def _capacity(self, have: int, end: int) -> int:
        """The rows to make room for, doubled: a row is copied a constant number of times on average."""
        doubled = max(self._first, 2 * have, -(-end // FIRST) * FIRST)
        return doubled if self.tail is None else min(doubled, max(end, self.tail.most))

    def shed(self, t: int) -> tuple[mx.array, mx.array] | None:
        """The oldest keys and values, taken from the buffer where it holds a block too many; T more have room then."""
        if self.tail is None or self.keys is None or self.values is None:
            return None
        surplus = (self.rows if self.each is None else min(self.each)) - self.tail.recent
        if surplus < self.tail.block:
            return None
        oldest = self.keys[:, :, :surplus], self.values[:, :, :surplus]
        rows = self.rows - surplus
        room = rows + max(t, self.tail.block)
        self.keys, self.values = (resize(x, surplus, self.rows, room) for x in (self.keys, self.values))
        self.rows = rows
        self.each = None if self.each is None else [n - surplus for n in self.each]
        return oldest

    def needs(self, positions: int, row: RowSize, chunk: int) -> int:
        """Bytes that it holds at most when a text of so many positions was read, `chunk` of them at once."""
        capacity = self._first
        while capacity < positions:
            capacity *= 2
        return 2 * capacity * row.numbers * row.size

    def located(self, kv: KV) -> KV:
        """`kv` with the absolute position of each of its rows, where the number of the row does not say it."""
        if not self.gone:
            return kv
        start = self.length - (kv.length or 0)
        at = mx.arange(start, start + kv.capacity, dtype=mx.int32)
        return replace(kv, positions=mx.broadcast_to(at, (kv.lengths.shape[0], kv.capacity)))

    def select(self, rows: Sequence[int]) -> None:
        """Keep these of B, in this order; a row may be taken several times. A prefix that all share stays shared."""
        index = mx.array(list(rows), dtype=mx.int32)
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[index], self.values[index]
        if self.each is not None:
            self._set([self.each[i] for i in rows])
        self.prefix = pick(self.prefix, index)

    def check_rewind(self, n: int | Sequence[int]) -> None:
        """CacheError where `rewind(n)` cannot be done."""
        if isinstance(n, int) and self.each is None:
            if not 0 <= n <= self.room:
                raise CacheError(f"cannot go back {n} positions: {self.room} are held")
            return
        have = self.each if self.each is not None else [self.rows] * len(_list(n, 1))
        back = _list(n, len(have))
        if len(back) != len(have):
            raise CacheError(f"rewind needs a number for each of {len(have)} rows, got {len(back)}")
        for count, rows in zip(back, have, strict=True):
            most = max(0, min(rows, self.room - (self.rows - rows)))  # the longest has the most behind it
            if not 0 <= count <= most:
                raise CacheError(f"cannot go back {count} positions where rows differ: {most} are held")

    @property
    def room(self) -> int:
        """How many positions one sequence can go back."""
        return self.length

    def rewind(self, n: int | Sequence[int]) -> None:
        """Forget the last n positions, or as many of each of B; CacheError, with nothing touched, where that cannot be.

        The rows of one sequence may go back into a frozen prefix; where B differ, only as far as their own rows.
        """
        self.check_rewind(n)
        if isinstance(n, int) and self.each is None:
            own = min(n, self.rows)
            self.rows -= own
            self._rewind_front(n - own)
            return
        lengths = self.each if self.each is not None else [self.rows] * len(_list(n, 1))
        self._set([have - back for have, back in zip(lengths, _list(n, len(lengths)), strict=True)])

    def _rewind_front(self, n: int) -> None:
        self.prefix = shorten(self.prefix, n)

    def _set(self, each: list[int]) -> None:
        self.rows = max(each)
        self.each = each if min(each) != self.rows else None

    def fork(self) -> Self:
        """A second cache with the same content; whichever writes first copies."""
        twin = type(self).__new__(type(self))
        twin.__dict__ |= self.__dict__
        return twin

    def freeze(self) -> None:
        """Turn what is held into a prefix that is never written again, so that forks of it and `select` share it.

        CacheError where the rows of B differ.
        """
        self.check_freeze()
        held = self.held()
        self.prefix = None if held is None else self.located(held)
        self.keys = self.values = None
        self.rows = 0

    def check_freeze(self) -> None:
        """CacheError where `freeze()` cannot be done."""
        if self.each is not None:
            raise CacheError("rows of different lengths cannot be frozen into one prefix")

    def held(self) -> KV | None:
        """All that is held, as attention reads it."""
        if self.keys is None or self.values is None or not self.rows:
            return self.front
        lengths = mx.array(self.each or [self.rows] * self.keys.shape[0], dtype=mx.int32)
        return KV(self.keys, self.values, lengths, self.rows, self.each is not None, None, self.front, cached=True)

    def cut(self, start: int, end: int) -> dict[str, mx.array] | None:
        """The arrays of positions start..end-1 of the one text, for `paste`; None where they are not all its own."""
        low, high = start - self.before, end - self.before
        if low < 0 or high > self.rows or not self._alone or self.keys is None or self.values is None:
            return None
        return {"keys": self.keys[:, :, low:high], "values": self.values[:, :, low:high]}

    def paste(self, parts: Sequence[Mapping[str, mx.array]], ends: Sequence[int]) -> None:
        """Hold what was cut from another of the same kind: a text from its beginning, the parts ending at `ends`.

        For a cache that holds nothing.
        """
        keys, values = (mx.concatenate([part[name] for part in parts], axis=2) for name in ("keys", "values"))
        self.append(keys, values)

    @property
    def joins(self) -> bool:
        """Whether texts of other lengths may stand beside its own: it holds every row as it came."""
        return type(self) is KVCache and self.mask is None and not self.gone

    def join(self, other: "KVCache", counts: tuple[int, int]) -> None:
        """Hold the texts of another behind its own, so many of each; a prefix becomes rows of each text.

        Both have read something.
        """
        both = ((self, counts[0]), (other, counts[1]))
        lengths = [cache.before + n for cache, b in both for n in cache.each or [cache.rows] * b]
        chains = [held.joined(b) for cache, b in both if (held := cache.held()) is not None]
        room = self._capacity(0, max(lengths) + 1)  # for the token that comes next: else all were copied once more
        self.keys, self.values = (
            mx.concatenate([resize(rows, 0, rows.shape[2], room) for rows in of]) for of in zip(*chains, strict=True)
        )
        self.prefix = None
        self._set(lengths)

    @property
    def _alone(self) -> bool:
        """Whether it holds one text that it shares with nobody."""
        return self.prefix is None and self.each is None and self.keys is not None and self.keys.shape[0] == 1


def grown(x: mx.array, rows: int, capacity: int) -> mx.array:
    """The first rows of x [B, Hkv, rows, ...] in a larger buffer, copied at once.

    Left for later, the copies of all layers would be made together, and the smaller buffers of all lie dead by then.
    """
    memory.trim(lambda: 0)
    larger = resize(x, 0, rows, capacity)
    mx.eval(larger)
    return larger


def resize(x: mx.array, start: int, end: int, capacity: int) -> mx.array:
    """Rows start..end of x [B, Hkv, rows, ...] at the front of a buffer of `capacity` rows."""
    b, heads, _, size = x.shape
    return mx.concatenate([x[:, :, start:end], mx.zeros((b, heads, capacity - (end - start), size), x.dtype)], axis=2)


def pick(kv: KV | None, index: mx.array) -> KV | None:
    """The chain with these of B; a segment that all share stays as it is."""
    if kv is None:
        return None
    if kv.keys.shape[0] > 1:
        kv = chosen(kv, index)
    return replace(kv, prefix=pick(kv.prefix, index))


def chosen(kv: KV, index: mx.array) -> KV:
    """The segment with these of B, each with rows of its own."""
    return replace(kv, keys=_rows(kv.keys, index), values=_rows(kv.values, index), lengths=kv.lengths[index])


def _rows(x: mx.array | QuantizedRows, index: mx.array) -> mx.array | QuantizedRows:
    if isinstance(x, QuantizedRows):
        return replace(x, codes=x.codes[index], scales=x.scales[index], biases=x.biases[index])
    return x[index]


def shorten(kv: KV | None, n: int) -> KV | None:
    """The chain without its last n positions."""
    while kv is not None and n:
        length = kv.length or 0
        if n < length:
            return replace(kv, length=length - n, lengths=kv.lengths - n)
        kv, n = kv.prefix, n - length
    return kv


def write(buffer: mx.array, rows: mx.array, place: NewRows) -> mx.array:
    """The buffer with rows [B, Hkv, T, D] in their place."""
    if place.each is None:
        return mx.slice_update(buffer, rows, place.starts, (2,))
    return mx.put_along_axis(buffer, mx.broadcast_to(place.starts, rows.shape), rows, axis=2)


def _list(n: int | Sequence[int], b: int) -> list[int]:
    return [n] * b if isinstance(n, int) else list(n)
