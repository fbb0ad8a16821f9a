"""The rows of new tokens, ready for a cache: QK-norm, rotary embedding and quantisation in one launch.

Quantised rows are laid out as those of `mx.quantize`, but a group's bias is its least value, and scale and codes are
chosen for what is stored of it: with 16-bit scales the largest error is half of that of scales rounded afterwards.
Knows nothing of caches.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from likely.metal import kernel, mx
from likely.metal.errors import KernelError
from likely.metal.kernel import Constant
from likely.metal.kv import QuantizedRows


@dataclass(frozen=True, slots=True)
class Format:
    """How rows are stored: `bits` 16 keeps the dtype; 8 or 4 quantise, with scales and biases of dtype `scales`."""

    bits: int = 16
    group_size: int = 64
    scales: mx.Dtype = mx.bfloat16


PLAIN = Format()


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary embedding: the angle of pair i at position p is p * frequencies[i]. arXiv:2104.09864, equation 15.

    A pair is (i, i + n) of the first 2n values, or (2i, 2i + 1) if `traditional`.
    """

    frequencies: mx.array  # float32 [n], radians a position
    traditional: bool = False


@dataclass(frozen=True, slots=True)
class Norm:
    """RMS norm of each head's query and key: x / sqrt(mean(x^2) + eps) * weight."""

    query: mx.array  # [D]
    key: mx.array  # [D]
    eps: float = 1e-6


Dims = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Shapes:
    """All of a `ProjectedTokens` but its numbers."""

    rows: Dims
    dtype: mx.Dtype
    kv_heads: int
    offsets: tuple[Dims, mx.Dtype]
    frequencies: tuple[Dims, mx.Dtype]
    traditional: bool
    norm: tuple[Dims, Dims, float] | None  # of both weights, and its epsilon
    special: tuple[Format, Format] | None  # of keys and values, where they are not both PLAIN

    @property
    def formats(self) -> tuple[Format, Format]:
        return self.special or (PLAIN, PLAIN)


@dataclass(frozen=True, slots=True)
class ProjectedTokens:
    """T new tokens as a layer's projections give them, the first at position `offsets`, and what becomes of them.

    `prepare` raises KernelError, naming the argument, where they do not fit together.
    """

    rows: mx.array  # [B, T, H + 2 Hkv, D]: of each token the queries, the keys, the values
    kv_heads: int
    offsets: mx.array  # int32 [B] or [1]
    rotary: Rotary
    norm: Norm | None = None
    key_format: Format = PLAIN
    value_format: Format = PLAIN

    @property
    def shapes(self) -> tuple[object, ...]:
        """The values of `_Shapes`, as a key: this runs for every layer of every token."""
        rows, offsets, rotary, norm = self.rows, self.offsets, self.rotary, self.norm
        turns, key, value = rotary.frequencies, self.key_format, self.value_format
        normed = None if norm is None else (norm.query.shape, norm.key.shape, norm.eps)
        formats = None if key is PLAIN and value is PLAIN else (key, value)
        where, angles = (offsets.shape, offsets.dtype), (turns.shape, turns.dtype)
        return rows.shape, rows.dtype, self.kv_heads, where, angles, rotary.traditional, normed, formats


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Rows as attention and the cache take them: queries [B, H, T, D], and keys and values [B, Hkv, T, D]."""

    queries: mx.array
    keys: mx.array | QuantizedRows
    values: mx.array | QuantizedRows


def prepare(new: ProjectedTokens) -> PreparedRows:
    """The rows of new tokens: by our kernel where there is Metal."""
    rows = new.rows
    ours = kernel.available() and (not kernel.switched_off or kernel.enabled("qkv_prepare", rows.dtype, rows.shape[-1]))
    return by_kernel(new) if ours else by_reference(new)


@lru_cache(maxsize=256)
def _checked(*shapes: Any) -> _Shapes:
    """KernelError where shapes and dtypes do not fit together."""
    known = _Shapes(*shapes)
    rows, heads = known.rows, known.kv_heads
    if len(rows) != 4 or 0 in rows:
        raise KernelError(f"rows must be [B, T, H + 2 Hkv, D] with no empty dimension, got {rows}")
    b, _, every, d = rows
    if heads < 1 or every <= 2 * heads or (every - 2 * heads) % heads:
        raise KernelError(
            f"rows must have H query heads, a multiple of Hkv = {heads}, and 2 Hkv more, got {every} in all"
        )
    if known.dtype not in (mx.float32, mx.float16, mx.bfloat16):
        raise KernelError(f"rows must be float32, float16 or bfloat16, got {known.dtype}")
    offsets, position = known.offsets
    if position != mx.int32 or offsets not in ((1,), (b,)):
        raise KernelError(f"offsets must be int32 [1] or [{b}], got {position} {offsets}")
    turns, angle = known.frequencies
    if angle != mx.float32 or len(turns) != 1 or not 0 < 2 * turns[0] <= d:
        raise KernelError(f"rotary.frequencies must be float32 [1..{d // 2}], got {angle} {turns}")
    if known.norm is not None and known.norm[:2] != ((d,), (d,)):
        raise KernelError(f"norm weights must be [{d}], got {known.norm[0]} and {known.norm[1]}")
    for name, form in zip(("key_format", "value_format"), known.formats, strict=True):
        if form.bits not in (4, 8, 16):
            raise KernelError(f"{name}.bits must be 4, 8 or 16, got {form.bits}")
        if form.bits < 16 and (form.group_size not in (32, 64, 128) or d % form.group_size):
            raise KernelError(f"{name}.group_size must be 32, 64 or 128 and divide D = {d}, got {form.group_size}")
    if len({form.scales for form in known.formats if form.bits < 16}) > 1:
        raise KernelError("key_format.scales and value_format.scales must be the same dtype")
    return known


def quantize(x: mx.array, form: Format) -> QuantizedRows:
    """Rows [..., D] in the layout of `mx.quantize`, with the codes that fit the stored scale and bias best."""
    most = 2**form.bits - 1
    groups = x.astype(mx.float32).reshape(*x.shape[:-1], -1, form.group_size)
    biases = mx.min(groups, axis=-1, keepdims=True).astype(form.scales)
    above = groups - biases.astype(mx.float32)
    scales = mx.maximum(mx.max(above, axis=-1, keepdims=True) / most, 1e-7).astype(form.scales)
    steps = mx.clip(above / scales.astype(mx.float32), 0, most) + 0.5
    codes = steps.astype(mx.uint8).reshape(x.shape)
    if form.bits == 4:
        codes = codes[..., ::2] | (codes[..., 1::2] << 4)
    return QuantizedRows(
        mx.contiguous(codes).view(mx.uint32), scales[..., 0], biases[..., 0], form.group_size, form.bits
    )


def by_reference(new: ProjectedTokens) -> PreparedRows:
    """Rows split into queries, keys and values, normed, rotated and packed by mlx: the reference of `by_kernel`."""
    _checked(*new.shapes)
    turns, norm, every = new.rotary.frequencies, new.norm, new.rows.shape[2]
    own_queries, own_keys, own_values = mx.split(new.rows, [every - 2 * new.kv_heads, every - new.kv_heads], axis=2)

    def turned(x: mx.array, weight: mx.array | None) -> mx.array:
        if norm is not None:
            x = mx.fast.rms_norm(x, weight, norm.eps)
        return mx.fast.rope(
            x.swapaxes(1, 2),
            2 * turns.size,
            traditional=new.rotary.traditional,
            base=None,
            scale=1.0,
            offset=mx.broadcast_to(new.offsets, (x.shape[0],)),
            freqs=1 / turns,
        )

    def stored(x: mx.array, form: Format) -> mx.array | QuantizedRows:
        return x if form.bits == 16 else quantize(x, form)

    return PreparedRows(
        turned(own_queries, norm.query if norm else None),
        stored(turned(own_keys, norm.key if norm else None), new.key_format),
        stored(own_values.swapaxes(1, 2), new.value_format),
    )


@lru_cache(maxsize=256)
def _plan(make: object, *shapes: Any) -> tuple[kernel.KernelCall, mx.array]:
    """A launch for rows of these shapes by what `make` makes (mx.fast.metal_kernel or a stand-in), and parameters."""
    known = _checked(*shapes)
    (b, t, every, d), heads, dtype = known.rows, known.kv_heads, known.dtype
    (pairs,), eps = known.frequencies[0], 0.0 if known.norm is None else known.norm[2]
    h = every - 2 * heads
    params = kernel.int32(h, heads, t, pairs, kernel.bits(eps), int(known.offsets[0] != (1,)))
    inputs: tuple[str, ...] = ("rows", "offsets", "frequencies", "params")
    if known.norm is not None:
        inputs = (*inputs, "query_weight", "key_weight")
    outputs: list[tuple[str, Dims, mx.Dtype]] = [("out", (b, h, t, d), dtype)]
    defines = {"NORM": int(known.norm is not None)}
    template: dict[str, Constant] = {"T": dtype, "D": d, "TRADITIONAL": int(known.traditional)}
    for name, form in zip(("key", "value"), known.formats, strict=True):
        letter = name[0].upper()
        defines |= {f"{letter}_BITS": form.bits, f"{letter}_GROUP": form.group_size if form.bits < 16 else 0}
        if form.bits == 16:
            outputs.append((f"{name}s", (b, heads, t, d), dtype))
            continue
        template["S"] = form.scales
        outputs.append((f"{name}_codes", (b, heads, t, d * form.bits // 32), mx.uint32))
        outputs += [
            (f"{name}_{part}", (b, heads, t, d // form.group_size), form.scales) for part in ("scales", "biases")
        ]
    once = kernel.prepared(
        "qkv_prepare.metal",
        inputs,
        tuple(outputs),
        grid=(every, t, b),
        threads=32,
        defines=defines,
        template=template,
    )
    return once, params


def by_kernel(new: ProjectedTokens) -> PreparedRows:
    """One launch of `qkv_prepare.metal`."""
    launch, params = _plan(mx.fast.metal_kernel, *new.shapes)
    norm, inputs = new.norm, [new.rows, new.offsets, new.rotary.frequencies, params]
    if norm is not None:
        inputs += [norm.query, norm.key]
    out, *rows = launch(inputs)

    def stored(form: Format) -> mx.array | QuantizedRows:
        if form.bits == 16:
            return rows.pop(0)
        return QuantizedRows(rows.pop(0), rows.pop(0), rows.pop(0), form.group_size, form.bits)

    return PreparedRows(out, stored(new.key_format), stored(new.value_format))
