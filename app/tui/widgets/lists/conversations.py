"""`ConversationList`: the conversations that are kept, newest first: search, open, rename, copy, put away, restore.

In a sidebar they stand in two rows each, by days; in a dialog in one; keys and what they do are the same. Which one is
open, and what becomes of the open one, is told from outside.
"""

import secrets
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import ClassVar

from rich.segment import Segment
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.message import Message
from textual.widgets import Input, Label
from textual.widgets.option_list import Option

from likely.app.store.store import Store, Summary
from likely.app.tui.base import keys
from likely.app.tui.base.drawing.line_widget import Line, LineWidget
from likely.app.tui.base.text import cells
from likely.app.tui.base.view_table import VIEWS
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.lists.choices import ChoiceList
from likely.app.tui.widgets.lists.overlays import Ask
from likely.engine.base.errors import DataError

LOOK_S = 1.0  # between two looks at whether the database has changed
ROOMY = 60  # columns from which on a conversation has one row
ALL = "all"


class KindRow(LineWidget):
    """The kinds of conversations, the chosen one lit."""

    kinds: tuple[str, ...] = (ALL, *(entry.opens for entry in VIEWS.values() if entry.opens))
    kind = ALL

    def lines(self, width: int, height: int) -> list[Line]:
        look = self.look
        segments = [Segment(" ")]
        for name in self.kinds:
            segments += [Segment(name, look.row if name == self.kind else look.faint), Segment("  ")]
        return [segments]

    def turn(self, by: int) -> None:
        self.kind = self.kinds[(self.kinds.index(self.kind) + by) % len(self.kinds)]
        self.redraw()

    def at(self, x: int) -> str:
        """The kind at a column, "" for none."""
        start = 1
        for name in self.kinds:
            if start <= x < start + len(name):
                return name
            start += len(name) + 2
        return ""


class ConversationList(Vertical):
    """A search field, and the conversations that match."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "list", "List", id="sessions.list"),
        Binding("slash", "search", "Search", id="sessions.search"),
        Binding("left", "kind(-1)", "Kind", id="sessions.previous_kind"),
        Binding("right", "kind(1)", "Kind", id="sessions.next_kind"),
        Binding("r", "rename", "Rename", id="sessions.rename"),
        Binding("d", "duplicate", "Duplicate", id="sessions.duplicate"),
        Binding("backspace", "remove", "Put away", id="sessions.remove"),
        Binding("u", "undo", "Bring back", id="sessions.undo"),
        # in the search field too
        Binding("ctrl+r", "rename", "Rename", priority=True),
        Binding("ctrl+d", "duplicate", "Duplicate", priority=True),
        Binding("delete", "remove", "Put away", priority=True),
        Binding("ctrl+z", "undo", "Bring back", priority=True),
        Binding("escape", "leave", "Back", id="sessions.leave"),
    ]

    class ConversationPicked(Message):
        """A person opens a conversation."""

        def __init__(self, session: str) -> None:
            super().__init__()
            self.session = session

    class Abandoned(Message):
        """A person goes back to what is open."""

    def __init__(
        self,
        current: Callable[[], str],
        *,
        named: Callable[[str], None],
        removed: Callable[[], None],
        classes: str | None = None,
    ) -> None:
        """`current` gives the id of the conversation that is open: `named` is told its new name, and `removed` opens
        another in its place."""
        super().__init__(classes=classes)
        self.current, self.named, self.removed = current, named, removed
        self.summaries: list[Summary] = []
        self.deleted: list[str] = []
        self._listed: tuple[object, ...] = ()
        self._news = ""  # of the store, for as long as the list is open

    @property
    def store(self) -> Store:
        store = host(self).store
        assert store is not None
        return store

    @property
    def narrow(self) -> bool:
        return self.has_class("sidebar")

    def compose(self) -> ComposeResult:
        yield Label("conversations", classes="sheet-title", id="sessions-title", markup=False)
        about = "find in titles and text" if self.narrow else "search in everything that was said"
        yield Input(placeholder=about, id="query")
        yield KindRow(id="kinds")
        yield ChoiceList(id="list", markup=False)
        yield Label("", classes="faint", id="sessions-keys", markup=False)

    def on_mount(self) -> None:
        self.set_timer(0.05, self.search)  # what was just handed over is written first
        self.set_interval(LOOK_S, self.follow)
        self.search()

    def follow(self) -> None:
        """List anew where the database has changed, or another one is open."""
        try:
            if self.is_attached and self.display and self._state() != self._listed:
                self.search()
        except DataError as error:
            self._say(str(error))
        except NoMatches:  # a tick while the program ends: the parts of a widget go before it
            pass

    def _state(self) -> tuple[object, ...]:
        return self.store.version(), self.current()

    # -- listing -----------------------------------------------------------------------------------------------------

    def search(self) -> None:
        """List what matches."""
        try:
            self._listed = self._state()
            summaries = self.store.sessions(self.query_one("#query", Input).value)
        except DataError as error:
            self._say(str(error))
            return
        kind = self.query_one(KindRow).kind
        rows, here = self.query_one("#list", ChoiceList), self.picked
        self.summaries = [summary for summary in summaries if kind in (ALL, summary.kind)]
        at = rows.highlighted or 0
        rows.clear_options()
        rows.add_options(self._options())
        ids = [option.id for option in rows.options]
        if self.summaries:
            here = here or self.current()
            rows.highlighted = ids.index(here) if here in ids else min(at, len(ids) - 1)
            if rows.options[rows.highlighted].disabled:
                rows.highlighted = min(rows.highlighted + 1, len(ids) - 1)
        self._head()
        self._news = self.store.taken_notice() or self._news
        self._say(self._news or (self._keys() if self.summaries else self._nothing()))

    def _nothing(self) -> str:
        """Said in the place of the keys: nothing matches, or nothing was ever kept."""
        everything = not self.query_one("#query", Input).value and self.query_one(KindRow).kind == ALL
        keeper = host(self).keeper
        kept = (keeper.trouble if keeper is not None else "") or "what is said is kept here"
        return kept if everything else "nothing found · esc"

    def on_descendant_focus(self) -> None:
        self._head()

    def on_descendant_blur(self) -> None:
        self.call_after_refresh(self._head)

    def _head(self) -> None:
        if self.narrow and self.is_attached:
            self.query_one("#sessions-title", Label).update(self._heading())

    def _heading(self) -> Text:
        look = host(self).look
        text = Text("CONVERSATIONS", look.heading, no_wrap=True)
        text.append(cells.pad(f"  {len(self.summaries)}", self.size.width - len(text) - 11), look.faint)
        text.append(keys.pretty(host(self).keys_of("chat.sessions")), look.accent)
        text.append(" closes" if self.has_focus_within else " finds ", look.faint)
        return text

    def _options(self) -> Iterator[Option]:
        day = ""
        for summary in self.summaries:
            if self.narrow and (its := self._day(summary)) != day:
                day = its
                yield Option(Text(f"\n {day}", host(self).look.heading), disabled=True)
            yield Option(self._rows(summary) if self.narrow else self._line(summary), id=summary.id)

    def _day(self, summary: Summary) -> str:
        """The days that a conversation stands under."""
        days = self._date(host(self).clock()) - self._date(summary.updated)
        names = ((0, "TODAY"), (1, "YESTERDAY"), (6, "LAST WEEK"))
        return next((name for most, name in names if days <= timedelta(most)), "BEFORE")

    @staticmethod
    def _date(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds).replace(hour=0, minute=0, second=0, microsecond=0)

    def _when(self, summary: Summary) -> str:
        day, then = self._day(summary), datetime.fromtimestamp(summary.updated)
        return then.strftime("%H:%M" if day in ("TODAY", "YESTERDAY") else "%a %d" if day == "LAST WEEK" else "%d %b")

    def _rows(self, summary: Summary) -> Text:
        """A conversation in two rows: its title; its kind, how much there is of it, and when it was."""
        look, width = host(self).look, max(self.size.width - 3, 12)
        mark = "▎" if summary.id == self.current() else " "
        much = f"{summary.leaves} leaves" if summary.leaves > 1 else f"{summary.tokens:,} tok"
        when = self._when(summary)
        about = cells.pad(f"{summary.kind} · {much}", width - len(when) - 1)
        text = Text(no_wrap=True)
        text.append(mark, look.chosen)
        text.append(f"{cells.pad(cells.clean(summary.title or 'untitled'), width)}\n", look.text)
        text.append(mark, look.chosen)
        text.append(f"{about} {when}", look.faint)
        if summary.excerpt:
            text.append(f"\n {cells.fit(cells.clean(summary.excerpt), width)}", look.faint)
        return text

    def _line(self, summary: Summary) -> str:
        width = max(min(self.screen.size.width, 88) - 8, 30)
        age = ago(host(self).clock() - summary.updated)
        mark = "● " if summary.id == self.current() else "  "
        model = summary.model.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
        by = model if summary.kind == "chat" else summary.kind
        tail = f"{cells.pad(cells.clean(by), 12)}  {summary.tokens:>6} tok  {age:>4}"
        title = cells.pad(cells.clean(summary.title or "untitled"), max(width - len(tail) - 4, 10))
        line = f"{mark}{title}  {tail}"
        if summary.excerpt:
            line += f"\n    {cells.fit(cells.clean(summary.excerpt), width - 4)}"
        return line

    def _keys(self) -> str:
        if self.deleted:
            return "put away · ^z brings it back"
        if self.narrow:
            return "^r rename · del put away"
        return "⏎ open · ^r rename · ^d duplicate · del put away · ^o closes"

    @property
    def picked(self) -> str | None:
        rows = self.query_one("#list", ChoiceList)
        return rows.options[rows.highlighted].id if rows.highlighted is not None and self.summaries else None

    def _say(self, line: str) -> None:
        self.query_one("#sessions-keys", Label).update(line)

    # -- what a person does ------------------------------------------------------------------------------------------

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.search()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.picked is not None:
            self.post_message(self.ConversationPicked(self.picked))

    def on_option_list_option_selected(self, event: ChoiceList.OptionSelected) -> None:
        event.stop()
        if event.option.id is not None:
            self.post_message(self.ConversationPicked(event.option.id))

    def on_click(self, event: events.Click) -> None:
        row = self.query_one(KindRow)
        if event.widget is row and (kind := row.at(event.x)):
            row.kind = kind
            self.action_kind(0)

    def action_list(self) -> None:
        self.query_one("#list").focus()

    def action_search(self) -> None:
        self.query_one("#query").focus()

    def action_leave(self) -> None:
        self.post_message(self.Abandoned())

    def action_kind(self, by: int) -> None:
        """Another kind of conversations."""
        self.query_one(KindRow).turn(by)
        self.search()

    def action_rename(self) -> None:
        id = self.picked
        if id is None:
            return
        title = next(summary.title for summary in self.summaries if summary.id == id)

        def named(text: str | None) -> None:
            if text:
                self._change(lambda store: store.rename(id, cells.fit(cells.clean(text), 60)))
                if id == self.current():
                    self.named(cells.clean(text))

        self.app.push_screen(Ask("name", title), named)

    def action_duplicate(self) -> None:
        id = self.picked
        if id is not None:
            self._change(lambda store: store.duplicate(id, secrets.token_hex(4)))

    def action_remove(self) -> None:
        query = self.query_one("#query", Input)
        if query.has_focus and query.cursor_position < len(query.value):  # the key is meant for the words
            query.action_delete_right()
            return
        id = self.picked
        if id is None:
            return
        if id == self.current():
            self.removed()
        self.deleted.append(id)
        self._change(lambda store: store.delete(id))

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
