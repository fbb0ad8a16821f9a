"""Reports of checked runs: faults and counts as plain values, and the memory in which the checker notes them."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from likely.metal.errors import KernelError

KINDS = (
    "simd_reductions",
    "simd_shuffles",
    "quad_reductions",
    "quad_shuffles",
    "matrix_products",
    "votes",
    "simd_barriers",
)
LINE = 128  # bytes of a line of Apple's GPU caches


@dataclass(frozen=True)
class Fault:
    """One thing a kernel may not do: the `kind`, where (`file:line`, the `code` there), and its first time."""

    kind: str
    place: str
    message: str
    lane: int
    threadgroup: tuple[int, int, int]
    count: int = 1
    code: str = ""

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        code = f"\n    {self.code}" if self.code else ""
        lane = f"lane {self.lane} of threadgroup {self.threadgroup}"
        return f"{self.place}: {self.kind}: {self.message}; {lane}{times}{code}"


@dataclass(frozen=True)
class Traffic:
    """Bytes of one buffer: `read` and `written` as all lanes asked for, `distinct` of either, 128-byte `lines`."""

    size: int
    read: int
    written: int
    distinct: int
    lines: int


@dataclass(frozen=True)
class DispatchReport:
    """One checked dispatch.

    `counts` has KINDS, `barriers`, `exponentials`, and in bytes `threadgroup_read` and `threadgroup_written`.
    Operations between lanes and barriers are counted once for each simdgroup that executes them, exponentials once for
    each lane. `shuffle_steps` is what reductions cost when they are made of shuffles: 5 in a simdgroup, 2 in a quad.
    """

    kernel: str
    faults: tuple[Fault, ...]
    traffic: Mapping[str, Traffic]
    counts: Mapping[str, int]

    @property
    def shuffle_steps(self) -> int:
        shuffles = self.counts["simd_shuffles"] + self.counts["quad_shuffles"]
        return shuffles + 5 * self.counts["simd_reductions"] + 2 * self.counts["quad_reductions"]


class KernelFault(KernelError):
    """A checked run that found faults; `report` has all of them."""

    def __init__(self, report: DispatchReport):
        self.report = report
        super().__init__(f"kernel {report.kernel!r}: " + "\n".join(map(str, report.faults)))


# ---- mirrors of check.cpp ----
MAX_REGIONS = MAX_VARIABLES = MAX_FAULTS = 64
CELL = 44
_u64, _u32, _long, _address = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int64, ctypes.c_void_p


class _Region(ctypes.Structure):
    _fields_ = (
        ("base", _address),
        ("size", _u64),
        ("touched", _address),
        ("cells", _address),
        ("initialised", _u64),
        ("bytes_read", _u64),
        ("bytes_written", _u64),
    )


class _Variable(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("file", ctypes.c_char_p),
        ("base", _address),
        ("size", _u64),
        ("line", _u64),
    )


class _Fault(ctypes.Structure):
    _fields_ = (
        *(("kind", ctypes.c_char_p), ("file", ctypes.c_char_p), ("callers", ctypes.c_char_p), ("line", _u64)),
        *(("count", _u64), ("region", _long), ("offset", _long), ("size", _long), ("value", _long)),
        *(("lane", _u32), ("other_lane", _u32), ("group", _u32 * 3), ("pad", _u32)),
    )


class _State(ctypes.Structure):
    _fields_ = (
        *(("regions", _u64), ("variables", _u64), ("faults", _u64), ("threadgroup_bytes", _u64)),
        *(("collectives", _u64 * len(KINDS)), ("barriers", _u64), ("exponentials", _u64)),
        *(("threadgroup_read", _u64), ("threadgroup_written", _u64)),
        ("region", _Region * MAX_REGIONS),
        ("variable", _Variable * MAX_VARIABLES),
        ("fault", _Fault * MAX_FAULTS),
        ("threadgroup_limit", _u64),
    )


@dataclass
class WatchedBuffer:
    """A buffer of a checked run: its address and size, and whether the kernel may write to it."""

    name: str
    address: int
    size: int
    writable: bool
    initialised: bool = True
    itemsize: int = 1


class Ledger:
    """The memory that one checked dispatch notes in, and the report made of it."""

    def __init__(self, watched: Sequence[WatchedBuffer], threadgroup_limit: int):
        if len(watched) > MAX_REGIONS:
            raise KernelError(f"buffers: expected at most {MAX_REGIONS}, got {len(watched)}")
        self.watched = list(watched)
        self.state = _State(regions=len(watched), threadgroup_limit=threadgroup_limit)
        self._touched = [np.zeros(w.size, np.uint8) for w in watched]
        self._cells = [np.zeros(w.size * CELL if w.writable else 0, np.uint8) for w in watched]
        for region, w, touched, cells in zip(self.state.region, watched, self._touched, self._cells, strict=False):
            region.base, region.size, region.touched = w.address, w.size, touched.ctypes.data
            region.cells, region.initialised = (cells.ctypes.data if w.writable else None), w.initialised

    def report(self, kernel: str) -> DispatchReport:
        """The notes as a report, once the dispatch is over."""
        state = self.state
        faults = [self._fault(state.fault[i]) for i in range(state.faults)]
        if not any(fault.kind in _ENDING for fault in faults):
            faults += self._unwritten()
        counts = dict(zip(KINDS, state.collectives, strict=True))
        counts |= {"barriers": state.barriers, "exponentials": state.exponentials}
        counts |= {"threadgroup_read": state.threadgroup_read, "threadgroup_written": state.threadgroup_written}
        traffic = {
            w.name: _traffic(touched, state.region[i])
            for i, (w, touched) in enumerate(zip(self.watched, self._touched, strict=True))
        }
        return DispatchReport(kernel, tuple(faults), traffic, counts)

    def _unwritten(self) -> list[Fault]:
        faults = []
        for w, touched in zip(self.watched, self._touched, strict=True):
            if not w.writable or w.initialised:
                continue
            missing = np.flatnonzero(touched & 2 == 0)
            if missing.size:
                first, count = int(missing[0]) // w.itemsize, missing.size // w.itemsize
                total = w.size // w.itemsize
                message = f"{count} of {total} elements of {w.name} are never written, the first is {first}"
                faults.append(Fault("unwritten-output", w.name, message, 0, (0, 0, 0)))
        return faults

    def _fault(self, fault: Any) -> Fault:
        kind = fault.kind.decode()
        if fault.region >= 0:
            name = self.watched[fault.region].name if fault.region < len(self.watched) else "?"
            size = self.watched[fault.region].size if fault.region < len(self.watched) else 0
        else:
            variable = self.state.variable[-1 - fault.region]
            name, size = f"threadgroup {variable.name.decode()}", variable.size
        words = {"name": name, "total": size, "offset": fault.offset, "size": fault.size, "value": fault.value}
        words |= {
            "other": fault.other_lane - 1 if fault.other_lane else "others",
            "mask": f"{fault.value & 0xFFFFFFFF:#010x}",
        }
        message = _MESSAGES[kind].format(**words)
        if fault.callers:
            message += f", called from {fault.callers.decode()}"
        return Fault(
            kind,
            f"{fault.file.decode()}:{fault.line}",
            message,
            max(fault.lane - 1, 0),
            tuple(fault.group),
            fault.count,
        )


_ACCESS = "{size} bytes at byte {offset} of {name}"
_BETWEEN = " for that memory between"
_MESSAGES = {
    "out-of-bounds-read": _ACCESS + ", which has {total}",
    "out-of-bounds-write": _ACCESS + ", which has {total}",
    "write-to-input": _ACCESS + ", which is an input",
    "uninitialised-read": _ACCESS + ", which nobody has written",
    "race-write-write": "write of " + _ACCESS + ", which lane {other} has written, with no barrier" + _BETWEEN,
    "race-write-read": "read of " + _ACCESS + ", which lane {other} has written, with no barrier" + _BETWEEN,
    "race-read-write": "write of " + _ACCESS + ", which other lanes have read, with no barrier" + _BETWEEN,
    "threadgroup-memory": "{size} bytes of threadgroup memory with {name}, more than 32768",
    "divergent-simd": "only the lanes {mask} of the simdgroup take part",
    "divergent-barrier": "not all lanes of the threadgroup come to this barrier ({value} come to any)",
    "inactive-lane": "a value from lane {value}, which takes no part",
    "no-such-lane": "a value from lane {value}, which there is not",
    "uninitialised-local": "{size} bytes of a variable of the lane, which has no value yet",
    "array-bounds": "index {value} is past the end of the array",
    "divide-by-zero": "whole number divided by zero",
    "misaligned": "address of a wider type (last bits {value})",
}
# After these the dispatch did not go on.
_ENDING = {
    *("out-of-bounds-read", "out-of-bounds-write", "write-to-input", "threadgroup-memory", "array-bounds"),
    *("divide-by-zero", "misaligned"),
}


def _traffic(touched: np.ndarray[Any, Any], region: Any) -> Traffic:
    padded = np.zeros(-(-touched.size // LINE) * LINE, np.uint8)
    padded[: touched.size] = touched
    whole = padded.reshape(-1, LINE).any(axis=1)
    distinct = int(np.count_nonzero(touched))
    return Traffic(touched.size, region.bytes_read, region.bytes_written, distinct, int(np.count_nonzero(whole)))
