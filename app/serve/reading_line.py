"""Line of the requests that read: of several long texts one piece is read, then those who draw have a turn.

Else whoever reads along would wait, between two tokens, for a piece of every prompt that has come meanwhile. A brief
text does not stand in line: but of two pieces in a row one is that of a longer text, where one waits. Runs in the
worker's thread; knows nothing of what is read.
"""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from likely.app.worker import WORKED

T = TypeVar("T")


class ReadingLine:
    """Who reads, the next first, and whether somebody has drawn since the last piece."""

    def __init__(self) -> None:
        self._line: deque[object] = deque()
        self._drawing = 0
        self._drawn = True
        self._passed = False  # whether the last piece was a brief text's

    def read(self, pieces: Generator[Any, None, T], *, brief: bool = False) -> Generator[Any, None, T]:
        """A computation in pieces as a part of a job: None for a turn in which it is another's turn to read."""
        place = object()
        if not brief:
            self._line.append(place)
        try:
            while True:
                while (self._drawing and not self._drawn) or (
                    self._passed and bool(self._line) if brief else self._line[0] is not place
                ):
                    yield None
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    found: T = end.value
                    return found
                finally:
                    self._drawn, self._passed = False, brief
                    if not brief:
                        self._line.rotate(-1)
                yield piece if isinstance(piece, tuple) else WORKED
        finally:
            if not brief:
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
