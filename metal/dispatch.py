"""Which path attention takes: mlx's own kernel ("stock"), ours, or the reference.

Stock wherever it supports the case, unless this chip was measured to be faster with ours (`metal/autotune.py`); ours
where stock would need an array of T x N, cannot read the rows or cannot report; the reference where there is no Metal
or a kernel is switched off. A path can be forced for a block, and then what it cannot take is an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from metal import kernel, metal_attention, mx
from metal.errors import KernelError
from metal.kv import KV, Quantized

Path = Literal["stock", "ours", "reference"]

FUSED_ROWS = 8  # queries up to which quantised rows are read as they are; above, dequantising them once costs less

faster: dict[str, bool] = {}  # by `key`: whether ours was measured to be faster where stock would do
_forced: Path | None = None


@contextmanager
def forced(path: Path) -> Iterator[None]:
    """Inside the block attention takes this path, and raises KernelError for what the path cannot take."""
    global _forced
    before, _forced = _forced, path
    try:
        yield
    finally:
        _forced = before


def free() -> bool:
    """Whether no path is forced."""
    return _forced is None


def path(q: mx.array, kv: KV, *, stock: bool) -> Path:
    """The path for one call; `stock` says whether mlx's own kernel supports it."""
    if _forced is not None:
        return _obeyed(_forced, q, kv, stock)
    if not kernel.available():
        return "stock" if stock else "reference"
    few = q.shape[2] <= FUSED_ROWS
    quantised = isinstance(kv.keys, Quantized) or isinstance(kv.values, Quantized)
    if stock and not (quantised and few) and not (faster and faster.get(key(q, kv), False)):
        return "stock"
    if all(map(kernel.enabled, ("decode", "tiles", "merge"))) and metal_attention.refusal(q, kv) is None:
        return "ours"
    return "stock" if stock else "reference"


def _obeyed(path: Path, q: mx.array, kv: KV, stock: bool) -> Path:
    if path == "stock" and not stock:
        raise KernelError(
            "attention: mlx's own kernel was asked for, which does not support these rows, mask or options"
        )
    if path == "ours" and (why := metal_attention.refusal(q, kv)) is not None:
        raise KernelError(why)
    return path


def key(q: mx.array, kv: KV) -> str:
    """What a measurement is good for: the kind of call, dtype, head size, group, and capacity to a power of four."""
    _, h, t, d = q.shape
    heads, capacity = kv.keys.shape[1:3]
    return name("decode" if t <= FUSED_ROWS else "prefill", q.dtype, d, h // heads, capacity)


def name(kind: str, dtype: mx.Dtype, head_size: int, group: int, capacity: int) -> str:
    """The key of such calls."""
    return f"{kind} {str(dtype).removeprefix('mlx.core.')} D={head_size} g={group} N={bucket(capacity)}"


def bucket(capacity: int) -> int:
    """The power of four from 1024 up that this capacity does not exceed."""
    top = 1024
    while top < capacity:
        top *= 4
    return top
