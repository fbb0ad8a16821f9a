"""Attention, vocabulary statistics and rotary embedding in float64 numpy: what every path is held to.

Written out as sums over a full T x N table, with none of the structure of the code under test.
"""

from dataclasses import dataclass

import numpy as np

from likely.metal import mx
from likely.metal.kv import KV, QuantizedRows
from likely.metal.mask import Mask

Array = np.ndarray


def wide(x: mx.array) -> Array:
    """The exact values as float64."""
    return np.array(x.astype(mx.float32)).astype(np.float64)


def rows(x: mx.array | QuantizedRows) -> Array:
    """Stored rows [B, Hkv, capacity, D]; quantised ones by scale * code + bias."""
    if isinstance(x, mx.array):
        return wide(x)
    codes = np.array(x.codes).astype(np.uint64)
    each = 32 // x.bits
    shifts = np.arange(each, dtype=np.uint64) * np.uint64(x.bits)
    values = (codes[..., None] >> shifts) & np.uint64(2**x.bits - 1)
    values = values.reshape(x.shape).astype(np.float64)
    return values * np.repeat(wide(x.scales), x.group_size, -1) + np.repeat(wide(x.biases), x.group_size, -1)


@dataclass(frozen=True)
class Truth:
    out: Array  # [B, H, T, D]
    lse: Array  # [B, H, T]
    entropy: Array
    weights: Array  # [B, H, T, N]
    scores: Array  # [B, H, T, N], -inf where unseen
    at: Array  # [B, N] positions


def visible(mask: Mask, p: int, k: int, base: int, b: int, t: int) -> bool:
    """Whether the query at p, the t-th new one, sees the key at k: the mask's rules, one pair at a time."""
    if mask.tree is not None and k >= base:
        words = np.array(mask.tree)[b, t]
        node = k - base
        if node >= np.array(mask.tree).shape[1] or not (int(words[node // 32]) >> (node % 32)) & 1:
            return False
    elif mask.causal:
        within = k <= p or k < mask.prefix
        if mask.block:
            within = within or (k - mask.block_start) // mask.block <= (p - mask.block_start) // mask.block
        if not within:
            return False
    if mask.window and not (k > p - mask.window or k < mask.keep):
        return False
    if mask.window and not mask.causal and k >= p + mask.window:
        return False
    if mask.documents is not None:
        ids = np.array(mask.documents)
        ids = ids[b if ids.shape[0] > 1 else 0]
        if ids[min(p, len(ids) - 1)] != ids[min(k, len(ids) - 1)]:
            return False
    return True


def attention(
    q: mx.array,
    kv: KV,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    sinks: mx.array | None = None,
) -> Truth:
    """Attention of every query over the rows of every segment."""
    b, h, t, _ = q.shape
    keys, values, at, valid = [], [], [], []
    offset = np.zeros(b, dtype=int)
    for part in kv.chain():
        capacity = part.keys.shape[2]
        lengths = np.broadcast_to(np.array(part.lengths), (b,))
        keys.append(np.broadcast_to(rows(part.keys), (b, *part.keys.shape[1:])))
        values.append(np.broadcast_to(rows(part.values), (b, *part.values.shape[1:])))
        index = np.arange(capacity)[None]
        place = np.array(part.positions) if part.positions is not None else index + offset[:, None]
        place = np.broadcast_to(place, (b, capacity))
        valid.append((index < lengths[:, None]) & (place >= 0))
        at.append(place)
        offset = np.maximum(offset, np.where(valid[-1], place, -1).max(1) + 1)
    k, v = np.concatenate(keys, 2), np.concatenate(values, 2)
    where, there = np.concatenate(at, 1), np.concatenate(valid, 1)
    last = np.where(there, where, -1).max(1)
    heads = k.shape[1]
    k, v = np.repeat(k, h // heads, 1), np.repeat(v, h // heads, 1)
    scores = np.einsum("bhtd,bhnd->bhtn", wide(q), k) * scale
    if softcap is not None:
        scores = np.tanh(scores / softcap) * softcap
    for i in range(b):
        for j in range(t):
            p = int(last[i]) - t + 1 + j
            base = int(last[i]) - t + 1
            seen = [bool(there[i, n]) and visible(mask, p, int(where[i, n]), base, i, j) for n in range(k.shape[2])]
            scores[i, :, j, ~np.array(seen)] = -np.inf
    every = scores
    if sinks is not None:
        every = np.concatenate([scores, np.broadcast_to(wide(sinks)[None, :, None, None], (b, h, t, 1))], -1)
    peak = every.max(-1, keepdims=True)
    peak = np.where(np.isinf(peak), 0, peak)
    total = np.exp(every - peak).sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(total > 0, np.exp(every - peak) / total, 0)
        lse = (peak + np.log(total))[..., 0]
        entropy = -np.where(p > 0, p * np.log(p), 0).sum(-1)
    weights = p[..., : k.shape[2]]
    return Truth(np.einsum("bhtn,bhnd->bhtd", weights, v), lse, entropy, weights, scores, where)
