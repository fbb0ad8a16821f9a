"""The tensors of a GGUF file for `models.packed`: matrices packed as they are, everything else in float32.

The file is read, not mapped: one that is replaced or truncated meanwhile ends in an error of one line. A type that has
no packed layout is expanded. Knows nothing of mlx.
"""

from dataclasses import replace
from io import FileIO

import numpy as np

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.gguf.blocks import expand
from likely.engine.weights.sources.gguf.header import TYPES, Header, TensorInfo
from likely.engine.weights.sources.gguf.mapping import (
    IN_CONFIG,
    Architecture,
    is_interleaved,
    is_shifted,
    weight_name,
)
from likely.metal.packed import LANES, LAYOUTS, PackedMatrix, Room
from likely.models.packed_weights.packed import in_order

PIECE = 1 << 18  # bytes of a matrix that are read at once: their memory is used again, and the caches hold it
BLOCK_BYTES = {name: nbytes for name, _, nbytes in TYPES.values()}


def read_packed(header: Header, arch: Architecture, heads: tuple[int, int]) -> dict[str, PackedMatrix | np.ndarray]:
    """Weights by Hugging Face's names; `heads`, the numbers of query and of key heads, undo the interleaving."""
    weights: dict[str, PackedMatrix | np.ndarray] = {}
    room = Room()
    with FileIO(header.path) as file:
        named = [(weight_name(info.name, arch), info) for info in header.tensors.values()]
        for name, info in sorted(named, key=lambda one: in_order(one[0] or "0")):
            if name is None:
                if info.name in IN_CONFIG:
                    continue
                raise CheckpointError(f"{header.path.name}: no place for tensor {info.name!r} in a {arch.model_type}")
            order = None
            if is_interleaved(info.name, arch):
                order = _order(info, heads["attn_k" in info.name], header)
            if len(info.shape) == 2:
                weights[name] = _matrix(file, info, header, order, room)
                continue
            values = _expanded(info, _read(file, info, header))
            if is_shifted(info.name, arch):
                values -= np.float32(arch.norm_offset)
            weights[name] = values if order is None else values[order]
    return weights


def _matrix(file: FileIO, info: TensorInfo, header: Header, order: np.ndarray | None, room: Room) -> PackedMatrix:
    rows, columns = info.shape
    if info.type not in LAYOUTS or info.type == "F32":
        expanded = _expanded(info, _read(file, info, header))
        return PackedMatrix("F32", rows, columns, room=room.take).fill(expanded, order=order)
    matrix = PackedMatrix(info.type, rows, columns, room=room.take)
    if order is not None:
        return matrix.fill(_read(file, info, header).reshape(rows, -1), order=order)
    step = max(PIECE // matrix.row_bytes // LANES, 1) * LANES
    for first in range(0, rows, step):
        some = replace(
            info,
            offset=info.offset + first * matrix.row_bytes,
            nbytes=min(step, rows - first) * matrix.row_bytes,
        )
        matrix.fill(_read(file, some, header).reshape(-1, matrix.row_bytes), first)
    return matrix


def _expanded(info: TensorInfo, raw: np.ndarray) -> np.ndarray:
    out = np.empty(info.shape, np.float32)
    expand(raw, info.type, BLOCK_BYTES[info.type], out.reshape(-1))
    return out


def _read(file: FileIO, info: TensorInfo, header: Header) -> np.ndarray:
    raw, have = np.empty(info.nbytes, np.uint8), 0
    file.seek(info.offset)
    while have < info.nbytes:  # the system gives two gigabytes at most
        got = file.readinto(raw[have:].data)
        if not got:
            raise CheckpointError(f"{header.path.name}: {info.name!r} ends early; it was truncated, fetch it again")
        have += got
    return raw


def _order(info: TensorInfo, heads: int, header: Header) -> np.ndarray:
    """Which row of the file each row is: [H, D / 2, 2] back to [H, 2, D / 2]."""
    rows = info.shape[0]
    if rows % (2 * heads):
        raise CheckpointError(f"{header.path.name}: {rows} rows of {info.name!r} do not divide into {heads} heads")
    return np.arange(rows, dtype=np.int32).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
