"""A list that narrows as a person types: found anew with every letter, before the next key is looked at.

Knows nothing of what is listed.
"""

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Label

from likely.app.tui.widgets.lists.choices import ChoiceList, ChoiceOption
from likely.app.tui.widgets.lists.dialog import Dialog

T = TypeVar("T")


class Narrowing(Dialog[T], Generic[T]):
    """Gives what was picked."""

    DOES = "⏎ go there"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "move(1)", "Next", priority=True),
        Binding("up", "move(-1)", "Previous", priority=True),
        Binding("pagedown,shift+down", "page(1)", "Next page", priority=True),
        Binding("pageup,shift+up", "page(-1)", "Previous page", priority=True),
    ]

    def __init__(self, title: str, placeholder: str, query: str = "") -> None:
        super().__init__()
        self.title_, self.placeholder, self.query_ = title, placeholder, query
        self.matches: Sequence[T] = ()

    def search(self, query: str) -> Sequence[T]:
        """Matches, the best first."""
        raise NotImplementedError

    def line(self, item: T, width: int) -> Text:
        """The line of a match, in so many cells."""
        raise NotImplementedError

    def count(self, items: Sequence[T]) -> str:
        return f"{len(items)} found"

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet wide"):
            yield Label(self.title_, classes="sheet-title", markup=False)
            yield Input(self.query_, placeholder=self.placeholder, select_on_focus=False)
            yield ChoiceList(markup=False)
            yield Label("", classes="faint", id="finder-line", markup=False)

    def on_mount(self) -> None:
        self.choices.can_focus = False
        self.query_one(Input).focus()
        self.narrow(self.query_)

    @property
    def choices(self) -> ChoiceList:
        return self.query_one(ChoiceList)

    def on_input_changed(self, event: Input.Changed) -> None:
        self.narrow(event.value)

    def narrow(self, query: str) -> None:
        """List what matches."""
        self.matches = matches = self.search(query)
        width = max(min(self.size.width, 88) - 8, 30)
        self.choices.clear_options()
        self.choices.add_options(ChoiceOption(self.line(item, width), item) for item in matches)
        self.choices.highlighted = 0 if matches else None
        words = self.count(matches) if matches else "nothing found" if query.strip() else "type to search"
        self.query_one("#finder-line", Label).update(f"{words} · ↑↓ pick · {self.DOES} · esc")

    def action_move(self, by: int) -> None:
        if self.choices.option_count:
            at = (self.choices.highlighted or 0) + by
            self.choices.highlighted = min(max(at, 0), self.choices.option_count - 1)

    def action_page(self, by: int) -> None:
        self.choices.action_page_down() if by > 0 else self.choices.action_page_up()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.choices.action_select()

    def on_option_list_option_selected(self, event: ChoiceList.OptionSelected) -> None:
        if isinstance(event.option, ChoiceOption):
            self.dismiss(event.option.value)
