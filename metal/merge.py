"""Partial attention states and their merge: what lets keys be cut into parts, and segments have kernels of their own.

A state is the unnormalised output over some of the keys, its largest score and its sum of weights. Merging is exact
algebra, in any order (arXiv:2205.14135, section 3.1).
"""

from dataclasses import dataclass

from likely.metal import kernel, mx
from likely.metal.kernel import Constant
from likely.metal.reference import AttentionReport, Emit


@dataclass(frozen=True, slots=True)
class States:
    """Unmerged states of one segment, for each of S splits."""

    partial: mx.array  # float32 [B, H, T, S, D]
    stats: mx.array  # float32 [B, H, T, S, 4]: largest score and its rest, sum of weights, and of each times its log2
    tops: mx.array | None = None  # float32 [B, H, T, S, top]
    top_at: mx.array | None = None  # int32, as tops
    scores: mx.array | None = None  # float32 [B, H, T, capacity]


def merge(
    states: list[States], dtype: mx.Dtype, base: float, sinks: mx.array | None, emit: Emit
) -> tuple[mx.array, AttentionReport]:
    """One output [B, H, T, D] from the states of all splits of all segments; exact algebra, in any order.

    A weight is 2^(base * score).
    """
    joined = states[0]
    if len(states) > 1:
        parts = {
            name: mx.concatenate([getattr(s, name) for s in states], axis=3)
            for name in ("partial", "stats", "tops", "top_at")
            if getattr(states[0], name) is not None
        }
        joined = States(**parts)
    b, h, t, splits, d = joined.partial.shape
    inputs = {"partial": joined.partial, "stats": joined.stats, "params": kernel.int32(splits, t, h, kernel.bits(base))}
    outputs: dict[str, tuple[tuple[int, ...], mx.Dtype]] = {"out": ((b, h, t, d), dtype)}
    wants = bool(emit.lse or emit.entropy)
    defines = {"STATS": int(wants), "SINKS": int(sinks is not None), "TOP": 0}
    if sinks is not None:
        inputs["sinks"] = sinks
    if wants:
        outputs |= {"lse": ((b, h, t), mx.float32), "entropy": ((b, h, t), mx.float32)}
    if joined.tops is not None and joined.top_at is not None:
        top = defines["TOP"] = joined.tops.shape[-1]
        inputs |= {"tops": joined.tops, "top_at": joined.top_at}
        outputs |= {"top_positions": ((b, h, t, top), mx.int32), "top_weights": ((b, h, t, top), mx.float32)}
    threads = (d + 31) // 32 * 32
    template: dict[str, Constant] = {"T": dtype, "D": d}
    grid = (1, b * h * t, 1)
    got = kernel.launch("merge.metal", inputs, outputs, grid=grid, threads=threads, defines=defines, template=template)
    return got["out"], reported(got, emit)


def reported(got: dict[str, mx.array], emit: Emit) -> AttentionReport:
    """The reports asked for, from a launch's outputs."""
    return AttentionReport(
        lse=got["lse"] if emit.lse else None,
        entropy=got["entropy"] if emit.entropy else None,
        positions=got["top_positions"][..., : emit.top] if emit.top else None,
        weights=got["top_weights"][..., : emit.top] if emit.top else None,
    )
