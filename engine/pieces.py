"""A computation in pieces: a generator that yields between them and returns what they came to. No mlx."""

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


def whole(pieces: Generator[Any, None, T]) -> T:
    """The end of a computation in pieces, where nobody needs a turn in between."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            value: T = end.value
            return value
