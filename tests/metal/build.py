"""Inputs for the kernel tests: seeded arrays, stored rows, caches, and what a result is compared by."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from metal import mx
from metal.counts import recorded
from metal.kv import KV, Quantized

__all__ = ["cache", "each", "error", "everyday", "normal", "recorded", "rejects", "stored", "ulp"]

ULP = {mx.float32: 2.0**-23, mx.float16: 2.0**-10, mx.bfloat16: 2.0**-7}  # of a value in [1, 2)


def normal(seed: int, *shape: int, dtype: mx.Dtype = mx.float32, scale: float = 1.0) -> mx.array:
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return mx.array(values.astype(np.float32)).astype(dtype)


def stored(x: mx.array, bits: int, group_size: int = 64) -> mx.array | Quantized:
    """Rows as a cache keeps them: plain for 16 bits."""
    if bits == 16:
        return x
    codes, scales, biases = mx.quantize(x, group_size, bits)
    return Quantized(codes, scales, biases, group_size, bits)


def cache(keys: mx.array | Quantized, values: mx.array | Quantized, *lengths: int, **more: Any) -> KV:
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
    import pytest

    from metal.errors import KernelError

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


def everyday(cases: Sequence[Any], every: int) -> list[Any]:
    """Cases of which each `every`-th belongs to the everyday part, and the others to the slow one."""
    many = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=() if i % every == 0 else pytest.mark.slow) for i, case in enumerate(many)]
