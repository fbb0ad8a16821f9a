"""Several processes that work on one model or one task (`mx.distributed`).

Read first: together.py. Uses: files.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Ranks(Protocol):
    """This process among the others. Rank 0 leads: what it says holds for all."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def leads(self) -> bool: ...

    @property
    def group(self) -> Any:
        """The group of `mx.distributed`, opened by whoever asks first; every rank has to, soon after they met."""
        ...

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value (what JSON can hold) on every rank; every rank calls it, the others with what they have."""
        ...

    def send(self, value: Any) -> None:
        """Tell rank 0 a value (what JSON can hold), from another rank."""
        ...

    def heard(self, *, wait: bool = False) -> Iterator[Any]:
        """On rank 0, what other ranks have sent by now, each rank's in its order; with `wait`, one value or more."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value (what JSON can hold), by rank, on every rank; every rank calls it, and waits for all."""
        ...

    def in_turn(self, work: Callable[[], T]) -> T:
        """Result of `work`, done by rank 0 before the others begin: what it fetched, they find."""
        ...


_joined: Ranks | None = None


def joined() -> Ranks | None:
    """The ranks that this process has met (`together.join`); None if it is alone."""
    return _joined
