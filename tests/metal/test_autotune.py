"""What is timed on a chip, what is made of the times, and what attention does with it; the clock is the tests'."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from likely.metal import autotune, dispatch, kernel, mx, qkv_prepare, tuning_cache, vocab
from likely.metal.attention import attention
from likely.metal.autotune import Timing, TimingCase, timing_cases
from likely.metal.dispatch import Shape
from likely.metal.kv import QuantizedRows
from likely.metal.mask import CAUSAL, Mask
from tests.metal import oracle
from tests.metal.build import Clock, cache, error, known, metal, normal, stored
from tests.support.everyday import everyday

pytestmark = pytest.mark.usefixtures("unknown")
SHAPE = Shape(64, 2, 1)
TOKEN = "decode float16 D=64 H=2/1 N=1024"


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 18),
        ({"window": 300}, 19),
        ({"softcap": 20.0, "window": 300}, 19),
        ({"bits": (8, 4)}, 5),
        ({"head_size": 80}, 16),
    ],
    ids=str,
)
def test_every_timing_has_the_name_under_which_attention_looks_it_up(change: dict[str, Any], count: int) -> None:
    shape = replace(SHAPE, **change)
    found = [*timing_cases(shape)]
    assert len({case.name for case in found}) == len(found) == count
    for case in found:
        q, kv = case.operands()
        plain = case.mask is CAUSAL and kv.prefix is None and not kv.ragged and shape.softcap is None
        asked = case.name.replace("decode compiled", "decode") if case.compiled else case.name
        assert dispatch.key(q, kv, case.mask, shape.softcap, plain=plain and not kv.traced) == asked
        assert kv.cached and q.dtype == shape.dtype and q.shape[1::2] == (shape.heads, shape.head_size)
        assert case.other == ("stock" if shape.softcap is None else "reference")
        assert case.variant == kernel.variant("decode" if q.shape[2] == 1 else "tiles", shape.dtype, shape.head_size)
        prefix = kv.chain()[0].keys
        assert isinstance(prefix, QuantizedRows) == ("8-bit" in case.name or "8/4-bit" in case.name)


@pytest.mark.parametrize(("window", "seen"), [(300, 300), (512, 512), (513, 512), (9000, 512)])
def test_a_window_is_timed_where_it_narrows(window: int, seen: int) -> None:
    masks = [case.mask for case in timing_cases(replace(SHAPE, window=window)) if "window" in case.name]
    assert masks == [Mask(window=seen)]


@pytest.fixture
def small() -> TimingCase:
    """A token over 40 rows."""
    q, k = normal(2, 1, 2, 1, 64), normal(1, 1, 1, 40, 64)
    return TimingCase("decode", Shape(64, 2, 1, mx.float32), lambda: (q, cache(k, k, 40, cached=True)))


def timed(case: TimingCase, clock: Clock, budget_s: float, monkeypatch: pytest.MonkeyPatch) -> Timing:
    monkeypatch.setattr("time.perf_counter", clock)
    with metal():
        return autotune.timed(case, *case.operands(), budget_s)


def test_a_time_is_the_median_call_of_at_least_96(small: TimingCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow evaluation decides nothing, and the way to the device and back is shared by 32 calls."""
    before = kernel.launches["decode"]
    found = timed(small, Clock([640.0, 32.0, 96.0], [320.0, 64.0, 640.0]), 0.0, monkeypatch)
    assert (found.ours_s, found.stock_s) == (3.0, 10.0) and kernel.launches["decode"] - before == 3 * 32
    assert found.nbytes == 2 * 40 * 64 * 4 and found.share(1) == found.nbytes / 3e9 and found.share(None) is None


@pytest.mark.parametrize(("ours", "wins"), everyday([(0.94, True), (1.0, False), (0.96, False)], 2))
def test_what_wins_by_more_than_noise_is_what_attention_takes_from_then_on(
    ours: float, wins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.perf_counter", Clock(ours, 1.0))
    q, k = normal(1, 1, 2, 1, 64, dtype=mx.float16), normal(2, 1, 1, 64, 64, dtype=mx.float16)
    said: list[Any] = []
    with metal() as machine:
        known(SHAPE, TOKEN)
        found = autotune.prepare([SHAPE], lambda *words: said.append(words))
        assert said == [("timing kernels on this chip, once (1/1)", 1, 1)]
        assert found.faster[TOKEN] == wins and found.faster == dispatch.faster and found.begun == {}
        assert found.timings[0]["ours_s"] == pytest.approx(ours / 32)  # of one call, not of an evaluation
        machine.launches.clear()
        attention(q, cache(k, k, 50), scale=0.125)
        assert bool(machine.launches) == wins
        dispatch.faster.clear()
        machine.launches.clear()
        assert autotune.prepare([SHAPE]) == found and not machine.launches  # a later run remembers
        assert dispatch.faster == found.faster
        capped = replace(SHAPE, softcap=20.0)
        known(capped)
        more = autotune.prepare([SHAPE, capped])
    assert more.timings == found.timings and found.faster.items() < more.faster.items()


@pytest.mark.parametrize(("ours", "pays"), everyday([(0.96, True), (1.0, True), (0.94, False)], 2))
def test_a_step_is_compiled_where_its_attention_is_not_slower_by_more_than_noise(
    ours: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stock is the faster one in a compiled step, and ours in one that is not: each by the one it would take."""
    compiled = TOKEN.replace("decode", "decode compiled")
    with metal():
        record = known(SHAPE, compiled)
        record.faster[TOKEN] = True
        tuning_cache.save(record)
        monkeypatch.setattr("time.perf_counter", Clock(ours, 1.0))
        assert autotune.prepare([SHAPE]).faster[compiled] == pays


CALLS: dict[str, Callable[[mx.array], Any]] = {
    "window": lambda k: (20, cache(k, k, 1000), Mask(window=50)),
    "documents": lambda k: (20, cache(k, k, 1000), Mask(documents=mx.array([[0] * 500 + [1] * 524], dtype=mx.int32))),
    "ragged": lambda k: (1, cache(mx.repeat(k, 2, 0), mx.repeat(k, 2, 0), 1000, 900), Mask()),
    "prefix": lambda k: (1, cache(k[:, :, :8], k[:, :, :8], 5, prefix=cache(k, k, 1000)), Mask()),
    "8-bit": lambda k: (1, cache(stored(k, 8), stored(k, 8), 1000), Mask()),
    "4-bit": lambda k: (1, cache(stored(k, 4), stored(k, 4), 1000), Mask()),
}


@pytest.mark.parametrize("faster", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_where_stock_needs_an_array_or_a_copy_it_is_taken_only_if_it_was_faster(
    name: str, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    k = normal(2, 1, 2, 1024, 64, dtype=mx.float16)
    t, kv, mask = CALLS[name](k)
    q = normal(1, kv.keys.shape[0], 4, t, 64, dtype=mx.float16)
    monkeypatch.setitem(dispatch.faster, dispatch.key(q, kv, mask, None, plain="bit" in name), faster)
    with metal() as machine:
        out = attention(q, kv, scale=0.125, mask=mask)
    assert bool(machine.launches) == faster
    assert error(out, oracle.attention(q, kv, scale=0.125, mask=mask).out) < 3e-3


@pytest.mark.parametrize("bits", [16, 8])
def test_warming_compiles_what_the_first_token_will_launch(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled step too, in which the host does not know how many rows there are."""
    monkeypatch.delenv("LIKELY_COMPILE", raising=False)
    q, k = normal(1, 1, 4, 1, 64), normal(2, 1, 2, 512, 64)
    packed = k if bits == 16 else qkv_prepare.quantize(k, qkv_prepare.Format(bits, 64))
    rows = cache(packed, packed, 100)
    with metal() as warmed:
        autotune.warm([Shape(64, 4, 2, mx.float32, bits=(bits, bits))], vocabulary=100)
    with metal() as used:
        attention(q, rows, scale=0.125)
        attention(q, replace(rows, length=None), scale=0.125)
        vocab.statistics(normal(3, 1, 100), vocab.DrawPlan(top_p=0.9), mx.array([[0.5, 0.5]]))
    assert used.variants and used.variants <= warmed.variants


def test_bench_times_each_shape_on_metal_and_counts_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = autotune.bench(only="qkv_prepare 8-bit")
    assert (found.kind, found.bandwidth, found.timings) == ("simulator", None, ())
    assert [row.case for row in found.counts] == ["qkv_prepare 8-bit"]
    monkeypatch.setattr("time.perf_counter", Clock(1.0, 2.0))
    with metal():
        found = autotune.bench([SHAPE, SHAPE], 0.0, only=TOKEN)
    assert found.kind == "metal" and found.counts == ()
    assert [(timing.case, timing.stock_s / timing.ours_s) for timing in found.timings] == [(TOKEN, 2.0)]
