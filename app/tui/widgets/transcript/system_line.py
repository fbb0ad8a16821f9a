"""`SystemLine`: what the model is told first, a folded line at the top of the transcript that opens and is edited.

It shows a text and how many tokens it has; what comes of an edit is decided elsewhere.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.wrap import Wrap
from likely.app.tui.widgets.host import host

TALLEST = 12  # rows of an open one
INDENT = 3


class SystemLine(LineWidget, can_focus=True):
    """One line with the system prompt; hidden where there is none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("z,enter", "fold", "Fold", id="system.fold"),
        Binding("e", "edit", "Edit", id="system.edit"),
        Binding("down", "app.focus_next", "Transcript", id="system.transcript"),
    ]

    class Asked(Message):
        """A person wants to write it anew."""

    class Grown(Message):
        """It has another height."""

    text, model, folded = "", "", True
    tokens: int | None = None

    def show(self, text: str) -> None:
        """Show a system prompt; its tokens are counted by the current model."""
        facts = host(self).engine.current
        model = facts.name if facts is not None else ""
        if (text, model) == (self.text, self.model):
            return
        self.text, self.model, self.tokens = text, model, None
        self.set_class(bool(text), "-told")
        self.refresh(layout=True)
        self.redraw()
        if text and model:
            host(self).engine.submit(call(calls.tokens, model, text), lambda _, heard: self._counted(text, heard))

    def _counted(self, text: str, heard: list[Any]) -> None:
        for event in heard:
            if isinstance(event, tuple) and text == self.text:
                self.tokens = len(event)
                self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1 if self.folded else min(1 + len(self._rows(width)), TALLEST)

    def _rows(self, width: int) -> list[str]:
        wrapped = Wrap(max(width - INDENT - 1, 8))
        wrapped.push(self.text)
        return [row.text.rstrip("\n") for row in wrapped.rows]

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, glyphs = self.look, self.glyphs
        count = f"{self.tokens} tok" if self.tokens is not None else ""
        sign = glyphs.fold if self.folded else glyphs.unfold
        head = f" {sign} system  "
        ink = look.accent if self.has_focus else look.faint
        room = width - cells.width(head) - len(count) - 3
        text = cells.fit(" ".join(cells.clean(self.text).split()), room) if self.folded else ""
        space = " " * (width - cells.width(head + text) - len(count) - 1)
        first = [Segment(head, ink), Segment(text, look.text), Segment(f"{space}{count}", look.faint)]
        if self.folded:
            return [first]
        rows = self._rows(width)
        shown = rows if len(rows) < height else [*rows[: max(height - 2, 0)], "…"]
        return [first, *([Segment(" " * INDENT), Segment(row, look.text)] for row in shown)]

    def on_resize(self) -> None:
        self.post_message(self.Grown())

    def on_hide(self) -> None:
        self.post_message(self.Grown())

    def action_fold(self) -> None:
        self.folded = not self.folded
        self.refresh(layout=True)
        self.redraw()

    def action_edit(self) -> None:
        self.post_message(self.Asked())

    def on_click(self, event: events.Click) -> None:
        """On its first row it opens or folds; on its text it is edited."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y > 0:
            self.action_edit()
        else:
            self.action_fold()
