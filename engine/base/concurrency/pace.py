"""Pace of a long computation that is cut into turns: how much is done at once, by how long the last pieces took.

A model of a few million parameters reads a thousand tokens in the time in which one of some billions reads ten, so no
constant serves both. Knows nothing of what is computed, but that a unit of it costs about what the last ones did.
"""

import time
from collections import deque

from likely.metal import mx

TURN_S = 0.05  # seconds of a piece: half of what a turn may take, as the next can cost more than the last
FIRST = 16  # units of a piece before anything is known
LEAST = 8


def now() -> tuple[float, float]:
    """A moment, for `since`."""
    return time.perf_counter(), time.process_time()


def since(moment: tuple[float, float]) -> float:
    """Seconds that this process took since then: on a CPU not those in which others had the processor."""
    wall, worked = (after - before for after, before in zip(now(), moment, strict=True))
    return min(wall, worked) if mx.default_device() == mx.cpu else wall  # of a GPU the process knows nothing


class Pace:
    """The size of the next piece, a power of two, so that it seldom changes: rounding depends on it.

    Of the last few pieces the fastest counts: one that was held up says nothing of the next.
    """

    def __init__(self) -> None:
        self._unit_s: deque[float] = deque(maxlen=4)  # of the last pieces
        self._began = (0.0, 0.0)

    @property
    def size(self) -> int:
        """Units that take a turn."""
        if not self._unit_s:
            return FIRST
        most = int(TURN_S / max(min(self._unit_s), 1e-9))
        return max(LEAST, (1 << most.bit_length()) >> 1)

    def begin(self) -> None:
        """Start the clock of a piece; `took` stops it."""
        self._began = now()

    def took(self, units: int) -> None:
        """The piece is done, and another begins."""
        self._unit_s.append(since(self._began) / units)
        self.begin()
