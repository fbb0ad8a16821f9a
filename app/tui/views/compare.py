"""The same prompt and seed through several columns that differ in one thing or another, drawn turn by turn."""

import secrets
from collections.abc import Iterator
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from app.tui.chat import candidates, comparison
from app.tui.chat.candidates import LN2
from app.tui.dialogs.overlays import Read
from app.tui.palette import Entry
from app.tui.sampling import Sampling
from app.tui.tokens.layout import TokenPlace
from app.tui.views.columns import NARROWEST, Columns
from app.tui.widgets.bars import Hints, InspectorLine, TopBar
from app.tui.widgets.column import Column
from app.tui.widgets.prompt import Prompt
from app.tui.widgets.token_view import TokenView


class CompareScreen(Columns):
    """Two to four columns."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", show=False, id="compare.stop"),
        Binding("ctrl+r", "redo", "Again", show=False, id="compare.redo"),
        Binding("plus", "add", "Add", show=False, id="compare.add"),
        Binding("minus", "remove", "Remove", show=False, id="compare.remove"),
        Binding("a", "adopt", "Adopt", show=False, id="compare.adopt"),
        Binding("c", "set_up", "Set up", show=False, id="compare.set_up"),
        Binding("f1", "keys", "Keys", show=False, id="compare.keys"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.prompt_text = ""

    def compose(self) -> ComposeResult:
        yield TopBar("compare", id="top")
        chat = self.likely.chat
        sampling = chat.talk.sampling if chat is not None else Sampling()
        kinds = [sampling.preset("greedy"), sampling]
        if self.app.size.width >= 3 * NARROWEST:
            kinds.append(sampling.preset("wild") if sampling.preset_name != "wild" else sampling.preset("balanced"))
        with Horizontal(id="columns"):
            for kind in kinds:
                yield self._column(kind)
        yield InspectorLine(id="glance")
        yield Prompt(placeholder="One prompt for every column  (enter runs)", id="prompt")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.hints = self.query_one(Hints)
        self.prompt = self.query_one(Prompt)
        chat = self.likely.chat
        if chat is not None:
            self.prompt.prompts = chat.prompt.prompts
            said = [shown.message.text for shown in chat.talk.shown if shown.message.role == "user"]
            if said:
                self.prompt.take(said[-1])
        self.query_one(InspectorLine).display = True
        self.prompt.focus()
        self.model_changed()
        self.call_after_refresh(self.refresh_heads)

    def on_resize(self) -> None:
        self.call_after_refresh(self.refresh_heads)

    # -- running -----------------------------------------------------------------------------------------------------

    def model_changed(self) -> None:
        """A model was loaded: columns that use it may begin."""
        super().model_changed()
        current = self.likely.engine.current
        name = (current.title or current.name) if current is not None else "no model"
        self.query_one(TopBar).show(name, (f"same prompt · seed {self.seed}",))
        self._hint()

    def on_prompt_sent(self, event: Prompt.Sent) -> None:
        if event.text.strip():
            self.prompt_text = event.text
            self.start()

    def start(self) -> None:
        """Give every column the prompt, from the beginning and with the same seed."""
        for column in self.columns:
            column.start(self._conversation(column.talk.sampling, column.talk.facts), self.prompt_text)
        self.columns[0].view.focus()
        self._hint()

    def differs(self, column: Column) -> None:
        """A column draws otherwise now: it answers the prompt again, with the same seed."""
        super().differs(column)
        if self.prompt_text and column.talk.facts is not None:
            column.start(self._conversation(column.talk.sampling, column.talk.facts), self.prompt_text)
            if column is self.columns[0]:
                self.unmark()
        self._hint()

    def reported(self, column: Column, job: int, events: list[Any]) -> None:
        """Events of one column's runs."""
        if not column.is_mounted:
            return
        if trouble := column.reported(job, events):
            self.hints.say(trouble, alarm=True)
        self.refresh_feet()
        if column.view.has_focus or not any(each.view.has_focus for each in self.columns):
            self.inspect()
        self._hint()

    # -- looking -----------------------------------------------------------------------------------------------------

    def inspect(self) -> None:
        """The token under the cursor of the focused column, in one line."""
        column = self.picked()
        place = column.view.cursor or column.view.newest()
        glance = self.query_one(InspectorLine)
        if place is None or not column.talk.shown:
            glance.show(None, ())
            return
        at = TokenPlace(len(column.talk.shown) - 1, place.token)
        step = column.talk.step_at(at)
        if step is None:
            return
        names = self.likely.names_of(column.talk.conversation.model)
        before, steps = column.talk.history(at)
        recipe = column.talk.sampling.recipe
        outcome = candidates.replayed(step, recipe, before, steps, names, self.seed)
        view = candidates.view(step, outcome, recipe, names, title="TOKEN", live=column.view.cursor is None)
        bits = [None if s.entropy is None else s.entropy / LN2 for s in column.talk.shown[-1].steps[: place.token + 1]]
        glance.show(view, bits[-8:])

    def on_token_view_cursor_moved(self) -> None:
        self.inspect()

    def on_token_view_chosen(self) -> None:
        self.action_adopt()

    def on_descendant_focus(self) -> None:
        for column in self.columns:
            column.set_class(column.has_focus_within, "-picked")
        self.call_later(self._hint)
        self.call_later(self.inspect)

    def _hint(self) -> None:
        running = any(column.talk.running for column in self.columns)
        stop = (("esc", "Stop"),) if running else ()
        if isinstance(self.focused, TokenView):
            own: tuple[tuple[str, str], ...] = (("tab", "Column"), ("a", "Adopt"), ("c", "Set up"), ("+ -", "Columns"))
        else:
            own = (("⏎", "Run"), ("tab", "Columns"))
        self.hints.show((*stop, *own, ("^r", "New seed"), ("f1", "Keys")))

    def on_key(self) -> None:
        self.hints.say("")

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Stop every column; else back to the chat."""
        stopped = [column.talk.stop() for column in self.columns]
        if not any(stopped):
            self.likely.action_go("chat")
            return
        for column in self.columns:
            column.show()
        self._hint()

    def leave(self) -> None:
        """Stop before something else is shown."""
        for column in self.columns:
            column.talk.stop()

    def action_redo(self) -> None:
        """Run again, every column with the same new seed."""
        self.seed = secrets.randbelow(1000)
        self.model_changed()
        if self.prompt_text:
            self.start()

    def action_adopt(self) -> None:
        """Open the picked column's answer in the chat, the others as branches beside it."""
        picked = self.picked()
        if not picked.talk.shown or self.likely.chat is None:
            self.hints.say("there is nothing to adopt yet")
            return
        self.leave()
        ordered = [*(column for column in self.columns if column is not picked), picked]
        answers = [(column.label, column.talk.shown) for column in ordered]
        self.likely.chat.open(comparison.gathered(picked.talk.conversation, answers, self.likely.clock()))
        self.likely.chat.save()
        self.likely.action_go("chat")

    def action_keys(self) -> None:
        from app.tui.help import keys_text

        self.app.push_screen(Read("keys", keys_text(self)))

    def palette(self) -> Iterator[Entry]:
        """What the palette offers here."""
        yield "compare: Add column", "a copy of the picked one", self.action_add
        yield "compare: Set up column…", "parameters, their order, strategy or model", self.action_set_up
        yield "compare: Adopt into chat", "the others become branches", self.action_adopt
        yield "compare: New seed", "the same one for every column", self.action_redo

    def on_top_bar_screen_asked(self, event: TopBar.ScreenAsked) -> None:
        self.likely.action_go(event.name)
