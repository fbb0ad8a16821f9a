"""A model's weights from a folder in Hugging Face's layout: safetensors, one file or shards, plain or mlx-quantised.

The headers are checked first; then mlx reads the tensors lazily and they are converted one by one, so that the peak is
the weights and one tensor. On a GPU nothing is read before the first layers need it.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from likely.engine.base.errors import CheckpointError, out_of_memory
from likely.engine.weights.sources import safetensors
from likely.engine.weights.sources.gguf import partial_read
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.model_info import weight_files
from likely.metal import mx

if TYPE_CHECKING:
    from likely.models.parallel.shard import Sharding

FLOATS = (mx.float32, mx.float16, mx.bfloat16)
SPARE = 8 << 20  # bytes that mlx may keep for reuse while a model is being put together
STORED = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


def stored_dtype(folder: Path) -> mx.Dtype:
    """The floating-point dtype of most tensors, scales included; float32 where there is none."""
    dtypes = [t.dtype for file in weight_files(folder) for t in safetensors.read_header(file).values()]
    return STORED[max(STORED, key=dtypes.count)]


def read_weights(folder: Path, precision: Precision) -> Iterator[tuple[str, mx.array]]:
    """The weights by name, quantised matrices as they are stored."""
    lazy: dict[str, mx.array] = {}
    for file in weight_files(folder):
        safetensors.read_header(file)
        try:
            lazy.update(mx.load(str(file)))  # type: ignore[arg-type]
        except RuntimeError as error:
            raise CheckpointError(f"{file.name} cannot be read: {str(error).splitlines()[0]}") from error
    for name in [*lazy]:
        array = lazy.pop(name)
        if array.dtype in FLOATS and array.dtype != precision.dtype:
            array = array.astype(precision.dtype)
        if mx.default_device() == mx.cpu:
            _evaluate(array)
        yield name, array


def tensor_names(folder: Path) -> list[str]:
    """The names of all tensors."""
    return [name for file in weight_files(folder) for name in safetensors.read_header(file)]


def read_share(folder: Path, precision: Precision, share: "Sharding") -> dict[str, mx.array]:
    """One rank's tensors by the names that they have there; nothing else is read."""
    arrays: dict[str, mx.array] = {}
    for path in weight_files(folder):
        header = safetensors.read_header(path)
        with open(path, "rb") as file:
            for name, stored in header.items():
                if (placed := share.place(name)) is None:
                    continue
                ours, cut = placed
                shape, size = list(stored.shape), safetensors.SIZES[stored.dtype]
                axis, ranges = (0, None) if cut is None else (cut.axis, cut.within(name, shape[cut.axis]))
                raw = partial_read.read(file, name, stored.offset, shape, size, axis, ranges)
                if ranges is not None:
                    shape[axis] = sum(end - start for start, end in ranges)
                arrays[ours] = array = array_of(raw, stored.dtype, shape)
                if array.dtype in FLOATS and array.dtype != precision.dtype:
                    arrays[ours] = array.astype(precision.dtype)
                mx.eval(arrays[ours])
    return arrays


def array_of(raw: np.ndarray, dtype: str, shape: Sequence[int]) -> mx.array:
    """The tensor whose bytes these are."""
    if dtype == "BF16":
        return mx.array(raw.view(np.uint16).reshape(shape)).view(mx.bfloat16)
    kind = "?" if dtype == "BOOL" else f"<{dtype[0].lower()}{safetensors.SIZES[dtype]}"
    if dtype.startswith("F8"):  # its bytes, as mlx has them
        kind = "u1"
    return mx.array(raw.view(kind).reshape(shape))


def settled(arrays: Iterable[mx.array]) -> Iterator[bool]:
    """Compute a model's arrays one at a time, so that what they are made of is never held beside all of them.

    CheckpointError where a file that they are read from has changed since it was checked.
    """
    for array in arrays:
        _evaluate(array)
        if mx.get_cache_memory() > SPARE:
            mx.clear_cache()
        yield True


def _evaluate(array: mx.array) -> None:
    """Compute the array now: reading a file that has changed since its header was checked ends here."""
    try:
        mx.eval(array)
    except RuntimeError as error:
        raise out_of_memory(error) or CheckpointError(
            f"the weights cannot be read: {str(error).splitlines()[0]}"
        ) from error
