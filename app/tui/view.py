"""`View`: the contract of a full-screen view. What it is called, and its key, stand in the table (`app.tui.views`).

The host asks its views to leave, tells them what changed, and lists their commands; a view asks its host
(`app.tui.host`) and knows no other view.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding
from textual.screen import Screen
from textual.widget import Widget

from app.tui import keys
from app.tui.host import ViewHost, host
from app.tui.views import VIEWS, numbered
from app.tui.widgets.bars import Hints, TopBar
from engine.errors import DataError

if TYPE_CHECKING:
    from engine.conversation import Conversation

Command = tuple[str, str, Callable[[], object]]  # `noun: Verb`, what it does in words, and what does it


class View(Screen[None]):
    """A full screen with a `TopBar` and `Hints`. Everything below may be left as it is."""

    NAME: ClassVar[str]  # in the table of views
    PARTS: ClassVar[tuple[type[Widget], ...]] = ()  # widgets whose keys can be remapped, beside the view's own
    STAYS: ClassVar[bool] = False  # it goes on while another view is looked at, and is there when one comes back
    NEEDS_MODEL: ClassVar[bool] = True  # one is loaded when it is shown
    typed = ""  # what was written before the view was there
    _going = False  # a digit names a view

    def __init_subclass__(cls, **options: Any) -> None:
        if "NAME" in vars(cls):
            help_key = Binding(keys.HELP, "keys", "Keys", show=False, id=f"{cls.NAME}.keys", tooltip="this help")
            cls.BINDINGS = [*vars(cls).get("BINDINGS", []), help_key]
        super().__init_subclass__(**options)

    @property
    def host(self) -> ViewHost:
        return host(self)

    @cached_property
    def top(self) -> TopBar:
        return self.query_one(TopBar)

    @cached_property
    def hints(self) -> Hints:
        return self.query_one(Hints)

    # -- what the host asks and tells --------------------------------------------------------------------------------

    def leave(self) -> None:
        """Stop and save: another view is shown, or the program ends."""

    def models_changed(self) -> None:
        """A model is loading, loaded or gone."""

    def adapters_changed(self) -> None:
        """The adapters on the current model are others."""

    def models_in_use(self) -> set[str]:
        """Models that have to stay loaded, beside the current one."""
        return set()

    def commands(self) -> Iterator[Command]:
        """The palette's entries here, as things are."""
        return iter(())

    def interrupt(self) -> bool:
        """ctrl+c without a selection; gives whether anything was done."""
        return False

    def open(self, conversation: "Conversation") -> None:
        """Show a conversation of the kind that the table has for this view; also before it is mounted."""

    def resumable(self) -> str:
        """The id of the conversation to come back to, "" for none."""
        current = self.current()
        return current.id if current is not None and current.nodes and self.host.store is not None else ""

    def current(self) -> "Conversation | None":
        """The conversation that is open here."""
        return None

    def rename(self, title: str) -> None:
        """The open conversation has another name."""

    def fresh(self) -> None:
        """Put an empty conversation in the place of the open one."""

    # -- what every view does ----------------------------------------------------------------------------------------

    def action_keys(self) -> None:
        """Help for what has the focus, and for the rest."""
        from app.tui.dialogs.overlays import Read
        from app.tui.help import keys_text

        self.app.push_screen(Read("keys", keys_text(self)))

    def action_sessions(self) -> None:
        """All conversations, texts and comparisons: another one is opened, the open one renamed or put away."""
        from app.tui.dialogs.sessions import SessionsDialog

        host, store, current = self.host, self.host.store, self.current()
        if store is None:
            self.hints.say("conversations are not being saved", alarm=True)
            return

        def removed() -> str:
            self.fresh()
            current = self.current()
            return current.id if current is not None else ""

        def picked(id: str | None) -> None:
            try:
                host.open(store.load(id)) if id is not None else None
            except DataError as error:
                self.hints.say(str(error), alarm=True)

        if current is not None:
            host.save(current)
        dialog = SessionsDialog(host, current.id if current else "", named=self.rename, removed=removed)
        self.app.push_screen(dialog, picked)

    def action_goto(self) -> None:
        """The next digit names a view."""
        self._going = True
        self.hints.say(f"go to: {numbered()}")

    def went(self, number: int) -> bool:
        """After `goto`: to the view of a number; gives whether it was asked for."""
        going, self._going = self._going, False
        if going and number <= len(VIEWS):
            self.host.go(list(VIEWS)[number - 1])
        return going

    def on_top_bar_view_asked(self, event: TopBar.ViewAsked) -> None:
        self.host.go(event.name)
