"""The checker is checked: each kernel with one planted fault is caught where it stands; without it, it runs clean."""

import re
from dataclasses import dataclass

import pytest

from likely.metal import mx
from likely.metal.errors import KernelError
from likely.metal.simulator import KernelFault, SimKernel
from tests.metal.build import launched

LANES = 64
GROUPS = 4
START = """
uint lane = thread_position_in_threadgroup.x, i = thread_position_in_grid.x;
uint group = threadgroup_position_in_grid.x, sl = thread_index_in_simdgroup;
"""


@dataclass(frozen=True)
class Case:
    """A kernel body in which `@` stands for `bad` or `good`; the fault is reported on the line marked `// fault`."""

    kind: str
    bad: str
    good: str
    body: str
    header: str = ""


BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
EXCHANGE = """
threadgroup float s[64];
s[lane] = x[i];
@
out[i] = s[63 - lane];  // fault
"""
# fmt: off
CASES = {
    "no barrier between write and read": Case("race-write-read", "", BARRIER, EXCHANGE),
    "a simdgroup's barrier for a threadgroup's exchange":
        Case("race-write-read", "simdgroup_barrier(mem_flags::mem_threadgroup);", BARRIER, EXCHANGE),
    "a barrier for device memory only":
        Case("race-write-read", "threadgroup_barrier(mem_flags::mem_device);", BARRIER, EXCHANGE),
    "a barrier for no memory": Case("race-write-read", "threadgroup_barrier(mem_flags::mem_none);", BARRIER, EXCHANGE),
    "a barrier for threadgroup memory only, exchange through device memory":
        Case("race-write-read", BARRIER, "threadgroup_barrier(mem_flags::mem_device);", """
        out[i] = x[i];
        @
        float v = out[group * 64 + 63 - lane];  // fault
        threadgroup_barrier(mem_flags::mem_device);
        out[i] = v;"""),
    "no second barrier in a loop": Case("race-read-write", "", BARRIER, """
        threadgroup float s[64];
        float v = x[i];
        for (int r = 0; r < 3; r++) {
          s[lane] = v;  // fault
          threadgroup_barrier(mem_flags::mem_threadgroup);
          v += s[63 - lane];
          @
        }
        out[i] = v;"""),
    "no barrier within a simdgroup": Case("race-write-read", "", "simdgroup_barrier(mem_flags::mem_threadgroup);", """
        threadgroup float s[64];
        s[lane] = x[i];
        @
        out[i] = s[lane ^ 1];  // fault
        """),
    "a reduction taken for a barrier": Case("race-write-read", "", "simdgroup_barrier(mem_flags::mem_threadgroup);", """
        threadgroup float s[64];
        s[lane] = simd_sum(x[i]);
        float t = simd_max(x[i]);
        @
        out[i] = s[lane ^ 1] + t;  // fault
        """),
    "two lanes write one word of threadgroup memory": Case("race-write-write", "if (lane < 2)", "if (lane == 0)", """
        threadgroup float s;
        @
        s = x[i];  // fault
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = s;"""),
    "two lanes write one word of an output": Case("race-write-write", "& ~1u", "", """
        out[i @] = x[i];  // fault
        if (i % 2) out[i] = 0;"""),
    "two threadgroups write one word": Case("race-write-write", "5", "i", """
        out[i] = x[i];
        threadgroup_barrier(mem_flags::mem_device);
        if (lane == 0) out[@] = 1;  // fault
        """),
    "one threadgroup reads what another writes": Case("race-write-read", "0", "i", """
        out[i] = x[i];
        float v = group == 0 ? 0.0 : out[@];  // fault
        if (v > 1e30) out[i] = v;"""),
    "an atomic and a plain write":
        Case("race-write-write", "*(threadgroup uint*)&n += 1u",
             "atomic_fetch_add_explicit(&n, 1u, memory_order_relaxed)", """
        threadgroup atomic_uint n;
        if (lane == 0) atomic_store_explicit(&n, 0u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        @;  // fault
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = float(atomic_load_explicit(&n, memory_order_relaxed));"""),
    "read past the end": Case("out-of-bounds-read", "+ 1", "", "out[i] = x[i @];  // fault"),
    "write past the end": Case("out-of-bounds-write", "+ 256 - lane", "", "out[i] = 0; out[i @] = x[i];  // fault"),
    "read before the start": Case("out-of-bounds-read", "- 1", "", "out[i] = x[int(i) @];  // fault"),
    "read far away": Case("out-of-bounds-read", "+ 100000", "", "out[i] = x[i @];  // fault"),
    "stride of the wrong type": Case("out-of-bounds-read", "", "/ 2",
        "out[i] = ((const device float2*)x)[i @].x;  // fault"),
    "pointer past a threadgroup array": Case("out-of-bounds-write", "1", "0", """
        threadgroup float s[64];
        threadgroup float* p = s + lane;
        p[@] = x[i];  // fault
        out[i] = x[i];"""),
    "index past a threadgroup array": Case("array-bounds", "+ 1", "", """
        threadgroup float s[64];
        s[lane @] = x[i];  // fault
        out[i] = x[i];"""),
    "index past an array of the lane": Case("array-bounds", "5", "4", """
        float t[4] = {1, 2, 3, 4};
        out[i] = t[lane % @];  // fault
        """),
    "threadgroup memory never written":
        Case("uninitialised-read", "if (lane < 63) s[lane] = x[i];", "s[lane] = x[i];", """
        threadgroup float s[64];
        @
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = s[lane];  // fault
        """),
    "threadgroup memory of an earlier threadgroup": Case("uninitialised-read", "if (group == 0)", "", """
        threadgroup float s[64];
        @ s[lane] = x[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = s[lane];  // fault
        """),
    "an output read before it is written": Case("uninitialised-read", "", "out[i] = 0;", "@ out[i] += x[i];  // fault"),
    "barrier in a branch that not all lanes take": Case("divergent-barrier", "lane < 32", "group < 32", """
        threadgroup float s[64];
        s[lane] = x[i];
        if (@) threadgroup_barrier(mem_flags::mem_threadgroup);  // fault
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = s[63 - lane];"""),
    "different barriers in the two branches": Case("divergent-barrier", "lane < 32", "group < 2", """
        if (@) threadgroup_barrier(mem_flags::mem_threadgroup);  // fault
        else threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = x[i];"""),
    "return before a barrier": Case("divergent-barrier", "true", "false", """
        out[i] = x[i];
        if (lane == 63 && @) return;
        threadgroup_barrier(mem_flags::mem_threadgroup);  // fault
        """),
    "reduction in a branch that not all lanes take": Case("divergent-simd", "sl < 16", "lane < 32", """
        float v = x[i];
        if (@) v = simd_sum(v);  // fault
        out[i] = v + simd_max(v);"""),
    "reductions in the two branches": Case("divergent-simd", "sl % 2", "lane < 32", """
        float v = x[i];
        if (@) v = simd_sum(v);  // fault
        else v = simd_max(v);
        out[i] = v;"""),
    "shuffle in a loop that lanes leave at different times": Case("divergent-simd", "1 + sl / 16", "2", """
        float v = x[i];
        for (uint r = 0; r < @; r++) v += simd_shuffle_xor(v, 1);  // fault
        out[i] = v + simd_sum(v);"""),
    "shuffle from a lane that has returned": Case("inactive-lane", "5", "50", """
        out[i] = x[i];
        if (sl == @) return;
        out[i] = simd_shuffle(x[i], ushort(5));  // fault
        """),
    "part of a quad in a quad's reduction": Case("divergent-simd", "6", "8", """
        float v = x[i];
        if (sl < @) v = quad_sum(v);  // fault
        out[i] = v + quad_max(v);"""),
    "matrix product by half a simdgroup": Case("divergent-simd", "sl < 16", "lane < 32", """
        simdgroup_float8x8 a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(0);
        simdgroup_load(a, x, 8);
        simdgroup_load(b, x + 64, 8);
        if (@) simdgroup_multiply_accumulate(c, a, b, c);  // fault
        out[i] = c.thread_elements()[0];"""),
    "more than 32 KB of threadgroup memory": Case("threadgroup-memory", "4160", "4096", """
        threadgroup float s[4096];
        threadgroup float t[@];  // fault
        s[lane] = t[lane] = x[i];
        out[i] = s[lane] + t[lane];"""),
    "an element of the output never written": Case("unwritten-output", "if (i != 77)", "", "@ out[i] = x[i];"),
    "an input written to": Case("write-to-input", "x", "out", """
        device float* p = (device float*)(@);
        p[i] = x[i] + 1;  // fault
        out[i] = x[i];"""),
    "a vector at an address that is not its own": Case("misaligned", "+ 1", "+ 4", """
        const device float4* p = (const device float4*)(x @);
        out[i] = p[lane / 4][0];  // fault
        """),
    "a vector's component at an address that is not the vector's": Case("misaligned", "+ 1", "+ 4", """
        const device float4* p = (const device float4*)(x @);
        out[i] = p[lane / 4].y;  // fault
        """),
    "a vector of halves in threadgroup memory at an address that is not its own": Case("misaligned", "1", "4", """
        threadgroup half s[8 * 64];
        for (uint j = 0; j < 8; j++) s[8 * lane + j] = half(x[i]);
        threadgroup half4* p = (threadgroup half4*)(s + 8 * lane + @);
        out[i] = float(p->z);  // fault
        """),
    "shuffle from a lane that there is not": Case("no-such-lane", "sl + 8", "(sl + 8) % 32",
        "out[i] = simd_shuffle(x[i], ushort(@));  // fault"),
    "shuffle by more bits than a lane's number has": Case("no-such-lane", "32", "16",
        "out[i] = simd_shuffle_xor(x[i], ushort(@));  // fault"),
    "shuffle out of a quad": Case("no-such-lane", "4", "3", "out[i] = quad_shuffle(x[i], ushort(@));  // fault"),
    "an array of the lane that has no value yet": Case("uninitialised-local", "3", "4", """
        float t[4];
        for (uint j = 0; j < @; j++) t[(i + j) % 4] = x[i];
        out[i] = t[(i + 3) % 4];  // fault
        """),
    "whole numbers of the lane that have no value yet": Case("uninitialised-local", "7", "8", """
        int t[8];
        for (uint j = 0; j < @; j++) t[(i + j) % 8] = -1;
        out[i] = float(t[(i + 7) % 8]);  // fault
        """),
    "an atomic read plainly with no barrier": Case("race-write-read", "", BARRIER, """
        threadgroup atomic_uint n;
        if (lane == 0) atomic_store_explicit(&n, 0u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        atomic_fetch_add_explicit(&n, 1u, memory_order_relaxed);
        @
        uint seen = *(threadgroup uint*)&n;  // fault
        out[i] = float(seen);"""),
    "an atomic change of what others read plainly": Case("race-read-write", "", BARRIER, """
        threadgroup atomic_uint n;
        if (lane == 0) atomic_store_explicit(&n, 0u, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        uint seen = *(threadgroup uint*)&n;
        @
        atomic_fetch_add_explicit(&n, 1u, memory_order_relaxed);  // fault
        out[i] = float(seen);"""),
    "whole number divided by zero": Case("divide-by-zero", "- 1", "+ 1", """
        int n = int(lane) @;
        out[i] = float(100 / n);  // fault
        """),
    "indexing by a value that is not checked": Case("out-of-bounds-read", "* 2", "", """
        uint at = uint(x[i]) @;
        out[i] = x[at];  // fault
        """),
}
# fmt: on


def run(case: Case, text: str) -> SimKernel:
    body = START + case.body.replace("@", text)
    kernel = SimKernel("planted", ["x"], ["out"], body, case.header, checked=True)
    launched(kernel, mx.arange(LANES * GROUPS, dtype=mx.float32), group=LANES)
    return kernel


SAID = {
    "no barrier between write and read": r"read of 4 bytes at byte \d+ of threadgroup s, which lane \d+ has written",
    "two lanes write one word of an output": r"write of 4 bytes at byte \d+ of out, which lane \d+ has written",
    "read past the end": "4 bytes at byte 1024 of x, which has 1024; lane 63 of threadgroup [(]3, 0, 0",
    "index past a threadgroup array": "index 64 is past the end of the array",
    "part of a quad in a quad's reduction": "only the lanes 0x0000003f of the simdgroup take part",
    "shuffle from a lane that has returned": "a value from lane 5, which takes no part",
    "more than 32 KB of threadgroup memory": "33024 bytes of threadgroup memory with threadgroup t, more than 32768",
    "an element of the output never written": "1 of 256 elements of out are never written, the first is 77",
    "an input written to": "of x, which is an input",
    "a vector at an address that is not its own": "address of a wider type [(]last bits 4",
}
ENDS = ("out-of-bounds-read", "array-bounds", "threadgroup-memory", "write-to-input", "misaligned")


@pytest.mark.parametrize("name", CASES)
def test_a_planted_fault_is_caught_and_told_in_a_line(name: str) -> None:
    case = CASES[name]
    with pytest.raises(KernelFault, match=SAID.get(name)) as caught:
        run(case, case.bad)
    found = caught.value.report.faults
    faults = [fault for fault in found if fault.kind == case.kind]
    assert faults, caught.value
    if "// fault" in case.body:
        assert any("// fault" in fault.code and fault.place.startswith("planted.metal:") for fault in faults)
    if case.kind in ENDS:  # where the dispatch does not go on, nobody says what it did not write
        assert not any(fault.kind == "unwritten-output" for fault in found)


@pytest.mark.parametrize("name", CASES)
def test_correct_kernel_is_clean(name: str) -> None:
    run(CASES[name], CASES[name].good)


@pytest.mark.parametrize("way", ["+", "-"])
@pytest.mark.parametrize("power", [9, 13, 17, 21, 23])
def test_however_far_away_the_read_is(power: int, way: str) -> None:
    with pytest.raises(KernelFault) as caught:
        run(CASES["read far away"], f"{way} {1 << power}")
    assert {fault.kind for fault in caught.value.report.faults} == {"out-of-bounds-read"}


def test_a_fault_in_a_function_names_its_callers() -> None:
    header = """#line 7 "metal/kernels/shared.h"
      inline float second(const device float* p) { return p[256]; }
      inline float first(const device float* p) { return second(p); }
    """
    with pytest.raises(KernelFault) as caught:
        run(Case("", "", "", "@", header), "\nout[i] = first(x + lane);  // here")
    (fault, *_) = caught.value.report.faults
    assert (fault.kind, fault.place) == ("out-of-bounds-read", "metal/kernels/shared.h:7")
    assert "inline float second" in fault.code
    assert re.search(r"called from metal/kernels/shared\.h:8 < metal/kernels/shared\.h:\d+", fault.message)


@pytest.mark.parametrize("checked", [False, True])
def test_arrays_of_a_lane_that_are_larger_than_its_stack(checked: bool) -> None:
    body = "uint i = 0; float t[40000]; for (uint j = 0; j < 40000; j++) t[j * 7 % 40000] = x[i] + j; out[i] = t[i];"
    kernel = SimKernel("large", ["x"], ["out"], body, checked=checked)
    with pytest.raises(KernelError, match=r"stack frame size \(\d+\) exceeds limit \(65536\)"):
        launched(kernel, mx.ones(8), size=1)


def test_more_than_1024_threads() -> None:
    kernel = SimKernel("wide", ["x"], ["out"], "out[thread_position_in_grid.x] = x[0];", checked=True)
    with pytest.raises(KernelError, match="at most 1024 threads"):
        launched(kernel, mx.ones(8), size=2048, group=1025)


def test_more_than_32_kilobytes_in_the_plain_build_too() -> None:
    kernel = SimKernel("big", ["x"], ["out"], "threadgroup float s[9000]; s[0] = x[0]; out[0] = s[0];")
    with pytest.raises(KernelError, match="at most 32768 bytes"):
        launched(kernel, mx.ones(8), size=1)
