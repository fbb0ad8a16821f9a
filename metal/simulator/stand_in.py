"""Puts `SimKernel` in the place of `mx.fast.metal_kernel` while a block runs, so that whole models go through it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from metal import mx
from metal.simulator.kernel import SimKernel, mx_metal_kernel


@contextmanager
def simulated(*, checked: bool = False) -> Iterator[Counter[str]]:
    """A block in which Metal seems to be there; yields the number of launches by kernel name, counted as they happen.

    `mx.compile` is off inside, for a simulated kernel needs its inputs' values. Not for several threads at a time.
    """
    mx_metal_kernel()  # remember MLX's own before it is replaced
    launches: Counter[str] = Counter()

    class Counted(SimKernel):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, checked=checked, **options)

        def __call__(self, **options: Any) -> list[mx.array]:
            launches[self.name] += 1
            return super().__call__(**options)

    before = mx.fast.metal_kernel, mx.metal.is_available
    mx.fast.metal_kernel, mx.metal.is_available = Counted, lambda: True
    mx.disable_compile()
    try:
        yield launches
    finally:
        mx.fast.metal_kernel, mx.metal.is_available = before
        mx.enable_compile()
