"""Cache of a model on packed weights: keys and values in numpy, in the order that suits the kernels (forward.h).

They are float32, or float16 where activations are rounded too. It keeps the contract of `models.cache`: fork, select,
rewind, freeze. Knows neither mlx nor the model.
"""

import ctypes
import math
import mmap
import struct
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from likely.metal import packed
from likely.metal.packed import LANES
from likely.models.errors import CacheError

FIRST = 256  # rows of a new buffer
BEHIND = 64  # of one behind a frozen prefix: what eight short answers read lies closer together
LARGE = 4 << 20  # bytes of a buffer that goes back to the system as soon as it is outgrown
FILLED = 16 << 20  # bytes of one whose text is long: huge pages are cleared as a whole, with the first row in them


SPAN = struct.Struct("PPiii4x")  # `span_t` of forward.h: keys, values, capacity, length, number
TEXT = struct.Struct("Pii")  # `text_t`: spans, how many, positions before the last


class RowShape(NamedTuple):
    """A position's rows of all layers: of each head that many keys, and values."""

    layers: int
    heads: int  # Hkv
    size: int  # D
    dtype: np.dtype[Any]  # float32 or float16

    @property
    def nbytes(self) -> int:
        return 2 * self.layers * self.heads * self.size * self.dtype.itemsize


class _PackedSegment:
    """Keys and values of all layers for some positions of a text; texts that fork share them until they differ."""

    __slots__ = ("__weakref__", "at", "capacity", "frozen", "holders", "keys", "used", "values")

    def __init__(self, shape: RowShape, capacity: int) -> None:
        layers, heads, size, dtype = shape
        self.capacity = -(-capacity // LANES) * LANES
        self.keys = _room(dtype, layers, heads, self.capacity // LANES, size, LANES)
        self.values = _room(dtype, layers, heads, self.capacity, size)
        self.at = self.keys.ctypes.data, self.values.ctypes.data, packed.NUMBERS.index(dtype.name)
        self.used = 0  # rows that somebody wrote
        self.frozen = 0  # rows that a prefix reads, whoever else holds them: never written again
        self.holders: weakref.WeakSet[_Sequence] = weakref.WeakSet()

    def copied(self, rows: int, capacity: int, shape: RowShape) -> "_PackedSegment":
        """The first `rows` in a buffer of their own."""
        twin = _PackedSegment(shape, capacity)
        panels = -(-rows // LANES)
        twin.keys[:, :, :panels] = self.keys[:, :, :panels]
        twin.values[:, :, :rows] = self.values[:, :, :rows]
        twin.used = rows
        return twin


class _Sequence:
    """One text: frozen spans, which are never written again, and rows of its own behind them."""

    __slots__ = ("__weakref__", "before", "own", "prefix", "rows")

    def __init__(self) -> None:
        self.prefix: tuple[tuple[_PackedSegment, int], ...] = ()
        self.before = 0  # rows of the prefix
        self.own: _PackedSegment | None = None
        self.rows = 0  # of its own

    @property
    def length(self) -> int:
        return self.before + self.rows

    def fork(self) -> "_Sequence":
        twin = _Sequence()
        twin.prefix, twin.before, twin.own, twin.rows = self.prefix, self.before, self.own, self.rows
        if self.own is not None:
            self.own.holders.add(twin)
        return twin

    def reserve(self, count: int, first: int, shape: RowShape) -> None:
        """Room for `count` more rows that nobody else sees."""
        end, step = self.rows + count, BEHIND if self.prefix else FIRST
        if self.own is None:
            self._take(_PackedSegment(shape, max(first, -(-end // step) * step)))
        own = self.own
        assert own is not None
        if own.used > self.rows and len(own.holders) == 1:
            own.used = max(self.rows, own.frozen)
        if end > own.capacity or own.used > self.rows:
            capacity = own.capacity if end <= own.capacity else max(2 * own.capacity, -(-end // step) * step)
            self._take(own.copied(self.rows, capacity, shape))
        assert self.own is not None
        self.own.used = end

    def _take(self, rows: _PackedSegment | None) -> None:
        if self.own is not None:
            self.own.holders.discard(self)
        self.own = rows
        if rows is not None:
            rows.holders.add(self)

    def freeze(self) -> None:
        if self.own is not None and self.rows:
            self.prefix = (*self.prefix, (self.own, self.rows))
            self.own.frozen = max(self.own.frozen, self.rows)
            self.before += self.rows
            self._take(None)
        self.rows = 0

    def rewind(self, n: int) -> None:
        own = min(n, self.rows)
        self.rows, n = self.rows - own, n - own
        spans = list(self.prefix)
        while n:
            rows, length = spans.pop()
            if n < length:
                spans.append((rows, length - n))
            n -= min(n, length)
        self.prefix, self.before = tuple(spans), sum(length for _, length in spans)


class PackedCache:
    """Cache of a `PackedModel`: keys and values of the tokens it has read, of B texts side by side."""

    def __init__(self, shape: RowShape, capacity: int = FIRST) -> None:
        self.shape, self._first = shape, capacity
        self.expected = 0  # positions that are known to come: room for them is no copy later
        self.texts = [_Sequence()]

    @property
    def length(self) -> int:
        """Positions read, the maximum over B."""
        return max(text.length for text in self.texts)

    @property
    def each(self) -> list[int] | None:
        """Positions held by each of B, where they differ."""
        lengths = [text.length for text in self.texts]
        return lengths if min(lengths) != max(lengths) else None

    @property
    def room(self) -> int:
        """How many positions one text can go back."""
        return min(text.length for text in self.texts)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, each once; frozen ones are shared and count for nobody."""
        own = {id(text.own): text.own for text in self.texts if text.own is not None}
        return sum(rows.keys.nbytes + rows.values.nbytes for rows in own.values())

    def spread(self, b: int) -> None:
        """Be B texts, where it was one."""
        if len(self.texts) == 1 and b > 1:
            self.select([0] * b)
        if len(self.texts) != b:
            raise CacheError(f"the cache holds {len(self.texts)} texts, {b} were to be read")

    def part(self, start: int, end: int) -> "PackedCache":
        """These of its texts alone, the very same: what is read into it is read into this one."""
        part = PackedCache(self.shape, self._first)
        part.texts, part.expected = self.texts[start:end], self.expected
        return part

    def select(self, rows: Sequence[int]) -> None:
        """Keep these of B, in this order; a text may be taken several times."""
        self.texts = [self.texts[i].fork() for i in rows]

    def join(self, other: "PackedCache") -> None:
        """Hold the texts of another behind its own; nothing is copied."""
        self.texts += [text.fork() for text in other.texts]

    def rewind(self, n: int | Sequence[int]) -> None:
        """Forget the last n positions, or as many of each of B; CacheError, with nothing touched, if that cannot be."""
        back = [n] * len(self.texts) if isinstance(n, int) else list(n)
        if len(back) != len(self.texts):
            raise CacheError(f"rewind needs a number for each of {len(self.texts)} rows, got {len(back)}")
        for count, text in zip(back, self.texts, strict=True):
            if not 0 <= count <= text.length:
                raise CacheError(f"cannot go back {count} positions: {text.length} are held")
        for count, text in zip(back, self.texts, strict=True):
            text.rewind(count)

    def fork(self) -> "PackedCache":
        """A second cache with the same content; the first to write past the common rows keeps the buffer."""
        twin = PackedCache(self.shape, self._first)
        twin.texts = [text.fork() for text in self.texts]
        return twin

    def freeze(self) -> None:
        """Turn what is held into a prefix that is never written again, so that forks of it and `select` share it."""
        if self.each is not None:
            raise CacheError("rows of different lengths cannot be frozen into one prefix")
        for text in self.texts:
            text.freeze()

    def reserve(self, t: int) -> None:
        """Room for T more rows of each of B; where many are known to come, for the first that follow them, too."""
        for text in self.texts:
            known = self.expected - text.length
            first = min(self._first, BEHIND) if text.prefix else self._first
            text.reserve(t, known + FIRST if known > self._first else first, self.shape)

    def needs(self, positions: int) -> int:
        """Bytes that it holds at most when a text of so many positions was read."""
        capacity = max(self._first, LANES)
        while capacity < positions:
            capacity *= 2
        return self.shape.nbytes * (-(-capacity // FIRST) * FIRST)

    def taken(self, start: int, end: int, text: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the keys and values [layers, Hkv, end - start, D] of a text's positions start..end-1."""
        layers, heads, size, dtype = self.shape
        keys, values = (np.empty((layers, heads, end - start, size), dtype) for _ in range(2))
        held, begin = self.texts[text], 0
        spans = held.prefix if held.own is None else (*held.prefix, (held.own, held.rows))
        for rows, length in spans:
            low, high = max(start - begin, 0), min(end - begin, length)
            if low < high:
                out = slice(begin + low - start, begin + high - start)
                first, last = low // LANES, -(-high // LANES)
                panels = rows.keys[:, :, first:last].swapaxes(3, 4).reshape(layers, heads, -1, size)
                keys[:, :, out] = panels[:, :, low - first * LANES : high - first * LANES]
                values[:, :, out] = rows.values[:, :, low:high]
            begin += length
        return keys, values

    def put(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Hold these [layers, Hkv, n, D], as `taken` gave them: a text from its beginning. For a cache without one."""
        layers, heads, n, size = keys.shape
        text = self.texts[0]
        assert len(self.texts) == 1 and not text.length
        text.reserve(n, self._first, self.shape)
        assert text.own is not None
        panels = -(-n // LANES)
        padded = np.zeros((layers, heads, panels * LANES, size), self.shape.dtype)
        padded[:, :, :n] = keys
        text.own.keys[:, :, :panels] = padded.reshape(layers, heads, panels, LANES, size).swapaxes(3, 4)
        text.own.values[:, :, :n] = values
        text.rows = n


def _room(dtype: np.dtype[Any], *shape: int) -> np.ndarray:
    """Numbers that begin at a cache line. What is in it is no row, and no row is made of it.

    What is large has pages of its own: the allocator would keep those of every buffer that a text has outgrown.
    """
    nbytes = dtype.itemsize * math.prod(shape)
    if nbytes < LARGE:
        return packed.aligned(nbytes).view(dtype).reshape(shape)
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if nbytes >= FILLED and sys.platform == "linux":  # fewer looks for where a page lies
        with suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)


def described(texts: Sequence[_Sequence]) -> "tuple[bytes, ctypes.Array[ctypes.c_char]]":
    """`text_t` of each text that has room for what comes, and the `span_t` of all buffers, which those point to."""
    spans, counts = list[bytes](), list[int]()
    for text in texts:
        assert text.own is not None
        for rows, length in (*text.prefix, (text.own, text.rows)):
            keys, values, number = rows.at  # asked of an array they take a microsecond each
            spans.append(SPAN.pack(keys, values, rows.capacity, length, number))
        counts.append(1 + len(text.prefix))
    flat = (ctypes.c_char * (len(spans) * SPAN.size)).from_buffer_copy(b"".join(spans))
    at = ctypes.addressof(flat)
    heads = list[bytes]()
    for text, count in zip(texts, counts, strict=True):
        heads.append(TEXT.pack(at, count, text.before))
        at += count * SPAN.size
    return b"".join(heads), flat
