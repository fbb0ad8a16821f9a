"""A text of several lines from a person."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label

from app.tui.widgets.prompt import PromptInput


class TextDialog(ModalScreen[str | None]):
    """Gives what was written; None when they think better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back", show=False)]

    def __init__(self, title: str, value: str = "") -> None:
        super().__init__()
        self.title_, self.value = title, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet wide"):
            yield Label(self.title_, classes="sheet-title", markup=False)
            yield PromptInput(placeholder="")

    def on_mount(self) -> None:
        prompt = self.query_one(PromptInput)
        prompt.take(self.value)
        prompt.focus()

    def on_prompt_input_sent(self, event: PromptInput.Sent) -> None:
        event.stop()
        self.dismiss(event.text)
