"""Progress of a training in two lines: its state, the share done and the time left; below, what it costs."""

from collections.abc import Sequence

from rich.segment import Segment

from likely.app.tui.base import cells
from likely.app.tui.base.line_widget import Line, LineWidget
from likely.app.tui.training.status import RunStatus

NARROWEST = 8  # cells of the bar


class Gauge(LineWidget, can_focus=True):
    """Words, a bar and what is left; below them facts, dropped from the right; the first is cut. While it has the
    focus, keys act on the run."""

    standing: RunStatus = RunStatus()

    def show(self, standing: RunStatus) -> None:
        if standing != self.standing:
            self.standing = standing
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, glyphs, it = self.look, self.glyphs, self.standing
        words = cells.fit(cells.clean(f" {it.words}"), width - 1)
        line = [Segment(words, look.alarm if it.alarm else look.row if self.has_focus else look.text)]
        room = width - cells.width(words) - cells.width(it.tail) - 5
        if it.share is not None and room >= NARROWEST:
            done = round(min(max(it.share, 0.0), 1.0) * room)
            line += [Segment("  " + glyphs.full * done, look.bar), Segment(glyphs.line * (room - done), look.rule)]
        if it.tail and cells.width(words) + cells.width(it.tail) + 3 <= width:
            line.append(Segment(f"  {it.tail}", look.faint))
        facts = list(it.facts)
        while len(facts) > 1 and cells.width(" · ".join(facts)) > width - 2:
            facts.pop()
        return [line, [Segment(cells.fit(f" {' · '.join(facts)}", width), look.faint)]]
