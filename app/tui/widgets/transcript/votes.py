"""The votes of several answers: a bar and the interval of its share for each."""

from collections.abc import Sequence
from typing import cast

from rich.segment import Segment
from textual.geometry import Size
from textual.widget import Widget

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.theme import bar
from likely.app.tui.chat.tallies import Share, VoteCount

MOST = 5  # answers that are shown
COUNT = 13  # cells of number and share
LABEL, BAR = 12, 4  # of an answer, at most; of a bar, at least


class Votes(LineWidget):
    """Two rows an answer: how many paths give it, and between which shares the truth may lie."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.tally: VoteCount | None = None

    def show(self, tally: VoteCount | None) -> None:
        if tally != self.tally:
            taller = self.rows(tally) != self.rows(self.tally)
            self.tally = tally
            self.redraw()
            if taller:
                self.refresh(layout=True)

    @staticmethod
    def rows(tally: VoteCount | None) -> int:
        """Rows that a vote takes."""
        if tally is None:
            return 0
        return 2 + (1 + tally.sampled) * min(len(tally.shares), MOST) + (len(tally.shares) > MOST)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self.rows(self.tally)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, tally = self.look, self.tally
        if tally is None:
            return []
        words = f"  {len(tally.answers)} of {tally.paths}"
        words = cells.pad(words, width - 5 - COUNT)
        heading: Line = [
            Segment("VOTES", look.heading), Segment(words, look.faint), Segment(f"{'n':>4}{'share':>9}", look.faint),
        ]  # fmt: skip
        if cast(Widget, self.parent).has_class("-drawer"):
            heading = list(Segment.apply_style(heading, look.band))
        lines: list[Line] = [heading]
        widest = max((cells.width(share.answer) for share in tally.shares), default=0)
        label = min(widest, LABEL, max(width - COUNT - 2 - BAR, 1))
        for place, share in enumerate(tally.shares[:MOST]):
            lines += self._share(tally, share, place == 0, label, max(width - label - 2 - COUNT, BAR))
        if len(tally.shares) > MOST:
            lines.append([Segment(f"{len(tally.shares) - MOST} answers more", look.faint)])
        none = f" · {tally.unanswered} no answer" if tally.unanswered else ""
        how = f"{self.glyphs.line * 2} 95 % (Wilson)" if tally.sampled else "no sample: no intervals"
        lines.append([Segment(cells.fit(f"{how}{none}", width), look.faint)])
        return lines

    def _share(self, tally: VoteCount, share: Share, first: bool, label: int, size: int) -> list[Line]:
        look, glyphs = self.look, self.glyphs
        n = len(tally.answers)
        name = cells.pad(cells.fit(cells.clean(share.answer), label), label + 2)
        number = f"{share.count:>4}{100 * share.count / n:>7.1f} %"
        row: Line = [
            Segment(name, look.chosen if first else look.text),
            Segment(bar(share.count / n, size, glyphs), look.bar if first else look.bar_cut),
            Segment(number, look.chosen if first else look.text),
        ]
        if not tally.sampled:
            return [row]
        low, high = round(share.low * (size - 1)), round(share.high * (size - 1))
        ends = glyphs.tick + (glyphs.line * (high - low - 1) + glyphs.tick if high > low else "")
        whisker = cells.pad(" " * low + ends, size)
        between = f"{100 * share.low:.0f}-{100 * share.high:.0f}".rjust(COUNT)
        return [row, [Segment(" " * (label + 2)), Segment(whisker, look.faint), Segment(between, look.faint)]]
