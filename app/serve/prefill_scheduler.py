"""Line of the requests that read: of several long texts one piece is read, then those who draw have a turn.

Else whoever reads along would wait, between two tokens, for a piece of every prompt that has come meanwhile. Every
other piece is of who has read the fewest so far, so that a short text does not wait for long ones (least attained
service, Kleinrock 1976), and those between go round, so that nobody waits for ever. Runs in the worker's thread; knows
nothing of what is read.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from likely.app.jobs.worker import WORKED

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class ReadProgress:
    """A text that is being read: how many pieces of it were."""

    pieces: int = 0


class PrefillScheduler:
    """The requests that read, and whether one that draws has had a turn since the last piece."""

    def __init__(self) -> None:
        self._line: list[ReadProgress] = []  # who has waited longest first
        self._drawing = 0
        self._drawn = True
        self._round = False  # whether the next piece is of who has waited longest

    def read(self, pieces: Generator[Any, None, T]) -> Generator[Any, None, T]:
        """A computation in pieces as a part of a job: None for a turn in which it is another's turn to read."""
        reading = ReadProgress()
        self._line.append(reading)
        try:
            while True:
                while (self._drawing and not self._drawn) or self._next() is not reading:
                    yield None
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    result: T = end.value
                    return result
                finally:
                    reading.pieces += 1
                    self._drawn, self._round = False, not self._round
                    self._line.remove(reading)
                    self._line.append(reading)
                yield piece if isinstance(piece, tuple) else WORKED
        finally:
            self._line.remove(reading)
            pieces.close()

    def _next(self) -> ReadProgress:
        return self._line[0] if self._round else min(self._line, key=lambda reading: reading.pieces)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """A context in which a request draws; it calls `drew` after each turn."""
        self._drawing += 1
        try:
            yield
        finally:
            self._drawing -= 1

    def drew(self) -> None:
        """A request that draws had a turn: one piece may be read next."""
        self._drawn = True
