"""MLX's own kernels, run in the simulator with the geometry of its C++ code: what ours are measured against.

The sources are the headers of the installed mlx package. Everything is in the layout of `mx.fast`: q [B, H, L, D],
k and v [B, Hkv, T, D]. Each function returns its outputs and, when `checked`, the report of each dispatch.
"""

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from likely.metal import mx
from likely.metal.simulator.arrays import device, empty, host
from likely.metal.simulator.function import SimFunction
from likely.metal.simulator.report import DispatchReport

HEADERS = "mlx/backend/metal/kernels/"
NAMES = {mx.float32: "float", mx.float16: "half", mx.bfloat16: "bfloat16_t"}


@cache
def function(
    headers: str, call: str, constants: tuple[tuple[int, str], ...] = (), *, checked: bool = False
) -> SimFunction:
    """A kernel of MLX's headers (names below kernels/, with spaces between), by the name C++ would call it with."""
    source = "".join(f'#include "{HEADERS}{header}"\n' for header in headers.split())
    return SimFunction(source, call, dict(constants), checked=checked)


def _int(value: int) -> np.ndarray[Any, Any]:
    return np.array(value, np.int32)


def _long(value: int) -> np.ndarray[Any, Any]:
    return np.array(value, np.int64)


def _strides(k: mx.array, v: mx.array) -> dict[str, Any]:
    """The strides of contiguous keys and values, in elements."""
    tokens = k.shape[2]
    return {
        "k_head_stride": _long(tokens * k.shape[3]),
        "k_seq_stride": _long(k.shape[3]),
        "v_head_stride": _long(tokens * v.shape[3]),
        "v_seq_stride": _long(v.shape[3]),
    }


def _masked(mask: mx.array | str | None, sinks: mx.array | None) -> tuple[dict[int, str], dict[str, Any]]:
    """Function constants and arguments of the vector kernels for a mask [B, H, L, T] and sinks [H]."""
    constants = {21: "false", 22: str(mask == "causal").lower(), 25: str(sinks is not None).lower()}
    arguments: dict[str, Any] = {}
    if isinstance(mask, mx.array):
        constants |= {20: "true", 23: str(mask.dtype == mx.bool_).lower(), 24: str(mask.dtype != mx.bool_).lower()}
        arguments = {
            "bmask" if mask.dtype == mx.bool_ else "fmask": host(mask),
            "mask_kv_seq_stride": _int(1),
            "mask_q_seq_stride": _int(mask.shape[3]),
            "mask_head_stride": _int(mask.shape[2] * mask.shape[3]),
        }
    if sinks is not None:
        arguments["sinks"] = host(sinks)
    return constants, arguments


def sdpa_vector(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float,
    *,
    mask: mx.array | str | None = None,
    sinks: mx.array | None = None,
    checked: bool = False,
) -> tuple[mx.array, list[DispatchReport]]:
    """Attention of few queries in one pass: `sdpa_vector`. Output [B, H, L, D]."""
    (batch, heads, length, width), (_, kv_heads, tokens, _) = q.shape, k.shape
    constants, extra = _masked(mask, sinks)
    call = f"sdpa_vector<{NAMES[q.dtype]}, {width}, {v.shape[3]}>"
    kernel = function("sdpa_vector.h", call, tuple(constants.items()), checked=checked)
    inputs = {"queries": host(q), "keys": host(k), "values": host(v), **_strides(k, v), **extra}
    inputs |= {"gqa_factor": _int(heads // kv_heads), "N": _int(tokens), "scale": np.array(scale, np.float32)}
    if sinks is not None:
        inputs["num_q_heads"] = _int(heads)
    out = empty((batch, heads, length, v.shape[3]), q.dtype)
    grid = (batch * heads * 1024, length, 1)
    report = kernel(inputs, {"out": out}, grid=grid, threadgroup=(1024, 1, 1))
    return device(out, q.dtype), _present(report)


def sdpa_vector_2pass(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float,
    *,
    blocks: int = 32,
    mask: mx.array | str | None = None,
    sinks: mx.array | None = None,
    checked: bool = False,
) -> tuple[mx.array, list[DispatchReport]]:
    """Attention of few queries over `blocks` (a multiple of 32) parts of the keys, merged. Output [B, H, L, D]."""
    (batch, heads, length, width), (_, kv_heads, tokens, _) = q.shape, k.shape
    constants, extra = _masked(mask, sinks)
    constants[26] = str(blocks)
    call = f"sdpa_vector_2pass_1<{NAMES[q.dtype]}, {width}, {v.shape[3]}>"
    first = function("sdpa_vector.h", call, tuple(constants.items()), checked=checked)
    inputs = {"queries": host(q), "keys": host(k), "values": host(v), **_strides(k, v), **extra}
    inputs |= {"N": _int(tokens), "scale": np.array(scale, np.float32)}
    partials = empty((batch, heads, length, blocks, v.shape[3]), q.dtype)
    sums, maxs = (empty((batch, heads, length, blocks), mx.float32) for _ in range(2))
    gqa = heads // kv_heads
    outputs = {"out": partials, "sums": sums, "maxs": maxs}
    grid = (32 * kv_heads, gqa * batch, length * blocks)
    reports = _present(first(inputs, outputs, grid=grid, threadgroup=(32, gqa, length)))
    second = function("sdpa_vector.h", f"sdpa_vector_2pass_2<{NAMES[q.dtype]}, {v.shape[3]}>", checked=checked)
    out = empty((batch, heads, length, v.shape[3]), q.dtype)
    inputs = {"partials": partials, "sums": sums, "maxs": maxs, "blocks": _int(blocks)}
    grid = (batch * heads * 1024, length, 1)
    reports += _present(second(inputs, {"out": out}, grid=grid, threadgroup=(1024, 1, 1)))
    return device(out, q.dtype), reports


def steel_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float,
    *,
    causal: bool = False,
    mask: mx.array | None = None,
    sinks: mx.array | None = None,
    checked: bool = False,
) -> tuple[mx.array, list[DispatchReport]]:
    """Tiled attention of many queries: steel `attention`; a mask is [B, H, L, T], bool or of q's dtype."""
    (batch, heads, length, width), (_, kv_heads, tokens, _) = q.shape, k.shape
    rows, columns, warps = 32, 32 if width < 128 else 16, 4
    parts_q, parts_k = -(-length // rows), -(-tokens // columns)
    full_q, full_k = length // rows, tokens // columns
    numbers = (batch, heads, width, length, tokens, heads // kv_heads)
    params = struct.pack("=6if", *numbers, scale)
    tail = (parts_q, parts_k, full_q, full_k, length - full_q * rows, tokens - full_k * columns, tokens - length)
    params += struct.pack("=7i", *tail)
    for n, of in ((length, heads), (tokens, kv_heads), (tokens, kv_heads), (length, heads)):
        params += struct.pack("=3q", of * n * width, n * width, width)
    flags = {200: length % rows == 0, 201: tokens % columns == 0, 300: mask is not None, 301: causal}
    flags |= {302: sinks is not None, 303: False}
    kind = "bool" if mask is not None and mask.dtype == mx.bool_ else NAMES[q.dtype]
    call = f"attention<{NAMES[q.dtype]}, {rows}, {columns}, {width}, {width}, {warps}, 1, {kind}, float>"
    constants = tuple((index, str(flag).lower()) for index, flag in flags.items())
    kernel = function("steel/attn/kernels/steel_attention.h", call, constants, checked=checked)
    inputs = {"Q": host(q), "K": host(k), "V": host(v), "params": np.frombuffer(params, np.int64).copy()}
    if mask is not None:
        inputs |= {"mask": host(mask), "mask_params": np.array([heads * length * tokens, length * tokens, tokens])}
    if sinks is not None:
        inputs["sinks"] = host(sinks)
    out = empty(q.shape, q.dtype)
    grid = (32 * parts_q, warps * heads, batch)
    report = kernel(inputs, {"O": out}, grid=grid, threadgroup=(32, warps, 1))
    return device(out, q.dtype), _present(report)


def quantized_matvec(
    x: mx.array, weight: Sequence[mx.array], *, group_size: int = 64, bits: int = 4, checked: bool = False
) -> tuple[mx.array, list[DispatchReport]]:
    """x [M, K] times a matrix quantised by `mx.quantize` [N, K], transposed: `affine_qmv_fast`. Output [M, N]."""
    codes, scales, biases = weight
    (rows, width), columns = x.shape, codes.shape[0]
    call = f"affine_qmv_fast<{NAMES[x.dtype]}, {group_size}, {bits}, false>"
    kernel = function("steel/gemm/gemm.h quantized_utils.h quantized.h", call, checked=checked)
    inputs = {"w": host(codes), "scales": host(scales), "biases": host(biases), "x": host(x)}
    inputs |= {"in_vec_size": _int(width), "out_vec_size": _int(columns)}
    out = empty((rows, columns), x.dtype)
    report = kernel(inputs, {"y": out}, grid=(32 * rows, 2 * (-(-columns // 8)), 1), threadgroup=(32, 2, 1))
    return device(out, x.dtype), _present(report)


def softmax(x: mx.array, *, looped: bool = False, checked: bool = False) -> tuple[mx.array, list[DispatchReport]]:
    """Softmax of each row of [M, N]: `softmax_single_row`, or `softmax_looped` with 1024 threads a row."""
    rows, width = x.shape
    name = "looped" if looped else "single_row"
    kernel = function("softmax.h", f"softmax_{name}<{NAMES[x.dtype]}, float>", checked=checked)
    lanes = 1024 if looped else -(-width // (4 * 32)) * 32
    out = empty(x.shape, x.dtype)
    inputs = {"in": host(x), "axis_size": _int(width)}
    report = kernel(inputs, {"out": out}, grid=(rows * lanes, 1, 1), threadgroup=(lanes, 1, 1))
    return device(out, x.dtype), _present(report)


def cross_entropy(x: mx.array, targets: mx.array, *, checked: bool = False) -> tuple[mx.array, list[DispatchReport]]:
    """Nats lost on the target of each row of [M, N]: `cross_entropy`. Output [M] float32."""
    rows, width = x.shape
    kernel = function("cross_entropy.h", f"cross_entropy<{NAMES[x.dtype]}>", checked=checked)
    lanes = min(1024, -(-width // (4 * 32)) * 32)
    out = empty((rows,), mx.float32)
    inputs = {"in": host(x), "targets": host(targets.astype(mx.int32)), "axis_size": _int(width)}
    report = kernel(inputs, {"out": out}, grid=(rows * lanes, 1, 1), threadgroup=(lanes, 1, 1))
    return device(out, mx.float32), _present(report)


def _present(report: DispatchReport | None) -> list[DispatchReport]:
    return [] if report is None else [report]
