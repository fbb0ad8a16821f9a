"""A model that decodes by native code on packed weights (`models.packed`), behind the protocol of a language model.

Reading, drawing and scoring go one call a pass. Whoever reads a text to measure it has activations as exact as float32;
whoever draws asks for `drawing`, which has 16 bits of them and is faster. What that call has not (masks, an inside that
is seen, adapters, packed or windowed keys, training) goes through the graph: a `Transformer` of the same weights
expanded, made when wanted. A cache that began native and is read on by the graph is carried over, once. Knows no files.
"""

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from likely.metal import mx, packed
from likely.metal.attention import Emit, Mask
from likely.metal.packed import SIXTEEN, PackedMatrix
from likely.models.cache import FIRST, Cache, KVCache, RowSize
from likely.models.errors import CacheError, ConfigError
from likely.models.families import FAMILIES, registry
from likely.models.model import Activations, LanguageModel
from likely.models.packed import PackedModel, Weights, refusal
from likely.models.packed_cache import PackedCache
from likely.models.rotation import Rotation
from likely.models.transformer import Transformer

AT_ONCE = 1 << 21  # numbers of a matrix that are unpacked in one piece


def refused(config: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Why a checkpoint of this configuration, with tensors of such names, does not run this way; None if it does."""
    if not packed.available():
        return f"LIKELY_PACKED={packed.OFF}" if packed.load() is not None else "no kernels for this processor"
    if config.get("model_type") not in FAMILIES:
        return f"a {config.get('model_type')} runs by mlx-lm's class"
    family = registry.family(str(config["model_type"]))
    if family.by_head or any(map(family.turned, names)):
        return f"the tensors of a {config['model_type']} are rearranged"
    return refusal(registry.described(config, _renamed(config, names)))


def _renamed(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """A checkpoint's names of tensors by those that the family gives them, without what it does not read.

    Nothing else is left to be prepared in a family that runs this way: `refused` has those whose rows go by heads or
    whose matrices lie on their side, and experts.
    """
    rename = registry.family(str(config["model_type"])).rename
    return {ours: name for name in names if (ours := rename(name)) is not None}


def build(config: Mapping[str, Any], weights: Weights, *, expandable: bool = True) -> "NativeModel":
    """The model of a Hugging Face configuration and its tensors. `expandable`: there is memory for the graph too.

    Raises ConfigError and CheckpointError.
    """
    weights = {ours: weights[name] for ours, name in _renamed(config, weights).items()}
    shape = registry.described(config, weights)
    names = registry.family(str(config["model_type"])).names(shape)
    packed.use_threads()
    return NativeModel(PackedModel(shape, names, weights), lambda: _expanded(config, weights, expandable), weights)


def _expanded(config: Mapping[str, Any], weights: Weights, expandable: bool) -> Generator[None, None, Transformer]:
    """The graph of the same numbers, to the bit, in float32."""
    if not expandable:
        raise ConfigError(
            "adapters, attention weights and packed or windowed keys need these weights expanded, and there is not the "
            f"memory: start with LIKELY_PACKED={packed.OFF}, which keeps them packed in the graph"
        )
    arrays = {}
    for name, found in weights.items():
        arrays[name] = (yield from _floats(found)) if isinstance(found, PackedMatrix) else mx.array(found)
        yield
    model = registry.build(dict(config), arrays, dense=mx.float32)
    assert isinstance(model, Transformer)
    for array in model.arrays.values():  # what is joined, one at a time
        mx.eval(array)
        yield
    return model


def _floats(matrix: PackedMatrix) -> Generator[None, None, mx.array]:
    """All its rows, so many at once: new memory can cost more than what is written to it."""
    rows, columns = matrix.shape
    step = max(1, AT_ONCE // columns)
    parts = []
    for first in range(0, rows, step):
        parts.append(mx.array(matrix.rows(np.arange(first, min(first + step, rows)))))
        yield
    whole = parts[0] if len(parts) == 1 else mx.concatenate(parts)
    mx.eval(whole)
    return whole


def as_graph(model: LanguageModel) -> Transformer | None:
    """The model with parts that can be seen and replaced, its graph for a native one; None where it is mlx-lm's."""
    if isinstance(model, NativeModel):
        return model.graph
    return model if isinstance(model, Transformer) else None


def drawing(model: LanguageModel) -> LanguageModel:
    """The model as whoever draws reads it, its activations rounded. Whoever measures reads the model itself."""
    return model.drawing if isinstance(model, NativeModel) else model


class _Expansion:
    """The graph of some weights, for all that read them: made when wanted, `altered` while it is more than they are."""

    def __init__(self, expand: Callable[[], Generator[None, None, Transformer]]) -> None:
        self.expand = expand
        self.graph: Transformer | None = None
        self.altered = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Expansion":
        twin = _Expansion(self.expand)
        twin.altered, twin.graph = self.altered, copy.deepcopy(self.graph, memo)
        return twin


class NativeModel:
    """A `LanguageModel`. While `altered`, its graph is more than its weights (adapters), and everything goes there."""

    rotations: Sequence[Rotation] = ()  # those that follow the length are refused
    dtype: mx.Dtype = mx.float32

    def __init__(
        self, fast: PackedModel, expand: Callable[[], Generator[None, None, Transformer]], weights: Weights
    ) -> None:
        self.config = fast.config
        self._fast, self._weights = fast, weights
        self._expansion = _Expansion(expand)
        self._drawn_with = SIXTEEN  # bits
        self._drawing: NativeModel | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "NativeModel":
        """A second one over the same packed weights, which nobody writes; what is on the graph of one is its own."""
        twin = copy.copy(self)
        twin._expansion, twin._drawing = copy.deepcopy((self._expansion, self._drawing), memo)
        return twin

    def with_activations(self, bits: int) -> "NativeModel":
        """The same model, whose native passes have activations of so many bits whatever they are for.

        ConfigError where they gain nothing.
        """
        twin = copy.copy(self)
        twin._fast, twin._drawn_with, twin._drawing = self._fast.with_activations(bits), bits, None
        return twin

    @property
    def drawing(self) -> "NativeModel":
        """The same model, with such activations as are to be drawn with: SIXTEEN bits unless others were asked for."""
        if self._fast.activation_bits == self._drawn_with:
            return self
        if self._drawing is None:
            self._drawing = self.with_activations(self._drawn_with)
        return self._drawing

    @property
    def altered(self) -> bool:
        """Whether its graph is more than its weights."""
        return self._expansion.altered

    @altered.setter
    def altered(self, altered: bool) -> None:
        self._expansion.altered = altered

    @property
    def expanded(self) -> bool:
        """Whether its weights lie in memory a second time, as the graph has them."""
        return self._expansion.graph is not None

    @property
    def graph(self) -> Transformer:
        """The same model whose parts can be seen and replaced; expanded by the first who asks."""
        for _ in self.expanding():
            pass
        assert self._expansion.graph is not None
        return self._expansion.graph

    def expanding(self) -> Iterator[None]:
        """Have the graph made, a matrix at a time."""
        if self._expansion.graph is None:
            self._expansion.graph = yield from self._expansion.expand()

    def __call__(self, tokens: mx.array, cache: Cache | None = None) -> mx.array:
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: mx.array, cache: Cache | None = None, *, mask: Mask | None = None) -> mx.array:
        if cache is None and not self.altered and mask is None:
            return mx.array(self._fast.hidden(np.array(tokens), self._fast.make_cache(tokens.shape[1])))
        if isinstance(cache, NativeCache):
            if cache.graph is None and not self.altered and mask is None:
                cache.native.expected = cache.expected
                return mx.array(self._fast.hidden(np.array(tokens), cache.native))
            cache = cache.carried(self.graph)
        return self.graph.hidden(tokens, cache, mask=mask)

    def head(self, hidden: mx.array) -> mx.array:
        if self.altered:
            return self.graph.head(hidden)
        return mx.array(self._fast.head(np.array(hidden)))

    def make_cache(
        self,
        capacity: int = FIRST,
        *,
        bits: int | tuple[int, int] | None = None,
        group_size: int | None = None,
        exact: int = 64,
        window: int = 0,
        sinks: int = 0,
    ) -> Cache:
        if self.altered or bits is not None or window or sinks:
            how = {"bits": bits, "group_size": group_size, "exact": exact, "window": window, "sinks": sinks}
            return self.graph.make_cache(capacity, **how)  # type: ignore[arg-type]
        return NativeCache(self._fast.make_cache(capacity))

    def inspect(self, tokens: mx.array, cache: Cache | None = None, *, emit: Emit | None = None) -> Activations:
        return self.graph.inspect(
            tokens, cache.carried(self.graph) if isinstance(cache, NativeCache) else cache, emit=emit
        )

    def lens(self, hidden: mx.array) -> mx.array:
        return self.graph.lens(hidden)

    def crosses(self, cache: Cache, length: int) -> bool:
        return False  # frequencies that follow the length are refused

    def warm(self, dtype: mx.Dtype) -> None:
        """Nothing: no kernel of a GPU runs in it."""

    @property
    def arrays(self) -> dict[str, mx.array]:
        """Of packed matrices the bytes, copied."""
        if self.altered:
            return self.graph.arrays
        return {
            name: mx.array(found.packed if isinstance(found, PackedMatrix) else found)
            for name, found in self._weights.items()
        }


class NativeCache(Cache):
    """The cache of a native pass; once the graph has read on from it, the graph's with the same rows."""

    def __init__(self, native: PackedCache) -> None:
        super().__init__([])
        self.native = native
        self.graph: Cache | None = None

    @property  # type: ignore[override]
    def layers(self) -> list[KVCache]:
        """One, of all layers' rows, for whoever keeps prefixes."""
        return [NativeRows(self.native)] if self.graph is None else []

    @layers.setter
    def layers(self, layers: list[KVCache]) -> None:
        """None of its own."""

    def carried(self, model: Transformer) -> Cache:
        """The graph's cache of the same rows: from here on it is this one."""
        if self.graph is None:
            self.graph = made = model.make_cache()
            lengths = [text.length for text in self.native.texts]
            if most := max(lengths):
                self._carry(made, lengths, most)
        return self.graph

    def _carry(self, made: Cache, lengths: Sequence[int], most: int) -> None:
        keys: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for i, length in enumerate(lengths):
            for rows, found in zip(self.native.taken(0, length, i), (keys, values), strict=True):
                found.append(np.pad(rows, ((0, 0), (0, 0), (0, most - length), (0, 0))))
        joined = [np.stack(rows, axis=1) for rows in (keys, values)]  # [layers, B, Hkv, n, D]
        for layer, k, v in zip(made.layers, *joined, strict=True):
            layer.append(mx.array(k), mx.array(v))
        if self.native.each is not None:
            made.rewind([most - length for length in lengths])

    @property
    def _holder(self) -> Cache | PackedCache:
        return self.native if self.graph is None else self.graph

    @property
    def length(self) -> int:
        return self._holder.length

    @property
    def each(self) -> list[int] | None:
        return self._holder.each

    @property
    def nbytes(self) -> int:
        return self._holder.nbytes

    @property
    def room(self) -> int:
        return self._holder.room

    def needs(self, positions: int, row: RowSize, chunk: int) -> int:
        return self.native.needs(positions)

    def select(self, rows: Sequence[int]) -> None:
        self._holder.select(rows)

    def part(self, start: int, end: int) -> "NativeCache | None":
        if self.graph is not None:
            return None
        part = NativeCache(self.native.part(start, end))
        part.expected = self.expected
        return part

    @property
    def joins(self) -> bool:
        return True if self.graph is None else self.graph.joins

    def join(self, other: Cache, counts: tuple[int, int]) -> None:
        """The graph's cache joins no native one: CacheError."""
        if not isinstance(other, NativeCache) or (self.graph is None) != (other.graph is None):
            raise CacheError("a text that the graph reads cannot stand beside one that is read natively")
        if self.graph is None or other.graph is None:
            for cache, count in zip((self.native, other.native), counts, strict=True):
                cache.spread(count)
            self.native.join(other.native)
        else:
            self.graph.join(other.graph, counts)

    def rewind(self, n: int | Sequence[int]) -> None:
        self._holder.rewind(n)
        self.expected = 0

    def fork(self) -> "NativeCache":
        twin = NativeCache(self.native.fork())
        twin.graph = None if self.graph is None else self.graph.fork()
        twin.expected = self.expected
        return twin

    def freeze(self) -> None:
        self._holder.freeze()


class NativeRows(KVCache):
    """The rows of all layers as a prefix store cuts and pastes them, as if they were one layer's."""

    def __init__(self, native: PackedCache) -> None:
        super().__init__()
        self._native = native

    def cut(self, start: int, end: int) -> dict[str, mx.array] | None:
        """Arrays [1, layers Hkv, end - start, D]; None where there are several texts."""
        if len(self._native.texts) != 1 or end > self._native.length:
            return None
        parts = self._native.taken(start, end)
        return {
            name: mx.array(rows.reshape(1, -1, *rows.shape[2:]))
            for name, rows in zip(("keys", "values"), parts, strict=True)
        }

    def paste(self, parts: Sequence[Mapping[str, mx.array]], ends: Sequence[int]) -> None:
        """Hold what was cut, for a cache that holds nothing."""
        layers, heads, size = self._native.shape
        joined = [
            np.concatenate([np.array(part[name])[0] for part in parts], axis=1).reshape(layers, heads, -1, size)
            for name in ("keys", "values")
        ]
        self._native.put(*joined)
