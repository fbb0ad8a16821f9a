"""MLX's own kernels, from the installed package, give what float64 gives, and the checker finds nothing in them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.simulator import DispatchReport, KernelFault, stock

DTYPES = [mx.float32, mx.float16, mx.bfloat16]
# Half a unit in the last place of an output near 1, and some for the sums before it.
TOLERANCE = {mx.float32: 1.5e-6, mx.float16: 1e-3, mx.bfloat16: 8e-3}
both = pytest.mark.parametrize("checked", [False, True], ids=["plain", "checked"])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float16", "bfloat16"])


def double(x: mx.array) -> np.ndarray[Any, Any]:
    return np.array(x.astype(mx.float32)).astype(np.float64)


def random(dtype: mx.Dtype, *shape: int, seed: int = 0) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float,
    mask: mx.array | str | None = None,
    sinks: mx.array | None = None,
) -> np.ndarray[Any, Any]:
    """softmax(q k' scale + mask) v in float64; a sink adds a key of that score and of no value."""
    group = q.shape[1] // k.shape[1]
    keys, values = (np.repeat(double(x), group, axis=1) for x in (k, v))
    scores = double(q) @ keys.swapaxes(-1, -2) * scale
    rows, columns = scores.shape[-2:]
    if isinstance(mask, str):
        scores = np.where(np.arange(columns) <= np.arange(rows)[:, None] + columns - rows, scores, -np.inf)
    elif mask is not None:
        scores = np.where(np.array(mask), scores, -np.inf) if mask.dtype == mx.bool_ else scores + double(mask)
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    if sinks is not None:
        total += np.exp(double(sinks)[None, :, None, None] - top)
    return weights / total @ values


def close(
    result: tuple[mx.array, list[DispatchReport]], expected: np.ndarray[Any, Any], checked: bool, size: float = 1
) -> None:
    out, reports = result
    assert np.abs(double(out) - expected).max() <= TOLERANCE[out.dtype] * size
    assert bool(reports) == checked
    assert not any(report.faults for report in reports)


def qkv(dtype: mx.Dtype, batch: int, heads: int, kv: int, rows: int, keys: int, width: int) -> tuple[mx.array, ...]:
    return (
        random(dtype, batch, heads, rows, width, seed=1),
        random(dtype, batch, kv, keys, width, seed=2),
        random(dtype, batch, kv, keys, width, seed=3),
    )


VECTOR: dict[str, Callable[..., tuple[mx.array, list[DispatchReport]]]] = {
    "one pass": stock.sdpa_vector,
    "two passes": stock.sdpa_vector_2pass,
}


@both
@every_dtype
@pytest.mark.parametrize("name", VECTOR)
def test_sdpa_vector(name: str, dtype: mx.Dtype, checked: bool) -> None:
    q, k, v = qkv(dtype, 2, 4, 2, 2, 77, 64)
    close(VECTOR[name](q, k, v, 0.125, mask="causal", checked=checked), attention(q, k, v, 0.125, "causal"), checked)


@both
@pytest.mark.parametrize("name", VECTOR)
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_sdpa_vector_with_an_array_mask_and_sinks(name: str, kind: str, checked: bool) -> None:
    q, k, v = qkv(mx.float32, 1, 4, 2, 3, 50, 96)
    mask = random(mx.float32, 1, 4, 3, 50, seed=4)
    mask = mask > -0.5 if kind == "bool" else mask
    sinks = random(mx.float32, 4, seed=5)
    expected = attention(q, k, v, 0.1, mask, sinks)
    close(VECTOR[name](q, k, v, 0.1, mask=mask, sinks=sinks, checked=checked), expected, checked)


@both
@every_dtype
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_steel_attention(causal: bool, dtype: mx.Dtype, checked: bool) -> None:
    q, k, v = qkv(dtype, 1, 4, 2, 45, 77, 64)
    expected = attention(q, k, v, 0.125, "causal" if causal else None)
    close(stock.steel_attention(q, k, v, 0.125, causal=causal, checked=checked), expected, checked)


@pytest.mark.slow
@both
@every_dtype
@pytest.mark.parametrize(("width", "rows", "keys"), [(64, 64, 64), (80, 33, 50), (128, 70, 100)])
def test_steel_attention_of_other_shapes(width: int, rows: int, keys: int, dtype: mx.Dtype, checked: bool) -> None:
    q, k, v = qkv(dtype, 2, 4, 1, rows, keys, width)
    mask = random(mx.float32, 2, 4, rows, keys, seed=4) > -1
    sinks = random(dtype, 4, seed=5)
    expected = attention(q, k, v, width**-0.5, mask, sinks)
    close(stock.steel_attention(q, k, v, width**-0.5, mask=mask, sinks=sinks, checked=checked), expected, checked)


@both
@every_dtype
def test_quantized_matvec(dtype: mx.Dtype, checked: bool) -> None:
    x = random(dtype, 3, 1024)
    codes, scales, biases = mx.quantize(random(mx.float32, 64, 1024, seed=1), 64, 4)
    weight = (codes, scales.astype(dtype), biases.astype(dtype))
    dense = mx.dequantize(codes, *(w.astype(mx.float32) for w in weight[1:]), 64, 4)
    expected = double(x) @ double(dense).T
    close(stock.quantized_matvec(x, weight, checked=checked), expected, checked, size=np.abs(expected).max())


@both
@every_dtype
@pytest.mark.parametrize("looped", [False, True], ids=["single row", "looped"])
def test_softmax(looped: bool, dtype: mx.Dtype, checked: bool) -> None:
    x = random(dtype, 3, 777) * 3
    scores = np.exp(double(x))
    close(stock.softmax(x, looped=looped, checked=checked), scores / scores.sum(-1, keepdims=True), checked)


@both
@every_dtype
def test_cross_entropy(dtype: mx.Dtype, checked: bool) -> None:
    x = random(dtype, 3, 777) * 3
    targets = mx.array([0, 776, 5])
    scores = double(x)
    expected = np.log(np.exp(scores).sum(-1)) - scores[np.arange(3), np.array(targets)]
    close(stock.cross_entropy(x, targets, checked=checked), expected, checked)


def test_a_softmax_with_too_few_threads_reads_what_nobody_wrote() -> None:
    """`softmax_looped` reads 32 partial results however many simdgroups there are; MLX launches 1024 threads."""
    x = random(mx.float32, 1, 256)
    out = np.zeros((1, 256), np.float32)
    function = stock.function("softmax.h", "softmax_looped<float, float>", checked=True)
    with pytest.raises(KernelFault) as caught:
        function(
            {"in": np.array(x), "axis_size": np.array(256, np.int32)},
            {"out": out},
            grid=(64, 1, 1),
            threadgroup=(64, 1, 1),
        )
    fault = caught.value.report.faults[0]
    assert fault.kind == "uninitialised-read" and fault.place.split(":")[0].endswith("softmax.h")


def test_attention_reads_each_key_once_for_each_query_head() -> None:
    """The traffic of stock decode attention: K and V are asked for g times, g = query heads of a KV head."""
    q, k, v = qkv(mx.bfloat16, 1, 8, 2, 1, 256, 64)
    (report,) = stock.sdpa_vector(q, k, v, 0.125, checked=True)[1]
    nbytes = 2 * 256 * 64 * 2
    for name in ("keys", "values"):
        traffic = report.traffic[name]
        assert (traffic.read, traffic.distinct, traffic.lines) == (4 * nbytes, nbytes, nbytes // 128)
    assert report.traffic["out"].written == 8 * 64 * 2
    assert report.counts["simd_reductions"] == 8 * (256 + 32 * 4)
