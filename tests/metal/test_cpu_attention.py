"""Attention with the softmax in numpy, against mlx's own."""

from dataclasses import replace

import numpy as np
import pytest

from likely.metal import cpu_attention, dispatch, mx
from likely.metal.attention import CAUSAL, KV, Mask, QuantizedRows, attention
from tests.support.everyday import everyday


@pytest.mark.parametrize(("t", "n"), [(16, 16), (130, 130), (256, 256), (40, 300), (129, 500)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("h", "heads"), [(4, 4), (9, 3), (8, 1)])
def test_it_equals_mlxs(t: int, n: int, causal: bool, h: int, heads: int) -> None:
    rng = np.random.default_rng(t + n)
    q, k, v = (mx.array(rng.normal(size=(2, x, m, 32)).astype(np.float32)) for x, m in ((h, t), (heads, n), (heads, n)))
    want = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask="causal" if causal else None)
    np.testing.assert_allclose(cpu_attention.attention(q, k, v, scale=0.2, causal=causal), want, atol=2e-6)


@pytest.mark.parametrize("d", [32, 300])
@pytest.mark.parametrize(("t", "n"), everyday([(1, 1000), (1, 1), (1, 128), (4, 1000), (3, 3), (2, 200)], 3))
@pytest.mark.parametrize(("h", "heads"), [(4, 4), (9, 3), (8, 1)])
def test_few_queries_equal_float64(t: int, n: int, h: int, heads: int, d: int) -> None:
    """With the softmax in the second product, and without, where a value is too wide for that; mlx's own is up to 1e-5
    off, and 4e-5 over 8,000 rows."""
    rng = np.random.default_rng(n)
    shapes = (h, t), (heads, n), (heads, n)
    q, k, v = (rng.normal(size=(2, x, rows, d)).astype(np.float32) for x, rows in shapes)
    q *= (32 / d) ** 0.5
    scores = np.einsum("bhgtd,bhnd->bhgtn", q.reshape(2, heads, -1, t, d).astype(float), k.astype(float))
    weights = np.exp(scores + np.triu(np.full((t, n), -np.inf), n - t + 1))
    want = np.einsum("bhgtn,bhnd->bhgtd", weights / weights.sum(-1, keepdims=True), v).reshape(q.shape)
    q, k, v = mx.array(q), mx.array(k), mx.array(v)
    off = 1e-5 * (d / 32) ** 0.5  # a score is a sum of so many products
    np.testing.assert_allclose(cpu_attention.few(q, k, v, scale=1.0), want, atol=off)
    grown, values = mx.pad(k, [(0, 0), (0, 0), (0, 9), (0, 0)]), mx.pad(v, [(0, 0), (0, 0), (0, 9), (0, 0)])
    kv = KV(grown, values, mx.array([n, n], dtype=mx.int32), n, cached=True)
    np.testing.assert_allclose(attention(q, kv, scale=1.0), want, atol=off)


def test_large_logits_do_not_overflow() -> None:
    one = mx.full((1, 1, 1, 8), 100.0)
    np.testing.assert_allclose(
        cpu_attention.few(one, mx.concatenate([one, -one], 2), mx.ones((1, 1, 2, 8)), scale=1.0), 1.0
    )
    q = mx.full((1, 1, 16, 8), 100.0)
    out = cpu_attention.attention(q, q, mx.ones((1, 1, 16, 8)), scale=1.0, causal=True)
    np.testing.assert_allclose(out, 1.0, atol=1e-6)


@pytest.mark.parametrize(("h", "t", "size"), [(33, 1, 32), (8, 5, 32), (1, 40, 32), (1, 2, 300)])
def test_what_is_not_few(h: int, t: int, size: int) -> None:
    """One query always is; more rows than the product takes, or wider ones, go another way, with the same result."""
    rng = np.random.default_rng(h)
    q, k, v = (mx.array(rng.normal(size=s).astype(np.float32)) for s in ((1, h, t, size), *[(1, 1, 200, size)] * 2))
    assert cpu_attention.few_enough(q, k, v) == (t == 1)
    kv = KV(k, v, mx.array([200], dtype=mx.int32), 200, cached=True)
    want = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask="causal" if t > 1 else None)
    np.testing.assert_allclose(attention(q, kv, scale=0.2), want, atol=2e-6)


@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="a GPU has its own kernels")
@pytest.mark.parametrize("mask", everyday([Mask(window=30, keep=3), CAUSAL, Mask(window=30)], 3))
def test_a_chain_is_read_as_one_segment(mask: Mask) -> None:
    """Packed rows, then plain ones: what the reference makes of both, in less memory than its scores take."""
    rng = np.random.default_rng(0)
    old, new = (mx.array(rng.normal(size=(2, 2, n, 32)).astype(np.float32)) for n in (2000, 600))
    packed = QuantizedRows(*mx.quantize(old, 32, 8), 32, 8)
    chain = KV(new, new, mx.array([590, 590], dtype=mx.int32), 590, cached=True)
    chain = replace(chain, prefix=KV(packed, packed, mx.array([1900, 1900], dtype=mx.int32), 1900))
    q = mx.array(rng.normal(size=(2, 4, 512, 32)).astype(np.float32))
    with dispatch.forced("reference"):
        want = attention(q, chain, scale=0.2, mask=mask)
    mx.eval(want)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    got = attention(q, chain, scale=0.2, mask=mask)
    mx.eval(got)
    np.testing.assert_allclose(got, want, atol=2e-6)
    assert mask is not CAUSAL or mx.get_peak_memory() - before < 2 * 4 * 512 * 2490 * 4


def test_rows_that_do_not_follow_one_another_stay_a_chain() -> None:
    rows = mx.zeros((1, 2, 8, 32))
    first = KV(rows, rows, mx.array([8], dtype=mx.int32), 8)
    two = mx.zeros((2, 2, 8, 32))
    lengths = mx.array([8, 7], dtype=mx.int32)
    at = mx.arange(8, dtype=mx.int32)[None]
    for kv in (KV(two, two, lengths, 8), KV(two, two, lengths, 8, ragged=True), replace(first, positions=at)):
        assert cpu_attention.whole(replace(kv, prefix=first), mx.float32) is None


def test_texts_of_different_lengths_attend_to_their_own_rows() -> None:
    rng = np.random.default_rng(3)
    lengths, n = [5, 190, 131], 190
    q, keys, values = (rng.normal(size=(3, h, t, 16)).astype(np.float32) for h, t in ((6, 1), (2, 256), (2, 256)))
    kv = KV(mx.array(keys), mx.array(values), mx.array(lengths, dtype=mx.int32), n, True, cached=True)
    got = np.array(attention(mx.array(q), kv, scale=0.3))
    for row, length in enumerate(lengths):
        for head in range(6):
            k, v = (x[row, head // 3, :length].astype(np.float64) for x in (keys, values))
            weights = np.exp(0.3 * (k @ q[row, head, 0]))
            np.testing.assert_allclose(got[row, head, 0], weights @ v / weights.sum(), rtol=2e-5, atol=2e-6)
