"""Inputs for the kernel tests: seeded arrays, stored rows, caches, what a result is compared by; Metal with faults."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from likely.metal import autotune, kernel, mx, selftest, tuning_cache
from likely.metal.counts import recorded
from likely.metal.dispatch import Shape
from likely.metal.kv import KV, QuantizedRows
from likely.metal.simulator import simulated

__all__ = ["cache", "each", "error", "normal", "recorded", "rejects", "stored", "ulp"]

ULP = {mx.float32: 2.0**-23, mx.float16: 2.0**-10, mx.bfloat16: 2.0**-7}  # of a value in [1, 2)


def normal(seed: int, *shape: int, dtype: mx.Dtype = mx.float32, scale: float = 1.0) -> mx.array:
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return mx.array(values.astype(np.float32)).astype(dtype)


def stored(x: mx.array, bits: int, group_size: int = 64) -> mx.array | QuantizedRows:
    """Rows as a cache keeps them: plain for 16 bits."""
    if bits == 16:
        return x
    codes, scales, biases = mx.quantize(x, group_size, bits)
    return QuantizedRows(codes, scales, biases, group_size, bits)


def cache(keys: mx.array | QuantizedRows, values: mx.array | QuantizedRows, *lengths: int, **more: Any) -> KV:
    """A KV whose rows of B have these lengths; one length is for all of them."""
    b = keys.shape[0]
    each = list(lengths) if len(lengths) > 1 else [lengths[0]] * b
    return KV(keys, values, mx.array(each, dtype=mx.int32), max(each), ragged=len(set(each)) > 1, **more)


def error(x: mx.array, truth: np.ndarray) -> float:
    """The largest absolute error; infinities must be the same ones, and nothing may be NaN."""
    got = np.array(x.astype(mx.float32)).astype(np.float64)
    assert got.shape == truth.shape
    assert not np.isnan(got).any()
    assert np.array_equal(np.isinf(got), np.isinf(truth))
    finite = ~np.isinf(truth)
    return float(np.abs(got[finite] - truth[finite]).max(initial=0.0))


def ulp(dtype: mx.Dtype, truth: np.ndarray) -> float:
    """One unit in the last place of the largest of these values, in `dtype`."""
    return float(ULP[dtype] * 2.0 ** np.floor(np.log2(max(np.abs(truth).max(), 2.0**-20))))


def rejects(act: Callable[[], object], *words: str) -> None:
    """The act raises KernelError on one line that has these words."""

    from likely.metal.errors import KernelError

    with pytest.raises(KernelError) as caught:
        act()
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def each(*columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows that go through every column's values at least once, side by side rather than in all combinations."""
    most = max(map(len, columns))
    return [tuple(column[i % len(column)] for column in columns) for i in range(most)]


def launched(kernel: Any, *inputs: mx.array, size: int = 0, threads: int = 0, group: int = 0, **more: Any) -> mx.array:
    """What a kernel of one output makes: as many numbers as the first input has, with a thread for each, or so many."""
    size = size or inputs[0].size
    threads = threads or size
    options = {"output_shapes": [(size,)], "output_dtypes": [inputs[0].dtype], "grid": (threads, 1, 1)} | more
    out: mx.array = kernel(inputs=list(inputs), threadgroup=(group or threads, 1, 1), **options)[0]
    return out


@dataclass
class Metal:
    """What a simulated machine has run: its launches by name, and each variant that its compiler has seen."""

    launches: Counter[str]
    variants: set[str] = field(default_factory=set)


@contextmanager
def metal(*faults: tuple[str, str, str], meets: Callable[[str], object] = lambda name: None) -> Iterator[Metal]:
    """Metal, simulated, whose compiler puts `new` for `old` in a kernel's text, for each fault (kernel, old, new).

    What `meets` does happens in the place of a launch: it gets the kernel's name, and goes on if it returns.
    """
    with simulated() as launches:
        make, found = mx.fast.metal_kernel, Metal(launches)

        def metal_kernel(*, name: str, source: str, header: str, **more: Any) -> Any:
            for wrong, old, new in faults:
                if name.split("_", 1)[1].startswith(wrong):
                    assert old in header + source, f"{old!r} is no part of {name}"
                    header, source = header.replace(old, new), source.replace(old, new)
            made = make(name=name, source=source, header=header, **more)

            def launch(*, inputs: Sequence[mx.array], template: Any = None, **options: Any) -> list[mx.array]:
                meets(name)
                found.variants.add(f"{name} {[str(x.dtype) for x in inputs]} {sorted(map(str, template or ()))}")
                outputs: list[mx.array] = made(inputs=inputs, template=template, **options)
                return outputs

            return launch

        mx.fast.metal_kernel = metal_kernel
        yield found


def known(shape: Shape, *but: str) -> tuning_cache.Record:
    """A record on the disk in which everything of a shape was compared and timed, but what begins with these names."""
    record = tuning_cache.load() or tuning_cache.blank()
    for case in selftest.cases(shape):
        if not case.name.startswith(but):
            record.verdicts[case.name] = "passed before"
    for timing in autotune.timing_cases(shape):
        if not timing.name.startswith(but):
            record.faster[timing.name] = False
    tuning_cache.save(record)
    return record


class Clock:
    """Seconds by turns: an evaluation takes `ours` if a kernel of ours was launched for it, else `other`; one of a list
    is used up at each, to the last."""

    def __init__(self, ours: float | list[float], other: float | list[float]) -> None:
        self.takes = {
            True: ours if isinstance(ours, list) else [ours],
            False: other if isinstance(other, list) else [other],
        }
        self.now, self.runs, self.launched = 0.0, False, kernel.launches.total()

    def __call__(self) -> float:
        if self.runs:
            left = self.takes[kernel.launches.total() > self.launched]
            self.now += left.pop(0) if len(left) > 1 else left[0]
            self.launched = kernel.launches.total()
        self.runs = not self.runs
        return self.now
