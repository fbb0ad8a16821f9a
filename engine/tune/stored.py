"""Stored adapters: an adapter directory as it is read, and files that land whole.

Knows no layout: see `adapters` for mlx-lm's and `peft` for PEFT's.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import DataError
from metal import mx

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
    scales: Mapping[str, float] = field(default_factory=dict)  # of the sites that have their own
    tied: bool = True  # a change of an embedding that is the head too is one of the head
    pissa: bool = False  # the largest singular directions of the base are to be subtracted


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, make it durable, and put it in place in one step.

    DataError where the disk is full or may not be written; what was at `path` is untouched then.
    """
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        descriptor = os.open(beside, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".")
        raise DataError(f"cannot write {path}: {reason}; make room or choose another --out") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, lambda beside: beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, mx.array], metadata: Mapping[str, str] | None = None) -> None:
    write_whole(path, lambda beside: mx.save_safetensors(str(beside), dict(arrays), dict(metadata or {})))
