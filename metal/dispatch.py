"""Dispatch of attention to a path: mlx's own kernel ("stock"), ours, or the reference.

Stock wherever it supports the case as it is, unless this chip was measured to be faster with ours
(`metal/autotune.py`); ours where stock would need an array of T x N, a copy of the rows or cannot report, unless stock
was measured to be faster even so; the reference where there is no Metal or a kernel is switched off. A path can be
forced for a block, and then what it cannot take is an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from likely.metal import kernel, mx
from likely.metal.errors import KernelError
from likely.metal.kv import KV, QuantizedRows
from likely.metal.mask import Mask

Path = Literal["stock", "ours", "reference"]

KERNELS = ("decode", "tiles", "merge")
FUSED_ROWS = 8  # queries up to which quantised rows are read as they are; above, dequantising them once costs less
BATCH = 8  # rows of B up to which one measurement holds, where there is more than one

# By `key` whether ours was measured to be faster than what else can do it; by the name of a "decode compiled" whether
# attention in a compiled step, by whichever is faster there, was measured to cost no more than in one that is not.
faster: dict[str, bool] = {}
_forced: Path | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """The attention of a model: what its kernels are compiled, compared and timed for."""

    head_size: int
    heads: int
    kv_heads: int
    dtype: mx.Dtype = mx.float16
    bits: tuple[int, int] = (16, 16)  # of stored keys and values
    window: int = 0
    softcap: float | None = None


@contextmanager
def forced(path: Path | None) -> Iterator[None]:
    """Inside the block attention takes this path, and raises KernelError for what the path cannot take; None: any."""
    global _forced
    before, _forced = _forced, path
    try:
        yield
    finally:
        _forced = before


def free() -> bool:
    """Whether no path is forced."""
    return _forced is None


def path(q: mx.array, kv: KV, mask: Mask, softcap: float | None, *, plain: bool, masked: bool) -> Path:
    """The path for one call. Stock supports it `plain`, as it is, or `masked`, with an array of what is seen."""
    if _forced is not None:
        return _obeyed(_forced, q, kv, mask, plain or masked)
    if not kernel.available():
        return "stock" if plain else "reference"
    if mask.also is not None:
        return "stock" if masked else "reference"
    quantised = isinstance(kv.keys, QuantizedRows) or isinstance(kv.values, QuantizedRows)
    wins = not plain or (quantised and q.shape[2] <= FUSED_ROWS)  # where nothing was measured
    lost = False
    if faster and (plain or masked or softcap is not None):
        measured = faster.get(key(q, kv, mask, softcap, plain=plain))
        wins, lost = wins if measured is None else measured, measured is False
    if wins and enabled(q.dtype, q.shape[3]) and _refusal(q, kv) is None:
        return "ours"
    return "stock" if plain or (masked and (lost or kv.traced)) else "reference"


def _refusal(q: mx.array, kv: KV) -> str | None:
    from likely.metal import metal_attention  # which no CPU needs

    return metal_attention.refusal(q, kv)


def enabled(dtype: mx.Dtype, head_size: int) -> bool:
    """Whether all kernels of ours that attention may need are on for these inputs."""
    return not kernel.switched_off or all(kernel.enabled(name, dtype, head_size) for name in KERNELS)


def _obeyed(path: Path, q: mx.array, kv: KV, mask: Mask, stock: bool) -> Path:
    if path == "stock" and not stock:
        raise KernelError(
            "attention: mlx's own kernel was asked for, which does not support these rows, mask or options"
        )
    if path == "ours" and mask.also is not None:
        raise KernelError("attention: our kernels take no mask.also")
    if path == "ours" and (why := _refusal(q, kv)) is not None:
        raise KernelError(why)
    return path


def key(q: mx.array, kv: KV, mask: Mask, softcap: float | None, *, plain: bool) -> str:
    """The name of the measurement that holds for a call."""
    b, h, t, d = q.shape
    kind = "decode" if t <= FUSED_ROWS else "prefill"
    total = kv.length if kv.prefix is None else kv.total
    rows = kv.capacity if total is None else total
    if kv.traced:  # stock takes an array of what is seen, whatever the mask
        kind += " traced" + (" capped" if softcap is not None else "")
    elif not plain:
        kind = " ".join([kind, *_traits(kv, mask, softcap)])
    elif isinstance(kv.keys, QuantizedRows) or isinstance(kv.values, QuantizedRows):
        kind = f"{kind} {packed(kv)}"
    if plain and mask.window:
        rows = min(rows, mask.window)
    return name(kind, q.dtype, d, h, kv.keys.shape[1], b, bucket(rows))


def _traits(kv: KV, mask: Mask, softcap: float | None) -> list[str]:
    """The reasons, in words, why stock does not take a call as it is."""
    traits = (
        ("ragged", kv.ragged),
        ("ring", kv.positions is not None),
        ("prefix", kv.prefix is not None),
        ("window", mask.window > 0),
        ("documents", mask.documents is not None),
        ("tree", mask.tree is not None),
        ("blocks", mask.block > 0 or mask.prefix > 0),
        ("capped", softcap is not None),
    )
    return [word for word, there in traits if there] + sorted({packed(part) for part in kv.chain()} - {""})


def packed(kv: KV) -> str:
    """How many bits a segment is packed to, as a word: "8-bit", "8/4-bit"; "" for plain rows."""
    keys, values = (rows.bits if isinstance(rows, QuantizedRows) else 16 for rows in (kv.keys, kv.values))
    return "" if keys == values == 16 else f"{keys}-bit" if keys == values else f"{keys}/{values}-bit"


@lru_cache(maxsize=1024)
def name(kind: str, dtype: mx.Dtype, head_size: int, heads: int, kv_heads: int, batch: int, rows: int) -> str:
    """The name of a measurement: what kind of call, of which heads, for how many rows of B, over how many stored."""
    rows_of_b = "" if batch == 1 else f" B={BATCH if batch <= BATCH else batch}"
    return f"{kind} {of_heads(dtype, head_size, heads, kv_heads)}{rows_of_b} N={rows}"


def of_heads(dtype: mx.Dtype, head_size: int, heads: int, kv_heads: int) -> str:
    """A model's heads, as the names of its measurements have them."""
    return f"{str(dtype).removeprefix('mlx.core.')} D={head_size} H={heads}/{kv_heads}"


def bucket(rows: int) -> int:
    """The power of four from 1024 up that so many stored rows do not exceed."""
    top = 1024
    while top < rows:
        top *= 4
    return top
