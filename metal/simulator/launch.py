"""One dispatch of a compiled kernel: buffers in, the lanes' stacks and the threadgroup's memory at hand."""

import ctypes
import mmap
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from metal.errors import KernelError

MAX_LANES = 1024
STACK = 128 * 1024
ARENA = 1 << 20
THREADGROUP_LIMIT = 32 * 1024

_lock = threading.Lock()  # the runtime's state is one a process


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

    name = find_library("m")
    ctypes.CDLL(name, ctypes.RTLD_GLOBAL)


@cache
def _memory() -> tuple[mmap.mmap, int, int]:
    """Stacks of all lanes and the arena; pages are touched when used. (map, address of stacks, address of arena)"""
    block = mmap.mmap(-1, MAX_LANES * STACK + ARENA)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    return block, address, address + MAX_LANES * STACK


def launch(
    path: Path,
    buffers: Mapping[int, int],
    grid: Sequence[int],
    threadgroup: Sequence[int],
    check: ctypes.Structure | None = None,
) -> bool:
    """Run all threadgroups; `buffers` are addresses by index. False when the checker ended the run early.

    Raises KernelError where the grid or the threadgroup is not one that Metal takes.
    """
    for name, extent in (("grid", grid), ("threadgroup", threadgroup)):
        if len(extent) != 3 or any(not isinstance(n, int) or n < 1 or n >= 1 << 32 for n in extent):
            raise KernelError(f"{name}: expected three whole numbers >= 1, got {tuple(extent)}")
    lanes = threadgroup[0] * threadgroup[1] * threadgroup[2]
    if lanes > MAX_LANES:
        raise KernelError(f"threadgroup: expected at most {MAX_LANES} threads, got {tuple(threadgroup)} = {lanes}")
    library = _load(path)
    _, stacks, arena = _memory()
    table = (ctypes.c_void_p * (max(buffers, default=0) + 1))()
    for index, address in buffers.items():
        table[index] = address
    three = ctypes.c_uint * 3
    request = _Request(
        *(ctypes.addressof(table), stacks, arena, STACK, ARENA),
        *(three(*grid), three(*threadgroup), ctypes.addressof(check) if check is not None else None),
    )
    with _lock:
        return bool(library.msl_launch(ctypes.byref(request)) == 0)
