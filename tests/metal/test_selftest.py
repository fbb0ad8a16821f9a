"""The self-test: it passes what is right in every variant, and nothing that is wrong in one line passes it.

What is wrong is planted: a compiler that makes another thing of a line of a kernel.
"""

from collections.abc import Callable

import pytest

from likely.metal import dispatch, kernel, mx, qkv_prepare, vocab
from likely.metal.attention import attention
from likely.metal.dispatch import Shape
from likely.metal.selftest import Case, Verdict, cases, first_line
from tests.metal.build import cache, metal, normal
from tests.support.everyday import everyday

SHAPE = Shape(64, 4, 2, mx.float32)
DECODED, REPORTED = "decode float32 D=64 g=2: one query", "decode float32 D=64 g=2: everything reported, sinks"
TILED, SUMMED = "tiles float32 D=64 g=2: causal", "tiles float32 D=64 g=2: window, sums reported, sinks"
BLOCKS, TILED_BLOCKS = "decode float32 D=64 g=2: blocks", "tiles float32 D=64 g=2: blocks"
LOOP, BARRIER = "first += (EACH - 1) * 256) {\n", "  threadgroup_barrier(mem_flags::mem_threadgroup);\n"
WINDOWED, TREE = "decode float32 D=64 g=2: three queries, window", "tiles float32 D=64 g=2: tree, split"
DRAWN, ROW = "scan float32: statistics and a draw of 9,000", "row float32: an observed draw of 9,000"
MANY = "row float32: an observed draw of 262,208"
NORMED, TURNED = "qkv_prepare float32 D=64: normed", "qkv_prepare float32 D=64: normed, neighbours turn"

# kernel, its line, what the compiler makes of it, the comparison that finds it
FAULTS = [
    ("merge", "(x + rest) / total", "(x + rest) / (total + 0.01f)", "merge float32 D=64: two splits"),
    ("merge", "log_sum(peak, total, unit)", "log_sum(peak, total, unit) + 0.001f", REPORTED),
    ("merge", "entropy_of(total, mean)", "entropy_of(total, mean) + 0.001f", REPORTED),
    ("merge", "* unit) / total : 0.0f", "* unit) / (total * 1.01f) : 0.0f", REPORTED),
    ("merge", "total += sunk", "total += 0.99f * sunk", REPORTED),
    ("decode", "at[u] <= high[r]", "at[u] < high[r]", DECODED),
    ("decode", "|| at[u] < keep", "|| at[u] < keep - 1", WINDOWED),
    ("decode", "s[u][r] * (unit * LN2)", "s[u][r] * (unit * 0.69f)", REPORTED),
    ("decode", "metal::precise::tanh", "metal::precise::sin", "decode float32 D=64 g=2: capped"),
    ("decode", "(1u << BITS) - 1u", "(1u << (BITS - 1)) - 1u", "decode float32 D=64 g=2: 4-bit"),
    ("tiles", "at <= high", "at < high", TILED),
    ("tiles", "at >= low", "at > low", SUMMED),
    ("tiles", "log_sum(peak, total, unit)", "log_sum(peak, total, unit) + 0.001f", SUMMED),
    ("tiles", "entropy_of(total, mean)", "entropy_of(total, mean) + 0.001f", SUMMED),
    ("decode", "(block - 1 - from) / block", "(block - from) / block", BLOCKS),
    ("tiles", "(block - 1 - from) / block", "-from / block", TILED_BLOCKS),
    ("scan", "chunk * EACH + i", "chunk * EACH + max(i, 1)", DRAWN),
    ("scan", "as_type<uint>(x + 0.0f)", "as_type<uint>(x)", DRAWN),
    ("draw", "as_type<uint>(x + 0.0f)", "as_type<uint>(x)", DRAWN),
    ("draw", "31 - int(clz", "30 - int(clz", DRAWN),
    ("draw", "lse[row] = norm", "lse[row] = norm + 0.001f", DRAWN),
    ("draw", "log(sum.x) - sum.y", "log(sum.x) - 0.99f * sum.y", DRAWN),
    ("draw", "top_p * (open", "0.5f * top_p * (open", DRAWN),
    ("draw", "uniform[row * 2] * all", "uniform[row * 2 + 1] * all", DRAWN),
    ("draw", "* sharp - metal::precise::log(all)", "- metal::precise::log(all)", DRAWN),
    ("scan", "off * off", "off", ROW),
    ("draw", LOOP + BARRIER, LOOP, MANY),  # which only more chunks need than are joined at once
    ("histogram", "uint(held[i] > chosen)", "uint(held[i] >= chosen)", ROW),
    ("histogram", "max(apart[row * others], 0)", "apart[row * others]", ROW),
    ("histogram", "size_t(max(id, 0))", "size_t(id)", ROW),
    ("draw", "rank += int(before)", "rank += int(before && i != 3)", ROW),
    ("histogram", "held[i] >= borders[at + step]", "held[i] >= borders[at + step - 1]", ROW),
    ("histogram", "mass * UNIT", "mass * (UNIT / 2.0f)", ROW),
    ("histogram", "1u << uint(within % 32)", "1u << uint(within % 31)", ROW),
    ("qkv_prepare", "a * s + z * c", "a * s - z * c", "qkv_prepare float32 D=64: plain"),
    ("qkv_prepare", "float(D) + epsilon", "float(D) + 0.1f", NORMED),
    ("qkv_prepare", "TRADITIONAL ? 2 * i :", "TRADITIONAL ? i :", TURNED),
    ("qkv_prepare", "0.0f, most) + 0.5f", "0.0f, most) + 2.5f", "qkv_prepare float32 D=64: 8-bit"),
]


@pytest.mark.parametrize(
    ("name", "old", "new", "comparison"), everyday(FAULTS, 3), ids=[f"{f[0]}: {f[2]}" for f in FAULTS]
)
def test_what_is_wrong_in_one_line_is_found(name: str, old: str, new: str, comparison: str) -> None:
    (case,) = (case for case in cases(SHAPE) if case.name == comparison)
    with metal():
        right = case.verdict()
    with metal((name, old, new)):
        wrong = case.verdict()
    assert right.passed and not wrong.passed and not wrong.failure


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        Shape(64, 4, 2), Shape(64, 9, 3, mx.bfloat16), Shape(80, 4, 4, mx.bfloat16), Shape(96, 4, 2, mx.bfloat16),
        Shape(128, 4, 1, mx.bfloat16), SHAPE, Shape(128, 2, 1, mx.float16), Shape(256, 4, 2, mx.bfloat16),
    ],
    ids=lambda shape: kernel.variant("", shape.dtype, shape.head_size).strip(),
)  # fmt: skip
def test_every_variant_passes(shape: Shape) -> None:
    with metal():
        found = {case.name: case.verdict() for case in cases(shape)}
    assert {name: str(verdict) for name, verdict in found.items() if not verdict.passed} == {}


@pytest.mark.parametrize(
    ("d", "kernels", "packed"),
    [(64, {"decode", "tiles", "merge"}, True), (80, {"decode", "tiles", "merge"}, False), (48, set(), False),
     (160, set(), False)],
)  # fmt: skip
def test_a_shape_is_compared_in_all_that_it_may_launch(d: int, kernels: set[str], packed: bool) -> None:
    found = [*cases(Shape(d, 4, 2))]
    assert {case.kernel for case in found} == kernels | {"qkv_prepare", "scan", "row"}
    assert any("8-bit" in case.name for case in found if case.kernel == "decode") == packed
    assert len({case.name for case in found}) == len(found)
    for case in found:
        size = 0 if case.kernel in ("scan", "row") else d
        assert case.variant == kernel.variant(case.kernel, mx.float16, size) and case.name.startswith(case.variant)


@pytest.mark.parametrize("dtype", everyday([mx.float32, mx.bfloat16], 2), ids=str)
def test_what_a_model_launches_was_compared(dtype: mx.Dtype) -> None:
    """A prompt, a token, a batch that shares it, and a draw: no variant that the self-test has not run."""
    with metal() as compared:
        for case in cases(Shape(64, 4, 2, dtype)):
            case.verdict()
    with metal() as used:
        keys, own = normal(1, 1, 2, 128, 64, dtype=dtype), normal(2, 8, 2, 8, 64, dtype=dtype)
        packed = qkv_prepare.quantize(keys, qkv_prepare.Format(8, 64))
        for t, kv in (
            (40, cache(keys, keys, 100)),
            (1, cache(keys, keys, 100)),
            (1, cache(own, own, 5, prefix=cache(keys, keys, 100))),
            (1, cache(keys, keys, 100, prefix=cache(packed, packed, 100))),
        ):
            with dispatch.forced("ours"):
                attention(normal(3, kv.keys.shape[0], 4, t, 64, dtype=dtype), kv, scale=0.125)
        vocab.statistics(normal(4, 1, 9000, dtype=dtype), vocab.DrawPlan(top_p=0.9), mx.array([[0.5, 0.5]]))
        turns = qkv_prepare.Rotary(mx.ones((32,)))
        rows = normal(5, 1, 1, 8, 64, dtype=dtype)
        qkv_prepare.prepare(qkv_prepare.ProjectedTokens(rows, 2, mx.array([3], dtype=mx.int32), turns))
    assert len(used.variants) >= 8 and used.variants <= compared.variants


def test_a_verdict_passes_at_its_bound_and_not_above_it() -> None:
    def verdict(act: Callable[[], mx.array]) -> Verdict:
        return Case("decode", "a comparison", "decode float32", 0.25, act).verdict()

    for error, passed in ((0.0, True), (0.25, True), (0.2500001, False), (float("nan"), False), (float("inf"), False)):
        assert verdict(lambda error=error: mx.array(error)).passed == passed  # type: ignore[misc]
    assert str(verdict(lambda: mx.array(0.125))) == "error 1.25e-01, at most 2.50e-01"

    def fails() -> mx.array:
        raise RuntimeError("\n the driver is gone\n at line 3")

    found = verdict(fails)
    assert not found.passed and str(found) == "the driver is gone" and first_line(KeyError()) == "KeyError"
