"""Attention by each way that it can go on a CPU, against float64 and each other, and which way it goes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metal import cpu_attention, dispatch, mx, reference
from metal.attention import CAUSAL, FULL, KV, Emit, Mask, _reach, attention
from metal.errors import KernelError
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


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Shapes of queries and keys, and the mask, that mlx's own kernel is given."""
    found: list[tuple[Any, ...]] = []
    own: Callable[..., mx.array] = mx.fast.scaled_dot_product_attention

    def noted(q: mx.array, k: mx.array, v: mx.array, *, mask: Any = None, **more: Any) -> mx.array:
        found.append((q.shape, k.shape, mask if isinstance(mask, str | None) else mask.shape))
        return own(q, k, v, mask=mask, **more)

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", noted)
    return found


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("lengths", [(5, 5, 5), (5, 1, 9), (8, 7), (15,)])
@pytest.mark.parametrize("more", [{}, {"softcap": 2.0}, {"sinks": normal(4, 4)}])
def test_documents_are_read_apart(b: int, lengths: tuple[int, ...], more: dict[str, Any], calls: list[Any]) -> None:
    q, kv = one(15, b)
    mask = Mask.packed(lengths)
    want = whole(q, kv, mask=mask, **more)
    assert close(attention(q, kv, scale=0.25, mask=mask, **more), want)
    if not more:
        alike = len(set(lengths)) == 1 and b == 1 and len(lengths) > 1
        wanted = [len(lengths)] if alike else [b] * len(lengths)
        assert [q[0] for q, _, _ in calls] == wanted  # side by side: one call for all
        assert [q[2] for q, _, _ in calls] == ([lengths[0]] if alike else [*lengths])


@pytest.mark.parametrize("lengths", [(5, 5), (4, 6)])
def test_documents_with_more_that_is_seen_are_read_apart(lengths: tuple[int, ...]) -> None:
    q, kv = one(10)
    also = mx.array(np.random.default_rng(0).random((1, 10, 10)) < 0.3)
    mask = replace(Mask.packed(lengths), also=also)
    assert close(attention(q, kv, scale=0.25, mask=mask), whole(q, kv, mask=mask))


@pytest.mark.parametrize(
    "change",
    [{"cached": True}, {"ragged": True}, {"positions": mx.arange(10, dtype=mx.int32)[None]}, {"length": 10}],
    ids=lambda change: next(iter(change)),
)
def test_only_a_whole_row_is_taken_apart(change: dict[str, Any], calls: list[Any]) -> None:
    q, kv = one(10)
    mask = Mask.packed((4, 6))
    rows = replace(kv, **change)
    attention(q, rows, scale=0.25, mask=mask)
    assert (len(calls) == 2) == (change == {"length": 10})
    calls.clear()
    attention(q, kv, scale=0.25, mask=replace(mask, window=3, keep=1))  # the first of a row, not of a document
    attention(q[:, :, 5:], kv, scale=0.25, mask=mask)
    attention(q, kv, scale=0.25, mask=replace(mask, prefix=2))
    attention(q, kv, scale=0.25, mask=replace(mask, block=2))
    assert not calls
    attention(q, kv, scale=0.25, mask=mask, emit=Emit(lse=True))
    assert not calls


@pytest.mark.parametrize(("t", "block"), [(8, 2), (12, 3), (10, 2), (6, 3)])
def test_a_noised_text_is_read_in_two_products(t: int, block: int, calls: list[Any]) -> None:
    q, kv = one(t, 2)
    mask = Mask(noised=True, block=block)
    n = t // 2
    want = whole(q, kv, mask=mask)
    calls.clear()
    assert close(attention(q, kv, scale=0.25, mask=mask), want)
    assert calls == [((2, 4, n, 16), (2, 2, t, 16), (n, t)), ((2, 4, n, 16), (2, 2, n, 16), (n, n))]
    at = np.arange(t) % n // block
    late = np.arange(t) >= n
    p, k = np.arange(t)[:, None], np.arange(t)[None]
    seen = np.where(late[p], late[k] & (at[k] <= at[p]), np.where(late[k], at[k] < at[p], at[k] == at[p]))
    scores = np.einsum("bhtd,bhnd->bhtn", oracle.wide(q), np.repeat(oracle.wide(kv.keys), 2, 1)) * 0.25  # type: ignore[arg-type]
    weights = np.exp(np.where(seen, scores, -np.inf))
    mixed = np.einsum(
        "bhtn,bhnd->bhtd", weights / weights.sum(-1, keepdims=True), np.repeat(oracle.wide(kv.values), 2, 1)
    )  # type: ignore[arg-type]
    assert error(want, mixed) < 1e-5


def test_a_noised_text_that_mlx_does_not_take_goes_by_the_reference(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    q, kv = one(8)
    mask = Mask(noised=True, block=2)
    for more in ({"softcap": 2.0}, {"sinks": normal(4, 4)}):
        assert close(attention(q, kv, scale=0.25, mask=mask, **more), whole(q, kv, mask=mask, **more))  # type: ignore[call-overload]
    out, seen = attention(q, kv, scale=0.25, mask=mask, emit=Emit(lse=True))
    assert seen.lse is not None and seen.lse.shape == (1, 4, 8) and close(out, whole(q, kv, mask=mask))
    assert not calls
    two = Mask.of_noised((2, 2), 1)
    assert close(attention(q, kv, scale=0.25, mask=two), whole(q, kv, mask=two))
    monkeypatch.setattr(reference, "SCORES", 4 * 8 * 8 // 2)  # twice as many are taken
    attention(q, kv, scale=0.25, mask=mask)
    taken = len(calls)
    monkeypatch.setattr(reference, "SCORES", 4 * 8 * 8 // 2 - 1)
    assert close(attention(q, kv, scale=0.25, mask=mask), whole(q, kv, mask=mask))
    assert taken == len(calls) and taken >= 2


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


@pytest.mark.parametrize(
    ("mask", "t", "n", "first"),
    [
        (CAUSAL, 3, 9, 0),
        (FULL, 3, 9, 0),
        (CAUSAL, 3, None, None),
        (Mask(documents=mx.zeros((1, 9), dtype=mx.int32)), 1, 9, None),
        (Mask(tree=mx.zeros((1, 1, 1), dtype=mx.uint32)), 1, 9, None),
        (Mask(also=mx.zeros((1, 1, 1), dtype=mx.bool_)), 1, 9, None),
        (Mask(block=4), 1, 9, 0),
        (Mask(block=4), 2, 9, None),
        (Mask(prefix=9), 1, 9, 0),
        (Mask(prefix=10), 1, 9, None),
        (Mask(prefix=7), 3, 9, 0),
        (Mask(prefix=8), 3, 9, None),
        (Mask(window=9), 3, 9, 0),
        (Mask(window=8), 3, 9, None),
        (Mask(window=8), 1, 9, 1),
        (Mask(window=2), 1, 9, 7),
        (Mask(window=2, keep=1), 1, 9, None),
        (Mask(window=9, keep=1), 1, 9, 0),
        (Mask(causal=False, window=9), 3, 9, 0),
    ],
)
def test_plain_attention_begins_at_the_first_row_that_is_seen(
    mask: Mask, t: int, n: int | None, first: int | None
) -> None:
    assert _reach(mask, t, n) == first


@pytest.mark.parametrize("t", [1, 5])
@pytest.mark.parametrize("mask", [CAUSAL, FULL, Mask(window=7), Mask(window=40), Mask(block=3), Mask(prefix=3)])
def test_mlx_s_own_kernel_is_given_the_rows_that_are_seen(t: int, mask: Mask, calls: list[Any]) -> None:
    q, k, v = normal(1, 2, 4, t, 16), normal(2, 2, 2, 32, 16), normal(3, 2, 2, 32, 16)
    kv = cache(k, v, 20)
    with dispatch.forced("stock"):
        got = attention(q, kv, scale=0.25, mask=mask)
    assert error(got, oracle.attention(q, kv, scale=0.25, mask=mask).out) < 1e-5
    (call,) = calls
    plain = mask in (CAUSAL, FULL, Mask(window=40), Mask(prefix=3)) or t == 1
    assert call[1][2] == (7 if mask.window == 7 and t == 1 else 20)
    assert call[2] == (("causal" if mask.causal and t > 1 else None) if plain else (2, 1, 5, 20))


def test_packed_rows_are_unpacked_for_mlx_s_own_kernel(calls: list[Any]) -> None:
    q, k, v = normal(1, 1, 4, 3, 64), normal(2, 1, 2, 32, 64), normal(3, 1, 2, 32, 64)
    for keys, values in ((8, 4), (16, 8), (8, 16)):
        kv = cache(stored(k, keys), stored(v, values), 20)
        truth = oracle.attention(q, kv, scale=0.25, mask=CAUSAL).out
        assert error(attention(q, kv, scale=0.25), truth) < 1e-5
    assert [(k[2], mask) for _, k, mask in calls] == [(20, "causal")] * 3


@CPU
@pytest.mark.parametrize("causal", [True, False])
def test_many_scores_are_made_a_few_queries_at_a_time(
    causal: bool, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    q, kv = one(10)
    want = whole(q, kv, mask=CAUSAL if causal else FULL)
    for scores, sizes in ((4 * 10 * 10, [10]), (4 * 10 * 10 - 1, [9, 1]), (4 * 10 * 3, [3, 3, 3, 1]), (1, [1] * 10)):
        monkeypatch.setattr(reference, "SCORES", scores)
        calls.clear()
        assert close(attention(q, kv, scale=0.25, mask=CAUSAL if causal else FULL), want)
        assert [shape[2] for shape, _, _ in calls] == sizes
        ends = np.cumsum(sizes).tolist() if causal else [10] * len(sizes)
        assert [shape[2] for _, shape, _ in calls] == ends
        assert [kind for _, _, kind in calls] == ["causal" if causal and size > 1 else None for size in sizes]


@CPU
@pytest.mark.parametrize(
    ("t", "n", "way"),
    [(1, 127, ""), (1, 128, "few"), (2, 128, "few"), (15, 128, "few"), (16, 127, "attention"), (17, 128, "attention"),
     (8, 127, "")],
)  # fmt: skip
def test_rows_of_a_cache_go_by_numpy_where_that_pays(t: int, n: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = normal(1, 1, 4, t, 16), normal(2, 1, 2, 150, 16)
    kv = cache(k, k, n, cached=True)
    found: list[str] = []
    for name in ("few", "attention"):
        own = getattr(cpu_attention, name)
        noted = lambda *a, own=own, name=name, **o: found.append(name) or own(*a, **o)  # noqa: E731
        monkeypatch.setattr(cpu_attention, name, noted)
    monkeypatch.setattr(cpu_attention, "few_enough", lambda q, *_: q.shape[2] < 16)
    assert error(attention(q, kv, scale=0.25), oracle.attention(q, kv, scale=0.25, mask=CAUSAL).out) < 1e-5
    assert found == [way] * bool(way)
    found.clear()
    attention(q, kv, scale=0.25, sinks=mx.zeros((4,)))
    attention(q.astype(mx.float16), cache(k.astype(mx.float16), k.astype(mx.float16), n, cached=True), scale=0.25)
    assert not found


@CPU
@pytest.mark.parametrize(("t", "whole_"), [(15, False), (16, True)])
def test_a_chain_is_made_one_for_many_queries(t: int, whole_: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = normal(1, 1, 4, t, 16), normal(2, 1, 2, 32, 16)
    kv = cache(k, k, 20, cached=True, prefix=cache(k, k, 30))
    asked: list[mx.Dtype] = []
    own = cpu_attention.whole
    monkeypatch.setattr(cpu_attention, "whole", lambda kv, dtype: asked.append(dtype) or own(kv, dtype))
    assert error(attention(q, kv, scale=0.25), oracle.attention(q, kv, scale=0.25, mask=CAUSAL).out) < 1e-5
    assert asked == [mx.float32] * whole_
    with dispatch.forced("reference"):
        attention(q, kv, scale=0.25)
    assert asked == [mx.float32] * whole_


def test_what_layers_see_alike_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    own = reference.visible
    monkeypatch.setattr(reference, "visible", lambda *given: found.append(1) or own(*given))
    q, kv = one(10)
    masks: dict[Any, Any] = {}

    def stock(rows: KV, mask: Mask, masks: dict[Any, Any] | None) -> mx.array:
        with dispatch.forced("stock"):
            out: mx.array = attention(q, rows, scale=0.25, mask=mask, masks=masks)
            return out

    documents = mx.array([[0] * 4 + [1] * 6], dtype=mx.int32)
    also = mx.zeros((1, 10, 10), dtype=mx.bool_)
    tree = mx.zeros((1, 10, 1), dtype=mx.uint32)
    prefix = replace(kv, cached=True)
    longer = KV(*(normal(i, 1, 2, 12, 16) for i in (4, 5)), mx.array([12], dtype=mx.int32), 12)
    others: list[tuple[KV, Mask]] = [
        (kv, Mask(window=3)),
        (kv, Mask(window=4)),
        (kv, Mask(window=3, keep=1)),
        (kv, Mask(causal=False, window=3)),
        (kv, Mask(block=2)),
        (kv, Mask(block=2, block_start=1)),
        (kv, Mask(prefix=5)),
        (kv, Mask(documents=documents)),
        (kv, Mask(documents=documents + 0)),
        (kv, Mask(also=also)),
        (kv, Mask(tree=tree)),
        (longer, Mask(window=3)),
        (replace(kv, prefix=prefix), Mask(window=3)),
        (replace(longer, ragged=True), Mask(window=3)),
        (replace(longer, ragged=True, lengths=longer.lengths + 0), Mask(window=3)),
        (replace(longer, positions=mx.arange(12, dtype=mx.int32)[None]), Mask(window=3)),
    ]
    for n, (rows, mask) in enumerate(others, 1):
        for _ in range(2):
            got = stock(rows, mask, masks)
        assert len(found) == len(masks) == n
        assert close(got, whole(q, rows, mask=mask))
        found[n:] = []
    stock(kv, Mask(window=3), None)
    stock(kv, Mask(window=3), None)
    assert len(found) == len(others) + 2


def test_a_row_at_the_first_position_of_a_ring_is_one() -> None:
    q, k, v = normal(1, 1, 4, 2, 16), normal(2, 1, 2, 6, 16), normal(3, 1, 2, 6, 16)
    kv = cache(k, v, 6, positions=mx.array([[4, 5, 0, 1, 2, 3]], dtype=mx.int32))
    for mask in (CAUSAL, Mask(window=3), Mask(window=3, keep=1)):
        assert error(attention(q, kv, scale=0.25, mask=mask), oracle.attention(q, kv, scale=0.25, mask=mask).out) < 1e-5
    assert reference.positions(kv, 1).tolist() == [[4, 5, 0, 1, 2, 3]]
