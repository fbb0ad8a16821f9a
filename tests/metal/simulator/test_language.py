"""The language: vectors, rounding, literals, mathematics, atomics, positions, and what MLX adds about arrays."""

from typing import Any

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.errors import KernelError
from likely.metal.simulator import SimFunction, SimKernel
from tests.metal.build import launched


def call(
    body: str,
    *inputs: mx.array,
    count: int = 0,
    dtype: mx.Dtype = mx.float32,
    header: str = "",
    threads: int = 1,
    checked: bool = True,
    **options: Any,
) -> np.ndarray:
    """Run a body with inputs a, b, c and one output `out` of `count` elements; bfloat16 comes back as float32."""
    names = ["a", "b", "c"][: len(inputs)]
    construct = {k: options.pop(k) for k in ("ensure_row_contiguous", "atomic_outputs") if k in options}
    kernel = SimKernel("language", names, ["out"], body, header, checked=checked, **construct)
    size = count or max(threads, 1)
    options = {"grid": (threads, 1, 1), "threadgroup": (min(threads, 64), 1, 1)} | options
    (out,) = kernel(inputs=list(inputs), output_shapes=[(size,)], output_dtypes=[dtype], **options)
    return np.array(out.astype(mx.float32) if dtype == mx.bfloat16 else out)


FIVE = mx.arange(1, 17, dtype=mx.float32)
VECTORS = {
    "float4 v = float4(1, 2, 3, 4); out[0] = v.x; out[1] = v[1]; out[2] = v.b; out[3] = v.w;": [1, 2, 3, 4],
    "float4 v = float4(float2(1, 2), 3, 4); float2 w = v.zw; out[0] = w.x; out[1] = w.y;": [3, 4],
    "float3 v = float3(7); v.xz = float2(1, 2); out[0] = v.x; out[1] = v.y; out[2] = v.z;": [1, 7, 2],
    "float4 v = vec<float, 4>(int4(1, 2, 3, 4)); v = v.wzyx * 2; out[0] = v.x; out[1] = v.w;": [8, 2],
    "half4 h = half4(float4(1, 2, 3, 4)); out[0] = float(dot(h, h));": [30],
    "using V = vec<float, 2>; V v = V(3, 4); out[0] = length(v); out[1] = dot(v, v);": [5, 25],
    "float4 v = *(const device float4*)(a + 4); out[0] = v.x + v.w;": [13],
    "packed_float3 p = ((const device packed_float3*)a)[1]; float3 v = p; out[0] = v.x; out[1] = v.z;": [4, 6],
    "float4 v = select(float4(1), float4(2), float4(1, 2, 3, 4) > 2); out[0] = v.x; out[1] = v.z;": [1, 2],
    "float4 v; v.x = a[0]; v.yz = float2(a[1]); v.w = 4; threadgroup float4 s; s = v; out[0] = s.x + s.z + s.w;": [7],
    "bool3 v = bool3(a[0] > 0, false, a[1] > 5); for (int i = 0; i < 3; i++) out[i] = v[i] ? 1 : 0;": [1, 0, 0],
    "out[0] = all(float2(1, 2) > 0) ? 1 : 0; out[1] = any(int2(0, 0) != 0) ? 1 : 0;": [1, 0],
    "int2 v = static_cast<int2>(float2(2.7, -2.7)); out[0] = v.x; out[1] = v.y;": [2, -2],
    "out[0] = as_type<float>(0x40490fdbu); out[1] = float(as_type<ushort>(half(1.0)));": [np.float32(np.pi), 0x3C00],
    "ushort4 v = as_type<ushort4>(ulong(0x0004000300020001)); out[0] = v.x; out[1] = v.w;": [1, 4],
    "uchar4 v = as_type<uchar4>(0x04030201u); out[0] = v.x; out[1] = v.w; out[2] = sizeof(float3);": [1, 4, 16],
    "float4 v = clamp(float4(-1, 0.5, 2, 3), 0.0, 1.0); out[0] = v.x; out[1] = v.y; out[2] = v.z;": [0, 0.5, 1],
    "out[0] = fma(2.0, 3.0, 4.0); out[1] = mix(1.0, 3.0, 0.5); out[2] = sign(-3.0);": [10, 2, -1],
    "out[0] = popcount(255u); out[1] = clz(1u); out[2] = ctz(8u); out[3] = mulhi(1u << 31, 4u);": [8, 31, 3, 2],
    "out[0] = extract_bits(0xabcdu, 4, 8); out[1] = rotate(1u, 33u); out[2] = max3(1, 7, 3);": [0xBC, 2, 7],
    "out[0] = isnan(NAN) ? 1 : 0; out[1] = isinf(-INFINITY) ? 1 : 0; out[2] = FLT_MAX > 1e38 ? 1 : 0;": [1, 1, 1],
    "out[0] = numeric_limits<half>::max(); out[1] = Limits<int8_t>::min; out[2] = Limits<float>::max;": [
        *(65504, -128, np.inf)
    ],
}


@pytest.mark.parametrize("body", VECTORS)
def test_vectors_and_functions(body: str) -> None:
    expected = np.array(VECTORS[body], np.float32)
    np.testing.assert_array_equal(call(body, FIVE, count=expected.size), expected)


def test_literals_without_suffix_are_float() -> None:
    """0.1 + 0.2 in double and rounded once is another number than in float."""
    expected = np.float32(0.1) * np.float32(3) - np.float32(0.3)
    assert call("float x = a[0] * 0.1; out[0] = x * 3 - 0.3;", mx.ones(1))[0] == expected
    assert call("out[0] = float(0.1h) + float(1.5bf);", mx.ones(1))[0] == np.float32(np.float16(0.1)) + np.float32(1.5)


def bf16(x: np.ndarray) -> np.ndarray:
    """Rounded to bfloat16, to nearest even, as float32."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(("dtype", "to"), [(mx.float16, lambda x: x.astype(np.float16)), (mx.bfloat16, bf16)])
def test_each_operation_of_a_narrow_type_rounds(dtype: mx.Dtype, to: Any) -> None:
    x, y, z = (mx.random.normal((64,), key=mx.random.key(n)).astype(dtype) for n in range(3))
    got = call("uint i = thread_position_in_grid.x; out[i] = a[i] * b[i] + c[i];", x, y, z, threads=64, dtype=dtype)
    fx, fy, fz = (to(np.array(v.astype(mx.float32))).astype(np.float32) for v in (x, y, z))
    expected = to(to(fx * fy).astype(np.float32) + fz).astype(np.float32)
    np.testing.assert_array_equal(got.astype(np.float32), expected)
    assert (expected != to(fx * fy + fz).astype(np.float32)).any(), "the case must tell one rounding from two"


MATH = {
    "exp": np.exp, "exp2": np.exp2, "log": lambda x: np.log(np.abs(x) + 0.1),
    "log2": lambda x: np.log2(np.abs(x) + 0.1), "sqrt": lambda x: np.sqrt(np.abs(x) + 0.1),
    "rsqrt": lambda x: 1 / np.sqrt(np.abs(x) + 0.1), "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
    "floor": np.floor, "rint": np.rint, "fabs": np.abs, "atan": np.arctan, "sinh": np.sinh,
}  # fmt: skip


@pytest.mark.parametrize("space", ["metal", "fast", "precise"])
def test_mathematics(space: str) -> None:
    x = np.linspace(-4, 4, 64).astype(np.float32)
    lines = []
    for n, name in enumerate(MATH):
        positive = name in ("log", "log2", "sqrt", "rsqrt")
        lines.append(f"out[{n} * 64 + i] = {space}::{name}({'fabs(v) + 0.1' if positive else 'v'});")
    body = "uint i = thread_position_in_grid.x; float v = a[i];" + "".join(lines)
    got = call(body, mx.array(x), threads=64, count=64 * len(MATH)).reshape(len(MATH), 64)
    for row, (name, act) in zip(got, MATH.items(), strict=True):
        np.testing.assert_allclose(row, act(x.astype(float)), rtol=4e-7, atol=2e-7, err_msg=name)


def test_positions() -> None:
    """Every attribute, on a grid that is no multiple of the threadgroup: the edge groups are smaller."""
    body = """
      uint3 p = thread_position_in_grid, t = thread_position_in_threadgroup, g = threadgroup_position_in_grid;
      uint3 n = threads_per_threadgroup, all = threads_per_grid, groups = threadgroups_per_grid;
      uint at = (p.z * all.y + p.y) * all.x + p.x;
      device int* o = out + at * 8;
      o[0] = g.x * 100 + t.x; o[1] = g.y * 100 + t.y; o[2] = n.x * 100 + n.y;
      o[3] = groups.x * 100 + groups.y; o[4] = thread_index_in_threadgroup; o[5] = simdgroup_index_in_threadgroup;
      o[6] = thread_index_in_simdgroup; o[7] = simdgroups_per_threadgroup;
    """
    got = call(body, mx.ones(1), grid=(10, 14, 2), threadgroup=(4, 12, 1), count=10 * 14 * 2 * 8, dtype=mx.int32)
    got = got.reshape(2, 14, 10, 8)
    for z, y, x in np.ndindex(2, 14, 10):
        gx, tx, gy, ty = x // 4, x % 4, y // 12, y % 12
        nx, ny = min(4, 10 - gx * 4), min(12, 14 - gy * 12)
        index = ty * nx + tx
        expected = [gx * 100 + tx, gy * 100 + ty, nx * 100 + ny, 302, index, index // 32, index % 32, -(-nx * ny // 32)]
        assert list(got[z, y, x]) == expected


def test_atomics() -> None:
    body = """
      uint i = thread_position_in_grid.x;
      threadgroup atomic_uint n;
      if (thread_position_in_threadgroup.x == 0) atomic_store_explicit(&n, 0u, memory_order_relaxed);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      atomic_fetch_add_explicit(&n, uint(a[i]), memory_order_relaxed);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (thread_position_in_threadgroup.x == 0)
        atomic_fetch_add_explicit(&out[0], float(atomic_load_explicit(&n, memory_order_relaxed)), memory_order_relaxed);
      atomic_fetch_add_explicit(&out[1], a[i], memory_order_relaxed);
    """
    x = mx.arange(256, dtype=mx.float32)
    got = call(body, x, threads=256, count=2, atomic_outputs=True, init_value=0)
    np.testing.assert_array_equal(got, [255 * 128, 255 * 128])


def test_shape_strides_and_ndim_of_an_array_that_is_not_contiguous() -> None:
    x = mx.random.normal((6, 8))
    body = """
      uint i = thread_position_in_grid.x;
      out[i] = a[elem_to_loc(i, a_shape, a_strides, a_ndim)] * 2;
    """
    for view in (x, x.T, x[::2], x[:, 1:5]):
        got = call(body, view, threads=view.size, ensure_row_contiguous=False)
        np.testing.assert_array_equal(got, np.array(view).ravel() * 2)
    got = call("uint i = thread_position_in_grid.x; out[i] = a[i];", x.T, threads=48)
    np.testing.assert_array_equal(got, np.array(x).T.ravel())


def test_templates_scalars_and_every_dtype() -> None:
    """A scalar becomes a reference, an array of fewer than 8 elements constant memory, as in the text MLX generates."""
    body = "out[0] = T(a) + T(b[0]) + (F ? T(N) : T(0));"
    types = (mx.int8, mx.uint8, mx.int16, mx.uint16, mx.int32, mx.uint32, mx.int64, mx.uint64)
    for dtype in (*types, mx.float32, mx.float16, mx.bfloat16):
        template = [("T", dtype), ("N", 5), ("F", True)]
        got = call(body, mx.array(2), mx.array([3.0, 4.0]).astype(dtype), template=template, dtype=dtype)
        assert got[0] == 10, dtype


def test_an_output_starts_as_init_value_or_as_nan() -> None:
    assert call("if (a[0] > 5) out[0] = 1;", mx.ones(1), init_value=7.0)[0] == 7
    assert np.isnan(call("if (a[0] > 5) out[0] = 1;", mx.ones(1), checked=False)[0])


def test_headers_and_line_directives() -> None:
    header = '#line 40 "metal/kernels/shared.h"\ntemplate <typename T>\nT twice(T x) { return x @ 2; }\n'
    assert call("out[0] = twice(a[0]);", mx.ones(1), header=header.replace("@", "*"))[0] == 2
    with pytest.raises(KernelError, match=r"metal/kernels/shared\.h:41:"):
        call("out[0] = twice(a[0]);", mx.ones(1), header=header.replace("@", "* + nothing"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (0, 1, 1)}, "grid: expected three whole numbers >= 1, got"),
        ({"grid": (1, 1)}, "grid: expected three"),
        ({"grid": (1 << 32, 1, 1)}, "grid: expected three"),
        ({"grid": (1, 1, 1.0)}, "grid: expected three"),
        ({"threadgroup": (1, 0, 1)}, "threadgroup: expected three"),
        ({"threadgroup": (16, 16, 5)}, r"expected at most 1024 threads, got \(16, 16, 5\) = 1280"),
    ],
)
def test_a_launch_that_metal_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(KernelError, match=message):
        call("out[0] = a[0];", mx.ones(1), **options)


def test_a_function_takes_its_buffers_by_name() -> None:
    source = "kernel void k(device float* t, constant int& n, uint i [[thread_position_in_grid]]) { t[i] = t[i] + n; }"
    out = np.ones(4, np.float32)
    made = SimFunction(source, "k", checked=True)
    report = made({"n": 3}, {"t": out}, grid=(4, 1, 1), threadgroup=(4, 1, 1), initialised=True)
    assert out.tolist() == [4.0] * 4 and report is not None and report.kernel == "k"
    with pytest.raises(KernelError, match=r"kernel 'k': expected some of \['n', 't'\], got \['x'\]"):
        made({"x": 1}, {}, grid=(1, 1, 1), threadgroup=(1, 1, 1))


def test_wrong_number_of_inputs() -> None:
    kernel = SimKernel("two", ["a", "b"], ["out"], "out[0] = a[0] + b[0];")
    with pytest.raises(KernelError, match="expected 2 inputs, got 1"):
        launched(kernel, mx.ones(1))


def test_threadgroup_memory_starts_as_nan_in_every_threadgroup() -> None:
    body = """
      uint i = thread_position_in_grid.x;
      threadgroup float s[64];
      out[i] = s[thread_position_in_threadgroup.x];
      s[thread_position_in_threadgroup.x] = a[0];
    """
    for _ in range(2):  # a second dispatch of the same library must not find what the first left
        assert np.isnan(call(body, mx.ones(1), threads=192, checked=False)).all()
