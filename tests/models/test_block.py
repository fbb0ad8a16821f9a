"""A layer's parts by themselves, against float64: products, norms, activations, experts, turns, and what is joined."""

from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.device import gpu
from likely.models.configuration.config import Experts
from likely.models.configuration.rope import Rope
from likely.models.configuration.rotation import DocumentTurns, KernelRotation, TableRotation, rotation
from likely.models.errors import CheckpointError
from likely.models.families.builder import Builder
from likely.models.families.registry import configure, family, joins
from likely.models.modules.linear import (
    ACTIVATE,
    Embedding,
    JoinedProducts,
    LayerNorm,
    Linear,
    QuantizedLinear,
    RMSNorm,
    linear,
    onto,
)  # fmt: skip
from likely.models.modules.mlp import Mixture, stack
from likely.models.modules.weights import PackedLayout, PackedRows, Tensors
from likely.models.transformer import Transformer
from tests.models.test_families import SAME
from tests.models.test_transformer import Exact, built, off, text


def normal(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def wide(x: mx.array) -> np.ndarray:
    return np.array(x).astype(np.float64)


def packed(rows: int, columns: int, mode: str = "affine", bits: int = 4, group: int = 32) -> PackedRows:
    codes, scales, *biases = mx.quantize(normal(rows, columns, seed=5), group, bits, mode=mode)
    return PackedRows(codes, scales, PackedLayout(group, bits, mode), *biases)


@pytest.mark.parametrize("shape", [(1, 1, 24), (2, 5, 24), (24,)])
def test_a_product_is_x_times_w_transposed_and_its_bias(shape: tuple[int, ...]) -> None:
    x, w, b = normal(*shape), normal(7, 24, seed=1), normal(7, seed=2)
    residual = normal(*shape[:-1], 7, seed=3)
    for bias in (None, b):
        made = linear(w, bias)
        want = wide(x) @ wide(w).T + (0 if bias is None else wide(bias))
        assert isinstance(made, Linear) and made.shape == (7, 24) and mx.array_equal(made.matrix, w)
        assert off(made(x), want) < 1e-6 and off(onto(residual, made, x), want + wide(residual)) < 1e-6
    assert off(onto(residual, lambda x: made(x) * 2, x), 2 * want + wide(residual)) < 1e-6


@pytest.mark.parametrize("rows", [1, 7, 8, 9])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_product_is_that_of_its_numbers(rows: int, bias: bool) -> None:
    matrix, x = packed(7, 64), normal(1, rows, 64)
    b = normal(7, seed=2) if bias else None
    made = linear(matrix, b)
    assert isinstance(made, QuantizedLinear) and made.shape == (7, 64) and made.matrix is matrix
    want = wide(x) @ wide(matrix.floats(mx.float32)).T + (0 if b is None else wide(b))
    assert off(made(x), want) < 1e-5
    assert off(onto(normal(1, rows, 7, seed=3), made, x), want + wide(normal(1, rows, 7, seed=3))) < 1e-5


@pytest.mark.parametrize("shape", [(1, 1, 24), (1, 24), (2, 3, 24)])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_norms_are_their_definitions(shape: tuple[int, ...], eps: float) -> None:
    x, w, b = normal(*shape), normal(24, seed=1), normal(24, seed=2)
    rms = wide(x) / np.sqrt((wide(x) ** 2).mean(-1, keepdims=True) + eps) * wide(w)
    assert off(RMSNorm(w, eps)(x), rms) < 1e-6 and RMSNorm(w, eps).matrix is w
    half = RMSNorm(w.astype(mx.float16), eps)(x.astype(mx.float16))
    assert half.dtype == mx.float16 and off(half, rms) < 5e-3
    centred = wide(x) - wide(x).mean(-1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * wide(w)
    assert off(LayerNorm(w, b, eps)(x), want + wide(b)) < 1e-6 and off(LayerNorm(w, None, eps)(x), want) < 1e-6
    assert LayerNorm(w, b, eps).matrix is w


def test_rows_of_a_table_are_taken_by_token() -> None:
    table, tokens = normal(9, 64), mx.array([[3, 8], [0, 3]])
    assert off(Embedding(table, mx.float32)(tokens), wide(table)[np.array(tokens)]) < 1e-7
    matrix = packed(9, 64)
    made = Embedding(matrix, mx.float16)(tokens)
    assert made.dtype == mx.float16 and made.shape == (2, 2, 64) and Embedding(matrix, mx.float16).matrix is matrix
    assert off(made, wide(matrix.floats(mx.float32))[np.array(tokens)]) < 1e-3


@pytest.mark.parametrize("t", [1, 7, 8, 9])
@pytest.mark.parametrize("kept", ["joined", "apart", "packed"])
def test_experts_are_those_that_a_router_chose_weighted(t: int, kept: str) -> None:
    """8 positions and more, of 8 choices each, are sorted by expert."""
    c, width, count, active = 32, 64, 10, 8
    router, x = normal(count, c, seed=1), normal(2, t, c)
    gate, up, down = normal(count, width, c, seed=2), normal(count, width, c, seed=3), normal(count, c, width, seed=4)
    experts = Experts(count, active, width)
    parts: dict[str, Any] = {"joined": [mx.concatenate([gate, up], axis=1)], "apart": [gate, up]}
    if kept == "packed":
        codes, scales, biases = mx.quantize(mx.concatenate([gate, up], axis=1), 32, 8)
        stored = PackedRows(codes, scales, PackedLayout(32, 8, "affine"), biases)
        gate, up = mx.split(stored.floats(mx.float32), 2, axis=1)
        parts["packed"] = [stored]
    for among, normalise in (("chosen", True), ("all", True), ("all", False)):
        mixture = Mixture(
            Experts(count, active, width, among, normalise), linear(router), parts[kept], down, ACTIVATE["silu"]
        )
        want = np.zeros((2, t, c))
        for i, row in np.ndenumerate(np.empty((2, t))):
            position = wide(x)[i]
            scores = wide(router) @ position
            every = np.exp(scores - scores.max())
            every /= every.sum()
            chosen = np.argsort(-scores)[:active]
            shares = every[chosen] if among == "all" and not normalise else every[chosen] / every[chosen].sum()
            for share, expert in zip(shares, chosen, strict=True):
                inner = wide(gate)[expert] @ position
                inner = inner / (1 + np.exp(-inner)) * (wide(up)[expert] @ position)
                want[i] += share * (wide(down)[expert] @ inner)
            del row
        assert off(mixture(x), want) < 1e-5
        assert off(mixture.onto(x, x), want + wide(x)) < 1e-5
    assert (experts.among, experts.normalise) == ("chosen", True)


def test_experts_of_a_checkpoint_become_one_tensor_of_each_kind() -> None:
    weights = {f"e.{i}.w1.{kind}": mx.full((2,), float(i)) for i in range(3) for kind in ("weight", "scales")}
    stack(weights, "e", {"w1": "all.gate", "w2": "all.down"}, 3)
    assert {name: array.tolist() for name, array in weights.items()} == {
        f"all.gate.{kind}": [[0, 0], [1, 1], [2, 2]] for kind in ("weight", "scales")
    }
    weights = {f"e.{i}.w1.weight": mx.ones((2,)) for i in (0, 2)}
    with pytest.raises(CheckpointError, match=r"^weights: e\.1\.w1\.weight is missing$"):
        stack(weights, "e", {"w1": "all.gate"}, 3)


@pytest.mark.parametrize("form", [TableRotation, KernelRotation])
@pytest.mark.parametrize("gain", [1.0, 1.25])
def test_documents_of_a_row_turn_from_their_own_first_position(form: Any, gain: float) -> None:
    rope = Rope(1e4, 6, kind="yarn", factor=2.0, original=64, attention_factor=gain)
    made, x = form(rope, 8), normal(1, 2, 9, 8)
    turns = made.of_documents([(0, 4), (0, 1), (0, 4)])
    got = made(x, turns)
    parts = [made(part, made.turns(0, part.shape[2], part.shape[2])) for part in mx.split(x, [4, 5], axis=2)]
    assert off(got, wide(mx.concatenate(parts, axis=2))) < 1e-5
    assert isinstance(turns, DocumentTurns) == (form is KernelRotation)
    if isinstance(turns, DocumentTurns):
        assert turns.lengths == (4, 1, 4)
    assert mx.array_equal(got[..., 6:], x[..., 6:])  # dimensions that stand still have no gain


def test_a_rotation_is_told_to_our_kernel_as_frequencies_of_its_regime() -> None:
    long = Rope(1e4, 4, kind="longrope", original=8, short_factor=(1.0, 2.0), long_factor=(4.0, 8.0))
    made = rotation(long, 4)
    assert isinstance(made, KernelRotation if gpu() else TableRotation)
    short = made.rotary(8)
    assert short is made.rotary(3) and np.allclose(short.frequencies, [1, 0.005]) and not short.traditional
    assert np.allclose(made.rotary(9).frequencies, [0.25, 0.00125]) and made.rotary(8) is not short
    assert TableRotation(Rope(1e4, 4, traditional=True), 4).rotary(1).traditional


@pytest.mark.parametrize("form", [TableRotation, KernelRotation])
def test_turns_follow_the_regime_of_the_length(form: Any) -> None:
    long = Rope(1e4, 4, kind="longrope", original=8, short_factor=(1.0, 2.0), long_factor=(4.0, 8.0))
    made, x = form(long, 4), normal(1, 1, 2, 4)
    for length, periods in ((8, (1.0, 200.0)), (9, (4.0, 800.0)), (8, (1.0, 200.0))):
        angles = np.array([3, 4])[:, None] / np.array(periods)
        a, b = wide(x)[..., :2], wide(x)[..., 2:]
        want = np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)
        assert off(made(x, made.turns(3, 2, length)), want) < 1e-5


@pytest.mark.parametrize("name", ["llama biased", "llama", "mixtral", "gpt-2", "gemma 3"])
def test_a_model_is_the_same_from_parts_side_by_side_and_from_one_matrix(name: str) -> None:
    """Stored apart, joined while they were read, and not joined at all."""
    config, model = SAME[name], built(name)
    shape, kind = configure(config), family(config["model_type"])
    stored = {f"{part.path}.{leaf}": array for part in model.parts() for leaf, array in part.stored().items()}
    want = np.stack([Exact(model)(text(5))])
    joined = dict(stored)
    for whole, paths in joins(config).items():
        for leaf in ("weight", "bias"):
            parts = [joined.pop(f"{path}.{leaf}") for path in paths if f"{path}.{leaf}" in joined]
            if parts:
                joined[f"{whole}.{leaf}"] = mx.concatenate(parts)
    for tensors, fuse in ((stored, True), (stored, False), (joined, True)):
        made = Builder(shape, kind.names(shape), Tensors(dict(tensors)), fuse).model()
        assert isinstance(made, Transformer) and off(made(mx.array([text(5)])), want) < 2e-5
        apart = name in ("llama", "llama biased", "mixtral", "gemma 3") and not fuse
        assert isinstance(made.blocks[0].qkv, JoinedProducts) == apart
