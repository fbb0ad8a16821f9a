"""A compiled decode step: one trace a capacity, replayed at every length, which the host does not know."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from likely.metal import dispatch, mx
from likely.metal.attention import CAUSAL, KV, AttentionReport, Emit, Mask, QuantizedRows, attention
from likely.metal.simulator import TracedFunction, simulated
from likely.metal.vocab import DrawPlan, statistics
from tests.metal import oracle
from tests.metal.build import error, normal, stored
from tests.metal.test_reference import check_top
from tests.support.everyday import everyday

Arrays = dict[str, mx.array]
EVERYTHING = Emit(lse=True, entropy=True, top=4, scores=True)
REPORTED = ("lse", "entropy", "positions", "weights", "scores")


def append(state: Arrays, keys: mx.array, values: mx.array) -> Arrays:
    """A plain cache with one more row of each of B, at the same place in all."""
    at = state["lengths"][:1]
    return state | {
        "keys": mx.slice_update(state["keys"], keys, at, (2,)),
        "values": mx.slice_update(state["values"], values, at, (2,)),
        "lengths": state["lengths"] + 1,
    }


def plain(state: Arrays) -> KV:
    return KV(state["keys"], state["values"], state["lengths"], None, cached=True)


def behind_packed_rows(state: Arrays) -> KV:
    keys, values = (
        QuantizedRows(state[f"{name}_codes"], state[f"{name}_scales"], state[f"{name}_biases"], bits=bits)
        for name, bits in (("key", 8), ("value", 4))
    )
    return replace(plain(state), prefix=KV(keys, values, state["packed"], None))


def behind_a_shared_prompt(state: Arrays) -> KV:
    return replace(plain(state), prefix=KV(state["prompt_keys"], state["prompt_values"], state["prompt"], None))


def ring(state: Arrays) -> KV:
    """Rows are where they were written, their positions what the device counts."""
    at = mx.arange(state["keys"].shape[2], dtype=mx.int32)[None]
    return replace(plain(state), positions=mx.where(at < state["lengths"][:, None], at + 100, -1))


def start(b: int, capacity: int, length: int) -> Arrays:
    packed = {
        f"{name}_{part}": getattr(stored(normal(seed, b, 2, 64, 64), bits), part)
        for name, seed, bits in (("key", 5, 8), ("value", 6, 4))
        for part in ("codes", "scales", "biases")
    }
    return packed | {
        "keys": normal(2, b, 2, capacity, 64),
        "values": normal(3, b, 2, capacity, 64),
        "lengths": mx.array([length] * b, dtype=mx.int32),
        "packed": mx.array([60] * b, dtype=mx.int32),
        "prompt_keys": normal(5, 1, 2, 64, 64),
        "prompt_values": normal(6, 1, 2, 64, 64),
        "prompt": mx.array([50], dtype=mx.int32),
    }


READS: list[tuple[Callable[[Arrays], KV], int, Mask]] = [
    (plain, 1, CAUSAL),
    (plain, 2, Mask(window=20, keep=2)),
    (behind_packed_rows, 1, CAUSAL),
    (behind_a_shared_prompt, 4, Mask(window=80)),
    (ring, 1, Mask(window=30)),
]


@pytest.mark.parametrize(
    ("by", "emit", "read", "b", "mask"),
    everyday(
        [(by, e, *read) for by in ("kernels", "stock", "reference") for e in (None, EVERYTHING) for read in READS], 7
    ),
    ids=lambda x: getattr(x, "__name__", None),
)
def test_one_trace_serves_every_length_of_a_capacity(
    read: Callable[[Arrays], KV], b: int, mask: Mask, emit: Emit | None, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By mlx's own kernel, where that was measured to be faster and takes it; else by ours, or where there is no Metal
    by the reference."""
    for rows_of_b in ("", " B=8"):
        monkeypatch.setitem(dispatch.faster, f"decode traced float32 D=64 H=4/2{rows_of_b} N=1024", by != "stock")
    kernels = by == "kernels" or (by == "stock" and (read is not plain or emit is not None))

    def step(q: mx.array, keys: mx.array, values: mx.array, state: Arrays) -> tuple[list[mx.array], Arrays]:
        state = append(state, keys, values)
        if emit is None:
            return [attention(q, read(state), scale=0.125, mask=mask)], state
        out, seen = attention(q, read(state), scale=0.125, mask=mask, emit=emit)
        return [out, *(getattr(seen, name) for name in REPORTED)], state

    compiled = TracedFunction(step)
    with simulated() if by != "reference" else nullcontext(Counter[str]()) as launches:
        for traces, capacity in ((1, 64), (2, 128)):
            state = start(b, capacity, capacity - 40)
            for n in range(capacity - 39, capacity - 35):
                q, keys, values = (normal(n + seed, b, h, 1, 64) for seed, h in ((1, 4), (2, 2), (3, 2)))
                got, state = compiled(q, keys, values, state)
                assert state["lengths"].tolist() == [n] * b
                truth = oracle.attention(q, read(state), scale=0.125, mask=mask)
                assert error(got[0], truth.out) < 2e-6
                if emit is not None:
                    assert error(got[1], truth.lse) < 3e-6
                    assert error(got[2], truth.entropy) < 3e-6
                    check_top(AttentionReport(positions=got[3], weights=got[4]), truth, emit.top)
                    assert error(got[5], truth.scores) < 3e-6
            assert compiled.traces == traces
    assert sum(launches.values()) % 8 == 0 and bool(launches) == kernels


def test_statistics_of_logits_and_a_draw_in_one_trace() -> None:
    def step(logits: mx.array, uniform: mx.array) -> list[mx.array]:
        found = statistics(logits, DrawPlan(top_k=5), uniform)
        assert found.drawn is not None
        return [found.lse, found.entropy, found.ids, found.drawn.token]

    compiled = TracedFunction(step)
    inputs = [(normal(seed, 2, 9000), mx.array([[0.2, 0.4], [0.9, 0.1]])) for seed in range(3)]
    with simulated() as launches:
        found = [compiled(*each) for each in inputs]
    assert sum(launches.values()) == 6 and compiled.traces == 1
    for got, each in zip(found, inputs, strict=True):
        for a, e in zip(got, step(*each), strict=True):
            assert mx.allclose(a, e, atol=1e-5).item()


def test_a_step_that_asks_the_host_is_refused_or_shows() -> None:
    def asks(lengths: mx.array) -> mx.array:
        return mx.zeros((lengths.item(),))  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="eval"):
        TracedFunction(asks)(mx.array(3))

    calls = iter((1.0, 2.0))
    counts = TracedFunction(lambda x: x + next(calls))
    assert [counts(mx.array(0.0)).item() for _ in range(2)] == [1.0, 1.0]
    assert np.isclose(counts(mx.array([0.0])).item(), 2.0)
