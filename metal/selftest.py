"""Self-test of the kernels: each variant that a model will use, on small inputs, against its reference on the CPU.

The reference is the path that a kernel falls back to, so a failure costs speed and nothing else. Knows nothing of what
was tested before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from likely.metal import kernel, metal_attention, mx, qkv_prepare, reference, row, vocab
from likely.metal.dispatch import Shape
from likely.metal.kv import KV, QuantizedRows, floats
from likely.metal.mask import CAUSAL, Mask
from likely.metal.merge import States, merge
from likely.metal.reference import AttentionReport, Emit

VOCABULARIES = (9_000, 262_208)  # two chunks of a row; the most that a known model has, more than a thread holds values
BOUND = {mx.float32: 2e-5, mx.float16: 4e-3, mx.bfloat16: 3e-2}  # of an error: outputs are rounded to the dtype


@dataclass(frozen=True)
class Case:
    """One comparison of a kernel, for one dtype and head size."""

    kernel: str
    name: str
    variant: str  # what is switched off if it fails
    bound: float
    run: Callable[[], mx.array]  # the largest error

    def verdict(self) -> "Verdict":
        """Run it. Whatever a compiler or driver throws is a verdict too."""
        try:
            return Verdict(float(np.array(self.run())), self.bound)
        except Exception as problem:
            return Verdict(float("inf"), self.bound, first_line(problem))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The largest error of a comparison and what it may be, or the `failure` to run at all."""

    error: float
    bound: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure and self.error <= self.bound  # a NaN is not

    def __str__(self) -> str:
        return self.failure or f"error {self.error:.2e}, at most {self.bound:.2e}"


def first_line(problem: BaseException) -> str:
    """An exception in one line."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def cases(shape: Shape) -> Iterator[Case]:
    """A case for each variant of each kernel that a model of this shape may launch."""
    dtype, d, group = shape.dtype, shape.head_size, shape.heads // shape.kv_heads

    def case(name: str, what: str, run: Callable[[], mx.array]) -> Case:
        variant = kernel.variant(name, dtype, d)
        heads = "" if name in ("merge", "qkv_prepare") else f" g={group}"
        return Case(name, f"{variant}{heads}: {what}", variant, BOUND[dtype], run)

    if d in metal_attention.SIZES:
        yield case("merge", "two splits", partial(_merge, dtype, d))
        attention = [(name, what, t, mask, more) for name, what, t, mask, more in ATTENTION]
        if size := next((size for size in (64, 32) if d % size == 0), 0):
            attention += [(name, what, t, CAUSAL, more | {"group_size": size}) for name, what, t, more in QUANTISED]
        for name, what, t, mask, more in attention:
            yield case(name, what, partial(_attention, shape, t, mask, **more))
    yield from (case("qkv_prepare", what, partial(_rows_of_tokens, dtype, d, **more)) for what, more in ROWS)
    if d % 32 == 0:
        yield case("qkv_prepare", "8-bit", partial(_rows_of_tokens, dtype, d, norm=True, bits=8))
    yield from row_cases(dtype)


def row_cases(dtype: mx.Dtype) -> Iterator[Case]:
    """A case for each kernel that reads a row of logits, which is launched for any model."""
    for name, what in (("scan", "statistics and a draw"), ("row", "an observed draw")):
        variant = kernel.variant(name, dtype)
        for v in VOCABULARIES:
            yield Case(
                name,
                f"{variant}: {what} of {v:,}",
                variant,
                BOUND[mx.float32],
                partial(_vocabulary, dtype, v, name == "row"),
            )


def _normal(seed: int, *shape: int, dtype: mx.Dtype) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def _rows(x: mx.array, bits: int, group_size: int) -> mx.array | QuantizedRows:
    return x if bits == 16 else qkv_prepare.quantize(x, qkv_prepare.Format(bits, group_size))


def _worst(pairs: list[tuple[mx.array, mx.array]]) -> mx.array:
    """The largest difference, where equal infinities differ by nothing."""
    parts = [
        mx.max(mx.where(a == b, 0.0, mx.abs(a - b)))
        for a, b in ((x.astype(mx.float32), y.astype(mx.float32)) for x, y in pairs)
    ]
    return mx.max(mx.stack(parts))


def _attention(
    shape: Shape,
    t: int,
    mask: Mask,
    *,
    bits: tuple[int, int] = (16, 16),
    group_size: int = 0,
    emit: Emit | None = None,
    sinks: bool = False,
    shared: bool = False,
    ring: bool = False,
    softcap: float | None = None,
    split: bool = False,
) -> mx.array:
    """83 rows and the T last of them as queries, over as many key/value heads as tell one from another."""
    d, dtype = shape.head_size, shape.dtype
    b, heads, n, capacity = (4 if shared else 1), min(2, shape.kv_heads), 83, 96
    h = heads * (shape.heads // shape.kv_heads)
    q = _normal(1, b, h, t, d, dtype=dtype)
    k, v = (
        _rows(_normal(seed, b, heads, capacity, d, dtype=dtype), bit, group_size)
        for seed, bit in zip((2, 3), bits, strict=True)
    )
    sink = _normal(4, h, dtype=dtype) if sinks else None
    prefix = None
    if shared:
        pk, pv = (_normal(s, 1, heads, 64, d, dtype=dtype) for s in (5, 6))
        prefix = KV(pk, pv, mx.array([61], dtype=mx.int32), 61)
    at = mx.roll(mx.arange(40, 40 + capacity, dtype=mx.int32), 17)[None] if ring else None
    kv = KV(k, v, mx.array([n] * b, dtype=mx.int32), n, positions=at, prefix=prefix)

    def by(attend: Callable[..., tuple[mx.array, AttentionReport]], **more: metal_attention.Geometry) -> list[mx.array]:
        out, emitted = attend(q, kv, scale=d**-0.5, mask=mask, softcap=softcap, sinks=sink, emit=emit, **more)
        reported = (emitted.lse, emitted.entropy, emitted.weights, emitted.scores)
        return [out, *(x for x in reported if x is not None)]

    ours = by(metal_attention.attention, geometry=metal_attention.Geometry(splits=2 if split else None))
    mx.eval(ours)
    with mx.stream(mx.cpu):
        return _worst(list(zip(ours, by(reference.attention), strict=True)))


def _merge(dtype: mx.Dtype, d: int) -> mx.array:
    """States of two splits, one of them empty: their merge is the other one, normalised."""
    x = _normal(1, 1, 2, 1, 1, d, dtype=mx.float32)
    partial = mx.concatenate([x, mx.zeros_like(x)], axis=3)
    stats = mx.broadcast_to(mx.array([[3.0, 0.0, 2.0, 0.0], [-1e30, 0.0, 0.0, 0.0]]), (1, 2, 1, 2, 4))
    out, _ = merge([States(partial, mx.contiguous(stats))], dtype, 1.0, None, Emit())
    return _worst([(out, x[:, :, :, 0] / 2)])


def _logits(dtype: mx.Dtype, v: int) -> mx.array:
    """[3, V]: any; of which the first are equal, zeros of both signs; and those few and the last ones."""
    x, ids = _normal(1, 3, v, dtype=dtype) * 3, mx.arange(v)
    first, few = ids % 61 == 1, ids % 8191 == 1
    equal = mx.stack([mx.zeros_like(first), first, few | (ids >= v - 512)])
    below = mx.stack([x[0], *(-1 - mx.abs(x[1:]))])
    return mx.where(equal, mx.where(ids % 2 == 0, 0.0, -0.0), below).astype(dtype)


def _vocabulary(dtype: mx.Dtype, v: int, observed: bool) -> mx.array:
    """Statistics and a draw; if observed, what is told of the row too."""
    logits, uniform = _logits(dtype, v), mx.array([[0.7, 0.8], [0.8, 0.1], [0.9, 0.9]])
    apart = mx.array([[5, v - 1], [-1, 5], [0, 5]], dtype=mx.int32)  # the second one's draw spilled
    draw = vocab.DrawPlan(0.8, 40, 0.9, 0.02)
    ours = vocab.by_kernel(logits, draw, uniform, observed=observed)
    seen = row.scan(logits, ours, apart) if observed else None
    assert ours.drawn is not None
    got = [ours.lse, ours.entropy, ours.logprobs[:, : vocab.TOP], ours.ids[:, : vocab.TOP]]
    got += [ours.drawn.token, ours.drawn.logprob_after]
    mx.eval(got, [] if seen is None else seen.arrays)
    with mx.stream(mx.cpu):
        theirs = vocab.by_reference(logits, draw, uniform)
        assert theirs.drawn is not None
        expected = [theirs.lse, theirs.entropy, theirs.logprobs, theirs.ids]
        expected += [theirs.drawn.token, theirs.drawn.logprob_after]
        pairs = list(zip(got, expected, strict=True))
        return _worst(pairs if seen is None else pairs + _observed(logits.astype(mx.float32), apart, seen))


def _observed(x: mx.array, apart: mx.array, seen: row.RowScan) -> list[tuple[mx.array, mx.array]]:
    """Pairs of what was told and what is: the candidates, mean and variance, the bins of the others (as what is below
    each edge) and their mass."""
    n, v = x.shape
    ids = vocab.most_likely(x, vocab.CANDIDATES)
    chosen = mx.take_along_axis(x, mx.maximum(apart, 0), axis=1)
    gone = mx.any(mx.arange(v) == apart[..., None], axis=1)
    unlisted = mx.where(gone, mx.inf, mx.put_along_axis(x, ids, mx.array(mx.inf), 1))
    below = mx.sum(unlisted[:, None] < seen.edges[:, 1:-1, None], axis=-1)
    sums = vocab.row_sums(mx.where((unlisted >= seen.edges[:, 1:2]) & (unlisted < mx.inf), mx.exp(unlisted), 0.0))
    mean = vocab.row_sums(x) / v
    chunks, counts = seen.moments[..., 0] + seen.moments[..., 3], seen.possible
    off = seen.moments[..., 4] + counts * (chunks - mean[:, None]) ** 2
    mass = mx.sum(seen.masses, axis=1).astype(mx.float32)[:, 1:] * row.UNIT * mx.exp(seen.edges[:, 2:])
    return [
        (seen.best, mx.take_along_axis(x, ids, axis=1)),
        (seen.ids, ids),
        (seen.apart, chosen),
        (mx.sum(counts, axis=1), mx.full((n,), v)),
        (mx.sum(seen.larger, axis=1), mx.sum(x > chosen[:, :1], axis=-1)),
        (mx.sum(counts * chunks, axis=1) / v, mean),
        (mx.sum(off, axis=1) / vocab.row_sums((x - mean[:, None]) ** 2), mx.ones((n,))),
        (mx.cumsum(mx.sum(seen.filled, axis=1), axis=-1)[:, :-1], below),
        (mx.sum(mass, axis=-1) / sums, mx.ones((n,))),
    ]


def _rows_of_tokens(
    dtype: mx.Dtype, d: int, *, norm: bool = False, traditional: bool = False, bits: int = 16
) -> mx.array:
    """Two tokens, four query and two key/value heads; the reference computes in float32 as the kernel does."""
    rows = _normal(1, 1, 2, 8, d, dtype=dtype)
    weight = 1 + _normal(4, d, dtype=dtype) / 10
    form = qkv_prepare.Format(bits, 64 if d % 64 == 0 else 32)
    pairs = d // 2
    rotary = qkv_prepare.Rotary(1e4 ** (-mx.arange(pairs, dtype=mx.float32) / pairs), traditional)

    def new(dtype: mx.Dtype) -> qkv_prepare.ProjectedTokens:
        normed = qkv_prepare.Norm(weight.astype(dtype), weight.astype(dtype)) if norm else None
        return qkv_prepare.ProjectedTokens(
            rows.astype(dtype), 2, mx.array([9], dtype=mx.int32), rotary, normed, form, form
        )

    def parts(prepared: qkv_prepare.PreparedRows) -> tuple[mx.array, mx.array, mx.array]:
        keys, values = prepared.keys, prepared.values
        return prepared.queries, floats(keys, None), floats(values, None)

    ours = qkv_prepare.by_kernel(new(dtype))
    got = parts(ours)
    mx.eval(got)
    with mx.stream(mx.cpu):
        theirs = qkv_prepare.by_reference(new(mx.float32))
        queries, keys, values = parts(theirs)
        # a value on the border of two codes may fall to either side: one step
        step = mx.max(mx.abs(theirs.keys.scales)).item() if isinstance(theirs.keys, QuantizedRows) else 0.0
        pair = [(got[0], queries), (got[2], values)]
        return mx.maximum(_worst(pair), _worst([(got[1], keys)]) - step)


EVERYTHING = Emit(lse=True, entropy=True, top=8, scores=True)
SUMS = Emit(lse=True, entropy=True)
TREE = Mask(tree=mx.array([[[1 | 1 << t | 1 << t // 2] for t in range(20)]], dtype=mx.uint32))
DOCUMENTS = Mask(documents=mx.array([[0] * 30 + [1] * 40 + [2] * 30], dtype=mx.int32))

# kernel, name, queries, mask, options
ATTENTION: tuple[tuple[str, str, int, Mask, dict[str, Any]], ...] = (
    ("decode", "one query", 1, CAUSAL, {"split": True}),
    ("decode", "everything reported, sinks", 1, CAUSAL, {"emit": EVERYTHING, "sinks": True}),
    ("decode", "three queries, window", 3, Mask(window=40, keep=4), {"emit": SUMS}),
    ("decode", "blocks", 3, Mask(block=5, block_start=86), {}),
    ("decode", "capped", 1, CAUSAL, {"softcap": 20.0}),
    ("decode", "ring, documents", 2, DOCUMENTS, {"emit": EVERYTHING, "ring": True}),
    ("tiles", "causal", 20, CAUSAL, {}),
    ("tiles", "causal, split", 20, CAUSAL, {"split": True}),
    ("tiles", "window, sums reported, sinks", 40, Mask(window=30, keep=2), {"emit": SUMS, "sinks": True}),
    ("tiles", "blocks", 20, Mask(block=5, block_start=73), {}),
    ("tiles", "capped", 20, CAUSAL, {"softcap": 20.0}),
    ("tiles", "capped, split", 20, CAUSAL, {"softcap": 20.0, "split": True}),
    ("tiles", "documents", 20, DOCUMENTS, {}),
    ("tiles", "tree, split", 20, TREE, {"split": True}),
    ("tiles", "shared prefix", 8, CAUSAL, {"shared": True}),
    ("tiles", "ring, split", 20, Mask(window=50), {"ring": True, "split": True}),
)
QUANTISED: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("decode", "8-bit", 1, {"bits": (8, 8)}),
    ("decode", "4-bit", 1, {"bits": (4, 4)}),
    ("decode", "8-bit keys, 4-bit values", 1, {"bits": (8, 4), "emit": SUMS}),
    ("tiles", "8-bit, split", 20, {"bits": (8, 8), "split": True}),
)
ROWS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("plain", {}),
    ("normed", {"norm": True}),
    ("normed, neighbours turn", {"norm": True, "traditional": True}),
)
