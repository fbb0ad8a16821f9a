"""Every kind of segment under every kind of mask, with what can be reported: by the kernels alone, checked."""

from collections.abc import Callable
from itertools import cycle

import numpy as np
import pytest

from likely.metal import dispatch, mx
from likely.metal.attention import CAUSAL, KV, Emit, Mask, attention
from tests.metal import oracle
from tests.metal.build import cache, error, normal, recorded
from tests.metal.test_reference import check_top
from tests.support.everyday import everyday

B, H, HKV, D = 2, 4, 2, 64


def rows(seed: int, b: int = B, capacity: int = 64) -> tuple[mx.array, mx.array]:
    return normal(seed, b, HKV, capacity, D), normal(seed + 1, b, HKV, capacity, D)


def around(start: int, stop: int, b: int, capacity: int) -> mx.array:
    """Where the rows of a ring stand that has turned, some of them empty."""
    at = np.full(capacity, -1, dtype=np.int32)
    at[: stop - start] = np.arange(start, stop)
    return mx.array(np.stack([np.roll(at, 7 * (i + 1)) for i in range(b)]))


def plain() -> KV:
    return cache(*rows(2), 50, 33)


def ring() -> KV:
    return cache(*rows(2), 64, positions=around(70, 120, B, 64))


def behind_a_shared_prompt() -> KV:
    return cache(*rows(2), 30, 21, prefix=cache(*rows(4, 1), 50))


def ring_behind_a_shared_prompt() -> KV:
    return cache(*rows(2), 64, positions=around(70, 120, B, 64), prefix=cache(*rows(4, 1), 50))


def behind_a_frozen_ring() -> KV:
    return cache(*rows(2), 30, prefix=cache(*rows(4, 1), 64, positions=around(20, 70, 1, 64)))


def around_a_shared_segment() -> KV:
    return cache(*rows(2), 30, prefix=cache(*rows(4, 1), 20, prefix=cache(*rows(6), 20, 10)))


SEGMENTS = (
    plain, ring, behind_a_shared_prompt, ring_behind_a_shared_prompt, behind_a_frozen_ring, around_a_shared_segment,
)  # fmt: skip


def documents(b: int) -> Mask:
    return Mask(documents=mx.array([[(n + 3 * i) // (19 + i) for n in range(100)] for i in range(b)], dtype=mx.int32))


def tree(t: int) -> Mask:
    """Each node sees itself, every second one its parent's parent, and some of what stands before all of them."""
    bits = [[1 | 1 << n | (1 << n // 2 if (n + i) % 2 else 0) for n in range(t)] for i in range(B)]
    return Mask(tree=mx.array(bits, dtype=mx.uint32)[..., None], window=60)


MASKS: dict[str, Callable[[int], Mask]] = {
    "causal": lambda t: CAUSAL, "window": lambda t: Mask(window=30, keep=4),
    "one row of documents": lambda t: documents(1), "documents": lambda t: documents(B), "tree": tree,
    "block": lambda t: Mask(block=8, block_start=3), "prefix": lambda t: Mask(prefix=60),
}  # fmt: skip
REPORTS = (
    Emit(lse=True, entropy=True, top=5, scores=True),
    Emit(lse=True, entropy=True),
    Emit(entropy=True, top=40),
    Emit(),
)
CASES = list(
    zip(
        [segments for segments in SEGMENTS for _ in MASKS],
        list(MASKS) * len(SEGMENTS),
        cycle(REPORTS),
        cycle((9, 1, 9, 3, 9)),
        cycle((None, 3.0)),
        cycle((False, True, True)),
        strict=False,
    )
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("segments", "mask", "emit", "t", "softcap", "sunk"),
    everyday(CASES, 5),
    ids=[f"{s.__name__}-{m}" for s, m, *_ in CASES],
)
def test_kernels_alone_give_it(
    segments: Callable[[], KV], mask: str, emit: Emit, t: int, softcap: float | None, sunk: bool
) -> None:
    q, kv, rule = normal(1, B, H, t, D), segments(), MASKS[mask](t)
    sinks = normal(9, H) if sunk else None
    with recorded() as reports:
        out, seen = attention(q, kv, scale=0.125, mask=rule, softcap=softcap, sinks=sinks, emit=emit)
    assert len(reports) >= len(kv.chain())
    truth = oracle.attention(q, kv, scale=0.125, mask=rule, softcap=softcap, sinks=sinks)
    assert error(out, truth.out) < 2e-6
    with dispatch.forced("reference"):
        theirs, expected = attention(q, kv, scale=0.125, mask=rule, softcap=softcap, sinks=sinks, emit=emit)
    assert mx.allclose(out, theirs, atol=2e-6).item()
    for name in ("lse", "entropy", "scores", "weights"):
        ours, other = getattr(seen, name), getattr(expected, name)
        assert (ours is None) == (other is None)
        if ours is not None:
            assert mx.allclose(ours, other, atol=3e-6).item(), name
    if emit.top:
        check_top(seen, truth, emit.top)


@pytest.mark.parametrize("t", everyday([2, 20], 2))
def test_arrays_so_small_that_metal_puts_them_in_the_constant_space(t: int) -> None:
    """MLX passes inputs of fewer than 8 elements in another address space; a kernel that names one does not compile."""
    q, kv = normal(1, 1, H, t, D), cache(*rows(2, 1), 40)
    few = Mask(documents=mx.array([[0, 1, 1, 2, 2]], dtype=mx.int32))
    seen = mx.array([[[(1 << n + 1) - 1] for n in range(t)]], dtype=mx.uint32)
    for mask in (few, Mask(tree=seen)):
        with recorded() as reports:
            out = attention(q, kv, scale=0.125, mask=mask)
        assert reports
        assert error(out, oracle.attention(q, kv, scale=0.125, mask=mask).out) < 2e-6
