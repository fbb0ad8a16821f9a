"""Sheet: a rectangle of cells to draw on, of which a part can be given to whoever draws a panel.

What falls off the edge is cut, a wide character that does not fit is left out; a part shares its cells with the whole,
and has none where it would begin before it.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from rich.segment import Segment
from rich.style import Style

from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.line_widget import Line
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import Glyphs, Look, bar, shade

LEVELS = " ░▒▓█"  # of a tile, where there are no colours


class Canvas:
    """Cells of `width` x `height`, with the look that they are drawn in."""

    def __init__(self, width: int, height: int, look: Look, glyphs: Glyphs) -> None:
        self.width, self.height, self.look, self.glyphs = width, height, look, glyphs
        self._x = self._y = 0
        self._texts: list[list[str]] = [[" "] * width for _ in range(height)]
        self._inks: list[list[Style | None]] = [[None] * width for _ in range(height)]

    def part(self, x: int, y: int, width: int | None = None, height: int | None = None) -> Self:
        """The cells from (x, y) on, all of them or so many, as a sheet of their own."""
        sheet = object.__new__(type(self))
        sheet.look, sheet.glyphs = self.look, self.glyphs
        sheet._texts, sheet._inks = self._texts, self._inks
        sheet._x, sheet._y = self._x + x, self._y + y
        wide, high = (self.width - x, self.height - y) if min(x, y) >= 0 else (0, 0)
        sheet.width = max(0, wide if width is None else min(width, wide))
        sheet.height = max(0, high if height is None else min(height, high))
        return sheet

    def put(self, x: int, y: int, text: str, ink: Style | None = None, *, size: int | None = None) -> int:
        """Write a cleaned text, in `size` cells where that is given; gives the column after it."""
        if size is not None:
            text = cells.pad(text, size)
        if not 0 <= y < self.height:
            return x + cells.width(text)
        texts, inks = self._texts[self._y + y], self._inks[self._y + y]
        for cluster, wide in cells.clusters(text):
            if wide and x >= 0 and x + wide <= self.width:
                at = self._x + x
                texts[at], inks[at] = cluster, ink
                if wide == 2:
                    texts[at + 1], inks[at + 1] = "", ink
            x += wide
        return x

    def right(self, y: int, text: str, ink: Style | None = None, *, end: int | None = None) -> None:
        """Write a text that ends at the right edge, or before column `end`."""
        self.put((self.width if end is None else end) - cells.width(text), y, text, ink)

    def words(self, x: int, y: int, *parts: tuple[str, Style | None]) -> int:
        """Texts one after another, cut at the edge; gives the column after them."""
        for text, ink in parts:
            if x < self.width:
                x = self.put(x, y, cells.fit(text, self.width - x), ink)
        return x

    def heading(self, y: int, word: str, about: str = "", number: str = "") -> None:
        """A panel's first row: what it is, as far as there is room, and its one number at the right."""
        about = cells.fit(about, max(self.width - cells.width(word + number) - 4, 0)) if number else about
        self.words(0, y, (word, self.look.heading), (f"  {about}" if about else "", self.look.faint))
        if number:
            self.put(self.width - cells.width(number) - 1, y, " ")
            self.right(y, number, self.look.chosen)

    def row(self, y: int, name: str, share: float, number: str, *, ink: Style, fill: Style, left: int) -> None:
        """A name in `left` cells, the last of them blank, a bar, and its number at the right."""
        room = self.width - left - cells.width(number) - 2
        self.put(0, y, name, ink, size=left - 1)
        if room > 2:
            self.put(left, y, bar(share, room, self.glyphs), fill)
        self.right(y, number, ink)

    def signed(self, x: int, y: int, share: float, half: int) -> None:
        """A bar from the zero line in the middle of 2 half + 1 cells, to the right for a share 0 to 1, to the left, and
        grey, for one below 0."""
        if share < 0:
            full, rest = divmod(max(round(-share * half * 2), 1), 2)  # halves of a cell
            self.put(
                x + half - full - rest, y, self.glyphs.half * rest + self.glyphs.blocks[-1] * full, self.look.bar_cut
            )
        else:
            self.put(x + half + 1, y, bar(share, half, self.glyphs), self.look.bar)
        self.put(x + half, y, self.glyphs.tick, self.look.rule)

    def tile(self, x: int, y: int, share: float, *, size: int = 1, mark: str = "") -> None:
        """Cells without words, darker or brighter by a share 0 to 1; `mark` is put on the first of them."""
        tiles = self.look.tiles
        text = " " * size if tiles else LEVELS[round(min(max(share, 0.0), 1.0) * 4)] * size
        ink = shade(tiles, share) if tiles else None
        self.put(x, y, text, ink)
        if mark:
            self.put(x, y, mark, (ink or Style()) + self.look.tick)

    def dots(self, x: int, y: int, bits: np.ndarray, ink: Style) -> None:
        """Braille (`app.tui.base.plot.curve`), over what is there."""
        for row, column in np.argwhere(bits):
            self.put(x + int(column), y + int(row), chr(plot.BRAILLE + int(bits[row, column])), ink)

    def rule(self, x: int) -> None:
        """A vertical line."""
        for y in range(self.height):
            self.put(x, y, self.glyphs.tick, self.look.rule)

    def lines(self) -> Sequence[Line]:
        """The cells as rows of segments, neighbours of one ink together."""
        rows: list[Line] = []
        for texts, inks in zip(self._texts, self._inks, strict=True):
            line: list[Segment] = []
            start = 0
            for at in range(1, len(texts) + 1):
                if at == len(texts) or inks[at] is not inks[start]:
                    line.append(Segment("".join(texts[start:at]), inks[start]))
                    start = at
            rows.append(line)
        return rows


def chart(
    sheet: Canvas,
    xs: Sequence[float],
    curves: Sequence[tuple[np.ndarray, Style]],
    at: int | None,
    labels: Sequence[tuple[float, str]],
    axis: int = 7,
) -> None:
    """Curves over layers, the present one marked; `labels` are values in order and their names, the outermost of them
    the edges, whose names stand where there is no room for another.

    The last row names the layers.
    """
    width, height = sheet.width - axis, sheet.height - 1
    if width < 4 or height < 2:
        return
    values = [value for value, _ in labels]
    frame = plot.Frame(xs[0], xs[-1], min(values), max(values), width, height)
    named = {frame.row(value): name for value, name in (*labels[1:-1], labels[0], labels[-1])}
    for y in range(height):
        sheet.put(0, y, cells.pad(named.get(y, ""), axis - 2, right=True) + " ", sheet.look.faint)
        sheet.put(axis - 1, y, "┤" if y in named else sheet.glyphs.tick, sheet.look.rule)
    for ys, ink in curves:
        sheet.dots(axis, 0, plot.curve(frame, xs, ys), ink)
    if at is not None and curves:
        ys = curves[-1][0]
        sheet.put(axis + frame.column(xs[at]), frame.row(float(ys[at])), sheet.glyphs.knob, sheet.look.chosen)
    last = f"{xs[-1]:g}"
    for value in plot.ticks(xs[0], xs[-1], max(width // 8, 2)):
        name = f"{value:g}"
        column = frame.column(value)
        if column + len(name) < width - len(last) - 1:
            sheet.put(axis + column, height, name, sheet.look.faint)
    sheet.right(height, last, sheet.look.faint)


def rank_labels(largest: int) -> list[tuple[float, str]]:
    """Labels of a chart of -log10 rank, from 1 down to the power of ten that no rank passes."""
    powers = range(int(np.ceil(np.log10(max(largest, 10)))) + 1)
    return [(-float(k), f"{10**k:,}" if k < 3 else f"{10 ** (k - 3)} k") for k in powers]


def fold(text: str, width: int) -> list[str]:
    """A sentence in rows."""
    rows = [""]
    for word in cells.clean(text).split():
        if rows[-1] and cells.width(rows[-1]) + 1 + cells.width(word) > width:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".lstrip()
    return rows
