"""Autotuning of the kernels on this chip: which give the reference's results, and where ours are faster than stock.

The first model of its kind on a Mac has every variant of its kernels compared (`metal/selftest.py`), and timed against
mlx's own for a few seconds; later runs read what that found (`metal/tuning_cache.py`). Nothing that goes wrong here
stops a model: the variant is off, and that is written down. Without Metal nothing is run or written.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from likely.metal import dispatch, kernel, metal_attention, mx, qkv_prepare, tuning_cache, vocab
from likely.metal.attention import attention
from likely.metal.device import compiles, device
from likely.metal.dispatch import Shape
from likely.metal.kv import KV, QuantizedRows
from likely.metal.mask import CAUSAL, Mask
from likely.metal.selftest import Case, cases, first_line, row_cases
from likely.metal.tuning_cache import Record, blank, load, save

if TYPE_CHECKING:  # the simulator is for machines without Metal
    from likely.metal.counts import CountRow

Report = Callable[[str, int, int], None]  # what is done, and how much of how much

LENGTHS = (1024, 4096, 16384)  # stored rows of the decode steps that are timed
PROMPT = 1024  # tokens of the prefill that is timed
CALLS = 32  # in one evaluation, each reading the last one's output: so the kernel is timed, not the way there and back
ROUNDS = 3  # evaluations of each at least
BUDGET_S = 3.0
MARGIN = 0.95  # of stock's time: what ours must beat, so that noise does not decide
AGREE = 0.05  # of the largest output: how much ours and stock may differ at full size, where a sum went wrong if more
STRIKES = 2  # attempts that did not come to an end: after these a variant is taken to end the process
UNFINISHED = "it did not come to its end, twice"


@dataclass(frozen=True, slots=True)
class Timing:
    """One call, timed: seconds, and the key/value bytes it has to read."""

    case: str
    ours_s: float
    stock_s: float  # of the reference where mlx has nothing for it
    nbytes: int

    def share(self, bandwidth: float | None) -> float | None:
        """The share of the chip's memory bandwidth (GB/s) that ours reaches; None where that is not known."""
        return None if bandwidth is None else self.nbytes / self.ours_s / (bandwidth * 1e9)


@dataclass(frozen=True)
class TimingCase:
    """A call of attention that is timed by ours and by what else can do it.

    If `compiled`, as a compiled step makes it, by whichever was faster there, and as one that is not compiled does.
    """

    name: str  # by which `dispatch.faster` has what was found
    shape: Shape
    operands: Callable[[], tuple[mx.array, KV]]  # made when they are needed, for they are large
    mask: Mask = CAUSAL
    compiled: bool = False

    @property
    def other(self) -> dispatch.Path:
        """The rival that can do the same: nothing of mlx's caps scores."""
        return "stock" if self.shape.softcap is None else "reference"

    @property
    def variant(self) -> str:
        kind = "decode" if self.name.startswith("decode") else "tiles"
        return kernel.variant(kind, self.shape.dtype, self.shape.head_size)

    def wins(self, timing: "Timing") -> bool:
        """Whether ours is taken: where it is faster by more than noise. A compiled step, which saves the host's time
        too, where it is not slower by more."""
        ours, other = timing.ours_s, timing.stock_s
        return MARGIN * ours < other if self.compiled else ours < MARGIN * other

    def chain(self, q: mx.array, kv: KV, ours: bool, calls: int) -> mx.array:
        """The output of so many calls, each with the last one's output for its queries; not evaluated."""
        scale, softcap = self.shape.head_size**-0.5, self.shape.softcap
        if self.compiled and ours:
            kv = replace(kv, length=None)
        with dispatch.forced(None if self.compiled else "ours" if ours else self.other):
            for _ in range(calls):
                q = attention(q, kv, scale=scale, mask=self.mask, softcap=softcap)
        return q


def prepare(
    shapes: Sequence[Shape],
    report: Report = lambda *_: None,
    *,
    logits: mx.Dtype | None = None,
    budget_s: float | None = None,
) -> Record:
    """Make the kernels ready for these shapes: compare and time what never was on this chip, and apply all of it.

    `logits` is the type of the rows of a model whose attention is not ours: what reads a row is made ready for it.
    An attempt that ended the process (or the machine) is made once more; after the second its variant stays off. One
    process does this at a time, others wait.
    """
    if not device().metal:
        return blank()
    record = load() or blank()
    if _uncompared(record, shapes, logits) or _untimed(record, shapes):
        with tuning_cache.alone(lambda: report("another process tests the kernels on this chip", 0, 0)):
            record = load() or blank()
            dispatch.faster.update(record.faster)
            _compare(record, _uncompared(record, shapes, logits), report)
            _time(record, shapes, report, BUDGET_S if budget_s is None else budget_s)
        mx.clear_cache()  # what was timed is as large as a cache, and nobody needs its buffers again
    for variant, reason in record.switched_off.items():
        kernel.switch_off(variant, reason)
    dispatch.faster.update(record.faster)
    return record


def _uncompared(record: Record, shapes: Sequence[Shape], logits: mx.Dtype | None) -> list[Case]:
    """Comparisons that nobody has made, of what is not off anyway; none twice."""
    by_name = {case.name: case for shape in shapes for case in cases(shape)}
    by_name |= {case.name: case for case in ([] if logits is None else row_cases(logits))}
    return [case for name, case in by_name.items() if name not in record.verdicts and not _off(record, case.variant)]


def _off(record: Record, variant: str) -> bool:
    return variant in record.switched_off


def _compare(record: Record, pending: Sequence[Case], report: Report) -> None:
    for number, case in enumerate(pending, 1):
        report(f"testing kernels on this chip, once ({number}/{len(pending)})", number, len(pending))
        if not _off(record, case.variant):  # an earlier one may have switched it off

            def act(case: Case = case) -> None:
                verdict = case.verdict()
                record.verdicts[case.name] = str(verdict)
                if not verdict.passed:
                    record.switched_off[case.variant] = f"{case.name}: {verdict}"

            _attempt(record, case.name, case.variant, act)


def _attempt(record: Record, name: str, variant: str, act: Callable[[], None]) -> None:
    """Let `act` add to the record; one that has ended the process often enough is not made again.

    Whatever it raises switches the variant off, but for an interrupt, which is nobody's fault and passes.
    """
    if record.begun.get(name, 0) >= STRIKES:
        record.switched_off[variant] = f"{name}: {UNFINISHED}"
        del record.begun[name]
        save(record)
        return
    record.begun[name] = record.begun.get(name, 0) + 1
    save(record)
    try:
        act()
    except Exception as problem:  # a compiler's or a driver's
        record.switched_off[variant] = f"{name}: {first_line(problem)}"
    finally:
        del record.begun[name]
        save(record)


def _able(record: Record, shape: Shape) -> bool:
    """Whether ours may run for the shape at all."""
    variants = [kernel.variant(name, shape.dtype, shape.head_size) for name in dispatch.KERNELS]
    return shape.head_size in metal_attention.SIZES and not any(_off(record, variant) for variant in variants)


def _untimed(record: Record, shapes: Sequence[Shape]) -> list[TimingCase]:
    """Timings that nobody has made, of kernels that may run; none twice."""
    by_name = {case.name: case for shape in shapes if _able(record, shape) for case in timing_cases(shape)}
    return [case for name, case in by_name.items() if name not in record.faster]


def _time(record: Record, shapes: Sequence[Shape], report: Report, budget_s: float) -> None:
    pending = _untimed(record, shapes)
    for number, case in enumerate(pending, 1):
        report(f"timing kernels on this chip, once ({number}/{len(pending)})", number, len(pending))

        def act(case: TimingCase = case) -> None:
            q, kv = case.operands()
            if (why := _disagreement(case, q, kv)) is not None:
                record.verdicts[case.name] = why
                record.switched_off[case.variant] = f"{case.name}: {why}"
                return
            t = timed(case, q, kv, budget_s / len(pending))
            dispatch.faster[case.name] = record.faster[case.name] = case.wins(t)  # which the next may follow
            record.timings.append(asdict(t))

        if _able(record, case.shape):  # an earlier one may have switched it off
            _attempt(record, case.name, case.variant, act)


def timing_cases(shape: Shape) -> Iterator[TimingCase]:
    """The calls that attention of this shape is made of, each by the name under which `dispatch` looks it up."""
    d, h, dtype = shape.head_size, shape.heads, shape.dtype
    capped = "" if shape.softcap is None else " capped"
    packed = dispatch.packed(_kv(replace(shape, kv_heads=1), 1, 1, shape.bits))
    few, many = dispatch.BATCH, PROMPT

    def case(
        kind: str,
        b: int,
        t: int,
        n: int,
        mask: Mask = CAUSAL,
        bits: tuple[int, int] = shape.bits,
        prefix: tuple[int, int, tuple[int, int]] | None = None,
        ragged: bool = False,
        traced: bool = False,
        compiled: bool = False,
    ) -> TimingCase:
        total = n + (0 if prefix is None else prefix[1])
        name = dispatch.name(kind, dtype, d, h, shape.kv_heads, b, dispatch.bucket(total))

        def operands() -> tuple[mx.array, KV]:
            kv = _kv(shape, b, n, bits, ragged=ragged)
            if traced or compiled:  # a buffer that is filled for the most part
                held = n - n // 4
                kv = replace(kv, lengths=mx.full((b,), held, dtype=mx.int32), length=None if traced else held)
            if prefix is not None:
                kv = replace(kv, prefix=_kv(shape, prefix[0], prefix[1], prefix[2]))
            return mx.random.normal((b, h, t, d)).astype(dtype), kv

        return TimingCase(name, shape, operands, mask, compiled)

    words = f"{capped} {packed}".rstrip()
    for b, n in (*((1, n) for n in LENGTHS), (few, LENGTHS[0])):
        yield case(f"decode{words}", b, 1, n)
        if not packed:
            yield case(f"decode traced{capped}", b, 1, n, traced=True)
            yield case(f"decode compiled{capped}", b, 1, n, compiled=True)
    yield case(f"prefill{words}", 1, many, PROMPT)
    if shape.window:
        sliding = Mask(window=min(shape.window, PROMPT // 2))
        yield case(f"prefill window{words}", 1, many, PROMPT, sliding)
    if packed:
        return
    yield case(f"decode ragged{capped}", few, 1, LENGTHS[0], ragged=True)
    own = LENGTHS[0] // 16
    yield case(f"decode prefix{capped}", few, 1, own, prefix=(1, LENGTHS[0] - own, (16, 16)))
    documents = Mask(documents=(mx.arange(PROMPT, dtype=mx.int32) // (PROMPT // 4))[None])
    yield case(f"prefill documents{capped}", 1, many, PROMPT, documents)
    if d % 32 == 0:  # a group of packed rows
        for n in LENGTHS[:2]:
            yield case(f"decode prefix{capped} 8-bit", 1, 1, own, prefix=(1, n - own, (8, 8)))


def _kv(shape: Shape, b: int, n: int, bits: tuple[int, int], *, ragged: bool = False) -> KV:
    """Random rows of a cache; if ragged the rows of B differ in their lengths."""
    keys, values = (
        _stored(mx.random.normal((b, shape.kv_heads, n, shape.head_size)).astype(shape.dtype), bit) for bit in bits
    )
    lengths = [n - 8 * i if ragged else n for i in range(b)]
    return KV(keys, values, mx.array(lengths, dtype=mx.int32), n, ragged, cached=True)


def _stored(x: mx.array, bits: int) -> mx.array | QuantizedRows:
    return x if bits == 16 else qkv_prepare.quantize(x, qkv_prepare.Format(bits, 64 if x.shape[3] % 64 == 0 else 32))


def _disagreement(case: TimingCase, q: mx.array, kv: KV) -> str | None:
    """Why ours cannot be right at this size, or None. Compiles both."""
    ours, other = (case.chain(q, kv, which, 1).astype(mx.float32) for which in (True, False))
    worst, most = (float(np.array(mx.max(mx.abs(x)))) for x in (ours - other, other))
    if worst <= AGREE * most:  # a NaN is not
        return None
    return f"ours and {case.other} differ by {worst:.2e} where the largest output is {most:.2e}"


def timed(case: TimingCase, q: mx.array, kv: KV, budget_s: float) -> Timing:
    """The medians of evaluations of `CALLS` calls that fit the budget, three at least, ours and the other in turns."""
    times: dict[bool, list[float]] = {True: [], False: []}  # of ours, and of the other
    spent = 0.0
    while len(times[True]) < ROUNDS or (spent < budget_s and len(times[True]) < 100):
        for ours in (True, False) if len(times[True]) % 2 == 0 else (False, True):
            seconds = _seconds(case.chain(q, kv, ours, CALLS))
            times[ours].append(seconds / CALLS)
            spent += seconds
    ours_s, other_s = (sorted(found)[len(found) // 2] for found in times.values())
    nbytes = sum(_nbytes(rows) for part in kv.chain() for rows in (part.keys, part.values))
    return Timing(case.name, ours_s, other_s, nbytes)


def _seconds(out: mx.array) -> float:
    """How long it takes to evaluate."""
    began = time.perf_counter()
    mx.eval(out)
    return time.perf_counter() - began


def guarded(variants: Iterable[str], act: Callable[[], object]) -> None:
    """Let `act` compile these variants; if it cannot they are off, here and in the record."""
    try:
        act()
    except Exception as problem:  # a compiler's or a driver's
        record = load() or blank()
        for variant in variants:
            kernel.switch_off(variant, first_line(problem))
            record.switched_off[variant] = first_line(problem)
        save(record)


def warm(shapes: Sequence[Shape], vocabulary: int | None = None, logits: mx.Dtype | None = None) -> None:
    """Compile what these shapes will launch, in the calling thread, while the weights load in another.

    With a `vocabulary` also what reads a row: of `logits` of that type, or of the first shape's.
    """
    if not kernel.available():
        return
    for shape in shapes:
        variants = [kernel.variant(name, shape.dtype, shape.head_size) for name in dispatch.KERNELS]
        for t in (1, 32):
            guarded(variants, lambda shape=shape, t=t: mx.eval(_warming(shape, t)))  # type: ignore[misc]
    if vocabulary is not None:
        dtype = logits or (shapes[0].dtype if shapes else mx.float16)
        rows, uniform = mx.zeros((1, vocabulary), dtype=dtype), mx.zeros((1, 2))
        scan = kernel.variant("scan", dtype)
        guarded([scan], lambda: mx.eval(vocab.statistics(rows, vocab.DrawPlan(top_k=1), uniform).lse))


def _warming(shape: Shape, t: int) -> list[mx.array]:
    """Attention of T queries over zeros: as the host would ask for it, and as a compiled step would."""
    keys, values = (_stored(mx.zeros((1, shape.kv_heads, 512, shape.head_size), shape.dtype), b) for b in shape.bits)
    kv = KV(keys, values, mx.array([t], dtype=mx.int32), t)
    q = mx.zeros((1, shape.heads, t, shape.head_size), dtype=shape.dtype)
    known = [kv, replace(kv, length=None)] if t == 1 and compiles() else [kv]
    mask = Mask(window=shape.window)
    return [attention(q, rows, scale=1.0, mask=mask, softcap=shape.softcap) for rows in known]


@dataclass(frozen=True)
class KernelTimings:
    """Figures that `likely bench kernels` prints: times on Metal, or the simulator's counts where there is none."""

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


def bench(shapes: Sequence[Shape] = BENCH, budget_s: float = 20.0, only: str = "") -> KernelTimings:
    """Times of every shape on Metal against stock; without Metal, the counts whose case contains `only`."""
    here = device()
    if not here.metal:
        from likely.metal.counts import table

        return KernelTimings("simulator", "simulator", None, counts=tuple(table(only)))
    pending = {case.name: case for shape in shapes for case in timing_cases(shape) if only in case.name}
    timings = tuple(timed(case, *case.operands(), budget_s / len(pending)) for case in pending.values())
    return KernelTimings(here.name, "metal", here.bandwidth, timings=timings)


def _nbytes(rows: mx.array | QuantizedRows) -> int:
    if isinstance(rows, QuantizedRows):
        return rows.codes.nbytes + rows.scales.nbytes + rows.biases.nbytes
    return rows.nbytes
