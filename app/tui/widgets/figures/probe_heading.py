"""Over the bars of what moved: which place they are of, when it was measured, and the end of the text before it."""

from collections.abc import Sequence

from rich.segment import Segment

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.training.probes import ProbeView


class ProbeHeading(LineWidget):
    """A heading, and under it the words that the next token follows."""

    outlook: ProbeView | None = None

    def show(self, outlook: ProbeView) -> None:
        if outlook != self.outlook:
            self.outlook = outlook
            self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, it = self.look, self.outlook
        if it is None:
            return []
        notes = [it.what] if it.what else []
        if it.pending:
            notes.append("measuring…")
        elif it.step is not None:
            notes.append(f"step {it.step:,}")
        about = cells.fit(f"  {' · '.join(notes)}", width - 10)
        head = [Segment("WHAT MOVED", look.heading), Segment(about, look.faint)]
        return [head, [Segment(ending(it.before, width), look.text)]]


def ending(text: str, size: int) -> str:
    """The end of a text on one line, from a whole word on where there is one."""
    line = cells.clean(text).replace("\n", "⏎").replace("\t", " ")
    if cells.width(line) <= size:
        return line
    tail, used = "", 0
    for cluster, width in reversed(cells.clusters(line)):
        if used + width > size - 1:
            break
        tail, used = cluster + tail, used + width
    _, space, rest = tail.partition(" ")
    return f"…{space}{rest}" if space and len(rest) > size // 2 else f"…{tail}"
