"""Records of the kernels on this chip: a file for one chip, system, mlx and text of the kernels and their host code."""

import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from likely.metal import durable, kernel, lock
from likely.metal.device import device

HOST = Path(__file__).parent  # the Python that chooses variants, grids and splits: what was measured holds for it only


@dataclass
class Record:
    """All that is known: what was compared and timed, what is off, and what was begun."""

    chip: str
    system: str  # whose Metal compiler and driver it is
    mlx: str
    text: str  # digest of the kernels' text and of the Python around them
    verdicts: dict[str, str] = field(default_factory=dict)  # by the name of a comparison, in words
    switched_off: dict[str, str] = field(default_factory=dict)  # by `kernel.variant`, why
    faster: dict[str, bool] = field(default_factory=dict)  # by `dispatch.name`
    timings: list[dict[str, Any]] = field(default_factory=list)
    begun: dict[str, int] = field(default_factory=dict)  # how often a comparison or timing was begun and did not end


def folder() -> Path:
    """Where records are kept: LIKELY_KERNELS, or the user's cache folder."""
    if chosen := os.environ.get("LIKELY_KERNELS"):
        return Path(chosen)
    home = os.path.expanduser("~")
    own = Path(home if os.path.isabs(home) else tempfile.gettempdir())  # a user of whom no home is known
    if sys.platform == "darwin":
        return own / "Library" / "Caches" / "likely" / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or own / ".cache") / "likely" / "kernels"


def blank() -> Record:
    """A record of this chip, system, mlx and code that knows nothing yet."""
    # by their endings: what a Finder or an editor leaves beside them is none of them
    files = [*kernel.FOLDER.glob("[!.]*.metal"), *kernel.FOLDER.glob("[!.]*.h"), *HOST.glob("[!.]*.py")]
    texts = b"".join(path.read_bytes() for path in sorted(files))
    system = platform.mac_ver()[0] or platform.release()
    return Record(device().name, system, version("mlx"), hashlib.sha256(texts).hexdigest()[:16])


def path(record: Record) -> Path:
    chip = "-".join(record.chip.lower().split())
    return folder() / f"{chip}-{record.system}-mlx{record.mlx}-{record.text}.json"


def load() -> Record | None:
    """The record of an earlier run on this chip and system, with this mlx and code; None if none can be read."""
    fresh = blank()
    try:
        known = Record(**json.loads(path(fresh).read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    same = all(getattr(known, name) == getattr(fresh, name) for name in ("chip", "system", "mlx", "text"))
    return known if same else None


def save(record: Record) -> None:
    """Write it whole or not at all, and to the disk itself. Where that cannot be, the next start does it all again."""
    target = path(record)
    scratch = target.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with scratch.open("w") as file:
                json.dump(asdict(record), file, indent=1)
                file.flush()
                durable.sync(file.fileno())
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)


def forget() -> bool:
    """Remove the record; whether there was one."""
    target = path(blank())
    known = target.exists()
    target.unlink(missing_ok=True)
    return known


@contextmanager
def alone(waiting: Callable[[], None]) -> Iterator[None]:
    """A block that one process at a time is in; `waiting` is called again and again until the others have left."""
    with ExitStack() as held:
        with suppress(OSError):  # a folder that cannot be written, a disk without locks
            folder().mkdir(parents=True, exist_ok=True)
            held.enter_context(lock.alone(folder() / "lock", waiting))
        yield
