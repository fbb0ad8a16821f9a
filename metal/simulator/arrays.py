"""mlx arrays as the memory that a kernel sees, and back. bfloat16 travels as uint16, for numpy does not know it."""

import ctypes
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from likely.metal import mx


def _dtype(dtype: mx.Dtype) -> np.dtype[Any]:
    return np.dtype("uint16" if dtype == mx.bfloat16 else str(dtype).removeprefix("mlx.core."))


def host(array: mx.array, contiguous: bool = True) -> np.ndarray[Any, Any]:
    """The array's memory, evaluated, without a copy where it can be had; its strides too unless `contiguous`."""
    if array.size == 0:
        return np.zeros(array.shape, _dtype(array.dtype))
    numbers = np.asarray(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)
    numbers = np.ascontiguousarray(numbers).reshape(numbers.shape) if contiguous else numbers
    return numbers if numbers.ctypes.data % 16 == 0 else _aligned(numbers)


def _aligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy where a Metal buffer could start: on a CPU mlx's own memory starts at an odd multiple of 8."""
    low, high = np.lib.array_utils.byte_bounds(array)
    block = np.empty(high - low + 16, np.uint8)
    start = -block.ctypes.data % 16
    ctypes.memmove(block.ctypes.data + start, low, high - low)
    offset = start + array.ctypes.data - low
    return np.ndarray(array.shape, array.dtype, buffer=block.data, offset=offset, strides=array.strides)


def empty(shape: Sequence[int], dtype: mx.Dtype, init_value: float | None = None) -> np.ndarray[Any, Any]:
    """An output: filled with the value, or with all-ones bytes (NaN in every float type), as nobody promises zeros."""
    if init_value is not None:
        return np.array(host(mx.full(shape, init_value, dtype)))
    filled: np.ndarray[Any, Any] = np.full(prod(shape) * dtype.size, 0xFF, np.uint8)
    return filled.view(_dtype(dtype)).reshape(shape)


def device(array: np.ndarray[Any, Any], dtype: mx.Dtype) -> mx.array:
    """The mlx array of an output."""
    return mx.array(array).view(dtype) if dtype == mx.bfloat16 else mx.array(array)
