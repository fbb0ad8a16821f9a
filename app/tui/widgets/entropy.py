"""The entropy along an answer: one column a token, the one under the cursor lit."""

from collections.abc import Sequence

from rich.segment import Segment

from app.tui.widgets.canvas import Canvas, Line

TOP = 8.0  # bits at which a column is full


class EntropyRow(Canvas):
    """Bits for each token, the newest at the right; `at` is the token under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.bits: Sequence[float | None] = ()
        self.at: int | None = None

    def show(self, bits: Sequence[float | None], at: int | None) -> None:
        """`bits` may be a list that grows: only what is seen of it is read."""
        self.bits, self.at = bits, at
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        here = self.at if self.at is not None else len(self.bits) - 1
        heading = [Segment("ENTROPY", self.look.heading)]
        if self.bits and 0 <= here < len(self.bits) and self.bits[here] is not None:
            heading.append(Segment(f"  {self.bits[here]:.1f} bits", self.look.text))
        return [heading, self.row(width)]

    def row(self, width: int) -> Line:
        """The newest `width` columns, or those around the cursor."""
        count = len(self.bits)
        first = max(count - width, 0)
        if self.at is not None and self.at < first:
            first = max(self.at - width // 2, 0)
        levels = self.glyphs.levels
        segments = []
        for i in range(first, min(first + width, count)):
            value = self.bits[i]
            glyph = " " if value is None else levels[min(int(value / TOP * len(levels)), len(levels) - 1)]
            ink = self.look.chosen_bar if i == self.at else self.look.bar
            segments.append(Segment(glyph, ink))
        return list(Segment.simplify(segments))
