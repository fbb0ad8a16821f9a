"""Runs unmodified Metal kernels on any machine, and checks them.

    from metal.simulator import SimKernel, simulated

    kernel = SimKernel("name", ["x"], ["out"], source)          # arguments of mx.fast.metal_kernel, and checked=False
    (out,) = kernel(inputs=[x], template=[("T", mx.float32)], grid=(256, 1, 1), threadgroup=(256, 1, 1),
                    output_shapes=[x.shape], output_dtypes=[x.dtype])
    kernel.launches                                             # how often it ran

    with simulated() as launches:                               # mx.fast.metal_kernel makes SimKernels inside, and
        run_a_whole_model()                                     # mx.metal.is_available() says yes
    launches["name"]                                            # a Counter by kernel name

A kernel made before the block by the real `mx.fast.metal_kernel` stays what it was, so make kernels when they are
used, and keep them by the factory too: `functools.cache` over `(mx.fast.metal_kernel, ...)`. Inputs are evaluated at
the call.
`#line 1 "metal/kernels/name.metal"` before a file's text in `source` or `header` makes messages name that file.

It knows what Metal's specification says and how MLX calls kernels; not how fast a GPU is, nor how its compiler allots
registers.
"""

from metal.simulator import stock
from metal.simulator.function import SimFunction
from metal.simulator.kernel import SimKernel
from metal.simulator.report import Fault, KernelFault, Report, Traffic
from metal.simulator.stand_in import simulated

__all__ = ["Fault", "KernelFault", "Report", "SimFunction", "SimKernel", "Traffic", "simulated", "stock"]
