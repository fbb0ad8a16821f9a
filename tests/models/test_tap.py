"""The tapped pass: the same numbers as the plain one, with every activation handed out."""

import pytest

from likely.metal import mx
from likely.metal.attention import Emit
from likely.models.tap import TappedPass
from tests.models.oracle import difference, pair, tokens
from tests.models.test_families import SAME, V


@pytest.mark.parametrize("name", sorted(SAME))
def test_it_computes_what_the_plain_pass_computes(name: str) -> None:
    _, model = pair(SAME[name])
    x = tokens(2, 12, V)
    found: dict[str, mx.array] = {}
    final = TappedPass(model, x).run(lambda at, x: found.setdefault(at, x))
    hidden = model.inspect(x).hidden
    assert difference(final, hidden[-1]) < 1e-5
    total = found["embedding"]
    for i in range(model.config.layers):
        total = total + found[f"layers.{i}.attention"] + found[f"layers.{i}.mlp"]
        assert difference(found[f"layers.{i}.residual"], hidden[i + 1]) < 1e-5
        assert difference(total, hidden[i + 1]) < 1e-5
        heads = found[f"layers.{i}.heads"]
        assert heads.shape == (2, 12, model.config.heads, model.config.head_size)


def test_what_the_tap_gives_takes_the_place_of_what_it_was_given() -> None:
    _, model = pair(SAME["llama"])
    x = tokens(1, 9, V)
    silent = TappedPass(model, x).run(lambda at, x: mx.zeros_like(x) if at.endswith(("attention", "mlp")) else x)
    assert difference(silent, model.embed(x)) == 0


@pytest.mark.parametrize("name", ["llama", "llama sliding", "gemma 2", "gpt-2"])
def test_after_a_cache_and_layer_by_layer(name: str) -> None:
    _, model = pair(SAME[name])
    x = tokens(1, 40, V)
    whole = TappedPass(model, x)
    cache = model.make_cache()
    model(x[:, :30], cache)
    rest = TappedPass(model, x[:, 30:], cache)
    for i in range(model.config.layers):
        seen = whole.layer(i, emit=Emit(entropy=True))
        later = rest.layer(i, lambda at, x: x, Emit(entropy=True))
        assert seen is not None and seen.entropy is not None and later is not None and later.entropy is not None
        assert mx.max(mx.abs(seen.entropy[:, :, 30:] - later.entropy)) < 1e-4
        assert difference(rest.x, whole.x[:, 30:]) < 1e-5
    assert cache.length == 40
