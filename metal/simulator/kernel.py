"""`SimKernel`: the constructor and the call of `mx.fast.metal_kernel`, on any machine.

The text it runs is the one MLX generates (signature, strides, template instance), taken from `mx.export_function`.
"""

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from likely.metal import mx
from likely.metal.errors import KernelError
from likely.metal.simulator.arrays import device, empty, host
from likely.metal.simulator.launch import KernelArgument
from likely.metal.simulator.program import Program
from likely.metal.simulator.report import DispatchReport

Scalar = bool | int | float
METADATA = ("_shape", "_strides", "_ndim")
STOCK: Any = mx.fast.metal_kernel  # MLX's own, kept while this one stands in for it


class SimKernel:
    """A Metal kernel that runs on the CPU; arguments as of `mx.fast.metal_kernel`.

    Called with the same keywords, it evaluates its inputs and returns evaluated arrays. Inputs that are not
    row-contiguous are copied first unless `ensure_row_contiguous=False`, which is when `name_strides` mean something.
    """

    def __init__(
        self,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str = "",
        ensure_row_contiguous: bool = True,
        atomic_outputs: bool = False,
        compile_options: object | None = None,
        *,
        checked: bool = False,
    ):
        self.name, self.checked = name, checked
        self.input_names, self.output_names = list(input_names), list(output_names)
        self.ensure_row_contiguous = ensure_row_contiguous
        options = {} if compile_options is None else {"compile_options": compile_options}
        self._stock = STOCK(
            name, self.input_names, self.output_names, source, header, ensure_row_contiguous, atomic_outputs, **options
        )
        self._variants: dict[tuple[Any, ...], Program] = {}
        self.launches = 0
        self.report: DispatchReport | None = None

    def __call__(
        self,
        *,
        inputs: Sequence[mx.array | Scalar],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: object | None = None,
    ) -> list[mx.array]:
        """Run the kernel; see `mx.fast.metal_kernel` for the arguments.

        Raises KernelError where it does not compile or the launch is not one that Metal takes.
        """
        if len(inputs) != len(self.input_names):
            raise KernelError(f"kernel {self.name!r}: expected {len(self.input_names)} inputs, got {len(inputs)}")
        arrays = [value if isinstance(value, mx.array) else mx.array(value) for value in inputs]
        views = [host(array, self.ensure_row_contiguous) for array in arrays]
        outputs = [empty(shape, dtype, init_value) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)]
        key = (
            *((array.dtype, array.ndim == 0, array.size < 8) for array in arrays),
            *(tuple(template or ()), tuple(output_dtypes)),
        )
        variant = self._variants.get(key)
        if variant is None:
            text = _generated(self._stock, arrays, output_shapes, output_dtypes, template, init_value)
            variant = self._variants[key] = _program(self.name, text, self.checked)
        if verbose:
            print(variant.source)
        named = dict(zip(self.input_names, views, strict=True)) | dict(zip(self.output_names, outputs, strict=True))
        buffers = [
            KernelArgument(p.name, p.index, _buffer(p.name, named), p.name in self.output_names, init_value is not None)
            for p in variant.parameters
            if p.index is not None
        ]
        self.report = variant.run(buffers, grid, threadgroup)
        self.launches += 1
        return [device(output, dtype) for output, dtype in zip(outputs, output_dtypes, strict=True)]


@cache
def _program(name: str, text: str, checked: bool) -> Program:
    """The kernel in the text that MLX generates; its last statement, if any, says which template instance it is."""
    instance = re.search(r"template \[\[host_name\(.*\]\] decltype\((\w+)(<.*>)?\) ", text)
    plain = re.search(r"\[\[kernel\]\] void (\w+)\(", text)
    if instance is not None:
        return Program(
            text[: instance.start()], instance[1] + instance[2], checked=checked, strict=checked, label=f"{name}.metal"
        )
    if plain is None:
        raise KernelError(f"expected a kernel in the text that MLX generates, got:\n{text}")
    return Program(text, plain[1], checked=checked, strict=checked, label=f"{name}.metal")


def _generated(
    kernel: Any,
    inputs: Sequence[mx.array],
    shapes: Sequence[Sequence[int]],
    dtypes: Sequence[mx.Dtype],
    template: Sequence[tuple[str, Any]] | None,
    init_value: float | None,
) -> str:
    """The Metal text of one call. MLX prints it on the standard output while a function is exported, and only there."""
    options: dict[str, Any] = {"template": list(template)} if template else {}
    if init_value is not None:
        options["init_value"] = init_value

    def traced(*arrays: mx.array) -> list[mx.array]:
        result: list[mx.array] = kernel(
            inputs=list(arrays),
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=shapes,
            output_dtypes=dtypes,
            verbose=True,
            **options,
        )
        return result

    places = [mx.zeros(array.shape, array.dtype) for array in inputs]
    with tempfile.TemporaryDirectory() as folder:
        text = _printed(lambda: mx.export_function(f"{folder}/kernel.mlxfn", traced, *places))
    match = re.search(r"^Generated source code for `.*`:\n```\n(.*)\n```$", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise KernelError(f"expected MLX to print the kernel's text, got {text!r}")
    return match[1]


def _printed(act: Any) -> str:
    """The text that the act writes to file descriptor 1, from C++ too."""
    library = ctypes.CDLL(None)
    sys.stdout.flush()
    library.fflush(None)
    saved = os.dup(1)
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 1)
            act()
            library.fflush(None)
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        file.seek(0)
        return file.read().decode()


def _buffer(name: str, buffers: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The buffer of a parameter: an input, an output, or what MLX adds about an input's layout."""
    if name in buffers:
        return buffers[name]
    for suffix in METADATA:
        array = buffers.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
        if array is None:
            continue
        if suffix == "_shape":
            return np.array(array.shape or (0,), np.int32)
        if suffix == "_strides":
            return np.array([stride // array.itemsize for stride in array.strides] or [0], np.int64)
        return np.array(array.ndim, np.int32)
    raise KernelError(f"parameter {name!r} of the generated text is neither an input nor an output")
