"""One dispatch of a compiled kernel: buffers in, the lanes' stacks and the threadgroup's memory at hand."""

import ctypes
import mmap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from likely.metal.errors import KernelError
from likely.metal.simulator.report import MAX_VARIABLES, DispatchReport, Ledger, WatchedBuffer

MAX_LANES = 1024
MAX_BUFFERS = 31  # in the argument table of a Metal kernel
STACK = 128 * 1024
ARENA = 1 << 16
THREADGROUP_LIMIT = 32 * 1024
GUARD = 64 << 20  # nothing within this distance of a buffer of a checked run: addresses alone, memory when touched

_lock = threading.Lock()  # the runtime's state is one a process


@dataclass
class KernelArgument:
    """An argument: its place in the table, its memory, and whether the kernel may write it or find values there."""

    name: str
    index: int
    array: np.ndarray[Any, Any]
    writable: bool = False
    initialised: bool = True


class _Request(ctypes.Structure):
    """Mirrors msl_request in runtime.cpp."""

    _fields_ = (
        ("buffers", ctypes.c_void_p),
        ("stacks", ctypes.c_void_p),
        ("arena", ctypes.c_void_p),
        ("stack_size", ctypes.c_ulong),
        ("arena_size", ctypes.c_ulong),
        ("grid", ctypes.c_uint * 3),
        ("threadgroup", ctypes.c_uint * 3),
        ("check", ctypes.c_void_p),
    )


@cache
def _load(path: Path) -> ctypes.CDLL:
    _mathematics()
    return ctypes.CDLL(str(path))


@cache
def _mathematics() -> None:
    """Make expf and its like visible to libraries that were linked against nothing."""
    from ctypes.util import find_library

    ctypes.CDLL(find_library("m"), ctypes.RTLD_GLOBAL)


@cache
def _memory() -> tuple[mmap.mmap, int, int]:
    """Stacks of all lanes and the arena; pages are touched when used. (map, address of stacks, address of arena)"""
    block, address = _map(MAX_LANES * STACK + ARENA)
    return block, address, address + MAX_LANES * STACK


def _map(size: int) -> tuple[mmap.mmap, int]:
    block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared, a guard would be counted as memory
    return block, ctypes.addressof(ctypes.c_char.from_buffer(block))


def launch(path: Path, buffers: Sequence[KernelArgument], grid: Sequence[int], threadgroup: Sequence[int]) -> None:
    """Run all threadgroups of a plain build; the arrays of writable buffers change in place.

    Raises KernelError where the grid, the threadgroup or the threadgroup memory is not what Metal takes.
    """
    addresses = {buffer.index: buffer.array.ctypes.data for buffer in buffers}
    used = _dispatch(path, addresses, grid, threadgroup, None)
    if used < 0 or used > THREADGROUP_LIMIT:
        amount = f"{used} bytes" if used >= 0 else f"more than {ARENA}"
        raise KernelError(f"threadgroup memory: expected at most {THREADGROUP_LIMIT} bytes, got {amount}")


def launch_checked(
    kernel: str, path: Path, buffers: Sequence[KernelArgument], grid: Sequence[int], threadgroup: Sequence[int]
) -> DispatchReport:
    """Run all threadgroups of a checked build on copies that stand far apart, so that no stray access meets another
    buffer; KernelError as of `launch`."""
    spans = [np.lib.array_utils.byte_bounds(buffer.array) if buffer.array.size else (0, 0) for buffer in buffers]
    places, top = [], GUARD
    for low, high in spans:
        places.append(top)
        top += (high - low + 4095) // 4096 * 4096 + GUARD
    block, base = _map(top)
    addresses, watched = {}, []
    for buffer, (low, high), place in zip(buffers, spans, places, strict=True):
        start = base + place + (low % 4096 if low % 16 else 0)  # keeps the alignment that the array has
        ctypes.memmove(start, low, high - low)
        addresses[buffer.index] = start + buffer.array.ctypes.data - low if buffer.array.size else start
        size, itemsize = high - low, buffer.array.itemsize
        watched.append(WatchedBuffer(buffer.name, start, size, buffer.writable, buffer.initialised, itemsize))
    ledger = Ledger(watched, THREADGROUP_LIMIT)
    used = _dispatch(path, addresses, grid, threadgroup, ledger)
    for buffer, (low, high), copy in zip(buffers, spans, watched, strict=True):
        if buffer.writable:
            ctypes.memmove(low, copy.address, high - low)
    report = ledger.report(kernel)
    if used < 0 and all(fault.kind == "unwritten-output" for fault in report.faults):  # which it did not come to
        raise KernelError(f"threadgroup memory: expected at most {MAX_VARIABLES} variables, got more")
    del block
    return report


def _dispatch(
    path: Path,
    addresses: dict[int, int],
    grid: Sequence[int],
    threadgroup: Sequence[int],
    ledger: Ledger | None,
) -> int:
    for name, extent in (("grid", grid), ("threadgroup", threadgroup)):
        if len(extent) != 3 or any(not isinstance(n, int) or n < 1 or n >= 1 << 32 for n in extent):
            raise KernelError(f"{name}: expected three whole numbers >= 1, got {tuple(extent)}")
    lanes = threadgroup[0] * threadgroup[1] * threadgroup[2]
    if lanes > MAX_LANES:
        raise KernelError(f"threadgroup: expected at most {MAX_LANES} threads, got {tuple(threadgroup)} = {lanes}")
    library = _load(path)
    _, stacks, arena = _memory()
    table = (ctypes.c_void_p * MAX_BUFFERS)()
    if (most := max(addresses, default=0)) >= MAX_BUFFERS:
        raise KernelError(f"buffers: expected at most {MAX_BUFFERS}, got {most + 1}")
    for index, address in addresses.items():
        table[index] = address
    three = ctypes.c_uint * 3
    request = _Request(
        *(ctypes.addressof(table), stacks, arena, STACK, ARENA),
        *(three(*grid), three(*threadgroup), ctypes.addressof(ledger.state) if ledger is not None else None),
    )
    with _lock:
        return int(library.msl_launch(ctypes.byref(request)))
