"""Native kernels for packed weights on a CPU, and the Python that calls them.

Read first: __init__.py. Uses: no other folder.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from likely.metal.errors import LikelyError

LAYOUTS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "AFFINE4", "AFFINE8", "F32")
NUMBERS = ("float32", "float16", "bfloat16")
LEVELS = ("plain", "avx2", "avx512")
OFF = "off"
FEW_BITS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "AFFINE4")  # those of LAYOUTS that take 8-bit activations
EIGHT, SIXTEEN, FULL = 8, 16, 24  # bits of activations: in whole numbers of so many, or all that a float32 has
LANES, SUMMED = 16, 32
ALIGNED = 64  # bytes


class PackedError(LikelyError):
    """A matrix that cannot be kept packed, or arrays that do not fit it."""


class _Matrix(ctypes.Structure):
    """`matrix_t` of packed.h."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("layout", "number", "group", "rows", "columns", "block", "blocks")),
        *((name, ctypes.c_int) for name in ("block_scales", "block_codes")),
        ("panel", ctypes.c_long),
        ("data", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Library:
    """The library of this processor, and which of its kernels run."""

    handle: ctypes.CDLL
    kernels: str  # AVX-512 | AVX2 | SSE2 | NEON

    @property
    def rounds(self) -> bool:
        """Whether products with activations in whole numbers have instructions of their own, and so are faster."""
        return self.kernels in ("AVX-512", "AVX2")


@cache
def load() -> Library | None:
    """The library; None where there is none for this machine."""
    path = Path(__file__).with_name(f"packed-{platform.machine()}.so")
    if sys.platform != "linux" or not path.exists():
        return None
    handle = ctypes.CDLL(str(path))
    pointer, number, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    takes: dict[str, tuple[Any, list[Any]]] = {
        "likely_packed_init": (ctypes.c_char_p, [number]),
        "likely_packed_threads": (None, [pointer]),
        "likely_layout": (long, [pointer]),
        "likely_pack": (None, [pointer, pointer, long, pointer, number, number]),
        "likely_pack_affine": (None, [pointer, pointer, pointer, pointer, number, number]),
        "likely_rows": (None, [pointer, pointer, number, pointer]),
        "likely_arranged": (long, [number, number]),
        "likely_product": (None, [pointer, pointer, long, number, pointer, long, number, number, pointer]),
        "likely_back": (None, [pointer, pointer, number, pointer, pointer]),
        "likely_back_floats": (long, [pointer]),
        "likely_scan": (None, [pointer, number, number, pointer, pointer]),
        "likely_draw": (None, [number, pointer, number, pointer, pointer, pointer, pointer]),
        "likely_nucleus": (ctypes.c_float, [pointer, pointer, number, ctypes.c_double, pointer]),
        "likely_look_numbers": (long, [number, number]),
        "likely_look": (
            number,
            [number, pointer, number, *4 * [pointer], ctypes.c_float, *3 * [pointer], long, pointer],
        ),
    }
    for name, (result, arguments) in takes.items():
        function = getattr(handle, name)
        function.restype, function.argtypes = result, arguments
    limit = os.environ.get("LIKELY_PACKED", LEVELS[-1])
    if limit not in (*LEVELS, OFF):
        raise PackedError(f"LIKELY_PACKED must be one of {', '.join(LEVELS)}, {OFF}, got {limit!r}")
    return Library(handle, handle.likely_packed_init(LEVELS.index(LEVELS[-1] if limit == OFF else limit)).decode())


def use_threads() -> int:
    """Let the threads that help the BLAS run parts of a product too; how many there are, the caller's included."""
    from likely.metal import blas  # no business of whoever only scans logits

    library = blas.load()
    if library.gemv is None or not library.attention:
        return 1
    _library().likely_packed_threads(ctypes.cast(library.gemv.likely_share, ctypes.c_void_p))
    return int(library.gemv.likely_workers()) + 1


def _library() -> ctypes.CDLL:
    library = load()
    if library is None:
        raise PackedError(f"there are no kernels for packed weights on {sys.platform} {platform.machine()}")
    return library.handle


def available() -> bool:
    """Whether weights are to stay packed here: there are kernels, and `LIKELY_PACKED` is not off."""
    return load() is not None and os.environ.get("LIKELY_PACKED") != OFF


def aligned(nbytes: int) -> np.ndarray:
    """Room for so many bytes, uint8, that begins at a cache line."""
    room = np.empty(nbytes + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + nbytes]


class Room:
    """Memory in the order in which it is read, in pieces; numpy asks for huge pages where they are large."""

    def __init__(self, piece: int = 64 << 20) -> None:
        """`piece`: bytes that are set aside at once; what is not used of them takes no memory."""
        self._piece, self._left = piece, np.empty(0, np.uint8)

    def take(self, nbytes: int) -> np.ndarray:
        """So many bytes, uint8, that begin at a cache line."""
        whole = -(-nbytes // ALIGNED) * ALIGNED
        if whole > len(self._left):
            self._left = aligned(max(whole, self._piece))
        taken, self._left = self._left[:nbytes], self._left[whole:]
        return taken


class PackedMatrix:
    """W [rows, columns] in a layout of LAYOUTS; its rows come by `fill` or `fill_affine`, each once."""

    __slots__ = ("_data", "struct")

    def __init__(
        self,
        layout: str,
        rows: int,
        columns: int,
        *,
        group: int = 0,
        number: str = "float32",
        room: Callable[[int], np.ndarray] = aligned,
    ) -> None:
        """`group` and `number`, of the scales, are for the affine layouts. PackedError if there is no such matrix.

        `room` gives so many bytes, as `aligned` does.
        """
        if layout not in LAYOUTS or number not in NUMBERS:
            raise PackedError(f"a layout of {', '.join(LAYOUTS)} expected, got {layout} with scales in {number}")
        self.struct = _Matrix(LAYOUTS.index(layout), NUMBERS.index(number), group, rows, columns)
        nbytes = _library().likely_layout(ctypes.byref(self.struct))
        if not nbytes:
            raise PackedError(f"{rows:,} rows of {columns:,} cannot be kept as {layout}, groups of {group}")
        self._data = room(nbytes)
        if rows % LANES:  # no codes, no scales: the rows that fill up the last panel
            self._data[-self.struct.panel :] = 0
        self.struct.data = self._data.ctypes.data

    @property
    def layout(self) -> str:
        return LAYOUTS[self.struct.layout]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)"""
        return self.struct.rows, self.struct.columns

    @property
    def nbytes(self) -> int:
        return self._data.nbytes

    @property
    def packed(self) -> np.ndarray:
        """Its bytes, uint8, as they lie in memory; not to be written."""
        return self._data

    def fill(self, raw: np.ndarray, first: int = 0, order: Sequence[int] | np.ndarray | None = None) -> Self:
        """Take rows `first`... from `raw` [n, bytes of a row], as GGUF has them; in `order`, where that is given."""
        raw = np.ascontiguousarray(raw).view(np.uint8)
        wanted = self.row_bytes
        if raw.ndim != 2 or raw.shape[1] != wanted or not 0 <= first <= self.struct.rows - len(raw):
            raise PackedError(f"rows of {wanted} bytes for rows {first}... of {self.struct.rows}, got {raw.shape}")
        picked = None if order is None else np.ascontiguousarray(order, np.int32)
        if picked is not None and sorted(picked.tolist()) != list(range(len(raw))):
            raise PackedError(f"an order of {len(raw)} rows names each once")
        at = picked.ctypes.data if picked is not None else None
        _library().likely_pack(ctypes.byref(self.struct), raw.ctypes.data, wanted, at, first, len(raw))
        return self

    def fill_affine(self, codes: np.ndarray, scales: np.ndarray, offsets: np.ndarray, first: int = 0) -> Self:
        """Take rows `first`... from mlx's arrays: `codes` uint32, scales and offsets as bits of the matrix's number."""
        s = self.struct
        size, words = (4 if s.number == 0 else 2), s.blocks * s.block_codes // ALIGNED
        parts = [np.ascontiguousarray(part).view(np.uint8) for part in (codes, scales, offsets)]
        n, groups = len(codes), s.blocks * size
        if not self.layout.startswith("AFFINE") or [p.shape for p in parts] != [
            (n, 4 * words),
            (n, groups),
            (n, groups),
        ]:
            raise PackedError(f"{words} words and {s.blocks} groups a row for {self.layout}, got {codes.shape}")
        if not 0 <= first <= s.rows - n:
            raise PackedError(f"{n} rows from {first} leave the {s.rows} of the matrix")
        _library().likely_pack_affine(ctypes.byref(s), *(part.ctypes.data for part in parts), first, n)
        return self

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in a file."""
        per = {
            "Q4_0": 18,
            "Q4_1": 20,
            "Q5_0": 22,
            "Q5_1": 24,
            "Q8_0": 34,
            "Q4_K": 144,
            "Q5_K": 176,
            "Q6_K": 210,
            "F32": 4,
        }
        return int(self.struct.blocks) * per.get(self.layout, 0)

    def rows(self, ids: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """These rows as float32 [n, columns], all by default: exactly what the file's own dequantiser gives."""
        index = np.ascontiguousarray(np.arange(self.struct.rows) if ids is None else ids, np.int32)
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < self.struct.rows:
            raise PackedError(f"rows below {self.struct.rows} expected, got {index.min()} to {index.max()}")
        out = np.empty((len(index), self.struct.columns), np.float32)
        _library().likely_rows(ctypes.byref(self.struct), index.ctypes.data, len(index), out.ctypes.data)
        return out

    def product(self, x: np.ndarray, activation_bits: int = FULL) -> np.ndarray:
        """x W^T for x float32 [n, columns]: [n, rows]. Other Python threads run meanwhile.

        With SIXTEEN `activation_bits` those of 32 columns become whole numbers up to 32,512 where kernels round; with
        EIGHT up to 127, in layouts of FEW_BITS.
        """
        if x.ndim != 2 or x.shape[1] != self.struct.columns or x.dtype != np.float32:
            raise PackedError(f"float32 rows of {self.struct.columns} expected, got {x.dtype} {x.shape}")
        x = np.ascontiguousarray(x)
        y = np.empty((len(x), self.struct.rows), np.float32)
        if len(x):
            library = _library()
            work = np.empty(library.likely_arranged(*x.shape), np.float32)
            library.likely_product(
                ctypes.byref(self.struct), x.ctypes.data, x.shape[1], len(x), y.ctypes.data, y.shape[1], 0,
                activation_bits, work.ctypes.data,
            )  # fmt: skip
        return y

    def back(self, slope: np.ndarray) -> np.ndarray:
        """The gradient of x [n, columns], where that of x W^T is `slope` [n, rows]."""
        slope = np.ascontiguousarray(slope, np.float32)
        if slope.ndim != 2 or slope.shape[1] != self.struct.rows:
            raise PackedError(f"rows of {self.struct.rows} expected, got {slope.shape}")
        found, library = np.empty((len(slope), self.struct.columns), np.float32), _library()
        work = np.empty(library.likely_back_floats(ctypes.byref(self.struct)), np.float32)
        if len(slope):
            library.likely_back(
                ctypes.byref(self.struct), slope.ctypes.data, len(slope), found.ctypes.data, work.ctypes.data
            )
        return found
