"""The tokens whose probability rose and fell the most, side by side."""

from collections.abc import Sequence
from itertools import zip_longest

from rich.segment import Segment

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.chat.candidates import Names
from likely.engine.base.statistics.difference import Difference, Shift

NUMBER = 7  # cells


class TopShifts(LineWidget):
    """A heading, then rows of risen and fallen tokens, in percentage points of their mean probability along a text."""

    difference: Difference | None = None
    names: Names = Names()

    def show(self, difference: Difference | None, names: Names) -> None:
        if difference is not self.difference:
            self.difference, self.names = difference, names
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        about = cells.fit("  along the text, in points" if width > 42 else "  along the text", width - 13)
        head: Line = [Segment("ROSE AND FELL", look.heading), Segment(about, look.faint)]
        if self.difference is None:
            return [head]
        risen, fallen = self.difference.risen[: height - 1], self.difference.fallen[: height - 1]
        if not risen and not fallen:
            return [head, [Segment("nothing has moved yet", look.faint)]]
        half = (width - 3) // 2
        columns = self._column(risen, "▲", half), self._column(fallen, "▼", half)
        blank = [Segment(" " * half)]
        return [head, *([*a, Segment("   "), *b] for a, b in zip_longest(*columns, fillvalue=blank))]

    def _column(self, shifts: Sequence[Shift], mark: str, width: int) -> list[list[Segment]]:
        look = self.look
        room = max(width - NUMBER - 2, 1)
        rows = []
        for shift in shifts:
            ink = look.text if shift.change > 0 else look.faint
            rows.append(
                [
                    Segment(f"{mark} ", look.accent if shift.change > 0 else look.faint),
                    Segment(cells.pad(self.names.name(shift.token), room), ink),
                    Segment(f"{100 * shift.change:+.2f}".replace("-", "−").rjust(NUMBER), ink),
                ]
            )
        return rows
