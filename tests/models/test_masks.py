"""Masks that come with a call, in place of causal attention: laws that hold for any weights."""

from typing import Any

import pytest

from likely.metal import mx
from likely.metal.attention import FULL, Emit, Mask
from likely.metal.mask import CAUSAL
from tests.models.oracle import difference, ours, reference, tokens
from tests.models.test_families import SAME

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
