"""Reads a safetensors header and checks it against the file: dtypes, shapes and places of its tensors.

mlx reads the data; this goes first, so that a truncated or damaged file is one clear line, not a crash or wrong
numbers. Format: the safetensors README. Knows nothing of mlx nor of what the tensors mean.
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files.foreign_json import parse
from likely.engine.base.files.whole_file import refuse_pipe

MAX_HEADER = 1 << 24  # bytes, of 130,000 tensors: the format's own library takes six times as many
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8,
    "F16": 2, "BF16": 2, "F32": 4, "F8_E4M3": 1, "F8_E8M0": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as the file holds it."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    offset: int  # from the start of the file


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of the safetensors file at `path` by name; CheckpointError if it is damaged or truncated."""
    entries, start, size = _entries(path)
    return {name: _stored(path, name, entry, start, size) for name, entry in entries.items() if name[:2] != "__"}


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that stand beside the tensors of the file; errors as `read_header`."""
    metadata: dict[str, str] = _entries(path)[0].get("__metadata__") or {}
    return metadata


def _entries(path: Path) -> tuple[dict[str, Any], int, int]:
    """The table of a file, where its tensors begin, and the file's bytes."""
    try:
        refuse_pipe(path)
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise _bad(path, "its header does not fit the file; it is truncated or damaged, fetch it again")
            entries = parse(file.read(length), {"__metadata__?": (None, {str: str})})
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except ValueError as error:
        raise _bad(path, f"its header is no table of tensors: {error}; the file is damaged, fetch it again") from error
    return entries, 8 + length, size


def _stored(path: Path, name: str, entry: object, start: int, size: int) -> StoredTensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            if dtype not in SIZES:
                raise _bad(
                    path, f"tensor {name!r} has dtype {dtype}, which is not supported; known: {', '.join(SIZES)}"
                )
            if all(type(n) is int and n >= 0 for n in shape) and 0 <= begin <= end:
                if start + end > size:
                    raise _bad(path, f"tensor {name!r} ends after the file does; it is truncated, fetch it again")
                if end - begin == prod(shape) * SIZES[dtype]:
                    return StoredTensor(dtype, tuple(shape), end - begin, start + begin)
    raise _bad(path, f"the entry of tensor {name!r} is damaged; fetch the file again")


def _bad(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path.name}: {what}")
