"""A list of places that narrows as a person types."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from app.tui.chat.places import MOST, SearchHit
from app.tui.tokens import cells

WHO = {"user": "you    ", "assistant": "model  ", "text": ""}


class Finder(ModalScreen[SearchHit | None]):
    """Gives the place that was picked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "move(1)", "Next", priority=True),
        Binding("up", "move(-1)", "Previous", priority=True),
    ]

    def __init__(
        self, title: str, placeholder: str, search: Callable[[str], Sequence[SearchHit]], query: str = ""
    ) -> None:
        super().__init__()
        self.title_, self.placeholder, self.search, self.query_ = title, placeholder, search, query
        self.found: Sequence[SearchHit] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet wide"):
            yield Label(self.title_, classes="sheet-title", markup=False)
            yield Input(self.query_, placeholder=self.placeholder, select_on_focus=False)
            yield OptionList(markup=False)
            yield Label("", classes="faint", id="finder-line", markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        self.query_one(Input).focus()
        self.narrow(self.query_)

    def on_input_changed(self, event: Input.Changed) -> None:
        self.narrow(event.value)

    def narrow(self, query: str) -> None:
        """List what matches; what lies on the branch in sight comes first."""
        self.found = self.search(query)
        rows = self.query_one(OptionList)
        rows.clear_options()
        rows.add_options(Option(self._line(found)) for found in self.found)
        rows.highlighted = 0 if self.found else None
        count = f"{len(self.found)}{' or more' if len(self.found) == MOST else ''} found"
        said = count if self.found else "nothing found" if query.strip() else "type to search"
        self.query_one("#finder-line", Label).update(f"{said} · ↑↓ pick · ⏎ go there · esc")

    def _line(self, found: SearchHit) -> Text:
        """The words around a place on one line, the place itself in bold."""
        width = max(min(self.size.width, 88) - 8, 30)
        who = WHO.get(found.who, f"{found.who:<6} ")
        tail = "" if found.here else "  other branch"
        room = width - cells.width(who + tail) - 1
        words = _flat(found.words)
        before = cells.fit(_flat(found.before).lstrip()[::-1], max((room - cells.width(words)) // 2, 0), "")[::-1]
        after = cells.fit(_flat(found.after), max(room - cells.width(before + words), 0))
        line = Text(who, style="dim", no_wrap=True)
        line.append(before)
        line.append(words, style="bold underline")
        line.append(after)
        line.append(tail, style="dim")
        return line

    def action_move(self, by: int) -> None:
        rows = self.query_one(OptionList)
        if self.found:
            rows.highlighted = min(max((rows.highlighted or 0) + by, 0), len(self.found) - 1)

    def on_input_submitted(self) -> None:
        picked = self.query_one(OptionList).highlighted
        if picked is not None and self.found:
            self.dismiss(self.found[picked])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self.found[event.option_index])


def _flat(text: str) -> str:
    return cells.clean(text.replace("\n", " "))
