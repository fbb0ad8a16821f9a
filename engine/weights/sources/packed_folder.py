"""The tensors of a folder that mlx quantised, for `models.packed`: codes of 4 and 8 bits as they are, the rest float32.

The files are read, not mapped: one that is replaced or truncated meanwhile ends in an error of one line. Codes of other
widths are expanded. Knows no family; `refused` says which folders are not read this way.
"""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources import safetensors
from likely.engine.weights.sources.gguf import partial_read
from likely.engine.weights.sources.hf_folder import array_of
from likely.engine.weights.sources.model_info import quantization_of, weight_files
from likely.engine.weights.sources.safetensors import StoredTensor
from likely.metal import mx
from likely.metal.packed import NUMBERS, PackedMatrix, Room
from likely.models.modules.weights import PackedLayout, agreed
from likely.models.packed_weights.packed import in_order

STORED = dict(zip(("F32", "F16", "BF16"), NUMBERS, strict=True))
NO_MEMORY = "weights that would have to be expanded, and there is not the memory"
PACKED_BITS = (4, 8)
SCALES, OFFSETS = ".scales", ".biases"
KINDS = (".weight", SCALES, OFFSETS)
Located = Mapping[str, tuple[Path, StoredTensor]]  # tensors by name, and the file that each is in


def refused(stored: Located, config: Mapping[str, Any], *, expand: bool) -> str | None:
    """Why the weights of a folder do not stay packed outside of the graph; None if they do.

    `expand`: there is memory for the matrices that have no packed layout.
    """
    settings = quantization_of(config)
    if "quant_method" in settings:
        return f"weights that {settings['quant_method']} packed are translated"
    try:
        layouts = [layout(name.removesuffix(SCALES), stored, settings) for name in stored if name.endswith(SCALES)]
    except CheckpointError as error:  # the graph says what is wrong, or reads it
        return str(error)
    if not any(map(_keeps, layouts)):
        return "nothing in it is packed in affine codes of 4 or 8 bits"
    if not all(one.mode == "affine" for one in layouts):
        return "a mode that is not affine"
    if not expand and not all(map(_keeps, layouts)):
        return NO_MEMORY
    return None


def read_packed(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, PackedMatrix | np.ndarray]]:
    """Weights by the names that they have in the folder."""
    stored, settings, room = tensors(folder), quantization_of(config), Room()
    for name in sorted(stored, key=in_order):
        held, path = stored[name][1], name.removesuffix(".weight")
        if name.endswith((SCALES, OFFSETS)) and f"{name.rpartition('.')[0]}.weight" in stored:
            continue
        if path != name and f"{path}{SCALES}" in stored:
            yield name, _codes(path, stored, layout(path, stored, settings), room)
            continue
        values = _floats(_read(name, stored), held)
        yield name, PackedMatrix("F32", *held.shape, room=room.take).fill(values) if values.ndim == 2 else values


def tensors(folder: Path) -> Located:
    """The tensors of a folder, by the headers of its files."""
    return {name: (file, held) for file in weight_files(folder) for name, held in safetensors.read_header(file).items()}


def layout(path: str, stored: Located, settings: Mapping[str, Any]) -> PackedLayout:
    """How the matrix at a path is packed, by its tensors and the group that the configuration says for it.

    CheckpointError where they do not go together.
    """
    codes, scales, offsets = (stored[name][1] if (name := f"{path}{kind}") in stored else None for kind in KINDS)
    own = settings.get(path, settings)
    group = own.get("group_size") if isinstance(own, Mapping) else None
    if codes is None or scales is None or codes.dtype != "U32" or len(codes.shape) < 2 or not isinstance(group, int):
        raise CheckpointError(f"weights: {path} is not packed as the config's quantization says: {own!r}")
    columns = scales.shape[-1] * group
    bits, rest = divmod(codes.shape[-1] * 32, columns or 1)
    if rest or scales.shape[:-1] != codes.shape[:-1] or (offsets is not None and offsets.shape != scales.shape):
        raise CheckpointError(
            f"weights: {path} is not a matrix in groups of {group}: weight {list(codes.shape)}, scales "
            f"{list(scales.shape)}"
        )
    return agreed(path, PackedLayout(group, bits, str(own.get("mode", "affine"))), settings)


def _keeps(layout: PackedLayout) -> bool:
    return layout.mode == "affine" and layout.bits in PACKED_BITS


def _codes(path: str, stored: Located, layout: PackedLayout, room: Room) -> PackedMatrix:
    for kind in KINDS:
        if f"{path}{kind}" not in stored:
            raise CheckpointError(f"weights: {path}{kind} is missing")
    codes, scales, offsets = (_read(f"{path}{kind}", stored) for kind in KINDS)
    held = [stored[f"{path}{kind}"][1] for kind in KINDS]
    rows, groups = held[1].shape
    columns = groups * layout.group_size
    if not _keeps(layout):
        parts = [
            array_of(raw, tensor.dtype, tensor.shape)
            for raw, tensor in zip((codes, scales, offsets), held, strict=True)
        ]
        scale, offset = (part.astype(mx.float32) for part in parts[1:])
        values = mx.dequantize(parts[0], scale, offset, layout.group_size, layout.bits, layout.mode)
        return PackedMatrix("F32", rows, columns, room=room.take).fill(np.array(values))
    if held[1].dtype != held[2].dtype or held[1].dtype not in STORED:
        raise CheckpointError(f"weights: {path} has scales in {held[1].dtype} and biases in {held[2].dtype}")
    kind, number = f"AFFINE{layout.bits}", STORED[held[1].dtype]
    matrix = PackedMatrix(kind, rows, columns, group=layout.group_size, number=number, room=room.take)
    return matrix.fill_affine(codes.reshape(rows, -1), scales.reshape(rows, -1), offsets.reshape(rows, -1))


def _read(name: str, stored: Located) -> np.ndarray:
    file, held = stored[name]
    unit = safetensors.SIZES[held.dtype]
    with open(file, "rb") as opened:
        return partial_read.read(opened, name, held.offset, held.shape or (1,), unit)


def _floats(raw: np.ndarray, held: StoredTensor) -> np.ndarray:
    if held.dtype == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(held.shape)
    if held.dtype not in ("F32", "F16"):
        raise CheckpointError(f"weights: a tensor of {prod(held.shape)} numbers in {held.dtype}, floats expected")
    return raw.view(np.float32 if held.dtype == "F32" else np.float16).astype(np.float32).reshape(held.shape)
