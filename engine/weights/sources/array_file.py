"""Named arrays as a safetensors file of our own: read with its header checked first, written whole or not at all.

Adapters, states of training, directions, lenses and prefixes are such files. Knows none of what they hold.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError, out_of_memory
from likely.engine.base.files.whole_file import put_whole
from likely.engine.weights.sources import safetensors
from likely.metal import mx


def read(path: Path) -> tuple[dict[str, mx.array], dict[str, str]]:
    """The arrays and the metadata of a file; CheckpointError if it is damaged, truncated or not there."""
    safetensors.read_header(path)
    try:
        loaded: Any = mx.load(str(path), format="safetensors", return_metadata=True)
        arrays, metadata = loaded
        mx.eval(arrays)
    except (RuntimeError, ValueError) as error:
        why = (str(error).splitlines() or ["damaged"])[0]
        raise out_of_memory(error) or CheckpointError(f"{path} cannot be read: {why}") from error
    return dict(arrays), {str(key): str(value) for key, value in metadata.items()}


def write(path: Path, arrays: Mapping[str, mx.array], metadata: Mapping[str, str] | None = None) -> None:
    """Write them; DataError where that cannot be, with what was there before untouched."""
    put_whole(path, lambda beside: mx.save_safetensors(str(beside), dict(arrays), dict(metadata or {})))
