"""All conversations: search, open, rename, duplicate, delete with undo."""

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from app.store import Store, Summary
from app.tui.dialogs.overlays import Ask
from app.tui.tokens import cells
from engine.errors import DataError

if TYPE_CHECKING:
    from app.tui.host import ViewHost


class SessionsDialog(ModalScreen[str | None]):
    """Gives the id of the conversation to open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back", show=False),
        Binding("down", "focus_list", "List", show=False),
        Binding("f2,ctrl+r", "rename", "Rename", show=False, priority=True),
        Binding("ctrl+d", "duplicate", "Duplicate", show=False, priority=True),
        Binding("delete", "remove", "Delete", show=False, priority=True),
        Binding("backspace", "remove", "Delete", show=False),  # in the list: in the search it takes a letter
        Binding("ctrl+z", "undo", "Undo", show=False, priority=True),
    ]

    def __init__(
        self, host: "ViewHost", current: str, *, named: Callable[[str], None], removed: Callable[[], str]
    ) -> None:
        """`current` is the conversation that is open: `named` is told its new name; `removed` opens another in its
        place, and gives that one's id."""
        super().__init__()
        self.host, self.current, self.named, self.removed = host, current, named, removed
        self.found: list[Summary] = []
        self.deleted: list[str] = []

    @property
    def store(self) -> Store:
        assert self.host.store is not None
        return self.host.store

    def compose(self) -> ComposeResult:
        with Vertical(classes="sheet wide"):
            yield Label("conversations", classes="sheet-title")
            yield Input(placeholder="search in everything that was said", id="query")
            yield OptionList(id="list", markup=False)
            yield Label(self._keys(), classes="faint", id="sessions-keys", markup=False)

    @staticmethod
    def _keys() -> str:
        return "⏎ open · ^r rename · ^d duplicate · del delete · ^z undo · esc"

    def on_mount(self) -> None:
        self.query_one("#query").focus()
        self.set_timer(0.05, self.search)  # what was just handed over is written first
        self.search()

    def search(self) -> None:
        """List what matches."""
        rows = self.query_one(OptionList)
        self.found = self.store.sessions(self.query_one("#query", Input).value)
        here = rows.highlighted or 0
        rows.clear_options()
        rows.add_options(Option(self._line(summary), id=summary.id) for summary in self.found)
        if self.found:
            rows.highlighted = min(here, len(self.found) - 1)
        if not self.found:
            self.query_one("#sessions-keys", Label).update("nothing found · esc")
        else:
            self.query_one("#sessions-keys", Label).update(self._keys())

    def _line(self, summary: Summary) -> str:
        width = max(min(self.size.width, 88) - 8, 30)
        age = ago(self.host.clock() - summary.updated)
        mark = "● " if summary.id == self.current else "  "
        model = summary.model.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
        by = model if summary.kind == "chat" else summary.kind
        tail = f"{cells.pad(cells.clean(by), 12)}  {summary.tokens:>6} tok  {age:>4}"
        title = cells.pad(cells.clean(summary.title or "untitled"), max(width - len(tail) - 4, 10))
        line = f"{mark}{title}  {tail}"
        if summary.found:
            line += f"\n    {cells.fit(cells.clean(summary.found), width - 4)}"
        return line

    @property
    def picked(self) -> str | None:
        rows = self.query_one(OptionList)
        return self.found[rows.highlighted].id if rows.highlighted is not None and self.found else None

    def on_input_changed(self) -> None:
        self.search()

    def on_input_submitted(self) -> None:
        if self.picked is not None:
            self.dismiss(self.picked)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def action_focus_list(self) -> None:
        self.query_one(OptionList).focus()

    def _say(self, line: str) -> None:
        self.query_one("#sessions-keys", Label).update(line)

    def action_rename(self) -> None:
        id = self.picked
        if id is None:
            return
        title = next(summary.title for summary in self.found if summary.id == id)

        def named(text: str | None) -> None:
            if text:
                self._change(lambda store: store.rename(id, cells.fit(cells.clean(text), 60)))
                if id == self.current:
                    self.named(cells.clean(text))

        self.app.push_screen(Ask("name", title), named)

    def action_duplicate(self) -> None:
        id = self.picked
        if id is not None:
            self._change(lambda store: store.duplicate(id, secrets.token_hex(4)))

    def action_remove(self) -> None:
        id = self.picked
        if id is None:
            return
        query = self.query_one("#query", Input)
        if query.has_focus and query.cursor_position < len(query.value):  # the key is meant for the words
            query.action_delete_right()
            return
        if id == self.current:
            self.current = self.removed()
        self.deleted.append(id)
        self._change(lambda store: store.delete(id))
        self._say("deleted · ^z brings it back")

    def action_undo(self) -> None:
        if self.deleted:
            id = self.deleted.pop()
            self._change(lambda store: store.undelete(id))

    def _change(self, action: Callable[[Store], None]) -> None:
        """Do something to the database, and list anew."""
        try:
            action(self.store)
            self.search()
        except DataError as error:
            self._say(str(error))


def ago(seconds: float) -> str:
    """How long ago, in one unit."""
    for size, unit in ((86_400 * 365, "y"), (86_400 * 7, "w"), (86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "now"
