"""A model that decodes by native code on packed weights (`models.packed`), behind the protocol of a language model.

Reading, drawing and scoring go one call a pass. Whoever reads a text to measure it has activations as exact as float32;
whoever draws asks for `drawing`, which has 16 bits of them and is faster. What that call has not (masks, attention that
is seen, packed or windowed keys, training) goes through the graph (`models.native_graph`), whose matrices are expanded
when wanted; what stands on the graph (adapters, directions) the call has beside its products, from `renew` on. A cache
that began native and is read on by the graph is carried over, once. Knows no files.
"""

import copy
import copyreg
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from likely.metal import mx, packed
from likely.metal.attention import Emit, Mask
from likely.metal.packed import FULL, SIXTEEN, PackedMatrix
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import FIRST, KVCache, RowSize
from likely.models.configuration.rotation import Rotation
from likely.models.errors import CacheError
from likely.models.families import FAMILIES, registry
from likely.models.model import Activations, LanguageModel
from likely.models.native_path import native_graph
from likely.models.packed_weights.additions import PackedAdditions
from likely.models.packed_weights.cache import PackedCache
from likely.models.packed_weights.packed import PackedModel, Weights, refusal
from likely.models.transformer import Transformer

copyreg.pickle(mx.Dtype, lambda dtype: str(dtype).rpartition(".")[2])  # a dtype is a global: its copy is itself


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
    fast = PackedModel(shape, names, weights)
    return NativeModel(fast, lambda: native_graph.graph(config, weights, fast, expandable=expandable), weights)


def as_graph(model: LanguageModel) -> Transformer | None:
    """The model with parts that can be seen and replaced, its graph for a native one; None where it is mlx-lm's."""
    if isinstance(model, NativeModel):
        return model.graph
    return model if isinstance(model, Transformer) else None


def drawing(model: LanguageModel) -> LanguageModel:
    """The model as whoever draws reads it, its activations rounded. Whoever measures reads the model itself."""
    return model.drawing if isinstance(model, NativeModel) else model


def precision(
    model: LanguageModel, *, bits: int | tuple[int, int] | None = None, window: int = 0, sinks: int = 0, **_: Any
) -> str:
    """How the model computes with a cache of a kind (`LanguageModel.make_cache`), in words: the type of activations,
    keys and values, or how these are rounded: "16-bit activations, float16 cache"."""
    if bits is None:
        rounding = model.rounding if isinstance(model, NativeModel) and not (window or sinks) else ""
        return rounding or _name(model.dtype)
    keys, values = (bits, bits) if isinstance(bits, int) else bits
    cache = f"{keys}-bit cache" if keys == values else f"{keys}-bit keys, {values}-bit values"
    return f"{_name(model.dtype)}, {cache}"


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]


def last_logits(model: LanguageModel, hidden: mx.array) -> mx.array | np.ndarray:
    """Logits [B, V] of the last of hidden states [B, T, C]; numpy's where native code computes them."""
    return model.last_logits(hidden) if isinstance(model, NativeModel) else model.head(hidden[:, -1])


def renew(model: LanguageModel) -> None:
    """Let a native pass compute with what is on its graph now; other models do so anyhow."""
    if isinstance(model, NativeModel):
        model.renew()


class _Graph:
    """The graph of some weights, for all that read them, and what is on it as the native call has it."""

    def __init__(self, make: Callable[[], Transformer]) -> None:
        self.make = make
        self.made: Transformer | None = None
        self.additions: PackedAdditions | None = None
        self.alone = False  # what is on it the native call has not

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Graph":
        twin = copy.copy(self)
        twin.made = copy.deepcopy(self.made, memo)
        return twin


class NativeModel:
    """A `LanguageModel`. What is put on its graph is on it too from the next `renew`."""

    rotations: Sequence[Rotation] = ()  # those that follow the length are refused
    dtype: mx.Dtype = mx.float32

    def __init__(self, fast: PackedModel, graph: Callable[[], Transformer], weights: Weights) -> None:
        self.config = fast.config
        self._plain = self._beside = fast  # without what is on the graph, and with it
        self._weights, self._graph = weights, _Graph(graph)
        self._drawn_with = SIXTEEN  # bits
        self._drawing: NativeModel | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "NativeModel":
        """A second one over the same packed weights, which nobody writes; what is on the graph of one is its own."""
        twin = copy.copy(self)
        twin._graph, twin._drawing = copy.deepcopy((self._graph, self._drawing), memo)
        return twin

    def with_activations(self, bits: int | None) -> "NativeModel":
        """The model with activations of so many bits in its native passes, whatever they are for; None: as it is built.

        ConfigError where they gain nothing.
        """
        twin = copy.copy(self)
        twin._plain = twin._beside = self._plain.with_activations(FULL if bits is None else bits)
        twin._drawn_with, twin._drawing = SIXTEEN if bits is None else bits, None
        return twin

    def configured(self, config: Mapping[str, Any], *, expandable: bool) -> "NativeModel":
        """The model of another configuration over the same packed weights, without what is on the graph of this one."""
        made, bits = build(config, self._weights, expandable=expandable), self._plain.activation_bits
        return made if bits == made._plain.activation_bits else made.with_activations(bits)

    @property
    def row_bytes(self) -> int:
        """Bytes of a key's or a value's number in its native cache."""
        return self._plain.make_cache().shape.dtype.itemsize

    @property
    def rounding(self) -> str:
        """How its native passes round; "" where they are float32, or the graph reads all."""
        bits, library = self._plain.activation_bits, packed.load()
        if self._graph.alone or bits == FULL:
            return ""
        rounded = library is not None and library.rounds
        return f"{f'{bits}-bit activations' if rounded else 'float32'}, float16 cache"

    @property
    def drawing(self) -> "NativeModel":
        """The model with the activations that are to be drawn with: SIXTEEN bits unless others were asked for."""
        if self._plain.activation_bits == self._drawn_with:
            return self
        if self._drawing is None:
            self._drawing = self.with_activations(self._drawn_with)
        return self._drawing

    def renew(self) -> None:
        """Compute with what is on the graph now: adapters and directions natively, all through the graph else."""
        known = native_graph.additions(self.graph)
        self._graph.alone = known is None
        self._graph.additions = PackedAdditions(known, self._plain.outputs) if known else None

    def without(self, layer: int, head: int) -> "NativeModel | None":
        """The model for native passes with a head that gives 0 at every position; None where there are none."""
        if (known := native_graph.additions(self.graph)) is None:
            return None
        heads = np.ones(self.config.heads)
        heads[head] = 0
        twin = copy.copy(self)
        twin._graph, twin._drawing = copy.copy(self._graph), None
        twin._graph.additions = PackedAdditions(replace(known, heads={layer: heads}), self._plain.outputs)
        return twin

    @property
    def _fast(self) -> PackedModel | None:
        """The native call with what is on the graph; None where it has not all of it."""
        if self._graph.alone:
            return None
        if self._beside.additions is not self._graph.additions:
            self._beside = self._plain.with_additions(self._graph.additions)
        return self._beside

    @property
    def expanded(self) -> bool:
        """Whether its weights lie in memory a second time, as the graph has them: some at least."""
        return self._graph.made is not None and any(rows.made is not None for rows in native_graph.matrices(self.graph))

    @property
    def graph(self) -> Transformer:
        """The model as a graph, whose parts can be seen and replaced; its matrices are expanded as needed."""
        if self._graph.made is None:
            self._graph.made = self._graph.make()
        return self._graph.made

    def __call__(self, tokens: mx.array, cache: Cache | None = None) -> mx.array:
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: mx.array, cache: Cache | None = None, *, mask: Mask | None = None) -> mx.array:
        read = None if mask is not None else self._native(tokens, cache)
        if read is not None:
            return mx.array(read[0].hidden(np.asarray(tokens), read[1]))
        return self.graph.hidden(tokens, self._carried(cache), mask=mask)

    def _native(self, tokens: mx.array, cache: Cache | None) -> tuple[PackedModel, PackedCache] | None:
        """The call and the cache by which tokens are read; None where it is the graph that does."""
        fast = self._fast
        if fast is None or not (cache is None or (isinstance(cache, NativeCache) and cache.graph is None)):
            return None
        if cache is None:
            return fast, fast.make_cache(tokens.shape[1])
        cache.native.expected = cache.expected
        return fast, cache.native

    def _carried(self, cache: Cache | None) -> Cache | None:
        return cache.carried(self.graph) if isinstance(cache, NativeCache) else cache

    def head(self, hidden: mx.array) -> mx.array:
        fast = self._fast
        return self.graph.head(hidden) if fast is None else mx.array(fast.head(np.asarray(hidden)))

    def last_logits(self, hidden: mx.array) -> mx.array | np.ndarray:
        """Logits [B, V] of the last of hidden states [B, T, C]; numpy's, without a copy, if they are native."""
        fast = self._fast  # a slice of mlx's would wait for another thread
        return self.graph.head(hidden[:, -1]) if fast is None else fast.head(np.asarray(hidden)[:, -1])

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
        if self._graph.alone or bits is not None or window or sinks:
            how = {"bits": bits, "group_size": group_size, "exact": exact, "window": window, "sinks": sinks}
            return self.graph.make_cache(capacity, **how)  # type: ignore[arg-type]
        return NativeCache(self._plain.make_cache(capacity))

    def inspect(
        self, tokens: mx.array, cache: Cache | None = None, *, emit: Emit | None = None, layers: int | None = None
    ) -> Activations:
        """With `emit` by the graph. `layers`: how many are read, where nobody reads on from the cache."""
        read = None if emit is not None else self._native(tokens, cache)
        if read is None:
            return self.graph.inspect(tokens, self._carried(cache), emit=emit)
        fast = read[0] if layers is None else read[0].lower(layers)
        states, final = fast.states(np.array(tokens), read[1])
        return Activations([*map(mx.array, states)], [], mx.array(final))

    def lens(self, hidden: mx.array) -> mx.array:
        fast = self._fast
        return self.graph.lens(hidden) if fast is None else mx.array(fast.lens(np.array(hidden)))

    def crosses(self, cache: Cache, length: int) -> bool:
        return False  # frequencies that follow the length are refused

    def warm(self, dtype: mx.Dtype) -> None:
        """Nothing: no kernel of a GPU runs in it."""

    @property
    def arrays(self) -> dict[str, mx.array]:
        """Of packed matrices the bytes, copied."""
        return {
            name: mx.array(matrix.packed if isinstance(matrix, PackedMatrix) else matrix)
            for name, matrix in self._weights.items()
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
            for rows, padded in zip(self.native.taken(0, length, i), (keys, values), strict=True):
                padded.append(np.pad(rows, ((0, 0), (0, 0), (0, most - length), (0, 0))))
        joined = [np.stack(rows, axis=1).astype(np.float32) for rows in (keys, values)]  # [layers, B, Hkv, n, D]
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
        """Arrays [1, layers Hkv, end - start, D] as they are held; None where there are several texts."""
        if len(self._native.texts) != 1 or end > self._native.length:
            return None
        parts = self._native.taken(start, end)
        return {
            name: mx.array(rows.reshape(1, -1, *rows.shape[2:]))
            for name, rows in zip(("keys", "values"), parts, strict=True)
        }

    def paste(self, parts: Sequence[Mapping[str, mx.array]], ends: Sequence[int]) -> None:
        """Hold what was cut, for a cache that holds nothing."""
        layers, heads, size, _ = self._native.shape
        joined = [
            np.concatenate([np.array(part[name])[0] for part in parts], axis=1).reshape(layers, heads, -1, size)
            for name in ("keys", "values")
        ]
        self._native.put(*joined)
