"""A Metal kernel from its file: the text, its variants, and a call that counts.

A file in `kernels/` ends with the body of the function that `mx.fast.metal_kernel` generates; what stands before the
line `//: body` is its header. `#include "x.h"` brings in a neighbour. What changes the structure of a kernel is a macro
(`defines`), dtypes and sizes are template arguments, and everything that may change between two calls of one compiled
step is data. Knows nothing of what a kernel computes.
"""

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from likely.metal import mx
from likely.metal.device import available as available

FOLDER = Path(__file__).parent / "kernels"
BODY = "//: body\n"
THREADS = 256  # a group, at most: what every chip can run however many registers a thread takes

Constant = int | mx.Dtype

launches: Counter[str] = Counter()  # how often each kernel ran, for those who want to know that it did
switched_off: dict[str, str] = {}  # by `variant`: what must not run here, and why


@lru_cache(maxsize=64)
def text(file: str) -> tuple[str, str]:
    """(header, body) of a kernel's file, its includes in place."""
    header, _, body = _included(file, set()).rpartition(BODY)
    return header, body


def _included(file: str, included: set[str]) -> str:
    """The text of a file with its neighbours in place, and directives that keep messages on the right file and line.
    mlx hands it to Metal's compiler as ASCII."""
    lines = [f'#line 1 "metal/kernels/{file}"\n']
    for number, line in enumerate((FOLDER / file).read_text("ascii").splitlines(keepends=True), 1):
        resumed = f'#line {number + 1} "metal/kernels/{file}"\n'
        if line.startswith('#include "'):
            name = line.split('"')[1]
            if name not in included:
                included.add(name)
                lines += [_included(name, included), resumed]
        else:
            lines.append(line)
            if line == BODY:
                lines.append(resumed)
    return "".join(lines)


@lru_cache(maxsize=4096)
def int32(*numbers: int) -> mx.array:
    """An int32 array of these numbers, made once: parameters rarely change between two calls."""
    array = mx.array(numbers, dtype=mx.int32)
    mx.eval(array)
    return array


def bits(x: float) -> int:
    """The bits of a float32, as an int32 array can carry them."""
    return int(struct.unpack("<i", struct.pack("<f", x))[0])


@cache
def _kernel(
    make: Callable[..., Any],
    file: str,
    defines: tuple[tuple[str, int], ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> Any:
    """The kernel that `make`, `mx.fast.metal_kernel` or what stands in for it, builds from a file."""
    header, body = text(file)
    macros = "".join(f"#define {macro} {value}\n" for macro, value in defines)
    structure = [f"{macro.lower()}{value}" for macro, value in defines if value]
    return make(
        name="_".join(["likely", file.removesuffix(".metal"), *structure]),
        input_names=list(inputs),
        output_names=list(outputs),
        source=body,
        header=macros + header,
    )


Outputs = tuple[tuple[str, tuple[int, ...], mx.Dtype], ...]  # name, shape, dtype


@dataclass(frozen=True, slots=True)
class KernelCall:
    """A kernel of one structure for inputs of one shape: all of a call but its arrays, so that each call is short."""

    name: str
    kernel: Any
    options: dict[str, Any]

    def __call__(self, inputs: list[mx.array]) -> list[mx.array]:
        """The outputs, in order."""
        launches[self.name] += 1
        return self.kernel(inputs=inputs, **self.options)  # type: ignore[no-any-return]


def prepared(
    file: str,
    inputs: tuple[str, ...],
    outputs: Outputs,
    *,
    grid: tuple[int, int, int],
    threads: int,
    defines: Mapping[str, int] | None = None,
    template: Mapping[str, Constant] | None = None,
) -> KernelCall:
    """Launches of `kernels/<file>` on inputs of these names. `grid` counts groups of `threads` threads."""
    assert threads <= THREADS and threads % 32 == 0
    kernel = _kernel(
        mx.fast.metal_kernel, file, tuple((defines or {}).items()), inputs, tuple(n for n, _, _ in outputs)
    )
    options = {
        "template": list(template.items()) if template else None,
        "grid": (grid[0] * threads, grid[1], grid[2]),
        "threadgroup": (threads, 1, 1),
        "output_shapes": [shape for _, shape, _ in outputs],
        "output_dtypes": [dtype for _, _, dtype in outputs],
    }
    return KernelCall(file.removesuffix(".metal"), kernel, options)


def launch(
    file: str,
    inputs: Mapping[str, mx.array],
    outputs: Mapping[str, tuple[tuple[int, ...], mx.Dtype]],
    *,
    grid: tuple[int, int, int],
    threads: int,
    defines: Mapping[str, int] | None = None,
    template: Mapping[str, Constant] | None = None,
) -> dict[str, mx.array]:
    """The outputs of one launch, by name; `prepared` is for those of every layer of every token."""
    results = tuple((name, shape, dtype) for name, (shape, dtype) in outputs.items())
    once = prepared(file, tuple(inputs), results, grid=grid, threads=threads, defines=defines, template=template)
    return dict(zip(outputs, once(list(inputs.values())), strict=True))


def variant(name: str, dtype: mx.Dtype, head_size: int = 0) -> str:
    """The unit that is switched off: a kernel for inputs of one dtype and, where it has heads, one head size."""
    size = f" D={head_size}" if head_size else ""
    return f"{name} {str(dtype).removeprefix('mlx.core.')}{size}"


def switch_off(variant: str, reason: str) -> None:
    """Never launch this again in this process: it failed to compile or gave a wrong result."""
    switched_off[variant] = reason


def enabled(name: str, dtype: mx.Dtype, head_size: int = 0) -> bool:
    """Whether the kernel may be launched for these inputs."""
    return not switched_off or variant(name, dtype, head_size) not in switched_off
