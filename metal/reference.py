"""Every kernel as plain mlx operations: the oracle the kernels are held to, and the path where there is no Metal.

float32 throughout. Memory is bounded: queries are taken in chunks, so that no more than `SCORES` scores stand at once,
and a chunk only touches the keys that its mask can reach.
"""

from dataclasses import dataclass, replace
from typing import Any

from likely.metal import mx
from likely.metal.cpu_attention import exp
from likely.metal.kv import KV, floats
from likely.metal.mask import Mask

SCORES = 1 << 25  # scores at once: 128 MB


@dataclass(frozen=True, slots=True)
class Emit:
    """Which reports attention makes besides its output, from the same pass."""

    lse: bool = False
    entropy: bool = False
    top: int = 0  # how many of the most attended positions
    scores: bool = False


@dataclass(frozen=True, slots=True)
class AttentionReport:
    """The reports asked for with `Emit`; the rest is None. Nats. An attention sink counts as one more outcome."""

    lse: mx.array | None = None  # float32 [B, H, T]: log of the sum of exp(score); -inf where nothing is visible
    entropy: mx.array | None = None  # float32 [B, H, T]; 0 where nothing is visible
    positions: mx.array | None = None  # int32 [B, H, T, top], most attended first; -1 where fewer are visible
    weights: mx.array | None = None  # float32 [B, H, T, top]: the probabilities at `positions`
    scores: mx.array | None = None  # float32 [B, H, T, rows]: scaled and capped, of the chain's rows; -inf if unseen


def gradients(
    q: mx.array,
    keys: mx.array,
    values: mx.array,
    *sinks: mx.array,
    kv: KV,
    cotangent: mx.array,
    scale: float,
    mask: Mask,
    softcap: float | None,
) -> tuple[mx.array, ...]:
    """The gradients of q, keys, values (and sinks) for a `cotangent` of the output; `kv` has these keys and values.

    Scores are computed again, a chunk of queries at a time, so that they never stand in memory together.
    """
    b, h, t, _ = q.shape
    n = kv.length if kv.positions is None and not kv.ragged else None
    chunk = t
    if n is not None and mask.causal and not (mask.prefix or mask.block or mask.tree is not None):
        chunk = max(1, min(t, SCORES // (4 * b * h * n)))  # the rows up to a chunk's last query are a KV of their own
    total: list[mx.array] = []
    for low in range(0, t, chunk):
        high = min(t, low + chunk)
        shorter = {} if high == t or n is None else _ending(n - t + high, b)

        def part(
            q: mx.array, keys: mx.array, values: mx.array, *sinks: mx.array, ends: dict[str, Any] = shorter
        ) -> list[mx.array]:
            rows = replace(kv, keys=keys, values=values, **ends)
            sink = sinks[0] if sinks else None
            return [attention(q, rows, scale=scale, mask=mask, softcap=softcap, sinks=sink)[0]]

        slices = [q[:, :, low:high], keys, values, *sinks]
        _, slopes = mx.vjp(part, slices, [cotangent[:, :, low:high]])
        total = slopes if not total else [mx.concatenate([total[0], slopes[0]], 2), *_added(total[1:], slopes[1:])]
    return tuple(total)


def _ending(length: int, b: int) -> dict[str, Any]:
    return {"length": length, "lengths": mx.full((b,), length, dtype=mx.int32)}


def _added(xs: list[mx.array], ys: list[mx.array]) -> list[mx.array]:
    return [x + y for x, y in zip(xs, ys, strict=True)]


@dataclass(frozen=True, slots=True)
class _Segment:
    keys: mx.array  # [b, Hkv, n, D], b is B or 1
    values: mx.array
    at: mx.array  # int32 [b, n] positions
    valid: mx.array | None  # bool [b, n]
    start: int | None  # position of row 0 where the host knows it: such a segment can be sliced


def attention(
    q: mx.array,
    kv: KV,
    *,
    scale: float,
    mask: Mask,
    softcap: float | None = None,
    sinks: mx.array | None = None,
    emit: Emit | None = None,
) -> tuple[mx.array, AttentionReport]:
    """softmax(mask(cap(scale * q k))) v [B, H, T, D] in q's dtype, and what `emit` asks for."""
    b, h, t, _ = q.shape
    segments, first = _segments(kv, t)
    rows = sum(s.keys.shape[2] for s in segments)
    chunk = max(1, min(t, SCORES // max(1, b * h * rows)))
    if mask.tree is not None:
        chunk = t
    whole = len(segments) == 1 and segments[0].start is not None and not mask.keep and emit is None
    host = kv.total - t if kv.total is not None and not kv.ragged else None
    outs, emissions = [], []
    for low in range(0, t, chunk):
        high = min(t, low + chunk)
        parts = segments
        if whole and host is not None:  # only the keys that these queries can reach
            reach = mask.bounds(host + low, host + high - 1, rows)
            parts = [_slice(segments[0], *reach)]
        p = first + mx.arange(low, high, dtype=mx.int32)[None]
        out, emitted = _attend(q[:, :, low:high], parts, p, first, scale, mask, softcap, sinks, emit or Emit())
        outs.append(out)
        emissions.append(emitted)
    if len(outs) == 1:
        return outs[0].astype(q.dtype), emissions[0]
    joined = {
        name: mx.concatenate([getattr(s, name) for s in emissions], axis=2)
        for name in ("lse", "entropy", "positions", "weights", "scores")
        if getattr(emissions[0], name) is not None
    }
    return mx.concatenate(outs, axis=2).astype(q.dtype), AttentionReport(**joined)


def _segments(kv: KV, t: int) -> tuple[list[_Segment], mx.array]:
    """The chain's segments, and the position of the first query int32 [B or 1, 1]."""
    parts: list[_Segment] = []
    offset: mx.array | int = 0  # position of the segment's row 0, int32 [b, 1] where only the device knows it
    last: mx.array | int = -1
    for part in kv.chain():
        rows = part.length if part.length is not None else part.capacity
        index = mx.arange(rows, dtype=mx.int32)[None]
        device = part.ragged or part.length is None
        lengths = part.lengths[:, None] if device else rows
        valid = index < lengths if device else None
        if part.positions is None:
            at, start = index + offset, offset if isinstance(offset, int) else None
            last = offset + lengths - 1
        else:
            at, start = part.positions[:, :rows], None
            valid = at >= 0 if valid is None else valid & (at >= 0)
            last = mx.maximum(last, mx.max(mx.where(valid, at, -1), axis=1, keepdims=True))
        offset = last + 1
        parts.append(_Segment(floats(part.keys, rows), floats(part.values, rows), at, valid, start))
    first = last - (t - 1)
    return parts, first if isinstance(first, mx.array) else mx.array([[first]], dtype=mx.int32)


def _slice(s: _Segment, low: int, high: int) -> _Segment:
    assert s.start is not None
    low, high = low - s.start, high - s.start
    valid = None if s.valid is None else s.valid[:, low:high]
    return _Segment(s.keys[:, :, low:high], s.values[:, :, low:high], s.at[:, low:high], valid, s.start + low)


def _attend(
    q: mx.array,
    segments: list[_Segment],
    p: mx.array,
    base: mx.array,
    scale: float,
    mask: Mask,
    softcap: float | None,
    sinks: mx.array | None,
    emit: Emit,
) -> tuple[mx.array, AttentionReport]:
    b, h, t, d = q.shape
    heads = segments[0].keys.shape[1]
    grouped = (q.astype(mx.float32) * scale).reshape(b, heads, h // heads, t, d)
    parts = [_scores(grouped, s, p, base, mask, softcap) for s in segments]
    scores = parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=-1)  # [B, Hkv, g, T, rows]
    peak = mx.max(scores, axis=-1, keepdims=True)
    if sinks is not None:
        sink = sinks.astype(mx.float32).reshape(1, heads, h // heads, 1, 1)
        peak = mx.maximum(peak, sink)
    peak = mx.where(peak == -mx.inf, 0.0, peak)
    weights = exp(scores - peak)
    total = mx.sum(weights, axis=-1, keepdims=True)
    if sinks is not None:
        total = total + mx.exp(sink - peak)
    inverse = mx.where(total == 0, 0.0, 1 / total)
    probabilities = weights * inverse
    out, low = None, 0
    for s in segments:
        n = s.keys.shape[2]
        part = _mix(probabilities[..., low : low + n] if len(segments) > 1 else probabilities, s.values)
        out, low = part if out is None else out + part, low + n
    assert out is not None
    lse = peak + mx.log(total)
    entropy = None
    if emit.entropy:
        mean = mx.sum(mx.where(weights > 0, weights * (scores - peak), 0.0), axis=-1, keepdims=True)
        if sinks is not None:
            below = sink - peak
            mean = mean + mx.where(sink == -mx.inf, 0.0, mx.exp(below) * below)
        entropy = mx.where(total == 0, 0.0, mx.log(mx.maximum(total, 1e-45)) - mean * inverse).reshape(b, h, t)
    places, most = None, None
    if emit.top:
        places, most = top(probabilities.reshape(b, h, t, -1), _joined([s.at for s in segments], b), emit.top)
    return out.reshape(b, h, t, d), AttentionReport(
        lse=lse.reshape(b, h, t) if emit.lse else None,
        entropy=entropy,
        positions=places,
        weights=most,
        scores=scores.reshape(b, h, t, -1) if emit.scores else None,
    )


def _scores(q: mx.array, s: _Segment, p: mx.array, base: mx.array, mask: Mask, softcap: float | None) -> mx.array:
    """Scaled, capped, masked scores [B, Hkv, g, T, n] of one segment."""
    b, heads, g, t, _ = q.shape
    n = s.keys.shape[2]
    scores = _rows(q, s.keys.shape[0]) @ s.keys.swapaxes(-1, -2)
    scores = _unrows(scores, b, heads, g, t, n)
    if softcap is not None:
        scores = mx.tanh(scores / softcap) * softcap
    allowed = mask.visible(p, s.at, base)
    if s.valid is not None:
        allowed = allowed & s.valid[:, None]
    return mx.where(allowed[:, None, None], scores, -mx.inf)


def _mix(p: mx.array, values: mx.array) -> mx.array:
    """Probabilities [B, Hkv, g, T, n] times values [b, Hkv, n, D] -> [B, Hkv, g, T, D]."""
    b, heads, g, t, _ = p.shape
    return _unrows(_rows(p, values.shape[0]) @ values, b, heads, g, t, values.shape[-1])


def _rows(x: mx.array, shared: int) -> mx.array:
    """Folds [B, Hkv, g, T, n] for a product with [shared, Hkv, ...]: a shared prefix is read once for all of B."""
    b, heads, g, t, n = x.shape
    if shared == b:
        return x.reshape(b, heads, g * t, n)
    return x.swapaxes(0, 1).reshape(1, heads, b * g * t, n)


def _unrows(x: mx.array, b: int, heads: int, g: int, t: int, n: int) -> mx.array:
    if x.shape[0] == b:
        return x.reshape(b, heads, g, t, n)
    return x.reshape(heads, b, g, t, n).swapaxes(0, 1)


def visible(kv: KV, mask: Mask, b: int, t: int) -> mx.array:
    """bool [B, T, rows]: which rows of the whole chain each of the last T tokens sees."""
    segments, first = _segments(kv, t)
    p = first + mx.arange(t, dtype=mx.int32)[None]
    parts = []
    for s in segments:
        allowed = mask.visible(p, s.at, first)
        parts.append(allowed if s.valid is None else allowed & s.valid[:, None])
    return mx.concatenate([mx.broadcast_to(x, (b, *x.shape[1:])) for x in parts], axis=-1)


def positions(kv: KV, b: int) -> mx.array:
    """Where the rows of the whole chain stand, int32 [B, rows]."""
    return _joined([s.at for s in _segments(kv, 1)[0]], b)


def _joined(at: list[mx.array], b: int) -> mx.array:
    return mx.concatenate([mx.broadcast_to(x, (b, x.shape[1])) for x in at], axis=1)


def top(p: mx.array, at: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The positions int32 [B, H, T, k] of the largest of probabilities [B, H, T, N], `at` [B, N], and these."""
    b, _, _, n = p.shape
    index = mx.argsort(-p, axis=-1)[..., : min(k, n)]
    weights = mx.take_along_axis(p, index, axis=-1)
    positions = mx.take_along_axis(at, index.reshape(b, -1), axis=1).reshape(index.shape)
    positions = mx.where(weights > 0, positions, -1)
    if n < k:
        widths = [(0, 0), (0, 0), (0, 0), (0, k - n)]
        positions, weights = mx.pad(positions, widths, constant_values=-1), mx.pad(weights, widths)
    return positions, weights
