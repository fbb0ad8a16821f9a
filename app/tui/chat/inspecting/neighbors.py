"""Neighbours of a token in the model's embedding, as a table for the panel: cosines as rows are, and centred."""

from dataclasses import dataclass
from typing import ClassVar

from likely.app.tui.base.theme import Glyphs
from likely.app.tui.chat.candidates import Candidate, CandidateTable, Names
from likely.engine.inside.questions import Neighbourhood

NOTHING = (0, (0, 0), (0.0, 0.0), "", True, False)  # no sampling is meant


@dataclass(frozen=True, slots=True)
class Neighbours(CandidateTable):
    """The candidate table's place: the bar is the cosine after the mean row is taken off, the tick that of the rows."""

    words: str = ""
    OF: ClassVar[str] = "near it"
    HEADS: ClassVar[tuple[str, ...]] = ("rows %", "cos %")
    BAR: ClassVar[tuple[str, str]] = ("mean removed", "rows as they are")

    def share(self, row: Candidate) -> float:
        return row.after or 0.0

    def summary(self, glyphs: Glyphs) -> str:
        return self.words


def table(name: str, near: Neighbourhood | str | None, names: Names) -> Neighbours:
    """Of a token: what was found, why nothing was, or None while it is looked for."""
    if not isinstance(near, Neighbourhood):
        return Neighbours("NEAREST", name, near or "looking…", (), *NOTHING)
    rows = tuple(
        Candidate(token.id, names.name(token.id), raw, max(token.cosine, 0.0))
        for token, raw in zip(near.nearest, near.raw, strict=True)
    )
    words = f"all others: median {near.median:.2f}, 99 % below {near.below:.2f}"
    return Neighbours("NEAREST", name, "in the embedding", rows, *NOTHING, words)
