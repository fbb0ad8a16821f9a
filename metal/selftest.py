"""Runs every kernel on this machine on small inputs and compares it with its reference, computed on the CPU.

A kernel that does not compile or gives another result is off for the process; `metal/autotune.py` remembers it.
The reference is the path it falls back to, so a failure costs speed and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metal import kernel, metal_attention, mx, qkv_prepare, reference, vocab
from metal.kv import KV, Quantized
from metal.mask import CAUSAL, Mask
from metal.merge import States, merge
from metal.reference import Emit, Seen


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison: the largest error and what it may be, or the `failure` to run at all."""

    kernel: str
    case: str
    error: float
    bound: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure and self.error <= self.bound  # a NaN is not

    def __str__(self) -> str:
        if self.failure:
            return f"{self.kernel}, {self.case}: {self.failure}"
        return f"{self.kernel}, {self.case}: error {self.error:.2e}, at most {self.bound:.2e}"


def selftest() -> list[Verdict]:
    """A verdict for every case; kernels with one that is not passed are switched off."""
    verdicts = []
    for name, case, bound, run in CASES:
        try:
            error = float(np.array(run()))
            verdicts.append(Verdict(name, case, error, bound))
        except Exception as problem:  # whatever a driver may throw: the program goes on without the kernel
            line = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            verdicts.append(Verdict(name, case, float("inf"), bound, line))
        if not verdicts[-1].passed:
            kernel.switch_off(name, str(verdicts[-1]))
    return verdicts


def _normal(seed: int, *shape: int, dtype: mx.Dtype) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def _rows(x: mx.array, bits: int) -> mx.array | Quantized:
    return x if bits == 16 else qkv_prepare.quantize(x, qkv_prepare.Format(bits, 64))


def _worst(pairs: list[tuple[mx.array, mx.array]]) -> mx.array:
    """The largest difference, where equal infinities differ by nothing."""
    parts = [
        mx.max(mx.where(a == b, 0.0, mx.abs(a - b)))
        for a, b in ((x.astype(mx.float32), y.astype(mx.float32)) for x, y in pairs)
    ]
    return mx.max(mx.stack(parts))


def _attention(
    d: int,
    t: int,
    mask: Mask,
    *,
    dtype: mx.Dtype = mx.float16,
    bits: tuple[int, int] = (16, 16),
    emit: Emit | None = None,
    shared: bool = False,
    ring: bool = False,
    softcap: float | None = None,
) -> Callable[[], mx.array]:
    def run() -> mx.array:
        b, heads, n, capacity = (4 if shared else 1), 2, 83, 96
        q = _normal(1, b, 8, t, d, dtype=dtype)
        k, v = (_rows(_normal(s, b, heads, capacity, d, dtype=dtype), bit) for s, bit in zip((2, 3), bits, strict=True))
        sinks = _normal(4, 8, dtype=dtype)
        prefix = None
        if shared:
            pk, pv = (_normal(s, 1, heads, 64, d, dtype=dtype) for s in (5, 6))
            prefix = KV(pk, pv, mx.array([61], dtype=mx.int32), 61)
        at = mx.roll(mx.arange(40, 40 + capacity, dtype=mx.int32), 17)[None] if ring else None
        kv = KV(k, v, mx.array([n] * b, dtype=mx.int32), n, positions=at, prefix=prefix)

        def by(attend: Callable[..., tuple[mx.array, Seen]], **more: metal_attention.Geometry) -> list[mx.array]:
            out, seen = attend(q, kv, scale=d**-0.5, mask=mask, softcap=softcap, sinks=sinks, emit=emit, **more)
            reported = (seen.lse, seen.entropy, seen.weights, seen.scores)
            return [out, *(x for x in reported if x is not None)]

        ours = by(metal_attention.attention, geometry=metal_attention.Geometry(splits=2))
        mx.eval(ours)
        with mx.stream(mx.cpu):
            return _worst(list(zip(ours, by(reference.attention), strict=True)))

    return run


def _merge() -> mx.array:
    """States of two splits, one of them empty: their merge is the other one, normalised."""
    x = _normal(1, 1, 2, 1, 1, 64, dtype=mx.float32)
    partial = mx.concatenate([x, mx.zeros_like(x)], axis=3)
    stats = mx.broadcast_to(mx.array([[3.0, 0.0, 2.0, 0.0], [-1e30, 0.0, 0.0, 0.0]]), (1, 2, 1, 2, 4))
    out, _ = merge([States(partial, mx.contiguous(stats))], mx.float32, 1.0, None, Emit())
    return _worst([(out, x[:, :, :, 0] / 2)])


def _vocabulary() -> mx.array:
    logits, uniform = _normal(1, 2, 9000, dtype=mx.float16) * 3, mx.array([[0.3, 0.8], [0.8, 0.1]])
    draw = vocab.DrawPlan(0.8, 40, 0.9, 0.02)
    ours = vocab.by_kernel(logits, draw, uniform)
    assert ours.drawn is not None
    got = [ours.lse, ours.entropy, ours.logprobs, ours.ids, ours.drawn.token, ours.drawn.logprob_after]
    mx.eval(got)
    with mx.stream(mx.cpu):
        theirs = vocab.by_reference(logits, draw, uniform)
        assert theirs.drawn is not None
        expected = [theirs.lse, theirs.entropy, theirs.logprobs, theirs.ids, theirs.drawn.token]
        return _worst(list(zip(got, [*expected, theirs.drawn.logprob_after], strict=True)))


def _token() -> mx.array:
    q, k, v = (_normal(s, 1, 2, heads, 64, dtype=mx.float32) for s, heads in ((1, 4), (2, 2), (3, 2)))
    weight = _normal(4, 64, dtype=mx.float32)
    form = qkv_prepare.Format(8, 64, mx.float32)
    rotary = qkv_prepare.Rotary(1e4 ** (-mx.arange(32, dtype=mx.float32) / 32))
    new = qkv_prepare.Projected(
        q, k, v, mx.array([9], dtype=mx.int32), rotary, qkv_prepare.Norm(weight, weight), form, form
    )
    ours = qkv_prepare.by_kernel(new)
    assert isinstance(ours.keys, Quantized) and isinstance(ours.values, Quantized)
    got = [ours.queries, ours.keys.floats(), ours.values.floats()]
    mx.eval(got)
    with mx.stream(mx.cpu):
        theirs = qkv_prepare.by_reference(new)
        assert isinstance(theirs.keys, Quantized) and isinstance(theirs.values, Quantized)
        # a value on the border of two codes may fall to either side: one step
        step = mx.max(mx.abs(theirs.keys.scales)).item()
        pairs = [(got[0], theirs.queries), (got[2], theirs.values.floats())]
        return mx.maximum(_worst(pairs), _worst([(got[1], theirs.keys.floats())]) - step)


EVERYTHING = Emit(lse=True, entropy=True, top=8, scores=True)
SUMS = Emit(lse=True, entropy=True)
TREE = Mask(tree=mx.array([[[1 | 1 << t | 1 << t // 2] for t in range(20)]], dtype=mx.uint32))
DOCUMENTS = Mask(documents=mx.array([[0] * 30 + [1] * 40 + [2] * 30], dtype=mx.int32))

CASES: tuple[tuple[str, str, float, Callable[[], mx.array]], ...] = (
    ("merge", "two splits", 1e-6, _merge),
    ("decode", "16-bit", 4e-3, _attention(64, 1, CAUSAL, emit=EVERYTHING)),
    ("decode", "16-bit, head size 128, window", 4e-3, _attention(128, 2, Mask(window=40, keep=4), emit=SUMS)),
    ("decode", "bfloat16, head size 256, capped", 3e-2, _attention(256, 1, CAUSAL, dtype=mx.bfloat16, softcap=20.0)),
    ("decode", "8-bit", 4e-3, _attention(128, 1, CAUSAL, bits=(8, 8))),
    ("decode", "8-bit keys, 4-bit values", 4e-3, _attention(64, 1, CAUSAL, bits=(8, 4), emit=SUMS)),
    ("decode", "ring, documents", 4e-3, _attention(64, 2, DOCUMENTS, emit=EVERYTHING, ring=True)),
    ("tiles", "causal", 4e-3, _attention(64, 20, CAUSAL, emit=SUMS)),
    ("tiles", "window, head size 128", 4e-3, _attention(128, 40, Mask(window=30, keep=2))),
    ("tiles", "bfloat16, head size 256", 3e-2, _attention(256, 20, CAUSAL, dtype=mx.bfloat16)),
    ("tiles", "documents", 4e-3, _attention(64, 20, DOCUMENTS)),
    ("tiles", "tree", 4e-3, _attention(64, 20, TREE)),
    ("tiles", "shared prefix", 4e-3, _attention(64, 1, CAUSAL, shared=True)),
    ("tiles", "ring, float32", 2e-5, _attention(64, 20, Mask(window=50), dtype=mx.float32, ring=True)),
    ("scan", "statistics and a draw", 2e-5, _vocabulary),
    ("qkv_prepare", "8-bit rows", 2e-5, _token),
)
