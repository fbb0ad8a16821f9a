"""The native pass against the definition in float64, a few rows a call, and the tensors that it takes."""

from typing import Any

import numpy as np
import pytest

from metal.packed import EIGHT, SIXTEEN, PackedMatrix
from models import packed as module
from models.errors import CacheError, CheckpointError, ConfigError, ContextOverflow
from models.families.registry import family
from models.packed import PackedModel
from models.transformer import Transformer
from tests.models.test_transformer import Exact, built, text

pytestmark = pytest.mark.linux
NAMES = (
    "llama",
    "llama interleaved",
    "llama yarn",
    "gemma 3",
    "granite",
    "qwen2 yarn",
    "qwen3",
    "phi 4",
    "smollm 3 listed",
)


def tensors(model: Transformer) -> dict[str, PackedMatrix | np.ndarray]:
    """A model's tensors as a checkpoint has them, matrices in panels of float32."""
    arrays = {f"{p.path}.{leaf}": np.array(a) for p in model.parts() for leaf, a in p.stored().items()}
    return {name: PackedMatrix("F32", *a.shape).fill(a) if a.ndim == 2 else a for name, a in arrays.items()}


def native(model: Transformer, weights: Any = None) -> PackedModel:
    names = family(model.config.family).names(model.config)
    return PackedModel(model.config, names, tensors(model) if weights is None else weights)


def off(got: np.ndarray, want: np.ndarray) -> float:
    assert got.shape == want.shape and got.dtype == np.float32
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [8, 256])
def test_logits_are_those_of_the_definition_however_many_rows_a_call_reads(
    name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    net = built(name)
    fast, exact = native(net), Exact(net)
    texts = [text(21), text(21, 2), text(21, 3)]
    x, states = np.array(texts), np.stack([exact.hidden(one)[-1] for one in texts])
    want = np.stack([exact.head(state) for state in states])
    assert off(fast(x, fast.make_cache()), want) < 2e-5
    assert off(fast.hidden(x, fast.make_cache()), states) < 2e-5
    assert off(fast.head(states.astype(np.float32)), want) < 2e-5
    assert off(fast.head(states[0, 3].astype(np.float32)), want[0, 3]) < 2e-5
    cache = fast.make_cache(16)
    assert off(fast.step(x[:, :11], cache), want[:, 10]) < 2e-5
    assert off(fast.step(x[:, 11:12], cache), want[:, 11]) < 2e-5
    assert off(fast(x[:, 12:], cache), want[:, 12:]) < 2e-5
    assert cache.length == 21 and len(cache.texts) == 3 and cache._first == 16
    assert fast.make_cache()._first == 256 and fast.make_cache().shape == (4, net.config.kv_heads, net.config.head_size)


@pytest.mark.parametrize(
    ("b", "t", "sizes"), [(1, 8, [8]), (1, 9, [8, 1]), (3, 5, [2, 2, 1]), (8, 2, [1, 1]), (4, 0, [])]
)
def test_a_call_reads_as_many_rows_as_stay_in_the_processor_s_cache(
    b: int, t: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 8)
    fast = native(built("llama"))
    tokens = np.arange(b * t, dtype=np.int64).reshape(b, t)
    parts = list(fast._parts(tokens, fast.make_cache()))
    assert [part.shape for _, part in parts] == [(b, n) for n in sizes]
    assert [first for first, _ in parts] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert all(part.dtype == np.int32 and part.flags.c_contiguous for _, part in parts)
    assert np.array_equal(np.concatenate([tokens[:, :0], *[part for _, part in parts]], 1), tokens)


def test_tokens_and_texts_have_their_borders() -> None:
    fast = native(built("llama"))
    fast(np.array([[0, 100]]), fast.make_cache())
    for bad, line in (([[101]], "tokens below 101 expected, got 101 to 101"), ([[-1, 5]], "got -1 to 5")):
        with pytest.raises(ContextOverflow, match=line):
            fast(np.array(bad), fast.make_cache())
    many = np.zeros((256, 1), np.int64)
    assert fast.step(many, fast.make_cache()).shape == (256, 101)
    with pytest.raises(CacheError, match="at most 256 texts side by side, got 257"):
        fast.step(np.zeros((257, 1), np.int64), fast.make_cache())


def test_angles_are_made_for_a_power_of_two_of_positions() -> None:
    fast = native(built("llama yarn"))
    (rope,) = fast._ropes
    for length, rows in ((1, 1024), (1024, 1024), (1025, 2048), (2048, 2048), (5000, 8192)):
        fast._turn(length)
        table = fast._tables[rope]
        assert table.shape == (rows, 2, rope.dims // 2) and fast._layers[3].turns == table.ctypes.data
        angles = np.arange(rows)[:, None] / np.array(rope.periods(length))
        want = np.stack([np.cos(angles), np.sin(angles)], 1) * rope.attention_factor
        assert np.abs(table - want).max() < 1e-3
    fast._turn(3)
    assert fast._tables[rope] is table  # what is longer serves


def test_layers_have_the_tables_and_windows_of_their_kind() -> None:
    net = built("gemma 3")
    fast = native(net)
    fast._turn(9)
    turns = [layer.turns for layer in fast._layers]
    near = [bool(window) for window in net.config.windows]
    assert len(set(turns)) == 2 and [turn == turns[near.index(True)] for turn in turns] == near
    assert [layer.window for layer in fast._layers] == [*net.config.windows]
    plain = native(built("smollm 3 listed"))
    plain._turn(9)
    assert [bool(layer.turns) for layer in plain._layers] == [True, False, False, True]


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("model.norm.weight", None, r"model\.norm\.weight must be \[48\] by the config, got nothing"),
        ("model.norm.weight", np.ones(47, np.float32), r"must be \[48\] by the config, got ndarray \[47\]"),
        ("model.layers.1.self_attn.q_proj.weight", None, r"must be a packed matrix \[48, 48\], got nothing"),
        ("model.layers.1.self_attn.k_proj.weight", (16, 32), r", got PackedMatrix \[16, 32\]"),
        ("model.layers.1.mlp.up_proj.weight", np.ones(3, np.float32), r"packed matrix \[72, 48\], got ndarray \[3\]"),
        ("model.layers.4.mlp.up_proj.weight", np.ones(3, np.float32), r"\[3\] has no place in the model"),
        ("lm_head.weight", np.ones(3, np.float32), None),  # a tied model's head is its embedding
    ],
    ids=str,
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(name: str, change: Any, line: str | None) -> None:
    net = built("llama")
    weights = tensors(net)
    if change is None:
        del weights[name]
    else:
        weights[name] = PackedMatrix("F32", *change) if isinstance(change, tuple) else change
    if line is None:
        assert native(net, weights).out is native(net, weights).embed or net.config.tied
        return
    with pytest.raises(CheckpointError, match=line):
        native(net, weights)


def test_activations_of_eight_bits_are_for_weights_of_few_bits() -> None:
    net = built("llama")
    fast = native(net)
    with pytest.raises(ConfigError, match=r"8-bit activations are for weights of 4 and 5 bits, .* \(it has F32\)"):
        fast.with_activations(EIGHT)
    again = fast.with_activations(SIXTEEN)
    assert (fast.activation_bits, again.activation_bits) == (24, 16) and again.embed is fast.embed
    with pytest.raises(ConfigError, match="packed weights: a cap on scores is not known to the decode call"):
        native(built("gemma 2"))
