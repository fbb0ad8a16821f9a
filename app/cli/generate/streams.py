"""Standard streams as a shell may leave them: closed, full, in an encoding of few letters, with a reader that has left.

Knows nothing of verbs.
"""

import io
import os
import resource
import sys
from contextlib import suppress
from typing import IO, Any

from likely.app.words.heat import harmless

FILES = 1024  # open at once: macOS has a program begin with 256; `select`, by which templates are waited for, ends here


class OutputError(OSError):
    """Standard output cannot be written, for another reason than that its reader has left."""


class _Naming(io.FileIO):
    """Standard output that says so where it cannot be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error


class _Terminal(io.TextIOWrapper):
    """A stream to which nothing but text and the program's own colours is written, whatever files hold."""

    def write(self, text: str) -> int:
        super().write(harmless(text))
        return len(text)


class _Dropping(io.FileIO):
    """A file that forgets what cannot be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def settle() -> None:
    """Make the three streams usable by the whole program.

    One that is closed is the empty device, so that no file of ours takes its number. What an encoding has no letter
    for is written as an escape, and ASCII becomes UTF-8, as click's own writers make it. What is said on stderr is
    never worth an answer: where it cannot be written it is dropped.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            _occupy(number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = "utf-8" if stream.encoding.lower() in ("ascii", "ansi_x3.4-1968", "us-ascii") else None
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _like(sys.stdout, io.BufferedWriter(_Naming(sys.stdout.fileno(), "w", closefd=False)))
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _like(sys.stderr, io.BufferedWriter(_Dropping(sys.stderr.fileno(), "w", closefd=False)))


def allow_files() -> None:
    """Let this process open as many files as Linux does: each connection, and each part of a model, is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FILES:
        with suppress(OSError, ValueError):  # what the system's owner has bounded stays so
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard if 0 <= hard < FILES else FILES, hard))


def _like(old: io.TextIOWrapper, file: io.BufferedWriter) -> io.TextIOWrapper:
    """A text stream that writes to a file as another one writes to its own; what goes to no terminal is data."""
    kind = _Terminal if old.isatty() or old is sys.__stderr__ else io.TextIOWrapper
    return kind(file, old.encoding, old.errors, line_buffering=old.line_buffering, write_through=old.write_through)


def _occupy(number: int) -> None:
    """Open the empty device under a number, if it is free."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)


def discard(stream: IO[str]) -> None:
    """Let what is left in a stream's buffer, and all that is written to it from now on, go nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
