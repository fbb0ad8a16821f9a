"""KV cache of a model: those of its layers, which hold the same positions. Knows nothing of how a layer keeps them."""

from collections.abc import Sequence

from likely.metal import mx
from likely.metal.attention import KV
from likely.models.caches.layer_cache import KVCache, NewRows, RowSize
from likely.models.errors import CacheError


class Cache:
    """The caches of all layers of a model, which hold the same positions."""

    def __init__(self, layers: Sequence[KVCache]) -> None:
        self.layers = list(layers)
        self.regime: tuple[int, ...] | None = None  # which frequencies its keys were turned with
        self.expected = 0  # positions that are known to come: frequencies that depend on the length are theirs already

    @property
    def length(self) -> int:
        """Positions read, the maximum over B: a caller feeds `tokens[cache.length:]`."""
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

    def needs(self, positions: int, row: RowSize, chunk: int) -> int:
        """Bytes that it holds at most when a text of so many positions was read, `chunk` of them at once."""
        return sum(layer.needs(positions, row, chunk) for layer in self.layers)

    @property
    def room(self) -> int:
        """How many positions one sequence can go back."""
        return min(layer.room for layer in self.layers)

    def places(self, b: int, t: int) -> list[NewRows]:
        """Where T more rows of each of B go, for each layer."""
        known: dict[object, NewRows] = {}
        places = []
        for layer in self.layers:
            layer.ready(t)
            key = layer.rows if layer.each is None else tuple(layer.each)
            if (place := known.get(key)) is None:
                place = known[key] = layer.place(b, t)
            places.append(place)
        return places

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
        self.expected = 0
        if not self.length:
            self.regime = None

    @property
    def joins(self) -> bool:
        """Whether texts of other lengths may stand beside its own."""
        return all(layer.joins for layer in self.layers)

    def join(self, other: "Cache", counts: tuple[int, int]) -> None:
        """Hold the texts of another behind its own, so many of each. CacheError where the kind of either cannot."""
        if not (self.joins and other.joins):
            raise CacheError("texts of different lengths cannot stand side by side in a cache that lets rows go")
        for layer, more in zip(self.layers, other.layers, strict=True):
            layer.join(more, counts)

    def part(self, start: int, end: int) -> "Cache | None":
        """These of its texts alone: what is read into it is read into this one. None where all stand in one array."""
        return None

    def fork(self) -> "Cache":
        """A second cache with the same content; whichever writes first copies."""
        twin = Cache([layer.fork() for layer in self.layers])
        twin.regime, twin.expected = self.regime, self.expected
        return twin

    def freeze(self) -> None:
        """Turn what is held into a prefix that forks and `select` share."""
        for layer in self.layers:
            layer.check_freeze()
        for layer in self.layers:
            layer.freeze()
