"""Where a person writes: several lines, history, completion of commands and paths. Enter sends."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from likely.app.tui.base.input.text_field import TextField
from likely.app.tui.base.text.cells import clean, one_to_one
from likely.app.tui.widgets.host import host

PASTE_SHOWN = 20_000  # characters of a paste that are edited in place; more becomes an attachment


class PromptInput(TextField):
    """Enter sends, ctrl+j breaks the line, up on the first line is the previous prompt, tab completes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", id="prompt.send"),
        Binding("ctrl+j,shift+enter", "newline", "Newline", id="prompt.newline"),
    ]

    class Sent(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class BigPaste(Message):
        """Too much text to edit here."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, placeholder: str, id: str | None = None) -> None:
        super().__init__(id=id, placeholder=placeholder, show_line_numbers=False, soft_wrap=True, tab_behavior="focus")
        self.cursor_blink = False
        self.prompts: list[str] = []
        self.complete: Callable[[str], Sequence[str]] = lambda _: ()
        self._at: int | None = None
        self._draft = ""
        self._cycle: list[str] = []

    def get_line(self, line_index: int) -> Text:
        return Text(one_to_one(self.document.get_line(line_index)), end="", no_wrap=True)

    def action_send(self) -> None:
        text = self.text
        self._at = None
        self.post_message(self.Sent(text))

    def pick(self, by: int) -> bool:
        """Another of the completions that are listed; gives whether there are any."""
        return False

    def action_newline(self) -> None:
        self.insert("\n")

    def take(self, text: str) -> None:
        """Put a text in, the cursor at its end."""
        self.text = text
        self.move_cursor(self.document.end)

    def _is(self, event: events.Key, action: str) -> bool:
        """Whether a key is a binding's, remapped or not. Priority bindings would overtake what was typed before."""
        default = next(b.key for b in PromptInput.BINDINGS if isinstance(b, Binding) and b.id == action)
        return event.key in host(self).keys_of(action, default).split(",")

    async def _on_key(self, event: events.Key) -> None:
        if self._is(event, "prompt.send") or self._is(event, "prompt.newline"):
            event.stop()
            event.prevent_default()
            self.action_send() if self._is(event, "prompt.send") else self.action_newline()
            return
        if event.key in ("up", "down") and self._at is None and self.pick(1 if event.key == "down" else -1):
            event.stop()
            event.prevent_default()
            return
        if event.key == "up" and self.cursor_location[0] == 0 and self.earlier():
            event.stop()
            event.prevent_default()
            self._recall(-1)
            return
        if event.key == "down" and self._at is not None and self.cursor_location[0] == self.document.line_count - 1:
            event.stop()
            event.prevent_default()
            self._recall(1)
            return
        if event.key == "tab" and self._complete():
            event.stop()
            event.prevent_default()
            return
        if event.key != "tab":
            self._cycle = []
        await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        if len(event.text) > PASTE_SHOWN:
            self.post_message(self.BigPaste(event.text))
            return
        lines = event.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self.insert("\n".join(clean(line.expandtabs(4)) for line in lines))

    def earlier(self) -> Sequence[str]:
        """Texts that were written before, oldest first."""
        return self.prompts

    def _recall(self, by: int) -> None:
        earlier = self.earlier()
        if self._at is None:
            self._draft = self.text
            self._at = len(earlier)
        self._at = min(max(self._at + by, 0), len(earlier))
        self.take(earlier[self._at] if self._at < len(earlier) else self._draft)
        if self._at == len(earlier):
            self._at = None

    def _complete(self) -> bool:
        """Complete the word at the end; again takes the next one."""
        text = self.text
        if not self._cycle:
            self._cycle = [option for option in self.complete(text) if option != text]
            if not self._cycle:
                return False
        self.take(self._cycle[0])
        self._cycle = [*self._cycle[1:], self._cycle[0]]
        return True
