"""Progress of a training in two lines: its state, the share done and the time left; below, what it costs."""

from collections.abc import Sequence

from rich.segment import Segment
from textual.geometry import Size

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.wrap import Wrap
from likely.app.tui.training.status import RunStatus

NARROWEST = 8  # cells of the bar
TALLEST = 5  # rows of what went wrong: its end says what to do


class Gauge(LineWidget, can_focus=True):
    """Words, a bar and what is left; below them facts, dropped from the right; the first is cut. What went wrong is
    told whole. While it has the focus, keys act on the run."""

    standing: RunStatus = RunStatus()

    def show(self, standing: RunStatus) -> None:
        if standing != self.standing:
            relaid, self.standing = standing.alarm or self.standing.alarm, standing
            self.redraw()
            if relaid:
                self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1 + len(self._words(width))

    def _words(self, width: int, tallest: int = TALLEST) -> list[str]:
        words = cells.clean(f" {self.standing.words}")
        if not self.standing.alarm or tallest == 1:
            return [cells.fit(words, width - 1)]
        wrapped = Wrap(max(1, width - 2))
        wrapped.push(words.strip())
        return [f" {row.text.rstrip()}" for row in wrapped.rows[:tallest]]

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, glyphs, it = self.look, self.glyphs, self.standing
        *above, words = self._words(width, max(1, min(TALLEST, height - 1)))
        style = look.alarm if it.alarm else look.row if self.has_focus else look.text
        line = [Segment(words, style)]
        room = width - cells.width(words) - cells.width(it.tail) - 5
        if it.share is not None and room >= NARROWEST:
            done = round(min(max(it.share, 0.0), 1.0) * room)
            line += [Segment("  " + glyphs.full * done, look.bar), Segment(glyphs.line * (room - done), look.rule)]
        if it.tail and cells.width(words) + cells.width(it.tail) + 3 <= width:
            line.append(Segment(f"  {it.tail}", look.faint))
        facts = list(it.facts)
        while len(facts) > 1 and cells.width(" · ".join(facts)) > width - 2:
            facts.pop()
        return [
            *([Segment(row, style)] for row in above),
            line,
            [Segment(cells.fit(f" {' · '.join(facts)}", width), look.faint)],
        ]
