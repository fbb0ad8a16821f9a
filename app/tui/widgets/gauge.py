"""How far a training has come, in two lines: what it does, how much is done, when it will be; and what it costs."""

from collections.abc import Sequence

from rich.segment import Segment

from app.tui import cells
from app.tui.widgets.canvas import Canvas, Line

NARROWEST = 8  # cells of the bar


class Gauge(Canvas):
    """`words` (the state), a bar for `share`, `tail` (what is left); then facts, dropped from the right."""

    words: str = ""
    share: float | None = None
    tail: str = ""
    facts: Sequence[str] = ()
    alarm: bool = False

    def show(self, words: str, share: float | None, tail: str, facts: Sequence[str], alarm: bool = False) -> None:
        shown = words, share, tail, tuple(facts), alarm
        if shown != (self.words, self.share, self.tail, tuple(self.facts), self.alarm):
            self.words, self.share, self.tail, self.facts, self.alarm = shown
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, glyphs = self.look, self.glyphs
        words = cells.fit(cells.clean(f" {self.words}"), width - 1)
        line = [Segment(words, look.model if self.alarm else look.text)]
        room = width - cells.width(words) - cells.width(self.tail) - 5
        if self.share is not None and room >= NARROWEST:
            done = round(min(max(self.share, 0.0), 1.0) * room)
            line += [Segment("  " + glyphs.full * done, look.bar), Segment(glyphs.line * (room - done), look.rule)]
        if self.tail and cells.width(words) + cells.width(self.tail) + 3 <= width:
            line.append(Segment(f"  {self.tail}", look.faint))
        facts = list(self.facts)
        while facts and cells.width(" · ".join(facts)) > width - 2:
            facts.pop()
        return [line, [Segment(f" {' · '.join(facts)}", look.faint)]]
