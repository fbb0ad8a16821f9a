"""Locks: one process at a time writes in a folder, and whoever comes second is told who does.

`claimed` is for a folder that is written in, `aside` for a file or a folder that is made, `locked` for any other name.
A lock is the system's (`metal.lock`) on a file in which its holder says who it is: it ends with the process that holds
it, however that ends, and what a kill leaves behind locks nothing. Knows nothing of what is written.
"""

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.metal.lock import lock

FILE = ".lock"
HOLDER = {"process": int, "host": str, "verb": str, "since": str}
LONGEST = 1000  # bytes of a holder
MISSES = 1000  # times that others come between before a folder is one that nobody can make
Wait = Callable[[str], None] | None  # told who holds a lock that is waited for; None: it is not waited for


class LockTaken(DataError):
    """A lock that another process holds, or another part of this one."""


def silent(held: str) -> None:
    """A wait that needs no words: it is short."""


@contextmanager
def claimed(folder: Path, verb: str, option: str = "", *, wait: Wait = None) -> Iterator[None]:
    """Be the only one that writes in a folder, which is made where there is none, and is gone again where nothing was
    written.

    Raises LockTaken with its holder, or tells `wait` who that is and waits; DataError where the folder cannot be
    written or its disk has no locks. Both name the `option` by which another folder is chosen.
    """
    new = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    try:
        with _held(folder, folder / FILE, verb, option, wait):
            yield
    finally:
        with suppress(OSError):  # the first that holds something, or whose disk lets nothing go
            for one in new:
                one.rmdir()


@contextmanager
def aside(target: Path, verb: str, option: str) -> Iterator[Path]:
    """A new folder beside `target`, for what will be put there by a rename once it is whole; gone in the end.

    Errors as `claimed`, of `target`; OSError as the disk gives it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    with _held(target, target.with_name(f".{target.name}{FILE}"), verb, option):
        shutil.rmtree(partial, ignore_errors=True)  # what a run that was killed has left
        try:
            partial.mkdir()
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(file: Path, verb: str, *, wait: Wait = None) -> Iterator[None]:
    """Hold the lock of a file, which is there for as long; tell `wait` of its holder and wait, or raise LockTaken.

    DataError where the file or its folder cannot be made, and on a disk without locks.
    """
    try:
        descriptor = _open(file, wait)
    except OSError as error:
        made = (
            f"{'lock' if os.path.lexists(file) else 'write'} {file}" if file.parent.is_dir() else f"make {file.parent}"
        )
        raise DataError(f"cannot {made}: {error.strerror}") from None
    try:
        with suppress(OSError):  # a full disk: it is held all the same
            owner = {"process": os.getpid(), "host": platform.node(), "verb": verb, "since": f"{datetime.now():%F %R}"}
            os.write(descriptor, json.dumps(owner).encode())
        yield
    finally:
        with suppress(OSError):
            file.unlink()  # before it is let go: whoever waits for it sees that its name is another file's
        os.close(descriptor)


@contextmanager
def _held(path: Path, file: Path, verb: str, option: str, wait: Wait = None) -> Iterator[None]:
    """A lock whose errors are about the path that it is for."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(file, verb, wait=wait))
        except LockTaken as error:
            raise LockTaken(f"{path} is taken: {error}; wait for it{_other(option, ', or')}") from None
        except DataError as error:
            raise DataError(f"{error}{_other(option)}") from None
        yield


def _other(option: str, word: str = ";") -> str:
    return f"{word} choose another {option}" if option else ""


def _open(file: Path, wait: Wait) -> int:
    """A descriptor of a new file of that name, locked. Nothing is written into what was there, a link perhaps."""
    for missed in count():
        new = not os.path.lexists(file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            how = os.O_CREAT | os.O_EXCL if new else os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(file, os.O_RDWR | how, 0o666)
        except (FileExistsError, FileNotFoundError):  # another has made it meanwhile, or let it go, its folder too
            if missed > MISSES:
                raise
            continue
        try:
            _lock(descriptor, wait)
            if os.path.samestat(os.lstat(file), os.fstat(descriptor)):
                if new:
                    return descriptor
                file.unlink()  # of a process that is gone
        except FileNotFoundError:  # its holder has let it go
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise AssertionError("it is locked, or an error says why not")


def _lock(descriptor: int, wait: Wait) -> None:
    if not lock(descriptor, wait=False):
        if wait is None:
            raise LockTaken(_holder(descriptor))
        wait(_holder(descriptor))
        lock(descriptor, wait=True)


def _holder(descriptor: int) -> str:
    """Who holds a lock, in words."""
    try:
        held = foreign_json.parse(os.read(descriptor, LONGEST), HOLDER)
    except (OSError, ValueError):  # it has just begun, or its disk is full
        return "another process writes there"
    where = "" if held["host"] == platform.node() else f" on {held['host']}"
    return f"process {held['process']}{where} ({held['verb']}) has written there since {held['since']}"
