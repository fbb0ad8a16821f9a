"""A compiled step: one trace for each capacity of the caches, the numbers and tokens of the plain forward pass.

What stands for the compiler is `TracedFunction`, which runs a trace as Metal would, or `same`, which runs the Python.
"""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from likely.metal import dispatch, mx
from likely.metal.device import COMPILE
from likely.metal.simulator import TracedFunction, simulated
from likely.models.caches.kv_cache import Cache
from likely.models.modules.linear import Linear
from likely.models.native_path.compiled import Compile, CompiledStep
from likely.models.transformer import Transformer
from tests.metal.test_whole_models import alike, counted
from tests.models.test_prepared import CONFIGS, net
from tests.models.test_transformer import built as a_model
from tests.models.test_transformer import off, text
from tests.support.everyday import everyday

Array = mx.array
Hidden = Callable[[Array, Cache], Array]


def greedy(model: Transformer, hidden: Hidden, cache: Cache, tokens: int, prompt: int = 230) -> tuple[list[int], Array]:
    """Tokens, each fed before it is read, and the last hidden state."""
    last = model.hidden(mx.array([[(7 * i) % 250 for i in range(prompt)]]), cache)[:, -1:]
    found = []
    for _ in range(tokens):
        token = mx.argmax(model.head(last)[:, -1], axis=-1)
        last = hidden(token[None], cache)
        found.append(token)
    mx.eval(last)
    return [int(token.item()) for token in found], last  # type: ignore[arg-type]


def built(family: str, **changes: Any) -> Transformer:
    """A model whose constants are stored in the order of their rows: mx.export_function, by which `TracedFunction`
    works, writes others wrongly."""
    model = net(**CONFIGS[family], max_position_embeddings=512, **changes)
    products = {(id(part.owner), part.slot): part.holder for part in model.parts() if part.kind == "matrix"}
    for linear in (*products.values(), model.out):
        assert isinstance(linear, Linear)
        linear.columns = mx.contiguous(linear.columns)
        mx.eval(linear.columns)
    return model


@pytest.mark.parametrize("family", everyday(CONFIGS, 3))
def test_tokens_are_those_of_the_plain_pass_and_python_runs_once_a_capacity(family: str) -> None:
    model = built(family)
    step = CompiledStep(model, TracedFunction)
    expected, last = greedy(model, model.hidden, model.make_cache(), 40)
    held = model.make_cache()
    tokens, same = greedy(model, step.hidden, held, 40)
    assert tokens == expected and held.length == 270
    alike([same], [last], 5e-5)
    capacities = {256, 512}
    assert step.traces == len(capacities)
    assert held.layers[-1].keys is not None and held.layers[-1].keys.shape[2] in capacities
    assert greedy(model, step.hidden, model.make_cache(), 40)[0] == expected and step.traces == 2  # of any text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "traces", "tolerance"),
    [  # where rows are packed, a difference in rounding now and then gives another code
        ({"bits": 8, "exact": 16}, 1, 2e-2),  # of the 294 packed rows the last fit into the room behind the first
        ({"bits": (16, 4), "exact": 1}, 1, 0.1),
        ({"window": 20, "sinks": 3}, 1, 5e-5),
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["llama", "gemma3, two rotations"])
def test_rows_that_leave_between_two_steps(options: dict[str, Any], traces: int, tolerance: float, family: str) -> None:
    model = built(family)
    step = CompiledStep(model, TracedFunction)

    def fed(hidden: Hidden, cache: Cache) -> Array:
        model.hidden(mx.array([[(7 * i) % 250 for i in range(230)]]), cache)
        return mx.concatenate([hidden(mx.array([[i % 200]]), cache) for i in range(90)], axis=1)

    cache, other = model.make_cache(**options), model.make_cache(**options)
    alike([fed(step.hidden, cache)], [fed(model.hidden, other)], tolerance)
    assert [(layer.rows, layer.length, layer.nbytes) for layer in cache.layers] == [
        (layer.rows, layer.length, layer.nbytes) for layer in other.layers
    ]
    assert step.traces == traces


def test_samples_of_one_prompt_and_a_cache_that_goes_back() -> None:
    model = built("qwen3, normed heads")
    step = CompiledStep(model, TracedFunction)

    def run(hidden: Hidden) -> list[Array]:
        cache = model.make_cache()
        first = hidden(mx.array([[1, 2, 3]]), cache)
        cache.freeze()
        cache.select([0, 0, 0])
        found = [hidden(mx.array([[i + j] for i in range(3)]), cache) for j in range(4)]
        cache.rewind(2)
        found += [hidden(mx.array([[i + j] for i in range(3)]), cache) for j in range(4)]
        cache.rewind([2, 1, 0])  # rows of different lengths go the plain way
        return [first, *found, hidden(mx.array([[9], [8], [7]]), cache)]

    alike(run(step.hidden), run(model.hidden), 5e-5)
    assert step.traces == 1


@pytest.mark.parametrize(("family", "stock"), [("qwen3, normed heads", False), ("gemma3, two rotations", True)])
def test_kernels_are_traced_with_the_rest(family: str, stock: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours, or mlx's own where that was measured to be faster, with what is seen in layers that slide and in others."""
    monkeypatch.setitem(dispatch.faster, "decode traced float32 D=64 H=2/1 N=1024", not stock)
    model = built(family)
    cache = model.make_cache()
    expected = greedy(model, model.hidden, cache, 6)[0]
    with counted() as launches:
        step = CompiledStep(model, TracedFunction)
        assert greedy(model, step.hidden, model.make_cache(), 6)[0] == expected
        once = step.traces
        assert greedy(model, step.hidden, model.make_cache(), 6)[0] == expected
        assert step.traces == once
    assert launches["qkv_prepare"] and bool(launches["decode"]) != stock


def test_other_weights_are_seen_once_the_trace_is_forgotten() -> None:
    model = built("llama")
    step = CompiledStep(model, TracedFunction)
    cache = model.make_cache()
    model.hidden(mx.array([[1, 2, 3]]), cache)
    before = step.hidden(mx.array([[4]]), cache)
    cache.rewind(1)
    model.norm.weight = 2 * model.norm.weight
    step.forget()
    alike([step.hidden(mx.array([[4]]), cache)], [2 * before], 1e-6)


def test_what_no_trace_can_serve_goes_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 16}
    assert not CompiledStep(net(rope_scaling=dynamic), TracedFunction).on
    monkeypatch.delenv(COMPILE, raising=False)
    name = "decode compiled float32 D=64 H=2/1 N=1024"
    assert CompiledStep(net(), TracedFunction).on and not CompiledStep(net()).on  # without Metal it does not pay
    with simulated():
        assert not CompiledStep(net()).on  # nothing says what this chip's attention costs in a compiled step
        monkeypatch.setitem(dispatch.faster, name, False)
        assert not CompiledStep(net()).on
        monkeypatch.setitem(dispatch.faster, name, True)
        assert CompiledStep(net()).on and not CompiledStep(net(head_dim=16)).on
        monkeypatch.setenv(COMPILE, "0")
        assert not CompiledStep(net()).on
        monkeypatch.delitem(dispatch.faster, name)
        monkeypatch.setenv(COMPILE, "1")
        assert CompiledStep(net()).on
    mx.disable_compile()


def test_a_step_is_compiled_only_at_lengths_at_which_that_costs_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(COMPILE, raising=False)
    wins = {"decode compiled float32 D=64 H=2/1 N=1024": True, "decode compiled float32 D=64 H=2/1 N=4096": False}
    for name, faster in wins.items():
        monkeypatch.setitem(dispatch.faster, name, faster)
    with simulated():
        model = net()
        step, cache = CompiledStep(model), model.make_cache()
        compiled = []
        for read in (1020, 1, 1, 1, 1, 1, 1):
            before = step.traces
            mx.eval(step.hidden(mx.array([[3] * read]), cache))
            compiled.append(step.traces > before)
        assert cache.length == 1026 and compiled == [False, True, True, True, True, False, False]
        rows = model.make_cache()
        step.hidden(mx.array([[3], [4]]), rows)  # of two rows nothing was measured
        before = step.traces
        step.hidden(mx.array([[3], [4]]), rows)
        assert step.traces == before
    mx.disable_compile()


def same(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@pytest.fixture(scope="module")
def sliding() -> Transformer:
    return a_model("gemma 3", head_dim=64)  # layers that slide, and some that do not


def read(hidden: Callable[[mx.array, Cache], mx.array], cache: Cache, tokens: list[int], b: int = 1) -> mx.array:
    return mx.concatenate([hidden(mx.array([[token]] * b), cache) for token in tokens], axis=1)


OPTIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "packed": {"bits": (8, 4), "exact": 3},
    "keys as they come": {"bits": (16, 8), "exact": 1},
    "window": {"window": 9, "sinks": 2},
}


@pytest.mark.parametrize("kind", everyday(OPTIONS, 2))
def test_steps_go_on_from_every_cache_as_the_plain_pass_does(kind: str, sliding: Transformer) -> None:
    step = CompiledStep(sliding, same)
    caches = [sliding.make_cache(16, **OPTIONS[kind]) for _ in range(2)]
    outs = []
    for hidden, cache in zip((step.hidden, sliding.hidden), caches, strict=True):
        sliding.hidden(mx.array([text(100)]), cache)
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


def test_a_shape_is_compiled_once_and_the_oldest_of_sixteen_goes() -> None:
    made: list[int] = []

    def count(function: Callable[..., Any]) -> Callable[..., Any]:
        made.append(1)
        return function

    net = a_model("llama")
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
    assert len(made) == 19
    read(step.hidden, cache, [1])
    assert len(made) == 20  # it was the oldest
    last = net.make_cache(315)
    net.hidden(mx.array([[1]]), last)
    read(step.hidden, last, [2])
    assert len(made) == 20


def test_what_no_step_can_serve_goes_the_plain_way(sliding: Transformer) -> None:
    step = CompiledStep(sliding, same)
    empty = sliding.make_cache()
    step.hidden(mx.array([[1]]), empty)  # nothing is held yet
    ragged = sliding.make_cache()
    sliding.hidden(mx.array([text(4), text(4, 2)]), ragged)
    ragged.rewind([0, 1])
    step.hidden(mx.array([[1], [2]]), ragged)
    packed = sliding.make_cache(bits=8, exact=0)
    sliding.hidden(mx.array([text(4)]), packed)
    step.hidden(mx.array([text(2)]), packed)
    assert step.traces == 0
    assert not CompiledStep(a_model("llama dynamic"), same).on


COMPILERS: list[Compile] = [mx.compile] if shutil.which("g++") else []


@pytest.mark.slow
@pytest.mark.parametrize("compile", [TracedFunction, *COMPILERS], ids=["traced", "mlx"][: 1 + len(COMPILERS)])
def test_mlx_s_own_compiler(compile: Compile) -> None:
    """On a CPU it needs g++, and a few seconds of it."""
    mx.enable_compile()
    try:
        model = built("llama")
        step = CompiledStep(model, compile)
        expected = greedy(model, model.hidden, model.make_cache(), 40)[0]
        assert greedy(model, step.hidden, model.make_cache(), 40)[0] == expected
        assert step.traces == 2
    finally:
        mx.disable_compile()
