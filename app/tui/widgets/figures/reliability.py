"""Reliability: how often answers of a confidence were right, two models over the diagonal where the two are equal."""

from collections.abc import Sequence
from itertools import pairwise

from rich.segment import Segment

from likely.app.results.disagreements import TaskDetail
from likely.app.results.scoreboard import half
from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.widgets.figures.chart import Board
from likely.app.tui.widgets.figures.score_table import letter, number

AXIS = 5
INKS = ("bar", "chosen")


class ReliabilityPlot(LineWidget):
    """A point a bin, joined by a thin line."""

    detail: TaskDetail | None = None
    letters: Sequence[int] = ()

    def show(self, detail: TaskDetail | None, letters: Sequence[int]) -> None:
        """`letters`: the columns of the models."""
        if (detail, letters) != (self.detail, self.letters):
            self.detail, self.letters = detail, letters
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        heading: Line = [Segment(" RELIABILITY", look.heading), Segment("  as sure as right?", look.faint)]
        known = [] if self.detail is None else [c for c in self.detail.confidence if c is not None]
        if not known:
            return [
                heading,
                [
                    Segment(
                        cells.fit(
                            " this task has no confidences" if self.detail is not None else " choose a task", width
                        ),
                        look.cut,
                    )
                ],
            ]
        rows = height - 3 - len(known)
        if rows < 3 or width < AXIS + 10:
            return [heading]
        frame = plot.Frame(0, 1, 0, 1, width - AXIS - 2, rows)
        board = Board(frame.width, rows)
        board.draw(plot.curve(frame, (0, 1), (0, 1), dotted=True), "cut")
        assert self.detail is not None
        pairs = list(zip(self.detail.confidence, INKS, strict=False))
        for confidence, ink in pairs:
            if confidence is not None:
                for a, b in pairwise(confidence.bins):
                    xs, ys = (a.confidence, b.confidence), (a.accuracy, b.accuracy)
                    board.draw(plot.curve(frame, xs, ys, dotted=True), ink)
        for confidence, ink in pairs:
            for group in confidence.bins if confidence is not None else ():
                board.put(frame.row(group.accuracy), frame.column(group.confidence), "●", ink)
        named = {frame.row(value): text for value, text in ((1.0, "1"), (0.5, ".5"), (0.0, "0"))}
        lines: list[Line] = [heading]
        for row in range(rows):
            text = named.get(row, "")
            axis = Segment(cells.pad(text, AXIS - 2, right=True) + " ", look.faint)
            tick = Segment("┤" if text else "│", look.rule)
            lines.append([axis, tick, *(Segment(run, getattr(look, ink or "text")) for run, ink in board.runs(row))])
        label = "confidence".center(frame.width - 2)
        lines.append([Segment(f"{' ' * AXIS}0{label}1", look.faint)])
        for index, (confidence, ink) in enumerate(pairs):
            if confidence is not None:
                name = letter(self.letters[index]) if index < len(self.letters) else "·"
                error = f"{number(confidence.ece.mean)} ± {number(half(confidence.ece))}"
                lines.append([Segment(" ● ", getattr(look, ink)), Segment(f"{name}  ECE {error}", look.text)])
        lines.append([Segment(" bins of equal width", look.cut)])
        return lines
