"""A model of mlx-lm's own class behind our protocol, for architectures not written here.

Such a model has no view of its attention and none of our caches or kernels; what is asked for and cannot be had is an
error that says so. It is always read with a cache, as mlx-lm's own generation does: Gemma 3n without one is another
model. Where its head can be told apart from its body, which is tried once on a few tokens, `hidden` gives
the state in front of it; else `hidden` gives the logits themselves and `head` hands them on.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likely.metal import mx
from likely.metal.attention import Emit, Mask
from likely.models.caches.kv_cache import Cache
from likely.models.caches.layer_cache import FIRST, RowSize
from likely.models.configuration.config import ModelConfig
from likely.models.configuration.rotation import Rotation
from likely.models.errors import CacheError, ConfigError
from likely.models.model import Activations


class ForeignModel:
    """mlx-lm's model of a checkpoint, a `LanguageModel`."""

    rotations: Sequence[Rotation] = ()  # it turns keys itself

    def __init__(self, config: Mapping[str, Any], model: Any) -> None:
        text = {**config, **(config.get("text_config") or {})}
        self.config = _describe(text)
        self.model = model
        self._body, self._head = _split(model, self.config.vocab_size)

    def __call__(self, tokens: mx.array, cache: Cache | None = None) -> mx.array:
        return self.head(self.hidden(tokens, cache))

    def hidden(self, tokens: mx.array, cache: Cache | None = None, *, mask: Mask | None = None) -> mx.array:
        if mask is not None:
            raise CacheError(f"a {self.config.family} takes no mask, it is mlx-lm's class: leave it out")
        cache = self.make_cache() if cache is None else cache
        if not isinstance(cache, ForeignCache):
            raise CacheError(f"a {self.config.family} needs the cache that its own make_cache gives")
        cache.begin(tokens.shape[1])
        out: mx.array = self._body(tokens, cache=cache.inner)
        return out

    def head(self, hidden: mx.array) -> mx.array:
        return self._head(hidden)

    def inspect(self, tokens: mx.array, cache: Cache | None = None, *, emit: Emit | None = None) -> Activations:
        raise ConfigError(f"the inside of a {self.config.family} cannot be seen: it runs by mlx-lm's class")

    def lens(self, hidden: mx.array) -> mx.array:
        raise ConfigError(f"the inside of a {self.config.family} cannot be seen: it runs by mlx-lm's class")

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
        for name, value in (("bits", bits), ("group_size", group_size), ("window", window), ("sinks", sinks)):
            if value:
                raise CacheError(f"{name} is not there for a {self.config.family}: it runs by mlx-lm's class and cache")
        return ForeignCache(_inner_cache(self.model), self.config.family)

    def crosses(self, cache: Cache, length: int) -> bool:
        return False  # it turns keys by their positions alone

    def warm(self, dtype: mx.Dtype) -> None:
        """Nothing: none of our kernels runs in it."""

    @property
    def arrays(self) -> dict[str, mx.array]:
        return flat(self.model.parameters())

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of most of its weights; what chooses experts may be wider."""
        return commonest(self.arrays)


class ForeignCache(Cache):
    """mlx-lm's caches of all layers. Of those that cannot be trimmed is kept what the last token replaced."""

    def __init__(self, inner: list[Any], family: str, length: int = 0) -> None:
        super().__init__([])
        self.inner = inner
        self.family = family
        self._length = length
        self._before: list[Any] = []  # of each layer, what goes back by one token

    def begin(self, t: int) -> None:
        """Note that T more tokens are being read."""
        self._length += t
        self._before = [_before(cache) for cache in self.inner] if t == 1 else []

    @property
    def length(self) -> int:
        return self._length

    @property
    def each(self) -> list[int] | None:
        return None

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for cache in self.inner for a in flat(cache.state).values())

    def needs(self, positions: int, row: RowSize, chunk: int) -> int:
        raise CacheError(
            f"what the cache of a {self.family} takes is not known beforehand, it is mlx-lm's: leave out --kv-budget"
        )

    @property
    def joins(self) -> bool:
        return False

    @property
    def room(self) -> int:
        return self._length if all(cache.is_trimmable() for cache in self.inner) else int(bool(self._before))

    def rewind(self, n: int | Sequence[int]) -> None:
        if not isinstance(n, int):
            raise CacheError(f"the rows of a {self.family} cannot go back by themselves: it runs by mlx-lm's cache")
        if not 0 <= n <= self.room:
            raise CacheError(f"cannot go back {n} positions: the cache of a {self.family} allows {self.room}")
        if not n:
            return
        if all(cache.is_trimmable() for cache in self.inner):
            for cache in self.inner:
                cache.trim(n)
        else:
            self.inner = [*map(_restored, self.inner, self._before)]
        self._before = []
        self._length -= n

    def fork(self) -> "ForeignCache":
        twin = ForeignCache(copy.deepcopy(self.inner), self.family, self._length)
        twin._before = copy.deepcopy(self._before)
        return twin

    def select(self, rows: Sequence[int]) -> None:
        raise CacheError(f"the rows of a {self.family} cannot be chosen: it runs by mlx-lm's cache")

    def freeze(self) -> None:
        raise CacheError(f"the cache of a {self.family} cannot be shared: it runs by mlx-lm's cache")


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a full ring, and where the ring stood, before a token was written over it."""

    keys: mx.array  # [B, Hkv, 1, D]
    values: mx.array
    place: int
    next: int  # place
    length: int


def _before(cache: Any) -> Any:
    """The way back of a cache by the one token that is about to be read; None where trimming is it.

    Arrays that are replaced are held; of a ring that is written to, the row: a copy of it would be made for each token.
    """
    from mlx_lm.models.cache import ArraysCache, CacheList, RotatingKVCache

    if cache.is_trimmable():
        return None
    if isinstance(cache, CacheList):
        return tuple(map(_before, cache.caches))
    if isinstance(cache, ArraysCache):
        held = copy.copy(cache)
        held.cache = [*cache.cache]
        return held
    if type(cache) is not RotatingKVCache or cache.keys.shape[2] < cache.max_size:
        return copy.deepcopy(cache)
    if cache.keys.shape[2] > cache.max_size:  # after several at once: the rows are cut, into new arrays
        return copy.copy(cache)
    place = cache.keep if cache._idx == cache.max_size else cache._idx
    keys, values = (mx.take(array, mx.array([place]), axis=2) for array in (cache.keys, cache.values))
    mx.async_eval(keys, values)  # now: what is not computed holds all of the ring, which then is copied after all
    return _Row(keys, values, place, cache._idx, cache.offset)


def _restored(cache: Any, before: Any) -> Any:
    """The cache as it was before the last token."""
    match before:
        case None:
            cache.trim(1)
        case tuple():
            cache.caches = tuple(map(_restored, cache.caches, before))
        case _Row(keys, values, place):
            cache.keys[..., place : place + 1, :] = keys
            cache.values[..., place : place + 1, :] = values
            vars(cache).update(_idx=before.next, offset=before.length)
        case _:
            return before
    return cache


def _inner_cache(model: Any) -> list[Any]:
    from mlx_lm.models.cache import make_prompt_cache

    caches: list[Any] = make_prompt_cache(model)
    return caches


def _split(model: Any, vocab_size: int) -> tuple[Callable[..., mx.array], Callable[[mx.array], mx.array]]:
    """The model's body and head, if one after the other gives what the whole gives; else the whole and nothing."""
    owner = getattr(model, "language_model", model)
    body = getattr(owner, "model", None)
    head = getattr(owner, "lm_head", None)
    if head is None:
        head = getattr(getattr(body, "embed_tokens", None), "as_linear", None)
    probe = mx.arange(4)[None] % vocab_size
    whole = model(probe, cache=_inner_cache(model))
    mx.eval(whole)  # where it cannot read at all it says so here
    if callable(body) and callable(head):
        try:
            parts = head(body(probe, cache=_inner_cache(model)))
        except (TypeError, ValueError, AttributeError):
            return model, _same
        if whole.shape == parts.shape and bool(mx.all(whole == parts)):
            return body, head
    return model, _same


def commonest(arrays: Mapping[str, mx.array]) -> mx.Dtype:
    """The type of the most that are floating-point numbers; float32 where there is none."""
    kinds = [array.dtype for array in arrays.values() if mx.issubdtype(array.dtype, mx.floating)]
    return max(kinds, key=kinds.count, default=mx.float32)


def flat(tree: Any, path: str = "") -> dict[str, mx.array]:
    """The arrays of nested tables and lists by their dotted paths."""
    if isinstance(tree, mx.array):
        return {path: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    arrays: dict[str, mx.array] = {}
    for key, value in items:
        arrays |= flat(value, f"{path}.{key}" if path else str(key))
    return arrays


def _same(x: mx.array) -> mx.array:
    return x


def _describe(config: Mapping[str, Any]) -> ModelConfig:
    """The configuration, as far as every architecture has one."""

    def first(default: int, *names: str) -> int:
        return next((config[name] for name in names if isinstance(config.get(name), int)), default)

    layers, heads = first(1, "num_hidden_layers", "n_layer", "n_layers"), first(1, "num_attention_heads", "n_head")
    width = first(1, "hidden_size", "n_embd", "d_model")
    return ModelConfig(
        family=str(config["model_type"]),
        vocab_size=first(1, "vocab_size"),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=first(heads, "num_key_value_heads"),
        head_size=first(max(1, width // heads), "head_dim"),
        mlp_width=first(4 * width, "intermediate_size"),
        context=first(2048, "max_position_embeddings", "n_positions", "seq_length", "max_sequence_length"),
        eps=1e-5,
        windows=(0,) * layers,
        ropes=(None,) * layers,
        scale=1.0,
        tied=bool(config.get("tie_word_embeddings", False)),
    )
