"""Comparison view: one prompt and seed through several columns that differ in one thing or another, turn by turn."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from likely.app import requests as r
from likely.app.heat import HEATS
from likely.app.tui.base import cells, keys, presets
from likely.app.tui.base.formula import Formula
from likely.app.tui.base.sampling import Sampling, as_typed, typed
from likely.app.tui.chat import comparison, decoding
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.formulas import of_answers, of_token
from likely.app.tui.chat.inspection import Inspection, recent
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, InspectorLine, TopBar
from likely.app.tui.widgets.column import Column
from likely.app.tui.widgets.overlays import Ask, Pick
from likely.app.tui.widgets.prompt import PromptInput
from likely.app.tui.widgets.token_view import TokenView
from likely.app.worker import Failed
from likely.engine.conversation import Conversation
from likely.engine.decode.guessing import Drafting
from likely.engine.decode.strategies import PLAIN, offers, parse
from likely.engine.decode.strategy import Strategy
from likely.engine.errors import LikelyError

MOST = 4
NARROWEST = 28  # cells that a column needs


class CompareScreen(View):
    """Two to four columns."""

    NAME = "compare"
    PARTS = (TokenView, PromptInput)
    STAYS = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="compare.stop"),
        Binding("ctrl+r", "redo", "Again", id="compare.redo"),
        Binding("plus", "add", "Add", id="compare.add"),
        Binding("minus", "remove", "Remove", id="compare.remove"),
        Binding("a", "adopt", "Adopt", id="compare.adopt"),
        Binding("c", "set_up", "Set up", id="compare.set_up"),
        Binding("m", "markdown", "Raw text", id="compare.markdown"),
        Binding("ctrl+o", "sessions", "Sessions", id="compare.sessions"),
        Binding("ctrl+n", "new", "New", id="compare.new"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.prompt_text = ""
        self.seed = 7
        self.markdown = True  # answers are rendered
        self.saved: Conversation | None = None  # what is saved of the columns

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        with Horizontal(id="columns"):
            yield from self._columns()
        yield InspectorLine(id="glance")
        yield PromptInput(placeholder="One prompt for every column  (enter runs)", id="prompt")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.prompt = self.query_one(PromptInput)
        self.prompt.prompts = self.host.prompts
        messages = self.host.session.conversation.messages() if self.host.session is not None else ()
        prompts = [message.text for message in messages if message.role == "user"]
        if self.prompt_text or prompts:
            self.prompt.take(self.prompt_text or prompts[-1])
        self.line = self.query_one(InspectorLine)
        self.line.display = True
        self.prompt.focus()
        self._laid_out()

    def on_screen_resume(self) -> None:
        if self.is_mounted:  # another theme or model may have been chosen elsewhere
            self.host.restyle()
            self.models_changed()

    def on_resize(self) -> None:
        self.call_after_refresh(self.refresh_heads)
        self.call_after_refresh(self.refresh_feet)

    # -- running -----------------------------------------------------------------------------------------------------

    def models_changed(self) -> None:
        """A model was loaded: columns that use it may begin."""
        current = self.host.engine.current
        for column in self.columns:
            facts = self.host.engine.models.get(column.model) if column.model else current
            if facts is not None and column.chat.facts is not facts:
                column.chat.ready(facts)
                column.show(follow=True)
        self.refresh_heads()
        name = (current.title or current.name) if current is not None else "no model"
        self.top.show(name, (f"same prompt · seed {self.seed}",))
        self.top.tint(HEATS[0])
        self._hint()

    def on_prompt_input_sent(self, event: PromptInput.Sent) -> None:
        if event.text.strip():
            self.prompt_text = event.text
            self.start()

    def start(self) -> None:
        """Give every column the prompt, from the beginning and with the same seed: another comparison."""
        self._keep()
        self.saved = self._empty()
        for column in self.columns:
            self._answer(column)
        self.columns[0].view.focus()
        self._hint()

    def _answer(self, column: Column) -> None:
        """Have a column answer the prompt, once its models are loaded."""
        absent = [name for name in column.models if name and name not in self.host.engine.models]
        if absent:
            self._load(absent[0], lambda _: self._answer(column))
            return
        if self.saved is not None:
            self.saved = comparison.put_away(self.saved, column.answer)
        self.models_changed()
        column.start(self._conversation(column.chat.sampling, column.chat.facts), self.prompt_text)

    def differs(self, column: Column) -> None:
        """A column draws otherwise now: it answers the prompt again, with the same seed."""
        self.models_changed()
        if self.prompt_text and column.chat.facts is not None:
            self._answer(column)
            if column is self.columns[0]:
                self.unmark()
        self._hint()

    def _heard(self, column: Column, job: int, events: list[Any]) -> None:
        """Events of one column's runs."""
        if column not in self.columns:  # it was removed, or the view was left
            return
        if trouble := column.take_events(job, events):
            self.hints.say(trouble, alarm=True)
        self.refresh_feet()
        if not column.chat.running:
            self._keep()
        if column.view.has_focus or not any(other.view.has_focus for other in self.columns):
            self.inspect()
        self._hint()

    # -- looking -----------------------------------------------------------------------------------------------------

    def inspect(self) -> None:
        """The token under the cursor of the focused column, in one line."""
        if self.columns:  # else others are being put in their place
            column = self.picked()
            at, place = self._inspection(column), column.place
            bits = recent(column.inspections.around(place), place.token) if at is not None and place is not None else ()
            self.line.show(at.table() if at is not None else None, bits)

    def _inspection(self, column: Column) -> Inspection | None:
        names = self.host.names_of(column.chat.conversation.model)
        return column.inspections.at(column.place, names, live=column.view.cursor is None)

    def formula(self) -> Formula | None:
        """Of the token under the cursor; while a prompt is written, of each column's answer."""
        if isinstance(self.focused, TokenView) and (at := self._inspection(self.picked())) is not None:
            return of_token(at)
        return of_answers([column.steps for column in self.columns])

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
        running = any(column.chat.running for column in self.columns)
        stop = (("esc", "Stop"),) if running else ()
        if isinstance(self.focused, TokenView):
            own: tuple[tuple[str, str], ...] = (("tab", "Column"), ("a", "Adopt"), ("c", "Set up"), ("+ -", "Columns"))
        else:
            own = (("⏎", "Run"), ("tab", "Columns"))
        self.hints.show((*stop, *own, ("^r", "New seed"), (keys.help_key(), "Keys")))

    def on_key(self) -> None:
        self.hints.say("")

    def action_markdown(self) -> None:
        """Show every column's answer as it was written, or its Markdown as what it means."""
        self.markdown = not self.markdown
        for column in self.columns:
            column.render_markdown(self.markdown)

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Stop every column; else back to the chat."""
        stopped = [column.stop() for column in self.columns]
        if not any(stopped):
            self.host.go("chat")
            return
        for column in self.columns:
            column.show()
        self._keep()
        self.refresh_feet()
        self._hint()

    def interrupt(self) -> bool:
        running = any(column.chat.running for column in self.columns)
        if running:
            self.action_stop()
            self.hints.say("stopped: what was drawn stays · ctrl+q quits")
        return running

    def leave(self) -> None:
        """Stop and save before something else is shown."""
        for column in self.columns:
            if column.stop():
                column.show()
        self.refresh_feet()
        self._keep()
        self.call_later(self.host.engine.release)

    # -- what is kept ------------------------------------------------------------------------------------------------

    def current(self) -> Conversation | None:
        return self.saved

    def rename(self, title: str) -> None:
        if self.saved is not None:
            self.saved = replace(self.saved, title=cells.fit(title, 60))
            self.host.save(self.saved)

    def fresh(self) -> None:
        self.open(self._empty())

    def action_new(self) -> None:
        self.fresh()
        self.prompt.focus()

    def _empty(self) -> Conversation:
        return replace(self._conversation(Sampling(), self.host.engine.current), kind="compare")

    def _keep(self) -> None:
        """Save the comparison as it is by now."""
        answers = [(c.label, c.chat.transcript.shown) for c in self.columns if c.steps and not c.kept_label]
        if answers and self.saved is not None:
            for column in self.columns:
                column.chat.keep()
            self.saved = comparison.updated(self.saved, answers, self.host.clock())
            self.host.save(self.saved)

    def open(self, conversation: Conversation) -> None:
        if self.is_mounted:
            self.leave()
        self.saved = conversation
        question = next(iter(conversation.nodes.values()), None)
        self.prompt_text = question.text if question is not None else ""
        if self.is_mounted:
            self.prompt.take(self.prompt_text)
            self.call_later(self._lay_out)

    async def _lay_out(self) -> None:
        """Other columns in the place of those that are there."""
        row = self.query_one("#columns")
        await row.remove_children()
        await row.mount(*self._columns())
        self._laid_out()

    def _laid_out(self) -> None:
        self.models_changed()
        for column in self.columns:
            column.show(follow=False)
        self.refresh_feet()
        self.call_after_refresh(self.refresh_heads)

    def _columns(self) -> list[Column]:
        """The columns of what is kept, or those that a new comparison begins with."""
        talks = comparison.columns(self.saved) if self.saved is not None and self.saved.nodes else []
        if talks:
            return [self._kept_column(talk) for talk in talks[:MOST]]
        chat = self.host.session
        sampling = chat.sampling if chat is not None else Sampling()
        kinds = [sampling.preset("greedy"), sampling]
        if self.app.size.width >= 3 * NARROWEST:
            kinds.append(sampling.preset("wild") if sampling.preset_name != "wild" else sampling.preset("balanced"))
        return [self._column(kind) for kind in kinds]

    def _kept_column(self, talk: Conversation) -> Column:
        """A column with the answer that it had; its strategy and its model as far as its label names them."""
        label = talk.messages()[-1].last.label
        parts, engine = label.split(" · "), self.host.engine
        strategy = next((s for s in offers(tuple(engine.models)) if s.words and s.words in parts), PLAIN)
        model = next((name for name, facts in engine.models.items() if {name, facts.title} & set(parts)), "")
        return self._column(Sampling.of(talk.recipe), model, strategy, talk)

    def action_redo(self) -> None:
        """Run again, every column with the same new seed."""
        self.seed = secrets.randbelow(1000)
        self.models_changed()
        if self.prompt_text:
            self.start()

    def action_adopt(self) -> None:
        """Open the picked column's answer in the chat, the others as branches beside it."""
        picked = self.picked()
        if not picked.chat.transcript.shown:
            self.hints.say("there is nothing to adopt yet")
            return
        self.leave()
        ordered = [*(column for column in self.columns if column is not picked), picked]
        answers = [(column.label, column.chat.transcript.shown) for column in ordered]
        talk = comparison.gathered(picked.chat.conversation, answers, self.host.clock())
        self.host.save(talk)
        self.host.open(talk)

    def commands(self) -> Iterator[Command]:
        yield "compare: Add column", "a copy of the picked one", self.action_add
        yield "compare: Set up column…", "parameters, their order, strategy or model", self.action_set_up
        yield "compare: Adopt into chat", "the others become branches", self.action_adopt
        yield "view: Raw text", "answers as they were written, or their Markdown", self.action_markdown
        yield "compare: Remove column", "the picked one; its answer is put away", self.action_remove
        yield "compare: New seed", "the same one for every column", self.action_redo
        yield "compare: New", "empty columns", self.action_new
        if self.host.store is not None:
            yield "session: Open or search…", "all conversations, comparisons too", self.action_sessions

    # -- columns -----------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> list[Column]:
        return list(self.query(Column))

    def picked(self) -> Column:
        """The column that has the focus, else the first."""
        return next((column for column in self.columns if column.has_focus_within), self.columns[0])

    def models_in_use(self) -> set[str]:
        return {name for column in self.columns for name in column.models}

    def refresh_heads(self) -> None:
        """Say above each column what tells it apart; its model too, where not all have the same."""
        several = len({self._model_of(column) for column in self.columns}) > 1
        for column in self.columns:
            column.named = several
            column.head()

    def refresh_feet(self) -> None:
        """Say below each column what it came to, and where it parts from the first."""
        both = any(column.chat.diffuses for column in self.columns)
        for column in self.columns:
            first = self.columns[0]
            column.compare(first)
            column.foot(column is first, both)

    def on_column_measured(self) -> None:
        self.refresh_feet()

    def _conversation(self, sampling: Sampling, facts: r.ModelFacts | None) -> Conversation:
        """An empty one, with the system prompt of the chat."""
        now, chat = self.host.clock(), self.host.session
        return Conversation(
            secrets.token_hex(4),
            model=facts.name if facts is not None else "",
            system=chat.conversation.system if chat is not None else "",
            recipe=sampling.recipe,
            order=sampling.names,
            created=now,
            updated=now,
        )

    def _column(
        self, sampling: Sampling, model: str = "", strategy: Strategy = PLAIN, stored: Conversation | None = None
    ) -> Column:
        chat = ChatSession(stored or self._conversation(sampling, None), lambda _: 0, clock=self.host.clock)
        chat.sampling, chat.strategy = sampling, strategy
        chat.new_seed = lambda: self.seed
        chat.transcript.render(self.markdown)
        label = stored.messages()[-1].last.label if stored is not None else ""
        column = Column(chat, model, self.host.store, label)
        chat.send = lambda request: self.host.engine.submit(request, partial(self._heard, column))
        return column

    async def action_add(self) -> None:
        """Another column, a copy of the picked one."""
        fits = self.size.width // (len(self.columns) + 1) >= NARROWEST
        if len(self.columns) >= MOST or not fits:
            self.hints.say("there is no room for another column")
            return
        like = self.picked()
        column = self._column(like.chat.sampling, like.model, like.chat.strategy)
        await self.query_one("#columns").mount(column)
        self.models_changed()
        self.call_after_refresh(self.refresh_feet)
        self.set_up(column)

    async def action_remove(self) -> None:
        """Take the picked column away."""
        if len(self.columns) <= 2:
            self.hints.say("a comparison has at least two columns")
            return
        column = self.picked()
        column.stop()
        if self.saved is not None:
            self.saved = comparison.put_away(self.saved, column.answer)
        await column.remove()
        self._keep()
        self.unmark()  # the first one may be another now
        self.columns[0].view.focus()
        self.refresh_heads()
        self.refresh_feet()

    def unmark(self) -> None:
        """Compare with the first column from the beginning."""
        for column in self.columns:
            column.unmark()
            column.view.redraw()

    def action_set_up(self) -> None:
        self.set_up(self.picked())

    def set_up(self, column: Column) -> None:
        """Choose what a column does differently: parameters, their order, how tokens are found, or another model."""
        loaded = [name for name in self.host.engine.models if name != self._model_of(column)]
        options = [
            *presets.named(self.host.home),
            ("typed", "  parameters…    type them: temp 1.2 top_p 0.9"),
            *presets.orders(),
            *decoding.strategies(loaded),
            ("", "model"),
            *((f"model {name}", f"  {name}") for name in self.host.engine.models),
            ("model", "  another model…"),
        ]
        self.app.push_screen(Pick("what this column does differently", options), partial(self._chosen, column))

    def _model_of(self, column: Column) -> str:
        return column.chat.facts.name if column.chat.facts is not None else column.model

    def _chosen(self, column: Column, choice: str | None) -> None:
        """Take over what was picked for a column."""
        chat = column.chat
        kind, _, name = (choice or "").partition(" ")
        match kind:
            case "typed":
                title = "parameters and their values; what is not named stays"
                self.app.push_screen(Ask(title, as_typed(chat.sampling)), partial(self._typed, column))
            case "draft":
                self._other_model(column, lambda facts: setattr(chat, "strategy", Drafting(facts.name)))
            case "model" if not name:
                self._other_model(column, lambda facts: setattr(column, "model", facts.name))
            case "strategy":
                chat.strategy = parse(name)
                self.differs(column)
            case "model":
                column.model = name
                self.differs(column)
            case "preset" | "order":
                chat.resample(presets.chosen(self.host.home, f"{kind} {name}", chat.sampling))
                self.differs(column)

    def _typed(self, column: Column, text: str | None) -> None:
        if text is None:
            return
        try:
            column.chat.resample(typed(text, column.chat.sampling))
            self.differs(column)
        except LikelyError as error:
            self.hints.say(str(error), alarm=True)

    def _other_model(self, column: Column, use: Callable[[r.ModelFacts], None]) -> None:
        """Have a person choose a model; load it, and then use it."""
        from likely.app.tui.dialogs.models import Models

        def loaded(facts: r.ModelFacts) -> None:
            use(facts)
            self.differs(column)

        self.app.push_screen(Models(self.host), lambda name: self._load(name, loaded) if name is not None else None)

    def _load(self, name: str, then: Callable[[r.ModelFacts], None]) -> None:
        """Load a model beside the current one, and go on."""

        def loaded(job: int, events: list[Any]) -> None:
            for event in events:
                match event:
                    case r.Progressed(_, stage, done, total):
                        self.hints.say(f"{stage} {100 * done // total} %" if total else stage)
                    case r.Loaded(facts):
                        self.hints.say("")
                        self.host.engine.adopt(facts)
                        then(facts)
                    case Failed(line):
                        self.hints.say(line, alarm=True)

        self.host.engine.submit(r.Load(name), loaded)
