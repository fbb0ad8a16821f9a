"""The parts that every layer is made of: products, norms, embeddings, activations. Each is called once a token.

They hold arrays and call mlx; which of them stands where is `models.transformer`'s work.
"""

from collections.abc import Callable, Sequence
from functools import partial

from metal import mx, nn
from models.weights import Matrix

Array = mx.array
GPU = mx.metal.is_available() or mx.cuda.is_available()
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

    def rows(self) -> Array:
        """W as numbers [out, in]."""
        return self.columns.T

    def arrays(self) -> dict[str, Array]:
        return {"weight": self.columns.T} | ({} if self.bias is None else {"bias": self.bias})


class QuantizedLinear:
    """The same for packed rows."""

    __slots__ = ("bias", "matrix")

    def __init__(self, matrix: Matrix, bias: Array | None = None) -> None:
        self.matrix = matrix
        self.bias = bias

    def __call__(self, x: Array) -> Array:
        m = self.matrix
        assert m.layout is not None
        if not GPU and x.size >= UNPACK * x.shape[-1]:
            y = x @ m.floats().astype(x.dtype).T
        else:
            y = mx.quantized_matmul(
                x,
                m.weight,
                m.scales,
                m.biases,
                True,
                m.layout.group_size,
                m.layout.bits,
                mode=m.layout.mode,
                global_scale=m.global_scale,
            )
        return y if self.bias is None else y + self.bias

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)"""
        layout, (rows, words) = self.matrix.layout, self.matrix.weight.shape
        assert layout is not None
        return rows, words * 32 // layout.bits

    def rows(self) -> Array:
        """W as numbers [out, in]."""
        return self.matrix.floats()

    def arrays(self) -> dict[str, Array]:
        m = self.matrix
        named = {"weight": m.weight, "scales": m.scales, "biases": m.biases, "global_scale": m.global_scale}
        return {k: v for k, v in {**named, "bias": self.bias}.items() if v is not None}


class Joined:
    """Several products of one input, side by side: what `join` could not make into one matrix."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence["AnyLinear"]) -> None:
        self.parts = list(parts)

    def __call__(self, x: Array) -> Array:
        return mx.concatenate([part(x) for part in self.parts], axis=-1)


AnyLinear = Linear | QuantizedLinear
Product = Callable[[Array], Array]


def linear(matrix: Matrix, bias: Array | None = None) -> AnyLinear:
    return Linear(matrix.weight, bias) if matrix.layout is None else QuantizedLinear(matrix, bias)


class Embedding:
    """Rows of a table by token; the same table is the head where the two are tied."""

    __slots__ = ("matrix",)

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix

    def __call__(self, tokens: Array) -> Array:
        if self.matrix.layout is None:
            return self.matrix.weight[tokens]
        return self.matrix.map(lambda part: part[tokens]).floats()

    def arrays(self) -> dict[str, Array]:
        m = self.matrix
        named = {"weight": m.weight, "scales": m.scales, "biases": m.biases, "global_scale": m.global_scale}
        return {k: v for k, v in named.items() if v is not None}


class RMSNorm:
    """x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467)."""

    __slots__ = ("eps", "weight")

    def __init__(self, weight: Array, eps: float) -> None:
        self.weight = weight
        self.eps = eps

    def __call__(self, x: Array) -> Array:
        return mx.fast.rms_norm(x, self.weight, self.eps)

    def arrays(self) -> dict[str, Array]:
        return {"weight": self.weight}


class LayerNorm:
    """(x - mean) / sqrt(variance + eps) * weight + bias (arXiv:1607.06450)."""

    __slots__ = ("bias", "eps", "weight")

    def __init__(self, weight: Array, bias: Array | None, eps: float) -> None:
        self.weight = weight
        self.bias = bias
        self.eps = eps

    def __call__(self, x: Array) -> Array:
        return mx.fast.layer_norm(x, self.weight, self.bias, self.eps)

    def arrays(self) -> dict[str, Array]:
        return {"weight": self.weight} | ({} if self.bias is None else {"bias": self.bias})


Norm = RMSNorm | LayerNorm


def silu(x: Array) -> Array:
    return x * mx.sigmoid(x)


ACTIVATE: dict[str, Callable[[Array], Array]] = {
    "silu": silu,
    "gelu": nn.gelu,
    "gelu_tanh": nn.gelu_approx,
    "relu": partial(mx.maximum, 0.0),
}
