"""One transformer for every family: tokens in, logits out, through blocks whose parts the configuration chose.

`hidden` and `head` are apart so that logits are computed only where someone looks. Knows nothing of names in files
(`models.families`) and nothing of what is done with the logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from metal import mx
from metal.attention import CAUSAL, KV, Emit, Mask, Seen, attention
from models.cache import FIRST, Cache, KVCache, Place
from models.config import ModelConfig
from models.errors import CacheError, ContextOverflow
from models.layers import AnyLinear, Embedding, Norm, Product, onto
from models.mlp import MLP, Mixture
from models.rope import Rotation
from models.tail import QuantizedCache, WindowCache

Array = mx.array


@dataclass(frozen=True, slots=True)
class Document:
    """Positions [start, stop) of a row that are read as if nothing stood before them."""

    start: int
    stop: int
    turns: list[tuple[Array, ...]]  # as a step's, from position 0


@dataclass(slots=True)
class Step:
    """What all blocks of one call share."""

    turns: list[tuple[Array, ...]]  # for each rotation of the model, the angles of the new positions
    lengths: Array  # without a cache: T for each of B
    documents: list["Document"] = field(default_factory=list)  # what the row is made of, where that is several
    emit: Emit | None = None
    seen: list[Seen] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class View:
    """What a model did on the way to its logits."""

    hidden: list[Array]  # [B, T, C]: the embedding, then the output of each block, before the final norm
    attention: list[Seen]  # for each layer, what was asked for
    final: Array  # [B, T, C]: what `head` takes


class Block:
    """One layer. A part that the family does not have is None."""

    def __init__(
        self,
        config: ModelConfig,
        index: int,
        *,
        qkv: Product,
        out: Product,
        mlp: MLP,
        norms: dict[str, Norm],
        rotation: Rotation | None,
        turn: int,
    ) -> None:
        self.qkv, self.out, self.mlp = qkv, out, mlp
        self.norms = norms
        self.attn_norm, self.attn_post_norm = norms.get("attn_norm"), norms.get("attn_post_norm")
        self.mlp_norm, self.mlp_post_norm = norms.get("mlp_norm"), norms.get("mlp_post_norm")
        self.q_norm, self.k_norm = norms.get("q_norm"), norms.get("k_norm")
        self.heads, self.kv_heads, self.size = config.heads, config.kv_heads, config.head_size
        self.rotated = config.heads + config.kv_heads
        self.eps = config.eps
        self.per_head: Array | None = None  # weights of the norm of each head of q and k [H + Hkv, 1, D]
        if config.qk_norm == "head":
            assert self.q_norm is not None and self.k_norm is not None
            parts = [mx.repeat(n.weight[None, None], count, axis=0) for n, count in self._head_norms()]
            self.per_head = mx.concatenate(parts)
            self.q_norm = self.k_norm = None
        self.rotation, self.turn = rotation, turn
        window = config.windows[index]
        self.mask = Mask(window=window) if window else CAUSAL
        self.scale, self.softcap = config.scale, config.softcap
        self.residual_scale = config.residual_scale
        self.parallel = config.parallel

    def _head_norms(self) -> list[tuple[Norm, int]]:
        assert self.q_norm is not None and self.k_norm is not None
        return [(self.q_norm, self.heads), (self.k_norm, self.kv_heads)]

    def __call__(self, x: Array, step: Step, cache: KVCache | None, place: Place | None) -> Array:
        a = self.attend(x if self.attn_norm is None else self.attn_norm(x), step, cache, place)
        if self.attn_post_norm is None and self.residual_scale == 1:
            h = onto(x, self.out, a)
        else:
            h = x + self._scaled(self.out(a), self.attn_post_norm)
        source = x if self.parallel else h
        if self.mlp_norm is not None:
            source = self.mlp_norm(source)
        if self.mlp_post_norm is None and self.residual_scale == 1:
            return self.mlp.onto(h, source)
        return h + self._scaled(self.mlp(source), self.mlp_post_norm)

    def _scaled(self, y: Array, norm: Norm | None) -> Array:
        """What a part adds to the residual stream."""
        if norm is not None:
            y = norm(y)
        return y if self.residual_scale == 1 else y * self.residual_scale

    def attend(self, x: Array, step: Step, cache: KVCache | None, place: Place | None) -> Array:
        """What the heads make of x [B, T, C], [B, T, H D]: the input of `out`."""
        b, t, _ = x.shape
        size, heads = self.size, self.heads
        y = self.qkv(x)
        if self.q_norm is not None and self.k_norm is not None:
            q, k, v = mx.split(y, [heads * size, self.rotated * size], axis=-1)
            y = mx.concatenate([self.q_norm(q), self.k_norm(k), v], axis=-1)
        # [B, H + 2 Hkv, T, D]
        y = y.reshape(b, -1, 1, size) if t == 1 else y.reshape(b, t, -1, size).swapaxes(1, 2)
        qk, v = mx.split(y, [self.rotated], axis=1)
        if self.per_head is not None:
            qk = mx.fast.rms_norm(qk, None, self.eps) * self.per_head
        if step.documents:
            return self._each(qk, v, step.documents)
        if self.rotation is not None:
            qk = self.rotation(qk, step.turns[self.turn])
        q, k = mx.split(qk, [heads], axis=1)
        mask = self.mask
        if cache is None:
            kv = KV(k, v, step.lengths, t)
        else:
            kv = cache.append(k, v, place)
            mask = cache.mask or mask
        if step.emit is None:
            out = attention(q, kv, scale=self.scale, mask=mask, softcap=self.softcap)
        else:
            kv = kv if cache is None else cache.located(kv)
            out, seen = attention(q, kv, scale=self.scale, mask=mask, softcap=self.softcap, emit=step.emit)
            step.seen.append(seen)
        if t > 1:
            out = out.swapaxes(1, 2)
        return out.reshape(b, t, heads * size)

    def _each(self, qk: Array, v: Array, documents: list[Document]) -> Array:
        """Attention [1, T, H D] of each document to itself, for qk [1, H + Hkv, T, D] that are not turned yet."""
        outs = []
        for document in documents:
            rows = slice(document.start, document.stop)
            t = document.stop - document.start
            part = qk[:, :, rows]
            if self.rotation is not None:
                part = self.rotation(part, document.turns[self.turn])
            q, k = mx.split(part, [self.heads], axis=1)
            kv = KV(k, v[:, :, rows], mx.array([t], dtype=mx.int32), t)
            outs.append(attention(q, kv, scale=self.scale, mask=self.mask, softcap=self.softcap))
        out = outs[0] if len(outs) == 1 else mx.concatenate(outs, axis=2)
        return out.swapaxes(1, 2).reshape(1, -1, self.heads * self.size)


class Transformer:
    """p(x_i | x_<i) as logits: `model(tokens [B, T], cache) -> [B, T, V]`."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        embed: Embedding,
        positions: Embedding | None,
        blocks: list[Block],
        rotations: list[Rotation],
        norm: Norm,
        out: AnyLinear,
        linears: dict[str, AnyLinear],
    ) -> None:
        self.config = config
        self.embed, self.positions = embed, positions
        self.blocks, self.rotations = blocks, rotations
        self.norm, self.out = norm, out
        self.linears = linears  # every product by its path in the checkpoint

    def __call__(self, tokens: Array, cache: Cache | None = None) -> Array:
        """Logits [B, T, V] after each of `tokens` [B, T], which follow what `cache` holds and are added to it."""
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: Array, cache: Cache | None = None, *, documents: Sequence[int] = ()) -> Array:
        """[B, T, C] after the final norm: what `head` takes.

        `documents` are the lengths of texts that stand one after another in tokens [1, T]: each is read as if alone.
        """
        x, step, caches, places = self._begin(tokens, cache, documents)
        for block, layer, place in zip(self.blocks, caches, places, strict=True):
            x = block(x, step, layer, place)
        return self.norm(x)

    def head(self, hidden: Array) -> Array:
        """Logits [..., V] of hidden states [..., C]."""
        config = self.config
        logits = self.out(hidden)
        if config.logit_scale != 1:
            logits = logits * config.logit_scale
        if config.logit_softcap is not None:
            logits = mx.tanh(logits / config.logit_softcap) * config.logit_softcap
        return logits

    def inspect(self, tokens: Array, cache: Cache | None = None, *, emit: Emit | None = None) -> View:
        """The same pass with its inside: hidden states by layer and, where `emit` asks, what each head attended to."""
        x, step, caches, places = self._begin(tokens, cache)
        step.emit = emit
        hidden = [x]
        for block, layer, place in zip(self.blocks, caches, places, strict=True):
            x = block(x, step, layer, place)
            hidden.append(x)
        return View(hidden, step.seen, self.norm(x))

    def lens(self, hidden: Array) -> Array:
        """Logits [..., V] as if the layers after `hidden` [..., C] did nothing (the logit lens)."""
        return self.head(self.norm(hidden))

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
        """Every weight once, by a name, in the order of the layers: to be evaluated, counted or hashed."""
        parts: dict[str, Any] = {"embed": self.embed}
        if self.positions is not None:
            parts["positions"] = self.positions
        for i, block in enumerate(self.blocks):
            parts |= {f"{i}.{name}": norm for name, norm in block.norms.items()}
            if isinstance(block.mlp, Mixture):
                parts[f"{i}.experts"] = block.mlp
        parts |= {"norm": self.norm, **self.linears}
        return {f"{path}.{name}": a for path, part in parts.items() for name, a in part.arrays().items()}

    def _begin(
        self, tokens: Array, cache: Cache | None, documents: Sequence[int] = ()
    ) -> tuple[Array, Step, list[KVCache] | list[None], list[Place] | list[None]]:
        b, t = tokens.shape
        offset: int | Array = 0
        longest = t
        if cache is not None:
            longest += cache.length
            offset = cache.length if cache.each is None else cache.lengths
            self._same_regime(cache, longest)
        x = self.embed(tokens)
        if self.config.embed_scale != 1:
            x = x * self.config.embed_scale
        if documents:
            return self._apart(x, cache, documents)
        if self.positions is not None:
            self._check_positions(longest)
            x = x + self.positions(_at(offset, t))
        turns = [rotation.turns(offset, t, longest) for rotation in self.rotations]
        if cache is None:
            nothing: list[None] = [None] * len(self.blocks)
            return x, Step(turns, mx.array([t] * b, dtype=mx.int32)), nothing, nothing
        return x, Step(turns, _EMPTY), cache.layers, cache.places(b, t)

    def _apart(
        self, x: Array, cache: Cache | None, documents: Sequence[int]
    ) -> tuple[Array, Step, list[KVCache] | list[None], list[Place] | list[None]]:
        """The same for several documents in one row, each from position 0."""
        b, t, _ = x.shape
        if cache is not None or b != 1 or sum(documents) != t or min(documents) < 1:
            raise CacheError(f"documents stand in one row without a cache, and their lengths add up to its {t} tokens")
        if self.positions is not None:
            self._check_positions(max(documents))
            x = x + self.positions(mx.concatenate([mx.arange(n) for n in documents]))
        turns = {n: [rotation.turns(0, n, n) for rotation in self.rotations] for n in set(documents)}
        ends = list(accumulate(documents))
        parts = [Document(end - n, end, turns[n]) for n, end in zip(documents, ends, strict=True)]
        nothing: list[None] = [None] * len(self.blocks)
        return x, Step([], _EMPTY, parts), nothing, nothing

    def _check_positions(self, length: int) -> None:
        """A table of positions ends; what lies behind it in memory is no position."""
        if length > self.config.learned_positions:
            raise ContextOverflow(f"this model has {self.config.learned_positions} positions, {length} were asked for")

    def _same_regime(self, cache: Cache, length: int) -> None:
        """Keys that were turned with other frequencies than this length asks for cannot be attended to."""
        if not any(r.rope.kind == "longrope" for r in self.rotations):
            return
        regime = tuple(r.rope.regime(length) if r.rope.kind == "longrope" else 0 for r in self.rotations)
        if cache.regime is not None and cache.regime != regime:
            raise CacheError(
                f"{length} positions need other rotary frequencies than the {cache.length} in the cache: read them anew"
            )
        cache.regime = regime


_EMPTY = mx.array([], dtype=mx.int32)


def _group(size: int) -> int | None:
    """The largest group of a cache's layout that divides a head."""
    return next((group for group in (64, 32) if size % group == 0), None)


def _at(offset: int | Array, t: int) -> Array:
    """Positions [T], or [B, T] where rows differ."""
    if isinstance(offset, int):
        return mx.arange(offset, offset + t)
    return offset[:, None] + mx.arange(t)
