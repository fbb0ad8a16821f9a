"""The simulator in the place of Metal: for a block, under gradients and compiled functions, and for a run of pytest."""

import numpy as np
import pytest

from likely.metal import mx
from likely.metal.simulator import KernelFault, SimKernel, simulated
from tests.metal.build import launched

SOURCE = "uint i = thread_position_in_grid.x; out[i] = metal::exp(a[i]);"


def exponential(a: mx.array, source: str = SOURCE) -> mx.array:
    kernel = mx.fast.metal_kernel(name="exponential", input_names=["a"], output_names=["out"], source=source)
    return launched(kernel, a, group=8, output_shapes=[a.shape])


def test_metal_is_there_for_the_block_only() -> None:
    before = mx.metal.is_available()
    with simulated() as launches:
        assert mx.metal.is_available()
        with simulated() as inner:
            exponential(mx.ones(8))
        exponential(mx.ones(8))
        exponential(mx.ones(8))
    assert inner == {"exponential": 1}
    assert launches == {"exponential": 2}
    assert mx.metal.is_available() == before
    assert not isinstance(mx.fast.metal_kernel, type)


def test_it_is_put_back_after_an_error() -> None:
    with pytest.raises(RuntimeError), simulated():
        raise RuntimeError
    assert not isinstance(mx.fast.metal_kernel, type)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_lazy_inputs_gradients_and_compiled_functions(dtype: mx.Dtype) -> None:
    @mx.custom_function
    def exp(a: mx.array) -> mx.array:
        return exponential(a)

    @exp.vjp
    def backward(a: mx.array, cotangent: mx.array, out: mx.array) -> mx.array:
        return cotangent * out

    x = mx.random.normal((16,), key=mx.random.key(0)).astype(dtype)
    with simulated() as launches:
        value, gradient = mx.value_and_grad(lambda a: (exp(a * 2) + 1).sum())(x)
        compiled = mx.compile(lambda a: exp(a + 1) * 2)(x)
    expected = np.exp(2 * np.array(x.astype(mx.float32)))
    tolerance = {mx.float32: 1e-6, mx.float16: 3e-3, mx.bfloat16: 2e-2}[dtype]
    np.testing.assert_allclose(np.array(gradient.astype(mx.float32)), 2 * expected, rtol=tolerance)
    np.testing.assert_allclose(value.item(), expected.sum() + 16, rtol=tolerance)
    np.testing.assert_allclose(
        np.array(compiled.astype(mx.float32)), 2 * np.exp(np.array(x.astype(mx.float32)) + 1), rtol=2 * tolerance
    )
    assert launches["exponential"] == 2


def test_a_checked_block_reports_each_launch_and_raises_on_a_fault() -> None:
    with simulated(checked=True) as launches:
        exponential(mx.ones(8))
        with pytest.raises(KernelFault, match=r"exponential\.metal:\d+: out-of-bounds-read: 4 bytes at byte 32 of a"):
            exponential(mx.ones(8), SOURCE.replace("a[i]", "a[i + 1]"))
    (report,) = launches.reports
    traffic = report.traffic["a"]
    assert (traffic.size, traffic.read, traffic.written, traffic.distinct, traffic.lines) == (32, 32, 0, 32, 1)
    assert report.traffic["out"].written == 32
    assert report.counts["exponentials"] == 8


def test_traffic_counts_what_is_asked_for_and_what_is_distinct() -> None:
    """Each of 64 lanes reads the same 4 bytes and every 16th float, of which two share a line."""
    body = """
      uint i = thread_position_in_grid.x;
      out[i] = a[0] + a[i * 16];
    """
    kernel = SimKernel("stripes", ["a"], ["out"], body, checked=True)
    launched(kernel, mx.ones(1024), size=64)
    assert kernel.report is not None
    traffic = kernel.report.traffic["a"]
    assert (traffic.read, traffic.distinct, traffic.lines) == (64 * 8, 64 * 4, 32)
