"""A kernel that is wrong on a machine is found, switched off and remembered, and the program goes on without it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from metal import autotune, dispatch, kernel, mx, selftest, tuning_cache, vocab
from metal.attention import Mask, attention
from metal.autotune import Shape
from metal.simulator import simulated
from metal.tuning_cache import Record
from tests.metal import oracle
from tests.metal.build import cache, error, normal, stored

SHAPE = Shape(64, 4, 2)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that a test finds out stays behind, on disk or in the process."""
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(kernel, "switched_off", {})
    monkeypatch.setattr(dispatch, "faster", {})
    yield


def broken(monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str) -> None:
    """Put `new` for `old` in a kernel's body."""
    text = kernel.text

    def changed(name: str) -> tuple[str, str]:
        header, body = text(name)
        assert name != file or old in body
        return header, body.replace(old, new) if name == file else body

    monkeypatch.setattr(kernel, "text", changed)


def test_every_kernel_passes_its_self_test() -> None:
    with simulated():
        verdicts = selftest.selftest()
    assert {verdict.kernel for verdict in verdicts} == autotune.KERNELS
    assert [str(verdict) for verdict in verdicts if not verdict.passed] == []
    assert kernel.switched_off == {}


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("merge", "merge.metal", "(x + rest) / total", "(x + rest) / (total + 1.0f)"),
        ("decode", "decode.metal", "at[u] <= high[r]", "at[u] < high[r]"),
        ("tiles", "tiles.metal", "at <= high", "at < high"),
        ("scan", "scan.metal", "chunk * EACH + i", "chunk * EACH + max(i, 1)"),
        ("qkv_prepare", "qkv_prepare.metal", "a * s + z * c", "a * s - z * c"),
    ],
)
def test_a_wrong_result_switches_the_kernel_off(
    name: str, file: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, file, old, new)
    monkeypatch.setattr(selftest, "CASES", tuple(case for case in selftest.CASES if case[0] == name))
    with simulated():
        verdicts = selftest.selftest()
    assert not all(verdict.passed for verdict in verdicts)
    assert list(kernel.switched_off) == [name]
    assert "error" in kernel.switched_off[name]


def test_one_that_does_not_compile_is_switched_off_and_the_program_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "tiles.metal", "float2 o[TD];", "float2 o[TD]")
    monkeypatch.setattr(selftest, "CASES", tuple(case for case in selftest.CASES if case[0] == "tiles"))
    q, k, v = normal(1, 1, 4, 20, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    mask = Mask(window=9)
    with simulated() as launches:
        selftest.selftest()
        assert "tiles" in kernel.switched_off
        launches.clear()
        out = attention(q, cache(k, v, 50), scale=0.2, mask=mask)
        quantised = attention(q[:, :, :1], cache(stored(k, 8), stored(v, 8), 50), scale=0.2)
        assert not launches
    assert error(out, oracle.attention(q, cache(k, v, 50), scale=0.2, mask=mask).out) < 2e-6
    assert quantised.shape == (1, 4, 1, 64)


def test_vocabulary_kernels_are_left_alone_once_switched_off() -> None:
    kernel.switch_off("scan", "for this test")
    with simulated() as launches:
        vocab.statistics(normal(1, 1, 100))
    assert not launches


def fake_clock(monkeypatch: pytest.MonkeyPatch, ours: float, stock: float) -> None:
    """Timing runs nothing: ours and stock take these seconds."""
    turns = iter([ours, stock] * 100)
    monkeypatch.setattr(autotune, "_seconds", lambda call, budget: next(turns))


def test_the_first_run_tests_and_times_and_later_runs_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "CASES", selftest.CASES[:1])
    fake_clock(monkeypatch, ours=1e-3, stock=2e-3)
    with simulated():
        first = autotune.prepare([SHAPE])
    assert len(first.verdicts) == 1 and first.switched_off == {}
    assert len(first.faster) == 4 and all(first.faster.values())
    assert dispatch.faster == first.faster
    dispatch.faster.clear()
    monkeypatch.setattr(autotune, "selftest", None)
    monkeypatch.setattr(autotune, "_seconds", None)
    with simulated():
        assert autotune.prepare([SHAPE]) == first
    assert dispatch.faster == first.faster


def test_a_measured_win_is_what_makes_attention_take_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "CASES", ())
    q, k = normal(1, 1, 4, 1, 64, dtype=mx.float16), normal(2, 1, 2, 64, 64, dtype=mx.float16)
    for ours, launched in ((0.97e-3, False), (0.5e-3, True)):
        fake_clock(monkeypatch, ours=ours, stock=1e-3)
        dispatch.faster.clear()
        with simulated() as launches:
            tuning_cache.path(tuning_cache.blank()).unlink(missing_ok=True)
            autotune.prepare([SHAPE])
            attention(q, cache(k, k, 50), scale=0.125)
            assert bool(launches) == launched


def test_a_failure_is_applied_again_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "merge.metal", "x / total", "x")
    with simulated():
        assert "merge" in autotune.prepare().switched_off
        kernel.switched_off.clear()
        monkeypatch.setattr(autotune, "selftest", None)
        found = autotune.prepare([SHAPE])
    assert "merge" in kernel.switched_off
    assert found.faster == {}  # nothing to time without the merge


def test_a_self_test_that_ends_the_process_leaves_the_kernels_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(autotune, "selftest", dies)
    with simulated():
        with pytest.raises(KeyboardInterrupt):
            autotune.prepare()
        autotune.prepare()
    assert set(kernel.switched_off) == autotune.KERNELS
    assert set(kernel.switched_off.values()) == {autotune.UNFINISHED}


def test_records_are_of_one_chip_one_mlx_and_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated():
        fresh = tuning_cache.blank()
        tuning_cache.save(fresh)
        assert tuning_cache.load() == fresh
        with monkeypatch.context() as other:
            other.setattr(tuning_cache, "version", lambda name: "0.0.1")
            assert tuning_cache.load() is None
    target = tuning_cache.path(fresh)
    for damage in ("", "{", json.dumps({"chip": "x"}), json.dumps([1])):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(damage)
        assert tuning_cache.load() is None


def test_without_metal_nothing_is_run_or_written() -> None:
    nothing = autotune.prepare([SHAPE])
    assert nothing == tuning_cache.blank() == Record("cpu", nothing.mlx, nothing.text)
    assert not tuning_cache.folder().exists()
    autotune.warm([SHAPE], 1000)
    found = autotune.bench(only="qkv_prepare 8-bit")
    assert found.kind == "simulator" and [row.case for row in found.counts] == ["qkv_prepare 8-bit"]


def test_timings_are_found_by_the_key_that_attention_looks_up() -> None:
    keys = [dispatch.key(q, kv) for q, kv in autotune._operands(SHAPE)]
    assert keys == [*dict.fromkeys(autotune._keys(SHAPE))]
    assert [dispatch.bucket(n) for n in (1, 1024, 1025, 5000, 70000)] == [1024, 1024, 4096, 16384, 262144]


def test_bench_on_metal_times_every_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_clock(monkeypatch, ours=1e-3, stock=2e-3)
    with simulated():
        found = autotune.bench([SHAPE, Shape(64, 4, 2, bits=(8, 8))])
    assert found.kind == "metal" and len(found.timings) == 8
    exact, eight = found.timings[0], found.timings[4]
    assert exact.nbytes == 2 * 2 * 1024 * 64 * 2
    assert exact.stock_s is not None and eight.stock_s is None
    assert exact.share(0.524288) == pytest.approx(1.0)  # 524,288 bytes in a millisecond


@pytest.mark.parametrize("bits", [16, 8])
def test_warming_compiles_what_the_first_token_will_launch(bits: int) -> None:
    """A compiled step too, in which the host does not know how many rows there are."""
    with simulated() as launches:
        autotune.warm([Shape(64, 4, 2, mx.float32, bits=(bits, bits))], vocabulary=100)
        compiled = kernel._kernel.cache_info().misses
        launches.clear()
        q, k = normal(1, 1, 4, 1, 64), normal(2, 1, 2, 512, 64)
        rows = cache(stored(k, bits), stored(k, bits), 100)
        attention(q, rows, scale=0.125)
        attention(q, replace(rows, length=None), scale=0.125)
        vocab.statistics(normal(3, 1, 100), vocab.DrawPlan(top_p=0.9), mx.array([[0.5, 0.5]]))
        assert launches
        assert kernel._kernel.cache_info().misses == compiled
