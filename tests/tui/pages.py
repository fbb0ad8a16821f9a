"""Pages of the inside view without an app: a scripted reading, a sheet as text beside the names of its inks.

A picture of a page is a file of scenes, each its characters and, below them, a letter for the ink of each cell: a dot
for none.
"""

from dataclasses import dataclass

from rich.style import Style

from app import looks
from app.tui import theme
from app.tui.chat.candidates import Names
from app.tui.inside.page import Page
from app.tui.inside.reading import Reading
from app.tui.inside.sheet import Sheet
from app.tui.theme import GLYPHS
from app.tui.tokens import cells
from engine.prompt import Prompt
from tests.tui.inks import letters

PIECES = (
    "Once", " upon", " a", " time", "\n", " there", " lived", " king", " woman", " man", " queen", "日", "é", "\t",
    " red", " blue", " green", " sky", " cat", " dog", " Paris", " Rome", "extraordinarily", "ly", ",", ".", " Berlin",
    " runs", " ran", " walks", " walked", " slow", " fast", " brother", " sister", "s", " of", " the",
)  # fmt: skip
NAMES = Names(tuple(piece.encode() for piece in PIECES))
TEXT = (0, 1, 2, 3, 24, 4, 5, 6, 2, 7, 37, 11, 12, 23, 25, 10, 37, 17, 14, 13, 22, 24, 8, 9)
LAYERS, HEADS = 12, 6
LOOKS = {
    "true": theme.look(theme.DARK.to_color_system().generate() | theme.DARK.variables, "true"),
    "plain": theme.look({}, "plain"),
}


def reading(
    ids: tuple[int, ...] = TEXT, *, first: int = 0, layers: int = LAYERS, tuned: bool = True, kv_heads: int = 3
) -> Reading:
    """A text that is opened, and of which nothing more is known."""
    at = Reading("m", Prompt(), NAMES)
    at.take(looks.OpenLook(), looks.TextOpened(ids, first, layers, HEADS, kv_heads, 16, 64, False, tuned))
    return at


def number(*of: int) -> float:
    """A share from 0 to 1 of some whole numbers, with no order in it."""
    mixed = 0
    for each in of:
        mixed = (mixed * 131 + each * 577 + 71) * (mixed + 3 * each + 5) % 1009
    return mixed / 1008


@dataclass(frozen=True)
class Scene:
    """A page and a reading as they are to be drawn, and on how many cells."""

    title: str
    page: Page
    at: Reading
    size: tuple[int, int]
    colours: str = "true"

    def text(self) -> str:
        """The picture."""
        width, height = self.size
        sheet = Sheet(width, height, LOOKS[self.colours], GLYPHS)
        self.page.draw(self.at, sheet)
        return f"== {self.title}, {width} x {height}\n{described(sheet)}"


def described(sheet: Sheet) -> str:
    """A sheet's rows, and those of its inks."""
    inks_of: dict[Style | None, str] = {None: ".", **letters(sheet.look)}
    texts, inks = [], []
    for line in sheet.lines():
        texts.append("".join(segment.text for segment in line))
        inks.append("".join(inks_of[segment.style] * cells.width(segment.text) for segment in line))
        assert cells.width(texts[-1]) == len(inks[-1]) == sheet.width
    return "\n".join([*(text.rstrip() for text in texts), "--", *(ink.rstrip(".") for ink in inks)])
