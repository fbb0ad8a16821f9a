"""A canvas as rows of text: masks are shaded cells as wide as their best guess, so that the text does not jump.

Pure; how the parts look is the widget's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from likely.app.tui.base.text import cells
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.denoising import CanvasCell, texts

SHADE, UNDER, END = "░", "▒", "∎"
UNKNOWN = 3  # cells of a mask that nobody has looked at


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a row that belongs to one position; `blank`: the space before its word."""

    text: str
    position: int
    blank: bool = False


@dataclass(frozen=True, slots=True)
class CanvasText:
    """The text of a position: blanks before its word, and the word; both may hold line breaks where it is decided."""

    position: int
    text: str


def spoken(shown: Sequence[CanvasCell], names: Names, special: frozenset[int]) -> list[CanvasText]:
    """The text of every position: of a mask, shades in the shape of its guess."""
    pieces = [b"" if c.token is None or c.token in special else names.piece(c.token) for c in shown]
    spoken_texts: list[CanvasText] = []
    for cell, text in zip(shown, texts(pieces), strict=True):
        if cell.token is None:
            apart = bool(spoken_texts) and not spoken_texts[-1].text.endswith((" ", "\n"))
            text = _shaded(None if cell.guess is None or cell.guess in special else names.piece(cell.guess), apart)
        elif cell.token in special:
            text = END
        spoken_texts.append(CanvasText(cell.position, cells.clean(text)))
    return spoken_texts


def _shaded(guess: bytes | None, apart: bool) -> str:
    if guess is None:
        return " " * apart + SHADE * UNKNOWN
    text = cells.clean(guess.decode(errors="replace"))
    word = text.strip(" \n\t")
    return (" " if text.startswith(" ") and word else "") + SHADE * max(cells.width(word), 1)


def rows(parts: Sequence[CanvasText], width: int) -> list[list[Piece]]:
    """The text in rows of so many cells, broken between words."""
    lines: list[list[Piece]] = [[]]
    used, indented = 0, False
    for word in _words(parts):
        if word[0].text == "\n":
            lines.append([])
            used, indented = 0, True
            continue
        size = sum(cells.width(piece.text) for piece in word)
        if used + size > width and used and not (word[0].blank and len(word) == 1):
            lines.append([])
            used, indented = 0, False
        if not used and word[0].blank and not indented:  # a row does not begin with the space that broke it
            word = word[1:]
        for piece in word:
            for text, wide in cells.clusters(piece.text):
                if used + wide > width and used:
                    lines.append([])
                    used = 0
                _append(lines[-1], Piece(text, piece.position, piece.blank))
                used += wide
    return lines


def _append(row: list[Piece], piece: Piece) -> None:
    if row and (row[-1].position, row[-1].blank) == (piece.position, piece.blank):
        row[-1] = Piece(row[-1].text + piece.text, piece.position, piece.blank)
    else:
        row.append(piece)


def _words(parts: Sequence[CanvasText]) -> Iterator[list[Piece]]:
    """Words with the blanks before them, each maybe of several positions; a line break by itself."""
    word: list[Piece] = []
    for piece in parts:
        for run in cells.runs(piece.text):
            blank = not run.strip(" \t\n\u00a0")
            if (run == "\n" or blank) and word:
                yield word
                word = []
            if run == "\n":
                yield [Piece("\n", piece.position)]
            else:
                word.append(Piece(run.replace("\t", " " * cells.TAB), piece.position, blank))
    if word:
        yield word


def wrapped(text: str, width: int) -> list[str]:
    """Words that are no canvas, in rows."""
    return ["".join(piece.text for piece in row) for row in rows([CanvasText(0, cells.clean(text))], width)]


def place_of(laid: Sequence[Sequence[Piece]], position: int) -> tuple[int, int] | None:
    """Row and column of a position's word; None where it has no cells."""
    for y, row in enumerate(laid):
        x = 0
        for piece in row:
            if piece.position == position and not piece.blank:
                return y, x
            x += cells.width(piece.text)
    return None


def position_at(row: Sequence[Piece], column: int) -> int | None:
    """The position whose word lies at a column of a row, or nearest to it."""
    x, best = 0, None
    for piece in row:
        size = cells.width(piece.text)
        away = max(x - column, column - (x + size - 1), 0)
        if not piece.blank and (best is None or away < best[0]):
            best = away, piece.position
        x += size
    return best[1] if best is not None else None
