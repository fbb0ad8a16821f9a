"""Counts of what our kernels ask of memory and of a simdgroup, beside MLX's own in the simulator, with targets.

`table` runs every case and says for each what was measured, what the least possible is and what had to be reached.
Bytes and operations are exact counts; nothing here predicts time. Needs the simulator's compiler.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

from likely.metal import metal_attention, mx, qkv_prepare, vocab
from likely.metal.kv import KV, QuantizedRows
from likely.metal.mask import CAUSAL, Mask
from likely.metal.simulator import DispatchReport, SimKernel, simulated, stock

STATES = frozenset(("partial", "stats", "tops", "top_at", "value_ids"))  # what passes between two launches of ours
QUANTISED = frozenset(f"{name}_{part}" for name in ("key", "value") for part in ("codes", "scales", "biases"))
ROWS = QUANTISED | {"keys", "values", "K", "V"}  # what attention reads; K and V are stock's names


@dataclass(frozen=True, slots=True)
class Target:
    """One figure: it is reached where `got` <= `limit`."""

    what: str
    got: float
    limit: float

    @property
    def reached(self) -> bool:
        return self.got <= self.limit


@dataclass(frozen=True, slots=True)
class Total:
    """Counts of one call, over its launches. Bytes; operations between lanes count once a simdgroup."""

    distinct: int  # bytes touched, what passes between launches left aside
    states: int  # bytes that pass between launches, written and read
    rows: int  # distinct bytes of keys and values
    requested: int  # bytes of keys and values, as all lanes asked for them
    shuffles: int  # reductions count as the shuffles they are made of
    exponentials: int
    barriers: int


@dataclass(frozen=True, slots=True)
class CountRow:
    """One case: ours, MLX's own where it has one, the least bytes possible, and the targets."""

    case: str
    ours: Total
    stock: Total | None
    minimum: int
    targets: tuple[Target, ...]


@contextmanager
def recorded() -> Iterator[list[DispatchReport]]:
    """A block in which kernels run checked and strictly typed in the simulator; yields a report a launch."""
    reports: list[DispatchReport] = []

    class RecordingKernel(SimKernel):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, checked=True, **options)

        def __call__(self, **options: Any) -> list[mx.array]:
            out = super().__call__(**options)
            assert self.report is not None
            reports.append(self.report)
            return out

    with simulated():
        mx.fast.metal_kernel = RecordingKernel
        yield reports


def total(reports: list[DispatchReport]) -> Total:
    """The counts of these launches together; `values` of the vocabulary scan is what it passes on, not rows."""
    parts = [(r.kernel, name, traffic) for r in reports for name, traffic in r.traffic.items()]
    between = [
        t
        for kernel, name, t in parts
        if name in STATES or (name == "values" and kernel.split("_")[1] in ("scan", "draw"))
    ]
    rows = [t for _, name, t in parts if name in ROWS and t not in between]
    distinct, states = sum(t.distinct for _, _, t in parts), sum(t.distinct for t in between)
    return Total(
        distinct=distinct - states,
        states=states,
        rows=sum(t.distinct for t in rows),
        requested=sum(t.read for t in rows),
        shuffles=sum(r.shuffle_steps for r in reports),
        exponentials=sum(r.counts.get("exponentials", 0) for r in reports),
        barriers=sum(r.counts.get("barriers", 0) for r in reports),
    )


def table(only: str = "") -> Iterator[CountRow]:
    """Every case whose name contains `only`, as it is counted."""
    for name, run in cases().items():
        if only in name:
            yield run(name)


def _normal(*shape: int, dtype: mx.Dtype = mx.bfloat16) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(sum(shape))).astype(dtype)


def _kv(keys: mx.array | QuantizedRows, values: mx.array | QuantizedRows, n: int, prefix: KV | None = None) -> KV:
    return KV(keys, values, mx.full((keys.shape[0],), n, dtype=mx.int32), n, prefix=prefix)


def _ours(q: mx.array, kv: KV, mask: Mask = CAUSAL, **options: Any) -> Total:
    with recorded() as reports:
        metal_attention.attention(q, kv, scale=q.shape[-1] ** -0.5, mask=mask, **options)
    return total(reports)


def _work(ours: Total, theirs: Total) -> list[Target]:
    """Operations not above stock's for the same keys and queries."""
    return [
        Target(f"{name} / stock's", getattr(ours, name) / getattr(theirs, name), 1.0)
        for name in ("shuffles", "exponentials", "barriers")
    ]


def _decode(d: int, g: int, n: int, dtype: mx.Dtype = mx.bfloat16) -> Callable[[str], CountRow]:
    def run(name: str) -> CountRow:
        q, k, v = (_normal(1, h, t, d, dtype=dtype) for h, t in ((g, 1), (1, n), (1, n)))
        ours = _ours(q, _kv(k, v, n))
        theirs = total(stock.sdpa_vector(q, k, v, d**-0.5, checked=True)[1])
        minimum = k.nbytes + v.nbytes + 2 * q.nbytes
        share = 4 if d <= 96 else 2
        targets = [
            Target("distinct / minimum", ours.distinct / minimum, 1.05),
            Target(f"requested K/V / stock's (h = {share})", ours.requested / theirs.requested, ceil(g / share) / g),
            *_work(ours, theirs),
        ]
        if n >= 4096:
            targets.append(Target("states / minimum", ours.states / minimum, 0.05))
        return CountRow(name, ours, theirs, minimum, tuple(targets))

    return run


def _quantised(bits: int, g: int, d: int, n: int, limit: float) -> Callable[[str], CountRow]:
    def run(name: str) -> CountRow:
        q, k, v = _normal(1, g, 1, d), _normal(1, 1, n, d), _normal(1, 1, n, d)
        rows = [QuantizedRows(*mx.quantize(x, 64, bits), group_size=64, bits=bits) for x in (k, v)]
        ours = _ours(q, _kv(rows[0], rows[1], n))
        theirs = total(stock.sdpa_vector(q, k, v, d**-0.5, checked=True)[1])
        minimum = 2 * sum(x.nbytes for x in (rows[0].codes, rows[0].scales, rows[0].biases)) + 2 * q.nbytes
        everything = (ours.distinct + ours.states) / theirs.distinct
        targets = (
            Target("distinct / minimum", ours.distinct / minimum, 1.05),
            Target("distinct, states too / 16-bit stock's", everything, limit),
            Target("states / minimum", ours.states / minimum, 0.05),
            *_work(ours, theirs),
        )
        return CountRow(name, ours, theirs, minimum, targets)

    return run


def _cascade(g: int) -> Callable[[str], CountRow]:
    def run(name: str) -> CountRow:
        n, prefix, suffix, d = 8, 1024, 128, 64
        q, k, v = _normal(n, g, 1, d), _normal(n, 1, suffix, d), _normal(n, 1, suffix, d)
        pk, pv = _normal(1, 1, prefix, d), _normal(1, 1, prefix, d)
        ours = _ours(q, _kv(k, v, suffix, prefix=_kv(pk, pv, prefix)))
        keys, values = (_joined(p, x) for p, x in ((pk, k), (pv, v)))
        theirs = total(stock.sdpa_vector(q, keys, values, d**-0.5, checked=True)[1])
        minimum = pk.nbytes + pv.nbytes + k.nbytes + v.nbytes + 2 * q.nbytes
        targets = (
            Target("distinct / minimum", ours.distinct / minimum, 1.05),
            Target("distinct K/V / stock's", ours.rows / theirs.rows, 0.23),
            Target("requested K/V / stock's", ours.requested / theirs.requested, 0.2),
        )
        return CountRow(name, ours, theirs, minimum, targets)

    return run


def _joined(shared: mx.array, own: mx.array) -> mx.array:
    """Rows as a batch without sharing stores them: every sequence with its own copy of what all share."""
    copies = mx.broadcast_to(shared, (own.shape[0], *shared.shape[1:]))
    return mx.contiguous(mx.concatenate([copies, own], axis=2))


def _prefill(
    d: int, t: int, g: int, window: int = 0, limit: float | None = None, dtype: mx.Dtype = mx.bfloat16
) -> Callable[[str], CountRow]:
    def run(name: str) -> CountRow:
        q, k, v = (_normal(1, h, t, d, dtype=dtype) for h in (g, 1, 1))
        ours = _ours(q, _kv(k, v, t), Mask(window=window))
        if window:
            at = mx.arange(t)
            visible = (at[None] <= at[:, None]) & (at[:, None] - at[None] < window)
            mask = mx.contiguous(mx.broadcast_to(visible, (1, g, t, t)))
            theirs = total(stock.steel_attention(q, k, v, d**-0.5, mask=mask, checked=True)[1])
        else:
            theirs = total(stock.steel_attention(q, k, v, d**-0.5, causal=True, checked=True)[1])
        minimum = k.nbytes + v.nbytes + 2 * q.nbytes
        tile = metal_attention.tile_rows(d, wide=dtype == mx.float32)
        live = 0
        for first in range(0, t * g, 32):  # the rows of a tile of queries are g heads of 32 / g positions
            low, high = max(0, first // g - window + 1 if window else 0), (first + 31) // g
            live += high // tile - low // tile + 1
        targets = [
            Target("distinct / minimum", ours.distinct / minimum, 1.05),
            Target("requested K/V / that of live tiles", ours.requested / (live * tile * 2 * d * dtype.size), 1.0),
            *_work(ours, theirs),
        ]
        if limit is not None:
            targets.append(Target("requested K/V / stock's", ours.requested / theirs.requested, limit))
        return CountRow(name, ours, theirs, minimum, tuple(targets))

    return run


def _vocabulary(v: int) -> Callable[[str], CountRow]:
    def run(name: str) -> CountRow:
        logits = _normal(1, v)
        with recorded() as reports:
            vocab.statistics(logits, vocab.DrawPlan(top_k=40), mx.array([[0.5, 0.5]]))
        ours = total(reports)
        theirs = total(stock.softmax(logits, looped=True, checked=True)[1])
        minimum = logits.nbytes + 2 * 4 + vocab.TOP * 8 + 6 * 4
        targets = (
            Target("distinct / minimum", ours.distinct / minimum, 1.05),
            Target(
                "distinct, states too / stock's softmax alone", (ours.distinct + ours.states) / theirs.distinct, 1.0
            ),
        )
        return CountRow(name, ours, theirs, minimum, targets)

    return run


def _token(bits: int) -> Callable[[str], CountRow]:
    def run(name: str) -> CountRow:
        heads, kv_heads = 16, 4
        new = _normal(1, 1, heads + 2 * kv_heads, 128)
        weight, turns = _normal(128), mx.ones((64,))
        form = qkv_prepare.Format(bits, 64)
        with recorded() as reports:
            norm, rotary = qkv_prepare.Norm(weight, weight), qkv_prepare.Rotary(turns)
            qkv_prepare.prepare(
                qkv_prepare.ProjectedTokens(new, kv_heads, mx.zeros((1,), dtype=mx.int32), rotary, norm, form, form)
            )
        ours = total(reports)
        rows = new.nbytes * 2 * kv_heads // (heads + 2 * kv_heads)
        stored = rows if bits == 16 else rows * bits // 16 + rows // 64 * 2
        minimum = 2 * (new.nbytes - rows) + rows + stored + 2 * weight.nbytes + turns.nbytes + 4
        return CountRow(name, ours, None, minimum, (Target("distinct / minimum", ours.distinct / minimum, 1.05),))

    return run


def cases() -> dict[str, Callable[[str], CountRow]]:
    """Every case by its name, to be counted when it is called."""
    return {
        **{f"decode D=64 g={g} T=1024": _decode(64, g, 1024) for g in range(2, 9)},
        **{f"decode D={d} g={g} T=1024": _decode(d, g, 1024) for d in (96, 128, 256) for g in (2, 4, 8)},
        "decode D=64 g=4 T=4096": _decode(64, 4, 4096),
        "decode D=128 g=8 T=4096": _decode(128, 8, 4096),
        **{f"decode float32 D={d} g=4 T=1024": _decode(d, 4, 1024, mx.float32) for d in (64, 128, 256)},
        "decode 8-bit D=64 g=4 T=4096": _quantised(8, 4, 64, 4096, 0.55),
        "decode 4-bit D=64 g=4 T=4096": _quantised(4, 4, 64, 4096, 0.30),
        "decode 8-bit D=128 g=4 T=4096": _quantised(8, 4, 128, 4096, 0.55),
        "decode 4-bit D=128 g=2 T=4096": _quantised(4, 2, 128, 4096, 0.30),
        "cascade N=8 P=1024 S=128 g=2": _cascade(2),
        "cascade N=8 P=1024 S=128 g=4": _cascade(4),
        "prefill causal D=64 T=1024": _prefill(64, 1024, 1),
        "prefill causal D=128 T=1024": _prefill(128, 1024, 1),
        **{f"prefill float32 D={d} T=1024": _prefill(d, 1024, 1, dtype=mx.float32) for d in (64, 128)},
        "prefill causal D=64 g=4 T=256": _prefill(64, 256, 4),
        "prefill window 256 D=64 T=2048": _prefill(64, 2048, 1, window=256, limit=0.25),
        "vocabulary V=49152": _vocabulary(49152),
        "vocabulary V=151936": _vocabulary(151936),
        "qkv_prepare 16-bit": _token(16),
        "qkv_prepare 8-bit": _token(8),
        "qkv_prepare 4-bit": _token(4),
    }
