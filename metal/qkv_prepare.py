"""The rows of new tokens, ready for a cache: QK-norm, rotary embedding and quantisation in one launch.

Quantised rows are laid out as those of `mx.quantize`, but a group's bias is its least value, and scale and codes are
chosen for what is stored of it: with 16-bit scales the largest error is half of that of scales rounded afterwards.
Knows nothing of caches.
"""

from dataclasses import dataclass

from metal import kernel, mx
from metal.errors import KernelError
from metal.kernel import Constant
from metal.kv import Quantized


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


@dataclass(frozen=True, slots=True)
class Projected:
    """T new tokens as a layer's projections give them, the first at position `offsets`, and what becomes of them.

    KernelError, naming the argument, where they do not fit together.
    """

    queries: mx.array  # [B, T, H, D]
    keys: mx.array  # [B, T, Hkv, D]
    values: mx.array  # as keys
    offsets: mx.array  # int32 [B] or [1]
    rotary: Rotary
    norm: Norm | None = None
    key_format: Format = PLAIN
    value_format: Format = PLAIN

    def __post_init__(self) -> None:
        if self.queries.ndim != 4 or 0 in self.queries.shape:
            raise KernelError(f"queries must be [B, T, H, D] with no empty dimension, got {self.queries.shape}")
        b, t, h, d = self.queries.shape
        keys, values, offsets = self.keys, self.values, self.offsets
        if keys.ndim != 4 or keys.shape[:2] != (b, t) or keys.shape[3] != d or not keys.shape[2] or h % keys.shape[2]:
            raise KernelError(f"keys must be [{b}, {t}, a divisor of {h}, {d}], got {keys.shape}")
        if values.shape != keys.shape:
            raise KernelError(f"values must have the shape of keys {keys.shape}, got {values.shape}")
        dtypes = self.queries.dtype, keys.dtype, values.dtype
        if len(set(dtypes)) > 1 or dtypes[0] not in (mx.float32, mx.float16, mx.bfloat16):
            raise KernelError(f"queries, keys and values must share a float dtype, got {dtypes[0]}, {dtypes[1]}")
        if offsets.dtype != mx.int32 or offsets.shape not in ((1,), (b,)):
            raise KernelError(f"offsets must be int32 [1] or [{b}], got {offsets.dtype} {offsets.shape}")
        turns, norm = self.rotary.frequencies, self.norm
        if turns.dtype != mx.float32 or turns.ndim != 1 or not 0 < 2 * turns.size <= d:
            raise KernelError(f"rotary.frequencies must be float32 [1..{d // 2}], got {turns.dtype} {turns.shape}")
        if norm is not None and (norm.query.shape != (d,) or norm.key.shape != (d,)):
            raise KernelError(f"norm weights must be [{d}], got {norm.query.shape} and {norm.key.shape}")
        for name, form in (("key_format", self.key_format), ("value_format", self.value_format)):
            if form.bits not in (4, 8, 16):
                raise KernelError(f"{name}.bits must be 4, 8 or 16, got {form.bits}")
            if form.bits < 16 and (form.group_size not in (32, 64, 128) or d % form.group_size):
                raise KernelError(f"{name}.group_size must be 32, 64 or 128 and divide D = {d}, got {form.group_size}")
        quantised = [form for form in (self.key_format, self.value_format) if form.bits < 16]
        if len({form.scales for form in quantised}) > 1:
            raise KernelError("key_format.scales and value_format.scales must be the same dtype")


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Rows as attention and the cache take them: queries [B, H, T, D], and keys and values [B, Hkv, T, D]."""

    queries: mx.array
    keys: mx.array | Quantized
    values: mx.array | Quantized


def prepare(new: Projected) -> PreparedRows:
    """The rows of new tokens: by our kernel where there is Metal."""
    dtype, d = new.queries.dtype, new.queries.shape[3]
    ours = kernel.available() and kernel.enabled("qkv_prepare", dtype, d)
    return by_kernel(new) if ours else by_reference(new)


def quantize(x: mx.array, form: Format) -> Quantized:
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
    return Quantized(mx.contiguous(codes).view(mx.uint32), scales[..., 0], biases[..., 0], form.group_size, form.bits)


def by_reference(new: Projected) -> PreparedRows:
    """The same by mlx's own operations."""
    turns, norm = new.rotary.frequencies, new.norm

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

    def stored(x: mx.array, form: Format) -> mx.array | Quantized:
        return x if form.bits == 16 else quantize(x, form)

    keys = turned(new.keys, norm.key if norm else None)
    return PreparedRows(
        turned(new.queries, norm.query if norm else None),
        stored(keys, new.key_format),
        stored(new.values.swapaxes(1, 2), new.value_format),
    )


def by_kernel(new: Projected) -> PreparedRows:
    """One launch of `qkv_prepare.metal`."""
    b, t, h, d = new.queries.shape
    heads, dtype = new.keys.shape[2], new.queries.dtype
    turns, norm = new.rotary.frequencies, new.norm
    formats = {"key": new.key_format, "value": new.value_format}
    params = kernel.int32(h, heads, t, turns.size, kernel.bits(norm.eps if norm else 0.0), int(new.offsets.size > 1))
    inputs = {"queries": new.queries, "new_keys": new.keys, "new_values": new.values, "offsets": new.offsets}
    inputs |= {"frequencies": turns, "params": params}
    if norm is not None:
        inputs |= {"query_weight": norm.query, "key_weight": norm.key}
    outputs: dict[str, tuple[tuple[int, ...], mx.Dtype]] = {"out": ((b, h, t, d), dtype)}
    defines = {"NORM": int(norm is not None)}
    template: dict[str, Constant] = {"T": dtype, "D": d, "TRADITIONAL": int(new.rotary.traditional)}
    for name, form in formats.items():
        letter = name[0].upper()
        defines |= {f"{letter}_BITS": form.bits, f"{letter}_GROUP": form.group_size if form.bits < 16 else 0}
        if form.bits == 16:
            outputs[f"{name}s"] = ((b, heads, t, d), dtype)
            continue
        template["S"] = form.scales
        outputs[f"{name}_codes"] = ((b, heads, t, d * form.bits // 32), mx.uint32)
        for part in ("scales", "biases"):
            outputs[f"{name}_{part}"] = ((b, heads, t, d // form.group_size), form.scales)
    grid = (h + 2 * heads, t, b)
    got = kernel.launch("qkv_prepare.metal", inputs, outputs, grid=grid, threads=32, defines=defines, template=template)

    def rows(name: str) -> mx.array | Quantized:
        form = formats[name]
        if form.bits == 16:
            return got[f"{name}s"]
        codes, scales, biases = (got[f"{name}_{part}"] for part in ("codes", "scales", "biases"))
        return Quantized(codes, scales, biases, form.group_size, form.bits)

    return PreparedRows(got["out"], rows("key"), rows("value"))
