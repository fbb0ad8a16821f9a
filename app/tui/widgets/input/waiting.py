"""Queue of messages that a person has written while an answer is under way, shown above the prompt, oldest first.

What is sent, and when, is decided elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from textual import events
from textual.message import Message

from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.chat.attach import Attachment

ROWS = 3  # that are seen at once
NEWS = "it waits for the answer · esc stops that, and takes back what waits"


@dataclass(frozen=True, slots=True, eq=False)
class WaitingMessage:
    """A message and what is attached to it. Each is one of its own, also where words are the same."""

    text: str
    attached: Sequence[Attachment] = ()


class MessageQueue(LineWidget):
    """A row a message; out of sight while none waits."""

    class EditAsked(Message):
        """A person clicks on one."""

        def __init__(self, waiting: WaitingMessage) -> None:
            super().__init__()
            self.waiting = waiting

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.messages: list[WaitingMessage] = []
        self.edited: WaitingMessage | None = None  # in the prompt
        self.display = False

    def put(self, *messages: WaitingMessage) -> None:
        """Other messages wait."""
        self.messages = [*messages]
        if self.edited not in messages:
            self.edited = None
        self.display = bool(messages)
        self.styles.height = min(len(messages), ROWS)
        self.redraw()

    def edit(self, message: WaitingMessage | None) -> None:
        """A message is in the prompt, or none is any more."""
        self.edited = message
        self.redraw()

    def edited_as(self, text: str) -> None:
        """The one that is edited has other words; without any it is gone."""
        new = WaitingMessage(text, self.edited.attached) if self.edited is not None and text.strip() else None
        said = [new if each is self.edited else each for each in self.messages]
        self.put(*filter(None, said))

    @property
    def top(self) -> int:
        """The first row that is seen: the one that is edited is, else the oldest."""
        at = self.messages.index(self.edited) if self.edited in self.messages else 0
        return max(at - ROWS + 1, 0)

    def lines(self, width: int, height: int) -> Sequence[Line]:
        look, lines, top = self.look, [], self.top
        for at, message in enumerate(self.messages[top : top + height], top):
            names = "".join(f"  @{item.name}" for item in message.attached)
            more = len(self.messages) - top - height
            tail = f" {more} more " if more > 0 and at == top + height - 1 else ""
            tail = tail or (" ↑ edits " if at == top and self.edited is None else "")
            head = f" {self.glyphs.held} {at + 1}  "
            text = cells.fit(" ".join(cells.clean(message.text + names).split()), width - cells.width(head + tail))
            ink = look.chosen if message is self.edited else look.text
            gap = " " * (width - cells.width(head + text + tail))
            lines.append([Segment(head, look.faint), Segment(text, ink), Segment(gap + tail, look.faint)])
        return lines

    def on_click(self, event: events.Click) -> None:
        if 0 <= self.top + event.y < len(self.messages):
            self.post_message(self.EditAsked(self.messages[self.top + event.y]))
