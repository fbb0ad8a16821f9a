"""The parts that every layer is made of: products, norms, embeddings, activations. Each is called once a token.

They hold arrays and call mlx; which of them stands where is `models.transformer`'s work.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from likely.metal import mx
from likely.metal.device import compiles, gpu
from likely.models.modules.weights import Matrix, PackedRows

Array = mx.array
GPU = gpu()
NVFP4_MAX = 448.0 * 6.0  # the largest scale times the largest code: what a matrix's largest magnitude is stored as
_INVERSE_E = math.exp(-1)
UNPACK = 8  # rows from which, on a CPU, unpacking a matrix for the BLAS is cheaper than multiplying it packed


class Linear:
    """x W^T + b, for rows W [out, in]."""

    __slots__ = ("bias", "columns")

    def __init__(self, weight: Array, bias: Array | None = None) -> None:
        self.columns = weight.T  # a view: one operation less in every step
        self.bias = bias

    def __call__(self, x: Array) -> Array:
        return x @ self.columns if self.bias is None else mx.addmm(self.bias, x, self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)"""
        columns, rows = self.columns.shape
        return rows, columns

    @property
    def matrix(self) -> Matrix:
        """W as it is kept."""
        return self.columns.T


class QuantizedLinear:
    """y = x W^T + b with W in packed rows."""

    __slots__ = ("bias", "gain", "packed")

    def __init__(self, packed: PackedRows, bias: Array | None = None) -> None:
        self.packed = packed
        self.bias = bias
        whole = packed.global_scale
        self.gain = None if whole is None else whole / NVFP4_MAX

    def __call__(self, x: Array) -> Array:
        p, layout = self.packed, self.packed.layout
        if not GPU and x.size >= UNPACK * x.shape[-1]:
            y = x @ p.floats(x.dtype).T
        else:
            group, bits = layout.group_size, layout.bits
            y = mx.quantized_matmul(x, p.weight, p.scales, p.biases, True, group, bits, layout.mode)
            if self.gain is not None:
                y = y * self.gain
        return y if self.bias is None else y + self.bias

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)"""
        rows, columns = self.packed.shape
        return rows, columns

    @property
    def matrix(self) -> Matrix:
        """W as it is kept."""
        return self.packed


class JoinedProducts:
    """Several products of one input, side by side: what `join` could not make into one matrix."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence["AnyLinear"]) -> None:
        self.parts = list(parts)

    def __call__(self, x: Array) -> Array:
        return mx.concatenate([part(x) for part in self.parts], axis=-1)


AnyLinear = Linear | QuantizedLinear


def bare(layer: Any) -> Any:
    """The layer itself, past what stands around it and holds it as `base`: an adapter, a sum over ranks."""
    while hasattr(layer, "base"):
        layer = layer.base
    return layer


Product = Callable[[Array], Array]


def onto(residual: Array, product: Product, x: Array) -> Array:
    """residual + product(x), as one operation where that can be."""
    if isinstance(product, Linear) and product.bias is None:
        return mx.addmm(residual, x, product.columns)
    return residual + product(x)


def linear(matrix: Matrix, bias: Array | None = None) -> AnyLinear:
    return QuantizedLinear(matrix, bias) if isinstance(matrix, PackedRows) else Linear(matrix, bias)


class Embedding:
    """Rows of a table by token; the same table is the head where the two are tied."""

    __slots__ = ("dtype", "table")

    def __init__(self, table: Matrix, dtype: mx.Dtype) -> None:
        self.table = table
        self.dtype = dtype  # of the activations

    def __call__(self, tokens: Array) -> Array:
        if isinstance(self.table, PackedRows):
            return self.table.map(lambda part: part[tokens]).floats(self.dtype)
        return self.table[tokens]

    @property
    def shape(self) -> tuple[int, int]:
        """(V, C)"""
        rows, columns = self.table.shape
        return rows, columns

    @property
    def matrix(self) -> Matrix:
        return self.table


class RMSNorm:
    """x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467)."""

    __slots__ = ("_eps", "_share", "eps", "weight")

    def __init__(self, weight: Array, eps: float) -> None:
        self.weight = weight
        self.eps = eps
        self._eps, self._share = mx.array(eps), 1 / weight.shape[0]

    def __call__(self, x: Array) -> Array:
        if GPU or x.size != x.shape[-1] or x.dtype != mx.float32:
            return mx.fast.rms_norm(x, self.weight, self.eps)
        # one row on a CPU, where the fast form is made of seven operations: mean(x^2) + eps is one product
        square = mx.addmm(self._eps, x, x.swapaxes(-1, -2), alpha=self._share)
        return x * mx.rsqrt(square) * self.weight

    @property
    def matrix(self) -> Matrix:
        return self.weight


class LayerNorm:
    """(x - mean) / sqrt(variance + eps) * weight + bias (arXiv:1607.06450)."""

    __slots__ = ("bias", "eps", "weight")

    def __init__(self, weight: Array, bias: Array | None, eps: float) -> None:
        self.weight = weight
        self.bias = bias
        self.eps = eps

    def __call__(self, x: Array) -> Array:
        return mx.fast.layer_norm(x, self.weight, self.bias, self.eps)

    @property
    def matrix(self) -> Matrix:
        return self.weight


Norm = RMSNorm | LayerNorm


def silu(x: Array) -> Array:
    """x / (1 + e^-x). On a CPU by a power, which mlx computes four times faster there than the exponential."""
    return x * mx.sigmoid(x) if GPU else x / (1 + mx.power(_INVERSE_E, x))


def gelu(x: Array) -> Array:
    return x * (0.5 + 0.5 * mx.erf(x * 0.7071067811865476))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + mx.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@cache
def chain(activate: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    """(gate, up) -> activate(gate) * up, compiled where that pays."""

    def steps(gate: Array, up: Array) -> Array:
        return activate(gate) * up

    return mx.compile(steps, shapeless=True) if compiles() else steps


def gated(activate: Callable[[Array], Array], gate: Array, up: Array) -> Array:
    """activation(gate) * up; on a GPU one kernel (of gelu_tanh two), where each step would read and write all of it."""
    return chain(activate)(gate, up)


ACTIVATE: dict[str, Callable[[Array], Array]] = {
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": partial(mx.maximum, 0.0),
}
