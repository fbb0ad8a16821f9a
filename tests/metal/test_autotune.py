"""What is timed on a chip, what is made of the times, and what goes on when something fails; no kernel runs here."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from metal import autotune, dispatch, kernel, mx, tuning_cache, vocab
from metal.autotune import Timing, TimingCase, timing_cases
from metal.device import Device
from metal.dispatch import Shape
from metal.kv import KV, Quantized
from metal.mask import CAUSAL, Mask
from metal.selftest import Case
from metal.tuning_cache import Record

F16 = mx.float16
SHAPE = Shape(64, 6, 2)
BYTES = 2 * 64 * 2  # of a row of keys of two heads


@pytest.fixture(autouse=True)
def clean(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LIKELY_KERNELS", str(tmp_path))
    monkeypatch.setattr(kernel, "switched_off", {})
    monkeypatch.setattr(dispatch, "faster", {})
    yield


def described(case: TimingCase) -> tuple[Any, ...]:
    """What a case is a call of: queries, rows, rows of what stands before, and the mask."""
    q, kv = case.operands()
    rows = tuple(
        (part.keys.shape[:1] + part.keys.shape[2:3], part.lengths.tolist(), part.ragged, part.length)
        for part in kv.chain()
    )
    return q.shape, q.dtype, rows, case.mask


HEADS = "float16 D=64 H=6/2"


def test_the_calls_of_attention_that_are_timed() -> None:
    found = {case.name: case for case in timing_cases(SHAPE)}
    assert [*found] == [
        f"decode {HEADS} N=1024", f"decode {HEADS} N=4096", f"decode {HEADS} N=16384", f"decode {HEADS} B=8 N=1024",
        f"prefill {HEADS} N=1024", f"decode ragged {HEADS} B=8 N=1024", f"decode prefix {HEADS} B=8 N=1024",
        f"prefill documents {HEADS} N=1024", f"decode prefix 8-bit {HEADS} N=1024",
        f"decode prefix 8-bit {HEADS} N=4096",
    ]  # fmt: skip
    one, many = (1, 6, 1, 64), (8, 6, 1, 64)
    plain = ((1, 1024), [1024], False, 1024)
    assert described(found[f"decode {HEADS} N=1024"]) == (one, F16, (plain,), CAUSAL)
    longest = ((1, 16384), [16384], False, 16384)
    assert described(found[f"decode {HEADS} N=16384"]) == (one, F16, (longest,), CAUSAL)
    eight = ((8, 1024), [1024] * 8, False, 1024)
    assert described(found[f"decode {HEADS} B=8 N=1024"]) == (many, F16, (eight,), CAUSAL)
    assert described(found[f"prefill {HEADS} N=1024"]) == ((1, 6, 1024, 64), F16, (plain,), CAUSAL)
    ragged = ((8, 1024), [1024 - 8 * i for i in range(8)], True, 1024)
    assert described(found[f"decode ragged {HEADS} B=8 N=1024"]) == (many, F16, (ragged,), CAUSAL)
    shared, own = ((1, 960), [960], False, 960), ((8, 64), [64] * 8, False, 64)
    assert described(found[f"decode prefix {HEADS} B=8 N=1024"]) == (many, F16, (shared, own), CAUSAL)
    q, dtype, rows, mask = described(found[f"prefill documents {HEADS} N=1024"])
    assert (q, dtype, rows) == ((1, 6, 1024, 64), F16, (plain,))
    assert mask.documents.tolist() == [[0] * 256 + [1] * 256 + [2] * 256 + [3] * 256]
    for n in (1024, 4096):
        before, after = ((1, n - 64), [n - 64], False, n - 64), ((1, 64), [64], False, 64)
        case = found[f"decode prefix 8-bit {HEADS} N={n}"]
        assert described(case) == (one, F16, (before, after), CAUSAL)
        prefix = case.operands()[1].prefix
        assert prefix is not None and isinstance(prefix.keys, Quantized) and isinstance(prefix.values, Quantized)
        assert prefix.keys.bits == prefix.values.bits == 8 and prefix.keys.group_size == 64
    assert all(case.operands()[1].cached and case.shape is SHAPE and case.other == "stock" for case in found.values())
    assert {case.variant for name, case in found.items() if name.startswith("decode")} == {"decode float16 D=64"}
    assert {case.variant for name, case in found.items() if name.startswith("prefill")} == {"tiles float16 D=64"}


@pytest.mark.parametrize(("window", "seen"), [(300, 300), (512, 512), (513, 512), (9000, 512)])
def test_a_window_is_timed_where_it_narrows(window: int, seen: int) -> None:
    found = {case.name: case for case in timing_cases(replace(SHAPE, window=window))}
    assert len(found) == 11 and found[f"prefill window {HEADS} N=1024"].mask == Mask(window=seen)


def test_capped_scores_are_timed_against_the_reference() -> None:
    found = {case.name: case for case in timing_cases(replace(SHAPE, softcap=20.0, window=300))}
    assert [*found][:5] == [
        f"decode capped {HEADS} N=1024", f"decode capped {HEADS} N=4096", f"decode capped {HEADS} N=16384",
        f"decode capped {HEADS} B=8 N=1024", f"prefill capped {HEADS} N=1024",
    ]  # fmt: skip
    assert [*found][5:] == [
        f"prefill window capped {HEADS} N=1024", f"decode ragged capped {HEADS} B=8 N=1024",
        f"decode prefix capped {HEADS} B=8 N=1024", f"prefill documents capped {HEADS} N=1024",
        f"decode prefix capped 8-bit {HEADS} N=1024", f"decode prefix capped 8-bit {HEADS} N=4096",
    ]  # fmt: skip
    assert {case.other for case in found.values()} == {"reference"}


@pytest.mark.parametrize(("bits", "word"), [((8, 8), "8-bit"), ((4, 4), "4-bit"), ((8, 4), "8/4-bit")])
def test_packed_caches_are_timed_as_they_are(bits: tuple[int, int], word: str) -> None:
    found = {case.name: case for case in timing_cases(replace(SHAPE, bits=bits))}
    assert [*found] == [
        f"decode {word} {HEADS} N=1024", f"decode {word} {HEADS} N=4096", f"decode {word} {HEADS} N=16384",
        f"decode {word} {HEADS} B=8 N=1024", f"prefill {word} {HEADS} N=1024",
    ]  # fmt: skip
    kv = found[f"decode {word} {HEADS} N=1024"].operands()[1]
    assert isinstance(kv.keys, Quantized) and isinstance(kv.values, Quantized)
    assert (kv.keys.bits, kv.values.bits) == bits


def test_heads_of_no_whole_group_have_no_packed_prefix() -> None:
    names = [case.name for case in timing_cases(Shape(80, 6, 2))]
    assert len(names) == 8 and not any("8-bit" in name for name in names)
    keys = next(case for case in timing_cases(Shape(96, 6, 2)) if "8-bit" in case.name).operands()[1].prefix
    assert keys is not None and isinstance(keys.keys, Quantized) and keys.keys.group_size == 32


def clock(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> list[tuple[str, int]]:
    """Evaluations take these seconds, in turn, and the last for ever; which path was taken, and how many calls."""
    seen: list[tuple[str, int]] = []
    left = [*seconds]

    def chain(self: TimingCase, q: mx.array, kv: KV, path: str, calls: int) -> float:
        seen.append((path, calls))
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(TimingCase, "chain", chain)
    monkeypatch.setattr(autotune, "_seconds", lambda out: out)
    return seen


def test_three_rounds_are_timed_in_turns_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = clock(monkeypatch, 32.0, 64.0, 640.0, 96.0, 320.0, 320.0)
    case = next(timing_cases(SHAPE))
    found = autotune.timed(case, *case.operands(), 0.0)
    assert seen == [(path, 32) for path in ("ours", "stock", "stock", "ours", "ours", "stock")]
    assert found == Timing(case.name, 3.0, 10.0, 2 * BYTES * 1024)  # ours 32, 96, 320; stock 64, 640, 320


@pytest.mark.parametrize(("budget", "rounds"), [(6.0, 3), (6.1, 4), (8.0, 4), (8.1, 5), (1e9, 100)])
def test_more_rounds_are_timed_while_the_budget_lasts(
    budget: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = clock(monkeypatch, 1.0)
    case = next(timing_cases(SHAPE))
    assert autotune.timed(case, *case.operands(), budget).ours_s == 1 / 32
    assert len(seen) == 2 * rounds


def test_bytes_are_those_of_all_rows_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 1.0)
    case = next(case for case in timing_cases(SHAPE) if "8-bit" in case.name)
    packed = 2 * 960 * (64 + 2 * 2)  # of 8-bit keys of two heads: codes, and a scale and a bias of 16 bits
    assert autotune.timed(case, *case.operands(), 0.0).nbytes == 2 * (packed + 64 * BYTES)
    timing = Timing("x", 2.0, 3.0, 500_000_000_000)
    assert timing.share(1000) == 0.25 and timing.share(None) is None


def test_each_call_of_a_chain_reads_the_output_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, ...]] = []

    def attend(q: mx.array, kv: KV, **options: Any) -> mx.array:
        given.append((q.item(), options, dispatch._forced))
        return q + 1

    monkeypatch.setattr(autotune, "attention", attend)
    case = next(timing_cases(replace(SHAPE, softcap=20.0)))
    kv = case.operands()[1]
    assert case.chain(mx.array(0.0), kv, "reference", 3).item() == 3
    options = {"scale": 0.125, "mask": CAUSAL, "softcap": 20.0}
    assert given == [(float(i), options, "reference") for i in range(3)] and dispatch.free()


@pytest.mark.parametrize(
    ("ours", "other", "agrees"),
    [([1.0, -20.0], [1.0, -20.0], True), ([2.0, -20.0], [1.0, -20.0], True), ([2.01, -20.0], [1.0, -20.0], False),
     ([0.0], [float("nan")], False)],
)  # fmt: skip
def test_ours_may_differ_by_a_twentieth_of_the_largest_output(
    ours: list[float], other: list[float], agrees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    outs = {"ours": mx.array(ours), "stock": mx.array(other)}
    monkeypatch.setattr(TimingCase, "chain", lambda self, q, kv, path, calls: outs[path] * calls)
    case = next(timing_cases(SHAPE))
    found = autotune._disagreement(case, mx.zeros((1,)), case.operands()[1])
    assert (found is None) == agrees
    if ours == [2.01, -20.0]:
        assert found == "ours and stock differ by 1.01e+00 where the largest output is 2.00e+01"


def blank() -> Record:
    return Record("a chip", "1", "2", "3")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """A Mac whose record is kept in memory."""
    kept = [blank()]

    def save(record: Record) -> None:
        kept[0] = Record(**asdict(record))

    monkeypatch.setattr(autotune, "device", lambda: Device("Apple M4", True, bandwidth=120))
    monkeypatch.setattr(autotune, "load", lambda: Record(**asdict(kept[0])))
    monkeypatch.setattr(autotune, "save", save)
    monkeypatch.setattr(autotune, "cases", lambda shape: iter(()))
    monkeypatch.setattr(autotune, "_disagreement", lambda *_: None)
    return kept


def test_what_wins_by_more_than_noise_is_faster(there: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(timing_cases(SHAPE))
    for ours, faster in ((0.949, True), (0.95, False), (1.0, False)):
        there[0] = blank()
        budgets: list[float] = []

        def timed(case: TimingCase, q: mx.array, kv: KV, budget: float, ours: float = ours, b: Any = budgets) -> Timing:
            b.append(budget)
            return Timing(case.name, ours, 1.0, 7)

        monkeypatch.setattr(autotune, "timed", timed)
        monkeypatch.setattr(autotune, "timing_cases", lambda shape: iter((case, replace(case, name="decode other"))))
        said: list[tuple[str, int, int]] = []
        record = autotune.prepare([SHAPE], lambda *words, said=said: said.append(words), budget_s=10.0)  # type: ignore
        assert record.faster == {case.name: faster, "decode other": faster} == dispatch.faster
        assert budgets == [5.0, 5.0] and record.begun == {} == there[0].begun and there[0].faster == record.faster
        assert record.timings[0] == {"case": case.name, "ours_s": ours, "stock_s": 1.0, "nbytes": 7}
        assert said == [(f"timing kernels on this chip, once ({n}/2)", n, 2) for n in (1, 2)]
    autotune.prepare([SHAPE])
    assert len(budgets) == 2  # nothing is timed twice


def test_every_timing_has_three_seconds_in_all(there: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[float] = []
    monkeypatch.setattr(autotune, "timed", lambda case, q, kv, b: budgets.append(b) or Timing(case.name, 1, 1, 1))
    autotune.prepare([SHAPE])
    assert budgets == [0.3] * 10


def test_a_disagreement_at_full_size_switches_off_and_is_not_timed(
    there: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "_disagreement", lambda *_: "they differ")
    record = autotune.prepare([SHAPE])
    first = next(timing_cases(SHAPE)).name
    assert record.verdicts == {first: "they differ"} and record.faster == {} and record.timings == []
    assert record.switched_off == {"decode float16 D=64": f"{first}: they differ"} == kernel.switched_off
    assert autotune._untimed(record, [SHAPE]) == [] and not autotune._able(record, SHAPE)
    assert autotune._able(record, replace(SHAPE, dtype=mx.float32)) and not autotune._able(blank(), Shape(72, 2, 1))


def comparison(name: str, variant: str, error: float, run: list[str]) -> Case:
    def act() -> mx.array:
        run.append(name)
        return mx.array(error)

    return Case("decode", name, variant, 0.5, act)


def test_comparisons_are_made_once_and_one_that_fails_spares_the_others_of_its_variant(
    there: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[str] = []
    every = [comparison("a", "v", 0.1, run), comparison("b", "w", 0.9, run), comparison("c", "w", 0.1, run)]
    monkeypatch.setattr(autotune, "cases", lambda shape: iter(every))
    monkeypatch.setattr(autotune, "timing_cases", lambda shape: iter(()))
    said: list[tuple[str, int, int]] = []
    record = autotune.prepare([SHAPE, SHAPE], lambda *words: said.append(words))
    assert run == ["a", "b"] and said == [(f"testing kernels on this chip, once ({n}/3)", n, 3) for n in (1, 2, 3)]
    assert record.verdicts == {"a": "error 1.00e-01, at most 5.00e-01", "b": "error 9.00e-01, at most 5.00e-01"}
    assert record.switched_off == {"w": "b: error 9.00e-01, at most 5.00e-01"} == kernel.switched_off
    assert there[0] == record
    autotune.prepare([SHAPE])
    assert run == ["a", "b"]


def test_an_attempt_that_ended_the_process_is_made_twice(there: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[str] = []
    monkeypatch.setattr(autotune, "cases", lambda shape: iter([comparison("a", "v", 0.1, run)]))
    monkeypatch.setattr(autotune, "timing_cases", lambda shape: iter(()))
    there[0].begun["a"] = 1
    assert autotune.prepare([SHAPE]).switched_off == {} and run == ["a"]
    there[0] = blank()
    there[0].begun["a"] = 2
    record = autotune.prepare([SHAPE])
    assert run == ["a"] and record.switched_off == {"v": "a: it did not come to its end, twice"} and record.begun == {}
    assert there[0] == record


def test_a_begun_attempt_is_on_the_disk_while_it_runs(there: list[Record]) -> None:
    record = blank()
    seen: list[dict[str, int]] = []

    def fails() -> None:
        seen.append(dict(there[0].begun))
        raise RuntimeError("gone\nat once")

    autotune._attempt(record, "a", "v", fails)
    assert seen == [{"a": 1}] and record.begun == {} == there[0].begun
    assert record.switched_off == {"v": "a: gone"} == there[0].switched_off

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        autotune._attempt(record, "b", "w", interrupted)
    assert "w" not in record.switched_off and record.begun == {}


def test_what_cannot_be_compiled_is_off_here_and_in_the_record(there: list[Record]) -> None:
    autotune.guarded(["v", "w"], lambda: None)
    assert kernel.switched_off == {}

    def fails() -> None:
        raise ValueError("no\nway")

    autotune.guarded(["v", "w"], fails)
    assert kernel.switched_off == {"v": "no", "w": "no"} == there[0].switched_off


def test_warming_runs_attention_of_one_query_and_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, ...]] = []

    def attend(q: mx.array, kv: KV, **options: Any) -> mx.array:
        given.append((q.shape, q.dtype, kv, options))
        return q

    scanned: list[tuple[Any, ...]] = []

    def statistics(*arguments: Any) -> Any:
        scanned.append(arguments)
        return vocab.by_reference(mx.zeros((1, 3)), None, None)

    monkeypatch.setattr(kernel, "available", lambda: True)
    monkeypatch.setattr(autotune, "attention", attend)
    monkeypatch.setattr(autotune, "compiles", lambda: True)
    monkeypatch.setattr(vocab, "statistics", statistics)
    shape = Shape(64, 6, 2, mx.bfloat16, (16, 8), 30, 20.0)
    autotune.warm([shape], 100)
    assert [(q, kv.length) for q, _, kv, _ in given] == [
        ((1, 6, 1, 64), 1),
        ((1, 6, 1, 64), None),
        ((1, 6, 32, 64), 32),
    ]
    for q, dtype, kv, options in given:
        assert dtype == mx.bfloat16 and options == {"scale": 1.0, "mask": Mask(window=30), "softcap": 20.0}
        assert kv.lengths.tolist() == [q[2]] and kv.keys.shape == kv.values.shape == (1, 2, 512, 64)
        assert isinstance(kv.keys, mx.array) and isinstance(kv.values, Quantized) and kv.values.bits == 8
    logits, plan, uniform = scanned[0]
    assert logits.shape == (1, 100) and logits.dtype == mx.bfloat16 and plan == vocab.DrawPlan(top_k=1)
    assert uniform.shape == (1, 2)
    monkeypatch.setattr(autotune, "compiles", lambda: False)
    given.clear()
    autotune.warm([shape])
    assert len(given) == 2 and len(scanned) == 1
    autotune.warm([], 50)
    assert scanned[1][0].dtype == mx.float16 and len(given) == 2
    monkeypatch.setattr(kernel, "available", lambda: False)
    autotune.warm([shape], 100)
    assert len(given) == 2 and len(scanned) == 2


def test_without_metal_the_counts_are_the_figures_and_with_it_the_times(
    there: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[tuple[str, float]] = []
    monkeypatch.setattr(
        autotune, "timed", lambda case, q, kv, b: budgets.append((case.name, b)) or Timing(case.name, 1, 1, 1)
    )
    found = autotune.bench([SHAPE, SHAPE], only="prefill")
    assert (found.machine, found.kind, found.bandwidth, found.counts) == ("Apple M4", "metal", 120, ())
    names = [f"prefill {HEADS} N=1024", f"prefill documents {HEADS} N=1024"]
    assert [timing.case for timing in found.timings] == names and budgets == [(name, 10.0) for name in names]
    monkeypatch.setattr(autotune, "device", lambda: Device("cpu", False))
    nothing = autotune.bench(only="no such case")
    assert (nothing.machine, nothing.kind, nothing.bandwidth, nothing.timings) == ("simulator", "simulator", None, ())
    assert np.array_equal(autotune.LENGTHS, (1024, 4096, 16384)) and tuning_cache.folder().exists()
