"""Attention by each way that it can go on a CPU, against float64 and each other, and in what memory."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from likely.metal import dispatch, mx, reference
from likely.metal.attention import CAUSAL, FULL, KV, Emit, Mask, attention
from likely.metal.errors import KernelError
from tests.metal import oracle
from tests.metal.build import cache, error, normal, stored

CPU = pytest.mark.skipif(mx.default_device() != mx.cpu, reason="a GPU has its own kernels")


def one(n: int, b: int = 1, h: int = 4, heads: int = 2, d: int = 16) -> tuple[mx.array, KV]:
    """Queries and rows of n positions, all new."""
    q, k, v = (normal(seed, b, x, n, d) for seed, x in ((1, h), (2, heads), (3, heads)))
    return q, KV(k, v, mx.full((b,), n, dtype=mx.int32), n)


def whole(q: mx.array, kv: KV, **options: Any) -> mx.array:
    with dispatch.forced("reference"):
        out: mx.array = attention(q, kv, scale=0.25, **options)
        return out


def close(a: mx.array, b: mx.array) -> bool:
    return a.shape == b.shape and float(mx.max(mx.abs(a - b))) < 1e-5


def peak(q: mx.array, kv: KV, mask: Mask) -> int:
    """Bytes that attention takes at most, beside what it reads."""
    mx.eval(q, kv.keys, kv.values)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(attention(q, kv, scale=0.25, mask=mask))
    return mx.get_peak_memory() - before


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("lengths", [(5, 5, 5), (5, 1, 9), (8, 7), (15,)])
@pytest.mark.parametrize("more", [{}, {"softcap": 2.0}, {"sinks": normal(4, 4)}])
def test_documents_are_read_apart(b: int, lengths: tuple[int, ...], more: dict[str, Any]) -> None:
    q, kv = one(15, b)
    mask = Mask.of_documents(lengths)
    assert close(attention(q, kv, scale=0.25, mask=mask, **more), whole(q, kv, mask=mask, **more))


@CPU
@pytest.mark.parametrize("lengths", [(64,) * 8, (100, 28, 128, 64, 64, 128)])
def test_nobody_computes_the_scores_between_documents(lengths: tuple[int, ...]) -> None:
    q, kv = one(512)
    assert peak(q, kv, Mask.of_documents(lengths)) < 4 * 512 * 512 * 4 <= peak(q, kv, replace(CAUSAL, window=600))


@pytest.mark.parametrize("lengths", [(5, 5), (4, 6)])
def test_documents_with_more_that_is_seen_are_read_apart(lengths: tuple[int, ...]) -> None:
    q, kv = one(10)
    also = mx.array(np.random.default_rng(0).random((1, 10, 10)) < 0.3)
    mask = replace(Mask.of_documents(lengths), also=also)
    assert close(attention(q, kv, scale=0.25, mask=mask), whole(q, kv, mask=mask))


@pytest.mark.parametrize(
    "change",
    [{"cached": True}, {"ragged": True}, {"positions": mx.arange(10, dtype=mx.int32)[None]}],
    ids=lambda change: next(iter(change)),
)
def test_a_row_that_is_not_whole_sees_what_it_saw(change: dict[str, Any]) -> None:
    q, kv = one(10)
    mask, rows = Mask.of_documents((4, 6)), replace(kv, **change)
    assert close(attention(q, rows, scale=0.25, mask=mask), whole(q, kv, mask=mask))
    for other in (replace(mask, window=3, keep=1), replace(mask, prefix=2), replace(mask, block=2)):
        truth = oracle.attention(q, kv, scale=0.25, mask=other).out
        assert error(attention(q, kv, scale=0.25, mask=other), truth) < 1e-5  # of a row, not of a document
    out, seen = attention(q, kv, scale=0.25, mask=mask, emit=Emit(lse=True))
    assert close(out, whole(q, kv, mask=mask)) and seen.lse is not None and seen.lse.shape == (1, 4, 10)
    assert close(attention(q[:, :, 5:], kv, scale=0.25, mask=mask), whole(q, kv, mask=mask)[:, :, 5:])


@pytest.mark.parametrize(("t", "block"), [(8, 2), (12, 3), (10, 2), (6, 3)])
def test_a_noised_text_sees_its_block_and_the_text_before_it(t: int, block: int) -> None:
    q, kv = one(t, 2)
    mask = Mask(noised=True, block=block)
    at = np.arange(t) % (t // 2) // block
    late = np.arange(t) >= t // 2
    p, k = np.arange(t)[:, None], np.arange(t)[None]
    seen = np.where(late[p], late[k] & (at[k] <= at[p]), np.where(late[k], at[k] < at[p], at[k] == at[p]))
    keys, values = (np.repeat(oracle.wide(x), 2, 1) for x in (kv.keys, kv.values))  # type: ignore[arg-type]
    weights = np.exp(np.where(seen, np.einsum("bhtd,bhnd->bhtn", oracle.wide(q), keys) * 0.25, -np.inf))
    mixed = np.einsum("bhtn,bhnd->bhtd", weights / weights.sum(-1, keepdims=True), values)
    for got in (attention(q, kv, scale=0.25, mask=mask), whole(q, kv, mask=mask)):
        assert error(got, mixed) < 1e-5
    for more in ({"softcap": 2.0}, {"sinks": normal(4, 4)}):  # which mlx's kernel does not take
        assert close(attention(q, kv, scale=0.25, mask=mask, **more), whole(q, kv, mask=mask, **more))  # type: ignore[call-overload]
    out, sums = attention(q, kv, scale=0.25, mask=mask, emit=Emit(lse=True))
    assert sums.lse is not None and sums.lse.shape == (2, 4, t) and error(out, mixed) < 1e-5
    two = Mask.of_noised((t // 4, t // 2 - t // 4), 1)
    assert close(attention(q, kv, scale=0.25, mask=two), whole(q, kv, mask=two))


@pytest.mark.parametrize("name", ["cached", "prefix", "positions", "ragged", "shorter"])
def test_a_noised_text_is_whole(name: str) -> None:
    q, kv = one(8)
    given = {
        "cached": replace(kv, cached=True),
        "prefix": replace(kv, prefix=kv),
        "positions": replace(kv, positions=mx.arange(8, dtype=mx.int32)[None]),
        "ragged": replace(kv, ragged=True),
        "shorter": kv,
    }[name]
    with pytest.raises(KernelError, match=r"mask\.noised is of whole rows without a cache"):
        attention(q[:, :, 2:] if name == "shorter" else q, given, scale=0.25, mask=Mask(noised=True, block=2))


NARROW = (
    CAUSAL, FULL, Mask(window=7), Mask(window=19), Mask(window=20), Mask(window=40), Mask(window=2, keep=1),
    Mask(window=20, keep=1), Mask(causal=False, window=20), Mask(causal=False, window=5), Mask(block=3), Mask(block=4),
    Mask(prefix=3), Mask(prefix=16), Mask(prefix=17), Mask(prefix=20), Mask(prefix=21),
    Mask(documents=mx.array([[0] * 9 + [1] * 11], dtype=mx.int32)),
)  # fmt: skip


@pytest.mark.parametrize("t", [1, 5])
@pytest.mark.parametrize("mask", NARROW)
def test_mlx_s_own_kernel_gives_what_each_query_sees(t: int, mask: Mask) -> None:
    q, k, v = normal(1, 2, 4, t, 16), normal(2, 2, 2, 32, 16), normal(3, 2, 2, 32, 16)
    kv = cache(k, v, 20)
    truth = oracle.attention(q, kv, scale=0.25, mask=mask).out
    with dispatch.forced("stock"):
        assert error(attention(q, kv, scale=0.25, mask=mask), truth) < 1e-5
    assert error(attention(q, kv, scale=0.25, mask=mask), truth) < 1e-5


@pytest.mark.parametrize(("keys", "values"), [(8, 4), (16, 8), (8, 16)])
def test_packed_rows_are_unpacked_for_mlx_s_own_kernel(keys: int, values: int) -> None:
    q, k, v = normal(1, 1, 4, 3, 64), normal(2, 1, 2, 32, 64), normal(3, 1, 2, 32, 64)
    kv = cache(stored(k, keys), stored(v, values), 20)
    assert error(attention(q, kv, scale=0.25), oracle.attention(q, kv, scale=0.25, mask=CAUSAL).out) < 1e-5


@CPU
@pytest.mark.slow
@pytest.mark.parametrize("mask", [CAUSAL, FULL, Mask(window=900)], ids=str)
def test_many_scores_are_made_a_few_queries_at_a_time(mask: Mask) -> None:
    """The same as two calls for half of the heads, which no path takes apart."""
    q, kv = one(1200, h=32, heads=2, d=8)
    assert isinstance(kv.keys, mx.array) and isinstance(kv.values, mx.array)
    halves = [
        (q[:, 16 * i : 16 * (i + 1)], replace(kv, keys=kv.keys[:, i : i + 1], values=kv.values[:, i : i + 1]))
        for i in range(2)
    ]
    for by in (whole, lambda *given, **more: attention(*given, scale=0.25, **more)):
        want = mx.concatenate([by(*half, mask=mask) for half in halves], axis=1)
        assert close(by(q, kv, mask=mask), want)
    assert mask is not CAUSAL or peak(q, kv, mask) < 32 * 1200 * 1200 * 4


@CPU
@pytest.mark.parametrize("t", [1, 2, 8, 15, 16, 17])
@pytest.mark.parametrize("n", [127, 128])
def test_rows_of_a_cache_give_the_same_by_whichever_way_pays(t: int, n: int) -> None:
    q, k = normal(1, 1, 4, t, 16), normal(2, 1, 2, 150, 16)
    kv, sinks = cache(k, k, n, cached=True), normal(5, 4)
    assert error(attention(q, kv, scale=0.25), oracle.attention(q, kv, scale=0.25, mask=CAUSAL).out) < 1e-5
    sunk = oracle.attention(q, kv, scale=0.25, mask=CAUSAL, sinks=sinks).out
    assert error(attention(q, kv, scale=0.25, sinks=sinks), sunk) < 1e-5
    half = cache(k.astype(mx.float16), k.astype(mx.float16), n, cached=True)
    narrow = attention(q.astype(mx.float16), half, scale=0.25)
    truth = oracle.attention(q.astype(mx.float16), half, scale=0.25, mask=CAUSAL).out
    assert narrow.dtype == mx.float16 and error(narrow, truth) < 2e-3


@pytest.mark.parametrize("t", [1, 40, 130])
def test_rows_without_a_cache_have_a_gradient(t: int) -> None:
    """Some of the ways that a cache's rows go have none."""
    rows, cotangent = normal(2, 1, 2, 150, 16), normal(3, 1, 4, t, 16)

    def loss(q: mx.array) -> mx.array:
        kv = KV(rows, rows, mx.array([150], dtype=mx.int32), 150)
        return mx.sum(attention(q, kv, scale=0.25) * cotangent)

    q = normal(1, 1, 4, t, 16)
    with dispatch.forced("reference"):
        want = mx.grad(loss)(q)
    assert close(mx.grad(loss)(q), want)


def test_a_row_at_the_first_position_of_a_ring_is_one() -> None:
    q, k, v = normal(1, 1, 4, 2, 16), normal(2, 1, 2, 6, 16), normal(3, 1, 2, 6, 16)
    kv = cache(k, v, 6, positions=mx.array([[4, 5, 0, 1, 2, 3]], dtype=mx.int32))
    for mask in (CAUSAL, Mask(window=3), Mask(window=3, keep=1)):
        assert error(attention(q, kv, scale=0.25, mask=mask), oracle.attention(q, kv, scale=0.25, mask=mask).out) < 1e-5
    assert reference.positions(kv, 1).tolist() == [[4, 5, 0, 1, 2, 3]]
