"""Every family on every kind of cache, prompt and decode, with its own mixture of sliding and full layers."""

from collections.abc import Callable

import pytest

from likely.metal import mx
from likely.models.cache import Cache
from likely.models.quantized_cache import QuantizedCache
from likely.models.transformer import Transformer
from likely.models.window_cache import WindowCache
from tests.models.oracle import difference, ours, reference, tokens
from tests.models.test_families import SAME, V

NAMES = [
    "llama", "llama sliding", "mistral sliding", "mixtral", "qwen2", "qwen3", "qwen3 moe", "gemma 2", "gemma 3",
    "phi 3", "smollm 3", "olmo 2", "granite", "starcoder 2", "gpt-2", "gpt-neox",
]  # fmt: skip
WIDE = {"hidden_size": 192, "head_dim": 32, "num_attention_heads": 6, "num_hidden_layers": 2}
T = 230


def frozen(model: Transformer, x: mx.array) -> Cache:
    cache = model.make_cache()
    model(x[:, :100], cache)
    cache.freeze()
    return cache


KINDS: dict[str, tuple[Callable[[Transformer, mx.array], Cache], float]] = {
    "full": (lambda m, x: m.make_cache(), 1e-4),
    "8 bits": (lambda m, x: m.make_cache(bits=8, exact=16), 0.02),
    "a window that holds all": (lambda m, x: m.make_cache(window=400, sinks=2), 1e-4),
    "a frozen prefix": (frozen, 1e-4),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_cache(name: str) -> None:
    config = SAME[name] | ({"n_embd": 128, "n_layer": 2, "n_positions": 256, "n_ctx": 256} if name == "gpt-2" else WIDE)
    if name == "gpt-neox":
        config |= {"intermediate_size": 768}
    if "layer_types" in config:
        config |= {"layer_types": config["layer_types"][-2:]}
    if name == "qwen3 moe":
        config |= {"mlp_only_layers": [0]}
    model = ours(config, reference(config))
    x = tokens(1, T, V)
    want = model(x)
    for kind, (make, bound) in KINDS.items():
        cache = make(model, x)
        start = cache.length
        parts = []
        for size in (1, 39, 60) if not start else ():
            parts.append(model(x[:, start : start + size], cache))
            start += size
        for size in (90, 1, 1, T - 192):
            parts.append(model(x[:, start : start + size], cache))
            start += size
        got = mx.concatenate(parts, axis=1)
        target = want[:, -got.shape[1] :]
        if kind == "8 bits":  # a router may flip at single positions
            got, target = (mx.sort(mx.max(mx.abs(x), axis=-1))[:, : T // 2] for x in (got - target, target))
            assert float(got[0, -1]) < bound * float(target[0, -1])
        else:
            assert difference(got, target) < bound, kind
        assert cache.length == T
        kinds = {type(layer) for layer in cache.layers}
        if kind == "8 bits":
            assert kinds <= {QuantizedCache, WindowCache}
        if any(model.config.windows):
            assert WindowCache in kinds


@pytest.mark.parametrize("name", ["gpt-2", "gemma 3", "gpt-neox"])
def test_rows_of_other_lengths_stand_where_they_would_alone(name: str) -> None:
    model = ours(SAME[name], reference(SAME[name]))
    x, lengths = tokens(2, 13, V), (9, 5)
    cache = model.make_cache()
    model(x[:, :9], cache)
    cache.rewind([9 - n for n in lengths])
    got = model(x[:, 9:], cache)
    for i, n in enumerate(lengths):
        alone = mx.concatenate([x[i : i + 1, :n], x[i : i + 1, 9:]], axis=1)
        assert difference(got[i : i + 1], model(alone)[:, n:]) < 1e-5
