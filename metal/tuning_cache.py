"""What is known of the kernels on this chip: a file for one chip, one mlx and one text of the kernels."""

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from metal import kernel
from metal.device import device


@dataclass
class Record:
    """What the file holds."""

    chip: str
    mlx: str
    text: str  # digest of the kernels' text
    switched_off: dict[str, str] = field(default_factory=dict)
    faster: dict[str, bool] = field(default_factory=dict)  # by choice.key
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)


def folder() -> Path:
    """Where records are kept: LIKELY_KERNELS, or the user's cache folder."""
    if chosen := os.environ.get("LIKELY_KERNELS"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "likely" / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "likely" / "kernels"


def blank() -> Record:
    """A record of this chip, mlx and kernels that knows nothing yet."""
    texts = b"".join(path.read_bytes() for path in sorted(kernel.FOLDER.iterdir()))
    return Record(device().name, version("mlx"), hashlib.sha256(texts).hexdigest()[:16])


def path(record: Record) -> Path:
    chip = "-".join(record.chip.lower().split())
    return folder() / f"{chip}-mlx{record.mlx}-{record.text}.json"


def load() -> Record | None:
    """The record of an earlier run on this chip, with this mlx and these kernels; None if none can be read."""
    fresh = blank()
    try:
        found = Record(**json.loads(path(fresh).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if (found.chip, found.mlx, found.text) == (fresh.chip, fresh.mlx, fresh.text) else None


def save(record: Record) -> None:
    """Write it whole or not at all. A folder that cannot be written only costs the next start a second."""
    target = path(record)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(asdict(record), indent=1))
        scratch.replace(target)
    except OSError:
        pass
