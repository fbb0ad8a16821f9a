"""Runs unmodified Metal kernels on any machine, and checks them.

    from likely.metal.simulator import SimKernel, simulated

    kernel = SimKernel("name", ["x"], ["out"], source)          # arguments of mx.fast.metal_kernel, and checked=False
    (out,) = kernel(inputs=[x], template=[("T", mx.float32)], grid=(256, 1, 1), threadgroup=(256, 1, 1),
                    output_shapes=[x.shape], output_dtypes=[x.dtype])
    kernel.launches                                             # how often it ran

    with simulated() as launches:                               # mx.fast.metal_kernel makes SimKernels inside, and
        run_a_whole_model()                                     # mx.metal.is_available() says yes
        TracedFunction(step)(x)                                 # as mx.compile: traced once, then only replayed
    launches["name"]                                            # a Counter by kernel name

A kernel made before the block by the real `mx.fast.metal_kernel` stays what it was, so make kernels when they are
used, and keep them by the factory too: `functools.cache` over `(mx.fast.metal_kernel, ...)`. Inputs are evaluated at
the call.
`#line 1 "metal/kernels/name.metal"` before a file's text in `source` or `header` makes messages name that file.

`checked=True` puts a kernel through the strict gate (strict.py) and runs it with every access watched: a `KernelFault`
has what was found, `kernel.report` and `launches.reports` what was counted. A plain run trusts the kernel: an access
out of bounds can end the process. `stock` has MLX's own kernels, to measure against.

It knows what Metal's specification says and how MLX calls kernels. It does not know registers and occupancy, time, the
order of threadgroups and of atomics between them, fused multiply-adds and fast mathematics of a GPU, nor how lanes that
have parted meet again there: here at the textually first operation that some of them wait at.

Reads: no other room.
"""

from likely.metal.simulator import stock
from likely.metal.simulator.function import SimFunction
from likely.metal.simulator.kernel import SimKernel
from likely.metal.simulator.report import DispatchReport, Fault, KernelFault, Traffic
from likely.metal.simulator.stand_in import simulated
from likely.metal.simulator.strict import StrictError
from likely.metal.simulator.traced import TracedFunction

__all__ = [
    "DispatchReport",
    "Fault",
    "KernelFault",
    "SimFunction",
    "SimKernel",
    "StrictError",
    "TracedFunction",
    "Traffic",
    "simulated",
    "stock",
]
