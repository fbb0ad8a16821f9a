"""`MessageEditor`: a message of the transcript edited where it stands.

Enter keeps what was written; where the text is an answer, tab keeps it and has the model go on. What is kept, and what
that does, is decided elsewhere.
"""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.input.prompt import PromptInput
from likely.app.tui.widgets.transcript.token_view import TokenView

LEAST, FRAME = 3, 2  # rows of the whole; of what is around the text
SYSTEM = -1  # the system prompt, in the place of a message's index


class MessageEditor(PromptInput):
    """A text area laid over the rows of the message that it edits."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave", id="editor.leave")]

    class Kept(Message):
        """A person keeps what was written; `go_on`: the model continues from there."""

        def __init__(self, index: int, text: str, go_on: bool) -> None:
            super().__init__()
            self.index, self.text, self.go_on = index, text, go_on

    class EditEnded(Message):
        """Nothing is edited any more."""

    def __init__(self, index: int, who: str, text: str, view: TokenView) -> None:
        """`index` is the message in the view, or `SYSTEM`; `who` says it."""
        super().__init__(placeholder="")
        self.index, self.who, self.was, self.view = index, who, text, view
        self.border_title = who

    def on_mount(self) -> None:
        self.take(self.was)
        self.call_after_refresh(self.lie)

    def lie(self) -> None:
        """Lie over the rows of the text; where there are fewer on the screen, it scrolls."""
        view, pane, top, rows = self.view, self.parent, 0, len(self.was.splitlines())
        if not self.is_attached or pane is None:
            return
        room = pane.size.height  # type: ignore[attr-defined]
        if self.index < len(view.blocks) and self.index != SYSTEM:
            top = view.layout_.body_top(self.index) - view.scroll_offset.y + room - view.size.height - 1
            rows = view.blocks[self.index].body_rows
        height = min(max(rows + FRAME, LEAST), room)
        self.styles.height = height
        self.styles.offset = (0, min(max(top, 0), max(room - height, 0)))

    def action_send(self) -> None:
        self._keep(False)

    def _keep(self, go_on: bool) -> None:
        """Keep what was written, but nothing in the place of a message's words."""
        if self.index != SYSTEM and not self.text.strip():
            host(self).say("a message has words: esc leaves it as it was, and del puts it away")
            return
        if self.text != self.was or go_on or self.who == "you":
            self.post_message(self.Kept(self.index, self.text, go_on))
        self.action_leave()

    def action_leave(self) -> None:
        self.post_message(self.EditEnded())

    def _complete(self) -> bool:
        """Tab keeps the text and goes on; there are no completions."""
        if self.who == "model":
            self._keep(True)
        return True

    def render_lines(self, crop: Region) -> list[Strip]:
        """A widget that is removed is drawn once more, without its styles."""
        if self.is_attached:
            return super().render_lines(crop)
        return [Strip.blank(crop.width)] * crop.height

    def on_prompt_input_big_paste(self, event: PromptInput.BigPaste) -> None:
        event.stop()
        self.insert(event.text)
