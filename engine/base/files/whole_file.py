"""The reader and writer of a person's files: one appears whole or not at all, and nothing but a file is ever replaced.

A link is followed, so that it stays one; a device or a pipe is written through, for whoever reads at its other end.
"""

import os
import stat
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from likely.engine.base.errors import DataError
from likely.metal import durable

LARGEST = 1 << 28  # bytes of a text that is read whole: it takes up to five times as much memory
ROWS = 1 << 32  # of a file that is read a row at a time
AT_ONCE = 1 << 20  # bytes: memory is taken for as many, however small the file is


def open_file(path: Path, largest: int = ROWS) -> BufferedReader:
    """A file for its bytes. Raises OSError, and DataError for one of more than `largest` bytes and for a device that
    may never end: only a file, a pipe or a terminal is read."""
    file = path.open("rb")
    status = os.fstat(file.fileno())
    mode = status.st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or file.isatty()):
        file.close()
        raise DataError(f"cannot read {path}: it is a device, and a file is wanted")
    if stat.S_ISREG(mode) and status.st_size > largest:
        file.close()
        raise _too_large(str(path), largest)
    return file


def read_whole(path: Path, *, encoding: str = "utf-8", newline: str | None = None, largest: int = LARGEST) -> str:
    """The text of a file in UTF-8, its line ends as `open` takes them with `newline`.

    Raises DataError for what is no text, for more than `largest` bytes, and for what `open_file` refuses.
    """
    try:
        with open_file(path, largest) as file:
            text = read_bounded(file, str(path), largest).decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8: {error.reason} at byte {error.start}") from None
    except (OSError, ValueError) as error:  # ValueError: a name that holds a zero
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return text if newline == "" else text.replace("\r\n", "\n").replace("\r", "\n")


def refuse_pipe(path: Path) -> None:
    """DataError for a pipe that has a name: opening it waits for whoever has its other end, as a screen cannot."""
    try:
        piped = path.is_fifo()
    except OSError:  # it is told where it is opened
        return
    if piped:
        raise DataError(f"{path} is a pipe, and a file is wanted")


def read_bounded(file: IO[bytes], name: str, largest: int = LARGEST) -> bytes:
    """All of an open file; DataError with its name where that is more than `largest` bytes, however many more."""
    parts, remaining = [], largest + 1
    while remaining and (part := file.read(min(remaining, AT_ONCE))):
        parts.append(part)
        remaining -= len(part)
    if not remaining:
        raise _too_large(name, largest)
    return b"".join(parts)


def _too_large(name: str, largest: int) -> DataError:
    return DataError(f"cannot read {name}: it has more than {largest / 1e6:,.0f} MB")


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write texts as a file in UTF-8, as `put_whole` does; a device or a pipe is written through."""

    def write(to: Path) -> None:
        with to.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)

    try:
        mode = path.stat().st_mode if path.exists() else 0
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            write(path)
            return
    except (OSError, RuntimeError) as error:
        raise _unwritten(path, error) from error
    put_whole(path, write)


def put_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, with its suffix, make it durable, and put it in place in one step.

    Raises DataError, with what was there before untouched, where that cannot be.
    """
    try:
        target = path.resolve()  # a link stays one
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder, and a file is wanted")
        if target.exists() and not target.is_file():
            raise OSError(0, "it is a device or a pipe, and a file is wanted")
        partial = target.with_name(f"{target.stem}.partial{target.suffix}")
        if partial.is_dir():
            raise IsADirectoryError(0, f"{partial.name} beside it is a folder: move it away")
        partial.unlink(missing_ok=True)  # whatever it is: through a link of that name another file would be written
        try:
            write(partial)
            durable.sync(partial)
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, mlx's own writer; a zero in a name
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    if "Unable to write" in reason or " requested and " in reason:  # mlx's writer does not know why, nor does numpy's
        reason = "its disk took only a part: is it full?"
    return DataError(f"{path} was not written: {reason}")


def check_readable(folder: Path) -> None:
    """DataError where a folder may not be looked into: to whoever asks it would seem empty."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from error


def make_folder(folder: Path, option: str) -> None:
    """DataError, naming the option that gave it, where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {folder}: {error.strerror}; choose another {option}") from None


def check_new_file(file: Path, option: str) -> None:
    """DataError, naming the option that gave it, where a model's file would take the place of anything."""
    if file.exists():
        raise DataError(f"{file} exists already: choose another {option} or remove it")


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
