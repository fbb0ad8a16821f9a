"""`View`: the contract of a full-screen view. What it is called, and its key, stand in the table (`app.tui.views`).

The host asks its views to leave, tells them what changed, and lists their commands; a view asks its host
(`app.tui.widgets.host`) and knows no other view.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding
from textual.events import Resize
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import TextArea

from likely.app.tui.base import keys
from likely.app.tui.base.input.compositor import PatchCompositor
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.view_table import VIEWS, by_digit
from likely.app.tui.widgets.bars import Hints, TopBar
from likely.app.tui.widgets.host import ViewHost, host
from likely.app.tui.widgets.lesson.lesson_pane import BESIDE, HEIGHT, WIDTH, LessonPane
from likely.app.tui.widgets.lists.conversations import ConversationList
from likely.engine.base.errors import DataError

if TYPE_CHECKING:
    from likely.app.lessons.expression import Value
    from likely.engine.chat.conversation import Conversation
    from likely.engine.decode.loop.strategy import Strategy

BROAD = "-broad"  # a screen that is wide enough for a sidebar
# `noun: Verb`, what it does in words, and what does it; without that, the words say why it cannot be done now
Command = tuple[str, str, Callable[[], object] | None]


class View(Screen[None]):
    """A full screen with a `TopBar` and `Hints`. Everything below may be left as it is."""

    NAME: ClassVar[str]  # in the table of views
    PARTS: ClassVar[tuple[type[Widget], ...]] = ()  # widgets whose keys can be remapped, beside the view's own
    STAYS: ClassVar[bool] = False  # it goes on while another view is looked at, and is there when one comes back
    NEEDS_MODEL: ClassVar[bool] = True  # one is loaded when it is shown
    LISTS: ClassVar[bool] = False  # conversations stand beside what is open, where there is room, until they are closed
    _going = False  # a digit names a view
    _worked_in: Widget | None = None  # had the keys before a lesson

    def __init_subclass__(cls, **options: Any) -> None:
        if "NAME" in vars(cls):
            everywhere = [
                Binding(keys.HELP, "keys", "Keys", id=f"{cls.NAME}.keys", tooltip="this help"),
                Binding(
                    keys.FORMULA, "formula", "Formula", id=f"{cls.NAME}.formula",
                    tooltip="the number here, as a formula of p",
                ),
            ]  # fmt: skip
            cls.BINDINGS = [*vars(cls).get("BINDINGS", []), *everywhere]
        super().__init_subclass__(**options)

    def __init__(self) -> None:
        super().__init__()
        self._compositor = PatchCompositor()

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

    def formula(self) -> Formula | None:
        """The number that is looked at, as a formula; None where there is none yet."""
        return None

    def numbers(self) -> "Mapping[str, Value]":
        """All that it has measured by now, by the names that the table of lessons' views has for it."""
        return {}

    def lacks(self) -> str:
        """Why there will be no numbers here, in a line; "" where they are there, or come."""
        idle = self.host.engine.current is None and self.host.engine.loading is None
        return "there is no model: /model in the chat chooses one" if self.NEEDS_MODEL and idle else ""

    def set_state(self, state: Mapping[str, str]) -> None:
        """Begin as a chapter of a course wants it, by the keys that the table has for it."""

    def commands(self) -> Iterator[Command]:
        """The palette's entries here, as things are."""
        return iter(())

    def help(self) -> Sequence[str]:
        """Paragraphs of the help that are about this view alone, beside its keys."""
        return ()

    def interrupt(self) -> bool:
        """ctrl+c without a selection; gives whether anything was done."""
        return False

    def open(self, conversation: "Conversation") -> None:
        """Show a conversation of the kind that the table has for this view; also before it is mounted."""

    def decode_by(self, strategy: "Strategy | None") -> None:
        """Find tokens by a strategy from now on, where the view draws."""

    def resumed(self) -> "Conversation | None":
        """The conversation that the program was asked for; None where it was not, or where it cannot be read, which the
        host says then."""
        store = self.host.store
        if not self.host.resume or store is None:
            return None
        try:
            return store.load(self.host.resume)
        except DataError as error:
            self.host.store_news = str(error)
            return None

    def resumable(self) -> str:
        """The id of the conversation to come back to, "" for none."""
        current = self.current()
        return current.id if current is not None and current.nodes and self.host.keeper is not None else ""

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
        from likely.app.tui.views.help import keys_text
        from likely.app.tui.widgets.lists.overlays import Read

        self.app.push_screen(Read("keys", keys_text(self, self.help())))

    def action_formula(self) -> None:
        """Which map of p the number that is looked at belongs to, and its formula with the present values."""
        formula = self.formula()
        if formula is None:
            self.hints.say("there is no number here yet")
            return
        from likely.app.tui.dialogs.formula import FormulaSheet

        self.app.push_screen(FormulaSheet(formula))

    def action_sessions(self) -> None:
        """All conversations, texts and comparisons, to search and to open; again closes them. Where there is room they
        stand beside what is open, else over it."""
        current = self.current()
        if self.host.store is None:
            self.hints.say("conversations are not being saved", alarm=True)
            return
        if current is not None:
            self.host.save(current)
        if self.has_class(BROAD):
            lists = self.query(".sidebar")
            self.host.sidebar = not (lists and lists.first().has_focus_within)
            self.list_beside()
            if self.host.sidebar:
                self.call_after_refresh(self.query(".sidebar").first(ConversationList).action_search)
            else:
                self._to_field()
            return
        from likely.app.tui.dialogs.conversations import ConversationsDialog

        dialog = ConversationsDialog(self._open_id, named=self.rename, removed=self.fresh)
        self.app.push_screen(dialog, self._open_kept)

    def list_beside(self) -> None:
        """The conversations stand beside what is open, or do not, as in every view where a person has said so."""
        wanted = self.LISTS if self.host.sidebar is None else self.host.sidebar
        place, there = self.place_of_list(), None
        for each in self.query(".sidebar").results(ConversationList):
            if wanted and each.parent is place:
                there = each
            else:
                each.remove()
        if wanted and there is None and self.host.store is not None and self.has_class(BROAD):
            place.mount(ConversationList(self._open_id, named=self.rename, removed=self.fresh, classes="sidebar"))

    def place_of_list(self) -> Widget:
        """Parent of the conversations: the screen, at its left edge."""
        return self

    def _open_id(self) -> str:
        current = self.current()
        return current.id if current is not None else ""

    def _open_kept(self, id: str | None) -> None:
        store = self.host.store
        try:
            if id is not None and store is not None:
                self.host.open(store.load(id))
        except DataError as error:
            self.hints.say(str(error), alarm=True)

    def _to_field(self) -> None:
        """The focus to where a person writes."""
        for field in self.query(TextArea):
            field.focus()

    def on_screen_resume(self) -> None:
        self.list_beside()
        self.lesson_beside()

    def on_resize(self) -> None:
        self.call_after_refresh(self.list_beside)
        self._place_lesson()

    # -- a lesson beside what is shown -------------------------------------------------------------------------------

    @property
    def lesson_pane(self) -> LessonPane | None:
        """The lesson that stands here."""
        return next(iter(self.query(LessonPane)), None)

    @property
    def room(self) -> Size:
        """The cells that a lesson leaves of the screen."""
        width, height = self.size
        if self.lesson_pane is None:
            return self.size
        return Size(width - WIDTH, height) if width >= BESIDE else Size(width, height - HEIGHT)

    def lesson_beside(self) -> None:
        """The lesson that is open stands in its view, which begins as the chapter wants it, and nowhere else."""
        tutor, pane = self.host.tutor, self.lesson_pane
        if tutor is None or tutor.lesson is None or tutor.place != self.NAME:
            if pane is not None:
                pane.remove()
                self.call_after_refresh(self._fit_breakpoints)
            return
        if pane is None:
            pane = LessonPane(tutor, self.numbers, self.lacks, self.host.say)
            self.mount(pane)
            self._place_lesson()
            self.call_after_refresh(self._fit_breakpoints)
            if not tutor.working:
                self.call_after_refresh(pane.focus_here)
        if (state := tutor.begin()) is not None:
            self.call_after_refresh(self.set_state, state)
        pane.reshow()

    def learner_changed(self) -> None:
        """Another model is current: chapters are its own, and the lesson that stands here begins with it."""
        tutor, current = self.host.tutor, self.host.engine.current
        if tutor is not None and current is not None:
            tutor.with_model(current.name)
            if self.lesson_pane is not None and self.is_current:
                self.on_lesson_pane_lesson_moved()

    def back(self) -> None:
        """Away from this view: to all chapters where a lesson stands here, else to the chat."""
        if self.lesson_pane is not None:
            self.on_lesson_pane_lesson_left()
        else:
            self.host.go("chat")

    def to_lesson(self) -> bool:
        """The keys to the lesson that stands here, and back to what had them; gives whether one does."""
        pane = self.lesson_pane
        if pane is None:
            return False
        if pane.has_focus_within:
            self.set_focus(self._worked_in if self._worked_in is not None and self._worked_in.is_attached else None)
        else:
            self._worked_in = self.focused
            pane.focus_here()
        return True

    def _place_lesson(self) -> None:
        pane, beside = self.lesson_pane, self.size.width >= BESIDE
        if pane is not None and pane.has_class("-beside") != beside:
            pane.set_class(beside, "-beside")
            self._fit_breakpoints()

    def _fit_breakpoints(self) -> None:
        """Beside a lesson the screen is as wide or as high as what is left of it."""
        width, height = self.size.width - self.room.width, self.size.height - self.room.height
        app = self.app
        self.HORIZONTAL_BREAKPOINTS = _later(app.HORIZONTAL_BREAKPOINTS, width)
        self.VERTICAL_BREAKPOINTS = _later(app.VERTICAL_BREAKPOINTS, height)
        self.post_message(Resize(self.size, self.size))

    def on_lesson_pane_lesson_moved(self) -> None:
        tutor = self.host.tutor
        if tutor is not None:
            self.host.go(tutor.place)
            if self.is_current:
                self.lesson_beside()

    def on_lesson_pane_lesson_left(self) -> None:
        if self.host.tutor is not None:
            self.host.tutor.close()
            self.host.go("learn")
            if self.is_current:
                self.lesson_beside()

    def on_conversation_list_conversation_picked(self, event: ConversationList.ConversationPicked) -> None:
        self._open_kept(event.session)
        self._to_field()

    def on_conversation_list_abandoned(self) -> None:
        self._to_field()

    def action_goto(self) -> None:
        """The next digit names a view, by its key."""
        self._going = True
        self.hints.say(f"go to: {' · '.join(f'{digit} {name}' for digit, name in by_digit().items())}")

    def went(self, number: int) -> bool:
        """After `goto`: to the view of a digit; gives whether it was asked for."""
        going, self._going = self._going, False
        if going and (name := by_digit().get(str(number))):
            self.host.go(name)
        return going

    def on_top_bar_view_asked(self, event: TopBar.ViewAsked) -> None:
        self.host.go(event.name)


def _later(breakpoints: Sequence[tuple[int, str]] | None, by: int) -> list[tuple[int, str]]:
    """Breakpoints that come so many cells later; the first one has no beginning."""
    return [(at + by if at else 0, name) for at, name in breakpoints or ()]


def view_class(name: str) -> type[View]:
    """The class of a view in the table, imported now."""
    kind = VIEWS[name].load()
    assert issubclass(kind, View), f"{kind} is no view"
    return kind
