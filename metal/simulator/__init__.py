"""Runs Metal kernels on a CPU, for tests.

Read first: kernel.py. Uses: no other folder.
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
