"""Stored rows: what a chain holds, in which order, and rows that no path could read."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.errors import KernelError
from likely.metal.kv import KV, QuantizedRows, check_rows, floats
from tests.metal import oracle


def rows(b: int, n: int, start: float = 0.0, heads: int = 2, d: int = 32) -> mx.array:
    return start + mx.arange(b * heads * n * d, dtype=mx.float32).reshape(b, heads, n, d)


def packed(bits: int = 8, group: int = 32, n: int = 6, dtype: mx.Dtype = mx.float32) -> QuantizedRows:
    codes, scales, biases = mx.quantize(mx.random.normal((1, 2, n, 64), key=mx.random.key(0)), group, bits)
    return QuantizedRows(codes, scales.astype(dtype), biases.astype(dtype), group, bits)


def test_a_chain_is_read_from_its_furthest_prefix_on() -> None:
    first = KV(rows(1, 5), rows(1, 5, 1000), mx.array([3], dtype=mx.int32), 3)
    second = KV(rows(2, 4, 100), rows(2, 4, 200), mx.array([2, 2], dtype=mx.int32), 2, prefix=first)
    third = KV(rows(2, 3, 300), rows(2, 3, 400), mx.array([1, 1], dtype=mx.int32), 1, prefix=second)
    assert third.chain() == (first, second, third) and third.total == 6 and third.capacity == 3
    assert third.nbytes == 2 * 2 * 2 * 3 * 32 * 4
    keys, values = third.joined(2)
    for got, parts in (
        (keys, (first.keys, second.keys, third.keys)),
        (values, (first.values, second.values, third.values)),
    ):
        assert got.shape == (2, 2, 6, 32)
        assert mx.array_equal(got[1, :, :3], parts[0][0, :, :3]) and mx.array_equal(got[1, :, 3:5], parts[1][1, :, :2])
        assert mx.array_equal(got[:, :, 5:], parts[2][:, :, :1])
    assert replace(third, length=None).total is None
    assert replace(third, prefix=replace(second, length=None)).total is None
    assert (first.ragged, first.positions, first.prefix, first.cached) == (False, None, None, False)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64])
def test_packed_rows_are_scale_times_code_plus_bias(bits: int, group: int) -> None:
    x = packed(bits, group)
    assert x.shape == (1, 2, 6, 64) and x.nbytes == 2 * 6 * (64 * bits // 8 + 2 * 4 * 64 // group)
    want = oracle.rows(x)
    assert np.abs(np.array(x.floats()) - want).max() < 1e-6
    assert np.abs(np.array(x.floats(4)) - want[:, :, :4]).max() < 1e-6
    half = x.floats(4, mx.float16)
    assert half.dtype == mx.float16 and np.abs(np.array(half) - want[:, :, :4]).max() < 1e-2
    assert mx.array_equal(floats(x, 3), x.floats(3)) and floats(x, None).shape == (1, 2, 6, 64)
    default = QuantizedRows(x.codes, x.scales, x.biases)
    assert (default.group_size, default.bits) == (64, 8)


def test_plain_rows_are_widened_and_cut() -> None:
    x = rows(1, 5)
    assert floats(x, 5) is x and floats(x, None) is x and floats(x, 2).shape == (1, 2, 2, 32)
    assert floats(x.astype(mx.float16), 4).dtype == mx.float32


@pytest.mark.parametrize(
    ("x", "line"),
    [
        (mx.zeros((1, 2, 3)), r"rows must be \[B, Hkv, capacity, D\], got shape \(1, 2, 3\)"),
        (mx.zeros((1, 2, 3, 4), mx.int32), "rows must be float32, float16 or bfloat16, got"),
        (replace(packed(), bits=5), "rows.bits must be 4 or 8, got 5"),
        (replace(packed(), group_size=16), "rows.group_size must be 32, 64 or 128, got 16"),
        (replace(packed(), codes=packed().codes.astype(mx.int32)), "rows.codes must be uint32 of 4 dimensions"),
        (replace(packed(), codes=packed().codes[0]), "rows.codes must be uint32 of 4 dimensions"),
        (replace(packed(), group_size=128), "rows: head size 64 is not a multiple of group_size 128"),
        (replace(packed(), scales=packed().scales[..., :1]), r"rows.scales must be \(1, 2, 6, 2\), got \(1, 2, 6, 1\)"),
        (replace(packed(), biases=packed().biases[:, :1]), r"rows.biases must be \(1, 2, 6, 2\), got \(1, 1, 6, 2\)"),
        (
            replace(packed(), scales=packed().scales.astype(mx.int32)),
            "rows.scales must be float32, float16 or bfloat16",
        ),
        (replace(packed(), biases=packed().biases.astype(mx.float16)), "rows.biases must be .* as the scales are"),
    ],
)
def test_rows_that_no_path_could_read_are_named(x: Any, line: str) -> None:
    with pytest.raises(KernelError, match=f"^{line}"):
        check_rows("rows", x)


@pytest.mark.parametrize(
    "x",
    [mx.zeros((1, 2, 3, 4)), mx.zeros((1, 1, 1, 1), mx.bfloat16), packed(), packed(4, 64), packed(dtype=mx.bfloat16)],
)
def test_rows_that_can_be_read_are_taken(x: Any) -> None:
    check_rows("rows", x)
