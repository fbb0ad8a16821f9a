"""The table of counts: what each case gives both kernels to count, and what is made of the counts.

Nothing runs in the simulator: the counts are made up, and the least possible and the targets are worked out here from
the case's name.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import pytest

from metal import counts, metal_attention, mx, qkv_prepare, vocab
from metal.counts import Target, Total, cases, table, total
from metal.kv import KV, Quantized
from metal.mask import Mask
from metal.simulator import DispatchReport, Traffic, stock


def report(kernel: str, traffic: dict[str, tuple[int, int]], **counted: int) -> DispatchReport:
    """A launch in which buffers have so many distinct and read bytes."""
    known = dict.fromkeys(("simd_reductions", "simd_shuffles", "quad_reductions", "quad_shuffles"), 0)
    buffers = {name: Traffic(9999, read, 7777, distinct, 55) for name, (distinct, read) in traffic.items()}
    return DispatchReport(kernel, (), buffers, known | counted, 0)


OURS = report(
    "likely_decode",
    {"keys": (30_011, 60_013), "values": (30_029, 60_017), "partial": (503, 0), "out": (101, 0)},
    simd_shuffles=7, exponentials=11, barriers=13,
)  # fmt: skip
STOCK = report(
    "sdpa", {"K": (40_009, 90_001), "V": (40_031, 90_007), "O": (103, 0)},
    simd_shuffles=17, exponentials=19, barriers=23,
)  # fmt: skip
MINE = Total(60_141, 503, 60_040, 120_030, 7, 11, 13)
THEIRS = Total(80_143, 0, 80_040, 180_008, 17, 19, 23)


def test_what_passes_between_launches_is_counted_apart_from_what_is_read() -> None:
    assert (total([OURS]), total([STOCK])) == (MINE, THEIRS)
    scan = report(
        "likely_scan_each32",
        {"logits": (1000, 1100), "values": (20, 21), "value_ids": (30, 31), "stats": (40, 41)},
        simd_reductions=2, quad_reductions=3, quad_shuffles=5, exponentials=6,
    )  # fmt: skip
    draw = report("likely_draw", {"values": (20, 22), "out": (8, 9)}, barriers=4)
    assert total([scan, draw]) == Total(1008, 110, 0, 0, 5 * 2 + 2 * 3 + 5, 6, 4)
    tops = report("likely_decode", {"tops": (1, 1), "top_at": (2, 2), "value_codes": (50, 60), "key_scales": (7, 8)})
    assert total([tops]) == Total(57, 3, 57, 68, 0, 0, 0)
    names = ("key_codes", "key_scales", "key_biases", "value_codes", "value_scales", "value_biases")
    rows = report("likely_tiles", {name: (2**i, 3**i) for i, name in enumerate((*names, "keys", "values", "K", "V"))})
    assert (total([rows]).rows, total([rows]).requested) == (2**10 - 1, (3**10 - 1) // 2)


def test_a_target_is_reached_at_its_limit() -> None:
    assert [Target("", got, 1.05).reached for got in (1.0, 1.05, 1.0500001)] == [True, True, False]


def test_the_table_has_the_cases_of_a_name() -> None:
    made = [*(f"decode D=64 g={g} T=1024" for g in range(2, 9))]
    made += [f"decode D={d} g={g} T=1024" for d in (96, 128, 256) for g in (2, 4, 8)]
    made += ["decode D=64 g=4 T=4096", "decode D=128 g=8 T=4096"]
    made += [f"decode float32 D={d} g=4 T=1024" for d in (64, 128, 256)]
    made += ["decode 8-bit D=64 g=4 T=4096", "decode 4-bit D=64 g=4 T=4096", "decode 8-bit D=128 g=4 T=4096"]
    made += ["decode 4-bit D=128 g=2 T=4096", "cascade N=8 P=1024 S=128 g=2", "cascade N=8 P=1024 S=128 g=4"]
    made += ["prefill causal D=64 T=1024", "prefill causal D=128 T=1024"]
    made += ["prefill float32 D=64 T=1024", "prefill float32 D=128 T=1024", "prefill causal D=64 g=4 T=256"]
    made += ["prefill window 256 D=64 T=2048", "vocabulary V=49152", "vocabulary V=151936"]
    made += [f"qkv_prepare {bits}-bit" for bits in (16, 8, 4)]
    assert [*cases()] == made


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The arguments of what is counted, ours and MLX's."""
    found: dict[str, Any] = {}

    @contextmanager
    def recorded() -> Iterator[list[DispatchReport]]:
        yield [OURS]

    def ours(q: mx.array, kv: KV, **options: Any) -> None:
        found["ours"] = q, kv, options

    def theirs(name: str) -> Any:
        def call(*arrays: Any, **options: Any) -> tuple[None, list[DispatchReport]]:
            found[name] = arrays, options
            assert options.pop("checked")
            return None, [STOCK]

        return call

    monkeypatch.setattr(counts, "recorded", recorded)
    monkeypatch.setattr(metal_attention, "attention", ours)
    for name in ("sdpa_vector", "steel_attention", "softmax"):
        monkeypatch.setattr(stock, name, theirs(name))
    monkeypatch.setattr(vocab, "statistics", lambda *arguments: found.update(statistics=arguments))
    monkeypatch.setattr(qkv_prepare, "prepare", lambda new: found.update(prepare=new))
    yield found


def the(name: str) -> counts.CountRow:
    """The row of exactly this case."""
    (row,) = (row for row in table(name) if row.case == name)
    return row


def numbers(name: str) -> dict[str, int]:
    return {letter: int(value) for letter, value in re.findall(r"(\w)=(\d+)", name)}


WORK = [
    Target(f"{what} / stock's", got, 1.0)
    for what, got in (("shuffles", 7 / 17), ("exponentials", 11 / 19), ("barriers", 13 / 23))
]


@pytest.mark.parametrize("name", [name for name in cases() if re.match("decode (float32 )?D", name)])
def test_a_token_s_attention_is_counted_against_one_pass_of_stock_s(name: str, given: dict[str, Any]) -> None:
    row, said = the(name), numbers(name)
    d, g, n, dtype = said["D"], said["g"], said["T"], mx.float32 if "float32" in name else mx.bfloat16
    q, kv, options = given["ours"]
    assert q.shape == (1, g, 1, d) and kv.keys.shape == kv.values.shape == (1, 1, n, d)
    assert {q.dtype, kv.keys.dtype, kv.values.dtype} == {dtype}
    assert (kv.length, kv.lengths.tolist(), kv.prefix) == (n, [n], None)
    assert options == {"scale": d**-0.5, "mask": Mask()}
    arrays, more = given["sdpa_vector"]
    assert [array is mine for array, mine in zip(arrays, (q, kv.keys, kv.values), strict=False)] == [True] * 3
    assert arrays[3] == d**-0.5 and not more
    least = 2 * d * (n + g) * dtype.size  # keys and values, and the queries read and the output written
    assert (row.ours, row.stock, row.minimum) == (MINE, THEIRS, least)
    heads = 4 if d <= 96 else 2  # query heads that one load serves
    want = [
        Target("distinct / minimum", 60_141 / least, 1.05),
        Target(f"requested K/V / stock's (h = {heads})", 120_030 / 180_008, ceil(g / heads) / g),
        *WORK,
    ]
    want += [Target("states / minimum", 503 / least, 0.05)] if n == 4096 else []
    assert [*row.targets] == want


@pytest.mark.parametrize(
    ("name", "bits", "d", "g", "limit"),
    [("decode 8-bit D=64 g=4 T=4096", 8, 64, 4, 0.55), ("decode 4-bit D=64 g=4 T=4096", 4, 64, 4, 0.3),
     ("decode 8-bit D=128 g=4 T=4096", 8, 128, 4, 0.55), ("decode 4-bit D=128 g=2 T=4096", 4, 128, 2, 0.3)],
)  # fmt: skip
def test_packed_rows_are_counted_against_those_of_16_bits(
    name: str, bits: int, d: int, g: int, limit: float, given: dict[str, Any]
) -> None:
    row = the(name)
    q, kv, _ = given["ours"]
    assert q.shape == (1, g, 1, d) and kv.length == 4096
    for rows, array in ((kv.keys, given["sdpa_vector"][0][1]), (kv.values, given["sdpa_vector"][0][2])):
        assert isinstance(rows, Quantized) and (rows.bits, rows.group_size, rows.shape) == (bits, 64, (1, 1, 4096, d))
        assert array.shape == (1, 1, 4096, d) and array.dtype == mx.bfloat16
        assert float(mx.max(mx.abs(rows.floats() - array))) < 0.5
    assert given["sdpa_vector"][0][3] == d**-0.5
    least = 2 * 4096 * (d * bits // 8 + 2 * d // 64 * 2) + 2 * g * d * 2
    assert (row.ours, row.stock, row.minimum) == (MINE, THEIRS, least)
    assert [*row.targets] == [
        Target("distinct / minimum", 60_141 / least, 1.05),
        Target("distinct, states too / 16-bit stock's", (60_141 + 503) / 80_143, limit),
        Target("states / minimum", 503 / least, 0.05),
        *WORK,
    ]


@pytest.mark.parametrize("g", [2, 4])
def test_samples_of_a_prompt_are_counted_against_copies_of_it(g: int, given: dict[str, Any]) -> None:
    row = the(f"cascade N=8 P=1024 S=128 g={g}")
    q, kv, _ = given["ours"]
    assert q.shape == (8, g, 1, 64) and kv.keys.shape == (8, 1, 128, 64) and kv.length == 128
    assert kv.prefix.keys.shape == (1, 1, 1024, 64) and kv.prefix.length == 1024 and kv.prefix.prefix is None
    arrays, _ = given["sdpa_vector"]
    for array, own, shared in ((arrays[1], kv.keys, kv.prefix.keys), (arrays[2], kv.values, kv.prefix.values)):
        assert array.shape == (8, 1, 1152, 64)
        assert mx.array_equal(array[5, :, :1024], shared[0]) and mx.array_equal(array[5, :, 1024:], own[5])
    assert arrays[3] == 0.125
    least = 2 * 2 * 64 * (1024 + 8 * 128 + 8 * g)
    assert row.minimum == least
    assert [*row.targets] == [
        Target("distinct / minimum", 60_141 / least, 1.05),
        Target("distinct K/V / stock's", 60_040 / 80_040, 0.23),
        Target("requested K/V / stock's", 120_030 / 180_008, 0.2),
    ]


@pytest.mark.parametrize("name", [name for name in cases() if name.startswith("prefill")])
def test_a_prompt_is_counted_by_the_tiles_of_keys_that_it_can_see(name: str, given: dict[str, Any]) -> None:
    row, said = the(name), numbers(name)
    d, t, g, dtype = said["D"], said["T"], said.get("g", 1), mx.float32 if "float32" in name else mx.bfloat16
    window = 256 if "window" in name else 0
    q, kv, options = given["ours"]
    assert q.shape == (1, g, t, d) and kv.keys.shape == (1, 1, t, d) and kv.length == t
    assert {q.dtype, kv.keys.dtype} == {dtype} and options == {"scale": d**-0.5, "mask": Mask(window=window)}
    arrays, more = given["steel_attention"]
    assert arrays[3] == d**-0.5 and (more == {"causal": True} or window)
    if window:
        at = mx.arange(t)
        seen = (at[None] <= at[:, None]) & (at[None] > at[:, None] - 256)
        assert [*more] == ["mask"] and more["mask"].shape == (1, g, t, t) and mx.array_equal(more["mask"][0, 0], seen)
    tile = {(64, 2): 32, (128, 2): 16, (64, 4): 32, (128, 4): 16}[d, dtype.size]
    live = set()
    for query in range(t * g):  # a position's heads stand beside each other
        at_, first = query // g, max(0, query // g - window + 1) if window else 0
        live |= {(query // 32, key) for key in range(first // tile, at_ // tile + 1)}
    least = 2 * d * (t + g * t) * dtype.size
    assert (row.ours, row.stock, row.minimum) == (MINE, THEIRS, least)
    want = [
        Target("distinct / minimum", 60_141 / least, 1.05),
        Target("requested K/V / that of live tiles", 120_030 / (len(live) * tile * 2 * d * dtype.size), 1.0),
        *WORK,
    ]
    want += [Target("requested K/V / stock's", 120_030 / 180_008, 0.25)] if window else []
    assert [*row.targets] == want


@pytest.mark.parametrize("v", [49152, 151936])
def test_a_vocabulary_is_counted_against_a_softmax(v: int, given: dict[str, Any]) -> None:
    row = the(f"vocabulary V={v}")
    logits, plan, uniform = given["statistics"]
    assert logits.shape == (1, v) and plan == vocab.DrawPlan(top_k=40) and uniform.tolist() == [[0.5, 0.5]]
    assert given["softmax"][0][0] is logits and given["softmax"][1] == {"looped": True}
    least = 2 * v + 2 * 4 + 64 * 8 + 6 * 4  # the logits, two sums, 64 ids and logprobs, and what was drawn
    assert (row.minimum, row.stock) == (least, THEIRS)
    assert [*row.targets] == [
        Target("distinct / minimum", 60_141 / least, 1.05),
        Target("distinct, states too / stock's softmax alone", (60_141 + 503) / 80_143, 1.0),
    ]


@pytest.mark.parametrize(("bits", "stored"), [(16, 2048), (8, 1024 + 64), (4, 512 + 64)])
def test_a_token_s_new_rows_are_read_once_and_stored_once(bits: int, stored: int, given: dict[str, Any]) -> None:
    """16 heads of queries, 4 of keys and values, of 128 in bfloat16; a scale and a bias of 16 bits for 64 values."""
    row = the(f"qkv_prepare {bits}-bit")
    new = given["prepare"]
    assert new.rows.shape == (1, 1, 24, 128) and new.rows.dtype == mx.bfloat16 and new.kv_heads == 4
    assert new.offsets.tolist() == [0] and new.rotary.frequencies.tolist() == [1.0] * 64
    assert new.norm.query is new.norm.key and new.norm.query.shape == (128,)
    assert new.key_format == new.value_format == qkv_prepare.Format(bits, 64)
    least = 2 * 4096 + 2048 + stored + 2 * 256 + 256 + 4
    assert (row.ours, row.stock, row.minimum) == (MINE, None, least)
    assert [*row.targets] == [Target("distinct / minimum", 60_141 / least, 1.05)]
