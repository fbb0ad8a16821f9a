"""Completions of what is being written, a line each, above the prompt. What is offered is decided elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from textual import events
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells

ROWS = 8  # that are seen at once


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A completion of the prompt: its text, its line in the list, what it does in words.

    `whole`: it needs no more; `sure`: what begins so can mean nothing that is not listed.
    """

    text: str
    shown: str
    about: str = ""
    whole: bool = True
    sure: bool = True


class Suggestions(LineWidget):
    """A short list with one row picked; out of sight while there is nothing to offer."""

    class Taken(Message):
        """A person clicks on one."""

        def __init__(self, suggestion: Suggestion) -> None:
            super().__init__()
            self.suggestion = suggestion

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.offered: Sequence[Suggestion] = ()
        self.index = 0
        self.display = False

    @property
    def picked(self) -> Suggestion | None:
        return self.offered[self.index] if self.offered else None

    @property
    def top(self) -> int:
        """The first row that is seen."""
        return max(self.index - ROWS + 1, 0)

    def offer(self, offered: Sequence[Suggestion]) -> None:
        """Other completions; the first is picked."""
        if list(offered) != list(self.offered):
            self.offered, self.index = offered, 0
            self.display = bool(offered)
            self.styles.height = min(len(offered), ROWS)
            self.redraw()

    def move(self, by: int) -> None:
        self.index = min(max(self.index + by, 0), len(self.offered) - 1)
        self.redraw()

    def lines(self, width: int, height: int) -> Sequence[Line]:
        if not self.offered:
            return []
        look, size = self.look, min(max(cells.width(suggestion.shown) for suggestion in self.offered), width // 2)
        lines: list[Line] = []
        for index in range(self.top, min(self.top + height, len(self.offered))):
            suggestion = self.offered[index]
            ink = look.cursor if index == self.index else look.text
            about = cells.fit(suggestion.about, max(width - size - 5, 4))
            lines.append(
                [Segment("  "), Segment(cells.pad(suggestion.shown, size), ink), Segment(f"  {about}", look.faint)]
            )
        return lines

    def on_click(self, event: events.Click) -> None:
        if 0 <= self.top + event.y < len(self.offered):
            self.post_message(self.Taken(self.offered[self.top + event.y]))
