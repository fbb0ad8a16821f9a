"""Stored adapters: an adapter directory as it is read, and files that land whole.

Knows no layout: see `adapters` for mlx-lm's and `peft` for PEFT's.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import put_whole
from likely.engine.weights.sources import array_file
from likely.engine.weights.sources.model_info import read_json
from likely.metal import mx

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter directory as read: arrays by mlx-lm's names.

    Those of PEFT's may have more: `shift` of a product's output (scaled as the change is), `bias` and `whole` in the
    place of a part's bias and weight, `base`, which is the weight of the base itself.
    """

    kind: str  # "lora" | "dora" | "full"
    arrays: dict[str, mx.array]
    scale: float
    layers: int
    dropout: float
    model: str  # what it was trained on, "" where the directory does not say
    data: str = ""  # on which rows, likewise
    map: tuple[str, ...] = ()  # THEIRS=OURS of their columns
    scales: Mapping[str, float] = field(default_factory=dict)  # of the sites that have their own
    tied: bool = True  # a change of an embedding that is the head too is one of the head
    pissa: bool = False  # the largest singular directions of the base are to be subtracted


def read_config(folder: Path, schema: foreign_json.Schema) -> dict[str, Any]:
    """The configuration in an adapter's directory; CheckpointError if there is none, or none by the schema."""
    holds = f"an adapter's directory, which has it and {WEIGHTS} (mlx-lm) or {PEFT_WEIGHTS} (PEFT)"
    return read_json(folder / CONFIG, schema, of=holds)


def read_factors(path: Path) -> dict[str, mx.array]:
    """The arrays of an adapter's file; CheckpointError where one holds no real numbers."""
    arrays, _ = array_file.read(path)
    for name, array in arrays.items():
        if not mx.issubdtype(array.dtype, mx.floating):
            raise CheckpointError(f"{path}: {name} holds {array.dtype}, floats expected")
    return arrays


def digest(folder: Path, names: Sequence[str] = (CONFIG, PEFT_WEIGHTS, WEIGHTS)) -> str:
    """A hash of the files of an adapter, or of those called `names`, that there are."""
    hasher = hashlib.sha256()
    for name in names:
        if (folder / name).exists():
            hasher.update(name.encode())
            with open(folder / name, "rb") as file:
                hasher.update(hashlib.file_digest(file, "sha256").digest())
            if name == PEFT_WEIGHTS:
                break  # what `read` takes; the other is not looked at
    return hasher.hexdigest()


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`put_whole` in a folder that is made if it is not there; DataError that says what to do."""
    with _advised(path):
        put_whole(path, write)


def copy_whole(source: Path, path: Path) -> None:
    write_whole(path, lambda beside: shutil.copyfile(source, beside))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, lambda beside: beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, mx.array], metadata: Mapping[str, str] | None = None) -> None:
    with _advised(path):
        array_file.write(path, arrays, metadata)


@contextmanager
def _advised(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(f"{path} was not written: {error.strerror}; choose another folder") from error
    except DataError as error:
        raise DataError(f"{error}; make room or choose another folder") from error
