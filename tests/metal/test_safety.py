"""A kernel that is wrong on a machine is found, switched off and remembered, and the program goes on without it."""

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from metal import autotune, dispatch, kernel, mx, qkv_prepare, reference, selftest, tuning_cache, vocab
from metal.attention import Mask, attention
from metal.autotune import TimingCase
from metal.dispatch import Shape
from metal.kv import KV
from metal.selftest import Case, Verdict
from metal.simulator import simulated
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


def only(monkeypatch: pytest.MonkeyPatch, *kernels: str, least: int = 0) -> None:
    """The self-test compares these kernels only, and no more than the first `least` cases if that is not 0."""

    def some(shape: Shape) -> Iterator[Case]:
        return islice((case for case in selftest.cases(shape) if case.kernel in kernels), least or None)

    monkeypatch.setattr(autotune, "cases", some)


def verdicts(shape: Shape) -> dict[str, Verdict]:
    return {case.name: case.verdict() for case in selftest.cases(shape)}


def all_pass(shape: Shape) -> None:
    with simulated():
        found = verdicts(shape)
    assert {name: str(verdict) for name, verdict in found.items() if not verdict.passed} == {}


@pytest.mark.slow
def test_every_variant_passes_its_self_test() -> None:
    all_pass(SHAPE)
    assert {case.kernel for case in selftest.cases(SHAPE)} == {"decode", "tiles", "merge", "scan", "row", "qkv_prepare"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        Shape(64, 9, 3, mx.bfloat16),
        Shape(80, 4, 4, mx.bfloat16),
        Shape(96, 4, 2, mx.bfloat16),
        Shape(128, 4, 1, mx.bfloat16),
        Shape(64, 4, 2, mx.float32),
        Shape(128, 2, 1, mx.float16),
        Shape(256, 4, 2, mx.bfloat16),
    ],
    ids=lambda shape: kernel.variant("", shape.dtype, shape.head_size).strip(),
)
def test_every_variant_of_other_models_passes_too(shape: Shape) -> None:
    all_pass(shape)


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Launches as they happen, each with all that the compiler sees of it."""
    call, found = kernel.KernelCall.__call__, list[str]()

    def noted(self: kernel.KernelCall, inputs: list[mx.array]) -> list[mx.array]:
        seen = [str(x.dtype) for x in inputs], sorted((k, str(v)) for k, v in self.options["template"] or ())
        found.append(f"{self.kernel.name} {seen}")
        return call(self, inputs)

    monkeypatch.setattr(kernel.KernelCall, "__call__", noted)
    return found


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_what_a_model_launches_was_compared(dtype: mx.Dtype, variants: list[str]) -> None:
    """A prompt, a token, a batch that shares it, and a draw: no variant that the self-test has not run."""
    shape = Shape(64, 4, 2, dtype)
    with simulated():
        verdicts(shape)
        compared = set(variants)
        variants.clear()
        keys = normal(1, 1, 2, 128, 64, dtype=dtype)
        own = normal(2, 8, 2, 8, 64, dtype=dtype)
        packed = qkv_prepare.quantize(keys, qkv_prepare.Format(8, 64))
        for t, kv in (
            (40, cache(keys, keys, 100)),
            (1, cache(keys, keys, 100)),
            (1, cache(own, own, 5, prefix=cache(keys, keys, 100))),
            (1, cache(keys, keys, 100, prefix=cache(packed, packed, 100))),
        ):
            q = normal(3, kv.keys.shape[0], 4, t, 64, dtype=dtype)
            with dispatch.forced("ours"):
                attention(q, kv, scale=0.125)
        vocab.statistics(normal(4, 1, 9000, dtype=dtype), vocab.DrawPlan(top_p=0.9), mx.array([[0.5, 0.5]]))
        rows = normal(5, 1, 1, 8, 64, dtype=dtype)
        turns = qkv_prepare.Rotary(mx.ones((32,)))
        qkv_prepare.prepare(qkv_prepare.Projected(rows, 2, mx.array([3], dtype=mx.int32), turns))
    assert len(set(variants)) >= 8
    assert set(variants) <= compared


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
def test_a_wrong_result_switches_that_variant_off(
    name: str, file: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, file, old, new)
    only(monkeypatch, name, least=2)
    monkeypatch.setattr(autotune, "timing_cases", lambda shape: iter(()))
    with simulated():
        autotune.prepare([SHAPE])
    assert list(kernel.switched_off) == [kernel.variant(name, mx.float16, 0 if name == "scan" else 64)]
    assert "error" in next(iter(kernel.switched_off.values()))
    assert kernel.enabled(name, mx.bfloat16, 64)  # which nobody has seen fail


def test_a_variant_that_is_wrong_in_one_dtype_is_off_in_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compiler makes of one dtype says nothing of another, so each is compared before it is used."""
    broken(monkeypatch, "decode.metal", "at[u] <= high[r]", "at[u] <= high[r] - int(sizeof(T) == 2)")
    only(monkeypatch, "decode", least=1)
    fake_clock(monkeypatch, ours=1e-3, stock=2e-3)
    with simulated():
        autotune.prepare([SHAPE, replace(SHAPE, dtype=mx.float32)])
    assert [*kernel.switched_off] == ["decode float16 D=64"]
    assert dispatch.faster and all("float32" in name for name in dispatch.faster)


def test_one_that_does_not_compile_is_off_and_the_program_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "tiles.metal", "float2 o[TD];", "float2 o[TD]")
    only(monkeypatch, "tiles", least=2)
    q, k, v = (normal(seed, 1, h, t, 64, dtype=mx.float16) for seed, h, t in ((1, 4, 20), (2, 2, 64), (3, 2, 64)))
    mask = Mask(window=9)
    with simulated() as launches:
        autotune.prepare([SHAPE])
        assert "tiles float16 D=64" in kernel.switched_off
        launches.clear()
        out = attention(q, cache(k, v, 50), scale=0.2, mask=mask)
        quantised = attention(q[:, :, :1], cache(stored(k, 8), stored(v, 8), 50), scale=0.2)
        assert not launches
    assert error(out, oracle.attention(q, cache(k, v, 50), scale=0.2, mask=mask).out) < 2e-3
    assert quantised.shape == (1, 4, 1, 64)


def test_one_that_only_warming_meets_is_off_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the record says so, which is where `likely doctor` reads it."""
    broken(monkeypatch, "decode.metal", "threadgroup float shared_q[ROWS * D];", "threadgroup float shared_q[;")
    broken(monkeypatch, "scan.metal", "float held[EACH];", "float held[;")
    with simulated():
        autotune.warm([Shape(64, 4, 2, bits=(8, 8))], vocabulary=100)
        assert {"decode float16 D=64", "scan float16"} <= set(kernel.switched_off)
        found = tuning_cache.load()
    assert found is not None and found.switched_off == kernel.switched_off


def test_vocabulary_kernels_are_left_alone_once_switched_off() -> None:
    kernel.switch_off("scan float32", "for this test")
    with simulated() as launches:
        vocab.statistics(normal(1, 1, 100))
        assert not launches
        vocab.statistics(normal(1, 1, 100, dtype=mx.float16))
        assert launches


def fake_clock(monkeypatch: pytest.MonkeyPatch, ours: float, stock: float) -> None:
    """Timing runs nothing: ours and stock take these seconds."""
    seconds = {"ours": ours, "stock": stock, "reference": stock}
    monkeypatch.setattr(TimingCase, "chain", lambda self, q, kv, path, calls: calls * seconds[path])
    monkeypatch.setattr(autotune, "_seconds", lambda out: out)
    monkeypatch.setattr(autotune, "_disagreement", lambda *_: None)


def test_the_first_run_tests_and_times_and_later_runs_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "merge")
    fake_clock(monkeypatch, ours=1e-3, stock=2e-3)
    said: list[str] = []
    with simulated():
        first = autotune.prepare([SHAPE], lambda text, done, total: said.append(text))
    assert len(first.verdicts) == 1 and first.switched_off == {} and first.begun == {}
    assert len(first.faster) == 10 and all(first.faster.values())
    assert said[0] == "testing kernels on this chip, once (1/1)"
    assert said[1:] == [f"timing kernels on this chip, once ({n}/10)" for n in range(1, 11)]
    assert first.timings[0]["ours_s"] == pytest.approx(1e-3)  # of one call, not of an evaluation
    assert dispatch.faster == first.faster
    dispatch.faster.clear()
    monkeypatch.setattr(autotune, "_attempt", None)
    with simulated():
        assert autotune.prepare([SHAPE]) == first
    assert dispatch.faster == first.faster


def test_a_measured_win_is_what_makes_attention_take_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "none")
    q, k = normal(1, 1, 4, 1, 64, dtype=mx.float16), normal(2, 1, 2, 64, 64, dtype=mx.float16)
    for ours, launched in ((0.97e-3, False), (0.5e-3, True)):
        dispatch.faster.clear()
        with simulated() as launches:
            tuning_cache.forget()
            with monkeypatch.context() as clock:
                fake_clock(clock, ours=ours, stock=1e-3)
                autotune.prepare([SHAPE])
            attention(q, cache(k, k, 50), scale=0.125)
            assert bool(launches) == launched


@pytest.mark.slow
def test_where_stock_needs_an_array_it_is_taken_only_if_measured_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window, documents, rows of different lengths, a shared and a packed prefix: ours, unless stock won here."""
    only(monkeypatch, "none")
    k = normal(2, 1, 2, 1024, 64, dtype=mx.float16)
    documents = Mask(documents=mx.array([[0] * 500 + [1] * 524], dtype=mx.int32))
    packed = qkv_prepare.quantize(k, qkv_prepare.Format(8, 64))
    own = normal(3, 8, 2, 8, 64, dtype=mx.float16)
    calls = [
        (20, cache(k, k, 1000), Mask(window=50)),
        (20, cache(k, k, 1000), documents),
        (1, cache(mx.repeat(k, 2, 0), mx.repeat(k, 2, 0), 1000, 900), Mask()),
        (1, cache(own, own, 5, prefix=cache(k, k, 1000)), Mask()),
        (1, cache(own[:1], own[:1], 5, prefix=cache(packed, packed, 1000)), Mask()),
    ]
    for ours in (0.5e-3, 2e-3):
        dispatch.faster.clear()
        with simulated() as launches:
            tuning_cache.forget()
            with monkeypatch.context() as clock:
                fake_clock(clock, ours=ours, stock=1e-3)
                autotune.prepare([replace(SHAPE, window=50)])
            for t, kv, mask in calls:
                q = normal(1, kv.keys.shape[0], 4, t, 64, dtype=mx.float16)
                launches.clear()
                with monkeypatch.context() as patch:
                    patch.setattr(reference, "attention", None)  # it is neither
                    out = attention(q, kv, scale=0.125, mask=mask)
                assert bool(launches) == (ours < 1e-3)
                assert error(out, oracle.attention(q, kv, scale=0.125, mask=mask).out) < 3e-3


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_rows_are_read_by_ours_unless_stock_on_the_dequantised_was_faster(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "none")
    q, k = normal(1, 1, 4, 1, 64, dtype=mx.float16), normal(2, 1, 2, 1024, 64, dtype=mx.float16)
    packed = qkv_prepare.quantize(k, qkv_prepare.Format(bits, 64))
    for ours in (0.5e-3, 2e-3):
        dispatch.faster.clear()
        with simulated() as launches:
            tuning_cache.forget()
            with monkeypatch.context() as clock:
                fake_clock(clock, ours=ours, stock=1e-3)
                autotune.prepare([replace(SHAPE, bits=(bits, bits))])
            launches.clear()
            out = attention(q, cache(packed, packed, 1000), scale=0.125)
            assert bool(launches) == (ours < 1e-3)
            assert error(out, oracle.attention(q, cache(packed, packed, 1000), scale=0.125, mask=Mask()).out) < 3e-3


def test_timings_are_found_by_the_key_that_attention_looks_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    key = dispatch.key

    def noted(*call: Any, plain: bool) -> str:
        looked_up.append(key(*call, plain=plain))
        raise LookupError  # nothing is computed

    monkeypatch.setattr(dispatch, "key", noted)
    monkeypatch.setattr(dispatch, "faster", {"something": True})
    for shape in (SHAPE, replace(SHAPE, window=300), replace(SHAPE, softcap=20.0), replace(SHAPE, bits=(8, 4))):
        found = [*autotune.timing_cases(shape)]
        assert len({case.name for case in found}) == len(found) >= 5
        for case in found:
            q, kv = case.operands()
            with simulated(), pytest.raises(LookupError):
                attention(q, kv, scale=0.125, mask=case.mask, softcap=shape.softcap)
            assert looked_up[-1] == case.name
    assert [dispatch.bucket(n) for n in (1, 1024, 1025, 5000, 70000)] == [1024, 1024, 4096, 16384, 262144]


def test_ours_and_stock_are_timed_in_turns_over_many_calls_of_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow evaluation decides nothing, and the way to the device and back is shared by 32 calls or more."""
    seen: list[tuple[int, str, int]] = []

    def chain(self: TimingCase, q: mx.array, kv: KV, path: str, calls: int) -> float:
        seen.append((id(kv), path, calls))
        return 5.0 if len(seen) == 1 else calls * {"ours": 1e-4, "stock": 2e-4}[path]

    monkeypatch.setattr(TimingCase, "chain", chain)
    monkeypatch.setattr(autotune, "_seconds", lambda out: out)
    case = next(autotune.timing_cases(SHAPE))
    found = autotune.timed(case, *case.operands(), 0.0)
    assert (found.ours_s, found.stock_s) == pytest.approx((1e-4, 2e-4))
    assert [path for _, path, _ in seen] == ["ours", "stock", "stock", "ours", "ours", "stock"]
    assert len({inputs for inputs, _, _ in seen}) == 1 and min(calls for _, _, calls in seen) >= 32


def test_each_call_of_a_chain_reads_what_the_last_one_gave() -> None:
    """So none of them can be left out or run beside another."""
    q, k = normal(2, 1, 2, 1, 64), normal(1, 1, 1, 40, 64)
    case = TimingCase("decode", Shape(64, 2, 1, mx.float32), lambda: (q, cache(k, k, 40, cached=True)))
    before = kernel.launches["decode"]
    with simulated():
        got = case.chain(*case.operands(), "ours", 3)
    assert kernel.launches["decode"] - before == 3
    want = q
    for _ in range(3):
        want = mx.fast.scaled_dot_product_attention(want, k, k, scale=0.125)
    assert mx.allclose(got, want, atol=1e-5).item()


def test_one_that_is_wrong_only_at_full_size_is_not_adopted_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "decode.metal", "at[u] <= high[r] &&", "at[u] <= high[r] && at[u] < 500 &&")
    monkeypatch.setattr(autotune, "LENGTHS", (1024,))
    monkeypatch.setattr(autotune, "_seconds", lambda out: 1e-3)
    only(monkeypatch, "decode", least=1)
    shape = Shape(64, 2, 1)
    with simulated():
        found = autotune.prepare([shape])
    assert "error" in found.verdicts[next(c.name for c in selftest.cases(shape) if c.kernel == "decode")]  # it passed
    assert "differ by" in found.switched_off["decode float16 D=64"]
    assert found.faster == {}


def test_a_failure_is_applied_again_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "merge.metal", "(x + rest) / total", "x")
    only(monkeypatch, "merge")
    with simulated():
        assert "merge float16 D=64" in autotune.prepare([SHAPE]).switched_off
        kernel.switched_off.clear()
        monkeypatch.setattr(autotune, "_attempt", None)
        found = autotune.prepare([SHAPE])
    assert "merge float16 D=64" in kernel.switched_off
    assert found.faster == {}  # nothing to time without the merge


def test_an_interrupted_self_test_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl+c as often as one likes: what was compared stays, the rest is compared the next time."""
    only(monkeypatch, "merge", "scan")
    fake_clock(monkeypatch, ours=1e-3, stock=2e-3)
    verdict = Case.verdict

    def interrupted(case: Case) -> Verdict:
        if case.kernel == "scan":
            raise KeyboardInterrupt
        return verdict(case)

    with simulated():
        monkeypatch.setattr(Case, "verdict", interrupted)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                autotune.prepare([SHAPE])
        found = tuning_cache.load()
        assert found is not None and [name.split()[0] for name in found.verdicts] == ["merge"] and not found.begun
        monkeypatch.setattr(Case, "verdict", verdict)
        found = autotune.prepare([SHAPE])
    assert found.switched_off == {} and len(found.verdicts) == 2


DIES = """
import os
from metal import autotune, kernel, selftest
from metal.dispatch import Shape
from metal.simulator import simulated

merge, scan = (next(c for c in selftest.cases(Shape(64, 4, 2)) if c.kernel == name) for name in ("merge", "scan"))
autotune.cases = lambda shape: iter([merge, scan])
autotune.timing_cases = lambda shape: iter(())
verdict = selftest.Case.verdict
selftest.Case.verdict = lambda case: os._exit(9) if case.kernel == "scan" else verdict(case)
with simulated():
    autotune.prepare([Shape(64, 4, 2)])
    print([*kernel.switched_off.values()])
"""


@pytest.mark.slow
def test_a_test_that_ends_the_process_is_made_once_more_and_then_only_its_kernel_is_off() -> None:
    """A process ends for many reasons, a person's ctrl+q among them; twice at one place is one too often."""
    runs = [subprocess.run([sys.executable, "-c", DIES], capture_output=True, text=True) for _ in range(3)]
    assert [run.returncode for run in runs] == [9, 9, 0], runs[-1].stderr
    assert autotune.UNFINISHED in runs[2].stdout
    with simulated():
        found = tuning_cache.load()
        assert found is not None and [*found.switched_off] == ["scan float16"]
        assert [name.split()[0] for name in found.verdicts] == ["merge"]
        assert tuning_cache.forget() and tuning_cache.load() is None  # `likely doctor --retest`


HOLDS = """
from metal import tuning_cache
with tuning_cache.alone(lambda: None):
    print("held", flush=True)
    input()
"""


def test_a_second_process_waits_and_takes_what_the_first_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither tests beside it nor takes what the other has begun for something that ended a process."""
    only(monkeypatch, "merge")
    monkeypatch.setattr(autotune, "timing_cases", lambda shape: iter(()))
    pipe = subprocess.PIPE
    with simulated(), subprocess.Popen([sys.executable, "-c", HOLDS], stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        theirs = tuning_cache.blank()
        names = [case.name for case in autotune.cases(SHAPE)]
        theirs.begun = dict.fromkeys(names, 1)
        tuning_cache.save(theirs)
        said: list[str] = []

        def waiting(text: str, done: int, total: int) -> None:
            said.append(text)
            if len(said) == 2:
                theirs.verdicts, theirs.begun = dict.fromkeys(names, "passed there"), {}
                tuning_cache.save(theirs)
                first.communicate("\n")

        found = autotune.prepare([SHAPE], waiting)
    assert said[:2] == ["another process tests the kernels on this chip"] * 2
    assert [*found.verdicts.values()] == ["passed there"] and found.switched_off == {}


def test_records_are_of_one_chip_one_system_one_mlx_and_one_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with simulated():
        fresh = tuning_cache.blank()
        tuning_cache.save(fresh)
        assert tuning_cache.load() == fresh
        for name, value in (
            ("version", lambda name: "0.0.1"),
            ("HOST", tmp_path),  # the Python that chooses grids is another
        ):
            with monkeypatch.context() as other:
                other.setattr(tuning_cache, name, value)
                assert tuning_cache.load() is None
        with monkeypatch.context() as other:
            other.setattr(platform, "mac_ver", lambda: ("99.1", ("", "", ""), "arm64"))
            assert tuning_cache.blank().system == "99.1" and tuning_cache.load() is None
    target = tuning_cache.path(fresh)
    for damage in ("", "{", json.dumps({"chip": "x"}), json.dumps([1])):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(damage)
        assert tuning_cache.load() is None


def test_measurements_are_of_one_number_of_heads_and_rows_of_b() -> None:
    q, k = normal(1, 1, 4, 1, 64, dtype=mx.float16), normal(2, 1, 2, 64, 64, dtype=mx.float16)
    key = partial(dispatch.key, mask=Mask(), softcap=None, plain=True)
    names = [
        key(q, cache(k, k, 50)),
        key(mx.repeat(q, 2, 1), cache(k, k, 50)),  # 8 heads
        key(mx.repeat(q, 2, 1), cache(mx.repeat(k, 2, 1), mx.repeat(k, 2, 1), 50)),  # as many a group, of twice as many
        key(mx.repeat(q, 3, 0), cache(mx.repeat(k, 3, 0), mx.repeat(k, 3, 0), 50)),
    ]
    assert len(set(names)) == 4


def test_without_metal_nothing_is_run_or_written() -> None:
    nothing = autotune.prepare([SHAPE])
    assert nothing == tuning_cache.blank() and nothing.chip == "cpu"
    assert not tuning_cache.folder().exists()
    autotune.warm([SHAPE], 1000)
    found = autotune.bench(only="qkv_prepare 8-bit")
    assert found.kind == "simulator" and [row.case for row in found.counts] == ["qkv_prepare 8-bit"]


def test_bench_on_metal_times_every_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_clock(monkeypatch, ours=1e-3, stock=2e-3)
    with simulated():
        found = autotune.bench([SHAPE, Shape(64, 4, 2, bits=(8, 8))])
    assert found.kind == "metal" and len(found.timings) == 15
    exact = found.timings[0]
    assert exact.nbytes == 2 * 2 * 1024 * 64 * 2
    assert exact.stock_s == 2 * exact.ours_s
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


def test_what_was_timed_for_one_shape_is_kept_when_another_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "none")
    fake_clock(monkeypatch, ours=1e-3, stock=2e-3)
    with simulated():
        first = autotune.prepare([SHAPE])
        both = autotune.prepare([replace(SHAPE, softcap=20.0)])
    assert len(both.timings) > len(first.timings) > 0 and both.timings[: len(first.timings)] == first.timings
    assert first.faster.items() <= both.faster.items() and dispatch.faster == both.faster


def test_every_shape_that_is_timed_can_be() -> None:
    """Heads share keys evenly, and a packed head is whole groups."""
    for shape in autotune.BENCH:
        assert shape.heads % shape.kv_heads == 0 and shape.head_size % 32 == 0
        assert set(shape.bits) <= {4, 8, 16} and shape.head_size in (64, 80, 96, 128, 256)
