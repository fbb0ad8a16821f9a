"""The same prompt and seed through several columns that differ in one thing or another, drawn turn by turn."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from app.tui import candidates, slash
from app.tui import messages as m
from app.tui.candidates import LN2
from app.tui.commands import Entry
from app.tui.layout import Place
from app.tui.sampling import Sampling
from app.tui.talk import Talk
from app.tui.widgets.bars import Glance, Hints, TopBar
from app.tui.widgets.column import Column
from app.tui.widgets.overlays import Pick, Read
from app.tui.widgets.prompt import Prompt
from app.tui.widgets.token_view import TokenView
from engine.conversation import Conversation, Fork, Node
from engine.trace import Step

if TYPE_CHECKING:
    from app.tui.app import LikelyApp

MOST = 4
NARROWEST = 28  # columns of text that a column needs


class CompareScreen(Screen[None]):
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
        self.seed = 7
        self.prompt_text = ""

    @property
    def likely(self) -> "LikelyApp":
        return cast("LikelyApp", self.app)

    @property
    def columns(self) -> list[Column]:
        return list(self.query(Column))

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
        yield Glance(id="glance")
        yield Prompt(placeholder="One prompt for every column  (enter runs)", id="prompt")
        yield Hints(id="hints")

    def _column(self, sampling: Sampling, model: str = "") -> Column:
        now = self.likely.clock()
        conversation = Conversation(secrets.token_hex(4), recipe=sampling.recipe, created=now, updated=now)
        talk = Talk(conversation, lambda _: None, self.likely.bridge.number, clock=self.likely.clock)
        talk.sampling = sampling
        talk.new_seed = lambda: self.seed
        column = Column(talk, model)
        talk.send = lambda command: self.likely.ask(command, partial(self.reported, column))
        return column

    def on_mount(self) -> None:
        self.hints = self.query_one(Hints)
        self.prompt = self.query_one(Prompt)
        chat = self.likely.chat
        if chat is not None:
            self.prompt.prompts = chat.prompt.prompts
            said = [shown.message.text for shown in chat.talk.shown if shown.message.role == "user"]
            if said:
                self.prompt.take(said[-1])
        self.query_one(Glance).display = True
        self.prompt.focus()
        self.model_changed()
        self.call_after_refresh(self.refresh_heads)

    def refresh_heads(self) -> None:
        for column in self.columns:
            column.head()
        self._hint()

    def on_resize(self) -> None:
        self.call_after_refresh(self.refresh_heads)

    # -- running -----------------------------------------------------------------------------------------------------

    def model_changed(self) -> None:
        """A model was loaded: columns that use it may begin."""
        current = self.likely.current
        for column in self.columns:
            facts = self.likely.models.get(column.model) if column.model else current
            if facts is not None and column.talk.facts is not facts:
                column.talk.ready(facts)
                column.show(follow=True)
        name = (current.title or current.name) if current is not None else "no model"
        self.query_one(TopBar).show(name, (f"same prompt · seed {self.seed}",))
        self.refresh_heads()

    def on_prompt_sent(self, event: Prompt.Sent) -> None:
        if event.text.strip():
            self.prompt_text = event.text
            self.start()

    def start(self) -> None:
        """Give every column the prompt, from the beginning and with the same seed."""
        system = self.likely.chat.talk.conversation.system if self.likely.chat is not None else ""
        for column in self.columns:
            talk = column.talk
            talk.stop()
            now = self.likely.clock()
            talk.conversation = Conversation(
                secrets.token_hex(4), model=talk.facts.name if talk.facts is not None else "", system=system,
                recipe=talk.sampling.recipe, created=now, updated=now,
            )  # fmt: skip
            talk.began_ids.clear()
            talk.submit(self.prompt_text)
            column.view.mark = None
            column.view.move_to(None)
            column.show(follow=True)
        self.columns[0].view.focus()
        self._hint()

    def reported(self, column: Column, reports: list[m.Report]) -> None:
        """Reports for one column."""
        talk = column.talk
        if not column.is_mounted:
            return
        steps: list[Step] = []
        for report in reports:
            match report:
                case m.Drew(work, step) if talk.mine(work):
                    steps.append(step)
                case m.Began() if talk.mine(report.work):
                    talk.began(report)
                case m.Ended(work) if talk.mine(work):
                    self._drew(column, steps)
                    steps = []
                    talk.ended(report)
                    column.show()
                case m.Failed(work, line):
                    if talk.mine(work):
                        self._drew(column, steps)
                        steps = []
                        talk.failed()
                    self.hints.say(line, alarm=True)
        self._drew(column, steps)
        for each in self.columns:
            self._foot(each)
        if column.view.has_focus or not any(each.view.has_focus for each in self.columns):
            self.inspect()
        self._hint()

    def _drew(self, column: Column, steps: list[Step]) -> None:
        if steps and column.talk.run is not None:
            column.view.extend(column.talk.drew(steps))

    def _foot(self, column: Column) -> None:
        at = divergence(self._tokens(self.columns[0]), self._tokens(column))
        if at is not None and column.view.mark != Place(0, at) and column is not self.columns[0]:
            column.view.mark = Place(0, at)
            column.view.redraw()
        column.foot(column is self.columns[0], at)

    @staticmethod
    def _tokens(column: Column) -> list[int]:
        return [step.token for step in column.talk.shown[-1].steps] if column.talk.shown else []

    # -- looking -----------------------------------------------------------------------------------------------------

    def picked(self) -> Column:
        """The column that has the focus, else the first."""
        return next((column for column in self.columns if column.has_focus_within), self.columns[0])

    def inspect(self) -> None:
        """The token under the cursor of the focused column, in one line."""
        column = self.picked()
        place = column.view.cursor or column.view.newest()
        glance = self.query_one(Glance)
        if place is None or not column.talk.shown:
            glance.show(None, ())
            return
        at = Place(len(column.talk.shown) - 1, place.token)
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

    async def action_add(self) -> None:
        """Another column, a copy of the picked one."""
        fits = self.size.width // (len(self.columns) + 1) >= NARROWEST
        if len(self.columns) >= MOST or not fits:
            self.hints.say("there is no room for another column")
            return
        column = self._column(self.picked().talk.sampling, self.picked().model)
        await self.query_one("#columns").mount(column)
        self.model_changed()
        self.set_up(column)

    async def action_remove(self) -> None:
        if len(self.columns) <= 2:
            self.hints.say("a comparison has at least two columns")
            return
        column = self.picked()
        column.talk.stop()
        await column.remove()
        self.columns[0].view.focus()
        self.refresh_heads()

    def action_set_up(self) -> None:
        self.set_up(self.picked())

    def set_up(self, column: Column) -> None:
        """Choose what a column does differently: a preset, an order, or another model."""
        chat = self.likely.chat
        options = slash.preset_options(chat) if chat is not None else []
        options += [(f"model {name}", f"{name:<14} this model") for name in self.likely.models]
        options.append(("model", "another model…"))
        self.app.push_screen(Pick("what this column does differently", options), partial(self._chosen, column))

    def _chosen(self, column: Column, choice: str | None) -> None:
        if choice is None:
            return
        kind, _, name = choice.partition(" ")
        if kind == "model" and not name:
            from app.tui.screens.models import Models

            self.app.push_screen(Models(self.likely), partial(self._model, column))
        elif kind == "model":
            self._model(column, name)
        else:
            talk = column.talk
            other = slash.preset(self.likely.chat, choice)
            talk.resample(
                replace(talk.sampling, order=other.order)
                if kind == "order"
                else replace(other, order=talk.sampling.order)
            )
        self.refresh_heads()

    def _model(self, column: Column, name: str | None) -> None:
        if name is None:
            return
        column.model = name
        if name in self.likely.models:
            self.model_changed()
            return
        work = self.likely.bridge.number()

        def loaded(reports: list[m.Report]) -> None:
            for report in reports:
                match report:
                    case m.Loading(_, _, stage):
                        self.hints.say(stage)
                    case m.Ready(_, facts):
                        column.model = facts.name
                        self.likely.adopt_model(facts)
                        self.model_changed()
                    case m.Failed(_, line):
                        self.hints.say(line, alarm=True)

        self.likely.ask(m.Load(work, name), loaded)

    def action_adopt(self) -> None:
        """Open the picked column's answer in the chat, the others as branches beside it."""
        picked = self.picked()
        if not picked.talk.shown or self.likely.chat is None:
            self.hints.say("there is nothing to adopt yet")
            return
        self.leave()
        self.likely.chat.open(gathered(self.columns, picked, self.likely.clock()))
        self.likely.chat.save()
        self.likely.action_go("chat")

    def action_keys(self) -> None:
        from app.tui.help import keys_text

        self.app.push_screen(Read("keys", keys_text(self)))

    def palette(self) -> Iterator[Entry]:
        """What the palette offers here."""
        yield "compare: Add column", "a copy of the picked one", self.action_add
        yield "compare: Set up column…", "preset, order or model", self.action_set_up
        yield "compare: Adopt into chat", "the others become branches", self.action_adopt
        yield "compare: New seed", "the same one for every column", self.action_redo

    def on_top_bar_screen_asked(self, event: TopBar.ScreenAsked) -> None:
        self.likely.action_go(event.name)


def divergence(first: list[int], other: list[int]) -> int | None:
    """The first place at which two token sequences differ; None while one begins the other."""
    for index, (a, b) in enumerate(zip(first, other, strict=False)):
        if a != b:
            return index
    return None


def gathered(columns: list[Column], picked: Column, now: float) -> Conversation:
    """One conversation of all columns: their answers are siblings, the picked one checked out."""
    asked = picked.talk.shown[0].message
    talk = replace(
        picked.talk.conversation, id=secrets.token_hex(4), nodes={}, chosen={}, created=now, updated=now, title=""
    )
    talk = talk.add(Node(secrets.token_hex(6), Fork(), "user", text=asked.text))
    leaf = talk.leaf
    assert leaf is not None
    for column in [*(c for c in columns if c is not picked), picked]:
        for shown in column.talk.shown[1:]:
            last = shown.message.last
            answer = Node(
                secrets.token_hex(6), Fork(leaf.id), "assistant", steps=tuple(shown.steps), seed=last.seed,
                finish=last.finish or "cancelled", label=column.label,
            )  # fmt: skip
            talk = talk.add(answer)
    return talk
