"""A chart of curves over steps, drawn cell by cell: a quiet axis, braille lines, points with their error bars."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from rich.segment import Segment
from rich.style import Style

from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.drawing.plot import EMPTY, Mark, Picture
from likely.app.tui.base.text import cells

AXIS = 7  # cells of the labels at the left, their tick included
BAR, POINT, BEST, CUT = "│", "●", "◆", "┊"
ROOM = 4  # cells between two marks


class Board:
    """Cells that later things are drawn over: a character and the index of an ink in each."""

    def __init__(self, width: int, height: int) -> None:
        self.glyphs = np.full((height, width), ord(" "))
        self.inks = np.zeros((height, width), int)
        self.names = [""]

    def _ink(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def draw(self, bits: np.ndarray, ink: str) -> None:
        there = bits > 0
        self.glyphs[there] = plot.BRAILLE + bits[there].astype(int)
        self.inks[there] = self._ink(ink)

    def put(self, row: int, column: int, glyph: str, ink: str) -> None:
        self.glyphs[row, column] = ord(glyph)
        self.inks[row, column] = self._ink(ink)

    def runs(self, row: int) -> Iterator[tuple[str, str]]:
        """A row as (text, ink), neighbours of one ink together."""
        inks = self.inks[row]
        edges = [0, *(np.flatnonzero(np.diff(inks)) + 1).tolist(), len(inks)]
        for start, end in pairwise(edges):
            yield "".join(map(chr, self.glyphs[row, start:end].tolist())), self.names[inks[start]]


class Chart(LineWidget):
    """Draws the picture that it was shown last, at whatever size it has."""

    picture: Picture = EMPTY

    def show(self, picture: Picture) -> None:
        self.picture = picture
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        it = self.picture
        lines: list[Line] = [self._heading(it.heading, width)] if it.heading else []
        axis = AXIS if it.axis else 0
        rows = height - len(lines) - (1 if it.axis and height - len(lines) > 3 else 0)
        if rows < 1 or width - axis < 4:
            return lines
        frame = self._frame(it, width - axis, rows)
        board = Board(frame.width, rows)
        if it.up is not None:
            named = {frame.row(value): name for value, name in it.up if frame.bottom <= value <= frame.top}
        else:
            named = self._ticks(frame, rows) if it.axis else {}
        self._fill(board, frame, it.areas)
        self._uprights(board, frame, it.uprights)
        for curve in it.curves:
            board.draw(plot.curve(frame, curve.xs, curve.ys, dotted=curve.dotted), curve.ink)
        self._names(board, frame, it.uprights)
        self._mark(board, frame, it.marks)
        for x, y, glyph, ink in it.points:
            if frame.left <= x <= frame.right and frame.bottom <= y <= frame.top:
                board.put(frame.row(y), frame.column(x), glyph, ink)
        for row in range(rows):
            text = named.get(row, "")
            segments = []
            if axis:
                segments.append(Segment(cells.pad(text, axis - 2, right=True) + " ", self.look.faint))
                segments.append(Segment("┤" if text else "│", self.look.rule))
            segments += [Segment(run, self._ink(ink)) for run, ink in board.runs(row)]
            lines.append(segments)
        if len(lines) < height and axis:
            lines.append(self._steps(frame, axis, it.along) if it.across is None else self._named(frame, axis, it))
        return lines

    def _ink(self, name: str) -> Style:
        style: Style = getattr(self.look, name) if name else self.look.text
        return style

    def _heading(self, parts: Sequence[tuple[str, str]], width: int) -> Line:
        """As many of the parts, from the left, as there is room for."""
        segments: list[Segment] = []
        for words, ink in parts:
            if cells.width(words) > width:
                break
            width -= cells.width(words)
            segments.append(Segment(words, self._ink(ink)))
        return segments

    @staticmethod
    def _frame(it: Picture, width: int, height: int) -> plot.Frame:
        firm = [np.asarray(c.ys, float) for c in it.curves if not c.loose]
        firm += [np.array([v for m in it.marks for v in (m.low, m.y, m.high)] + [y for _, y, *_ in it.points], float)]
        firm += [np.asarray(area.ys, float) for area in it.areas]
        bottom, top = plot.span(firm, [np.asarray(c.ys, float) for c in it.curves if c.loose])
        return plot.Frame(it.left, it.right, bottom if it.floor is None else it.floor, top, width, height)

    @staticmethod
    def _ticks(frame: plot.Frame, rows: int) -> dict[int, str]:
        """The label of each row that has one."""
        ticks = plot.ticks(frame.bottom, frame.top, max(rows // 4, min(rows // 2 + 1, 5)))
        step = ticks[1] - ticks[0] if len(ticks) > 1 else frame.top - frame.bottom
        return {frame.row(value): plot.label(value, step) for value in ticks}

    @staticmethod
    def _fill(board: Board, frame: plot.Frame, areas: Sequence[plot.Area]) -> None:
        for area in areas:
            xs, ys = np.asarray(area.xs, float), np.asarray(area.ys, float)
            for column in range(frame.column(xs[0]), frame.column(xs[-1]) + 1):
                x = frame.left + column / max(frame.width - 1, 1) * (frame.right - frame.left)
                share = (float(np.interp(x, xs, ys)) - frame.bottom) / ((frame.top - frame.bottom) or 1.0)
                for row in range(frame.height - round(share * frame.height), frame.height):
                    board.put(row, column, area.glyph, area.ink)

    @staticmethod
    def _uprights(board: Board, frame: plot.Frame, uprights: Sequence[tuple[float, str, str]]) -> None:
        for x, _, _ in uprights:
            for row in range(frame.height) if frame.left <= x <= frame.right else ():
                board.put(row, frame.column(x), CUT, "rule")

    @staticmethod
    def _names(board: Board, frame: plot.Frame, uprights: Sequence[tuple[float, str, str]]) -> None:
        """The words of uprights, at their right, or where there is no room at their left."""
        for x, words, ink in uprights:
            if not frame.left <= x <= frame.right:
                continue
            column = frame.column(x)
            room, before = max(frame.width - column - 2, 0), column - 1 - len(words)
            first = column + 2 if room >= len(words) or before < 0 else before
            for at, glyph in enumerate(words[: room if first > column else None], first):
                board.put(0, at, glyph, ink)

    @staticmethod
    def _mark(board: Board, frame: plot.Frame, marks: Sequence[Mark]) -> None:
        for mark in apart(frame, marks):
            column = frame.column(mark.x)
            for row in range(frame.row(mark.high), frame.row(mark.low) + 1):
                board.put(row, column, BAR, "chosen")
            board.put(frame.row(mark.y), column, BEST if mark.best else POINT, "chosen")

    def _named(self, frame: plot.Frame, axis: int, it: Picture) -> Line:
        """The axis by its named places, what it counts at the edge."""
        text = [" "] * frame.width
        text[frame.width - len(it.along) :] = it.along
        for value, name in it.across or ():
            at = frame.column(value) - len(name) // 2
            if frame.left <= value <= frame.right and 0 <= at < frame.width - len(name) - len(it.along):
                text[at : at + len(name)] = name
        return [Segment(" " * axis + "".join(text), self.look.faint)]

    def _steps(self, frame: plot.Frame, axis: int, along: str) -> Line:
        """The axis of steps: a label under each round number, the last one at the edge."""
        text = [" "] * frame.width
        end = f"{along} {frame.right:,.0f}" if frame.width > 24 else f"{frame.right:,.0f}"
        for value in plot.ticks(frame.left, frame.right, max(frame.width // 12, 1)):
            if value != round(value):  # there is no half a step
                continue
            name = f"{value:,.0f}"
            at = min(max(frame.column(value) - len(name) // 2, 0), frame.width - len(name))
            if at + len(name) < frame.width - len(end) - 1:
                text[at : at + len(name)] = name
        text[frame.width - len(end) :] = end
        return [Segment(" " * axis + "".join(text), self.look.faint)]


def apart(frame: plot.Frame, marks: Sequence[Mark]) -> list[Mark]:
    """The marks that do not crowd each other: the best, the newest, and of the others those with room around them."""
    inside = [m for m in marks if frame.left <= m.x <= frame.right and np.isfinite(m.y)]
    spaced: list[Mark] = []
    for mark in [m for m in inside if m.best] + inside[::-1]:
        if all(abs(frame.column(mark.x) - frame.column(other.x)) >= ROOM for other in spaced):
            spaced.append(mark)
    return spaced
