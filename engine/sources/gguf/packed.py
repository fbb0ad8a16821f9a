"""The tensors of a GGUF file for `models.packed`: matrices packed as they are, everything else in float32.

The file is read, not mapped: one that is replaced or truncated meanwhile ends in an error of one line. A type that has
no packed layout is expanded. Knows nothing of mlx.
"""

from io import FileIO

import numpy as np

from likely.engine.errors import CheckpointError
from likely.engine.sources.gguf.blocks import expand
from likely.engine.sources.gguf.header import TYPES, Header, TensorInfo
from likely.engine.sources.gguf.mapping import IN_CONFIG, Architecture, is_interleaved, is_shifted, weight_name
from likely.metal.packed import LAYOUTS, PackedMatrix, Room
from likely.models.packed import in_order

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
            raw = _read(file, info, header)
            order = None
            if is_interleaved(info.name, arch):
                order = _order(info, heads["attn_k" in info.name], header)
            if len(info.shape) == 2:
                weights[name] = _matrix(info, raw, order, room)
                continue
            values = _expanded(info, raw)
            if is_shifted(info.name, arch):
                values -= np.float32(arch.norm_offset)
            weights[name] = values if order is None else values[order]
    return weights


def _matrix(info: TensorInfo, raw: np.ndarray, order: np.ndarray | None, room: Room) -> PackedMatrix:
    rows, columns = info.shape
    if info.type in LAYOUTS and info.type != "F32":
        return PackedMatrix(info.type, rows, columns, room=room.take).fill(raw.reshape(rows, -1), order=order)
    return PackedMatrix("F32", rows, columns, room=room.take).fill(_expanded(info, raw), order=order)


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
