"""Puts `SimKernel` in the place of `mx.fast.metal_kernel` while a block runs, so that whole models go through it."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from likely.metal import METAL, mx
from likely.metal.device import gpu
from likely.metal.simulator.kernel import STOCK, SimKernel
from likely.metal.simulator.report import DispatchReport


class Launches(Counter[str]):
    """How often each kernel ran, by name; of a checked block also the `reports`, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[DispatchReport] = []


@contextmanager
def simulated(*, checked: bool = False) -> Iterator[Launches]:
    """A block in which Metal seems to be there; yields the launches, counted as they happen.

    `mx.compile` is off inside, for a simulated kernel needs its inputs' values. Not for several threads at a time.
    """
    launches = Launches()

    class CountingKernel(SimKernel):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, checked=checked, **options)

        def __call__(self, **options: Any) -> list[mx.array]:
            outputs = super().__call__(**options)
            launches[self.name] += 1
            if self.report is not None:
                launches.reports.append(self.report)
            return outputs

    before = mx.fast.metal_kernel, mx.metal.is_available
    compiles = before[0] is STOCK and gpu()  # as in metal
    left_alone = os.environ.pop(METAL, None)
    mx.fast.metal_kernel, mx.metal.is_available = CountingKernel, lambda: True
    mx.disable_compile()
    try:
        yield launches
    finally:
        mx.fast.metal_kernel, mx.metal.is_available = before
        if left_alone is not None:
            os.environ[METAL] = left_alone
        if compiles:
            mx.enable_compile()
