"""Every family against mlx-lm on the same random weights: prompt and decode, on every cache, batch 1 and 3.

Where mlx-lm departs from the models' own definition (docs/decisions/families.md) its class still computes the oracle,
with the mask, rotation or activation that it leaves out put in from outside.
"""

import io
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.metal import mx
from likely.models.caches.kv_cache import Cache
from likely.models.caches.quantized_cache import QuantizedCache
from likely.models.caches.window_cache import WindowCache
from likely.models.modules import linear as layers
from likely.models.transformer import Transformer
from tests.models.oracle import difference, flat, ours, pair, reference, tokens
from tests.support.everyday import everyday

V = 101
SMALL = {
    "vocab_size": V, "hidden_size": 48, "num_hidden_layers": 4, "intermediate_size": 72, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
RMS = SMALL | {"rms_norm_eps": 1e-5}
QWEN3 = RMS | {"head_dim": 16, "rope_theta": 1e6, "tie_word_embeddings": True}
GEMMA = RMS | {"head_dim": 12, "num_attention_heads": 4, "rms_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"}
PHI = RMS | {"original_max_position_embeddings": 512, "num_key_value_heads": 2, "tie_word_embeddings": False}
GRANITE = RMS | {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.15,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
    "attention_bias": False,
    "rope_theta": 10000.0,
}
NEOX = SMALL | {"layer_norm_eps": 1e-5, "rotary_emb_base": 10000, "hidden_act": "gelu_new", "intermediate_size": 192}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

# name -> config; every branch of a family's reading of its config is taken by one of them
SAME: dict[str, dict[str, Any]] = {
    "llama": RMS | {"model_type": "llama", "tie_word_embeddings": True},
    "llama biased": RMS | {"model_type": "llama", "attention_bias": True, "mlp_bias": True,
        "tie_word_embeddings": False},
    "llama wide heads": RMS | {"model_type": "llama", "head_dim": 20, "tie_word_embeddings": False},
    "llama interleaved": RMS | {"model_type": "llama", "rope_traditional": True, "tie_word_embeddings": True},
    "llama linear": RMS | {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0},
        "tie_word_embeddings": True},
    "llama dynamic": RMS | {"model_type": "llama", "max_position_embeddings": 16,
        "rope_scaling": {"type": "dynamic", "factor": 2.0}, "tie_word_embeddings": True},
    "llama 3": RMS | {"model_type": "llama", "rope_scaling": LLAMA3, "rope_theta": 5e5,
        "tie_word_embeddings": True},
    "llama yarn": RMS | {"model_type": "llama", "rope_scaling": YARN, "tie_word_embeddings": True},
    "llama sliding": RMS | {"model_type": "llama", "layer_types": ["full_attention", "sliding_attention"] * 2,
        "sliding_window": 7, "tie_word_embeddings": True},
    "mistral": RMS | {"model_type": "mistral", "sliding_window": None, "tie_word_embeddings": False},
    "mistral sliding": RMS | {"model_type": "mistral", "sliding_window": 5,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"], "tie_word_embeddings": False},
    "mixtral": RMS | {"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2, "rope_theta": 1e6},
    "qwen2": RMS | {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 4, "rope_theta": 1e6},
    "qwen2 yarn": RMS | {"model_type": "qwen2", "rope_scaling": YARN, "rope_theta": 1e6,
        "tie_word_embeddings": False},
    "qwen3": QWEN3 | {"model_type": "qwen3"},
    "qwen3 nested": {k: v for k, v in QWEN3.items() if k != "rope_theta"} | {"model_type": "qwen3",
        "rope_parameters": YARN | {"rope_theta": 1e6}},
    "qwen3 moe": QWEN3 | {"model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 2,
        "moe_intermediate_size": 24, "decoder_sparse_step": 2, "mlp_only_layers": [3], "norm_topk_prob": True},
    "qwen3 moe plain": QWEN3 | {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 3,
        "moe_intermediate_size": 24, "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": False},
    "gemma 2": GEMMA | {"model_type": "gemma2", "sliding_window": 64, "query_pre_attn_scalar": 20,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "gemma 3": GEMMA | {"model_type": "gemma3_text", "sliding_window": 6, "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 20, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "attention_bias": False},
    "phi 3": PHI | {"model_type": "phi3", "partial_rotary_factor": 0.5, "sliding_window": 64},
    "phi 4": PHI | {"model_type": "phi3", "tie_word_embeddings": True, "rope_scaling": None},
    "smollm 3": RMS | {"model_type": "smollm3", "no_rope_layer_interval": 2, "rope_theta": 5e6},
    "smollm 3 listed": RMS | {"model_type": "smollm3", "no_rope_layers": [1, 0, 0, 1], "rope_theta": 5e6,
        "tie_word_embeddings": False},
    "olmo 2": RMS | {"model_type": "olmo2", "tie_word_embeddings": False, "rope_theta": 5e5},
    "olmo 2 biased": RMS | {"model_type": "olmo2", "tie_word_embeddings": True, "attention_bias": True},
    "granite": GRANITE | {"model_type": "granite", "mlp_bias": False, "tie_word_embeddings": True},
    "granite untied": GRANITE | {"model_type": "granite", "mlp_bias": True, "attention_bias": True,
        "tie_word_embeddings": False},
    "granite moe": GRANITE | {"model_type": "granitemoe", "num_local_experts": 4, "num_experts_per_tok": 2,
        "tie_word_embeddings": True},
    "starcoder 2": SMALL | {"model_type": "starcoder2", "hidden_act": "gelu", "sliding_window": 64,
        "rope_theta": 1e5},
    "starcoder 2 untied": SMALL | {"model_type": "starcoder2", "hidden_act": "gelu", "tie_word_embeddings": False,
        "rope_theta": 1e5},
    "gpt-2": {"model_type": "gpt2", "vocab_size": V, "n_embd": 48, "n_head": 4, "n_layer": 3, "n_positions": 128,
        "n_ctx": 128, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"},
    "gpt-neox": NEOX | {"model_type": "gpt_neox", "rotary_pct": 0.25, "num_key_value_heads": 6, "head_dim": 8},
    "gpt-neox in series": NEOX | {"model_type": "gpt_neox", "rotary_pct": 1.0, "use_parallel_residual": False,
        "num_key_value_heads": 6},
}  # fmt: skip
EXTRA = {"qwen2": {"tie_word_embeddings": True}, "qwen2 yarn": {}}
for name, more in EXTRA.items():
    SAME[name] |= more


@pytest.mark.slow
def test_gemma_means_the_tanh_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first checkpoints say "gelu"; mlx-lm takes them at their word, their authors' code does not."""
    from likely.metal import nn

    monkeypatch.setattr("mlx.nn.gelu", nn.gelu_approx)
    theirs, model = pair(GEMMA | {"model_type": "gemma", "hidden_act": "gelu"})
    x = tokens(3, 24, V)
    check(model, x, theirs(x))


def check(model: Any, x: mx.array, want: mx.array) -> None:
    """Prompt, decode and a cached second prompt all give `want`."""
    assert difference(model(x), want) < 1e-4
    cache = model.make_cache()
    cuts = [0, 9, 10, 11, 17, 18, x.shape[1]]
    parts = [model(x[:, a:b], cache) for a, b in pairwise(cuts)]
    assert difference(mx.concatenate(parts, axis=1), want) < 1e-4


@pytest.mark.parametrize("name", SAME)
def test_logits_equal_mlx_lm(name: str) -> None:
    theirs, model = pair(SAME[name])
    for b in (1, 3):
        x = tokens(b, 24, V, seed=b)
        if "dynamic" in name:  # frequencies that depend on the length: cached, each part has its own
            assert difference(model(x), theirs(x)) < 1e-4
        else:
            check(model, x, theirs(x))


class Masked:
    """A layer of mlx-lm with the mask of a sliding window."""

    use_sliding = False

    def __init__(self, layer: Any, window: int) -> None:
        self.layer, self.window = layer, window

    def __call__(self, x: mx.array, mask: Any, cache: Any = None) -> mx.array:
        at = mx.arange(x.shape[1])
        distance = at[:, None] - at[None]
        seen = (distance >= 0) & ((distance < self.window) if self.window else True)
        out: mx.array = self.layer(x, seen, cache)
        return out


SLIDING: dict[str, tuple[dict[str, Any], list[int]]] = {
    "mistral": (SAME["mistral"] | {"sliding_window": 6}, [6] * 4),
    "mixtral": (SAME["mixtral"] | {"sliding_window": 6}, [6] * 4),
    "gemma 2": (SAME["gemma 2"] | {"sliding_window": 6}, [6, 0, 6, 0]),
    "gemma 2 listed": (
        SAME["gemma 2"] | {"sliding_window": 6, "layer_types": ["full_attention", *["sliding_attention"] * 3]},
        [0, 6, 6, 6],
    ),
    "phi 3": (SAME["phi 3"] | {"sliding_window": 6}, [6] * 4),
    "starcoder 2": (SAME["starcoder 2"] | {"sliding_window": 6}, [6] * 4),
    "qwen2": (SAME["qwen2"] | {"use_sliding_window": True, "max_window_layers": 2}, [0, 0, 4, 4]),
    "qwen3": (SAME["qwen3"] | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}, [0, 6, 6, 6]),
}


@pytest.mark.parametrize("name", SLIDING)
def test_windows_that_mlx_lm_ignores(name: str) -> None:
    config, windows = SLIDING[name]
    theirs = reference(config)
    model = ours(config, theirs)
    layers = theirs.model.layers
    theirs.model.layers = [Masked(layer, window) for layer, window in zip(layers, windows, strict=True)]
    x = tokens(3, 24, V)
    check(model, x, theirs(x))


class Float64Rope:
    """Rotation from its definition in float64; `frequencies` [dims / 2] and a gain."""

    def __init__(self, frequencies: np.ndarray, gain: float) -> None:
        self.frequencies, self.gain = frequencies, gain

    def __call__(self, x: mx.array, offset: int = 0) -> mx.array:
        a = np.array(x, dtype=np.float64)
        half = len(self.frequencies)
        angles = np.arange(offset, offset + a.shape[2])[:, None] * self.frequencies
        cos, sin = np.cos(angles) * self.gain, np.sin(angles) * self.gain
        left, right = a[..., :half], a[..., half : 2 * half]
        turned = [left * cos - right * sin, right * cos + left * sin, a[..., 2 * half :]]
        return mx.array(np.concatenate(turned, axis=-1).astype(np.float32))


LONGROPE = {"short_factor": [1.0, 1.2], "long_factor": [3.0, 9.0]}


@pytest.mark.parametrize("kind", ["longrope", "su"])
@pytest.mark.parametrize("t", [16, 17, 24])
def test_longrope_turns_by_the_length(kind: str, t: int) -> None:
    """As Microsoft's code for Phi-3: short factors up to the original length, long ones past it, one gain for both."""
    config = PHI | {
        "model_type": "phi3",
        "partial_rotary_factor": 0.5,
        "max_position_embeddings": 64,
        "original_max_position_embeddings": 16,
        "rope_scaling": LONGROPE | {"type": kind},
    }
    theirs = reference(config | {"rope_scaling": LONGROPE | {"type": "su"}})
    model = ours(config, theirs)
    factors = np.array(LONGROPE["long_factor" if t > 16 else "short_factor"])
    rope = Float64Rope(1 / (factors * 10000.0 ** (np.arange(0, 4, 2) / 4)), math.sqrt(1 + math.log(4) / math.log(16)))
    for layer in theirs.model.layers:
        layer.self_attn.rope = rope
    x = tokens(3, t, V)
    assert difference(model(x), theirs(x)) < 1e-4


def test_longrope_does_not_mix_frequencies() -> None:
    config = PHI | {"model_type": "phi3", "max_position_embeddings": 64, "original_max_position_embeddings": 16}
    factors = {name: values * 2 for name, values in LONGROPE.items()}
    model = ours(config | {"rope_scaling": factors | {"type": "longrope"}}, reference(config))
    x = tokens(1, 20, V)
    cache = model.make_cache()
    model(x[:, :16], cache)
    with pytest.raises(models.errors.CacheError, match="17 positions need other rotary frequencies than the 16"):
        model(x[:, 16:17], cache)
    assert cache.length == 16
    assert model.crosses(cache, 17) and not model.crosses(cache, 16)
    cache.rewind(16)
    assert difference(model(x, cache), model(x)) < 1e-5
    cache = model.make_cache()
    cache.expected = 20
    parts = [model(x[:, i : i + 5], cache) for i in range(0, 20, 5)]
    assert difference(mx.concatenate(parts, axis=1), model(x)) < 1e-5


@pytest.mark.skipif(not shutil.which("g++"), reason="mlx compiles by g++ on a CPU")
@pytest.mark.slow
@pytest.mark.parametrize(("name", "kernels"), [("silu", 1), ("gelu_tanh", 2)])  # mlx fuses 11 levels at most
def test_a_gate_is_fused_where_that_pays(name: str, kernels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU: here because the environment insists. A kernel or two, whose numbers are those of the chain."""
    activate, (gate, up) = layers.ACTIVATE[name], mx.random.normal((2, 3, 8), key=mx.random.key(0))

    def operations(x: mx.array) -> int:
        mx.export_to_dot(said := io.StringIO(), x)
        return said.getvalue().count("shape=rectangle")

    gate, up = mx.array(gate), mx.array(up)
    mx.eval(gate, up)
    layers.chain.cache_clear()
    loose, want = layers.gated(activate, gate, up), activate(gate) * up
    assert operations(loose) == operations(want) > kernels
    monkeypatch.setenv("LIKELY_COMPILE", "1")
    layers.chain.cache_clear()
    try:
        fused = layers.gated(activate, gate, up)
        assert operations(fused) == kernels
        assert difference(fused, want) < 1e-6
        other = mx.random.normal((1, 1, 16), key=mx.random.key(1))
        assert difference(layers.gated(activate, other, other), activate(other) * other) < 1e-6  # no trace a shape
        slope = mx.grad(lambda x: layers.gated(activate, x, up).sum())(gate)
        assert difference(slope, mx.grad(lambda x: (activate(x) * up).sum())(gate)) < 1e-5
    finally:
        mx.disable_compile()
        layers.chain.cache_clear()


def test_names_of_original_checkpoints() -> None:
    """Tensors as the models' authors publish them, where mlx-lm's own names differ."""
    for name in ("gpt-2", "gpt-neox", "mixtral", "qwen3 moe", "granite moe"):
        config = SAME[name]
        theirs = reference(config)
        published: dict[str, mx.array] = {}
        for path, array in flat(theirs.parameters()).items():
            if name == "gpt-2":
                path = path.removeprefix("model.")
                array = array.T if path.startswith("h.") and array.ndim == 2 else array
            elif name == "gpt-neox":
                path = path.replace("model.h.", "gpt_neox.layers.").replace("model.embed_out", "embed_out")
                path = path.replace("model.", "gpt_neox.") if path.startswith("model.") else path
            elif "switch_mlp" in path and name == "granite moe":
                if "up_proj" in path:
                    continue
                if "gate_proj" in path:
                    up = theirs.model.layers[int(path.split(".")[2])].block_sparse_moe.switch_mlp.up_proj.weight
                    array = mx.concatenate([array, up], axis=1)
                path = path.replace("switch_mlp.gate_proj", "input_linear").replace(
                    "switch_mlp.down_proj", "output_linear"
                )
            elif "switch_mlp" in path:
                part = path.split(".")[-2]
                old = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}[part] if name == "mixtral" else part
                for i in range(array.shape[0]):
                    published[path.replace(f"switch_mlp.{part}", f"experts.{i}.{old}")] = array[i]
                continue
            published[path] = array
        if name == "gpt-neox":
            published["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = mx.zeros((2,))
        x = tokens(2, 9, V)
        assert difference(models.build(config, published)(x), theirs(x)) < 1e-4
        assert not published


@pytest.mark.parametrize("name", everyday(SAME, 4))
def test_sixteen_bits_stay_sixteen_bits(name: str) -> None:
    """Nothing on the way promotes to float32, which would halve the speed of a GPU without a word."""
    theirs = reference(SAME[name])
    weights = {k: v.astype(mx.float16) for k, v in flat(theirs.parameters()).items()}
    model = models.build(SAME[name], weights)
    x = tokens(1, 6, V)
    cache = model.make_cache()
    for part in (x[:, :5], x[:, 5:]):
        view = model.inspect(part, cache)
        assert {h.dtype for h in view.hidden} == {mx.float16}
        assert model.head(view.final).dtype == mx.float16
    if model.config.experts is None:  # mlx has no 16-bit product of chosen matrices on a CPU
        assert difference(model(x).astype(mx.float32), theirs(x)) < 0.05


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


@pytest.mark.parametrize("name", everyday(NAMES, 3))
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
