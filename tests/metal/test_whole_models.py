"""Whole models through the simulated kernels: the same numbers as without them, and kernels that really ran."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import likely.models as models
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.gguf.precision import Precision
from likely.metal import dispatch, kernel, mx
from likely.metal.simulator import simulated
from likely.metal.vocab import DrawPlan, statistics
from likely.models.transformer import Transformer
from tests.metal.build import normal

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 96, "vocab_size": 97, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
PROMPT = [[5, 17, 3, 88, 41, 9, 2, 60, 33, 71, 12, 54]]


def model(dtype: mx.Dtype = mx.float32) -> Transformer:
    """A tiny Llama with seeded weights."""
    c, f, v = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"]
    q, kv = 64 * CONFIG["num_attention_heads"], 64 * CONFIG["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (v, c), "model.norm.weight": (c,), "lm_head.weight": (v, c)}
    for i in range(CONFIG["num_hidden_layers"]):
        at, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
        shapes |= {f"{at}.q_proj.weight": (q, c), f"{at}.k_proj.weight": (kv, c), f"{at}.v_proj.weight": (kv, c)}
        shapes |= {f"{at}.o_proj.weight": (c, q), f"{mlp}.gate_proj.weight": (f, c), f"{mlp}.up_proj.weight": (f, c)}
        shapes |= {f"{mlp}.down_proj.weight": (c, f), f"model.layers.{i}.input_layernorm.weight": (c,)}
        shapes |= {f"model.layers.{i}.post_attention_layernorm.weight": (c,)}
    weights = {
        name: (1 + normal(n, *s) / 10 if len(s) == 1 else normal(n, *s) * s[-1] ** -0.5).astype(dtype)
        for n, (name, s) in enumerate(shapes.items())
    }
    return models.build(CONFIG, weights)


def run(net: Transformer, prompt: list[list[int]] = PROMPT, **cache_options: Any) -> list[mx.array]:
    """Logits after a prompt and after each of four tokens, through a cache."""
    cache = net.make_cache(**cache_options)
    found = [net(mx.array(prompt), cache)]
    found += [net(mx.array([[7 + i]]), cache) for i in range(4)]
    mx.eval(found)
    return found


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """A block with simulated kernels; yields how often each of ours was launched in it."""
    before = kernel.launches.copy()
    found: Counter[str] = Counter()
    with simulated():
        yield found
    found.update(kernel.launches - before)


def alike(a: list[mx.array], b: list[mx.array], tolerance: float) -> None:
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        assert mx.allclose(x.astype(mx.float32), y.astype(mx.float32), atol=tolerance, rtol=0).item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(mx.float32, 2e-5), (mx.bfloat16, 0.15)], ids=str)
def test_ours_forced(dtype: mx.Dtype, tolerance: float) -> None:
    net = model(dtype)
    with dispatch.forced("reference"):
        expected = run(net)
    with counted() as launches, dispatch.forced("ours"):
        alike(run(net), expected, tolerance)
    assert set(launches) == {"qkv_prepare", "tiles", "decode", "merge"}


@pytest.mark.parametrize("bits", [8, 4, (8, 4)], ids=str)
def test_quantised_caches(bits: Any) -> None:
    net = model()
    prompt = [PROMPT[0] * 8]  # long enough that rows are packed
    expected = run(net, prompt, bits=bits, exact=0)
    with counted() as launches:
        # a difference in rounding now and then gives another code
        alike(run(net, prompt, bits=bits, exact=0), expected, 2e-2)
    assert launches["decode"] >= 8  # for each layer and token: all rows are packed, the new one too


def test_samples_of_one_prompt() -> None:
    net = model()

    def samples() -> list[mx.array]:
        cache = net.make_cache()
        net(mx.array(PROMPT), cache)
        cache.freeze()
        cache.select([0] * 8)
        return [net(mx.array([[i * 3 + j] for i in range(8)]), cache) for j in range(3)]

    expected = samples()
    with counted() as launches:
        alike(samples(), expected, 2e-5)
    assert set(launches) == {"qkv_prepare", "tiles", "decode", "merge"}


def test_windowed_prefill() -> None:
    net = model()
    expected = run(net, window=6, sinks=2)
    with counted() as launches:
        alike(run(net, window=6, sinks=2), expected, 2e-5)
    assert launches["tiles"]


def test_vocabulary_statistics_of_a_model() -> None:
    net = model()
    logits, uniform = net(mx.array(PROMPT))[0], mx.array([[i / 12, 1 - (i + 1) / 12] for i in range(12)])
    expected = statistics(logits, DrawPlan(top_k=20), uniform)
    with counted() as launches:
        got = statistics(logits, DrawPlan(top_k=20), uniform)
    assert set(launches) == {"scan", "draw"}
    assert expected.drawn is not None and got.drawn is not None
    assert got.drawn.token.tolist() == expected.drawn.token.tolist()
    assert mx.allclose(got.entropy, expected.entropy, atol=1e-5).item()


def test_what_heads_attend_to_comes_from_the_kernel() -> None:
    from likely.metal.attention import Emit

    net, emit = model(), Emit(lse=True, entropy=True, top=4)
    expected = net.inspect(mx.array(PROMPT), emit=emit).attention
    with counted() as launches:
        got = net.inspect(mx.array(PROMPT), emit=emit).attention
    assert launches["decode"]
    for a, b in zip(got, expected, strict=True):
        assert a.entropy is not None and b.entropy is not None and mx.allclose(a.entropy, b.entropy, atol=1e-5).item()
        assert a.positions is not None and b.positions is not None and mx.array_equal(a.positions, b.positions).item()


@pytest.mark.real
@pytest.mark.slow
def test_smollm2_and_twenty_greedy_tokens(smollm2: Any) -> None:
    checkpoint = load(smollm2.path, precision=Precision(mx.float32, packed=False))  # the graph, not native code
    ids = checkpoint.tokenizer.encode("Attention is all you need, said the paper, and the field")

    def greedy() -> tuple[mx.array, list[int]]:
        cache = checkpoint.model.make_cache()
        logits = checkpoint.model(mx.array([ids]), cache)
        tokens = [int(mx.argmax(logits[0, -1]).item())]
        while len(tokens) < 20:
            tokens.append(int(mx.argmax(checkpoint.model(mx.array([tokens[-1:]]), cache)[0, -1]).item()))
        return logits, tokens

    with dispatch.forced("reference"):
        logits, tokens = greedy()
    with counted() as launches, dispatch.forced("ours"):
        ours, same = greedy()
    assert mx.allclose(ours, logits, atol=2e-3).item()
    assert same == tokens
    assert launches["tiles"] == 30 and launches["decode"] == launches["merge"] == 19 * 30
