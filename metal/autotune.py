"""Finds out which kernels work on this chip, and where ours are faster than mlx's own.

The first run on a Mac tests every kernel (`metal/selftest.py`) and times ours against stock for a second; later runs
read what that found (`metal/tuning_cache.py`). Without Metal nothing is run or written.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from metal import dispatch, kernel, metal_attention, mx, vocab
from metal.attention import attention
from metal.device import compiles, device
from metal.kv import KV, Quantized
from metal.mask import CAUSAL, Mask
from metal.selftest import selftest
from metal.tuning_cache import Record, blank, load, save

if TYPE_CHECKING:  # the simulator is for machines without Metal
    from metal.counts import CountRow

ATTENTION = frozenset(("decode", "tiles", "merge"))
KERNELS = ATTENTION | {"scan", "qkv_prepare"}
BUDGET_S = 1.0
MARGIN = 0.95  # of stock's time: what ours must beat, so that noise does not decide
UNFINISHED = "the self-test did not come to its end"


@dataclass(frozen=True, slots=True)
class Shape:
    """The attention of a model: what its kernels are compiled and timed for."""

    head_size: int
    heads: int
    kv_heads: int
    dtype: mx.Dtype = mx.float16
    bits: tuple[int, int] = (16, 16)  # of stored keys and values
    window: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """One call, timed: seconds, and the key/value bytes it has to read."""

    case: str
    ours_s: float
    stock_s: float | None  # None where mlx has no kernel for it
    nbytes: int

    def share(self, bandwidth: float | None) -> float | None:
        """Of the chip's memory bandwidth (GB/s), by ours; None where that is not known."""
        return None if bandwidth is None else self.nbytes / self.ours_s / (bandwidth * 1e9)


def prepare(shapes: Sequence[Shape] = (), *, budget_s: float = BUDGET_S) -> Record:
    """Make the kernels ready for these shapes: test them if this chip never did, time what was not timed, apply it all.

    Where a test ended the process (or the machine), the next run finds that it was begun, and leaves the kernels off.
    """
    if not device().metal:
        return blank()
    record = load()
    if record is None:
        record = blank()
        record.switched_off = dict.fromkeys(sorted(KERNELS), UNFINISHED)
        save(record)
        verdicts = selftest()
        record.verdicts = [asdict(verdict) for verdict in verdicts]
        record.switched_off = {v.kernel: str(v) for v in verdicts if not v.passed}
        save(record)
    for name, reason in record.switched_off.items():
        kernel.switch_off(name, reason)
    missing = [shape for shape in shapes if any(key not in record.faster for key in _keys(shape))]
    if missing and ATTENTION.isdisjoint(record.switched_off):
        timings = tune(missing, budget_s)
        record.faster |= {t.case: t.stock_s is not None and t.ours_s < MARGIN * t.stock_s for t in timings}
        known = {t.case for t in timings}
        record.timings = [t for t in record.timings if t["case"] not in known] + [asdict(t) for t in timings]
        save(record)
    dispatch.faster.update(record.faster)
    return record


def tune(shapes: Sequence[Shape], budget_s: float = BUDGET_S) -> list[Timing]:
    """Ours against stock, where stock would do: decode at three capacities and a prefill; `case` is a choice.key."""
    cases = [(shape, *operands) for shape in shapes for operands in _operands(shape)]
    timings: dict[str, Timing] = {}
    for shape, q, kv in cases:
        key = dispatch.key(q, kv)
        if key not in timings:
            timings[key] = _timed(key, q, kv, Mask(), shape.head_size**-0.5, budget_s / (2 * len(cases)))
    return list(timings.values())


def warm(shapes: Sequence[Shape], vocabulary: int | None = None) -> None:
    """Compile what these shapes will launch, in the calling thread, while the weights load in another."""
    if not kernel.available():
        return
    outs: list[mx.array] = []
    for shape in shapes:
        for t in (1, 32):
            keys, values = (_stored(_zeros(shape, 512), bits) for bits in shape.bits)
            kv = KV(keys, values, mx.array([t], dtype=mx.int32), t)
            q = mx.zeros((1, shape.heads, t, shape.head_size), dtype=shape.dtype)
            mask = Mask(window=shape.window)
            outs.append(attention(q, kv, scale=1.0, mask=mask))
            if t == 1 and compiles():
                outs.append(attention(q, replace(kv, length=None), scale=1.0, mask=mask))
    if vocabulary is not None:
        logits = mx.zeros((1, vocabulary), dtype=shapes[0].dtype if shapes else mx.float16)
        outs.append(vocab.statistics(logits, vocab.DrawPlan(top_k=1), mx.zeros((1, 2))).lse)
    mx.eval(outs)


@dataclass(frozen=True)
class KernelTimings:
    """What `likely bench kernels` prints: times on Metal, or the simulator's counts where there is none."""

    machine: str
    kind: str  # metal | simulator
    bandwidth: float | None  # GB/s
    timings: tuple[Timing, ...] = ()
    counts: tuple["CountRow", ...] = ()


BENCH = (
    Shape(64, 9, 3),
    Shape(64, 32, 8),
    Shape(128, 16, 8),
    Shape(128, 32, 8),
    Shape(128, 32, 8, bits=(8, 8)),
    Shape(128, 32, 8, bits=(4, 4)),
    Shape(256, 8, 4),
    Shape(128, 32, 8, window=1024),
)


def bench(shapes: Sequence[Shape] = BENCH, budget_s: float = 10.0, only: str = "") -> KernelTimings:
    """Times of every shape on Metal against stock; without Metal, the counts whose case contains `only`."""
    here = device()
    if not here.metal:
        from metal.counts import table

        return KernelTimings("simulator", "simulator", None, counts=tuple(table(only)))
    cases = [(shape, *operands) for shape in shapes for operands in _operands(shape)]
    timings = []
    for shape, q, kv in cases:
        name = f"{dispatch.key(q, kv)} H={shape.heads} K{shape.bits[0]}/V{shape.bits[1]} W={shape.window or '-'}"
        if only in name:
            mask = Mask(window=shape.window)
            timings.append(_timed(name, q, kv, mask, shape.head_size**-0.5, budget_s / (2 * len(cases))))
    return KernelTimings(here.name, "metal", here.bandwidth, timings=tuple(timings))


def _operands(shape: Shape) -> list[tuple[mx.array, KV]]:
    """Inputs of a decode step at 1,024, 4,096 and 16,384 rows and of a prefill of 1,024."""
    found = []
    for t, n in ((1, 1024), (1, 4096), (1, 16384), (1024, 1024)):
        q = mx.random.normal((1, shape.heads, t, shape.head_size)).astype(shape.dtype)
        keys, values = (_stored(mx.random.normal(_zeros(shape, n).shape).astype(shape.dtype), b) for b in shape.bits)
        found.append((q, KV(keys, values, mx.array([n], dtype=mx.int32), n)))
    return found


def _keys(shape: Shape) -> list[str]:
    dtype = str(shape.dtype).removeprefix("mlx.core.")
    tail = f"{dtype} D={shape.head_size} g={shape.heads // shape.kv_heads}"
    return [*(f"decode {tail} N={n}" for n in (1024, 4096, 16384)), f"prefill {tail} N=1024"]


def _zeros(shape: Shape, n: int) -> mx.array:
    return mx.zeros((1, shape.kv_heads, n, shape.head_size), dtype=shape.dtype)


def _stored(x: mx.array, bits: int) -> mx.array | Quantized:
    return x if bits == 16 else Quantized(*mx.quantize(x, 64, bits), group_size=64, bits=bits)


def _timed(case: str, q: mx.array, kv: KV, mask: Mask, scale: float, budget_s: float) -> Timing:
    nbytes = sum(_nbytes(rows) for rows in (kv.keys, kv.values))
    ours = _seconds(lambda: metal_attention.attention(q, kv, scale=scale, mask=mask)[0], budget_s)
    stock = None
    if isinstance(kv.keys, mx.array) and isinstance(kv.values, mx.array) and mask == CAUSAL:
        keys, values, kind = kv.keys, kv.values, "causal" if q.shape[2] > 1 else None
        stock = _seconds(
            lambda: mx.fast.scaled_dot_product_attention(q, keys, values, scale=scale, mask=kind), budget_s
        )
    return Timing(case, ours, stock, nbytes)


def _nbytes(rows: mx.array | Quantized) -> int:
    if isinstance(rows, Quantized):
        return rows.codes.nbytes + rows.scales.nbytes + rows.biases.nbytes
    return rows.nbytes


def _seconds(call: Callable[[], mx.array], budget_s: float) -> float:
    """The median of the calls that fit the budget, at least three, each of them waited for."""
    mx.eval(call())
    end, times = time.perf_counter() + budget_s, list[float]()
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 100):
        began = time.perf_counter()
        mx.eval(call())
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]
