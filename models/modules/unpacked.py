"""Matrices of a graph that are kept packed until they are multiplied: products and tables of `models.layers`.

So a model's parts can be listed, and something put around them, without a second copy of its weights. Knows no model.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from likely.metal import mx, packed
from likely.metal.packed import PackedMatrix
from likely.models.errors import ConfigError
from likely.models.modules.linear import Embedding, Linear

AT_ONCE = 1 << 21  # numbers of a matrix that are unpacked in one piece


class UnpackedRows:
    """Rows [out, in] of packed matrices, one below the other: float32, made and kept when they are first wanted."""

    def __init__(self, matrices: Sequence[PackedMatrix], *, keeps: bool) -> None:
        """`keeps`: there is memory for them."""
        self.matrices, self._keeps = matrices, keeps
        self.made: mx.array | None = None
        self.shape = sum(matrix.shape[0] for matrix in matrices), matrices[0].shape[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> "UnpackedRows":
        """Of the same packed matrices, which nobody writes."""
        twin = UnpackedRows(self.matrices, keeps=self._keeps)
        twin.made = copy.deepcopy(self.made, memo)
        return twin

    @property
    def numbers(self) -> mx.array:
        """All of them; ConfigError where there is not the memory."""
        if self.made is None:
            if not self._keeps:
                raise ConfigError(
                    "attention weights, packed or windowed keys and training need these weights expanded, and there is "
                    f"not the memory: start with LIKELY_PACKED={packed.OFF}, which keeps them packed in the graph"
                )
            self.made = self.cut(0, self.shape[0])
            mx.eval(self.made)
        return self.made

    def cut(self, start: int, stop: int) -> mx.array:
        """The rows [start, stop), which nothing keeps if they are not there already."""
        if self.made is not None:
            return self.made[start:stop]
        parts = [*self._pieces(start, stop)]
        return parts[0] if len(parts) == 1 else mx.concatenate(parts)

    def _pieces(self, start: int, stop: int) -> Iterator[mx.array]:
        """In pieces: new memory can cost more than what is written to it."""
        step, before = max(1, AT_ONCE // self.shape[1]), 0
        for matrix in self.matrices:
            low, high = max(start - before, 0), min(stop - before, matrix.shape[0])
            for first in range(low, high, step):
                yield mx.array(matrix.rows(np.arange(first, min(first + step, high))))
            before += matrix.shape[0]


class UnpackedLinear(Linear):
    """y = x W^T + b with rows of W that are expanded at the first call."""

    __slots__ = ("rows",)

    def __init__(self, rows: UnpackedRows, bias: mx.array | None) -> None:
        self.rows, self.bias = rows, bias

    def __getattr__(self, name: str) -> Any:
        if name != "columns":
            raise AttributeError(name)
        self.columns = self.rows.numbers.T
        return self.columns

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)"""
        return self.rows.shape


class UnpackedEmbedding(Embedding):
    """An embedding whose table is expanded at the first call; it is the head too where the two are tied."""

    __slots__ = ("rows",)

    def __init__(self, rows: UnpackedRows, dtype: mx.Dtype) -> None:
        self.rows, self.dtype = rows, dtype

    def __getattr__(self, name: str) -> Any:
        if name != "table":
            raise AttributeError(name)
        self.table = self.rows.numbers
        return self.table

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape
