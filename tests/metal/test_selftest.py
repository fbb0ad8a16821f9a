"""The self-test: what it compares, with what inputs, and that nothing that is wrong passes it.

What it tests is put in the place of the kernels: the reference, which every comparison passes, and the reference with
one of its numbers changed, which none passes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from metal import metal_attention, mx, qkv_prepare, reference, row, selftest, vocab
from metal.dispatch import Shape
from metal.kv import KV, Quantized, floats
from metal.mask import CAUSAL, Mask
from metal.metal_attention import Geometry
from metal.reference import Emit, Seen
from metal.selftest import Case, Verdict, cases, first_line

F16, BF16, F32 = mx.float16, mx.bfloat16, mx.float32
BOTH = Shape(64, 6, 3, F32)
SUMS, ALL = Emit(lse=True, entropy=True), Emit(lse=True, entropy=True, top=8, scores=True)


def test_a_shape_has_a_comparison_for_every_variant_it_may_launch() -> None:
    decode = ["one query", "everything reported, sinks", "three queries, window", "capped", "ring, documents"]
    tiles = ["causal", "causal, split", "window, sums reported, sinks", "capped", "capped, split", "documents"]
    tiles += ["tree, split", "shared prefix", "ring, split"]
    packed = [
        ("decode", "8-bit"),
        ("decode", "4-bit"),
        ("decode", "8-bit keys, 4-bit values"),
        ("tiles", "8-bit, split"),
    ]
    attention = [("decode", what) for what in decode] + [("tiles", what) for what in tiles]
    prepared = ["plain", "normed", "normed, neighbours turn", "8-bit"]
    want = ["merge bfloat16 D=64: two splits"]
    want += [f"{name} bfloat16 D=64 g=2: {what}" for name, what in attention + packed]
    want += [f"qkv_prepare bfloat16 D=64: {what}" for what in prepared]
    want += ["scan bfloat16: statistics and a draw", "row bfloat16: candidates and a histogram"]
    found = [*cases(Shape(64, 6, 3, BF16))]
    assert [case.name for case in found] == want
    assert [case.kernel for case in found] == [name.split(" ")[0] for name in want]
    assert [case.variant for case in found] == [name.split(":")[0].replace(" g=2", "") for name in want]
    assert [case.bound for case in found] == [3e-2] * (len(want) - 2) + [2e-5] * 2
    for dtype, bound in ((F32, 2e-5), (F16, 4e-3)):
        assert {case.bound for case in cases(Shape(64, 6, 3, dtype)) if case.kernel == "decode"} == {bound}


@pytest.mark.parametrize(
    ("d", "attends", "packs", "prepares"), [(96, True, True, True), (80, True, False, False), (48, False, False, False),
                                            (160, False, False, True)]
)  # fmt: skip
def test_what_a_head_size_does_not_allow_is_not_compared(d: int, attends: bool, packs: bool, prepares: bool) -> None:
    names = [case.name for case in cases(Shape(d, 2, 1, F16))]
    assert any(name.startswith("merge") for name in names) == attends
    assert sum(name.startswith(("decode", "tiles")) for name in names) == 14 * attends + 4 * packs
    assert (f"qkv_prepare float16 D={d}: 8-bit" in names) == prepares
    assert sum(name.startswith("qkv_prepare") for name in names) == 3 + prepares
    assert names[-2:] == ["scan float16: statistics and a draw", "row float16: candidates and a histogram"]


@dataclass
class Asked:
    """One call of attention."""

    q: mx.array
    kv: KV
    mask: Mask
    scale: float
    softcap: float | None
    sinks: mx.array | None
    emit: Emit | None
    splits: int | None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Asked]]:
    """Calls of our kernels, which give what the reference gives."""
    found: list[Asked] = []

    def attend(q: mx.array, kv: KV, *, geometry: Geometry, **options: Any) -> tuple[mx.array, Seen]:
        assert geometry.rows is None
        found.append(Asked(q=q, kv=kv, splits=geometry.splits, **options))
        return reference.attention(q, kv, **options)

    monkeypatch.setattr(metal_attention, "attention", attend)
    yield found


# kernel, name, queries, mask, parts that the keys are cut into, what is reported
WHAT: list[tuple[str, str, int, Mask, int | None, Emit | None]] = [
    ("decode", "one query", 1, CAUSAL, 2, None),
    ("decode", "everything reported, sinks", 1, CAUSAL, None, ALL),
    ("decode", "three queries, window", 3, Mask(window=40, keep=4), None, SUMS),
    ("decode", "capped", 1, CAUSAL, None, None),
    ("tiles", "causal", 20, CAUSAL, None, None),
    ("tiles", "causal, split", 20, CAUSAL, 2, None),
    ("tiles", "window, sums reported, sinks", 40, Mask(window=30, keep=2), None, SUMS),
    ("tiles", "capped", 20, CAUSAL, None, None),
    ("tiles", "capped, split", 20, CAUSAL, 2, None),
    ("tiles", "shared prefix", 8, CAUSAL, None, None),
    ("tiles", "ring, split", 20, Mask(window=50), 2, None),
    ("decode", "8-bit", 1, CAUSAL, None, None),
    ("decode", "4-bit", 1, CAUSAL, None, None),
    ("decode", "8-bit keys, 4-bit values", 1, CAUSAL, None, SUMS),
    ("tiles", "8-bit, split", 20, CAUSAL, 2, None),
]


def run(shape: Shape, kernel_name: str, what: str) -> float:
    (case,) = (case for case in cases(shape) if case.kernel == kernel_name and case.name.endswith(f": {what}"))
    return float(np.array(case.run()))


@pytest.mark.parametrize(("name", "what", "t", "mask", "splits", "emit"), WHAT)
def test_a_comparison_has_the_operands_that_its_name_says(
    name: str, what: str, t: int, mask: Mask, splits: int | None, emit: Emit | None, asked: list[Asked]
) -> None:
    assert run(BOTH, name, what) == 0
    (call,) = asked
    shared, ring = "shared" in what, "ring" in what
    b = 4 if shared else 1
    assert call.q.shape == (b, 4, t, 64) and call.q.dtype == F32 and call.scale == 0.125  # two heads of two queries
    kv = call.kv
    assert kv.keys.shape == kv.values.shape == (b, 2, 96, 64)
    assert (kv.lengths.tolist(), kv.length, kv.ragged, kv.cached) == ([83] * b, 83, False, False)
    assert call.mask == mask and call.splits == splits and call.emit == emit
    assert call.softcap == (20.0 if "capped" in what else None)
    assert (call.sinks is not None) == ("sinks" in what)
    if call.sinks is not None:
        assert call.sinks.shape == (4,) and call.sinks.dtype == F32
    bits = {"8-bit": (8, 8), "8-bit, split": (8, 8), "4-bit": (4, 4), "8-bit keys, 4-bit values": (8, 4)}
    packed = bits.get(what, (16, 16))
    assert tuple(x.bits if isinstance(x, Quantized) else 16 for x in (kv.keys, kv.values)) == packed
    assert all(x.group_size == 64 for x in (kv.keys, kv.values) if isinstance(x, Quantized))
    assert (kv.prefix is not None) == shared
    if kv.prefix is not None:
        assert kv.prefix.keys.shape == (1, 2, 64, 64) and kv.prefix.length == 61
        assert kv.prefix.lengths.tolist() == [61] and not mx.array_equal(kv.prefix.keys, kv.prefix.values)
    if ring:
        want = np.roll(np.arange(40, 136), 17)
        assert kv.positions is not None and np.array_equal(np.array(kv.positions), want[None])
    else:
        assert kv.positions is None
    assert not mx.array_equal(floats(kv.keys, None), floats(kv.values, None))


def test_documents_and_trees_are_compared_on_masks_that_part_the_rows(asked: list[Asked]) -> None:
    for name, what, t in (("decode", "ring, documents", 2), ("tiles", "documents", 20), ("tiles", "tree, split", 20)):
        assert run(BOTH, name, what) == 0 and asked[-1].q.shape[2] == t
    ring, documents, tree = asked
    assert ring.emit == ALL and ring.kv.positions is not None and tree.splits == 2
    for call in (ring, documents):
        assert call.mask.documents is not None and call.mask.documents.tolist() == [[0] * 30 + [1] * 40 + [2] * 30]
    assert tree.mask.tree is not None and tree.mask.tree.shape == (1, 20, 1)
    for node, (word,) in enumerate(tree.mask.tree[0].tolist()):  # the root, itself, and the node that half of it names
        assert word == sum(1 << seen for seen in {0, node, node // 2})


def test_few_heads_are_enough_to_tell_one_from_another(asked: list[Asked]) -> None:
    for heads, kv_heads, q, held in ((9, 3, 6, 2), (4, 1, 4, 1), (8, 8, 2, 2)):
        run(Shape(64, heads, kv_heads, F16), "decode", "one query")
        assert asked[-1].q.shape[1] == q and asked[-1].kv.keys.shape[1] == held and asked[-1].q.dtype == F16
    run(Shape(96, 2, 1, F16), "decode", "8-bit")
    assert isinstance(asked[-1].kv.keys, Quantized) and asked[-1].kv.keys.group_size == 32


@pytest.mark.parametrize("report", ["out", "lse", "entropy", "weights", "scores"])
def test_attention_that_is_wrong_in_one_number_of_any_report_is_found(
    report: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(q: mx.array, kv: KV, *, geometry: Geometry, **options: Any) -> tuple[mx.array, Seen]:
        out, seen = reference.attention(q, kv, **options)
        if report == "out":
            out[0, 1, 0, 5] = out[0, 1, 0, 5] + 0.5
            return out, seen
        array = getattr(seen, report)
        array[..., -1 if report == "lse" else 0] = array[..., -1 if report == "lse" else 0] - 0.5
        return out, replace(seen, **{report: array})

    monkeypatch.setattr(metal_attention, "attention", wrong)
    assert abs(run(BOTH, "decode", "everything reported, sinks") - 0.5) < 1e-5


def test_the_largest_of_differences_counts_and_equal_infinities_are_none() -> None:
    a, b = mx.array([1.0, mx.inf, -mx.inf]), mx.array([1.5, mx.inf, -mx.inf])
    one, two = mx.array([3], dtype=mx.int32), mx.array([1], dtype=mx.int32)
    assert selftest._worst([(a, b)]).item() == 0.5
    assert selftest._worst([(a, b), (one, two)]).item() == 2 == selftest._worst([(one, two), (a, b)]).item()
    assert selftest._worst([(mx.array([mx.inf]), mx.array([-mx.inf]))]).item() == np.inf
    assert np.isnan(selftest._worst([(mx.array([mx.nan]), mx.array([0.0]))]).item())


def test_a_verdict_passes_at_its_bound_and_not_above_it() -> None:
    def verdict(act: Callable[[], mx.array]) -> Verdict:
        return Case("decode", "a comparison", "decode float32", 0.25, act).verdict()

    for error, passed in ((0.0, True), (0.25, True), (0.2500001, False), (float("nan"), False), (float("inf"), False)):
        assert verdict(lambda error=error: mx.array(error)).passed == passed  # type: ignore[misc]
    assert str(verdict(lambda: mx.array(0.125))) == "error 1.25e-01, at most 2.50e-01"

    def fails() -> mx.array:
        raise RuntimeError("\n the driver is gone\n at line 3")

    found = verdict(fails)
    assert (found.error, found.bound, found.failure, found.passed) == (np.inf, 0.25, "the driver is gone", False)
    assert str(found) == "the driver is gone" and first_line(KeyError()) == "KeyError"
    assert not Verdict(0.0, 1.0, "it failed").passed


def test_the_merge_of_two_states_of_which_one_is_empty_is_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def merged(states: list[Any], dtype: mx.Dtype, base: float, sinks: Any, emit: Emit) -> tuple[mx.array, Seen]:
        given.append((states, dtype, base, sinks, emit))
        (state,) = states
        weights = mx.power(2.0, base * state.stats[..., 0]) * state.stats[..., 2]
        shares = mx.power(2.0, base * state.stats[..., 0, None]) * state.partial
        return mx.sum(shares, axis=3) / mx.sum(weights, axis=3, keepdims=True), Seen()

    monkeypatch.setattr(selftest, "merge", merged)
    assert run(BOTH, "merge", "two splits") < 1e-6
    ((state,), dtype, base, sinks, emit) = given[0]
    assert state.partial.shape == (1, 2, 1, 2, 64) and dtype == F32 and (base, sinks, emit) == (1.0, None, Emit())
    assert state.stats.shape == (1, 2, 1, 2, 4) and not mx.any(state.partial[:, :, :, 1]).item()
    assert state.stats[0, 1, 0].tolist() == [[3, 0, 2, 0], [float(np.float32(-1e30)), 0, 0, 0]]

    def wrong(*given: Any) -> tuple[mx.array, Seen]:
        return merged(*given)[0] + 0.5, Seen()

    monkeypatch.setattr(selftest, "merge", wrong)
    assert abs(run(BOTH, "merge", "two splits") - 0.5) < 1e-6


@pytest.mark.parametrize("part", ["", "lse", "entropy", "ids", "logprobs", "token", "logprob_after"])
def test_every_statistic_and_draw_of_a_vocabulary_counts(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def found(logits: mx.array, draw: vocab.DrawPlan, uniform: mx.array) -> vocab.Statistics:
        given.append((logits, draw, uniform))
        right = vocab.by_reference(logits, draw, uniform)
        assert right.drawn is not None
        if part in ("token", "logprob_after"):
            return replace(right, drawn=replace(right.drawn, **{part: getattr(right.drawn, part) + 1}))
        return replace(right, **{part: getattr(right, part) + 1}) if part else right

    monkeypatch.setattr(vocab, "by_kernel", found)
    assert abs(run(BOTH, "scan", "statistics and a draw") - bool(part)) < 1e-5
    ((logits, draw, uniform),) = given
    assert logits.shape == (2, 9000) and logits.dtype == F32  # more than one chunk
    assert 2.9 < float(np.array(logits).std()) < 3.1
    assert draw == vocab.DrawPlan(0.8, 40, 0.9, 0.02, False, False)
    assert np.allclose(np.array(uniform), [[0.3, 0.8], [0.8, 0.1]])


def scanned(logits: mx.array, apart: mx.array) -> dict[str, np.ndarray]:
    """What `row.scan` gives, in numpy: the candidates, 64 bins of the others, and their mass."""
    x, others = np.array(logits.astype(F32)), np.array(apart)
    v = x.shape[1]
    found: dict[str, list[np.ndarray]] = {
        name: [] for name in ("best", "ids", "apart", "edges", "counts", "filled", "masses")
    }
    for values, own in zip(x, others, strict=True):
        ids = np.argsort(-values, kind="stable")[: row.CANDIDATES]
        rest = values[np.setdiff1d(np.arange(v), ids)]
        edges = np.linspace(rest.min(), rest.max(), row.BINS + 1).astype(np.float32)
        kept = values[np.setdiff1d(np.arange(v), np.concatenate([ids, own]))]
        at = np.clip(np.searchsorted(edges, kept, side="right") - 1, 0, row.BINS - 1)
        masses = [np.exp(kept[at == i] - edges[i + 1]).sum() / row.UNIT for i in range(row.BINS)]
        larger = int((values > values[own[0]]).sum())
        for name, value in (
            ("best", values[ids]), ("ids", ids), ("apart", values[own]), ("edges", edges),
            ("counts", np.array([[v, larger, 0]])), ("filled", np.bincount(at, minlength=row.BINS)[None]),
            ("masses", np.array([masses])),
        ):  # fmt: skip
            found[name].append(value)
    return {name: np.stack(values) for name, values in found.items()}


@pytest.mark.parametrize("part", ["", "best", "ids", "apart", "counts", "counts larger", "filled", "masses"])
def test_every_number_of_a_row_counts(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def scan(logits: mx.array, apart: mx.array) -> row.RowScan:
        given.append((logits, apart))
        found = scanned(logits, apart)
        if part == "masses":
            found["masses"] = found["masses"] * 1.5
        elif part == "counts larger":
            found["counts"] = found["counts"] + np.array([0, 1, 0])
        elif part == "filled":
            found["filled"][..., :2] += np.array([1, -1])
        elif part:
            found[part] = found[part] + np.array([1, 0, 0] if part == "counts" else 1)
        kinds = {"ids": mx.int32, "counts": mx.int32, "filled": mx.uint32, "masses": mx.uint32}
        arrays = {name: mx.array(value).astype(kinds.get(name, F32)) for name, value in found.items()}
        return row.RowScan(**arrays, stats=mx.zeros((2, 1, 5)), lows=mx.zeros((2, 1)))

    monkeypatch.setattr(row, "scan", scan)
    error = run(BOTH, "row", "candidates and a histogram")
    assert error < 2e-5 if not part else abs(error - (0.5 if part == "masses" else 1)) < 1e-3
    ((logits, apart),) = given
    assert logits.shape == (2, 9000) and apart.tolist() == [[5, 8999], [0, 5]] and apart.dtype == mx.int32
    assert 2.9 < float(np.array(logits).std()) < 3.1


@pytest.mark.parametrize("what", ["plain", "normed", "normed, neighbours turn", "8-bit"])
@pytest.mark.parametrize("part", ["", "queries", "keys", "values"])
def test_new_rows_are_compared_in_all_their_parts(what: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[qkv_prepare.Projected] = []

    def by_kernel(new: qkv_prepare.Projected) -> qkv_prepare.PreparedRows:
        given.append(new)
        found = qkv_prepare.by_reference(new)
        rows = getattr(found, part) if part else None
        if isinstance(rows, Quantized):
            return replace(found, **{part: replace(rows, biases=rows.biases + 1)})
        return found if rows is None else replace(found, **{part: rows + 1})

    monkeypatch.setattr(qkv_prepare, "by_kernel", by_kernel)
    error = run(BOTH, "qkv_prepare", what)
    (new,) = given
    assert error < 1e-6 if not part else 0.9 < error < 1.1
    assert new.rows.shape == (1, 2, 8, 64) and new.kv_heads == 2 and new.offsets.tolist() == [9]
    assert new.rotary.traditional == ("neighbours" in what)
    assert np.allclose(np.array(new.rotary.frequencies), 1e4 ** (-np.arange(32) / 32), rtol=1e-5)
    assert (new.norm is not None) == (what != "plain")
    if new.norm is not None:
        assert mx.array_equal(new.norm.query, new.norm.key) and new.norm.query.shape == (64,)
        assert (
            0.05 < float(np.array(new.norm.query).std()) < 0.2 and abs(float(np.array(new.norm.query).mean()) - 1) < 0.1
        )
    form = qkv_prepare.Format(8 if what == "8-bit" else 16, 64)
    assert new.key_format == new.value_format == form


def test_a_key_may_be_one_code_off_and_a_value_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is turned and rounded before it is packed, and may fall to the other side of a border; a value is given."""
    off: dict[str, float] = {}

    def by_kernel(new: qkv_prepare.Projected) -> qkv_prepare.PreparedRows:
        found = qkv_prepare.by_reference(new)
        keys, values = found.keys, found.values
        assert isinstance(keys, Quantized) and isinstance(values, Quantized)
        step = mx.max(mx.abs(keys.scales)).item() * off["keys"]
        values = replace(values, biases=(values.biases.astype(F32) + off["values"]).astype(values.biases.dtype))
        return replace(found, keys=floats(keys, None) + step, values=values)

    monkeypatch.setattr(qkv_prepare, "by_kernel", by_kernel)
    for keys, values, passes in ((0.9, 0.0, True), (1.5, 0.0, False), (0.0, 0.5, False)):
        off |= {"keys": keys, "values": values}
        assert (run(BOTH, "qkv_prepare", "8-bit") < 2e-5) == passes
