"""A layer's cache that packs the past: all but the most recent rows in a few bits.

The recent rows stand as they came in a buffer that the oldest leave a block at a time, as soon as they have been read:
they are never held in both forms for more than one layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from likely.metal import mx
from likely.metal.attention import KV, QuantizedRows
from likely.metal.qkv_prepare import PLAIN, Format, quantize
from likely.models.caches.layer_cache import FIRST, KVCache, NewRows, RowSize, Tail, chosen, grown, resize
from likely.models.errors import CacheError

PACK = 32  # rows that are packed at once: there is room for as many more, and that is to be small
SPARE = 64  # packed rows that there is room for beyond those that are held
NAMES = ("keys", "values")


class QuantizedCache(KVCache):
    """Keys and values packed to `bits`, one number for both or for each; the last `exact` rows or more stay exact.

    16 bits means as they come. Scales and biases are bfloat16 whatever the model computes in, and the codes are made
    with the rounded ones.
    """

    EXACT: ClassVar[bool] = False

    def __init__(
        self, bits: int | Sequence[int] = 8, group_size: int = 64, exact: int = 64, capacity: int = FIRST
    ) -> None:
        self.bits = (bits, bits) if isinstance(bits, int) else tuple(bits)
        for name, b in zip(NAMES, self.bits, strict=True):
            if b not in (4, 8, 16):
                raise CacheError(f"bits of cached {name} must be 4, 8 or 16, got {b}")
        if group_size not in (32, 64, 128):
            raise CacheError(f"group_size of a cache must be 32, 64 or 128, got {group_size}")
        if exact < 0:
            raise CacheError(f"exact rows must be 0 or more, got {exact}")
        super().__init__(capacity, Tail(exact, PACK))
        self.exact = exact
        self.group_size = group_size
        self.old: KV | None = None

    @property
    def kind(self) -> str:
        return f"bits {self.bits} groups {self.group_size} exact {self.exact}"

    @property
    def front(self) -> KV | None:
        return self.prefix if self.old is None else replace(self.old, prefix=self.prefix)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed rows and of the exact ones."""
        return super().nbytes + self.packed_nbytes

    @property
    def packed_nbytes(self) -> int:
        return 0 if self.old is None else self.old.nbytes

    def formats(self, t: int) -> tuple[Format, Format]:
        """Packed, where no row is to stay exact: one at a time, for the rows of a chunk see each other exact."""
        if t > 1 or self.exact or self.rows or self.each is not None:
            return PLAIN, PLAIN
        keys, values = (Format(bits, self.group_size) for bits in self.bits)
        return keys, values

    def append(
        self, keys: mx.array | QuantizedRows, values: mx.array | QuantizedRows, place: NewRows | None = None
    ) -> KV:
        """Add keys and values [B, Hkv, T, D]; what attention reads, in which these rows are as `formats` says."""
        forms = self.formats(keys.shape[2])
        if forms == (PLAIN, PLAIN):
            kv = super().append(keys, values, place)
            self.settle()
            return kv
        packed = zip((keys, values), forms, strict=True)
        self._extend(
            *(x if isinstance(x, QuantizedRows) or form.bits == 16 else quantize(x, form) for x, form in packed)
        )
        assert self.old is not None
        return replace(self.old, prefix=self.prefix, cached=True)

    def settle(self) -> None:
        if (oldest := self.shed(PACK)) is not None:
            self._pack(*oldest)
            if oldest[0].shape[2] > SPARE:  # a chunk's: left for later, all layers would hold theirs in both forms
                mx.eval(self.keys, self.values, *self._packed_arrays())

    def _packed_arrays(self) -> list[mx.array]:
        return [] if self.old is None else [a for x in (self.old.keys, self.old.values) for a in _arrays(x).values()]

    def needs(self, positions: int, row: RowSize, chunk: int) -> int:
        exact = 2 * (self.exact + 2 * PACK) * row.numbers * row.size
        sizes = (row.size if bits == 16 else bits / 8 + 4 / self.group_size for bits in self.bits)
        return exact + int(_room(positions) * row.numbers * sum(sizes))

    def _pack(self, keys: mx.array, values: mx.array) -> None:
        packed = zip((keys, values), self.bits, strict=True)
        self._extend(*(x if bits == 16 else quantize(x, Format(bits, self.group_size)) for x, bits in packed))

    def _extend(self, keys: mx.array | QuantizedRows, values: mx.array | QuantizedRows) -> None:
        """Add packed rows behind those that are held."""
        have, held = self._count, self.old
        end = have + keys.shape[2]
        was = (None, None) if held is None else (held.keys, held.values)
        parts = [_extended(old, new, have, end) for old, new in zip(was, (keys, values), strict=True)]
        self.old = KV(parts[0], parts[1], mx.array([end] * keys.shape[0], dtype=mx.int32), end)

    @property
    def _count(self) -> int:
        """Rows that are packed."""
        return 0 if self.old is None else self.old.length or 0

    def cut(self, start: int, end: int) -> dict[str, mx.array] | None:
        """The packed rows of these positions, and all rows that are exact now: only at the end of what was read.

        Which rows are packed by when decides what later tokens see, so a text can only be gone on with from a place
        where whoever reads it from the start comes by with the same rows packed.
        """
        if not self._alone or end != self.length or self.keys is None or self.values is None:
            return None
        part = {"keys": self.keys[:, :, : self.rows], "values": self.values[:, :, : self.rows]}
        if self.old is not None and self._count > start:
            for name, rows in zip(NAMES, (self.old.keys, self.old.values), strict=True):
                part |= {f"{name}.{p}": array[:, :, start : self._count] for p, array in _arrays(rows).items()}
        return part

    def paste(self, parts: Sequence[Mapping[str, mx.array]], ends: Sequence[int]) -> None:
        """Take in the segments of a text, one behind another.

        Rows that were exact at the end of a segment, and are not at the end of the last, are packed now."""
        last = parts[-1]
        packed = ends[-1] - last["keys"].shape[2]
        start = 0
        for part, end in zip(parts, ends, strict=True):
            keys, values = (_rows(part, name, self.group_size, b) for name, b in zip(NAMES, self.bits, strict=True))
            if keys is not None and values is not None:
                self._extend(keys, values)
            first = end - part["keys"].shape[2]
            low, high = max(start, first), min(end, packed)
            if low < high:
                self._pack(*(part[name][:, :, low - first : high - first] for name in NAMES))
            start = end
        if last["keys"].size:
            super().append(last["keys"], last["values"])

    def _rewind_front(self, n: int) -> None:
        back = min(n, self._count)
        if self.old is not None and back:
            length = self._count - back
            self.old = replace(self.old, length=length, lengths=self.old.lengths - back) if length else None
        super()._rewind_front(n - back)

    def select(self, rows: Sequence[int]) -> None:
        super().select(rows)
        if self.old is not None:  # which goes on to be written, so that one text taken twice is two
            self.old = chosen(self.old, mx.array(list(rows), dtype=mx.int32))

    def freeze(self) -> None:
        super().freeze()
        self.old = None


def _extended(
    old: mx.array | QuantizedRows | None, new: mx.array | QuantizedRows, have: int, end: int
) -> mx.array | QuantizedRows:
    """`new` written after the first `have` rows of `old`."""
    if isinstance(new, QuantizedRows):
        was = {} if old is None else _arrays(old)
        parts = [_extended(was.get(name), array, have, end) for name, array in _arrays(new).items()]
        codes, scales, biases = (part for part in parts if isinstance(part, mx.array))
        return QuantizedRows(codes, scales, biases, new.group_size, new.bits)
    assert not isinstance(old, QuantizedRows)
    room = _room(end)
    if old is None:
        return resize(new, 0, end, room)
    if end > old.shape[2]:
        old = grown(old, have, room)
    return mx.slice_update(old, new, mx.array([have], dtype=mx.int32), (2,))


def _room(rows: int) -> int:
    """Capacity for packed rows: little more, as they are to be small.

    To copy them once in 64 tokens costs less than a token's attention, which reads all of them.
    """
    return rows + max(SPARE, rows // 64)


def _arrays(x: mx.array | QuantizedRows) -> dict[str, mx.array]:
    if isinstance(x, QuantizedRows):
        return {"codes": x.codes, "scales": x.scales, "biases": x.biases}
    return {"rows": x}


def _rows(part: Mapping[str, mx.array], name: str, group_size: int, bits: int) -> mx.array | QuantizedRows | None:
    """The packed rows of a part that was cut, if it has any."""
    if bits == 16 or f"{name}.codes" not in part:
        return part.get(f"{name}.rows")
    codes, scales, biases = (part[f"{name}.{p}"] for p in ("codes", "scales", "biases"))
    return QuantizedRows(codes, scales, biases, group_size, bits)
