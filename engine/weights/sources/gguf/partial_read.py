"""Reads parts of the tensors in a file, and no other byte of it. Knows no format, nor what the values mean."""

import os
from collections.abc import Sequence
from math import prod
from typing import BinaryIO

import numpy as np

from likely.engine.base.errors import CheckpointError


def read(
    file: BinaryIO,
    name: str,
    offset: int,
    shape: Sequence[int],
    nbytes: int,
    axis: int = 0,
    ranges: Sequence[tuple[int, int]] | None = None,
) -> np.ndarray:
    """The bytes of a tensor that begins at `offset`: of the whole, or of these ranges of one axis, one after another.

    `shape` counts units of `nbytes` bytes each: values, or blocks of them. CheckpointError if the file ends too early.
    """
    axis %= len(shape)
    ranges = [(0, shape[axis])] if ranges is None else ranges
    inner = prod(shape[axis + 1 :]) * nbytes
    rows, stride = prod(shape[:axis]), shape[axis] * inner
    if len(ranges) == 1 and ranges[0] == (0, shape[axis]):  # in one piece
        rows, ranges, inner, stride = 1, [(0, rows)], stride, 0
    out = np.empty((rows, inner * sum(end - start for start, end in ranges)), np.uint8)
    for row in range(rows):
        at = 0
        for start, end in ranges:
            size = (end - start) * inner
            _fill(file, name, offset + row * stride + start * inner, out[row, at : at + size].data)
            at += size
    return out.reshape(-1)


def _fill(file: BinaryIO, name: str, offset: int, room: memoryview) -> None:
    while room.nbytes:
        count = os.preadv(file.fileno(), [room], offset)
        if not count:
            raise CheckpointError(f"{file.name} ends inside tensor {name!r}; it is truncated, fetch it again")
        offset, room = offset + count, room[count:]
