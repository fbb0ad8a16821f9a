"""Over the bars of what moved: which place they are of, when it was measured, and the end of the text before it."""

from collections.abc import Sequence

from rich.segment import Segment

from app.tui import cells
from app.tui.widgets.canvas import Canvas, Line


class Watched(Canvas):
    """A heading, and under it the words that the next token follows."""

    what: str = ""
    text: str = ""
    step: int | None = None
    pending: bool = False

    def show(self, what: str, text: str, step: int | None, pending: bool) -> None:
        shown = what, text, step, pending
        if shown != (self.what, self.text, self.step, self.pending):
            self.what, self.text, self.step, self.pending = shown
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look = self.look
        head = [Segment("WHAT MOVED", look.heading)]
        notes = [self.what] if self.what else []
        if self.pending:
            notes.append("measuring…")
        elif self.step is not None:
            notes.append(f"step {self.step:,}")
        head.append(Segment(cells.fit(f"  {' · '.join(notes)}", width - 10), look.faint))
        return [head, [Segment(ending(self.text, width), look.text)]]


def ending(text: str, size: int) -> str:
    """The end of a text on one line, from a whole word on where there is one."""
    line = cells.clean(text).replace("\n", "⏎").replace("\t", " ")
    if cells.width(line) <= size:
        return line
    kept, used = "", 0
    for cluster, width in reversed(cells.clusters(line)):
        if used + width > size - 1:
            break
        kept, used = cluster + kept, used + width
    _, space, rest = kept.partition(" ")
    return f"…{space}{rest}" if space and len(rest) > size // 2 else f"…{kept}"
