"""How glibc's allocator treats large blocks, on Linux: given back at once while a model loads, kept while it runs; and
how much of what it holds is in use.

Left to itself it learns to keep freed blocks of up to 32 MB, which while weights are expanded and joined leaves holes
that the process never gives back: the same load peaked anywhere between 1.19 and 1.5 times its weights.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names for them (malloc.h)
LARGE, KEPT = 3 << 20, 32 << 20


@contextmanager
def giving_back() -> Iterator[None]:
    """Inside, what is freed in large blocks goes back to the system; afterwards it is kept for reuse."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:  # another C library has other habits
        yield
        return
    mallopt(MMAP_THRESHOLD, LARGE)
    try:
        yield
    finally:
        mallopt(MMAP_THRESHOLD, KEPT)
        mallopt(TRIM_THRESHOLD, 8 * KEPT)


def give_back() -> None:
    """Give what is free back to the system: holes too, between blocks that are in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class _Figures(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    )


def in_use() -> int | None:
    """Bytes of all blocks that are not free; None where the C library does not say. Pages that the process holds are
    more: those of free blocks beside one in use stay."""
    figures = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if figures is None:
        return None
    figures.restype = _Figures
    found = figures()
    return int(found.uordblks + found.hblkhd)
