"""What a model remembers of the tokens it has read: keys and values, by layer.

`KVCache` keeps every row as it came. Writing goes through `mx.slice_update`, which reuses the buffer where nobody else
holds it and copies where someone does: that is all that `fork` needs. `length` and `lengths` count positions, a shared
prefix included. Knows nothing of attention; `append` returns the `KV` that it reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from metal import mx
from metal.attention import KV
from models.errors import CacheError

FIRST = 256  # rows of a new buffer


@dataclass(frozen=True, slots=True)
class Place:
    """Where T new rows go, made once a step for all layers that hold the same number of rows."""

    starts: list[mx.array]  # int32 [1], or for each of B, if they differ, int32 [2]: (b, row)
    lengths: mx.array  # int32 [B]: valid rows afterwards
    each: list[int] | None  # the same on the host where they differ
    end: int  # the longest


class KVCache:
    """Keys and values of one layer [B, Hkv, capacity, D], of which the first `rows` (or `each` of B) are valid."""

    def __init__(self, capacity: int = FIRST) -> None:
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.rows = 0
        self.each: list[int] | None = None  # rows of each of B, where they differ
        self.prefix: KV | None = None
        self._first = capacity

    @property
    def before(self) -> int:
        """Positions in front of this cache's own rows."""
        return 0 if self.prefix is None else self.prefix.total or 0

    @property
    def length(self) -> int:
        """Positions held, the maximum over B."""
        return self.before + self.rows

    @property
    def nbytes(self) -> int:
        """Bytes of this cache's own buffers; a frozen prefix is shared and counts for nobody."""
        return 0 if self.keys is None or self.values is None else self.keys.nbytes + self.values.nbytes

    def place(self, b: int, t: int) -> Place:
        """Where T more rows of each of B go."""
        end = self.rows + t
        if self.each is None:
            return Place([mx.array([self.rows], dtype=mx.int32)], mx.array([end] * b, dtype=mx.int32), None, end)
        each = [n + t for n in self.each]
        starts = [mx.array([i, n], dtype=mx.int32) for i, n in enumerate(self.each)]
        return Place(starts, mx.array(each, dtype=mx.int32), each, end)

    def append(self, keys: mx.array, values: mx.array, place: Place | None = None) -> KV:
        """Add keys and values [B, Hkv, T, D]; what attention reads, the new rows last."""
        b, _, t, _ = keys.shape
        if place is None:
            place = self.place(b, t)
        end = place.end
        if self.keys is None or self.values is None or end > self.keys.shape[2]:
            self._grow(keys, end)
        assert self.keys is not None and self.values is not None
        self.keys = _write(self.keys, keys, place)
        self.values = _write(self.values, values, place)
        self.rows, self.each = end, place.each
        return KV(self.keys, self.values, place.lengths, end, place.each is not None, None, self.prefix)

    def _grow(self, like: mx.array, end: int) -> None:
        """Room for `end` rows, by doubling, so that a row is copied a constant number of times on average."""
        b, heads, _, size = like.shape
        have = 0 if self.keys is None else self.keys.shape[2]
        capacity = max(self._first, 2 * have, -(-end // FIRST) * FIRST)
        if self.keys is None or self.values is None:
            self.keys = self.values = mx.zeros((b, heads, capacity, size), like.dtype)
            return
        more = mx.zeros((b, heads, capacity - self.rows, size), like.dtype)
        self.keys, self.values = (
            mx.concatenate([x[:, :, : self.rows], more], axis=2) for x in (self.keys, self.values)
        )

    def select(self, rows: Sequence[int]) -> None:
        """Keep these of B, in this order; a row may be taken several times. A prefix that all share stays shared."""
        index = mx.array(rows, dtype=mx.int32)
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[index], self.values[index]
        if self.each is not None:
            self._set([self.each[i] for i in rows])
        self.prefix = _select(self.prefix, index)

    def check_rewind(self, n: int | Sequence[int]) -> None:
        """CacheError where `rewind(n)` cannot be done."""
        if isinstance(n, int) and self.each is None:
            have = [self.length]
            want = [n]
        else:
            have = self.each if self.each is not None else [self.rows] * len(_list(n))
            want = _list(n, len(have))
        if len(want) != len(have):
            raise CacheError(f"rewind needs a number for each of {len(have)} rows, got {len(want)}")
        for count, room in zip(want, have, strict=True):
            if not 0 <= count <= room:
                raise CacheError(f"rewind by {count} of {room} positions is not possible here")

    def rewind(self, n: int | Sequence[int]) -> None:
        """Forget the last n positions, or as many of each of B; CacheError, with nothing touched, where that cannot be.

        The rows of one sequence may go back into a frozen prefix; where B differ, only as far as their own rows.
        """
        self.check_rewind(n)
        if isinstance(n, int) and self.each is None:
            own = min(n, self.rows)
            self.rows -= own
            self.prefix = _shorten(self.prefix, n - own)
            return
        each = self.each if self.each is not None else [self.rows] * len(_list(n))
        self._set([have - back for have, back in zip(each, _list(n, len(each)), strict=True)])

    def _set(self, each: list[int]) -> None:
        self.rows = max(each)
        self.each = each if min(each) != self.rows else None

    def fork(self) -> Self:
        """A second cache with the same content; whichever writes first copies."""
        twin = type(self).__new__(type(self))
        twin.__dict__ |= self.__dict__
        return twin

    def freeze(self) -> None:
        """Turn what is held into a prefix that is never written again, so that forks of it and `select` share it."""
        if self.keys is None or self.values is None or not self.rows:
            return
        if self.each is not None:
            raise CacheError("rows of different lengths cannot be frozen into one prefix")
        lengths = mx.array([self.rows] * self.keys.shape[0], dtype=mx.int32)
        self.prefix = KV(self.keys, self.values, lengths, self.rows, prefix=self.prefix)
        self.keys = self.values = None
        self.rows = 0


class Cache:
    """The caches of all layers of a model, which hold the same positions."""

    def __init__(self, layers: Sequence[KVCache]) -> None:
        self.layers = list(layers)
        self.regime: tuple[int, ...] | None = None  # which frequencies its keys were turned with

    @property
    def length(self) -> int:
        """Positions held, the maximum over B: a caller feeds `tokens[cache.length:]`."""
        return self.layers[0].length

    @property
    def each(self) -> list[int] | None:
        """Positions held by each of B on the host, where they differ."""
        first = self.layers[0]
        return None if first.each is None else [first.before + n for n in first.each]

    @property
    def lengths(self) -> mx.array:
        """Positions held by each of B, int32 [B]; [1] where they are the same for all."""
        return mx.array(self.each or [self.length], dtype=mx.int32)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers; a frozen prefix is shared and counts for nobody."""
        return sum(layer.nbytes for layer in self.layers)

    def places(self, b: int, t: int) -> list[Place]:
        """Where T more rows of each of B go, for each layer."""
        known: dict[int, Place] = {}
        return [known.get(c.rows) or known.setdefault(c.rows, c.place(b, t)) for c in self.layers]

    def append(self, layer: int, keys: mx.array, values: mx.array) -> KV:
        """Add keys and values [B, Hkv, T, D] of one layer."""
        return self.layers[layer].append(keys, values)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these of B in every layer, in this order."""
        for layer in self.layers:
            layer.select(rows)

    def rewind(self, n: int | Sequence[int]) -> None:
        """Forget the last n positions, or as many of each of B; CacheError, with nothing touched, if a layer cannot."""
        for layer in self.layers:
            layer.check_rewind(n)
        for layer in self.layers:
            layer.rewind(n)
        if not self.length:
            self.regime = None

    def fork(self) -> "Cache":
        """A second cache with the same content; whichever writes first copies."""
        twin = Cache([layer.fork() for layer in self.layers])
        twin.regime = self.regime
        return twin

    def freeze(self) -> None:
        """Turn what is held into a prefix that forks and `select` share."""
        for layer in self.layers:
            layer.freeze()


def _write(buffer: mx.array, rows: mx.array, place: Place) -> mx.array:
    if place.each is None:
        return mx.slice_update(buffer, rows, place.starts[0], (2,))
    for i, start in enumerate(place.starts):
        buffer = mx.slice_update(buffer, rows[i : i + 1], start, (0, 2))
    return buffer


def _list(n: int | Sequence[int], b: int = 1) -> list[int]:
    return [n] * b if isinstance(n, int) else list(n)


def _select(kv: KV | None, index: mx.array) -> KV | None:
    if kv is None or kv.keys.shape[0] == 1:
        return kv if kv is None else replace(kv, prefix=_select(kv.prefix, index))
    assert isinstance(kv.keys, mx.array) and isinstance(kv.values, mx.array)
    return replace(
        kv,
        keys=kv.keys[index],
        values=kv.values[index],
        lengths=kv.lengths[index],
        prefix=_select(kv.prefix, index),
    )


def _shorten(kv: KV | None, n: int) -> KV | None:
    """The chain without its last n positions."""
    while kv is not None and n:
        length = kv.length or 0
        if n < length:
            return replace(kv, length=length - n, lengths=kv.lengths - n)
        kv, n = kv.prefix, n - length
    return kv
