"""Operations between lanes, against numpy on the 32 values of a simdgroup."""

from collections.abc import Callable

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.simulator import SimKernel
from tests.metal.build import launched

Lanes = np.ndarray
POSITION = "uint i = thread_position_in_grid.x, lane = thread_index_in_simdgroup;"


def lanes(
    expression: str, values: np.ndarray, kind: str = "float", threads: int = 32, checked: bool = True
) -> np.ndarray:
    """The expression of `v` and `lane`, in each lane of one threadgroup."""
    body = f"{POSITION} {kind} v = x[i]; out[i] = {expression};"
    kernel = SimKernel("lanes", ["x"], ["out"], body, checked=checked)
    return np.array(launched(kernel, mx.array(values), threads=threads))


V = np.random.default_rng(0).integers(-50, 50, 32).astype(np.float32)
L = np.arange(32)


def in_quads(act: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.concatenate([np.broadcast_to(act(quad), 4) for quad in V.reshape(8, 4)])


FLOATS: dict[str, np.ndarray] = {
    "simd_sum(v)": np.full(32, V.sum()), "simd_max(v)": np.full(32, V.max()), "simd_min(v)": np.full(32, V.min()),
    "simd_product(v > 0 ? 1.5 : -1.0)": np.full(32, np.prod(np.where(V > 0, 1.5, -1.0).astype(np.float32))),
    "simd_prefix_inclusive_sum(v)": np.cumsum(V), "simd_prefix_exclusive_sum(v)": np.cumsum(V) - V,
    "simd_prefix_inclusive_product(v > 40 ? 2.0 : 1.0)": np.cumprod(np.where(V > 40, 2, 1)),
    "quad_sum(v)": in_quads(np.sum), "quad_max(v)": in_quads(np.max), "quad_min(v)": in_quads(np.min),
    "quad_prefix_inclusive_sum(v)": in_quads(np.cumsum), "simd_shuffle(v, ushort(31 - lane))": V[::-1],
    "simd_broadcast(v, ushort(7))": np.full(32, V[7]), "simd_broadcast_first(v)": np.full(32, V[0]),
    "simd_shuffle_xor(v, ushort(5))": V[L ^ 5],
    "simd_shuffle_up(v, ushort(3))": np.where(L < 3, V, V[L - 3]),
    "simd_shuffle_down(v, ushort(3))": np.where(L > 28, V, V[(L + 3) % 32]),
    "simd_shuffle_rotate_up(v, ushort(3))": np.roll(V, 3), "simd_shuffle_rotate_down(v, ushort(3))": np.roll(V, -3),
    "simd_shuffle_and_fill_up(v, -v, ushort(3))": np.where(L < 3, -V[(L - 3) % 32], V[L - 3]),
    "simd_shuffle_and_fill_down(v, -v, ushort(3))": np.where(L > 28, -V[(L + 3) % 32], V[(L + 3) % 32]),
    "quad_shuffle(v, ushort(3))": in_quads(lambda q: q[3]),
    "quad_broadcast(v, ushort(2))": in_quads(lambda q: q[2]), "quad_shuffle_xor(v, ushort(1))": V[L ^ 1],
    "quad_shuffle_up(v, ushort(1))": np.where(L % 4 == 0, V, V[L - 1]),
    "quad_shuffle_down(v, ushort(1))": np.where(L % 4 == 3, V, V[(L + 1) % 32]),
    "quad_shuffle_rotate_up(v, ushort(1))": in_quads(lambda q: np.roll(q, 1)),
    "float(ulong(simd_ballot(v > 0)) & 0xffff)": np.full(32, float(sum(1 << i for i in range(16) if V[i] > 0))),
    "float(ulong(quad_ballot(v > 0)))": in_quads(lambda q: np.array(sum(1 << i for i in range(4) if q[i] > 0))),
    "simd_any(v > 48) ? 1.0 : 0.0": np.full(32, float((V > 48).any())),
    "simd_all(v > -60) ? 1.0 : 0.0": np.ones(32),
    "quad_all(v > 0) ? 1.0 : 0.0": in_quads(lambda q: np.array(float((q > 0).all()))),
    "quad_any(v > 0) ? 1.0 : 0.0": in_quads(lambda q: np.array(float((q > 0).any()))),
    "simd_is_first() ? 1.0 : 0.0": (L == 0).astype(float), "simd_sum(float2(v, 1.0)).y": np.full(32, 32.0),
    "simd_shuffle_xor(float4(v), ushort(16)).w": V[L ^ 16],
}  # fmt: skip


@pytest.mark.parametrize("expression", FLOATS)
def test_float(expression: str) -> None:
    np.testing.assert_array_equal(lanes(expression, V), FLOATS[expression].astype(np.float32))


INTEGERS = np.random.default_rng(1).integers(0, 1 << 31, 32).astype(np.uint32)


@pytest.mark.parametrize(("name", "act"), [("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)])
def test_bits(name: str, act: np.ufunc) -> None:
    np.testing.assert_array_equal(lanes(f"simd_{name}(v)", INTEGERS, "uint"), np.full(32, act.reduce(INTEGERS)))


def test_lanes_that_have_returned_take_no_part() -> None:
    body = (
        f"{POSITION} out[i] = -1; if (lane % 3 == 0) return; out[i] = simd_sum(x[i]) + simd_prefix_inclusive_sum(x[i]);"
    )
    kernel = SimKernel("returned", ["x"], ["out"], body, checked=True)
    out = launched(kernel, mx.array(V))
    left = np.where(L % 3, V, 0)
    np.testing.assert_array_equal(np.array(out), np.where(L % 3, left.sum() + np.cumsum(left), -1))


def test_a_loop_that_lanes_leave_at_different_times() -> None:
    """Lanes that have left wait behind the loop, and join the others there."""
    body = (
        f"{POSITION} float s = 0; for (uint r = 0; r < lane / 8; r++) s += simd_sum(1.0); out[i] = s + simd_sum(x[i]);"
    )
    kernel = SimKernel("loop", ["x"], ["out"], body)
    out = launched(kernel, mx.array(V))
    loops = np.array([0.0, 24.0, 24.0 + 16.0, 24.0 + 16.0 + 8.0])[L // 8]
    np.testing.assert_array_equal(np.array(out), loops + V.sum())


def test_the_last_simdgroup_of_a_ragged_threadgroup() -> None:
    """40 lanes: a simdgroup of 32 and one of 8, whose sums see their own lanes only."""
    values = np.arange(40, dtype=np.float32)
    out = lanes("simd_sum(v)", values, threads=40)
    np.testing.assert_array_equal(out, np.where(np.arange(40) < 32, values[:32].sum(), values[32:].sum()))


def test_reductions_round_like_a_butterfly() -> None:
    """half: each of the five additions rounds."""
    values = np.random.default_rng(2).normal(size=32).astype(np.float16) * 30
    tree = values.copy()
    for distance in (16, 8, 4, 2, 1):
        tree = (tree + tree[np.arange(32) ^ distance]).astype(np.float16)
    assert lanes("simd_sum(v)", values, "half")[0] == tree[0]


def test_operations_are_counted_once_a_simdgroup_as_the_shuffles_they_are_made_of() -> None:
    body = f"""{POSITION}
      out[i] = simd_sum(x[i]) + quad_sum(x[i]) + simd_shuffle(x[i], ushort(0)) + quad_shuffle(x[i], ushort(0));
      threadgroup_barrier(mem_flags::mem_threadgroup);
      out[i] += metal::exp(x[i]);
    """
    kernel = SimKernel("counted", ["x"], ["out"], body, checked=True)
    launched(kernel, mx.ones((64,)))
    assert kernel.report is not None
    found = {name: count for name, count in kernel.report.counts.items() if count}
    once = ("simd_reductions", "quad_reductions", "simd_shuffles", "quad_shuffles")
    assert [found[name] for name in once] == [2] * 4 and kernel.report.shuffle_steps == 2 * (5 + 2 + 1 + 1)
    assert found["exponentials"] == 64 and found["barriers"] == 2


def test_matrix_product() -> None:
    a, b, c = (np.random.default_rng(n).normal(size=(8, 8)).astype(np.float32) for n in range(3))
    body = """
      simdgroup_float8x8 p, q, r;
      simdgroup_load(p, a, 8);
      simdgroup_load(q, b, 8, ulong2(0, 0), true);
      simdgroup_load(r, c, 8);
      simdgroup_multiply_accumulate(r, p, q, r);
      simdgroup_store(r, out, 16, ulong2(4, 1));
    """
    kernel = SimKernel("product", ["a", "b", "c"], ["out"], body, "#include <metal_simdgroup_matrix>\n", checked=True)
    out = launched(kernel, *map(mx.array, (a, b, c)), threads=32, output_shapes=[(9, 16)], init_value=0)
    expected = np.zeros((9, 16))
    expected[1:, 4:12] = a.astype(float) @ b.T.astype(float) + c
    np.testing.assert_allclose(np.array(out), expected, atol=2e-6)
    assert kernel.report is not None and kernel.report.counts["matrix_products"] == 1


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_matrix_product_of_a_narrow_type_adds_in_float(dtype: mx.Dtype) -> None:
    a, b = (mx.random.normal((8, 8), key=mx.random.key(n)).astype(dtype) for n in range(2))
    body = """
      simdgroup_matrix<T, 8, 8> p, q;
      simdgroup_matrix<float, 8, 8> r = make_filled_simdgroup_matrix<float, 8, 8>(0.0);
      simdgroup_load(p, a, 8);
      simdgroup_load(q, b, 8);
      simdgroup_multiply_accumulate(r, p, q, r);
      simdgroup_store(r, out, 8);
    """
    kernel = SimKernel("narrow", ["a", "b"], ["out"], body, checked=True)
    more = {"template": [("T", dtype)], "output_shapes": [(8, 8)], "output_dtypes": [mx.float32]}
    out = launched(kernel, a, b, threads=32, **more)
    expected = np.array(a.astype(mx.float32)).astype(float) @ np.array(b.astype(mx.float32)).astype(float)
    np.testing.assert_allclose(np.array(out), expected, atol=2e-6)
