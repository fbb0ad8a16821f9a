"""Line of the requests that read: of several long texts one piece is read, then those who draw have a turn.

Else whoever reads along would wait, between two tokens, for a piece of every prompt that has come meanwhile. Runs in
the worker's thread; knows nothing of what is read.
"""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from app.worker import WORKED

T = TypeVar("T")


class ReadingLine:
    """Who reads, the next first, and whether somebody has drawn since the last piece."""

    def __init__(self) -> None:
        self._line: deque[object] = deque()
        self._drawing = 0
        self._drawn = True

    def read(self, pieces: Generator[Any, None, T]) -> Generator[Any, None, T]:
        """A computation in pieces as a part of a job: None for a turn in which it is another's turn to read."""
        place = object()
        self._line.append(place)
        try:
            while True:
                while self._line[0] is not place or (self._drawing and not self._drawn):
                    yield None
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    found: T = end.value
                    return found
                finally:
                    self._drawn = False
                    self._line.rotate(-1)
                yield piece if isinstance(piece, tuple) else WORKED
        finally:
            self._line.remove(place)
            pieces.close()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Whoever is in here draws, and says so (`drew`)."""
        self._drawing += 1
        try:
            yield
        finally:
            self._drawing -= 1

    def drew(self) -> None:
        """Somebody who draws had a turn."""
        self._drawn = True
