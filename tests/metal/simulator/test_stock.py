"""The arguments and the geometry with which MLX's C++ would launch its kernels; none of them runs here."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from metal import mx
from metal.simulator import stock


@dataclass
class Run:
    """One dispatch."""

    headers: str
    call: str
    constants: dict[int, str]
    inputs: dict[str, Any]
    outputs: dict[str, np.ndarray]
    grid: tuple[int, ...]
    threadgroup: tuple[int, ...]

    def numbers(self, *names: str) -> list[float]:
        return [self.inputs[name].item() for name in names]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.outputs.items()}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Run]]:
    found: list[Run] = []

    def function(headers: str, call: str, constants: tuple[tuple[int, str], ...] = (), *, checked: bool = False) -> Any:
        def run(inputs: Any, outputs: Any, *, grid: Any, threadgroup: Any) -> Any:
            found.append(Run(headers, call, dict(constants), dict(inputs), dict(outputs), grid, threadgroup))
            for array in outputs.values():
                array[...] = len(found)
            return f"report {len(found)}" if checked else None

        return run

    monkeypatch.setattr(stock, "function", function)
    yield found


def rows(*shape: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    return mx.zeros(shape, dtype)


Q, K, V = rows(2, 6, 3, 64), rows(2, 2, 50, 64), rows(2, 2, 50, 32)


def test_few_queries_take_a_group_of_1024_threads_each(runs: list[Run]) -> None:
    out, reports = stock.sdpa_vector(Q, K, V, 0.25)
    (run,) = runs
    assert (run.headers, run.call) == ("sdpa_vector.h", "sdpa_vector<float, 64, 32>")
    assert run.constants == {21: "false", 22: "false", 25: "false"}
    assert (run.grid, run.threadgroup) == ((2 * 6 * 1024, 3, 1), (1024, 1, 1))
    assert run.numbers("gqa_factor", "N", "scale") == [3, 50, 0.25]
    strides = ("k_head_stride", "k_seq_stride", "v_head_stride", "v_seq_stride")
    assert run.numbers(*strides) == [50 * 64, 64, 50 * 32, 32]
    assert [run.inputs[name].dtype for name in ("N", "scale", "k_head_stride")] == [np.int32, np.float32, np.int64]
    assert {"queries", "keys", "values"} <= set(run.inputs) and "num_q_heads" not in run.inputs
    assert run.shapes() == {"out": (2, 6, 3, 32)} and out.shape == (2, 6, 3, 32) and reports == []
    assert mx.all(out == 1).item()
    assert stock.sdpa_vector(Q, K, V, 0.25, checked=True)[1] == ["report 2"]


@pytest.mark.parametrize(("dtype", "name"), [(mx.float32, "float"), (mx.float16, "half"), (mx.bfloat16, "bfloat16_t")])
def test_kernels_are_named_by_the_queries_kind(dtype: mx.Dtype, name: str, runs: list[Run]) -> None:
    q, k = rows(1, 2, 1, 64, dtype=dtype), rows(1, 2, 8, 64, dtype=dtype)
    out, _ = stock.sdpa_vector(q, k, k, 1.0)
    stock.steel_attention(q, k, k, 1.0)
    stock.softmax(q[0, 0])
    assert runs[0].call == f"sdpa_vector<{name}, 64, 64>" and out.dtype == dtype
    assert runs[1].call == f"attention<{name}, 32, 32, 64, 64, 4, 1, {name}, float>"
    assert runs[2].call == f"softmax_single_row<{name}, float>"


@pytest.mark.parametrize("kind", ["causal", "bool", "float"])
def test_masks_and_sinks_are_constants_and_arguments(kind: str, runs: list[Run]) -> None:
    masks = {"causal": "causal", "bool": mx.ones((2, 6, 3, 50), dtype=mx.bool_), "float": rows(2, 6, 3, 50)}
    sinks = rows(6)
    stock.sdpa_vector(Q, K, V, 0.25, mask=masks[kind], sinks=sinks)
    stock.sdpa_vector(Q, K, V, 0.25, mask=masks[kind])
    one, two = runs
    wanted = {21: "false", 22: str(kind == "causal").lower(), 25: "true"}
    if kind != "causal":
        wanted |= {20: "true", 23: str(kind == "bool").lower(), 24: str(kind == "float").lower()}
        assert {"bmask", "fmask"} & set(one.inputs) == {f"{kind[0]}mask"}
        strides = ("mask_kv_seq_stride", "mask_q_seq_stride", "mask_head_stride")
        assert one.numbers(*strides) == [1, 50, 150]
    assert one.constants == wanted and two.constants == wanted | {25: "false"}
    assert one.numbers("num_q_heads") == [6] and one.inputs["sinks"].shape == (6,)
    assert not {"sinks", "num_q_heads"} & set(two.inputs)


@pytest.mark.parametrize("blocks", [32, 64])
def test_many_keys_take_two_passes(blocks: int, runs: list[Run]) -> None:
    given = {} if blocks == 32 else {"blocks": blocks}
    out, reports = stock.sdpa_vector_2pass(Q, K, V, 0.25, sinks=rows(6), checked=True, **given)
    first, second = runs
    assert first.call == "sdpa_vector_2pass_1<float, 64, 32>" and second.call == "sdpa_vector_2pass_2<float, 32>"
    assert first.constants == {21: "false", 22: "false", 25: "true", 26: str(blocks)} and second.constants == {}
    assert (first.grid, first.threadgroup) == ((64, 6, 3 * blocks), (32, 3, 3))
    assert (second.grid, second.threadgroup) == ((2 * 6 * 1024, 3, 1), (1024, 1, 1))
    assert first.shapes() == {"out": (2, 6, 3, blocks, 32), "sums": (2, 6, 3, blocks), "maxs": (2, 6, 3, blocks)}
    assert first.outputs["sums"].dtype == np.float32 and first.numbers("N", "scale") == [50, 0.25]
    assert first.numbers("k_head_stride", "v_seq_stride") == [3200, 32]
    assert second.inputs["partials"] is first.outputs["out"] and second.inputs["sums"] is first.outputs["sums"]
    assert second.inputs["maxs"] is first.outputs["maxs"] and second.numbers("blocks") == [blocks]
    assert out.shape == (2, 6, 3, 32) and mx.all(out == 2).item() and reports == ["report 1", "report 2"]


@pytest.mark.parametrize(
    ("t", "n", "d", "columns", "aligned"),
    [(64, 64, 64, 32, ("true", "true")), (65, 64, 64, 32, ("false", "true")), (40, 50, 80, 32, ("false", "false")),
     (32, 48, 128, 16, ("true", "true")), (32, 40, 127, 32, ("true", "false"))],
)  # fmt: skip
def test_tiles_of_queries_and_keys_are_counted_as_mlx_does(
    t: int, n: int, d: int, columns: int, aligned: tuple[str, str], runs: list[Run]
) -> None:
    q, k = rows(2, 6, t, d), rows(2, 2, n, d)
    out, _ = stock.steel_attention(q, k, k, 0.5, causal=True)
    (run,) = runs
    assert run.headers == "steel/attn/kernels/steel_attention.h"
    assert run.call == f"attention<float, 32, {columns}, {d}, {d}, 4, 1, float, float>"
    assert run.constants == {
        200: aligned[0], 201: aligned[1], 300: "false", 301: "true", 302: "false", 303: "false",
    }  # fmt: skip
    q_tiles, k_tiles = -(-t // 32), -(-n // columns)
    assert (run.grid, run.threadgroup) == ((32 * q_tiles, 4 * 6, 2), (32, 4, 1))
    params = run.inputs["params"].tobytes()
    assert struct.unpack("=6if", params[:28]) == (2, 6, d, t, n, 3, 0.5)
    assert struct.unpack("=7i", params[28:56]) == (q_tiles, k_tiles, t // 32, n // columns, t % 32, n % columns, n - t)
    strides = [6 * t * d, t * d, d] + [2 * n * d, n * d, d] * 2 + [6 * t * d, t * d, d]
    assert [*struct.unpack("=12q", params[56:])] == strides
    assert run.shapes() == {"O": q.shape} and out.shape == q.shape
    assert set(run.inputs) == {"Q", "K", "V", "params"}


def test_tiles_take_masks_and_sinks(runs: list[Run]) -> None:
    q, k = rows(2, 6, 40, 64, dtype=mx.float16), rows(2, 2, 50, 64, dtype=mx.float16)
    stock.steel_attention(q, k, k, 0.5, mask=mx.ones((2, 6, 40, 50), dtype=mx.bool_), sinks=rows(6))
    stock.steel_attention(q, k, k, 0.5, mask=rows(2, 6, 40, 50, dtype=mx.float16))
    one, two = runs
    assert one.call.endswith("4, 1, bool, float>") and two.call.endswith("4, 1, half, float>")
    assert [one.constants[i] for i in (300, 301, 302)] == ["true", "false", "true"]
    assert [two.constants[i] for i in (300, 301, 302)] == ["true", "false", "false"]
    assert one.inputs["mask_params"].tolist() == [6 * 2000, 2000, 50] and one.inputs["sinks"].shape == (6,)


@pytest.mark.parametrize(("columns", "groups"), [(8, 2), (9, 4), (16, 4), (17, 6)])
def test_a_packed_product_has_two_simdgroups_for_eight_rows(columns: int, groups: int, runs: list[Run]) -> None:
    weight = [rows(columns, 64), rows(columns, 8), rows(columns, 8)]
    out, _ = stock.quantized_matvec(rows(3, 512), weight)
    stock.quantized_matvec(rows(3, 512), weight, group_size=32, bits=8)
    one, two = runs
    assert one.headers == "steel/gemm/gemm.h quantized_utils.h quantized.h"
    assert one.call == "affine_qmv_fast<float, 64, 4, false>" and two.call == "affine_qmv_fast<float, 32, 8, false>"
    assert (one.grid, one.threadgroup) == ((96, groups, 1), (32, 2, 1))
    assert one.numbers("in_vec_size", "out_vec_size") == [512, columns]
    assert out.shape == (3, columns) and set(one.inputs) == {
        "w",
        "scales",
        "biases",
        "x",
        "in_vec_size",
        "out_vec_size",
    }


@pytest.mark.parametrize(("width", "lanes"), [(128, 32), (129, 64), (4096, 1024), (5000, 1280)])
def test_a_row_has_a_lane_for_four_numbers_in_whole_simdgroups(width: int, lanes: int, runs: list[Run]) -> None:
    x = rows(3, width)
    stock.softmax(x)
    stock.softmax(x, looped=True)
    out, _ = stock.cross_entropy(x.astype(mx.float16), mx.zeros((3,), dtype=mx.int64))
    one, two, three = runs
    assert (one.headers, one.call) == ("softmax.h", "softmax_single_row<float, float>")
    assert (one.grid, one.threadgroup) == ((3 * lanes, 1, 1), (lanes, 1, 1)) and one.numbers("axis_size") == [width]
    assert two.call == "softmax_looped<float, float>"
    assert (two.grid, two.threadgroup) == ((3 * 1024, 1, 1), (1024, 1, 1))
    some = min(1024, lanes)
    assert (three.headers, three.call) == ("cross_entropy.h", "cross_entropy<half>")
    assert (three.grid, three.threadgroup) == ((3 * some, 1, 1), (some, 1, 1)) and three.numbers("axis_size") == [width]
    assert three.inputs["targets"].dtype == np.int32 and out.shape == (3,) and out.dtype == mx.float32


def test_a_kernel_of_several_headers_includes_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(stock, "SimFunction", lambda *given, **named: made.append((given, named)))
    stock.function.cache_clear()
    stock.function("a.h steel/b.h", "k<float>", ((3, "true"),), checked=True)
    stock.function("a.h", "k<half>")
    at = '#include "mlx/backend/metal/kernels/'
    assert made == [
        ((f'{at}a.h"\n{at}steel/b.h"\n', "k<float>", {3: "true"}), {"checked": True}),
        ((f'{at}a.h"\n', "k<half>", {}), {"checked": False}),
    ]
    stock.function.cache_clear()
