"""Errors against float64 beside those of MLX's own kernels in the same simulator, on random and adversarial inputs."""

from collections.abc import Callable

import numpy as np
import pytest

from likely.metal import metal_attention, mx
from likely.metal.attention import CAUSAL
from likely.metal.simulator import simulated, stock
from tests.metal import oracle
from tests.metal.build import cache, error, normal, stored, ulp
from tests.metal.test_decode import DTYPES
from tests.support.everyday import everyday

Inputs = tuple[mx.array, mx.array, mx.array]


def random(seed: int, h: int, t: int, n: int, d: int, dtype: mx.Dtype) -> Inputs:
    return (
        normal(seed, 1, h, t, d, dtype=dtype),
        normal(seed + 1, 1, 2, n, d, dtype=dtype),
        normal(seed + 2, 1, 2, n, d, dtype=dtype),
    )


def large_scores(*size: int, dtype: mx.Dtype) -> Inputs:
    q, k, v = random(*size, dtype)  # type: ignore[arg-type]
    return q * 20, k * 4, v


def equal_keys(*size: int, dtype: mx.Dtype) -> Inputs:
    q, k, v = random(*size, dtype)  # type: ignore[arg-type]
    return q, mx.contiguous(mx.broadcast_to(k[:, :, :1], k.shape)), v


def one_key_wins(*size: int, dtype: mx.Dtype) -> Inputs:
    q, k, v = random(*size, dtype)  # type: ignore[arg-type]
    winner = (q[:, ::2, :1] * 10).astype(dtype)
    return q, mx.contiguous(mx.concatenate([winner[:, :2], k[:, :, 1:]], axis=2)), v


def large_values(*size: int, dtype: mx.Dtype) -> Inputs:
    q, k, v = random(*size, dtype)  # type: ignore[arg-type]
    return q, k, v * 1000


def rising_scores(*size: int, dtype: mx.Dtype) -> Inputs:
    """Every key beats those before it, so that the maximum moves at every step."""
    q, k, v = random(*size, dtype)  # type: ignore[arg-type]
    ramp = mx.arange(k.shape[2], dtype=mx.float32)[None, None, :, None] / k.shape[2]
    return q, mx.contiguous((mx.mean(q, axis=2, keepdims=True)[:, ::2][:, :2] * ramp * 10).astype(dtype)), v


MAKERS = (random, large_scores, equal_keys, one_key_wins, large_values, rising_scores)
DECODED = ((64, 2), (96, 4), (128, 2), (256, 2))  # head size, query heads of a key/value head


def compared(q: mx.array, k: mx.array, v: mx.array) -> tuple[float, float, float]:
    """The largest error against float64 of ours and of stock's, and a unit in the last place of the largest output."""
    t, d, n = q.shape[2], q.shape[3], k.shape[2]
    truth = oracle.attention(q, cache(k, v, n), scale=d**-0.5, mask=CAUSAL).out
    theirs, _ = stock.sdpa_vector(q, k, v, d**-0.5) if t == 1 else stock.steel_attention(q, k, v, d**-0.5, causal=True)
    with simulated():
        ours, _ = metal_attention.attention(q, cache(k, v, n), scale=d**-0.5, mask=CAUSAL)
    return error(ours, truth), error(theirs, truth), ulp(q.dtype, truth)


@pytest.mark.parametrize(
    ("dtype", "maker", "d", "g"), everyday([(t, m, *s) for t in DTYPES for m in MAKERS for s in DECODED], 13)
)
def test_decode(maker: Callable[..., Inputs], dtype: mx.Dtype, d: int, g: int) -> None:
    for seed, n in enumerate((1, 33, 200, 511, 64, 90, 100, 150)):
        ours, theirs, unit = compared(*maker(10 * seed, 2 * g, 1, n, d, dtype=dtype))
        assert ours <= 1.25 * theirs + unit, n


@pytest.mark.parametrize(
    ("dtype", "maker", "d"), everyday([(t, m, d) for t in DTYPES for m in MAKERS for d in (64, 80, 96, 128)], 13)
)
def test_prefill(maker: Callable[..., Inputs], dtype: mx.Dtype, d: int) -> None:
    for seed, (t, n) in enumerate(((17, 17), (33, 70), (32, 96), (20, 50))):
        ours, theirs, unit = compared(*maker(10 * seed, 4, t, n, d, dtype=dtype))
        assert ours <= 1.25 * theirs + unit, (t, n)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("t", [1, 20])
def test_quantised_rows_beside_stock_on_the_same_rows_dequantised(bits: int, dtype: mx.Dtype, t: int) -> None:
    for seed, d, n in ((10, 64, 77), (20, 128, 130)):
        q, k, v = random(seed, 4, t, n, d, dtype)
        kv = cache(stored(k, bits), stored(v, bits), n)
        truth = oracle.attention(q, kv, scale=d**-0.5, mask=CAUSAL).out
        plain = [mx.array(oracle.rows(rows).astype(np.float32)).astype(dtype) for rows in (kv.keys, kv.values)]
        run = stock.sdpa_vector if t == 1 else stock.steel_attention
        theirs, _ = run(q, *plain, d**-0.5, **({} if t == 1 else {"causal": True}))  # type: ignore[operator]
        with simulated():
            ours, _ = metal_attention.attention(q, kv, scale=d**-0.5, mask=CAUSAL)
        assert error(ours, truth) <= 1.25 * error(theirs, truth) + ulp(dtype, truth), (seed, d)
