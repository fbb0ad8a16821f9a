"""Attention over a `KV`, by whichever path fits: mlx's own kernel, ours, or the reference.

The T queries are the last T valid rows of the chain. Knows nothing of models and caches, and never writes an input.
"""

from dataclasses import replace
from itertools import accumulate
from typing import Any, overload

from likely.metal import cpu_attention, dispatch, kernel, mx, reference
from likely.metal.errors import KernelError
from likely.metal.kv import KV, QuantizedRows, check_rows
from likely.metal.mask import CAUSAL, FULL, Mask
from likely.metal.reference import AttentionReport, Emit

Masks = dict[Any, tuple[mx.array, mx.array, KV, Mask]]  # what the layers of one pass see, by all that decides it

FLOATS = frozenset((mx.float32, mx.float16, mx.bfloat16))

__all__ = ["CAUSAL", "FULL", "KV", "AttentionReport", "Emit", "Mask", "QuantizedRows", "attention"]


@overload
def attention(
    q: mx.array,
    kv: KV,
    *,
    scale: float,
    mask: Mask = ...,
    softcap: float | None = ...,
    sinks: mx.array | None = ...,
    emit: None = ...,
    masks: Masks | None = ...,
) -> mx.array: ...


@overload
def attention(
    q: mx.array,
    kv: KV,
    *,
    scale: float,
    mask: Mask = ...,
    softcap: float | None = ...,
    sinks: mx.array | None = ...,
    emit: Emit,
    masks: Masks | None = ...,
) -> tuple[mx.array, AttentionReport]: ...


def attention(
    q: mx.array,
    kv: KV,
    *,
    scale: float,
    mask: Mask = CAUSAL,
    softcap: float | None = None,
    sinks: mx.array | None = None,
    emit: Emit | None = None,
    masks: Masks | None = None,
) -> mx.array | tuple[mx.array, AttentionReport]:
    """Attention of q [B, H, T, D], the last T valid rows of `kv`, as [B, H, T, D]; with `emit`, also what it saw.

    `softcap` c bends each score s to c * tanh(s / c) (arXiv:2408.00118); `sinks` [H] are logits of an outcome that has
    no value (arXiv:2508.10925). A query that sees no key gets zeros. `masks` is one for all layers of a
    pass, so that what they see alike is found once. Raises KernelError naming what does not fit.
    """
    _check(q, kv, scale, mask, softcap, sinks)
    if mask.after and (emit is not None or not _whole(q, kv)):
        raise KernelError("mask.after is of a whole row without a cache, and makes no reports")
    if emit is None and (mask.after or _parts(q, kv, mask)):
        return _each(q, kv, scale, mask, softcap, sinks)
    if mask.noised:
        return _noised(q, kv, scale, mask, softcap, sinks, emit)
    low = None
    if kv.prefix is not None and q.shape[2] >= cpu_attention.LEAST and dispatch.free() and not kernel.available():
        kv = cpu_attention.whole(kv, q.dtype) or kv
    if emit is None and softcap is None and kv.prefix is None and kv.positions is None and not kv.ragged:
        low = _reach(mask, q.shape[2], kv.length)
    masked = emit is None and softcap is None and (kv.total is not None or kv.traced)
    path = dispatch.path(q, kv, mask, softcap, plain=low is not None, masked=masked)
    if path == "reference" and emit is None and softcap is None and sinks is None and _few_ragged(q, kv, mask):
        keys, values = (x[:, :, : kv.length] for x in (kv.keys, kv.values) if isinstance(x, mx.array))
        return cpu_attention.few(q, keys, values, scale=scale, lengths=kv.lengths)
    if path == "stock":
        return (
            _masked(q, kv, scale, mask, sinks, masks) if low is None else _stock(q, kv, scale, low, mask.causal, sinks)
        )
    if path == "ours":
        out, emitted = _ours(q, kv, scale, mask, softcap, sinks, emit)
    else:
        out, emitted = reference.attention(q, kv, scale=scale, mask=mask, softcap=softcap, sinks=sinks, emit=emit)
    return out if emit is None else (out, emitted)


def _parts(q: mx.array, kv: KV, mask: Mask) -> bool:
    """Whether the row can be taken apart into its documents: then nobody computes a score that the mask takes away.

    Whole, the reference computes all T x T of them; so do mlx's own kernels, which take no such mask, and derivatives.
    """
    placed = (mask.block and not mask.noised) or mask.prefix or mask.keep  # positions of the row, not of a document
    return len(mask.lengths) > 1 and not placed and _whole(q, kv) and dispatch.free()


def _whole(q: mx.array, kv: KV) -> bool:
    """Whether the queries are all of the row, which stands in one segment."""
    alone = not kv.cached and kv.prefix is None and kv.positions is None and not kv.ragged
    return alone and q.shape[2] == kv.length


def _each(q: mx.array, kv: KV, scale: float, mask: Mask, softcap: float | None, sinks: mx.array | None) -> mx.array:
    """Attention of each document to itself, and to the one that it goes on from, one after another."""
    assert isinstance(kv.keys, mx.array) and isinstance(kv.values, mx.array)
    alone = replace(mask, documents=None, lengths=(), after=(), also=None)
    if len(set(mask.lengths)) == 1 and q.shape[0] == 1 and not mask.after:  # side by side: one call for all
        n, length = len(mask.lengths), mask.lengths[0]

        def beside(x: mx.array) -> mx.array:
            return x.reshape(x.shape[1], n, length, -1).swapaxes(0, 1)

        if mask.also is not None:
            index = mx.arange(n)
            alone = replace(alone, also=mask.also.reshape(n, length, n, length)[index, :, index])
        part = KV(beside(kv.keys), beside(kv.values), mx.full((n,), length, dtype=mx.int32), length)
        out = attention(beside(q), part, scale=scale, mask=alone, softcap=softcap, sinks=sinks)
        return out.swapaxes(0, 1).reshape(1, q.shape[1], n * length, -1)
    outs, low, starts = [], 0, [0, *accumulate(mask.lengths)]
    for i, length in enumerate(mask.lengths):
        rows, seen = slice(low, low + length), length
        keys, values = kv.keys[:, :, rows], kv.values[:, :, rows]
        if mask.after and (first := mask.after[i]) >= 0:
            before = slice(starts[first], starts[first + 1])
            keys, values = (mx.concatenate([x[:, :, before], x[:, :, rows]], axis=2) for x in (kv.keys, kv.values))
            seen += mask.lengths[first]
        part = KV(keys, values, mx.full((q.shape[0],), seen, dtype=mx.int32), seen)
        of = alone if mask.also is None else replace(alone, also=mask.also[:, rows, rows])
        outs.append(attention(q[:, :, rows], part, scale=scale, mask=of, softcap=softcap, sinks=sinks))
        low += length
    return mx.concatenate(outs, axis=2)


def _noised(
    q: mx.array, kv: KV, scale: float, mask: Mask, softcap: float | None, sinks: mx.array | None, emit: Emit | None
) -> mx.array | tuple[mx.array, AttentionReport]:
    """Attention of a text noised, and of itself, [B, H, 2 L, D]: two products with what each half can see.

    By mlx's own kernel where that takes it, with arrays of [L, 2 L] and [L, L] of what is seen; else by the reference.
    """
    b, h, t, _ = q.shape
    if kv.cached or kv.prefix is not None or kv.positions is not None or kv.ragged or kv.length != t:
        raise KernelError("mask.noised is of whole rows without a cache")
    few = kernel.available() or b * h * t * t <= 2 * reference.SCORES
    simple = softcap is None and sinks is None and emit is None
    if not (simple and few and dispatch.free() and len(mask.lengths) < 2):
        out, emitted = reference.attention(q, kv, scale=scale, mask=mask, softcap=softcap, sinks=sinks, emit=emit)
        return out if emit is None else (out, emitted)
    assert isinstance(kv.keys, mx.array) and isinstance(kv.values, mx.array)
    n = t // 2
    blocks = mx.floor_divide(mx.arange(n), mask.block)
    of, at = blocks[:, None], blocks[None]
    noised = mx.concatenate([of == at, at < of], axis=1)
    outs = [
        mx.fast.scaled_dot_product_attention(part, keys, values, scale=scale, mask=visible)
        for part, keys, values, visible in (
            (q[:, :, :n], kv.keys, kv.values, noised),
            (q[:, :, n:], kv.keys[:, :, n:], kv.values[:, :, n:], at <= of),
        )
    ]
    return mx.concatenate(outs, axis=2)


def _ours(
    q: mx.array,
    kv: KV,
    scale: float,
    mask: Mask,
    softcap: float | None,
    sinks: mx.array | None,
    emit: Emit | None,
) -> tuple[mx.array, AttentionReport]:
    """Attention by our kernels, which have no derivative: plain rows of one segment get the reference's."""
    from likely.metal import metal_attention

    keys, values = kv.keys, kv.values
    quantised = isinstance(keys, QuantizedRows) or isinstance(values, QuantizedRows)
    if kv.cached or quantised or emit is not None or kv.prefix is not None:
        return metal_attention.attention(q, kv, scale=scale, mask=mask, softcap=softcap, sinks=sinks, emit=emit)

    @mx.custom_function
    def forward(q: mx.array, keys: mx.array, values: mx.array, *sinks: mx.array) -> mx.array:
        part = replace(kv, keys=keys, values=values)
        sink = sinks[0] if sinks else None
        return metal_attention.attention(q, part, scale=scale, mask=mask, softcap=softcap, sinks=sink)[0]

    @forward.vjp
    def backward(primals: tuple[mx.array, ...], cotangent: mx.array, _: mx.array) -> tuple[mx.array, ...]:
        return reference.gradients(*primals, kv=kv, cotangent=cotangent, scale=scale, mask=mask, softcap=softcap)

    out: Any = forward(q, kv.keys, kv.values, *(() if sinks is None else (sinks,)))
    return out, AttentionReport()


def _reach(mask: Mask, t: int, n: int | None) -> int | None:
    """The first row that T queries at the end of n rows can see, if what they see is plain causal or full attention."""
    if n is None:
        return None
    if mask is CAUSAL or mask is FULL:
        return 0
    if mask.documents is not None or mask.tree is not None or mask.also is not None:
        return None
    if (mask.block and t > 1) or mask.prefix > n - t + 1:
        return None
    if not mask.window or mask.window >= n:
        return 0
    return n - mask.window if t == 1 and not mask.keep else None


def _few_ragged(q: mx.array, kv: KV, mask: Mask) -> bool:
    """Whether a CPU takes one query of each of texts of different lengths, which see all of their own."""
    alone = kv.ragged and kv.cached and kv.prefix is None and kv.positions is None and dispatch.free()
    plain = all(isinstance(x, mx.array) and x.dtype == mx.float32 for x in (q, kv.keys, kv.values))
    return alone and plain and q.shape[2] == 1 and _reach(mask, 1, kv.length) == 0 and mx.default_device() == mx.cpu


def _stock(q: mx.array, kv: KV, scale: float, low: int, causal: bool, sinks: mx.array | None) -> mx.array:
    """Attention by mlx's own kernel; quantised rows are dequantised, one layer's at a time."""
    assert kv.length is not None
    keys, values, n = kv.keys, kv.values, kv.length
    if isinstance(keys, QuantizedRows):
        keys = keys.floats(n, q.dtype)
    if isinstance(values, QuantizedRows):
        values = values.floats(n, q.dtype)
    if low or n != keys.shape[2] or n != values.shape[2]:
        keys, values, n = keys[:, :, low:n], values[:, :, low:n], n - low
    b, h, t, _ = q.shape
    causal = causal and t > 1
    if kv.cached and sinks is None and q.dtype == mx.float32 and mx.default_device() == mx.cpu:
        if n >= cpu_attention.ROWS and cpu_attention.few_enough(q, keys, values):
            return cpu_attention.few(q, keys, values, scale=scale, causal=causal)
        if t >= cpu_attention.LEAST:
            return cpu_attention.attention(q, keys, values, scale=scale, causal=causal)
    if b * h * t * n <= reference.SCORES or kernel.available():
        kind = "causal" if causal else None
        return mx.fast.scaled_dot_product_attention(q, keys, values, scale=scale, mask=kind, sinks=sinks)
    chunk = max(1, reference.SCORES // (b * h * n))  # a CPU holds the scores of all queries at once
    outs = []
    for first in range(0, t, chunk):
        last = min(t, first + chunk)
        end = n - t + last if causal else n
        part = q[:, :, first:last], keys[:, :, :end], values[:, :, :end]
        kind = "causal" if causal and last - first > 1 else None
        outs.append(mx.fast.scaled_dot_product_attention(*part, scale=scale, mask=kind, sinks=sinks))
    return mx.concatenate(outs, axis=2)


def _masked(q: mx.array, kv: KV, scale: float, mask: Mask, sinks: mx.array | None, masks: Masks | None) -> mx.array:
    """Attention by mlx's kernel with a mask of what each query sees, over a copy of the chain's rows as one segment."""
    b, _, t, _ = q.shape
    visible, some = _seen(kv, mask, b, t, {} if masks is None else masks)

    def joined(name: str) -> mx.array:
        parts = [(getattr(part, name), part.length) for part in kv.chain()]
        rows = [x.floats(n, q.dtype) if isinstance(x, QuantizedRows) else x[:, :, :n].astype(q.dtype) for x, n in parts]
        whole = [mx.broadcast_to(x, (b, *x.shape[1:])) for x in rows]
        return whole[0] if len(whole) == 1 else mx.concatenate(whole, axis=2)

    keys, values = joined("keys"), joined("values")
    out = mx.fast.scaled_dot_product_attention(q, keys, values, scale=scale, mask=visible, sinks=sinks)
    if t == 1 and mask.tree is None and mask.also is None:  # a token sees itself
        return out
    return mx.where(some, out, mx.zeros_like(out))


def _seen(kv: KV, mask: Mask, b: int, t: int, masks: Masks) -> tuple[mx.array, mx.array]:
    """bool [B, 1, T, rows]: which rows each query sees; [B, 1, T, 1]: whether there is one."""
    rules = (mask.causal, mask.window, mask.keep, mask.prefix, mask.block, mask.block_start)
    rows = tuple(
        (
            part.capacity if part.length is None else part.length,
            id(part.lengths) if part.ragged or part.length is None else None,
            id(part.positions),
            part.keys.shape[0],
        )
        for part in kv.chain()
    )
    key = (b, t, *rules, id(mask.documents), id(mask.tree), id(mask.also), *rows)
    if key not in masks:
        visible = reference.visible(kv, mask, b, t)[:, None]
        some = mx.any(visible, axis=-1, keepdims=True)
        masks[key] = visible, some, kv, mask  # whose arrays' ids are nobody else's then
    visible, some, _, _ = masks[key]
    return visible, some


def _check(q: mx.array, kv: KV, scale: float, mask: Mask, softcap: float | None, sinks: mx.array | None) -> None:
    """One pass over the shapes, the cheapest first: this runs for every layer of every token."""
    if q.ndim != 4 or q.dtype not in FLOATS:
        raise KernelError(f"q must be float32, float16 or bfloat16 [B, H, T, D], got {q.dtype} {q.shape}")
    b, h, t, d = q.shape
    heads = _check_rows("", kv, b, h, d)
    if kv.keys.shape[0] != b:
        raise KernelError(f"keys must have the {b} rows of q, got {kv.keys.shape[0]}; what all share is a prefix")
    least = t if kv.prefix is None and kv.positions is None else 0
    if not t or (kv.length is not None and kv.length < least):
        raise KernelError(f"length must be at least T = {t} with T >= 1, got {kv.length}")
    if mask is not CAUSAL and mask is not FULL:
        mask.check(b, t)
    if not scale > 0:
        raise KernelError(f"scale must be greater than 0, got {scale}")
    if sinks is not None and sinks.shape != (h,):
        raise KernelError(f"sinks must be [{h}], one logit a query head, got {sinks.shape}")
    if softcap is not None and not softcap > 0:
        raise KernelError(f"softcap must be greater than 0, got {softcap}")
    before, name = kv.prefix, "prefix."
    while before is not None:
        if _check_rows(name, before, b, h, d) != heads:
            raise KernelError(f"{name}keys must have {heads} heads as keys have, got {before.keys.shape[1]}")
        before, name = before.prefix, name + "prefix."


def _check_rows(name: str, kv: KV, b: int, h: int, d: int) -> int:
    """Refuse a segment that no path could read for b rows of h query heads of size d; its key/value heads."""
    keys, values = kv.keys, kv.values
    for part, rows in (("keys", keys), ("values", values)):
        if isinstance(rows, QuantizedRows) or rows.ndim != 4 or rows.dtype not in FLOATS:
            check_rows(name + part, rows)
    kb, heads, capacity, kd = keys.shape
    if kb not in (1, b) or kd != d or not heads or h % heads:
        raise KernelError(f"{name}keys must be [{b}, a divisor of {h}, capacity, {d}], got {keys.shape}")
    if values.shape != keys.shape:
        raise KernelError(f"{name}values must have the shape of keys {keys.shape}, got {values.shape}")
    if isinstance(keys, QuantizedRows) and isinstance(values, QuantizedRows):
        if keys.scales.dtype != values.scales.dtype:
            want, got = keys.scales.dtype, values.scales.dtype
            raise KernelError(f"{name}values.scales must be {want} as those of keys, got {got}")
    elif isinstance(keys, mx.array) and isinstance(values, mx.array) and keys.dtype != values.dtype:
        raise KernelError(f"{name}values must be {keys.dtype} as keys are, got {values.dtype}")
    if kv.lengths.shape != (kb,) or kv.lengths.dtype != mx.int32:
        raise KernelError(f"{name}lengths must be int32 [{kb}], got {kv.lengths.dtype} {kv.lengths.shape}")
    if kv.length is not None and kv.length > capacity:
        raise KernelError(f"{name}length must be at most the capacity = {capacity}, got {kv.length}")
    at = kv.positions
    if at is not None and (at.shape != (kb, capacity) or at.dtype != mx.int32):
        raise KernelError(f"{name}positions must be int32 [{kb}, {capacity}], got {at.dtype} {at.shape}")
    return heads
