"""The decode kernel in the simulator: checked, strictly typed, against float64 and beside MLX's own kernel."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from likely.metal import metal_attention, mx
from likely.metal.attention import CAUSAL, FULL, KV, Emit, Mask, QuantizedRows, attention
from likely.metal.metal_attention import Geometry
from likely.metal.simulator import simulated
from tests.metal import oracle
from tests.metal.build import cache, each, error, metal, normal, recorded, rejects, stored
from tests.metal.test_reference import check_top
from tests.support.everyday import everyday

DTYPES = (mx.float32, mx.float16, mx.bfloat16)
EVERYTHING = Emit(lse=True, entropy=True, top=5, scores=True)
BOUND = {mx.float32: 2e-6, mx.float16: 2e-3, mx.bfloat16: 1.6e-2}


def launch(q: mx.array, kv: KV, *, checked: bool = True, **options: Any) -> tuple[mx.array, Any]:
    options = {"scale": q.shape[-1] ** -0.5, "mask": CAUSAL} | options
    with recorded() if checked else simulated():
        return metal_attention.attention(q, kv, **options)


def verify(q: mx.array, kv: KV, *, emit: Emit = EVERYTHING, geometry: Geometry | None = None, **options: Any) -> None:
    out, seen = launch(q, kv, emit=emit, geometry=geometry, **options)
    options = {"scale": q.shape[-1] ** -0.5, "mask": CAUSAL} | options
    truth = oracle.attention(q, kv, **options)
    assert out.dtype == q.dtype
    assert error(out, truth.out) < BOUND[q.dtype]
    if emit.lse:
        assert error(seen.lse, truth.lse) < 3e-6
        assert error(seen.entropy, truth.entropy) < 3e-6
    if emit.scores:
        ends = np.cumsum([0] + [part.capacity for part in kv.chain()])
        rows = [np.arange(end, end + (part.length or 0)) for end, part in zip(ends, kv.chain(), strict=False)]
        assert error(seen.scores, truth.scores[..., np.concatenate(rows)]) < 3e-6
    if emit.top:
        check_top(seen, truth, emit.top)


# (head size, dtype, bits of K, bits of V, group size, query heads of one key/value head)
SHAPES = [
    *[(d, dtype, 16, 16, 64, g) for d, dtype, g in each((64, 80, 96, 128, 256), DTYPES, (1, 2, 3, 4, 5, 7, 8))],
    (64, mx.float32, 8, 8, 64, 4),
    (64, mx.bfloat16, 4, 8, 32, 3),
    (96, mx.float16, 8, 4, 32, 4),
    (128, mx.float32, 4, 4, 128, 2),
    (128, mx.bfloat16, 8, 16, 64, 4),
    (256, mx.float16, 16, 4, 64, 2),
    (256, mx.float32, 8, 8, 32, 1),
]


@pytest.mark.parametrize(("d", "dtype", "k_bits", "v_bits", "group_size", "g"), everyday(SHAPES, 4))
def test_every_head_size_dtype_and_format(
    d: int, dtype: mx.Dtype, k_bits: int, v_bits: int, group_size: int, g: int
) -> None:
    q = normal(1, 1, 2 * g, 1, d, dtype=dtype)
    keys = stored(normal(2, 1, 2, 96, d, dtype=dtype), k_bits, group_size)
    values = stored(normal(3, 1, 2, 96, d, dtype=dtype), v_bits, group_size)
    verify(q, cache(keys, values, 83), geometry=Geometry(splits=2))


@pytest.mark.slow
@pytest.mark.parametrize("n", everyday([65, 1, 2, 31, 63, 64, 200], 4))
def test_any_length_in_any_number_of_splits(n: int) -> None:
    q, k, v = normal(1, 1, 4, 1, 64), normal(2, 1, 2, 256, 64), normal(3, 1, 2, 256, 64)
    for splits in (1, 3, 32):
        verify(q, cache(k, v, n), geometry=Geometry(splits=splits))


MASKS = (Mask(window=20), Mask(window=20, keep=4), Mask(window=1), Mask(prefix=58), Mask(block=8), FULL)


@pytest.mark.parametrize("mask", everyday(MASKS, 3), ids=str)
def test_masks_softcap_and_sinks_on_several_queries(mask: Mask) -> None:
    q, k, v = normal(1, 2, 6, 3, 64), normal(2, 2, 2, 64, 64), normal(3, 2, 2, 64, 64)
    kv = cache(k, v, 61, 30)
    verify(q, kv, mask=mask, sinks=normal(4, 6), softcap=2.0)
    verify(q, kv, mask=mask, emit=Emit())


@pytest.mark.parametrize("top", everyday([17, 16, 64, 300], 4))
def test_eight_queries_and_any_number_of_positions(top: int) -> None:
    q, k, v = normal(1, 1, 2, 8, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    verify(q, cache(k, v, 50), emit=Emit(lse=True, entropy=True, top=top))


def test_ring_rows_are_placed_by_their_positions() -> None:
    positions = np.full((1, 64), -1, dtype=np.int32)
    positions[0, :50] = np.roll(np.arange(70, 120), 17)
    q, k, v = normal(1, 1, 4, 2, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    kv = cache(k, v, 50, positions=mx.array(positions))
    for mask in (CAUSAL, Mask(window=20), Mask(window=20, keep=75)):
        verify(q, kv, mask=mask)


def test_recent_exact_rows_behind_quantised_ones() -> None:
    past = [stored(normal(seed, 1, 2, 64, 64), bits) for seed, bits in ((5, 8), (6, 4))]
    q, k, v = normal(1, 1, 4, 1, 64), normal(2, 1, 2, 32, 64), normal(3, 1, 2, 32, 64)
    kv = cache(k, v, 9, prefix=cache(past[0], past[1], 60))
    verify(q, kv)
    verify(q, kv, mask=Mask(window=30), sinks=normal(4, 4))


def test_two_samples_of_one_prompt_and_what_they_attend_to() -> None:
    q, k, v = normal(1, 2, 4, 1, 64), normal(2, 2, 2, 32, 64), normal(3, 2, 2, 32, 64)
    verify(q, cache(k, v, 9, 4, prefix=cache(normal(5, 1, 2, 64, 64), normal(6, 1, 2, 64, 64), 60)))


@pytest.mark.parametrize("splits", [1, 2])
def test_a_row_that_sees_nothing_gets_zeros(splits: int) -> None:
    q, k, v = normal(1, 1, 2, 1, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    ring = cache(k, v, 3, positions=mx.array(np.array([[9, 2, 1] + [-1] * 61], dtype=np.int32)))
    empty = KV(ring.keys, ring.values, mx.array([0], dtype=mx.int32), 3, positions=ring.positions)
    out, seen = launch(q, empty, emit=EVERYTHING, geometry=Geometry(splits=splits))
    assert mx.all(out == 0).item()
    assert mx.all(seen.lse == -mx.inf).item()
    assert mx.all(seen.entropy == 0).item()
    assert mx.all(seen.positions == -1).item()
    assert mx.all(seen.weights == 0).item()
    assert mx.all(seen.scores == -mx.inf).item()


def test_one_compiled_variant_serves_every_length() -> None:
    q, k, v = normal(1, 1, 4, 1, 64), normal(2, 1, 2, 256, 64), normal(3, 1, 2, 256, 64)
    with metal() as machine:
        for n in (1, 100, 256):
            metal_attention.attention(q, cache(k, v, n), scale=0.1, mask=CAUSAL)
    assert len(machine.variants) == 2 and machine.launches.total() == 6  # decode and merge


@pytest.mark.parametrize(
    ("h", "heads", "n", "d", "bits", "parts"),
    [(1, 1, 1023, 64, 16, 1), (1, 1, 1024, 64, 16, 2), (1, 1, 16384, 64, 16, 32), (8, 1, 4096, 64, 16, 8),
     (15, 1, 4096, 64, 16, 5), (8, 1, 8192, 128, 16, 16), (8, 1, 8192, 128, 8, 10), (8, 1, 8192, 128, 4, 5)],
)  # fmt: skip
def test_keys_are_cut_into_as_many_parts_as_fill_a_chip_and_cost_a_twenty_fifth(
    h: int, heads: int, n: int, d: int, bits: int, parts: int
) -> None:
    """A part's state is written and read: d + 4 float32 a query row."""
    q, k = normal(1, 1, h, 1, d, dtype=mx.bfloat16), normal(2, 1, heads, n, d, dtype=mx.bfloat16)
    rows = stored(k, bits)
    with recorded() as reports:
        metal_attention.attention(q, cache(rows, rows, 9), scale=0.1, mask=CAUSAL)
    found = reports[0].traffic["partial"].size // (4 * h * d)
    assert found == parts
    assert parts == 1 or 2 * parts * h * 4 * (d + 4) <= 0.04 * 2 * rows.nbytes
    assert parts == min(32, n // 512) or 2 * (parts + 1) * h * 4 * (d + 4) > 0.04 * 2 * rows.nbytes


def test_caches_are_passed_whole_and_inputs_stay_as_they_were() -> None:
    q, k, v = normal(1, 1, 4, 1, 64), normal(2, 1, 2, 256, 64), normal(3, 1, 2, 256, 64)
    copies = [np.array(x) for x in (q, k, v)]
    with recorded() as reports:
        metal_attention.attention(q, cache(k, v, 10), scale=0.1, mask=CAUSAL)
    assert reports[0].traffic["keys"].size == k.nbytes
    assert reports[0].traffic["keys"].distinct == 10 * 2 * 64 * 4
    for x, copy in zip((q, k, v), copies, strict=True):
        assert np.array_equal(np.array(x), copy)


def test_what_the_kernels_cannot_take_is_named() -> None:
    for d in (48, 63, 65, 72, 112, 512):
        rows = normal(2, 1, 2, 64, d)
        rejects(lambda d=d, rows=rows: launch(normal(1, 1, 4, 1, d), cache(rows, rows, 9)), "head size", f"got {d}")
    packed = stored(normal(2, 1, 2, 64, 128), 8, 128)
    assert isinstance(packed, QuantizedRows)
    halved = replace(packed, codes=packed.codes[..., :16])
    rejects(lambda: launch(normal(1, 1, 4, 1, 64), cache(halved, halved, 9)), "keys.group_size", "64", "128")


def test_packed_rows_too_few_for_device_memory_go_another_way() -> None:
    """MLX hands fewer than 8 scales over as `constant`, which a function that takes `device` does not compile with."""
    q, rows = normal(1, 1, 2, 1, 64), normal(2, 1, 1, 7, 64)
    few = cache(stored(rows, 8), stored(rows, 8), 7)
    rejects(lambda: launch(q, few), "keys.scales", "8 or more, got 7")
    truth = oracle.attention(q, few, scale=0.1, mask=CAUSAL).out
    with recorded() as reports:
        assert error(attention(q, few, scale=0.1), truth) < 2e-6
        assert not reports
        enough = cache(*[stored(normal(2, 1, 1, 8, 64), 8)] * 2, 7)
        attention(q, enough, scale=0.1)
        assert reports


@pytest.mark.parametrize("t", [1, 20])
@pytest.mark.parametrize("splits", [1, 2])
def test_a_sink_that_draws_nothing_leaves_the_entropy_finite(t: int, splits: int) -> None:
    q, k, v = normal(1, 1, 4, t, 64), normal(2, 1, 2, 64, 64), normal(3, 1, 2, 64, 64)
    sums = Emit(lse=True, entropy=True)
    sinks = mx.array([-mx.inf, 0.5, -300.0, -20.0])  # exp(-300) is 0 in float32
    verify(q, cache(k, v, 50), emit=sums, sinks=sinks, geometry=Geometry(splits=splits))
