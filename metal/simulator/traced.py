"""A stand-in for `mx.compile`, on any machine and with a function's kernels in the simulator.

MLX cannot stop in the middle of a trace for a simulated kernel, so a function with K launches becomes K + 1 traces.
Each leads from the arguments, and what the launches so far gave, to the inputs of the next launch; the last to the
results. They are made by `mx.export_function`, which knows no `mx.custom_function` with a derivative, and writes arrays
that a function takes from outside wrongly unless they are row-contiguous.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from mlx.utils import tree_flatten, tree_map

from likely.metal import mx


class _Reached(Exception):
    """A launch whose outputs are not there yet: the trace ends with its inputs."""


@dataclass(frozen=True, slots=True)
class _Stage:
    replay: Callable[..., tuple[mx.array, ...]]
    launch: Callable[[list[mx.array]], list[mx.array]] | None  # what `replay` leads to; None if to the results
    results: Any = None  # their tree, each array as its number


class TracedFunction:
    """Stands where `mx.compile(function)` does, inside `simulated()`; takes and gives nested lists, tuples and dicts.

    The function is traced once for the shapes and dtypes of its arguments, `traces` says how often, and called again
    only the trace runs. So what it reads of the host stays as it was, and reading an array's value is MLX's ValueError.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.traces = 0
        self._stages: dict[tuple[Any, ...], list[_Stage]] = {}

    def __call__(self, *arguments: Any) -> Any:
        places: Any = tree_flatten(list(arguments))
        key = tuple((path, array.shape, array.dtype) for path, array in places)
        if key not in self._stages:
            self.traces += 1
        stages = self._stages.setdefault(key, [])
        arrays = _leaves(arguments)
        for i in count():
            if i == len(stages):
                stages.append(self._stage(arguments, arrays))
            results = list(stages[i].replay(*arrays))
            launch = stages[i].launch
            if launch is None:
                return tree_map(results.__getitem__, stages[i].results)
            arrays += launch(results)

    def _stage(self, arguments: tuple[Any, ...], arrays: list[mx.array]) -> _Stage:
        """The trace from `arrays`, those of the arguments and then what launches gave, to the launch after them."""
        launch: Any = None
        results: Any = None
        factory: Any = mx.fast.metal_kernel

        def trace(*arrays: mx.array) -> list[mx.array]:
            inputs_left = list(arrays)
            trees = [tree_map(lambda _: inputs_left.pop(0), tree) for tree in arguments]

            class Kernel:
                def __init__(self, *options: Any, **named: Any):
                    self.kernel = factory(*options, **named)

                def __call__(self, *, inputs: list[mx.array], **options: Any) -> list[mx.array]:
                    nonlocal launch
                    if inputs_left:
                        return [inputs_left.pop(0) for _ in options["output_shapes"]]
                    launch = lambda arrays: self.kernel(inputs=arrays, **options)  # noqa: E731
                    raise _Reached(inputs)

            nonlocal results
            mx.fast.metal_kernel = Kernel
            try:
                tree = self.function(*trees)
            except _Reached as end:
                return list(end.args[0])
            finally:
                mx.fast.metal_kernel = factory
            numbers = count()
            results = tree_map(lambda _: next(numbers), tree)
            return _leaves(tree)

        with tempfile.NamedTemporaryFile(suffix=".mlxfn") as file:
            mx.export_function(file.name, trace, *arrays)
            replay: Any = mx.import_function(file.name)
            return _Stage(replay, launch, results)


def _leaves(tree: Any) -> list[mx.array]:
    leaves: list[mx.array] = []
    tree_map(leaves.append, tree)
    return leaves
