"""A checkpoint's tensors, each taken once with the shape that the configuration implies.

The layout of a quantised matrix is read from its tensors: the configuration gives the columns, so the packed width
gives the bits and the scales give the group; a setting that disagrees with them is an error. Knows no family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metal import mx
from models.errors import CheckpointError, ConfigError

BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
MODES = {
    "affine": ((2, 3, 4, 5, 6, 8), (32, 64, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a matrix is packed: `bits` a value, a scale for each `group_size` values of a row."""

    group_size: int
    bits: int
    mode: str

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"quantization: mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        bits, groups = MODES[self.mode]
        for name, value, allowed in (("bits", self.bits, bits), ("group_size", self.group_size, groups)):
            if value not in allowed:
                known = ", ".join(map(str, allowed))
                raise ConfigError(f"quantization: {name} must be one of {known} in mode {self.mode}, got {value}")


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows [out, in], or [experts, out, in], as numbers or packed in `layout`."""

    weight: mx.array
    layout: Layout | None = None
    scales: mx.array | None = None
    biases: mx.array | None = None  # affine only
    global_scale: mx.array | None = None  # nvfp4 only

    def floats(self) -> mx.array:
        """The numbers themselves."""
        if self.layout is None:
            return self.weight
        group, bits, mode = self.layout.group_size, self.layout.bits, self.layout.mode
        return mx.dequantize(
            self.weight, self.scales, self.biases, group, bits, mode=mode, global_scale=self.global_scale
        )

    def map(self, change: Any) -> "Matrix":
        """`change` done to each array that has rows."""
        scales, biases = (None if x is None else change(x) for x in (self.scales, self.biases))
        return Matrix(change(self.weight), self.layout, scales, biases, self.global_scale)


def join(matrices: list[Matrix], axis: int = 0) -> Matrix | None:
    """The matrices as one, row after row; None where they are packed differently."""
    first = matrices[0]
    if any(m.layout != first.layout or m.weight.dtype != first.weight.dtype for m in matrices[1:]):
        return None
    if any(m.global_scale is not None for m in matrices):
        return None
    if len(matrices) == 1:
        return first

    def column(name: str) -> mx.array | None:
        parts = [getattr(m, name) for m in matrices]
        return None if parts[0] is None else mx.concatenate(parts, axis=axis)

    weight = column("weight")
    assert weight is not None
    return Matrix(weight, first.layout, column("scales"), column("biases"))


class Tensors:
    """The tensors of a checkpoint, which leave `arrays` as they are taken, so that nothing holds them twice."""

    def __init__(self, arrays: dict[str, mx.array], quantization: Mapping[str, Any] | None = None) -> None:
        self.arrays = arrays
        self._settings = dict(quantization or {})

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def take(self, name: str, *shape: int) -> mx.array:
        """The tensor `name`; CheckpointError where it is missing or of another shape."""
        array = self.arrays.pop(name, None)
        if array is None:
            raise CheckpointError(f"weights: {name} {list(shape)} is missing")
        if array.shape != shape:
            raise CheckpointError(f"weights: {name} must be {list(shape)} by the config, got {list(array.shape)}")
        return array

    def matrix(self, path: str, *shape: int) -> Matrix:
        """The matrix at `path` [..., out, in], packed or not."""
        if f"{path}.scales" not in self.arrays:
            array = self.take(f"{path}.weight", *shape)
            if array.dtype == mx.uint32:
                raise CheckpointError(f"weights: {path}.weight is packed but {path}.scales is missing")
            return Matrix(array)
        *lead, columns = shape
        weight, scales = self.arrays.pop(f"{path}.weight"), self.arrays.pop(f"{path}.scales")
        biases, whole = self.arrays.pop(f"{path}.biases", None), self.arrays.pop(f"{path}.global_scale", None)
        layout = self._layout(path, columns, weight, scales, biases)
        packed = [*lead, columns * layout.bits // 32]
        grouped = [*lead, columns // layout.group_size]
        for name, array, want in (("weight", weight, packed), ("scales", scales, grouped), ("biases", biases, grouped)):
            if array is not None and list(array.shape) != want:
                raise CheckpointError(f"weights: {path}.{name} must be {want} by the config, got {list(array.shape)}")
        return Matrix(weight, layout, scales, biases, whole)

    def _layout(self, path: str, columns: int, weight: mx.array, scales: mx.array, biases: mx.array | None) -> Layout:
        bits, rest = divmod(weight.shape[-1] * 32, columns)
        group, left = divmod(columns, scales.shape[-1])
        if weight.dtype != mx.uint32 or rest or left or weight.ndim != scales.ndim:
            raise CheckpointError(
                f"weights: {path} is not a packed matrix of {columns} columns: weight {weight.dtype} "
                f"{list(weight.shape)}, scales {list(scales.shape)}"
            )
        mode = "affine" if scales.dtype != mx.uint8 else "nvfp4" if group == 16 else "mxfp4" if bits == 4 else "mxfp8"
        if (mode == "affine") != (biases is not None):
            raise CheckpointError(
                f"weights: {path}.biases {'is missing' if biases is None else 'does not belong here'}"
            )
        layout = Layout(group, bits, mode)
        said = self._settings.get(path, self._settings)
        if said is False:
            raise CheckpointError(f"config: quantization says that {path} is not packed, its tensors are")
        for name in ("group_size", "bits", "mode") if path in self._settings or not self._mixed(path) else ():
            if said.get(name, getattr(layout, name)) != getattr(layout, name):
                raise CheckpointError(
                    f"config: quantization says {name} = {said[name]} for {path}, "
                    f"its tensors say {getattr(layout, name)}"
                )
        return layout

    def _mixed(self, path: str) -> bool:
        """Whether the default does not bind: some paths have their own setting, and this one may have been left out."""
        return any(isinstance(value, dict) for value in self._settings.values())

    def done(self, allowed: tuple[str, ...] = ()) -> None:
        """Refuse tensors that no part of the model took."""
        left = sorted(name for name in self.arrays if not name.endswith(BUFFERS) and name not in allowed)
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            raise CheckpointError(
                f"weights: {left[0]} {list(self.arrays[left[0]].shape)}{more} has no place in the model"
            )
        self.arrays.clear()
