"""A computation in pieces: a generator that yields between them and returns what they came to. No mlx.

A piece that is None did nothing but wait for a thread.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

GLANCE_S = 0.005  # between two looks at what is waited for: looking without a rest keeps the thread from its work

T = TypeVar("T")


def whole(pieces: Generator[Any, None, T]) -> T:
    """The end of a computation in pieces, where nobody needs a turn in between."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            value: T = end.value
            return value
        if piece is None:
            time.sleep(GLANCE_S)
