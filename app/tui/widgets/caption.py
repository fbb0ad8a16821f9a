"""`Caption`: rows of words in inks, cut where the screen ends: a sentence above a picture, a formula below it."""

from collections.abc import Sequence

from rich.segment import Segment

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells

Words = Sequence[tuple[str, str]]  # (words, ink)


class Caption(LineWidget):
    """Rows of (text, ink) parts, each cut at the widget's edge."""

    rows: Sequence[Words] = ()

    def show(self, *rows: Words) -> None:
        if rows != self.rows:
            self.rows = rows
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        return [self._line(words, width) for words in self.rows]

    def _line(self, words: Words, width: int) -> Line:
        segments, room = [], width
        for text, ink in words:
            shown = cells.fit(cells.clean(text), room)
            segments.append(Segment(shown, getattr(self.look, ink)))
            room -= cells.width(shown)
        return segments
