"""Page: one way to look inside; what a text's view shows between the row of pages and the row of keys.

A page draws a reading on a sheet, says what it wants to know, and does what its keys say. It asks nobody: the view
does.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from likely.app.jobs.interpretability import InsideQuestion
from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.text.formula import Part
from likely.app.tui.inside.reading import Reading, wrapped

WIDE, TALL = 100, 30  # from which on a page shows all of its panels


Keys = tuple[tuple[str, str], ...]  # of a page, and what they do in a word


class Page:
    """The ground of all pages: each says the rest."""

    NAME: ClassVar[str]
    SENTENCE: ClassVar[str]  # what it answers
    SHORT: ClassVar[str]  # the same, where there is little room
    MAP: ClassVar[str] = "model"  # the map of p that its numbers belong to
    KEYS: ClassVar[Keys] = ()
    DOES: ClassVar[tuple[str, ...]] = ()  # actions of keys: methods that take the reading, and give a line of news
    ASKS: ClassVar[dict[str, str]] = {}  # those that take a line of text too, and what is asked for
    SETTLES: ClassVar[bool] = False  # what it wants costs too much to be asked at every step of the cursor

    def wants(self, at: Reading, width: int, height: int) -> InsideQuestion[Any] | None:
        """The next thing to know of a reading that is opened, if it is not known."""
        return None

    def keys(self, at: Reading | None, width: int) -> Keys:
        """The keys that act on what is shown, in so many columns."""
        return self.KEYS

    def draw(self, at: Reading, sheet: Canvas) -> None:
        raise NotImplementedError

    def move(self, at: Reading, dx: int, dy: int) -> None:
        """The cursor, by the arrows."""
        at.move(dx)

    def does(self, action: str, at: Reading) -> str:
        """One of `DOES`; gives a line of news, or none."""
        line: str = getattr(self, action)(at)
        return line

    def told(self, action: str, at: Reading, text: str) -> str:
        """One of `ASKS`, with what a person typed; gives a line of news, or none."""
        line: str = getattr(self, action)(at, text)
        return line

    def other(self, at: Reading) -> str:
        """Turn what is asked of the next token: of the word that was said, or of the favourite."""
        at.by_favourite = not at.by_favourite
        return "of the favourite" if at.by_favourite else "of the word that comes next in the text"

    def restart(self) -> None:
        """Another text is looked into: what belongs to a place of the old one is forgotten."""

    def formula(self, at: Reading) -> Sequence[Part]:
        return ()

    def export(self, at: Reading) -> tuple[str, Any] | None:
        """The look that is shown, by its name in `app.inside_tables`, and what the verb gives for it; None while that
        is not known."""
        return None

    def facts(self, at: Reading) -> tuple[str, ...]:
        """Of the model and the text, for the top line."""
        return (at.extent, f"{at.opened.layers} layers") if at.opened is not None else ()


def missing(at: Reading, look: InsideQuestion[Any]) -> bool:
    """Whether nothing is known of a look, not even why not."""
    return look not in at.answers and look not in at.refused


def told(sheet: Canvas, y: int, at: Reading, look: InsideQuestion[Any], words: str = "it is being computed") -> None:
    """In the place of what is not known: why not, or that it comes."""
    why = at.refused.get(look)
    for row, part in enumerate(fold(why or f"{words}…", sheet.width)):
        sheet.put(0, y + row, part, sheet.look.alarm if why else sheet.look.faint)


def shown_layers(count: int, rows: int) -> list[int]:
    """As many of `count` layers as fit into `rows`: all of the last ones, of the first every second, fifth, ..."""
    if count <= rows:
        return list(range(count))
    for stride in (2, 3, 5, 10, 20, 50):
        for tail in range(rows, 0, -1):
            early = range(0, count - tail, stride)
            if len(early) + tail <= rows:
                if tail >= rows // 3:
                    return [*early, *range(count - tail, count)]
                break
    return sorted({count - 1 - round(i * (count - 1) / max(rows - 1, 1)) for i in range(rows)})


def text_rows(at: Reading, width: int, most: int) -> list[list[int]]:
    """The running text in at most so many rows, those around the cursor, as positions."""
    positions = range(at.first, len(at.ids))
    rows = [[at.first + i for i in row] for row in wrapped([at.running(p) for p in positions], width)]
    here = next((i for i, row in enumerate(rows) if at.position in row), 0)
    start = min(max(here - most // 2, 0), max(len(rows) - most, 0))
    return rows[start : start + most]
