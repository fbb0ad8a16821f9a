"""Reports of checked runs: what the checker noted, in words and numbers."""

import ctypes
from typing import Any

import numpy as np
import pytest

from metal.errors import KernelError
from metal.simulator.report import DispatchReport, Fault, KernelFault, Ledger, Traffic, WatchedBuffer

KINDS = ("simd_reductions", "simd_shuffles", "quad_reductions", "quad_shuffles", "matrix_products", "votes")


def ledger(*sizes: int, itemsize: int = 4, writable: bool = True, initialised: bool = False) -> Ledger:
    watched = [
        WatchedBuffer(f"b{i}", 4096 * (i + 1), size, writable, initialised, itemsize) for i, size in enumerate(sizes)
    ]
    return Ledger(watched, 32768)


def touch(notes: Ledger, index: int, *values: int) -> None:
    """What the checker writes for each byte: 1 read, 2 written."""
    at = notes.state.region[index].touched
    ctypes.memmove(at, bytes(values), len(values))


def note(notes: Ledger, **fields: Any) -> None:
    fault = notes.state.fault[notes.state.faults]
    fault.file, fault.line, fault.kind = b"a.metal", 7, b"out-of-bounds-read"
    for name, value in fields.items():
        setattr(fault, name, value)
    notes.state.faults += 1


def test_the_checker_is_told_of_every_buffer() -> None:
    notes = Ledger([WatchedBuffer("a", 64, 10, True), WatchedBuffer("b", 128, 6, False, False, 2)], 1234)
    assert (notes.state.regions, notes.state.threadgroup_limit, notes.state.faults) == (2, 1234, 0)
    one, two = notes.state.region[:2]
    assert [(r.base, r.size, r.initialised) for r in (one, two)] == [(64, 10, 1), (128, 6, 0)]
    assert one.cells and not two.cells and one.touched and two.touched  # a cell for each byte that can be written
    assert (WatchedBuffer("a", 64, 10, True).initialised, WatchedBuffer("a", 64, 10, True).itemsize) == (True, 1)


def test_there_is_room_for_64_buffers() -> None:
    assert ledger(*[1] * 64).state.regions == 64
    with pytest.raises(KernelError, match="buffers: expected at most 64, got 65"):
        ledger(*[1] * 65)


def test_bytes_are_counted_as_asked_for_once_and_by_line() -> None:
    notes = ledger(300, 128, 0, initialised=True)
    touch(notes, 0, 1, 2, 3, 0)
    ctypes.memset(notes.state.region[0].touched + 255, 1, 3)  # across the end of a line
    ctypes.memset(notes.state.region[1].touched, 2, 128)
    notes.state.region[0].bytes_read, notes.state.region[0].bytes_written = 50, 60
    report = notes.report("k")
    assert report.traffic == {
        "b0": Traffic(300, 50, 60, 6, 3),
        "b1": Traffic(128, 0, 0, 128, 1),
        "b2": Traffic(0, 0, 0, 0, 0),
    }
    assert report.kernel == "k" and report.faults == ()


def test_operations_are_counted_by_their_kind() -> None:
    notes = ledger(4, initialised=True)
    state = notes.state
    for i in range(7):
        state.collectives[i] = 10**i
    state.barriers, state.exponentials, state.threadgroup_read, state.threadgroup_written = 3, 4, 5, 6
    state.threadgroup_bytes = 99
    report = notes.report("k")
    assert report.counts == {name: 10**i for i, name in enumerate((*KINDS, "simd_barriers"))} | {
        "barriers": 3,
        "exponentials": 4,
        "threadgroup_read": 5,
        "threadgroup_written": 6,
    }
    assert report.threadgroup_memory == 99
    assert report.shuffle_steps == 10 + 1000 + 5 * 1 + 2 * 100


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([2] * 8, None),
        ([3] * 8, None),
        ([2] * 4 + [1] * 4, "1 of 2 elements of b0 are never written, the first is 1"),
        ([0] * 8, "2 of 2 elements of b0 are never written, the first is 0"),
        ([1] * 8, "2 of 2 elements of b0 are never written, the first is 0"),
    ],
)
def test_an_output_that_is_not_written_whole_is_a_fault(values: list[int], line: str | None) -> None:
    notes = ledger(8)
    touch(notes, 0, *values)
    found = notes.report("k").faults
    assert [fault.message for fault in found] == ([line] if line else [])
    assert not found or found[0] == Fault("unwritten-output", "b0", line or "", 0, (0, 0, 0), 1, "")
    for other in (ledger(8, writable=False), ledger(8, initialised=True)):
        assert other.report("k").faults == ()


ENDING: tuple[str, ...] = (
    "out-of-bounds-read",
    "out-of-bounds-write",
    "write-to-input",
    "threadgroup-memory",
    "array-bounds",
)
ENDING += ("divide-by-zero", "misaligned")
GOES_ON = ("uninitialised-read", "race-write-write", "divergent-simd", "uninitialised-local")


@pytest.mark.parametrize(("kind", "ends"), [*((kind, True) for kind in ENDING), *((kind, False) for kind in GOES_ON)])
def test_nothing_is_said_to_be_unwritten_where_the_dispatch_did_not_go_on(kind: str, ends: bool) -> None:
    notes = ledger(8)
    note(notes, kind=kind.encode())
    assert [fault.kind for fault in notes.report("k").faults] == [kind] + ["unwritten-output"] * (not ends)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"offset": 12, "size": 4}, "4 bytes at byte 12 of b0, which has 8"),
        ({"region": 1, "offset": 3, "size": 1}, "1 bytes at byte 3 of b1, which has 20"),
        ({"region": 2, "offset": 3, "size": 1}, "1 bytes at byte 3 of ?, which has 0"),
        ({"region": -1, "offset": 64, "size": 2}, "2 bytes at byte 64 of threadgroup s, which has 40"),
        ({"region": -2, "offset": 64, "size": 2}, "2 bytes at byte 64 of threadgroup t, which has 50"),
        ({"kind": b"write-to-input", "offset": 1, "size": 2}, "2 bytes at byte 1 of b0, which is an input"),
        (
            {"kind": b"race-write-read", "size": 4, "other_lane": 6},
            "read of 4 bytes at byte 0 of b0, which lane 5 has written, with no barrier for that memory between",
        ),
        (
            {"kind": b"race-write-write", "size": 4},
            "write of 4 bytes at byte 0 of b0, which lane others has written, with no barrier for that memory between",
        ),
        ({"kind": b"divergent-simd", "value": 0x1F0F}, "only the lanes 0x00001f0f of the simdgroup take part"),
        ({"kind": b"divergent-simd", "value": -1}, "only the lanes 0xffffffff of the simdgroup take part"),
        ({"kind": b"array-bounds", "value": 9}, "index 9 is past the end of the array"),
        ({"kind": b"misaligned", "value": 3, "callers": b"b.h:3 < c.h:4"},
         "address of a wider type (last bits 3), called from b.h:3 < c.h:4"),
        ({"kind": b"threadgroup-memory", "region": -1, "size": 40000},
         "40000 bytes of threadgroup memory with threadgroup s, more than 32768"),
    ],
)  # fmt: skip
def test_a_fault_is_told_in_a_line(fields: dict[str, Any], line: str) -> None:
    notes = ledger(8, 20, initialised=True)
    for variable, name, size in zip(notes.state.variable[:2], (b"s", b"t"), (40, 50), strict=True):
        variable.name, variable.size = name, size
    note(notes, count=3, lane=5, group=(1, 2, 3), **fields)
    (fault,) = notes.report("k").faults
    assert fault.message == line and (fault.place, fault.lane, fault.threadgroup) == ("a.metal:7", 4, (1, 2, 3))
    assert fault.count == 3 and fault.code == ""


def test_a_fault_of_no_lane_is_the_first_lane_s() -> None:
    notes = ledger(8, initialised=True)
    note(notes, lane=0)
    assert notes.report("k").faults[0].lane == 0


def test_a_fault_says_where_how_often_and_in_which_code() -> None:
    once = Fault("array-bounds", "a.metal:3", "index 4", 2, (0, 1, 0))
    assert str(once) == "a.metal:3: array-bounds: index 4; lane 2 of threadgroup (0, 1, 0)"
    often = Fault("array-bounds", "a.metal:3", "index 4", 2, (0, 1, 0), 2, "x[4]")
    assert str(often) == "a.metal:3: array-bounds: index 4; lane 2 of threadgroup (0, 1, 0) (2 times)\n    x[4]"
    report = DispatchReport("k", (once, often), {}, {}, 0)
    error = KernelFault(report)
    assert error.report is report and str(error) == f"kernel 'k': {once}\n{often}"
    assert np.all([once.count, often.count] == np.array([1, 2]))
