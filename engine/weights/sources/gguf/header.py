"""Reads a GGUF header and believes nothing in it: every count, length and offset is checked against the file's size.

A header comes from strangers, and parsers that trust its counts read outside the file (mlx's own crashed on one mutated
header in six). Whatever is wrong here is a CheckpointError of one line. Format: ggml's docs/gguf.md, versions 2 and 3.
Knows nothing of architectures, nor of what a block holds: only how many bytes it takes.
"""

import os
import struct
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files.whole_file import refuse_pipe

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMS = 4
MAX_ENTRIES = 1 << 16  # keys, and tensors: the largest published models have about 2,000
MAX_DEPTH = 2  # arrays inside arrays
PIECE = 1 << 21  # bytes that are read at least, where more are wanted: most headers are some of these
MANY = 64  # texts, from which on they are looked for together
WINDOW = 1 << 16  # bytes in which they are: what is made of them on the way stays in the cache

# id: (name, values in a block, bytes of a block)
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}

# metadata value types that are numbers: id -> numpy dtype
NUMBERS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
BOOL, STRING, ARRAY = 7, 8, 9
NOT_UTF8 = "a text in the header is not UTF-8; the file is damaged"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies in the file. `shape` is outermost first, as numpy and Hugging Face have it."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int  # from the start of the file
    nbytes: int


@dataclass(frozen=True)
class Header:
    """Header of a GGUF file: `metadata` as plain Python values, and where every tensor lies."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def read_header(path: Path) -> Header:
    """The header of the GGUF file at `path`; CheckpointError if it is not one, or damaged, truncated or unsupported."""
    try:
        refuse_pipe(path)
        with open(path, "rb", buffering=0) as file:
            return _Reader(path, file).header()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except DataError as error:
        raise CheckpointError(str(error)) from error


class _Reader:
    """A cursor over the header's bytes that cannot leave them. They are read as they are wanted, and not mapped: a file
    that is cut meanwhile would end the process."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path, self.file, self.at, self.data = path, file, 0, b""
        self.size = os.fstat(file.fileno()).st_size

    def header(self) -> Header:
        if self.take(min(len(MAGIC), self.size)) != MAGIC:
            raise CheckpointError(f"{self.path.name} is not a GGUF file: it does not begin with {MAGIC.decode()}")
        version = self.number("<u4")
        if version not in VERSIONS:
            raise self.bad(
                f"GGUF version 2 or 3 expected, got {version}; convert the model again with a newer llama.cpp"
            )
        n_tensors, n_keys = self.count("tensors"), self.count("keys")
        metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self.string()
            if key in metadata:
                raise self.bad(f"the key {key!r} comes twice")
            metadata[key] = self.value(self.number("<u4"))
        places = [self.place() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 16 or alignment % 8:
            raise self.bad(f"an alignment of a multiple of 8 expected, got {alignment!r}")
        start = -(-self.at // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for name, shape, type_, offset, nbytes in places:
            if name in tensors:
                raise self.bad(f"the tensor {name!r} comes twice")
            if offset % alignment:
                raise self.bad(f"tensor {name!r} is not aligned to {alignment} bytes")
            if start + offset + nbytes > self.size:
                raise self.bad(f"tensor {name!r} ends after the file does; it is truncated, fetch it again")
            tensors[name] = TensorInfo(name, shape, type_, start + offset, nbytes)
        return Header(self.path, metadata, tensors)

    def bad(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path.name}: {what}")

    def want(self, end: int, what: str) -> None:
        """Have what there is up to byte `end`; CheckpointError where the file is shorter."""
        while len(self.data) < end <= self.size:
            got = self.file.read(max(PIECE, len(self.data), end - len(self.data)))
            if not got:  # it was cut meanwhile
                break
            self.data += got
        if end > len(self.data):
            raise self.bad(what)

    def take(self, nbytes: int) -> bytes:
        end = self.at + nbytes
        self.want(end, "the file ends inside its header; it is truncated or damaged, fetch it again")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, dtype: str) -> Any:
        return np.frombuffer(self.take(int(dtype[2])), dtype)[0].item()

    def count(self, what: str) -> int:
        n: int = self.number("<u8")
        if n > MAX_ENTRIES:
            raise self.bad(f"at most {MAX_ENTRIES:,} {what} expected, got {n:,}; the header is damaged")
        return n

    def string(self) -> str:
        return self.strings(1)[0]

    def strings(self, n: int) -> list[str]:
        """The next n strings. One loop without calls: a vocabulary has 262,144 of them."""
        length_at = struct.Struct("<Q").unpack_from
        texts: list[str] = []
        while len(texts) < n:
            while n - len(texts) >= MANY and (found := self.short_strings(n - len(texts))):
                texts += found
            at = begin = end = self.at
            data, size = self.data, len(self.data)
            try:
                for _ in range(min(n - len(texts), WINDOW // 16)):
                    begin = at + 8
                    end = begin + length_at(data, at)[0]
                    if end > size:
                        raise struct.error
                    texts.append(data[begin:end].decode())
                    self.at = at = end
            except struct.error:
                self.want(
                    max(begin, end), "a text in the header runs past the end of the file; it is truncated or damaged"
                )
            except UnicodeDecodeError:
                raise self.bad(NOT_UTF8) from None
        return texts

    def short_strings(self, n: int) -> list[str]:
        """The first of the next n strings, while they are read, shorter than 256 bytes and without zeros and line ends
        in them: the seven zeros of each length say where it begins, and they are decoded as one text."""
        data = np.frombuffer(self.data, np.uint8)[self.at : self.at + WINDOW]
        zeros = np.flatnonzero(data == 0)[: 7 * n + 1]
        lengths = zeros[: min(n, len(zeros) // 7) * 7].reshape(-1, 7)
        begins = lengths[:, 0] - 1
        ends = lengths[:, 6] + 1 + data[begins]
        right = (lengths[:, 6] - lengths[:, 0] == 6) & (begins == np.append(0, ends)[:-1]) & (ends <= len(data))
        count = len(right) if right.all() else int(right.argmin())
        if count and np.any(zeros[7 * count :][:1] < ends[count - 1]):  # there is one in the last
            count -= 1
        if not count:
            return []
        lined = data[: ends[count - 1]].copy()
        lined[begins[:count]] = ord("\n")
        try:
            texts = lined.tobytes().translate(None, b"\0").decode().split("\n")
        except UnicodeDecodeError:
            raise self.bad(NOT_UTF8) from None
        if len(texts) != count + 1:
            return []
        self.at += int(ends[count - 1])
        return texts[1:]

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == BOOL:
            return self.bools(1)[0]
        if kind == STRING:
            return self.string()
        if kind != ARRAY or depth == MAX_DEPTH:
            raise self.bad(f"metadata of unknown type {kind}; the header is damaged")
        kind, n = self.number("<u4"), self.number("<u8")
        if n > self.size - self.at:  # an element takes a byte at least
            raise self.bad(f"an array of {n:,} elements does not fit the file; it is truncated or damaged")
        if kind in NUMBERS:
            dtype = NUMBERS[kind]
            return np.frombuffer(self.take(n * int(dtype[2])), dtype).tolist()
        if kind == BOOL:
            return self.bools(n)
        if kind == STRING:
            return self.strings(n)
        if n > MAX_ENTRIES:
            raise self.bad(f"at most {MAX_ENTRIES:,} arrays in an array expected, got {n:,}; the header is damaged")
        return [self.value(kind, depth + 1) for _ in range(n)]

    def bools(self, n: int) -> list[bool]:
        raw = self.take(n)
        if raw.strip(b"\0\1"):
            raise self.bad("a truth value that is neither 0 nor 1; the header is damaged")
        return [bool(byte) for byte in raw]

    def place(self) -> tuple[str, tuple[int, ...], str, int, int]:
        """One tensor's entry: name, shape, type, offset in the data, bytes."""
        name = self.string()
        n_dims: int = self.number("<u4")
        if not 0 < n_dims <= MAX_DIMS:
            raise self.bad(f"tensor {name!r}: 1 to {MAX_DIMS} dimensions expected, got {n_dims}")
        dims = [self.number("<u8") for _ in range(n_dims)]  # innermost first
        kind, offset = self.number("<u4"), self.number("<u8")
        if kind not in TYPES:
            raise self.bad(f"tensor {name!r} has type {kind}, which is not supported; known: {known_types()}")
        type_, block, block_bytes = TYPES[kind]
        if min(dims) < 1 or prod(dims) > 8 * self.size * block or dims[0] % block:
            raise self.bad(f"tensor {name!r}: a shape of {dims} does not fit {type_}; the header is damaged")
        return name, tuple(reversed(dims)), type_, offset, prod(dims) // block * block_bytes


def known_types() -> str:
    """The block formats that can be read, for a message."""
    return ", ".join(name for name, _, _ in TYPES.values())
