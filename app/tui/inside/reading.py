"""Reading: a text that a model reads, and all that is known by now of what happens inside meanwhile.

Plain data without widgets: the view asks the engine and hands over what comes. Of attention one layer is kept, of the
rest what was found last; another text is another reading.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from likely.app.jobs.interpretability import InsideQuestion
from likely.app.tui.base.text import cells
from likely.app.tui.chat.candidates import LN2, Names
from likely.engine.decode.prompt import Prompt
from likely.engine.inside import questions
from likely.engine.inside.questions import InspectedModel, Lens

KEPT = 64  # answers to looks
T = TypeVar("T")


class LensTable:
    """The lens as far as it is known: arrays [layers + 1, N], and which positions have come."""

    def __init__(self, layers: int, n: int) -> None:
        self.known = np.zeros(n, bool)
        self.top = np.zeros((layers + 1, n), np.int32)
        self.rank = np.zeros((layers + 1, n), np.int32)
        self.said = np.zeros((layers + 1, n), np.int32)  # rank of the text's next token
        self.p = np.zeros((layers + 1, n), np.float32)
        self.kl = np.zeros((layers + 1, n), np.float32)  # bits
        self.best = np.zeros((layers + 1, n, 0), np.int32)  # of as many tokens as come with the first part
        self.shares = np.zeros((layers + 1, n, 0), np.float32)

    def take(self, part: Lens, first: int) -> None:
        """Positions that have come."""
        low = part.start - first
        span = slice(low, low + part.top.shape[1])
        if not self.best.size:
            shape = (*self.top.shape, part.best.shape[2])
            self.best, self.shares = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        for name in ("top", "p", "rank", "said", "best", "shares"):
            getattr(self, name)[:, span] = getattr(part, name)
        self.kl[:, span] = part.kl / LN2
        self.known[span] = True

    def decided(self) -> np.ndarray:
        """The row from which the most likely token stays what it is at last, [N]."""
        return questions.decided(self.top)

    def lens(self) -> Lens:
        """All of it, with KL in nats."""
        return Lens(self.top, self.p, self.kl * LN2, self.rank, self.best, self.shares, self.said)


@dataclass
class Reading:
    """One text, the position of the cursor in it, and what was found."""

    model: str
    prompt: Prompt
    names: Names
    after: int = 0  # tokens that stand after the position that is looked at first
    by_favourite: bool = False  # what is asked of the next token is asked of the model's favourite
    opened: InspectedModel | None = None
    position: int = 0
    lenses: dict[bool, LensTable] = field(default_factory=dict)  # by whether it is the tuned one
    answers: dict[InsideQuestion[Any], Any] = field(default_factory=dict)
    refused: dict[InsideQuestion[Any], str] = field(default_factory=dict)

    @property
    def ids(self) -> Sequence[int]:
        return self.opened.ids if self.opened is not None else ()

    @property
    def written(self) -> tuple[str, Sequence[int]]:
        """The text, and its tokens, without what a model puts before every text."""
        text = "".join(part for part in self.prompt.parts if isinstance(part, str)).strip()
        ways = (self.ids[start:] for start in range(len(self.ids)))
        own = next((ids for ids in ways if self._spelled(ids).strip() == text), self.ids)
        return self._spelled(own), own

    def _spelled(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.names.piece, ids)).decode(errors="replace")

    @property
    def first(self) -> int:
        """The first position that is looked at."""
        return self.opened.first if self.opened is not None else 0

    @property
    def extent(self) -> str:
        """How many tokens there are, and how many of them, the last, are looked at where that is not all."""
        looked = f"{len(self.ids) - self.first} of " if self.first else ""
        return f"{looked}{len(self.ids)} tokens"

    @property
    def target(self) -> int | None:
        """The token that is asked about: the one that comes next in the text; None for the favourite."""
        ends = self.position + 1 >= len(self.ids)
        return None if ends or self.by_favourite else self.ids[self.position + 1]

    def take(self, look: InsideQuestion[Any], event: Any) -> None:
        """Something was found."""
        if look.method == "opened":
            if self.opened is None:
                self.opened = event
                self.position = max(event.first, len(event.ids) - 1 - self.after)
            return
        if look.method == "lens":
            if self.opened is not None:
                shape = self.opened.layers, len(self.ids) - self.first
                self.lenses.setdefault(bool(look.args[0]), LensTable(*shape)).take(event, self.first)
            return
        if look.method == "pattern":  # one layer's heads are enough to hold
            self.answers = {other: answer for other, answer in self.answers.items() if other.method != "pattern"}
        while len(self.answers) >= KEPT:
            self.answers.pop(next(iter(self.answers)))
        self.answers[look] = event

    def has(self, look: InsideQuestion[Any]) -> bool:
        """Whether all that answers a look is known."""
        if look.method == "opened":
            return self.opened is not None
        if look.method == "lens":
            table = self.lenses.get(bool(look.args[0]))
            return table is not None and bool(table.known.all())
        return look in self.answers

    def answer(self, look: InsideQuestion[T]) -> T | None:
        """The answer to a question; None while there is none."""
        return self.answers.get(look)

    def move(self, by: int) -> None:
        """The cursor, as far as there is text that is looked at."""
        if self.opened is not None:
            self.position = min(max(self.position + by, self.first), len(self.ids) - 1)

    def name(self, token: int) -> str:
        return self.names.name(token)

    def name_at(self, position: int) -> str:
        """The token at a position, as a name."""
        return self.names.name(self.ids[position]) if 0 <= position < len(self.ids) else ""

    def token(self, text: str) -> int | None:
        """The token that is a word, after a space or as it is written; None where none is."""
        return next(iter(self.names.words(text)), None)

    def running(self, position: int) -> str:
        """The token at a position, as it stands in running text."""
        return self.names.running(self.ids[position])


def wrapped(texts: Sequence[str], width: int) -> list[list[int]]:
    """Running tokens in rows of at most `width` cells, by index."""
    rows: list[list[int]] = [[]]
    used = 0
    for index, text in enumerate(texts):
        size = cells.width(text)
        if used + size > width and rows[-1]:
            rows.append([])
            used = 0
        rows[-1].append(index)
        used += size
    return rows
