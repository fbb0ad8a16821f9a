"""Writer of files that outlive a power cut."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


def sync(file: int | Path) -> None:
    """Wait until what was written to a file, or to a folder, is on its disk. OSError where it cannot be.

    On macOS fsync leaves it in the disk's own buffer (fsync(2)); F_FULLFSYNC waits for that, too, and not every file
    system (a network's, FAT) knows it.
    """
    if isinstance(file, Path):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            sync(descriptor)
        finally:
            os.close(descriptor)
        return
    if (full := getattr(fcntl, "F_FULLFSYNC", None)) is not None:
        with suppress(OSError):
            fcntl.fcntl(file, full)
            return
    os.fsync(file)
