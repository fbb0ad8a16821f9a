"""The inside of a model on request: hidden states, attention, logits by layer; and the pass that hands them out."""

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.attention import Emit
from likely.models.tap import TappedPass
from tests.models.oracle import difference, pair, tokens
from tests.models.test_families import SAME, V
from tests.support.everyday import everyday


@pytest.mark.parametrize("name", ["llama", "llama sliding"])
@pytest.mark.parametrize("cached", [False, True])
def test_attention_weights(name: str, cached: bool) -> None:
    """Each head's weights from queries and keys by the definition, in float64, through mlx-lm's projections."""
    theirs, model = pair(SAME[name])
    t, window = 24, SAME[name].get("sliding_window")
    x = tokens(1, t, V)
    emit = Emit(lse=True, entropy=True, top=3, scores=True)
    cache, start = None, 0
    if cached:
        cache, start = model.make_cache(), 20
        model(x[:, :start], cache)
    seen = model.inspect(x[:, start:], cache, emit=emit).attention
    h = theirs.model.embed_tokens(x)
    for i, layer in enumerate(theirs.model.layers):
        a, n = layer.self_attn, layer.input_layernorm(h)
        q = a.rope(a.q_proj(n).reshape(1, t, 6, 8).transpose(0, 2, 1, 3))
        k = mx.repeat(a.rope(a.k_proj(n).reshape(1, t, 2, 8).transpose(0, 2, 1, 3)), 3, axis=1)
        scores = np.array(q, np.float64) @ np.array(k, np.float64).swapaxes(-1, -2) * a.scale
        at = np.arange(t)
        distance = at[:, None] - at[None]
        visible = (distance >= 0) & ((distance < window) if window and layer.use_sliding else True)
        p = np.where(visible, np.exp(scores), 0)
        p /= p.sum(-1, keepdims=True)
        s = seen[i]
        assert s.scores is not None and s.lse is not None and s.entropy is not None and s.positions is not None
        got = np.array(mx.exp(s.scores - s.lse[..., None]))
        want = p[:, :, start:, -got.shape[-1] :]
        assert np.max(np.abs(got - want)) < 1e-5
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.nansum(np.where(p > 0, p * np.log(p), 0), -1)[:, :, start:]
        assert np.max(np.abs(np.array(s.entropy) - entropy)) < 1e-4
        assert np.array_equal(np.array(s.positions)[0, :, -1, 0], p[0, :, -1].argmax(-1))
        mask = mx.array(visible)
        h = layer(h, mask, None)


def test_positions_are_absolute_after_a_window_has_moved() -> None:
    _, model = pair(SAME["llama sliding"])
    x = tokens(1, 300, V)
    cache = model.make_cache()
    for i in range(0, 299, 23):
        model(x[:, i : min(i + 23, 299)], cache)
    assert cache.layers[1].gone > 0
    seen = model.inspect(x[:, 299:], cache, emit=Emit(top=7)).attention
    assert seen[1].positions is not None
    assert sorted(seen[1].positions[0, 0, 0].tolist()) == list(range(293, 300))


@pytest.mark.parametrize("name", everyday(sorted(SAME), 4))
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
