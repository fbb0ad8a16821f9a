"""One transformer for every family: tokens in, logits out, through blocks whose parts the configuration chose.

`hidden` and `head` are apart so that logits are computed only where someone looks. Knows nothing of names in files
(`models.families.registry`) and nothing of what is done with the logits.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from likely.metal import kernel, mx
from likely.metal.attention import Emit, Mask
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import FIRST, KVCache, NewRows
from likely.models.caches.quantized_cache import QuantizedCache
from likely.models.caches.window_cache import WindowCache
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.rotation import Rotation, rotation
from likely.models.errors import CacheError, ConfigError, ContextOverflow
from likely.models.model import Activations
from likely.models.modules import parts
from likely.models.modules.block import Block, ForwardContext, RowRotation
from likely.models.modules.linear import AnyLinear, Embedding, Norm, bare, linear
from likely.models.modules.parts import ModelPart, TensorNames
from likely.models.modules.weights import Matrix

if TYPE_CHECKING:
    from likely.models.packed_weights.texts import PackedTexts

Array = mx.array
Begun = tuple[
    Array, ForwardContext, Sequence[KVCache | None], Sequence[NewRows | None]
]  # what `Transformer.through` takes


class Transformer:
    """p(x_i | x_<i) as logits: `model(tokens [B, T], cache) -> [B, T, V]`."""

    packed: "PackedTexts | None" = None  # native passes of the weights, where they are packed

    def __init__(
        self,
        config: ModelConfig,
        names: TensorNames,
        *,
        embed: Embedding,
        positions: Embedding | None,
        blocks: list[Block],
        rotations: list[Rotation],
        norm: Norm,
        out: AnyLinear,
    ) -> None:
        self.config, self.names = config, names
        self.embed, self.positions = embed, positions
        self.blocks, self.rotations = blocks, rotations
        self.norm, self.out = norm, out

    def __call__(self, tokens: Array, cache: Cache | None = None) -> Array:
        """Logits [B, T, V] after each of `tokens` [B, T], which follow what `cache` holds and are added to it."""
        return self.head(self.hidden(tokens, cache))

    def hidden(
        self,
        tokens: Array,
        cache: Cache | None = None,
        *,
        mask: Mask | None = None,
        documents: Sequence[int] = (),
        after: Sequence[int] = (),
    ) -> Array:
        """[B, T, C] after the final norm: what `head` takes.

        `mask` takes the place of causal attention in every layer; a layer that slides keeps its window. `documents` are
        the lengths of texts that stand one after another in tokens [1, T]: each is read as if alone, or, where `after`
        names an earlier one for it and not -1, as what follows that.
        """
        if mask is None:
            self.require_causal()
        x, step, caches, places = self._begin(tokens, cache, documents, after)
        if mask is not None:
            step.mask = mask
        return self.through(x, step, caches, places)

    def require_causal(self) -> None:
        """Nothing, for a model of p(x_i | x_<i); ConfigError for a diffusion model."""
        if self.config.diffusion is not None:
            raise ConfigError(
                "this is a diffusion model, which does not go from left to right: likely fill draws from it, and what "
                "would read it as p(x_i | x_<i) cannot"
            )

    def through(
        self, x: Array, step: ForwardContext, caches: Sequence[KVCache | None], places: Sequence[NewRows | None]
    ) -> Array:
        """The blocks and the final norm, applied to x [B, T, C]."""
        for block, layer, place in zip(self.blocks, caches, places, strict=True):
            x = block(x, step, layer, place)
        return self.norm(x)

    def head(self, hidden: Array) -> Array:
        """Logits [..., V] of hidden states [..., C]."""
        return self.scaled(self.out(hidden))

    def scaled(self, logits: Array) -> Array:
        """Logits of what the head's product gives: with the model's scale and cap."""
        config = self.config
        if config.logit_scale != 1:
            logits = logits * config.logit_scale
        if config.logit_softcap is not None:
            logits = mx.tanh(logits / config.logit_softcap) * config.logit_softcap
        if config.diffusion is not None:  # no text has a mask (SUBS, arXiv:2406.07524)
            logits = mx.where(mx.arange(logits.shape[-1]) == config.diffusion.mask, -mx.inf, logits)
        return logits

    def inspect(
        self, tokens: Array, cache: Cache | None = None, *, emit: Emit | None = None, mask: Mask | None = None
    ) -> Activations:
        """A pass over tokens [B, T] that keeps hidden states by layer and, as `emit` asks, what heads attended to."""
        if mask is None:
            self.require_causal()
        x, step, caches, places = self._begin(tokens, cache)
        step.emit, step.mask = emit, mask
        hidden = [x]
        for block, layer, place in zip(self.blocks, caches, places, strict=True):
            x = block(x, step, layer, place)
            hidden.append(x)
        return Activations(hidden, step.reports, self.norm(x))

    def lens(self, hidden: Array) -> Array:
        """Logits [..., V] as if the layers after `hidden` [..., C] did nothing (the logit lens)."""
        return self.head(self.norm(hidden))

    def turn_by(self, config: ModelConfig) -> None:
        """Turn by the rotations of this configuration, which differs from its own in them and in the context alone."""
        ropes = list(dict.fromkeys(rope for rope in config.ropes if rope is not None))
        self.config, self.rotations = config, [rotation(rope, config.head_size) for rope in ropes]
        for block, rope in zip(map(bare, self.blocks), config.ropes, strict=True):
            turn = -1 if rope is None else ropes.index(rope)
            block.turned(None if rope is None else self.rotations[turn], turn)

    def warm(self, dtype: mx.Dtype) -> None:
        """Compile the kernels that new rows go through, on zeros: no weight is read."""
        if not (kernel.available() and kernel.enabled("qkv_prepare", dtype, self.config.head_size)):
            return
        turn = RowRotation(mx.array([0], dtype=mx.int32), [rotation.rotary(1) for rotation in self.rotations])
        kinds = {(block.turn, block.norm is None): block for block in self.blocks if block.prepared}
        mx.eval([block.warm(turn, dtype) for block in kinds.values()])

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
        """An empty cache; `capacity` rows are set aside at the first token, and more by doubling.

        Layers that slide keep their window. The others keep all, or, with `bits` (a number, or one for keys and one
        for values), pack all but the last `exact` positions, or, with `window`, forget what is further back, the first
        `sinks` positions excepted. CacheError for what this model's head size does not allow.
        """
        if bits is not None and window:
            raise CacheError("a cache is quantised or has a window, not both: leave out bits or window")
        if sinks and not window:
            raise CacheError(f"sinks go with a window, got sinks={sinks} and no window")
        group = group_size or _group(self.config.head_size)
        if bits is not None and (not group or self.config.head_size % group):
            sizes = f"group_size {group}" if group else "any group size"
            raise CacheError(f"heads of {self.config.head_size} numbers cannot be quantised with {sizes}")

        def layer(slides: int) -> KVCache:
            if slides and (not window or slides <= window):
                return WindowCache(slides, capacity=capacity)
            if window:
                return WindowCache(window, sinks, capacity)
            return KVCache(capacity) if bits is None else QuantizedCache(bits, group or 0, exact, capacity)

        return Cache([layer(slides) for slides in self.config.windows])

    @property
    def arrays(self) -> dict[str, Array]:
        """Every weight once, by a checkpoint's name, in the order of the layers."""
        return {f"{part.path}.{name}": a for part in self.parts() for name, a in part.arrays().items()}

    def parts(self) -> list[ModelPart]:
        """Every tensor of a checkpoint and its place here, from the embedding up."""
        config, names = self.config, self.names
        listed = [parts.table(names, "embed", self)]
        if self.positions is not None:
            listed.append(parts.table(names, "positions", self))
        for index, block in enumerate(self.blocks):
            listed += parts.of_block(block, names, index)
        offset = 1.0 if config.norm == "rms+1" else 0.0
        listed.append(parts.norm(names.path("norm"), "norm", config.layers, self, "norm", offset))
        if not config.tied:
            listed.append(parts.head(names, config.layers, self))
        return listed

    def put(self, part: ModelPart, weight: Matrix | None = None, bias: Array | None = None) -> None:
        """Let these take the place of a part's weight and bias; what is not given stays.

        A product of several parts stays one where all are packed alike afterwards, and comes apart where not.
        """
        parts.put(part, weight, bias)
        if part.role == "embed" and self.config.tied:
            parts.set_layer(self, "out", linear(part.matrix))

    def split(self) -> None:
        """Let every part stand alone: what was joined comes apart, in place."""
        parts.split(self.parts())

    def unite(self) -> None:
        """Make one product again of the parts that can be one, in place."""
        parts.unite(self.parts())

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the activations, and of keys and values as they come."""
        return bare(self.norm).weight.dtype  # type: ignore[no-any-return]

    def _begin(
        self, tokens: Array, cache: Cache | None, documents: Sequence[int] = (), after: Sequence[int] = ()
    ) -> Begun:
        b, t = tokens.shape
        if documents:
            return self._of_documents(self._embedded(tokens), cache, documents, after)
        longest = self.admit(cache, t)
        if cache is None:
            x, step = self.enter(tokens, 0, longest, prepare=False)
            step.lengths = mx.array([t] * b, dtype=mx.int32)
            nothing = [None] * len(self.blocks)
            return x, step, nothing, nothing
        x, step = self.enter(tokens, cache.length if cache.each is None else cache.lengths, longest)
        return x, step, cache.layers, cache.places(b, t)

    def admit(self, cache: Cache | None, t: int) -> int:
        """The length of the text that T more tokens are part of.

        CacheError where the keys in the cache were turned otherwise than this length asks for, ContextOverflow where a
        table of positions ends before it.
        """
        longest = t
        if cache is not None:
            longest = max(t + cache.length, cache.expected)
            self._same_regime(cache, longest)
        if self.positions is not None:
            self._check_positions(longest)
        return longest

    def enter(
        self, tokens: Array, offset: int | Array, longest: int, *, prepare: bool = True
    ) -> tuple[Array, ForwardContext]:
        """Input of the first block [B, T, C] and the context of all, for tokens from position `offset`, an int or [B].

        Everything that depends on `offset` is computed on the device where that is an array. `prepare`: new rows may go
        through our kernel, which has no derivative.
        """
        x, t = self._embedded(tokens), tokens.shape[1]
        if self.positions is not None:
            x = x + self.positions(_at(offset, t))
        step = ForwardContext([rotation.turns(offset, t, longest) for rotation in self.rotations], _UNKNOWN)
        ours = kernel.available() and kernel.enabled("qkv_prepare", x.dtype, self.config.head_size)
        if prepare and self.rotations and ours:
            at = mx.array([offset], dtype=mx.int32) if isinstance(offset, int) else offset
            step.turn = RowRotation(at, [rotation.rotary(longest) for rotation in self.rotations])
        return x, step

    def _embedded(self, tokens: Array) -> Array:
        x = self.embed(tokens)
        return x if self.config.embed_scale == 1 else x * self.config.embed_scale

    def _of_documents(
        self, x: Array, cache: Cache | None, documents: Sequence[int], after: Sequence[int] = ()
    ) -> Begun:
        """The start of a pass over several documents in one row, each from position 0 or the end of another."""
        b, t, _ = x.shape
        if cache is not None or b != 1 or sum(documents) != t or min(documents) < 1:
            raise CacheError(f"documents stand in one row without a cache, and their lengths add up to its {t} tokens")
        starts = [documents[of] if of >= 0 else 0 for of in after] or [0] * len(documents)
        spans = [(start, start + n) for start, n in zip(starts, documents, strict=True)]
        if self.positions is not None:
            self._check_positions(max(end for _, end in spans))
            x = x + self.positions(mx.concatenate([mx.arange(*span) for span in spans]))
        turns = [rotation.of_documents(spans) for rotation in self.rotations]
        nothing = [None] * len(self.blocks)
        lengths = mx.array([t], dtype=mx.int32)
        return x, ForwardContext(turns, lengths, Mask.of_documents(documents, after)), nothing, nothing

    def _check_positions(self, length: int) -> None:
        """A table of positions ends; what lies behind it in memory is no position."""
        if length > self.config.learned_positions:
            raise ContextOverflow(f"this model has {self.config.learned_positions} positions, {length} were asked for")

    def continues(self, length: int, longer: int) -> bool:
        """Whether a text of `length` is turned as the beginning of a `longer` one is."""
        return self._regime(length) == self._regime(longer)

    def crosses(self, cache: Cache, length: int) -> bool:
        """Whether a text of `length` needs other rotary frequencies than the keys in the cache were turned with.

        They cannot be attended to then: rewind the cache to nothing and read the text anew, with `cache.expected` set.
        """
        return cache.regime is not None and cache.regime != self._regime(length)

    def _regime(self, length: int) -> tuple[int, ...]:
        return tuple(r.rope.regime(length) for r in self.rotations if r.rope.kind == "longrope")

    def _same_regime(self, cache: Cache, length: int) -> None:
        """Keys that were turned with other frequencies than this length asks for cannot be attended to."""
        if self.crosses(cache, length):
            raise CacheError(
                f"{length} positions need other rotary frequencies than the {cache.length} in the cache: read them anew"
            )
        cache.regime = self._regime(length)


_UNKNOWN = mx.array([], dtype=mx.int32)


def _group(size: int) -> int | None:
    """The largest group of a cache's layout that divides a head."""
    return next((group for group in (64, 32) if size % group == 0), None)


def _at(offset: int | Array, t: int) -> Array:
    """Positions [T], or [B, T] where rows differ."""
    if isinstance(offset, int):
        return mx.arange(offset, offset + t)
    return offset[:, None] + mx.arange(t)
