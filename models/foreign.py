"""A model of mlx-lm's own class behind our protocol, for architectures not written here. Imported only for them.

Such a model has no view of its attention and none of our caches or kernels; what is asked for and cannot be had is an
error that says so. Where its head can be told apart from its body, which is tried once on a few tokens, `hidden` gives
the state in front of it; else `hidden` gives the logits themselves and `head` hands them on.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from likely.metal import mx, nn
from likely.metal.attention import Emit, Mask
from likely.models import layouts
from likely.models.cache import FIRST, Cache, RowSize
from likely.models.config import ModelConfig
from likely.models.errors import CacheError, CheckpointError, ConfigError
from likely.models.keys import MOST
from likely.models.model import Activations
from likely.models.rotation import Rotation


def build(config: Mapping[str, Any], weights: dict[str, mx.array], dense: mx.Dtype | None = None) -> "ForeignModel":
    """The model by mlx-lm's class, unpacked to `dense` if given.

    ConfigError where it has none, CheckpointError where the tensors do not fit it.
    """
    model_class, args_class = _classes(config)
    _check_counts(config)
    packing = layouts.settings(config)
    layouts.translate(config, weights)
    try:
        model = model_class(args_class.from_dict(dict(config)))
        stored = model.sanitize(weights) if hasattr(model, "sanitize") else dict(weights)
        _quantize(model, stored, packing)
        model.eval()
        model.load_weights(list(stored.items()), strict=True)
        if dense is not None:
            model = _unpacked(model, dense)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"mlx-lm's {config['model_type']} does not take this checkpoint: {error}") from error
    weights.clear()
    return ForeignModel(config, model)


def _check_counts(config: Mapping[str, Any]) -> None:
    """ConfigError for more layers or experts than any model has: mlx-lm makes each, and looks for its tensors."""
    inner = config.get("text_config")
    for name, value in [*config.items(), *(inner.items() if isinstance(inner, dict) else ())]:
        counts = name.endswith(("layers", "n_layer", "experts")) and isinstance(value, int)
        if counts and value > MOST:
            raise ConfigError(f"config: {name} must be at most {MOST:,}, got {value:,}")


def _classes(config: Mapping[str, Any]) -> tuple[Any, Any]:
    model_type = config.get("model_type")
    try:
        from mlx_lm.utils import MODEL_REMAPPING
    except ImportError as error:
        raise ConfigError(f"config: model_type {model_type!r} needs the package mlx-lm: pip install mlx-lm") from error
    name = MODEL_REMAPPING.get(model_type, model_type)
    if not isinstance(name, str) or not name.replace("-", "").isidentifier():
        raise ConfigError(f"config: model_type must be a name, got {model_type!r}")
    try:
        module = import_module(f"mlx_lm.models.{name}")
        return module.Model, module.ModelArgs
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"config: model_type {model_type!r} is known neither here nor to mlx-lm") from error


def _quantize(model: Any, weights: Mapping[str, mx.array], packing: Mapping[str, Any]) -> None:
    """Give mlx-lm's modules the layouts that the tensors have."""
    from mlx_lm.utils import infer_quant_config

    def layout(path: str, module: Any) -> Any:
        if isinstance(packing.get(path), dict):
            return packing[path]
        packed = hasattr(module, "to_quantized") and f"{path}.scales" in weights
        return infer_quant_config(path, module, weights) if packed else False

    if any(name.endswith(".scales") for name in weights):
        nn.quantize(model, class_predicate=layout)  # type: ignore[attr-defined]


def _unpacked(model: Any, dtype: mx.Dtype) -> Any:
    from mlx_lm.utils import dequantize_model

    model = dequantize_model(model)
    model.set_dtype(dtype)
    return model


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
        if cache is None:
            out: mx.array = self._body(tokens, cache=None)
            return out
        if not isinstance(cache, ForeignCache):
            raise CacheError(f"a {self.config.family} needs the cache that its own make_cache gives")
        cache.begin(tokens.shape[1])
        out = self._body(tokens, cache=cache.inner)
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
        from mlx_lm.models.cache import make_prompt_cache

        for name, value in (("bits", bits), ("group_size", group_size), ("window", window), ("sinks", sinks)):
            if value:
                raise CacheError(f"{name} is not there for a {self.config.family}: it runs by mlx-lm's class and cache")
        return ForeignCache(make_prompt_cache(self.model), self.config.family)

    def crosses(self, cache: Cache, length: int) -> bool:
        return False  # it turns keys by their positions alone

    def warm(self, dtype: mx.Dtype) -> None:
        """Nothing: none of our kernels runs in it."""

    @property
    def arrays(self) -> dict[str, mx.array]:
        return _flat(self.model.parameters())

    @property
    def dtype(self) -> mx.Dtype:
        """Of the weights that are not packed."""
        kinds = [array.dtype for name, array in self.arrays.items() if not name.endswith((".scales", ".biases"))]
        return next((kind for kind in kinds if mx.issubdtype(kind, mx.floating)), mx.float32)


class ForeignCache(Cache):
    """mlx-lm's caches of all layers. Those that cannot be trimmed are kept as they were one token ago."""

    def __init__(self, inner: list[Any], family: str, length: int = 0) -> None:
        super().__init__([])
        self.inner = inner
        self.family = family
        self._length = length
        self._before: list[Any] = []  # of each layer, what to go back to by one; None where trimming does it

    def begin(self, t: int) -> None:
        """Note that T more tokens are being read."""
        self._length += t
        self._before = [None if c.is_trimmable() else copy.deepcopy(c) for c in self.inner] if t == 1 else []

    @property
    def length(self) -> int:
        return self._length

    @property
    def each(self) -> list[int] | None:
        return None

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for cache in self.inner for a in _flat(cache.state).values())

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
        for i, cache in enumerate(self.inner):
            if self._before and self._before[i] is not None:
                self.inner[i] = self._before[i]
            else:
                cache.trim(n)
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


def _split(model: Any, vocab_size: int) -> tuple[Callable[..., mx.array], Callable[[mx.array], mx.array]]:
    """The model's body and head, if one after the other gives what the whole gives; else the whole and nothing."""
    owner = getattr(model, "language_model", model)
    body = getattr(owner, "model", None)
    head = getattr(owner, "lm_head", None)
    if head is None:
        head = getattr(getattr(body, "embed_tokens", None), "as_linear", None)
    if callable(body) and callable(head):
        probe = mx.arange(4)[None] % vocab_size
        try:
            whole, parts = model(probe), head(body(probe, cache=None))
        except (TypeError, ValueError, AttributeError):
            return model, _same
        if whole.shape == parts.shape and bool(mx.all(whole == parts)):
            return body, head
    return model, _same


def _flat(tree: Any, path: str = "") -> dict[str, mx.array]:
    """The arrays of nested tables and lists by their dotted paths."""
    if isinstance(tree, mx.array):
        return {path: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    arrays: dict[str, mx.array] = {}
    for key, value in items:
        arrays |= _flat(value, f"{path}.{key}" if path else str(key))
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
