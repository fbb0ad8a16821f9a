"""Interruption by ctrl+c (SIGINT), by SIGTERM, with which systems end what runs, and by SIGHUP, when its terminal is
closed: all the same, for every verb.

The first ends what can end well: a run after its token, a training after its step, all else by KeyboardInterrupt, so
that what is open is closed. A second one while that is under way ends the process at once and in silence, however long
the first may take; only a terminal is told to be closed twice, by its shell and, once that has ended, by the system.
A signal that whoever started the program has it ignore stays ignored.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # exit code


class Interruption:
    """A handler: the first time it stops, the second time it ends the process, unless a terminal is closed once more.
    `came` is the signal, 0 before."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self.stop = stop
        self.came = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.came == number == signal.SIGHUP:
            return
        if self.came:
            os._exit(INTERRUPTED)
        self.came = number
        self.stop()


def interrupt() -> None:
    """Stop what looks at nothing meanwhile, such as a question to a person."""
    raise KeyboardInterrupt


def heard() -> list[signal.Signals]:
    """The signals that are not ignored."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _handle(handler: Any) -> list[tuple[signal.Signals, Any]]:
    """Let a handler have the signals that are heard; gives those that had them."""
    return [(number, signal.signal(number, handler)) for number in heard()]


def settle() -> Interruption:
    """Raise KeyboardInterrupt at the first signal, and end at the second. Whether one came is to be asked again: C code
    that calls Python may swallow the KeyboardInterrupt, or make another error of it."""
    interruption = Interruption(interrupt)
    _handle(interruption)
    return interruption


def leave() -> None:
    """The program is over: a signal ends the process as the system does, without a word of Python's."""
    _handle(signal.SIG_DFL)


@contextmanager
def stopped_by_signals(stop: Callable[[], object]) -> Iterator[Interruption]:
    """Within the block the first signal calls `stop`, which the work is to see, and the second ends the process.

    KeyboardInterrupt where one came before and was swallowed.
    """
    interruption = Interruption(stop)
    before = _handle(interruption)
    try:
        if any(isinstance(handler, Interruption) and handler.came for _, handler in before):
            raise KeyboardInterrupt
        yield interruption
    finally:
        for number, handler in before:
            signal.signal(number, handler)
