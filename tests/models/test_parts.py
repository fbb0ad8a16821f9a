"""The parts of a model: they are the checkpoint's tensors, and one is replaced where it stands."""

from typing import Any

import pytest

import likely.models as models
from likely.metal import mx
from likely.models.modules.parts import ModelPart
from likely.models.modules.weights import PackedLayout, PackedRows
from tests.models.oracle import difference, ours, reference, tokens
from tests.models.test_families import SAME, V
from tests.support.everyday import everyday

X = tokens(2, 7, V)
PACKED = PackedLayout(32, 8, "affine")


def model(name: str, **changes: Any) -> Any:
    config = SAME[name] | changes
    return ours(config, reference(config))


def part(m: Any, path: str) -> ModelPart:
    return next(p for p in m.parts() if p.path == path)


def packed(p: ModelPart) -> PackedRows:
    codes, scales, biases = mx.quantize(p.numbers(), 32, 8)
    return PackedRows(codes, scales, PACKED, biases)


@pytest.mark.parametrize("name", everyday(SAME, 4))
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


@pytest.mark.parametrize(
    "name", everyday(["llama biased", "qwen3", "gemma 3", "phi 3", "mixtral", "gpt-2", "olmo 2"], 3)
)
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
