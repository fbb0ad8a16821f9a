"""The first paint: the chat's edges and a prompt that takes what is typed, while the rest is being imported."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Key, Paste
from textual.screen import Screen

from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.input.prompt import PromptInput

WAITING = "Message  (enter sends · ctrl+j newline · / commands)"
LOADING = "the answer begins as soon as the model is loaded"
NO_MODEL = "there is no model yet: /model chooses one, and then the answer begins"


class Opening(Screen[None]):
    """The screen until the first view has been imported, some 0.2 s."""

    def compose(self) -> ComposeResult:
        yield TopBar("chat")
        yield Vertical(id="body")
        yield PromptInput(placeholder=WAITING, id="prompt")
        yield Hints()

    def on_mount(self) -> None:
        self.query_one(PromptInput).focus()

    def show(self, typed: Key | Paste) -> None:
        """Show what is written; the view that comes is told of it, and of every other key."""
        for prompt in self.query(PromptInput):
            if isinstance(typed, Paste):
                prompt.insert(typed.text)
            elif typed.key == "backspace":
                prompt.action_delete_left()
            elif typed.is_printable:
                prompt.insert(typed.character or "")
