"""The parts of a model: they are the checkpoint's tensors, and one is replaced where it stands."""

from typing import Any

import pytest

import likely.models as models
from likely.metal import mx
from likely.models.layers import Joined, QuantizedLinear
from likely.models.parts import ModelPart
from likely.models.weights import Packed, PackedLayout
from tests.models.oracle import difference, flat, ours, reference, tokens
from tests.models.test_families import SAME, V

X = tokens(2, 7, V)
PACKED = PackedLayout(32, 8, "affine")


def model(name: str, **changes: Any) -> Any:
    config = SAME[name] | changes
    return ours(config, reference(config))


def part(m: Any, path: str) -> ModelPart:
    return next(p for p in m.parts() if p.path == path)


def packed(p: ModelPart) -> Packed:
    codes, scales, biases = mx.quantize(p.numbers(), 32, 8)
    return Packed(codes, scales, PACKED, biases)


@pytest.mark.parametrize("name", SAME)
def test_a_model_made_of_its_own_parts_is_the_same(name: str) -> None:
    """What the parts store is a checkpoint: under its names, read again, and put back one by one."""
    config = SAME[name]
    m = model(name)
    stored = {f"{p.path}.{leaf}": array for p in m.parts() for leaf, array in p.stored().items()}
    want = m(X)
    again = models.build(config | {"tie_word_embeddings": m.config.tied}, _as_written(name, stored, m.config))
    assert difference(again(X), want) < 1e-5
    for p in m.parts():
        m.put(p, p.matrix, p.bias)
    assert difference(m(X), want) < 1e-5


def _as_written(name: str, stored: dict[str, mx.array], config: models.ModelConfig) -> dict[str, mx.array]:
    from likely.models.families.registry import family

    kind = family(config.family)
    return {kind.spell(key): kind.arrange(key, array, config) for key, array in stored.items()}


@pytest.mark.parametrize("name", ["llama biased", "qwen3", "gemma 3", "phi 3", "mixtral", "gpt-2", "olmo 2"])
def test_every_part_counts(name: str) -> None:
    """Bent, each changes what the model says, and put back it says the same: no part has a second home."""
    m = model(name)
    want = m(X)
    for p in m.parts():
        held = p.matrix
        bent = held * mx.linspace(0.5, 1.5, held.shape[-1])  # a scale alone is taken out again by norms of q and k
        m.put(p, bent)
        assert difference(m(X), want) > 1e-6, p.path
        assert difference(p.numbers(), bent) == 0
        m.put(p, held)
        assert difference(m(X), want) < 1e-5, p.path


def test_a_product_comes_apart_where_its_parts_differ_and_is_one_again() -> None:
    m = model("llama biased", hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
    want = m(X)
    q, k, v = (part(m, f"model.layers.0.self_attn.{n}_proj") for n in "qkv")
    m.put(q, packed(q))
    product = m.blocks[0].qkv
    assert isinstance(product, Joined) and q.layout == PACKED and k.layout is v.layout is None
    m.put(k, packed(k))
    m.put(v, packed(v))
    m.unite()
    assert isinstance(m.blocks[0].qkv, QuantizedLinear)
    assert difference(m(X), want) < 0.05
    m.put(v, v.numbers())
    assert (q.layout, v.layout) == (PACKED, None)


def test_apart_and_together_it_is_the_same() -> None:
    m = model("llama biased")
    want = m(X)
    m.split()
    assert all(isinstance(block.qkv, Joined) for block in m.blocks) and difference(m(X), want) < 1e-5
    m.unite()
    assert not any(isinstance(block.qkv, Joined) for block in m.blocks) and difference(m(X), want) < 1e-5


def test_experts_are_parts() -> None:
    m = model("mixtral", hidden_size=64, intermediate_size=64)
    want = m(X)
    gate = next(p for p in m.parts() if p.role == "experts.gate")
    assert gate.matrix.shape == (gate.count, gate.height, gate.width)
    m.put(gate, packed(gate))
    assert gate.layout == PACKED and len(m.blocks[0].mlp.gate_up) == 2
    assert difference(m(X), want) < 0.05
    m.put(gate, gate.numbers())
    assert len(m.blocks[0].mlp.gate_up) == 1


def test_a_tied_head_follows_its_embedding() -> None:
    m = model("llama")
    table = next(p for p in m.parts() if p.role == "embed")
    m.put(table, table.matrix * 2)
    assert not any(p.role == "head" for p in m.parts())
    assert difference(m.out(mx.eye(m.config.width)), table.numbers().T) < 1e-6


def test_names_are_the_checkpoints() -> None:
    theirs = reference(SAME["llama biased"])
    assert {f"{p.path}.weight" for p in ours(SAME["llama biased"], theirs).parts()} == {
        name for name in flat(theirs.parameters()) if name.endswith(".weight")
    }
