"""The reader and writer of a person's files: one appears whole or not at all, and nothing but a file is ever replaced.

A link is followed, so that it stays one; a device or a pipe is written through, for whoever reads at its other end.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from engine.errors import DataError


def read_whole(path: Path, *, encoding: str = "utf-8", newline: str | None = None) -> str:
    """The text of a file in UTF-8, its line ends as `open` takes them with `newline`. Raises DataError."""
    try:
        with path.open(encoding=encoding, newline=newline) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write texts as a file in UTF-8. Raises DataError, with what was there before untouched, where that cannot be."""
    try:
        target = path.resolve()
        mode = target.stat().st_mode if target.exists() else 0
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(0, "it is a folder, and a file is wanted")
        if mode and not stat.S_ISREG(mode):
            with target.open("w", encoding="utf-8", newline="\n") as through:
                through.writelines(parts)
            return
        partial = target.with_name(target.name + ".partial")
        if partial.is_dir():
            raise IsADirectoryError(0, f"{partial.name} beside it is a folder: move it away")
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(parts)
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{path} was not written: {reason}") from error


def check_new_folder(folder: Path, option: str) -> None:
    """DataError, naming the option that gave it, where a folder of ours would lie in one that holds anything."""
    if not folder.name:
        raise DataError(f"{option} takes the name of a folder to make, got {str(folder)!r}")
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder} is not empty: choose another {option}")
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file, and {option} takes a folder: choose another {option}")
    except OSError as error:
        raise DataError(f"{folder} cannot be {option}: {error.strerror}") from error
