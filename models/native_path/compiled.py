"""`CompiledStep`: a model's forward pass for one token, traced once and replayed for every token after it.

What changes from token to token (where its rows go, how long the text is) is data on the device, and the shapes are
those of the caches' buffers. So `mx.compile` traces the Python of a step once for each capacity, not once for each
token. The weights are part of the trace: `forget` it when they change. Knows nothing of drawing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from likely.metal import dispatch, kernel, mx
from likely.metal.attention import KV, Mask, QuantizedRows
from likely.metal.device import compiles, insisted
from likely.metal.qkv_prepare import PLAIN
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import KVCache, NewRows, write
from likely.models.model import LanguageModel
from likely.models.modules.linear import Linear, QuantizedLinear
from likely.models.transformer import Transformer

Array = mx.array
Compile = Callable[[Callable[..., Any]], Callable[..., Any]]
Packing = tuple[int, int] | None  # of rows: group size and bits
KEPT = 16  # traces: mx.compile looks through all that it holds of a function, so each shape gets a function of its own


def default(model: LanguageModel) -> Compile | None:
    """Compiler of a step on this machine; None where that is not known to pay.

    A compiled step saves the host's time, but only the device knows how many rows there are: it attends by our kernels,
    or by mlx's own over the whole capacity with an array of what is seen. So with Metal it is for chips on which that
    was measured to cost no more for this model's heads.
    """
    if not compiles():
        return None
    if not kernel.available() or insisted():
        return mx.compile
    c = model.config
    heads = dispatch.of_heads(model.dtype, c.head_size, c.heads, c.kv_heads)
    asked = ("decode compiled", "decode prefix")
    pays = any(wins and name.startswith(asked) and heads in name for name, wins in dispatch.faster.items())
    return mx.compile if pays else None


class CompiledStep:
    """`hidden` of a model, the compiled way wherever there is one token a row and a trace can serve it."""

    def __init__(self, model: LanguageModel, compile: Compile | None = None) -> None:
        """`compile` stands for `mx.compile`, by default where that pays. `traces`: how often Python was traced."""
        self.model = model
        self.traces = 0
        self._whole = _traceable(model)
        self._compile = (compile or default(model)) if self._whole else None
        self._measured = compile is None and kernel.available() and not insisted()
        self._steps: dict[object, Callable[..., Any]] = {}

    @property
    def on(self) -> bool:
        """Whether steps are compiled."""
        return self._compile is not None

    def forget(self) -> None:
        """Trace anew: the weights are others now."""
        self._steps.clear()

    def hidden(self, tokens: Array, cache: Cache) -> Array:
        """[B, T, C] as `LanguageModel.hidden`."""
        model = self._whole
        if model is None or not self.on or tokens.shape[1] != 1 or not all(map(_stays, cache.layers)):
            return self.model.hidden(tokens, cache)
        if self._measured and not self._pays(tokens.shape[0], cache):
            return self.model.hidden(tokens, cache)
        layers, longest = cache.layers, model.admit(cache, 1)
        offset = mx.array([cache.length], dtype=mx.int32)
        places = cache.places(tokens.shape[0], 1)
        apart = {id(place): place for place in places}  # layers that hold as many rows share one
        numbers = {place: i for i, place in enumerate(apart)}
        for layer, place in zip(layers, places, strict=True):
            assert layer.keys is not None
            layer.reserve(layer.keys, place.end)
        fronts = [layer.front for layer in layers]
        shape = (
            tuple(rotation.rope.regime(longest) for rotation in model.rotations),
            tuple((numbers[id(place)], layer.mask) for layer, place in zip(layers, places, strict=True)),
            tuple(map(_kind, fronts)),
            tuple(layer.keys.shape for layer in layers if layer.keys is not None),
        )
        if shape not in self._steps:
            self._steps[shape] = self._traced(model, longest, shape[1], shape[2])
            if len(self._steps) > KEPT:
                del self._steps[next(iter(self._steps))]
        hidden, rows = self._steps[shape](
            tokens,
            offset,
            [[place.starts, place.lengths] for place in apart.values()],
            [[layer.keys, layer.values] for layer in layers],
            [_arrays(front) for front in fronts],
        )
        for layer, (keys, values), place in zip(layers, rows, places, strict=True):
            layer.hold(keys, values, place)
            layer.settle()
        return hidden  # type: ignore[no-any-return]

    def _pays(self, b: int, cache: Cache) -> bool:
        """Whether attention was measured to cost no more in a compiled step, for all that this one attends to.

        Behind a front, of which stock would copy the rows, that is where ours was faster.
        """
        c, dtype = self.model.config, self.model.dtype
        asked = set()
        for layer, window in zip(cache.layers, c.windows, strict=True):
            rows, front = layer.rows + 1, layer.front
            words = ["decode"]
            if front is None:
                assert layer.keys is not None
                rows = max(rows, layer.keys.shape[2])
                words.append("compiled")
            else:
                rows += front.total or 0
                windowed = window or (layer.mask is not None and layer.mask.window)
                words += ["prefix"] + (["window"] if windowed else [])
            words += ["capped"] if c.softcap is not None else []
            words += sorted({dispatch.packed(part) for part in (front.chain() if front else ())} - {""})
            asked.add((" ".join(words), dispatch.bucket(rows)))
        shape = dtype, c.head_size, c.heads, c.kv_heads, b
        return all(dispatch.faster.get(dispatch.name(kind, *shape, rows), False) for kind, rows in asked)

    def _traced(
        self,
        model: Transformer,
        longest: int,
        layers: Sequence[tuple[int, Mask | None]],
        fronts: Sequence[tuple[Any, ...]],
    ) -> Callable[..., Any]:
        """The step for layers, each with the number of its place and its mask, whose rows stand behind such fronts."""

        def step(tokens: Array, offset: Array, where: Any, rows: Any, before: Any) -> tuple[Array, list[list[Array]]]:
            self.traces += 1
            caches = [
                _Rows(keys, values, _filled(kind, list(arrays)), mask)
                for (keys, values), (_, mask), kind, arrays in zip(rows, layers, fronts, before, strict=True)
            ]
            apart = [NewRows(start, lengths, None, 0) for start, lengths in where]
            x, shared = model.enter(tokens, offset, longest)
            hidden = model.through(x, shared, caches, [apart[i] for i, _ in layers])
            return hidden, [[cache.keys, cache.values] for cache in caches]

        assert self._compile is not None
        return self._compile(step)


class _Rows(KVCache):
    """A layer's rows while a step is traced; how many there are only the device knows."""

    keys: Array
    values: Array

    def __init__(self, keys: Array, values: Array, front: KV | None, mask: Mask | None) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.mask, self._front = mask, front

    @property
    def front(self) -> KV | None:
        return self._front

    def append(self, keys: Array | QuantizedRows, values: Array | QuantizedRows, place: NewRows | None = None) -> KV:
        assert isinstance(keys, Array) and isinstance(values, Array) and place is not None
        self.keys, self.values = write(self.keys, keys, place), write(self.values, values, place)
        return KV(self.keys, self.values, place.lengths, None, False, None, self.front, cached=True)


def _traceable(model: LanguageModel) -> Transformer | None:
    """The model, if a trace of it can serve other tokens than the one it was made with.

    Not where frequencies follow the length, where mlx-lm's class runs the model, and where ranks share it, which count
    their messages: its head is not one product then.
    """
    if not isinstance(model, Transformer) or not isinstance(model.out, Linear | QuantizedLinear):
        return None
    return model if all(rotation.rope.kind != "dynamic" for rotation in model.rotations) else None


def _stays(layer: KVCache) -> bool:
    """Whether the layer has a buffer, and the next row goes to the same place in it for all of B."""
    return layer.keys is not None and layer.each is None and layer.formats(1) == (PLAIN, PLAIN)


def _kind(front: KV | None) -> tuple[Any, ...]:
    """All of a chain that is not an array, and the shapes of those that are."""
    if front is None:
        return ()
    return tuple(
        (_packing(part.keys), _packing(part.values), part.ragged, part.positions is not None, part.keys.shape)
        for part in front.chain()
    )


def _packing(rows: Array | QuantizedRows) -> Packing:
    return (rows.group_size, rows.bits) if isinstance(rows, QuantizedRows) else None


def _arrays(front: KV | None) -> list[Array]:
    """The arrays of a chain, in the order in which `_filled` takes them."""
    found: list[Array] = []
    for part in () if front is None else front.chain():
        for rows in (part.keys, part.values):
            found += [rows.codes, rows.scales, rows.biases] if isinstance(rows, QuantizedRows) else [rows]
        found += [part.lengths] if part.positions is None else [part.lengths, part.positions]
    return found


def _filled(kind: tuple[Any, ...], arrays: list[Array]) -> KV | None:
    """The chain of these arrays."""

    def rows(packing: Packing) -> Array | QuantizedRows:
        if packing is None:
            return arrays.pop(0)
        return QuantizedRows(arrays.pop(0), arrays.pop(0), arrays.pop(0), *packing)

    front: KV | None = None
    for keys, values, ragged, located, _ in kind:
        parts = rows(keys), rows(values), arrays.pop(0)
        front = KV(*parts, None, ragged, arrays.pop(0) if located else None, front, cached=True)
    return front
