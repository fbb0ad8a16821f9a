"""Stored keys and values of one layer, `KV`, plain or quantised: the operand of attention. Plain data.

A KV may stand behind a `prefix`, another KV that comes first: the prompt that N samples share, or the quantised past of
a cache whose recent rows are exact. Attention treats the chain as one sequence and never copies it together.
Knows nothing of how rows get here (that is a cache's work) nor of masks.
"""

from dataclasses import dataclass

from likely.metal import mx
from likely.metal.errors import KernelError


@dataclass(frozen=True, slots=True)
class QuantizedRows:
    """Rows [B, Hkv, capacity, D] in the layout of `mx.quantize`: in a group, a value is scale * code + bias."""

    codes: mx.array  # uint32 [B, Hkv, capacity, D * bits / 32]
    scales: mx.array  # [B, Hkv, capacity, D / group_size]
    biases: mx.array  # as scales
    group_size: int = 64
    bits: int = 8

    @property
    def shape(self) -> tuple[int, int, int, int]:
        b, h, n, words = self.codes.shape
        return b, h, n, words * 32 // self.bits

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes + self.biases.nbytes

    def floats(self, rows: int | None = None, dtype: mx.Dtype = mx.float32) -> mx.array:
        """The first `rows` rows [B, Hkv, rows, D] in `dtype`."""
        parts = (self.codes, self.scales, self.biases)
        codes, scales, biases = parts if rows is None else (x[:, :, :rows] for x in parts)
        if scales.dtype != dtype:
            scales, biases = scales.astype(dtype), biases.astype(dtype)
        return mx.dequantize(codes, scales, biases, self.group_size, self.bits)


@dataclass(frozen=True, slots=True)
class KV:
    """The keys and values of one layer: rows [B, Hkv, capacity, D] of which the first `lengths` are valid.

    The rows of the tokens now being computed are the last valid ones. `lengths` is what kernels read, so that one
    compiled step serves a whole capacity; `length` is its host mirror, the maximum over B, and None only while a step
    is being traced for `mx.compile`. `prefix` has either the same B or 1, which all B share.
    """

    keys: mx.array | QuantizedRows
    values: mx.array | QuantizedRows
    lengths: mx.array  # int32 [B]
    length: int | None
    ragged: bool = False  # the rows of B have different lengths
    positions: mx.array | None = None  # int32 [B, capacity]: where each stored row stands, for rings; -1: nowhere
    prefix: "KV | None" = None
    cached: bool = False  # the rows stand in a cache, so nobody differentiates through them

    @property
    def capacity(self) -> int:
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of these rows; those of a prefix are its own."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def traced(self) -> bool:
        """Whether these are plain rows, one after another, of which only the device knows how many there are."""
        plain = isinstance(self.keys, mx.array) and isinstance(self.values, mx.array)
        return self.length is None and self.prefix is None and self.positions is None and plain

    @property
    def total(self) -> int | None:
        """Valid rows of the whole chain, the maximum over B; None while tracing."""
        before = 0 if self.prefix is None else self.prefix.total
        return None if before is None or self.length is None else before + self.length

    def chain(self) -> "tuple[KV, ...]":
        """The segments in the order of their positions: the furthest prefix first, this one last."""
        return (self,) if self.prefix is None else (*self.prefix.chain(), self)

    def joined(self, b: int) -> tuple[mx.array, mx.array]:
        """The keys and values of the whole chain [b, Hkv, total, D], a prefix that all share once for each of b.

        For rows that are numbers; where they differ in number, the valid ones of each still come first.
        """

        def rows(name: str) -> mx.array:
            parts = [getattr(part, name)[:, :, : part.length] for part in self.chain()]
            return mx.concatenate([mx.broadcast_to(x, (b, *x.shape[1:])) for x in parts], axis=2)

        return rows("keys"), rows("values")


def floats(rows: mx.array | QuantizedRows, length: int | None) -> mx.array:
    """The first `length` rows as float32 [B, Hkv, length, D]; all of them for None."""
    if isinstance(rows, QuantizedRows):
        return rows.floats(length)
    part = rows if length is None or length == rows.shape[2] else rows[:, :, :length]
    return part if part.dtype == mx.float32 else part.astype(mx.float32)


def check_rows(name: str, rows: mx.array | QuantizedRows) -> None:
    """Refuse rows that no path could read, naming the argument."""
    if not isinstance(rows, QuantizedRows):
        if rows.ndim != 4:
            raise KernelError(f"{name} must be [B, Hkv, capacity, D], got shape {rows.shape}")
        if rows.dtype not in (mx.float32, mx.float16, mx.bfloat16):
            raise KernelError(f"{name} must be float32, float16 or bfloat16, got {rows.dtype}")
        return
    if rows.bits not in (4, 8):
        raise KernelError(f"{name}.bits must be 4 or 8, got {rows.bits}")
    if rows.group_size not in (32, 64, 128):
        raise KernelError(f"{name}.group_size must be 32, 64 or 128, got {rows.group_size}")
    if rows.codes.dtype != mx.uint32 or rows.codes.ndim != 4:
        raise KernelError(f"{name}.codes must be uint32 of 4 dimensions, got {rows.codes.dtype} {rows.codes.shape}")
    b, h, n, size = rows.shape
    if size % rows.group_size:
        raise KernelError(f"{name}: head size {size} is not a multiple of group_size {rows.group_size}")
    want = (b, h, n, size // rows.group_size)
    for part, got in (("scales", rows.scales), ("biases", rows.biases)):
        if got.shape != want:
            raise KernelError(f"{name}.{part} must be {want}, got {got.shape}")
    if rows.scales.dtype not in (mx.float32, mx.float16, mx.bfloat16):
        raise KernelError(f"{name}.scales must be float32, float16 or bfloat16, got {rows.scales.dtype}")
    if rows.biases.dtype != rows.scales.dtype:
        raise KernelError(f"{name}.biases must be {rows.scales.dtype} as the scales are, got {rows.biases.dtype}")
