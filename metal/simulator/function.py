"""Any kernel of any Metal source text, run on numpy arrays: what MLX's own kernels are run with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metal.errors import KernelError
from metal.simulator import compiler, launch, signature
from metal.simulator.rewrite import rewrite


class SimFunction:
    """A kernel of a source text, compiled at the first call.

    `call` is the kernel as C++ would name it, template arguments included: `sdpa_vector<float, 64, 64>`.
    `constants` are function constants by index. `#include "mlx/backend/metal/kernels/..."` reads the installed mlx.
    """

    def __init__(self, source: str, call: str, constants: Mapping[int, str] | None = None, *, checked: bool = False):
        self.source, self.call, self.checked = source, call, checked
        self.constants = dict(constants or {})
        self.name = call.split("<")[0].strip()
        self._path: Path | None = None
        self._parameters: list[signature.Parameter] | None = None

    @property
    def parameters(self) -> list[signature.Parameter]:
        """What the kernel takes, in order; kernels of an included file are found too."""
        if self._parameters is None:
            self._parameters = signature.parameters(self.source + _included(self.source), self.name)
        return self._parameters

    @property
    def path(self) -> Path:
        """The compiled library."""
        if self._path is None:
            text = '#line 1 "kernel.metal"\n' + rewrite(self.source, self.constants)
            text += signature.entry(self.call, self.parameters)
            self._path = compiler.library(text, self.name[:60], self.checked)
        return self._path

    def __call__(self, arguments: Mapping[str, Any], *, grid: Sequence[int], threadgroup: Sequence[int]) -> None:
        """Run it. Arrays are written in place; a number becomes the constant that the parameter's reference names."""
        by_name = {p.name: p for p in self.parameters if p.index is not None}
        if unknown := set(arguments) - set(by_name):
            raise KernelError(f"kernel {self.name!r}: expected arguments {sorted(by_name)}, got {sorted(unknown)} too")
        kept = {name: np.asarray(value) for name, value in arguments.items()}
        addresses = {by_name[name].index or 0: value.ctypes.data for name, value in kept.items()}
        launch.launch(self.path, addresses, grid, threadgroup)


def _included(source: str) -> str:
    """The text of the mlx headers that the source includes itself."""
    import re

    root = compiler.mlx_headers()
    return "\n".join((root / name).read_text() for name in re.findall(r'#include "(mlx/[^"]+)"', source))
