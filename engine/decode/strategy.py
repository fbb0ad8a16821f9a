"""What every way of decoding offers: an iterator of steps from a place in the tree. Knows no particular way."""

from collections.abc import Generator
from typing import Protocol

from engine.decode.control import RunControl
from engine.decode.cursor import Cursor
from engine.trace.trace import TokenStep
from engine.transforms import Vocabulary


class Strategy(Protocol):
    """How tokens are found; a frozen dataclass of its settings."""

    def steps(
        self, cursor: Cursor, control: RunControl, *, seed: int, limit: int, vocabulary: Vocabulary | None = None
    ) -> Generator[TokenStep, None, None]:
        """At most `limit` steps, without their text; closing the iterator leaves the cursor at the last one given."""
        ...
