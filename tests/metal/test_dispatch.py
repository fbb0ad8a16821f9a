"""Which path a call of attention takes, by what was measured and what is off, and the names of measurements."""

from collections.abc import Callable
from typing import Any

import pytest

from likely.metal import dispatch, kernel, mx
from likely.metal.errors import KernelError
from likely.metal.kv import KV, QuantizedRows
from likely.metal.mask import CAUSAL, Mask

F16 = mx.float16


def rows(b: int, heads: int, n: int, d: int = 64) -> mx.array:
    return mx.zeros((b, heads, n, d), F16)


def packed(b: int, heads: int, n: int, bits: int, d: int = 64) -> QuantizedRows:
    scales = mx.zeros((b, heads, n, d // 64), F16)
    return QuantizedRows(mx.zeros((b, heads, n, d * bits // 32), mx.uint32), scales, scales, 64, bits)


def kv(keys: Any, values: Any = None, length: int | None = 50, **more: Any) -> KV:
    values = keys if values is None else values
    return KV(keys, values, mx.full((keys.shape[0],), length or 0, dtype=mx.int32), length, **more)


HELD, CODED = kv(rows(1, 2, 64)), kv(packed(1, 2, 64, 8))
Q = rows(1, 4, 1)


@pytest.fixture
def there(chip: Callable[..., None], unknown: None) -> None:
    """A machine with Metal, on which nothing was measured."""
    chip("Apple M4")


def taken(q: mx.array, held: KV, mask: Mask = CAUSAL, cap: float | None = None, *, plain: bool, masked: bool) -> str:
    return dispatch.path(q, held, mask, cap, plain=plain, masked=masked)


def test_without_metal_it_is_stock_s_or_the_reference(chip: Callable[..., None]) -> None:
    chip("")
    for masked in (False, True):
        assert taken(Q, HELD, plain=True, masked=masked) == "stock"
        assert taken(Q, HELD, plain=False, masked=masked) == "reference"


def test_where_nothing_was_measured_ours_is_for_what_stock_does_not_do(there: None) -> None:
    assert taken(Q, HELD, plain=True, masked=True) == "stock"
    assert taken(Q, HELD, plain=False, masked=True) == "ours"
    assert taken(Q, CODED, plain=True, masked=True) == "ours"
    for one in (kv(packed(1, 2, 64, 8), rows(1, 2, 64)), kv(rows(1, 2, 64), packed(1, 2, 64, 8))):
        assert taken(Q, one, plain=True, masked=True) == "ours"
    assert taken(rows(1, 4, 8), CODED, plain=True, masked=True) == "ours"
    assert taken(rows(1, 4, 9), CODED, plain=True, masked=True) == "stock"  # dequantising once costs less
    odd = kv(rows(1, 2, 64, 72))
    assert taken(rows(1, 4, 1, 72), odd, plain=False, masked=True) == "reference"


def test_what_each_new_row_sees_besides_goes_another_way(there: None) -> None:
    mask = Mask(also=mx.zeros((1, 1, 1), dtype=mx.bool_))
    assert taken(Q, HELD, mask, plain=False, masked=True) == "stock"
    assert taken(Q, HELD, mask, plain=False, masked=False) == "reference"


def test_a_measurement_decides_where_there_is_one(there: None) -> None:
    plain, windowed = "decode float16 D=64 H=4/2 N=1024", "decode window float16 D=64 H=4/2 N=1024"
    dispatch.faster |= {plain: True, windowed: False}
    assert taken(Q, HELD, plain=True, masked=True) == "ours"
    assert taken(Q, HELD, Mask(window=9), plain=False, masked=True) == "stock"
    assert taken(Q, HELD, Mask(window=9), plain=False, masked=False) == "ours"  # nothing else could do it
    assert taken(Q, HELD, Mask(window=9), 2.0, plain=False, masked=False) == "ours"  # not measured
    dispatch.faster |= {plain: False, windowed: True, "decode window capped float16 D=64 H=4/2 N=1024": False}
    assert taken(Q, HELD, plain=True, masked=True) == "stock"
    assert taken(Q, HELD, Mask(window=9), plain=False, masked=True) == "ours"
    assert taken(Q, HELD, Mask(window=9), 2.0, plain=False, masked=False) == "reference"
    coded = "decode 8-bit float16 D=64 H=4/2 N=1024"
    dispatch.faster[coded] = False
    assert taken(Q, CODED, plain=True, masked=True) == "stock"


@pytest.mark.parametrize("name", ["decode", "tiles", "merge", "scan"])
def test_attention_needs_all_of_its_kernels(name: str, there: None) -> None:
    kernel.switch_off(kernel.variant(name, F16, 64), "for this test")
    needed = name != "scan"
    assert dispatch.enabled(F16, 64) != needed
    assert dispatch.enabled(F16, 128) and dispatch.enabled(mx.float32, 64)
    assert taken(Q, HELD, plain=False, masked=True) == ("reference" if needed else "ours")


def test_a_path_is_forced_for_a_block_and_refuses_what_it_cannot_take() -> None:
    assert dispatch.free()
    with dispatch.forced("ours"):
        assert taken(Q, HELD, plain=True, masked=True) == "ours" and not dispatch.free()
        with dispatch.forced("stock"):
            assert taken(Q, HELD, plain=True, masked=False) == taken(Q, HELD, plain=False, masked=True) == "stock"
            with pytest.raises(KernelError, match="mlx's own kernel was asked for"):
                taken(Q, HELD, plain=False, masked=False)
        with pytest.raises(KernelError, match=r"take no mask\.also"):
            taken(Q, HELD, Mask(also=mx.zeros((1, 1, 1), dtype=mx.bool_)), plain=False, masked=True)
        with pytest.raises(KernelError, match="head size"):
            taken(rows(1, 4, 1, 72), kv(rows(1, 2, 64, 72)), plain=False, masked=True)
    with pytest.raises(ValueError, match="inside"), dispatch.forced("reference"):
        assert taken(Q, HELD, Mask(also=mx.zeros((1, 1, 1), dtype=mx.bool_)), plain=False, masked=True) == "reference"
        raise ValueError("inside")
    assert dispatch.free()
