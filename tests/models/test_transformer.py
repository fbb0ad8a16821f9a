"""The transformer against its definition in float64: every part of a family's layers, one sum at a time.

The oracle knows a configuration in our names and the numbers of the parts by their roles, and nothing of the code.
Masks that come with a call are held to laws.
"""

import math
from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.attention import FULL, Emit, Mask
from likely.metal.mask import CAUSAL
from likely.models.caches.quantized_cache import QuantizedCache
from likely.models.configuration.config import ModelConfig
from likely.models.errors import CacheError, ConfigError, ContextOverflow
from likely.models.families.registry import blank
from likely.models.transformer import Transformer
from tests.models.oracle import difference, ours, reference, tokens
from tests.models.test_families import SAME, V

Array = np.ndarray


def built(name: str, seed: int = 0, **changes: Any) -> Transformer:
    """A model of random weights, every one of a size that matters."""
    config = SAME[name] | changes
    model = blank(config)
    rng = np.random.default_rng(seed)
    for part in model.parts():
        shape = (part.count, part.height, part.width) if part.kind == "experts" else (part.height, part.width)
        one = part.kind == "norm"
        weight = (
            1 + 0.2 * rng.standard_normal(part.height) if one else rng.standard_normal(shape) / math.sqrt(part.width)
        )
        bias = None if part.bias is None else mx.array(0.2 * rng.standard_normal(part.bias.shape).astype(np.float32))
        model.put(part, mx.array(weight.astype(np.float32)), bias)
    model.unite()
    return model


def norm(c: ModelConfig, x: Array, weight: Array, bias: Array | None) -> Array:
    if c.norm == "layer":
        assert bias is not None
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + c.eps) * weight + bias
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + c.eps) * weight


def activation(c: ModelConfig, x: Array) -> Array:
    if c.activation == "silu":
        return x / (1 + np.exp(-x))
    if c.activation == "gelu":
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    if c.activation == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return np.maximum(x, 0)


def turned(c: ModelConfig, layer: int, x: Array, length: int) -> Array:
    """x [T, heads, D] at positions 0..T-1."""
    rope = c.ropes[layer]
    if rope is None:
        return x
    half = rope.dims // 2
    angles = np.arange(len(x))[:, None] / np.array(rope.periods(length))
    cos, sin = (f(angles)[:, None] * rope.attention_factor for f in (np.cos, np.sin))
    out = x.copy()
    first, second = (slice(0, half), slice(half, rope.dims)) if not rope.traditional else (
        slice(0, rope.dims, 2), slice(1, rope.dims, 2)
    )  # fmt: skip
    a, b = x[..., first], x[..., second]
    out[..., first], out[..., second] = a * cos - b * sin, b * cos + a * sin
    return out


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Exact:
    """A model's numbers in float64, and its pass over one text."""

    def __init__(self, model: Transformer) -> None:
        self.c = model.config
        self.after: dict[int, Array] = {}  # a layer -> what is added to the residual stream after it
        self.stored: type[np.floating[Any]] = np.float64  # of keys and values
        self.parts: dict[tuple[int, str], tuple[Array, Array | None]] = {}
        for part in model.parts():
            weight, bias = np.array(part.numbers()).astype(np.float64), part.bias
            self.parts[part.layer, part.role] = weight, None if bias is None else np.array(bias).astype(np.float64)

    def product(self, layer: int, role: str, x: Array) -> Array:
        weight, bias = self.parts[layer, role]
        return x @ weight.T + (0 if bias is None else bias)

    def normed(self, layer: int, role: str, x: Array) -> Array:
        return norm(self.c, x, *self.parts[layer, role]) if (layer, role) in self.parts else x

    def attention(self, layer: int, x: Array, length: int) -> Array:
        c, t = self.c, len(x)
        sizes = [c.heads * c.head_size, c.kv_heads * c.head_size]
        if (layer, "qkv") in self.parts:
            q, k, v = np.split(self.product(layer, "qkv", x), [sizes[0], sum(sizes)], -1)
        else:
            q, k, v = (self.product(layer, role, x) for role in "qkv")
        if c.qk_norm == "all":
            q, k = self.normed(layer, "q_norm", q), self.normed(layer, "k_norm", k)
        q, k, v = (y.reshape(t, -1, c.head_size) for y in (q, k, v))
        if c.qk_norm == "head":
            q, k = self.normed(layer, "q_norm", q), self.normed(layer, "k_norm", k)
        q, k = turned(c, layer, q, length), turned(c, layer, k, length)
        k, v = (y.astype(self.stored).astype(float) for y in (k, v))
        k, v = (np.repeat(y, c.heads // c.kv_heads, 1) for y in (k, v))
        scores = np.einsum("thd,nhd->htn", q, k) * c.scale
        if c.softcap is not None:
            scores = np.tanh(scores / c.softcap) * c.softcap
        p, n, window = np.arange(t)[:, None], np.arange(t)[None], c.windows[layer]
        scores = np.where((n <= p) & ((p - n < window) if window else True), scores, -np.inf)
        return self.product(layer, "o", np.einsum("htn,nhd->thd", softmax(scores), v).reshape(t, -1))

    def mlp(self, layer: int, x: Array) -> Array:
        c = self.c
        if c.experts is not None and c.sparse[layer]:
            return np.stack([self.mixed(layer, row) for row in x])
        if not c.gated:
            return self.product(layer, "down", activation(c, self.product(layer, "up", x)))
        if (layer, "gate_up") in self.parts:
            gate, up = np.split(self.product(layer, "gate_up", x), 2, -1)
        else:
            gate, up = self.product(layer, "gate", x), self.product(layer, "up", x)
        return self.product(layer, "down", activation(c, gate) * up)

    def mixed(self, layer: int, x: Array) -> Array:
        c, experts = self.c, self.c.experts
        assert experts is not None
        scores = self.product(layer, "router", x)
        weights = softmax(scores) if experts.among == "all" else scores
        chosen = np.argsort(-weights)[: experts.active]
        shares = weights[chosen] if experts.among == "all" else softmax(weights[chosen])
        if experts.among == "all" and experts.normalise:
            shares = shares / shares.sum()
        gate, up, down = (self.parts[layer, f"experts.{part}"][0] for part in ("gate", "up", "down"))
        out = [down[e] @ (activation(c, gate[e] @ x) * (up[e] @ x)) for e in chosen]
        return np.einsum("e,ec->c", shares, np.stack(out))

    def hidden(self, tokens: list[int], length: int = 0) -> list[Array]:
        """The residual stream before each layer and after the last, and the final norm of that."""
        c, length = self.c, max(length, len(tokens))
        x = self.parts[-1, "embed"][0][tokens] * c.embed_scale
        if c.learned_positions:
            x = x + self.parts[-1, "positions"][0][: len(tokens)]
        states = [x]
        for i in range(c.layers):
            a = self.normed(i, "attn_post_norm", self.attention(i, self.normed(i, "attn_norm", x), length))
            h = x + c.residual_scale * a
            y = self.mlp(i, self.normed(i, "mlp_norm", x if c.parallel else h))
            x = h + c.residual_scale * self.normed(i, "mlp_post_norm", y) + self.after.get(i, 0)
            states.append(x)
        return [*states, self.normed(c.layers, "norm", x)]

    def head(self, hidden: Array) -> Array:
        c = self.c
        weight = self.parts[-1, "embed"][0] if c.tied else self.parts[c.layers, "head"][0]
        logits = hidden @ weight.T * c.logit_scale
        return np.tanh(logits / c.logit_softcap) * c.logit_softcap if c.logit_softcap is not None else logits

    def __call__(self, tokens: list[int], length: int = 0) -> Array:
        return self.head(self.hidden(tokens, length)[-1])


def off(got: mx.array, want: Array) -> float:
    found = np.array(got).astype(np.float64)
    assert found.shape == want.shape
    return float(np.abs(found - want).max() / np.abs(want).max())


def text(n: int, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(0, V, n).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["llama biased", "gemma 2", "gpt-2", "gpt-neox", "mixtral", "olmo 2"])
def test_documents_of_a_row_are_each_read_from_their_first_position(name: str) -> None:
    model = built(name)
    exact, parts = Exact(model), [text(n, n) for n in (5, 1, 4, 5)]
    row = mx.array([[token for part in parts for token in part]])
    got = model.head(model.hidden(row, documents=[len(part) for part in parts]))
    assert off(got, np.concatenate([exact(part) for part in parts])[None]) < 2e-5
    after = [-1, 0, 0, -1]  # two go on from the first
    got = model.head(model.hidden(row, documents=[len(part) for part in parts], after=after))
    begun = [parts[0] if of >= 0 else [] for of in after]
    want = [exact(before + part)[len(before) :] for before, part in zip(begun, parts, strict=True)]
    assert off(got, np.concatenate(want)[None]) < 2e-5


@pytest.mark.parametrize("name", ["gemma 2", "gpt-neox", "gpt-2", "granite untied", "qwen3 moe"])
def test_the_inside_is_the_residual_stream_layer_by_layer(name: str) -> None:
    model = built(name)
    exact, one = Exact(model), text(9)
    states = exact.hidden(one)
    x = mx.array([one])
    seen = model.inspect(x, emit=Emit(lse=True))
    assert len(seen.hidden) == model.config.layers + 1 == len(seen.attention) + 1
    for got, want in zip([*seen.hidden, seen.final], states, strict=True):
        assert off(got[0], want) < 2e-5
    cache = model.make_cache()
    model(x[:, :6], cache)
    later = model.inspect(x[:, 6:], cache)
    assert later.attention == [] and off(later.hidden[2][0], states[2][6:]) < 2e-5
    c = model.config
    lens = exact.head(exact.normed(c.layers, "norm", states[1]))
    assert off(model.lens(seen.hidden[1])[0], lens) < 2e-5


def test_a_diffusion_model_is_told_what_positions_see_and_never_gives_the_mask() -> None:
    model = built("llama", mask_token_id=7)
    x = mx.array([text(5)])
    for act in (lambda: model(x), lambda: model.hidden(x), lambda: model.inspect(x)):
        with pytest.raises(ConfigError, match="does not go from left to right"):
            act()
    logits = model.head(model.hidden(x, mask=Mask(causal=False)))
    assert mx.all(logits[..., 7] == -mx.inf).item() and mx.sum(logits == -mx.inf).item() == 5
    model.inspect(x, mask=Mask(causal=False))


def test_a_table_of_positions_ends_where_it_does() -> None:
    model = built("gpt-2", n_positions=6, n_ctx=6)
    model(mx.array([text(6)]))
    with pytest.raises(ContextOverflow, match="this model has 6 positions, 7 were asked for"):
        model(mx.array([text(7)]))
    cache = model.make_cache()
    model(mx.array([text(5)]), cache)
    model(mx.array([[3]]), cache)
    with pytest.raises(ContextOverflow):
        model(mx.array([[3]]), cache)
    model.hidden(mx.array([text(9)]), documents=[6, 3])
    with pytest.raises(ContextOverflow):
        model.hidden(mx.array([text(9)]), documents=[2, 7])


def test_keys_of_a_short_text_are_not_read_on_by_a_long_one() -> None:
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    model = built(
        "phi 4",
        original_max_position_embeddings=8,
        rope_scaling={"type": "longrope"} | factors,
        max_position_embeddings=64,
    )
    cache, x = model.make_cache(), text(10)
    exact = Exact(model)
    assert off(model(mx.array([x[:6]]), cache)[0], exact(x[:6])) < 2e-5
    assert not model.crosses(cache, 8) and model.crosses(cache, 9) and not model.crosses(model.make_cache(), 9)
    model(mx.array([x[6:8]]), cache)
    with pytest.raises(CacheError, match="9 positions need other rotary frequencies than the 8 in the cache"):
        model(mx.array([x[8:9]]), cache)
    cache.rewind(8)
    cache.expected = 9
    got = model(mx.array([x[:5]]), cache)
    assert off(got[0], exact(x[:5], 9)) < 2e-5 and cache.regime == (1,)
    assert off(model(mx.array([x[5:]]), cache)[0], exact(x)[5:]) < 2e-5


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, ["all", "window 6 sinks 0"]),
        ({"bits": 8}, ["bits (8, 8) groups 64 exact 64", "window 6 sinks 0"]),
        ({"bits": (4, 8), "exact": 3}, ["bits (4, 8) groups 64 exact 3", "window 6 sinks 0"]),
        ({"bits": 8, "group_size": 32}, ["bits (8, 8) groups 32 exact 64", "window 6 sinks 0"]),
        ({"window": 20, "sinks": 3}, ["window 20 sinks 3", "window 6 sinks 0"]),
        ({"window": 6, "sinks": 1}, ["window 6 sinks 1", "window 6 sinks 0"]),
        ({"window": 5, "sinks": 2}, ["window 5 sinks 2", "window 5 sinks 2"]),
    ],
)
def test_layers_that_slide_keep_their_window_in_every_cache(options: dict[str, Any], kinds: list[str]) -> None:
    model = built("gemma 3", head_dim=64)
    cache = model.make_cache(32, **options)
    windows = model.config.windows
    assert [layer.kind for layer in cache.layers] == [kinds[bool(window)] for window in windows] and any(windows)
    assert isinstance(model.make_cache(bits=8).layers[windows.index(0)], QuantizedCache)


@pytest.mark.parametrize(
    ("head", "options", "line"),
    [
        (64, {"bits": 8, "window": 3}, "not both"),
        (64, {"sinks": 1}, "sinks go with a window, got sinks=1 and no window"),
        (64, {"bits": 8, "group_size": 128}, "heads of 64 numbers cannot be quantised with group_size 128"),
        (48, {"bits": 8}, "heads of 48 numbers cannot be quantised with any group size"),
        (96, {"bits": 8}, None),
        (96, {"bits": 8, "group_size": 64}, "heads of 96 numbers cannot be quantised with group_size 64"),
        (128, {"bits": 8, "group_size": 128}, None),
    ],
)
def test_a_cache_that_cannot_be_is_refused(head: int, options: dict[str, Any], line: str | None) -> None:
    model = built("llama", head_dim=head)
    if line is None:
        group = getattr(model.make_cache(**options).layers[0], "group_size", None)
        assert group == {96: 32, 128: 128}[head]
        return
    with pytest.raises(CacheError, match=line):
        model.make_cache(**options)


T = 12
NAMES = ["llama biased", "qwen3", "gemma 3", "phi 3"]


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest) -> Any:
    config = SAME[request.param]
    return ours(config, reference(config))


def moved(model: Any, at: int, **options: Any) -> list[int]:
    """The positions whose hidden state another token at `at` changes."""
    x = tokens(1, T, model.config.vocab_size)
    other = mx.where(mx.arange(T) == at, (x + 1) % model.config.vocab_size, x)
    a, b = (model.hidden(row, **options) for row in (x, other))
    return [int(i) for i in range(T) if difference(a[:, i], b[:, i]) > 1e-6]


def test_the_causal_mask_is_what_there_is_without_one(model: Any) -> None:
    x = tokens(2, T, model.config.vocab_size)
    for mask in (CAUSAL, Mask(block=1)):
        assert difference(model.hidden(x, mask=mask), model.hidden(x)) < 1e-5


def test_a_bidirectional_model_sees_both_sides(model: Any) -> None:
    assert moved(model, 6) == list(range(6, T))
    assert min(moved(model, 6, mask=FULL)) < 6


def test_a_block_sees_to_its_end_and_no_further(model: Any) -> None:
    """Every position of a block of four sees the others of it, and of what follows nothing."""
    assert min(moved(model, 6, mask=Mask(block=4))) == 4
    assert min(moved(model, 8, mask=Mask(block=4))) == 8


def test_a_mask_goes_with_a_cache(model: Any) -> None:
    x, cache = tokens(1, T, model.config.vocab_size), model.make_cache()
    blocks = Mask(block=4)
    parts = [model.hidden(x[:, i : i + 4], cache, mask=blocks) for i in range(0, T, 4)]
    assert difference(mx.concatenate(parts, axis=1), model.hidden(x, mask=blocks)) < 1e-4


def test_attention_can_be_looked_at_under_a_mask(model: Any) -> None:
    x = tokens(1, T, model.config.vocab_size)
    view = model.inspect(x, emit=Emit(scores=True), mask=FULL)
    seen = view.attention[-1].scores
    assert seen is not None and bool(mx.any(seen[0, 0, 0, 1:] > -mx.inf))
    assert difference(view.final, model.hidden(x, mask=FULL)) < 1e-5
