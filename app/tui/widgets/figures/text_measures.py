"""Measures of a text, in the room that it leaves: surprisal by the word, bits so far, and how it would go on.

Measurements come by `show`; the text itself is the buffer's.
"""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical

from likely.app.tui.base.drawing.plot import Curve, Mark, Picture
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.wrap import Wrap
from likely.app.tui.chat.inspecting.greedy_continuation import GreedyContinuation
from likely.app.tui.chat.inspecting.word_surprisals import bits_of_words, running_sum
from likely.app.tui.widgets.caption import Caption, Words
from likely.app.tui.widgets.figures.chart import Chart
from likely.app.tui.widgets.figures.word_strip import WordStrip
from likely.app.words.units import predicted
from likely.engine.sampling.trace.step import TokenStep

LEAST, LINES = 3, 3  # rows that are worth showing anything in; rows of the continuation where there is room
AIRY = 12  # rows from which on there are blank ones between the parts
STRIP, CURVE = (2, 11), (5, 16)  # rows at least and at most
MARGINS = 3  # columns beside it
HIGH = 30  # rows of a page that keeps some of them whatever the text takes


class TextMeasures(Vertical):
    """The surprisal strip, the curve of bits so far and the greedy continuation, and how many rows each has."""

    def compose(self) -> ComposeResult:
        yield WordStrip(id="strip")
        yield Chart(id="sum")
        yield Caption(id="continuation")

    def on_mount(self) -> None:
        self.strip = self.query_one(WordStrip)
        self.sum = self.query_one(Chart)
        self.continuation = self.query_one(Caption)
        self._rows = (0, 0, 0, 0)
        self._going_on = GreedyContinuation()

    def on_resize(self) -> None:
        self._show_continuation()

    def show(self, steps: Sequence[TokenStep], at: int | None, going_on: GreedyContinuation, stale: str = "") -> None:
        """`steps` are those of the text, `at` the token under the cursor, None at its end; `stale` says why they are
        not of all of it, "" where they are."""
        words = bits_of_words(steps)
        here = None if at is None else next((i for i, word in enumerate(words) if at < word.last), None)
        self.strip.show(words, here, stale)
        sums = running_sum(steps)
        heading = [("BITS SO FAR", "heading"), (f"  {stale}", "faint")]
        if not stale:
            known = sum(step.logprob is not None for step in steps)
            heading[1:] = [(f"  {sums[-1]:.1f}", "text"), (f"  {predicted(known, len(steps))}", "faint")]
        marks = []
        if at is not None and at < len(sums):
            marks = [Mark(at, sums[at], sums[at], sums[at])]
            heading.append((f" · {sums[at]:.1f} before the cursor", "faint"))
        curve = Curve(range(len(sums)), sums, "bar_cut" if stale else "bar")
        picture = Picture(heading, [curve], marks, max(len(steps), 1), floor=0.0, along="token")
        if picture != self.sum.picture:
            self.sum.show(picture)
        self._going_on = going_on
        self._show_continuation()

    def _show_continuation(self) -> None:
        rows, going_on = self._rows[2], self._going_on
        heading: Words = (("CONTINUATION", "heading"),)
        if not going_on.text:
            self.continuation.show((*heading, ("  none: the text ends here" if going_on.whole else "", "faint")))
            return
        if rows < 2:
            text = cells.clean(going_on.text).replace("\n", "⏎")
            self.continuation.show((*heading, (f" {text}", "text")))
            return
        wrap = Wrap(max(self.size.width - 2, 8))
        wrap.push(going_on.text)
        lines = [line for row in wrap.rows if (line := row.text.rstrip().lstrip(" "))]
        if lines and (len(lines) > rows - 1 or not going_on.whole):
            lines[min(len(lines), rows - 1) - 1] += "…"
        named = (*heading, (f"  {going_on.bits:.1f} bits", "text"), ("  each time the most likely token", "faint"))
        self.continuation.show(named, *([(line, "text")] for line in lines[: rows - 1]))

    def fit(self, width: int, height: int, text: int) -> bool:
        """Take the rows that a text of `text` rows leaves of a page; gives whether there is anything to be seen."""
        room = max(height - text - 2, height // 5 if height >= HIGH else 0)
        strip = curve = words = gap = 0
        if room >= LEAST and text:
            gap = int(room >= AIRY)
            words = LINES if gap else 1
            strip = self._strip_rows(width, max((room - words) * 2 // 5, STRIP[0]))
            curve = min(room - words - strip - 2 * gap, CURVE[1])
            if curve < CURVE[0]:
                curve, strip = 0, self._strip_rows(width, room - words - gap)
        rows = strip, curve, words, gap
        if rows != self._rows:
            self._rows = rows
            for part, size in zip((self.strip, self.sum, self.continuation), rows, strict=False):
                part.display = size > 0
                part.styles.height = size
                part.styles.margin = (0, 0, gap if part is not self.continuation else 0, 0)
            self.display = strip > 0
        return strip > 0

    def _strip_rows(self, width: int, most: int) -> int:
        return max(self.strip.rows(width - MARGINS, min(most, STRIP[1])), STRIP[0])
