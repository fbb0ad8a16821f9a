"""Rows of new tokens: norm, rotary embedding and quantisation, against float64 and what mlx's own operations give."""

from typing import Any

import numpy as np
import pytest

from likely.metal import kernel, mx, qkv_prepare
from likely.metal.kv import QuantizedRows
from likely.metal.qkv_prepare import Format, Norm, PreparedRows, ProjectedTokens, Rotary, prepare, quantize
from tests.metal import oracle
from tests.metal.build import each, error, normal, recorded, rejects, ulp
from tests.metal.test_decode import DTYPES

FORMATS = (Format(), Format(8, 64, mx.float32), Format(4, 32, mx.bfloat16), Format(8, 32, mx.float16))


def truth(x: mx.array, offsets: list[int], rotary: Rotary, weight: mx.array | None, eps: float) -> np.ndarray:
    """Norm and rotary embedding of [B, T, H, D] as [B, H, T, D], in float64."""
    rows = oracle.wide(x)
    if weight is not None:
        rows = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + eps) * oracle.wide(weight)
    turns = oracle.wide(rotary.frequencies)
    n = len(turns)
    at = np.array(offsets)[:, None] + np.arange(x.shape[1])[None]
    angle = (at[:, :, None] * turns)[:, :, None]
    first, second = (slice(0, 2 * n, 2), slice(1, 2 * n, 2)) if rotary.traditional else (slice(0, n), slice(n, 2 * n))
    out = rows.copy()
    out[..., first] = rows[..., first] * np.cos(angle) - rows[..., second] * np.sin(angle)
    out[..., second] = rows[..., first] * np.sin(angle) + rows[..., second] * np.cos(angle)
    return out.swapaxes(1, 2)


def operands(d: int, dtype: mx.Dtype, b: int = 2, t: int = 2) -> tuple[mx.array, mx.array, mx.array]:
    return tuple(normal(seed, b, t, heads, d, dtype=dtype) for seed, heads in ((1, 4), (2, 2), (3, 2)))  # type: ignore[return-value]


def joined(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> ProjectedTokens:
    """Of queries, keys and values [B, T, heads, D]."""
    return ProjectedTokens(mx.concatenate([q, k, v], axis=2), k.shape[2], **options)


CASES = each(
    (64, 80, 96, 128, 256, 64, 128),
    DTYPES,
    ((0, 0), (1, 0), (0, 2), (3, 1), (1, 1), (2, 3)),
    (True, False),
    (False, True, False),
    (1.0, 0.5),
)


@pytest.mark.parametrize(("d", "dtype", "formats", "normed", "traditional", "part"), CASES)
def test_rows_match_float64(
    d: int, dtype: mx.Dtype, formats: tuple[int, int], normed: bool, traditional: bool, part: float
) -> None:
    chosen = [FORMATS[i] if d % FORMATS[i].group_size == 0 else Format() for i in formats]
    if chosen[0].bits < 16 and chosen[1].bits < 16 and chosen[0].scales != chosen[1].scales:
        chosen[1] = chosen[0]
    q, k, v = operands(d, dtype)
    n = int(d * part) // 2
    rotary = Rotary(mx.array((10000.0 ** -(np.arange(n) / n)).astype(np.float32)), traditional)
    norm = Norm(normal(4, d, dtype=dtype), normal(5, d, dtype=dtype)) if normed else None
    offsets = [100, 7]
    options: dict[str, Any] = {"offsets": mx.array(offsets, dtype=mx.int32), "rotary": rotary, "norm": norm}
    options |= {"key_format": chosen[0], "value_format": chosen[1]}
    with recorded() as reports:
        ours = prepare(joined(q, k, v, **options))
    assert len(reports) == 1
    theirs = prepare(joined(q, k, v, **options))
    queries = truth(q, offsets, rotary, norm.query if norm else None, 1e-6)
    keys = truth(k, offsets, rotary, norm.key if norm else None, 1e-6)
    assert error(ours.queries, queries) <= 1.25 * error(theirs.queries, queries) + ulp(dtype, queries)
    assert error(theirs.queries, queries) <= 0.05 * np.abs(queries).max()
    for name, expected, form in (("keys", keys, chosen[0]), ("values", oracle.wide(v).swapaxes(1, 2), chosen[1])):
        got, stock = getattr(ours, name), getattr(theirs, name)
        worst = np.abs(oracle.rows(got) - expected).max()
        assert worst <= 1.25 * np.abs(oracle.rows(stock) - expected).max() + ulp(dtype, expected)
        if form.bits < 16:
            check_quantised(got, expected, dtype)


def check_quantised(got: QuantizedRows, expected: np.ndarray, dtype: mx.Dtype) -> None:
    """Every value is the nearest that its stored scale and bias can say, or at the end of what they can."""
    scale, bias = (np.repeat(oracle.wide(x), got.group_size, -1) for x in (got.scales, got.biases))
    best = bias + scale * np.clip(np.round((expected - bias) / scale), 0, 2**got.bits - 1)
    slack = 2 * ulp(mx.float32, expected) * 64
    assert np.all(np.abs(oracle.rows(got) - expected) <= np.abs(best - expected) + slack)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scales", [mx.float32, mx.float16, mx.bfloat16], ids=str)
def test_quantised_rows_are_within_half_a_step_and_better_than_mlx_s(bits: int, scales: mx.Dtype) -> None:
    x = 3 * normal(6, 1, 1, 40, 128)
    for rows in (x, x + 5, mx.abs(x), -mx.abs(x), mx.zeros_like(x), mx.full(x.shape, 3.0)):
        ours = quantize(rows, Format(bits, 64, scales))
        assert ours.scales.dtype == ours.biases.dtype == scales
        groups = oracle.wide(rows).reshape(1, 1, 40, 2, 64)
        least, largest = groups.min(-1), groups.max(-1)
        step = np.maximum((largest - least) / (2**bits - 1), 1.2e-7)
        error = np.abs(oracle.rows(ours).reshape(groups.shape) - groups).max(-1)
        # half a step, and what the dtype rounds off: of the bias all, of the scale half a step at the most
        rounding = 2.0**-8 if scales == mx.bfloat16 else 2.0**-11 if scales == mx.float16 else 2.0**-22
        assert np.all(error <= step * (0.5 + 2**bits * rounding) + np.abs(least) * rounding)
        codes, *affine = mx.quantize(rows, 64, bits)
        theirs = QuantizedRows(codes, affine[0].astype(scales), affine[1].astype(scales), 64, bits)
        apart = [np.sqrt(((oracle.rows(q) - oracle.wide(rows)) ** 2).mean()) for q in (ours, theirs)]
        assert apart[0] <= 1.01 * apart[1] + 1e-6


def test_the_kernel_quantises_as_the_reference_does() -> None:
    v = normal(7, 1, 3, 2, 64)
    for sign in (v, mx.abs(v), -mx.abs(v), mx.zeros_like(v)):
        rotary = Rotary(mx.ones((1,)))
        form = Format(8, 32, mx.float32)
        options: dict[str, Any] = {"offsets": mx.zeros((1,), dtype=mx.int32), "rotary": rotary, "value_format": form}
        with recorded():
            ours = prepare(joined(sign, sign, sign, **options)).values
        theirs = prepare(joined(sign, sign, sign, **options)).values
        assert isinstance(ours, QuantizedRows) and isinstance(theirs, QuantizedRows)
        assert mx.array_equal(ours.codes, theirs.codes)
        assert mx.array_equal(ours.scales, theirs.scales)
        assert mx.array_equal(ours.biases, theirs.biases)


@pytest.mark.usefixtures("unknown")
def test_it_goes_by_the_kernel_where_there_is_one_that_is_on() -> None:
    new = joined(*operands(64, mx.float32), offsets=mx.zeros((1,), dtype=mx.int32), rotary=Rotary(mx.ones((32,))))
    with recorded() as reports:
        for off in ("qkv_prepare float32 D=32", "qkv_prepare float16 D=64"):
            kernel.switch_off(off, "for this test")
            prepare(new)
        assert len(reports) == 2
        kernel.switch_off("qkv_prepare float32 D=64", "for this test")
        prepare(new)
        assert len(reports) == 2


EIGHT = Format(8, 64)


def test_bad_input_is_named() -> None:
    q, k, v = operands(64, mx.float32)
    good: dict[str, Any] = {"offsets": mx.zeros((2,), dtype=mx.int32), "rotary": Rotary(mx.ones((32,)))}

    rows = mx.concatenate([q, k, v], axis=2)

    def call(rows: mx.array = rows, kv_heads: int = 2, **more: Any) -> PreparedRows:
        return prepare(ProjectedTokens(rows, kv_heads, **(good | more)))

    rejects(lambda: call(rows[0]), "rows must be [B, T, H + 2 Hkv, D]")
    rejects(lambda: call(rows[:, :0]), "rows", "empty")
    rejects(lambda: call(rows[:, :, :7]), "a multiple of Hkv = 2", "got 7")
    rejects(lambda: call(rows, 4), "a multiple of Hkv = 4", "got 8")
    rejects(lambda: call(rows, 0), "a multiple of Hkv = 0")
    rejects(lambda: call(rows[:, :, :4]), "got 4")
    rejects(lambda: call(rotary=Rotary(mx.ones((0,)))), "rotary.frequencies")
    rejects(lambda: call(rotary=Rotary(mx.ones((2, 2)))), "rotary.frequencies")
    rejects(lambda: call(rotary=Rotary(mx.ones((4,), mx.float16))), "rotary.frequencies", "float16")
    rejects(lambda: call(value_format=Format(8, 16)), "value_format.group_size", "16")
    rejects(lambda: call(value_format=Format(8, 128)), "value_format.group_size", "128")
    rejects(lambda: call(rows.astype(mx.int32)), "rows must be float32", "int32")
    rejects(lambda: call(offsets=mx.zeros((3,), dtype=mx.int32)), "offsets", "(3,)")
    rejects(lambda: call(offsets=mx.zeros((2,))), "offsets", "float32")
    rejects(lambda: call(rotary=Rotary(mx.ones((33,)))), "rotary.frequencies", "(33,)")
    rejects(lambda: call(norm=Norm(mx.ones((32,)), mx.ones((64,)))), "norm weights must be [64]")
    rejects(lambda: call(key_format=Format(3)), "key_format.bits", "3")
    rejects(lambda: call(value_format=Format(8, 48)), "value_format.group_size", "48")
    rejects(
        lambda: call(key_format=Format(8, 64, mx.float32), value_format=Format(8, 64, mx.bfloat16)), "scales", "dtype"
    )
    rotary = Rotary(mx.ones((8,)))
    rejects(lambda: call(rows[..., :48], rotary=rotary, key_format=Format(8)), "key_format.group_size", "D = 48")
    assert qkv_prepare.PLAIN.bits == 16
