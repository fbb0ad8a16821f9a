"""New rows by our kernel, in the simulator: whole models of several families, over every kind of cache."""

from itertools import product
from typing import Any

import pytest

import likely.models as models
from likely.metal import kernel, mx
from likely.metal.simulator import simulated
from likely.models.transformer import Transformer
from tests.engine import tiny
from tests.metal.test_whole_models import alike, counted
from tests.support.everyday import everyday

PROMPT = [[(7 * i) % 250 for i in range(70)]]  # long enough that rows are packed and a window moves on
HEADS: dict[str, Any] = {"head_dim": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {}, "llama, neighbours turn": {"rope_traditional": True},
    "phi3, partial": {"model_type": "phi3", "partial_rotary_factor": 0.5},
    "qwen2, biases": {"model_type": "qwen2"}, "qwen3, normed heads": {"model_type": "qwen3"},
    "olmo2, normed as a whole": {"model_type": "olmo2"},
    "gemma3, two rotations": {"model_type": "gemma3_text", "sliding_window": 8, "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 64, "rope_local_base_freq": 100.0, "tie_word_embeddings": True},
}  # fmt: skip
CACHES: dict[str, dict[str, Any]] = {
    "full": {},
    "8-bit": {"bits": 8, "exact": 0},
    "4-bit": {"bits": 4, "exact": 16},
    "window": {"window": 20, "sinks": 2},
}


def net(**changes: Any) -> Transformer:
    config = tiny.LLAMA | HEADS | changes
    return models.build(config, {name: mx.array(a) for name, a in tiny.weights(config).items()})


def run(net: Transformer, prompt: list[list[int]], **cache: Any) -> list[mx.array]:
    held = net.make_cache(**cache)
    found = [net(mx.array(prompt), held)]
    found += [net(mx.array([[9 + i] for _ in prompt]), held) for i in range(3)]
    found.append(net(mx.array([[i, i + 1] for i in range(len(prompt))]), held))
    mx.eval(found)
    return found


@pytest.mark.parametrize(("family", "cache"), everyday(product(CONFIGS, CACHES), 3))
def test_every_family_and_cache_by_the_kernel(family: str, cache: str) -> None:
    model = net(**CONFIGS[family])
    expected = run(model, PROMPT, **CACHES[cache])
    with counted() as launches:
        # of packed rows a difference in rounding now and then changes a code
        alike(run(model, PROMPT, **CACHES[cache]), expected, 5e-3 if "bits" in CACHES[cache] else 5e-5)
    assert launches["qkv_prepare"] == 5 * 2  # calls, layers


@pytest.mark.parametrize("bits", [8, 4, (16, 4)], ids=str)
def test_where_no_row_stays_exact_the_kernel_packs_them(bits: Any) -> None:
    model, packed = net(model_type="qwen3"), {"bits": bits, "exact": 0}
    with simulated() as launches:
        held = model.make_cache(**packed)
        model(mx.array(PROMPT), held)
        assert not any("_bits8" in name or "_bits4" in name for name in launches)  # the rows of a chunk are exact
        before = held.layers[0].nbytes
        for i in range(3):
            model(mx.array([[9 + i]]), held)
    both = (bits, bits) if isinstance(bits, int) else bits
    form = f"_k_bits{both[0]}" if both[0] < 16 else "_v_bits4"
    assert sum(count for name, count in launches.items() if "_qkv_prepare" in name and form in name) == 3 * 2
    assert [layer.rows for layer in held.layers] == [0, 0] and held.length == 73
    assert held.layers[0].nbytes == before  # there was room
    other = model.make_cache(**packed)
    model(mx.array(PROMPT), other)
    want = [model(mx.array([[9 + i]]), other) for i in range(3)][-1]
    alike([model(mx.array([[50]]), held)], [model(mx.array([[50]]), other)], 5e-2)
    held.rewind(2)
    assert held.length == 72 and want.shape == (1, 1, 288)


def test_rows_of_different_lengths() -> None:
    def ragged(model: Transformer) -> list[mx.array]:
        held = model.make_cache()
        first = model(mx.array(PROMPT * 2), held)
        held.rewind([3, 10])
        return [first, model(mx.array([[4, 5], [6, 7]]), held)]

    model = net(model_type="qwen3")
    expected = ragged(model)
    with counted() as launches:
        alike(ragged(model), expected, 5e-5)
    assert launches["qkv_prepare"] == 4


def test_what_the_kernel_does_not_know_goes_the_other_way() -> None:
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    smollm3 = net(model_type="smollm3", no_rope_layers=[1, 0], tie_word_embeddings=True)
    for model, count in ((net(rope_scaling=yarn), 0), (smollm3, 5)):
        expected = run(model, PROMPT)
        with counted() as launches:
            alike(run(model, PROMPT), expected, 5e-5)
        assert launches["qkv_prepare"] == count


def test_a_kernel_that_is_off_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernel.switched_off, "qkv_prepare float32 D=64", "a test")
    with counted() as launches:
        run(net(), PROMPT)
    assert launches["qkv_prepare"] == 0


def test_every_form_of_the_kernel_is_compiled_before_it_is_needed() -> None:
    for family, forms in (("llama", 1), ("qwen3, normed heads", 1), ("gemma3, two rotations", 2)):
        model = net(**CONFIGS[family])
        with simulated() as launches:
            model.warm(mx.float32)
            warmed = set(launches)
            assert launches.total() == forms
            run(model, PROMPT)
            assert {name for name in launches if "_qkv_prepare" in name} == warmed
        model.warm(mx.float32)  # without Metal there is nothing to compile
