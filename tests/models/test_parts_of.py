"""The parts of a model one by one: where each lives, what it stores, and how another takes its place."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.models.families.registry import family
from likely.models.modules.linear import Embedding, JoinedProducts, Linear, QuantizedLinear
from likely.models.modules.mlp import Mixture
from likely.models.modules.parts import BELOW, ModelPart, TensorNames, put, split, unite
from likely.models.modules.weights import PackedLayout, PackedRows
from likely.models.transformer import Transformer
from tests.models.test_transformer import Exact, built, off, text

TOP = {"embed": "e", "layer": "h.{}", "norm": "n", "head": "o"}
NAMES = TensorNames(TOP, {"q": "a.q_proj", "experts": "moe.switch", "o": "a.o"})


def the(model: Transformer, role: str, layer: int = 1) -> ModelPart:
    return next(part for part in model.parts() if part.role == role and part.layer == layer)


def test_a_role_has_a_path_and_a_path_its_layer() -> None:
    assert NAMES.path("embed") == "e" and NAMES.path("q", 3) == "h.3.a.q_proj" and NAMES.path("o", 0) == "h.0.a.o"
    assert NAMES.path("experts.gate", 12) == "h.12.moe.switch.gate_proj"
    assert NAMES.joined("qkv", 7) == "h.7.qkv" and NAMES.has("q") and not NAMES.has("k") and not NAMES.has("embed")
    assert NAMES.within("h.3.a.q_proj.weight") == (3, ("a.q_proj", "weight"))
    assert NAMES.within("h.12.bias") == (12, ("", "bias")) and NAMES.within("e.weight") == (None, ("e", "weight"))
    assert NAMES.within("h.x.weight") == (None, ("h.x", "weight")) and NAMES.within("hh.3.w") == (None, ("hh.3", "w"))


def shapes(model: Transformer, layer: int) -> list[tuple[Any, ...]]:
    found = [part for part in model.parts() if part.layer == layer]
    return [(p.role, p.kind, p.heights, p.index, p.width, p.count, p.start, p.stop) for p in found]


def test_the_parts_of_a_layer_stand_in_the_order_in_which_they_compute() -> None:
    model = built("llama biased")  # 48 wide, 6 heads of 8 and 2 of keys, 72 hidden units
    assert shapes(model, 1) == [
        ("attn_norm", "norm", (48,), 0, 1, 1, 0, 48),
        ("q", "matrix", (48, 16, 16), 0, 48, 1, 0, 48),
        ("k", "matrix", (48, 16, 16), 1, 48, 1, 48, 64),
        ("v", "matrix", (48, 16, 16), 2, 48, 1, 64, 80),
        ("o", "matrix", (48,), 0, 48, 1, 0, 48),
        ("mlp_norm", "norm", (48,), 0, 1, 1, 0, 48),
        ("gate", "matrix", (72, 72), 0, 48, 1, 0, 72),
        ("up", "matrix", (72, 72), 1, 48, 1, 72, 144),
        ("down", "matrix", (48,), 0, 72, 1, 0, 48),
    ]
    assert shapes(model, BELOW) == [("embed", "table", (101,), 0, 48, 1, 0, 101)] and BELOW == -1
    assert shapes(model, 4) == [("norm", "norm", (48,), 0, 1, 1, 0, 48), ("head", "matrix", (101,), 0, 48, 1, 0, 101)]
    part = the(model, "k", 3)
    assert (part.path, part.name, part.height) == ("model.layers.3.self_attn.k_proj", "self_attn.k_proj", 16)
    assert the(model, "head", 4).name == "lm_head" and the(model, "norm", 4).offset == 0.0


def test_families_have_other_parts() -> None:
    plain = built("gpt-2")
    assert [role for role, *_ in shapes(plain, 0)] == ["attn_norm", "qkv", "o", "mlp_norm", "up", "down"]
    assert shapes(plain, 0)[1][2:5] == ((144,), 0, 48) and [r for r, *_ in shapes(plain, BELOW)] == [
        "embed",
        "positions",
    ]
    gemma = built("gemma 3")
    norms = ["attn_norm", "q_norm", "k_norm", "attn_post_norm", "mlp_norm", "mlp_post_norm"]
    assert [role for role, kind, *_ in shapes(gemma, 0) if kind == "norm"] == norms
    assert {part.offset for part in gemma.parts() if part.kind == "norm"} == {1.0}
    assert shapes(gemma, 4) == [("norm", "norm", (48,), 0, 1, 1, 0, 48)]  # its head is the embedding
    mixed = built("mixtral")
    assert shapes(mixed, 2)[-4:] == [
        ("router", "matrix", (5,), 0, 48, 1, 0, 5),
        ("experts.gate", "experts", (72, 72), 0, 48, 5, 0, 72),
        ("experts.up", "experts", (72, 72), 1, 48, 5, 72, 144),
        ("experts.down", "experts", (48,), 0, 72, 5, 0, 48),
    ]


def rows(part: ModelPart, value: float) -> tuple[mx.array, mx.array | None]:
    """The part's weight and bias, each number replaced."""
    return mx.full(part.matrix.shape, value), None if part.bias is None else mx.full(part.bias.shape, value)


@pytest.mark.parametrize("name", ["llama biased", "gemma 3", "gpt-2", "mixtral", "phi 3"])
def test_a_part_that_is_put_is_that_part_and_no_other(name: str) -> None:
    model = built(name)
    for i in range(len(model.parts())):
        before = [(np.array(p.numbers()), None if p.bias is None else np.array(p.bias)) for p in model.parts()]
        part = model.parts()[i]
        weight, bias = rows(part, i + 0.5)
        model.put(part, weight, bias)
        for j, (after, (numbers, held)) in enumerate(zip(model.parts(), before, strict=True)):
            want = np.full_like(numbers, i + 0.5) if i == j else numbers
            assert np.array_equal(np.array(after.numbers()), want), (part.path, after.path)
            if held is not None:
                wanted = np.full_like(held, i + 0.5) if i == j else held
                assert after.bias is not None and np.array_equal(np.array(after.bias), wanted)


def packed(part: ModelPart, bits: int = 8) -> PackedRows:
    codes, scales, biases = mx.quantize(mx.random.normal(part.matrix.shape, key=mx.random.key(1)), 32, bits)
    return PackedRows(codes, scales, PackedLayout(32, bits, "affine"), biases)


WIDE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "head_dim": 16}


def test_a_product_comes_apart_where_its_parts_are_kept_otherwise() -> None:
    model = built("llama biased", **WIDE)
    block = model.blocks[1]
    assert isinstance(block.qkv, Linear) and isinstance(block.mlp.gate_up, Linear)  # type: ignore[union-attr]
    model.put(the(model, "k"), packed(the(model, "k")))
    assert isinstance(block.qkv, JoinedProducts) and [type(p) for p in block.qkv.parts] == [
        Linear,
        QuantizedLinear,
        Linear,
    ]
    layouts = {part.role: part.layout for part in model.parts() if part.layer == 1 and part.kind == "matrix"}
    assert layouts["k"] == PackedLayout(32, 8, "affine") and layouts["q"] is None
    assert [*the(model, "k").arrays()] == ["weight", "scales", "biases", "bias"] == [*the(model, "k").stored()]
    assert [*the(model, "k").stored(plain=True)] == ["weight", "bias"]
    assert off(model(mx.array([text(5)])), np.stack([Exact(model)(text(5))])) < 1e-4
    for role in ("q", "v"):
        model.put(the(model, role), packed(the(model, role)))
    unite(model.parts())
    assert (
        isinstance(block.qkv, QuantizedLinear) and block.qkv.bias is not None and block.qkv.shape == (4 * 16 + 64, 64)
    )
    assert off(model(mx.array([text(5)])), np.stack([Exact(model)(text(5))])) < 1e-4
    put(the(model, "v"), packed(the(model, "v"), 4))
    assert isinstance(block.qkv, JoinedProducts) and the(model, "v").layout == PackedLayout(32, 4, "affine")


def test_split_and_united_a_model_is_the_same() -> None:
    for name in ("llama biased", "mixtral"):
        model, x = built(name), mx.array([text(6)])
        want = np.array(model(x)).astype(np.float64)
        split(model.parts())
        assert all(isinstance(block.qkv, JoinedProducts) for block in model.blocks) and off(model(x), want) < 1e-5
        split(model.parts())
        unite(model.parts())
        assert all(isinstance(block.qkv, Linear) for block in model.blocks) and off(model(x), want) < 1e-5


def test_experts_are_one_matrix_where_gate_and_up_are_kept_alike() -> None:
    model = built("mixtral", **WIDE)
    mixture = model.blocks[1].mlp
    assert isinstance(mixture, Mixture) and len(mixture.gate_up) == 1
    model.put(the(model, "experts.up"), packed(the(model, "experts.up")))
    assert len(mixture.gate_up) == 2 and [
        part.layout is None for part in (the(model, "experts.gate"), the(model, "experts.up"))
    ] == [True, False]
    assert off(model(mx.array([text(5)])), np.stack([Exact(model)(text(5))])) < 1e-4
    model.put(the(model, "experts.gate"), packed(the(model, "experts.gate")))
    assert len(mixture.gate_up) == 1 and the(model, "experts.gate").matrix.shape == (5, 96, 64)
    assert the(model, "experts.down").matrix.shape == (5, 64, 96)


class Around:
    """What stands around a layer."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def __call__(self, x: mx.array) -> mx.array:
        return self.base(x)  # type: ignore[no-any-return]


def test_a_part_is_put_within_what_stands_around_it() -> None:
    model = built("llama")
    block = model.blocks[1]
    block.out = Around(Around(block.out))
    part = the(model, "o")
    model.put(part, mx.full((48, 48), 2.0))
    assert (
        isinstance(block.out, Around) and isinstance(block.out.base, Around) and isinstance(block.out.base.base, Linear)
    )
    assert np.array(part.numbers()).tolist() == [[2.0] * 48] * 48


def test_a_tied_head_follows_its_table_and_norms_of_heads_are_made_anew() -> None:
    model = built("gemma 3")
    model.put(the(model, "embed", BELOW), mx.full((101, 48), 0.25))
    assert isinstance(model.embed, Embedding) and np.array(model.out.matrix).tolist() == [[0.25] * 48] * 101
    model = built("gemma 3")
    part = the(model, "k_norm", 2)
    model.put(part, part.numbers() * 3)
    assert off(model(mx.array([text(5)])), np.stack([Exact(model)(text(5))])) < 2e-5
    assert np.allclose(
        np.array(part.stored()["weight"]) + 1, np.array(part.numbers())
    )  # less one, as a checkpoint has it


@pytest.mark.parametrize("name", ["gpt-2", "gpt-neox", "llama", "gemma 3"])
def test_a_family_s_names_are_spelled_and_read_again(name: str) -> None:
    model = built(name)
    kind = family(model.config.family)
    found: Mapping[str, mx.array] = {f"{p.path}.{leaf}": a for p in model.parts() for leaf, a in p.stored().items()}
    written = {kind.spell(key): kind.arrange(key, array, model.config) for key, array in found.items()}
    assert [kind.rename(key) for key in written] == [*found]
    if kind.prepare is not None:
        kind.prepare(written, model.config)
    assert [*written] == [*found] and all(mx.array_equal(written[key], found[key]) for key in found)
