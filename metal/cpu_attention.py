"""Attention on a CPU without mlx's exponential, which is scalar there and takes most of the time.

For a few queries, those of a group are the rows of one product, for which each key is read once, and the library in
front of the BLAS takes the softmax inside the second one, for which each value is read once: 1.1 ms over 8,192 rows and
9 heads of 64 on one thread, where memory alone takes 0.9 and `mx.fast.scaled_dot_product_attention` 3.0; for 5 queries
3.8 against 9.9. Without that library the softmax of one query is made of `mx.power`, three times faster.

For many queries it is numpy's. The scores of a block of queries are one matmul a key/value head (all query heads of the
group at once), exponentiated in place through a view, and multiplied with the values. It evaluates as it goes, so it
has no derivative: only for queries that stand in a cache, which nobody differentiates. Measured on 512 tokens and 9
heads of 64: 4.2 ms, against 52 by `mx.fast.scaled_dot_product_attention` (benchmarks/log).
"""

import math

import numpy as np

from likely.metal import blas, mx
from likely.metal.kv import KV, QuantizedRows

LEAST = 16  # queries from which numpy pays
ROWS = 128  # rows from which it pays for a few queries
BLOCK = 128  # queries at once: their scores stay in the processor's cache


def exp(x: mx.array) -> mx.array:
    """e^x; on a CPU by `mx.power`, which runs three times faster than `mx.exp` there."""
    return mx.power(math.e, x) if mx.default_device() == mx.cpu else mx.exp(x)


def whole(kv: KV, dtype: mx.Dtype) -> KV | None:
    """A chain as one segment of numbers; None where its rows do not simply follow one another.

    With many queries the copy pays: 512 over 4,096 rows, of which all but the last are packed, take 101 ms with it and
    725 without, and a third of the memory.
    """
    chain, total = kv.chain(), kv.total
    b = kv.keys.shape[0]
    if total is None or any(p.ragged or p.positions is not None or p.keys.shape[0] != b for p in chain):
        return None

    def rows(name: str) -> mx.array:
        parts = [(getattr(part, name), part.length) for part in chain]
        return mx.concatenate(
            [x.floats(n, dtype) if isinstance(x, QuantizedRows) else x[:, :, :n] for x, n in parts], 2
        )

    return KV(rows("keys"), rows("values"), mx.array([total] * b, dtype=mx.int32), total, cached=kv.cached)


def few_enough(q: mx.array, keys: mx.array, values: mx.array) -> bool:
    """Whether `few` takes them: as many query rows as the product with a softmax, or one query a head."""
    return q.shape[2] == 1 or _product(q, keys, values)


def _product(q: mx.array, keys: mx.array, values: mx.array) -> bool:
    """Whether the library in front of the BLAS takes the softmax of this many rows."""
    rows = q.shape[1] // keys.shape[1] * q.shape[2]
    return blas.load().attention and rows <= blas.QUERIES and values.shape[3] <= blas.WIDTH


def few(
    q: mx.array,
    keys: mx.array,
    values: mx.array,
    *,
    scale: float,
    causal: bool = True,
    lengths: mx.array | None = None,
) -> mx.array:
    """softmax(q k^T * scale) v, as q [B, H, T, D]; they are the last T of keys, values [B, Hkv, N, D].

    `lengths` int32 [B]: how many of the N each text has, where they differ; for one query of each.
    """
    b, h, t, d = q.shape
    kv_heads, n, size = keys.shape[1], keys.shape[2], values.shape[3]
    rows = h // kv_heads * t
    scores = (q * scale).reshape(b, kv_heads, rows, d) @ keys.swapaxes(-1, -2)  # [B, Hkv, g T, N]
    if causal and t > 1:
        visible = mx.tile(mx.tril(mx.ones((t, t), dtype=mx.bool_)), (rows // t, 1))
        scores[..., n - t :] = mx.where(visible, scores[..., n - t :], -mx.inf)
    if lengths is not None:
        scores = mx.where(mx.arange(n) < lengths[:, None, None, None], scores, -mx.inf)
    if _product(q, keys, values):
        mixed = mx.addmm(mx.zeros((b, kv_heads, rows, size)), scores, values, alpha=blas.LEAST, beta=0.0)
    else:
        weights = exp(scores - mx.max(scores, axis=-1, keepdims=True))
        mixed = (weights @ values) / mx.sum(weights, axis=-1, keepdims=True)
    return mixed.reshape(b, h, t, size)


def attention(q: mx.array, keys: mx.array, values: mx.array, *, scale: float, causal: bool) -> mx.array:
    """softmax(q k^T * scale) v, as q [B, H, T, D]; they are the last T of keys, values [B, Hkv, N, D]."""
    b, h, t, d = q.shape
    kv_heads, n = keys.shape[1], keys.shape[2]
    group = h // kv_heads
    transposed = keys.swapaxes(-1, -2)
    future = np.triu(np.full((BLOCK, BLOCK), -np.inf, np.float32), 1)
    outs = []
    for first in range(0, t, BLOCK):
        last = min(first + BLOCK, t)
        rows, end = last - first, n - t + last if causal else n
        block = (q[:, :, first:last] * scale).reshape(b, kv_heads, group * rows, d)
        scores = block @ transposed[..., :end]
        mx.eval(scores)
        view = np.asarray(scores).reshape(b, kv_heads, group, rows, end)  # nothing else has read it yet
        if causal:
            view[..., end - rows :] += future[:rows, :rows]
        view -= view.max(-1, keepdims=True)
        np.exp(view, out=view)
        total = mx.array(view.sum(-1).reshape(b, kv_heads, group * rows, 1))
        outs.append(((scores @ values[:, :, :end]) / total).reshape(b, h, rows, d))
        mx.eval(outs[-1])  # and the scores can go
    return mx.concatenate(outs, axis=2)
