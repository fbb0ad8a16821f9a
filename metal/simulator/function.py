"""Any kernel of any Metal source text, run on numpy arrays: what MLX's own kernels are run with."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from likely.metal.errors import KernelError
from likely.metal.simulator import compiler
from likely.metal.simulator.launch import KernelArgument
from likely.metal.simulator.program import Program
from likely.metal.simulator.report import DispatchReport


class SimFunction:
    """A kernel of a source text, by the name C++ would call it with; `constants` are function constants by index.

    `#include "mlx/backend/metal/kernels/..."` in the source reads the installed mlx; MLX's preamble is there.
    """

    def __init__(self, source: str, call: str, constants: Mapping[int, str] | None = None, *, checked: bool = False):
        label = call.split("<")[0].strip() + ".metal"
        self.program = Program(
            source, call, checked=checked, constants=constants, label=label, included=_included(source)
        )

    def __call__(
        self,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, np.ndarray[Any, Any]],
        *,
        grid: Sequence[int],
        threadgroup: Sequence[int],
        initialised: bool = False,
    ) -> DispatchReport | None:
        """Run it: `outputs` are written in place; a number among the inputs is what a parameter's reference names.

        Parameters that are left out are null, as those of a function constant that is false. `initialised`: the kernel
        may read what the outputs hold. A report when checked; raises KernelFault then.
        """
        named = {p.name: p.index for p in self.program.parameters if p.index is not None}
        if unknown := {*inputs, *outputs} - set(named):
            raise KernelError(f"kernel {self.program.name!r}: expected some of {sorted(named)}, got {sorted(unknown)}")
        buffers = [KernelArgument(name, named[name] or 0, np.asarray(value)) for name, value in inputs.items()]
        buffers += [KernelArgument(name, named[name] or 0, array, True, initialised) for name, array in outputs.items()]
        return self.program.run(buffers, grid, threadgroup)


def _included(source: str) -> str:
    root = compiler.mlx_headers()
    return "\n".join((root / name).read_text() for name in re.findall(r'#include "(mlx/[^"]+)"', source))
