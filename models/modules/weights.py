"""A checkpoint's tensors, each taken once with the shape that the configuration implies.

The layout of a quantised matrix is read from its tensors: the configuration gives the columns, so the packed width
gives the bits and the scales give the group; a setting that disagrees with them is an error. Knows no family.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likely.metal import mx
from likely.models.configuration.keys import refuse_left
from likely.models.errors import CheckpointError, ConfigError

MODES = {
    "affine": ((2, 3, 4, 5, 6, 8), (32, 64, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}


@dataclass(frozen=True, slots=True)
class PackedLayout:
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
class PackedRows:
    """Rows [out, in], or [experts, out, in], packed in `layout`."""

    weight: mx.array  # uint32 [..., out, in * bits / 32]
    scales: mx.array  # [..., out, in / group_size]
    layout: PackedLayout
    biases: mx.array | None = None  # affine only, as scales
    global_scale: mx.array | None = None  # nvfp4 only, one a matrix: the largest magnitude

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the numbers, unpacked."""
        *lead, words = self.weight.shape
        return *lead, words * 32 // self.layout.bits

    def floats(self, dtype: mx.Dtype) -> mx.array:
        """The numbers themselves."""
        group, bits, mode = self.layout.group_size, self.layout.bits, self.layout.mode
        if self.global_scale is not None and self.global_scale.ndim:  # mlx reads a stack's in products alone
            experts = zip(self.weight, self.scales, self.global_scale, strict=True)
            return mx.stack(
                [mx.dequantize(w, s, None, group, bits, mode, g, dtype).astype(dtype) for w, s, g in experts]
            )
        scales, biases = self.scales, self.biases
        if biases is not None:  # the arithmetic is done in their dtype
            scales, biases = scales.astype(dtype), biases.astype(dtype)
        return mx.dequantize(self.weight, scales, biases, group, bits, mode, self.global_scale, dtype).astype(dtype)

    def map(self, change: Callable[[mx.array], mx.array]) -> "PackedRows":
        """Packed rows with `change` done to each array that has rows."""
        biases = None if self.biases is None else change(self.biases)
        return PackedRows(change(self.weight), change(self.scales), self.layout, biases, self.global_scale)

    def arrays(self) -> dict[str, mx.array]:
        named = (("weight", self.weight), ("scales", self.scales), ("biases", self.biases))
        every = (*named, ("global_scale", self.global_scale))
        return {name: array for name, array in every if array is not None}


Matrix = mx.array | PackedRows


def arrays(matrix: Matrix) -> dict[str, mx.array]:
    """The arrays of a matrix by the names that checkpoints give them."""
    return matrix.arrays() if isinstance(matrix, PackedRows) else {"weight": matrix}


def cut(matrix: Matrix, start: int, stop: int, axis: int = 0) -> Matrix:
    """Rows [start, stop) of a matrix, a view; `axis` counts experts before rows."""
    rows = (slice(None),) * axis + (slice(start, stop),)
    return matrix.map(lambda part: part[rows]) if isinstance(matrix, PackedRows) else matrix[rows]


def join(matrices: Sequence[Matrix], axis: int = 0) -> Matrix | None:
    """The matrices as one, row after row; None where they are not packed alike."""
    packed = [m for m in matrices if isinstance(m, PackedRows)]
    plain = [m for m in matrices if not isinstance(m, PackedRows)]
    if not packed:
        return mx.concatenate(plain, axis=axis) if len({m.dtype for m in plain}) == 1 else None
    layout = packed[0].layout
    if plain or any(m.layout != layout or m.global_scale is not None for m in packed):
        return None
    weight, scales = (mx.concatenate([getattr(m, name) for m in packed], axis=axis) for name in ("weight", "scales"))
    biases = [m.biases for m in packed if m.biases is not None]
    return PackedRows(weight, scales, layout, mx.concatenate(biases, axis=axis) if biases else None)


def agreed(path: str, layout: PackedLayout, settings: Mapping[str, Any]) -> PackedLayout:
    """The layout that the tensors of a path have; CheckpointError where the configuration's quantisation says another.

    Its default does not bind where some paths have their own setting, and this one may have been left out.
    """
    own = settings.get(path, settings)
    if own is False:
        raise CheckpointError(f"config: quantization says that {path} is not packed, its tensors are")
    mixed = any(isinstance(value, dict) for value in settings.values())
    for name in ("group_size", "bits", "mode") if path in settings or not mixed else ():
        if own.get(name, getattr(layout, name)) != getattr(layout, name):
            raise CheckpointError(
                f"config: quantization says {name} = {own[name]} for {path}, its tensors say {getattr(layout, name)}"
            )
    return layout


class Tensors:
    """The tensors of a checkpoint, which leave `arrays` as they are taken, so that nothing holds them twice."""

    def __init__(
        self,
        arrays: dict[str, mx.array],
        quantization: Mapping[str, Any] | None = None,
        dense: mx.Dtype | None = None,
    ) -> None:
        self.arrays = arrays
        self._settings = dict(quantization or {})
        self._dense = dense

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
        """The matrix at `path` [..., out, in], packed or not; with `dense`, as numbers of that dtype."""
        if f"{path}.scales" not in self.arrays:
            array = self.take(f"{path}.weight", *shape)
            if array.dtype == mx.uint32:
                raise CheckpointError(f"weights: {path}.weight is packed but {path}.scales is missing")
            return array
        *lead, columns = shape
        if f"{path}.weight" not in self.arrays:
            raise CheckpointError(f"weights: {path}.scales is there but {path}.weight is missing")
        weight, scales = self.arrays.pop(f"{path}.weight"), self.arrays.pop(f"{path}.scales")
        biases, whole = self.arrays.pop(f"{path}.biases", None), self.arrays.pop(f"{path}.global_scale", None)
        layout = self._layout(path, columns, weight, scales, biases)
        packed = [*lead, columns * layout.bits // 32]
        grouped = [*lead, columns // layout.group_size]
        matrix = PackedRows(weight, scales, layout, biases, whole)
        for name, array in matrix.arrays().items():
            want = {"weight": packed, "global_scale": lead[:-1]}.get(name, grouped)
            if list(array.shape) != want:
                raise CheckpointError(f"weights: {path}.{name} must be {want} by the config, got {list(array.shape)}")
        if self._dense is None:
            return matrix
        numbers = matrix.floats(self._dense)
        mx.eval(numbers)  # now, so that the packed arrays can go
        return numbers

    def _layout(
        self, path: str, columns: int, weight: mx.array, scales: mx.array, biases: mx.array | None
    ) -> PackedLayout:
        group, remainder = divmod(columns, scales.shape[-1])
        if weight.dtype != mx.uint32 or weight.shape[-1] * 32 % columns or remainder or weight.ndim != scales.ndim:
            raise CheckpointError(
                f"weights: {path} is not a packed matrix of {columns} columns: weight {weight.dtype} "
                f"{list(weight.shape)}, scales {list(scales.shape)}"
            )
        bits = weight.shape[-1] * 32 // columns
        mode = "affine" if scales.dtype != mx.uint8 else "nvfp4" if group == 16 else "mxfp4" if bits == 4 else "mxfp8"
        if (mode == "affine") != (biases is not None):
            raise CheckpointError(
                f"weights: {path}.biases {'is missing' if biases is None else 'does not belong here'}"
            )
        return agreed(path, PackedLayout(group, bits, mode), self._settings)

    def done(self, allowed: tuple[str, ...] = ()) -> None:
        """Refuse tensors that no part of the model took."""
        refuse_left({name: array.shape for name, array in self.arrays.items() if name not in allowed})
        self.arrays.clear()


class BlankTensors(Tensors):
    """Zeros of whatever shape is asked for, in the place of a checkpoint."""

    def __init__(self) -> None:
        super().__init__({})

    def take(self, name: str, *shape: int) -> mx.array:
        return mx.zeros(shape)
