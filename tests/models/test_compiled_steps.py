"""The stepping of a compiled step by itself: what stands for the compiler gives the function back, so Python runs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from metal import dispatch, kernel, mx
from metal.attention import KV, Quantized
from models import compiled
from models.cache import Cache
from models.compiled import CompiledStep, _arrays, _filled, _kind
from models.transformer import Transformer
from tests.models.test_transformer import Exact, built, off, text


def same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@pytest.fixture(scope="module")
def model() -> Transformer:
    return built("gemma 3", head_dim=64)  # layers that slide, and some that do not


def read(hidden: Callable[[mx.array, Cache], mx.array], cache: Cache, tokens: list[int], b: int = 1) -> mx.array:
    return mx.concatenate([hidden(mx.array([[token]] * b), cache) for token in tokens], axis=1)


OPTIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "packed": {"bits": (8, 4), "exact": 3},
    "keys as they come": {"bits": (16, 8), "exact": 1},
    "window": {"window": 9, "sinks": 2},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_steps_go_on_from_every_cache_as_the_plain_pass_does(kind: str, model: Transformer) -> None:
    step = CompiledStep(model, same)
    caches = [model.make_cache(16, **OPTIONS[kind]) for _ in range(2)]
    outs = []
    for hidden, cache in zip((step.hidden, model.hidden), caches, strict=True):
        model.hidden(mx.array([text(100)]), cache)
        parts = [read(hidden, cache, text(3, 2))]
        cache.rewind(2)
        parts.append(read(hidden, cache, text(36, 3)))
        cache.freeze()
        cache.select([0, 0])
        parts.append(read(hidden, cache, text(3, 4), 2)[:1])
        outs.append(mx.concatenate(parts, axis=1))
    assert off(outs[0], np.array(outs[1]).astype(np.float64)) < 1e-4
    for one, two in zip(caches[0].layers, caches[1].layers, strict=True):
        assert (one.rows, one.length, one.nbytes, one.gone) == (two.rows, two.length, two.nbytes, two.gone)
    assert step.on and step.traces > 36


def test_logits_of_steps_are_those_of_the_definition(model: Transformer) -> None:
    step, cache, x = CompiledStep(model, same), model.make_cache(), text(12)
    first = step.hidden(mx.array([x[:5]]), cache)  # several tokens go the plain way
    assert step.traces == 0
    got = model.head(mx.concatenate([first, read(step.hidden, cache, x[5:])], axis=1))
    assert step.traces == 7 and off(got[0], Exact(model)(x)) < 2e-5


def test_a_shape_is_compiled_once_and_the_oldest_of_sixteen_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def count(function: Callable[..., Any]) -> Callable[..., Any]:
        made.append(1)
        return function

    net = built("llama")
    step, cache = CompiledStep(net, count), net.make_cache()
    net.hidden(mx.array([text(3)]), cache)
    read(step.hidden, cache, text(5))
    assert len(made) == 1 and step.traces == 5
    two = cache.fork()
    two.select([0, 0])
    step.hidden(mx.array([[1], [2]]), two)
    assert len(made) == 2
    step.forget()
    read(step.hidden, cache, [1])
    assert len(made) == 3
    for capacity in range(300, 316):
        other = net.make_cache(capacity)
        net.hidden(mx.array([[1]]), other)
        read(step.hidden, other, [2])
    assert len(made) == 19 and len(step._steps) == 16
    read(step.hidden, cache, [1])
    assert len(made) == 20  # it was the oldest
    last = net.make_cache(315)
    net.hidden(mx.array([[1]]), last)
    read(step.hidden, last, [2])
    assert len(made) == 20


def test_what_no_step_can_serve_goes_the_plain_way(model: Transformer) -> None:
    step = CompiledStep(model, same)
    empty = model.make_cache()
    step.hidden(mx.array([[1]]), empty)  # nothing is held yet
    ragged = model.make_cache()
    model.hidden(mx.array([text(4), text(4, 2)]), ragged)
    ragged.rewind([0, 1])
    step.hidden(mx.array([[1], [2]]), ragged)
    packed = model.make_cache(bits=8, exact=0)
    model.hidden(mx.array([text(4)]), packed)
    step.hidden(mx.array([text(2)]), packed)
    assert step.traces == 0
    assert not CompiledStep(built("llama dynamic"), same).on


def chain() -> KV:
    codes, scales, biases = mx.quantize(mx.random.normal((1, 2, 4, 64), key=mx.random.key(0)), 64, 8)
    packed = Quantized(codes, scales, biases, 64, 8)
    rows = mx.arange(2 * 2 * 3 * 64, dtype=mx.float32).reshape(2, 2, 3, 64)
    first = KV(packed, mx.zeros((1, 2, 4, 64)), mx.array([4], dtype=mx.int32), 4)
    at = mx.arange(6, dtype=mx.int32).reshape(2, 3)
    return KV(rows, rows + 1, mx.array([3, 2], dtype=mx.int32), 3, True, at, first)


def test_a_chain_is_told_apart_into_arrays_and_put_together_again() -> None:
    kv = chain()
    kind, arrays = _kind(kv), _arrays(kv)
    assert kind == (((64, 8), None, False, False, (1, 2, 4, 64)), (None, None, True, True, (2, 2, 3, 64)))
    assert len(arrays) == 3 + 1 + 1 + 2 + 1 + 1
    again = _filled(kind, list(arrays))
    assert again is not None and again.prefix is not None and again.cached and again.length is None
    assert [a is b for a, b in zip(_arrays(again), arrays, strict=True)] == [True] * 9 and _kind(again) == kind
    assert (again.ragged, again.prefix.ragged, again.prefix.positions) == (True, False, None)
    assert again.positions is kv.positions and isinstance(again.prefix.keys, Quantized)
    assert (again.prefix.keys.bits, again.prefix.keys.group_size) == (8, 64)
    assert _kind(None) == () and _arrays(None) == [] and _filled((), []) is None


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metal, on which nothing was measured, and kernels for all heads."""
    monkeypatch.setattr(kernel, "available", lambda: True)
    monkeypatch.setattr(kernel, "switched_off", {})
    monkeypatch.setattr(dispatch, "faster", {})
    monkeypatch.setattr(compiled, "compiles", lambda: True)
    monkeypatch.setattr(compiled, "insisted", lambda: False)


def test_a_step_is_compiled_where_our_decode_is_known_to_be_faster(
    there: None, model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = model.config
    name = f"float32 D=64 H={c.heads}/{c.kv_heads} N=1024"
    assert compiled.default(model) is None
    other = "decode float32 D=64 H=9/3 N=1024"
    for key, faster, on in (
        (f"prefill {name}", True, False), (f"decode {name}", False, False), (other, True, False),
        (f"decode prefix {name}", True, True), (f"decode {name}", True, True),
    ):  # fmt: skip
        dispatch.faster.clear()
        dispatch.faster[key] = faster
        assert (compiled.default(model) is mx.compile) == on
        assert CompiledStep(model).on == on
    assert compiled.default(built("llama")) is None  # heads of 8
    kernel.switch_off("decode float32 D=64", "")
    assert compiled.default(model) is None
    kernel.switched_off.clear()
    dispatch.faster.clear()
    monkeypatch.setattr(compiled, "insisted", lambda: True)
    assert compiled.default(model) is mx.compile
    monkeypatch.setattr(kernel, "available", lambda: False)
    assert compiled.default(model) is mx.compile
    monkeypatch.setattr(compiled, "compiles", lambda: False)
    assert compiled.default(model) is None


def test_a_step_pays_where_every_layer_s_call_was_measured_faster(there: None, model: Transformer) -> None:
    c = model.config
    heads = f"float32 D=64 H={c.heads}/{c.kv_heads}"
    step, cache = CompiledStep(model, same), model.make_cache()
    for layer in cache.layers:
        rows = mx.zeros((1, c.kv_heads, 5, 64))
        layer.append(rows, rows)
    for faster, pays in (
        ({}, False),
        ({f"decode {heads} N=1024": False}, False),
        ({f"decode {heads} N=1024": True}, True),
    ):
        dispatch.faster.clear()
        dispatch.faster.update(faster)
        assert step._pays(1, cache) == pays
    assert not step._pays(2, cache)
    cache.freeze()
    for layer in cache.layers:
        rows = mx.zeros((1, c.kv_heads, 1, 64))
        layer.append(rows, rows)
    prefix, windowed = f"decode prefix {heads} N=1024", f"decode prefix window {heads} N=1024"
    for names, pays in (([prefix], False), ([windowed], False), ([prefix, windowed], True)):
        dispatch.faster.clear()
        dispatch.faster.update(dict.fromkeys(names, True))
        assert step._pays(1, cache) == pays
    long = model.make_cache()
    for layer in long.layers:
        rows = mx.zeros((1, c.kv_heads, 1023, 64))
        layer.append(rows, rows)
    flat = built("llama", head_dim=64)
    one = flat.make_cache()
    for layer in one.layers:
        rows = mx.zeros((1, 2, 1023, 64))
        layer.append(rows, rows)
    plain = CompiledStep(flat, same)
    dispatch.faster.clear()
    dispatch.faster["decode float32 D=64 H=6/2 N=1024"] = True
    assert plain._pays(1, one)
    for layer in one.layers:
        layer.append(rows[:, :, :1], rows[:, :, :1])
    assert not plain._pays(1, one)  # 1,025 rows with the next
    packed = flat.make_cache(bits=8, exact=0)
    for layer in packed.layers:
        layer.append(rows[:, :, :40], rows[:, :, :40])
    dispatch.faster.clear()
    dispatch.faster["decode prefix 8-bit float32 D=64 H=6/2 N=1024"] = True
    assert plain._pays(1, packed)
