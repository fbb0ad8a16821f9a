"""The figures that the kernels have to reach, counted in the simulator beside MLX's own kernels."""

from typing import Any

import pytest

from likely.metal.counts import Target, Total, cases, table, total
from likely.metal.simulator import DispatchReport, Traffic

QUICK = (
    "decode D=64 g=3 T=1024", "cascade N=8 P=1024 S=128 g=2", "vocabulary V=49152", "qkv_prepare 8-bit",
)  # fmt: skip
LONG = ("prefill float32 D=128 T=1024", "prefill window 256 D=64 T=2048")  # 14 s, and shorter ones stand beside them


def marked(case: str) -> Any:
    return case if case in QUICK else pytest.param(case, marks=pytest.mark.soak if case in LONG else pytest.mark.slow)


@pytest.mark.parametrize("case", [marked(case) for case in cases()])
def test_targets_are_reached(case: str) -> None:
    (row,) = table(case)
    assert row.targets
    missed = [target for target in row.targets if not target.reached]
    assert not missed
    for target in row.targets if case in QUICK else ():  # nor are they loose, or above what there is to read
        if target.what == "distinct / minimum":
            assert 1 <= target.got <= 1.03
        elif "K/V / stock" in target.what:
            assert target.got <= target.limit <= 2 * target.got


def report(kernel: str, traffic: dict[str, tuple[int, int]], **counted: int) -> DispatchReport:
    """A launch in which buffers have so many distinct and read bytes."""
    known = dict.fromkeys(("simd_reductions", "simd_shuffles", "quad_reductions", "quad_shuffles"), 0)
    buffers = {name: Traffic(9999, read, 7777, distinct, 55) for name, (distinct, read) in traffic.items()}
    return DispatchReport(kernel, (), buffers, known | counted)


def test_what_passes_between_launches_is_counted_apart_from_what_is_read() -> None:
    scan = report(
        "likely_scan_each32",
        {"logits": (1000, 1100), "values": (20, 21), "value_ids": (30, 31), "stats": (40, 41)},
        simd_reductions=2, quad_reductions=3, quad_shuffles=5, exponentials=6,
    )  # fmt: skip
    draw = report("likely_draw", {"values": (20, 22), "out": (8, 9)}, barriers=4)
    assert total([scan, draw]) == Total(1008, 110, 0, 0, 5 * 2 + 2 * 3 + 5, 6, 4)
    names = ("key_codes", "key_scales", "key_biases", "value_codes", "value_scales", "value_biases")
    rows = report("likely_tiles", {name: (2**i, 3**i) for i, name in enumerate((*names, "keys", "values", "K", "V"))})
    assert (total([rows]).rows, total([rows]).requested) == (2**10 - 1, (3**10 - 1) // 2)
    assert [Target("", got, 1.05).reached for got in (1.0, 1.05, 1.0500001)] == [True, True, False]
