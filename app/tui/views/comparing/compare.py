"""Comparison view: one prompt and seed, or a text, through several columns; each reads what the others have."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from likely.app.lessons.expression import Value
from likely.app.tui.base import keys
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.inspecting import comparison
from likely.app.tui.chat.inspecting.crossing import LETTERS
from likely.app.tui.chat.inspecting.formulas import of_answers, of_token
from likely.app.tui.chat.inspecting.inspection import Inspection, recent
from likely.app.tui.views.comparing.column_setup import MOST, NARROWEST, ColumnSetup
from likely.app.tui.views.comparing.cross_reading import CrossReading
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, InspectorLine, TopBar
from likely.app.tui.widgets.figures.crossing_pane import CrossPerplexityPane
from likely.app.tui.widgets.input.prompt import PromptInput
from likely.app.tui.widgets.transcript.column import AnswerView, Column
from likely.app.tui.widgets.transcript.column_row import ColumnRow
from likely.app.tui.widgets.transcript.token_view import TokenView
from likely.app.words.heat import HEATS
from likely.engine.chat.conversation import Conversation
from likely.engine.decode.strategy_table import PLAIN

PROMPT, TEXT = "One prompt for every column  (enter runs)", "One text for every column to read  (enter reads)"


class CompareScreen(View):
    """Two to four columns."""

    NAME = "compare"
    PARTS = (AnswerView, PromptInput)
    STAYS = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="compare.stop"),
        Binding("ctrl+r", "redo", "Again", id="compare.redo"),
        Binding("plus", "add", "Add", id="compare.add"),
        Binding("minus", "remove", "Remove", id="compare.remove"),
        Binding("a", "adopt", "Adopt", id="compare.adopt"),
        Binding("A", "adopt_setting", "Adopt the setting", id="compare.adopt_setting"),
        Binding("k", "turn", "KL the other way", id="compare.turn"),
        Binding("q", "law", "p or q", id="compare.law"),
        Binding("t", "give", "A given text", id="compare.give"),
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
        self.given = False  # the columns read a text, rather than answer a prompt
        self.gives = False  # so will what is written next be
        self.setup = ColumnSetup(self, self.differs, self._heard, lambda: self.seed)

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        with ColumnRow(id="columns"):
            yield from self.setup.columns(self.saved)
        yield CrossPerplexityPane(id="crossing")
        yield InspectorLine(id="glance")
        yield PromptInput(placeholder=PROMPT, id="prompt")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.row = self.query_one(ColumnRow)
        self.prompt = self.query_one(PromptInput)
        self.prompt.prompts = self.host.prompts
        messages = self.host.session.conversation.messages() if self.host.session is not None else ()
        prompts = [message.text for message in messages if message.role == "user"]
        if self.prompt_text or prompts:
            self.prompt.take(self.prompt_text or prompts[-1])
        self.pane = self.query_one(CrossPerplexityPane)
        self.reading = CrossReading(self.host, self.pane)
        self.line = self.query_one(InspectorLine)
        self.line.display = True
        self.prompt.focus()
        self._laid_out()

    def on_screen_resume(self) -> None:
        if self.is_mounted:  # another theme or model may have been chosen elsewhere
            self.host.restyle()
            self.models_changed()

    def on_resize(self) -> None:
        high = self.room.height
        self.pane.styles.height = min(8, high * 2 // 5) if high < 24 else 10 if high < 32 else high * 11 // 20 - 2

    # -- running -----------------------------------------------------------------------------------------------------

    def models_changed(self) -> None:
        """A model was loaded: columns that use it may begin."""
        current = self.host.engine.current
        for column in self.columns:
            facts = self.host.engine.models.get(column.model) if column.model else current
            if facts is not None and column.chat.facts is not facts:
                column.chat.ready(facts)
                column.show(follow=True)
        self.row.say_heads()
        self.row.say_feet()
        name = (current.title or current.name) if current is not None else "no model"
        self.top.show(name, ("one text, nothing drawn" if self.given else f"same prompt · seed {self.seed}",))
        self.top.tint(HEATS[0])
        self._cross()
        self._hint()

    def adapters_changed(self) -> None:
        """The model computes something else: a text is read by it as it is now."""
        if self.given and self.prompt_text and self.is_mounted:
            self.start()
        else:
            self._cross()

    def on_prompt_input_sent(self, event: PromptInput.Sent) -> None:
        if event.text.split()[:1] == ["/tools"]:
            self.hints.say("tools are for the chat (f2): the columns of a comparison call none", alarm=True)
        elif event.text.strip():
            self.hints.say("")
            self._keep()
            if self.gives != self.given:
                self.reading.drawn = None
            self.prompt_text, self.given = event.text, self.gives
            self.start()

    def start(self) -> None:
        """Give every column the prompt, from the beginning and with the same seed: another comparison."""
        self.saved = self._empty()
        for column in self.columns:
            self._answer(column)
        self.columns[0].view.focus()
        self._hint()

    def _answer(self, column: Column) -> None:
        """Have a column answer the prompt, or read the text, once its models are loaded."""
        absent = [name for name in column.models if name and name not in self.host.engine.models]
        if absent:
            self.setup.load(absent[0], lambda _: self._answer(column))
            return
        if self.saved is not None:
            self.saved = comparison.put_away(self.saved, column.answer)
        self.models_changed()
        begin = column.read if self.given else column.start
        begin(self.setup.conversation(column.chat.sampling, column.chat.facts), self.prompt_text)

    def differs(self, column: Column) -> None:
        """A column draws otherwise now: it answers the prompt again, with the same seed."""
        self.models_changed()
        if self.prompt_text and column.chat.facts is not None:
            self._answer(column)
            if column is self.columns[0]:
                self.row.unmark()
        self._hint()

    def _heard(self, column: Column, job: int, events: list[Any]) -> None:
        """Events of one column's runs."""
        if column not in self.columns:  # it was removed, or the view was left
            return
        if trouble := column.take_events(job, events):
            self.hints.say(trouble, alarm=True)
        self.row.say_feet()
        if not column.busy:
            self._keep()
            self._cross()
        if column.view.has_focus or not any(other.view.has_focus for other in self.columns):
            self.inspect()
        self._hint()

    # -- read by each other ------------------------------------------------------------------------------------------

    def _cross(self) -> None:
        """Have each column's text read by the others, where it is not yet."""
        if self.is_mounted and self.columns:
            self.reading.read(self.columns, self.given, self.prompt_text)
            self.inspect()

    def on_cross_perplexity_pane_crossing_changed(self) -> None:
        self.row.say_feet()
        self.inspect()
        self._hint()

    def on_answer_view_fork_asked(self, event: AnswerView.ForkAsked) -> None:
        """To the next token at which the other column would rather say something else."""
        column = self.row.picked()
        there = self.reading.fork(self.row.place, column.view.cursor, event.by)
        if isinstance(there, str):
            self.hints.say(there)
        else:
            column.view.move_to(TokenPlace(0, there))

    def action_turn(self) -> None:
        """The next KL that has to do with the picked column: the other way round, then with another column."""
        self.reading.turned += 1
        self.inspect()
        self._hint()

    def action_law(self) -> None:
        """Read by what the columns draw from (q), or by their models alone (p)."""
        if self.reading.turn_law():
            self._cross()
            self._hint()

    def on_cross_perplexity_pane_token_pointed(self, event: CrossPerplexityPane.TokenPointed) -> None:
        view = self.columns[event.place].view
        view.focus()
        view.move_to(TokenPlace(0, event.token))

    def action_give(self) -> None:
        """Read a text that is given, with nothing drawn; or answer prompts again."""
        self.gives = not self.gives
        self.prompt.placeholder = TEXT if self.gives else PROMPT
        self.prompt.take("")
        self.prompt.focus()
        self.hints.say("give a text: each column's model reads it" if self.gives else "")
        self._hint()

    # -- looking -----------------------------------------------------------------------------------------------------

    def inspect(self) -> None:
        """The token under the cursor of the focused column: in one line, and as the other columns have it."""
        if self.columns:  # else others are being put in their place
            column = self.row.picked()
            self.reading.look(self.row.place, column.view.cursor)
            at, place = self._inspection(column), column.place
            bits = recent(column.inspections.around(place), place.token) if at is not None and place is not None else ()
            self.line.show(at.table() if at is not None else None, bits)

    def _inspection(self, column: Column) -> Inspection | None:
        names = self.host.names_of(column.chat.conversation.model)
        return column.inspections.at(column.place, names, live=column.view.cursor is None)

    def set_state(self, state: Mapping[str, str]) -> None:
        self.prompt.take(state.get("prompt", ""))

    def numbers(self) -> Mapping[str, Value]:
        return {"columns": float(len(self.columns)), "tokens": float(sum(len(column.steps) for column in self.columns))}

    def formula(self) -> Formula | None:
        """Of the KL at the token under the cursor, or of the token; while a prompt is written, of each answer."""
        if isinstance(self.focused, TokenView):
            at = self._inspection(self.row.picked())
            if (formula := self.reading.formula() or (of_token(at) if at is not None else None)) is not None:
                return formula
        return of_answers([column.steps for column in self.columns])

    def on_token_view_cursor_moved(self) -> None:
        self.inspect()

    def on_token_view_chosen(self) -> None:
        self.action_adopt()

    def on_descendant_focus(self) -> None:
        self.row.mark_picked()
        self.call_later(self._hint)
        self.call_later(self.inspect)

    def _hint(self) -> None:
        stop = (("esc", "Stop"),) if self.row.busy else ()
        if isinstance(self.focused, TokenView):
            ways = self.reading.ways(self.row.place)
            a, b = ways[(self.reading.turned + 1) % len(ways)] if ways else (0, 0)
            read = (("n", "Next fork"), ("k", f"KL({LETTERS[a]}‖{LETTERS[b]})")) if ways else ()
            law = (("q", "By p" if self.reading.law == "q" else "By q"),) if ways else ()
            adopt = (("A", "Adopt setting"),) if self.given else (("a", "Adopt"),) if self.row.picked().steps else ()
            own: tuple[tuple[str, str], ...] = (
                ("tab", "Column"), *read, ("t", "A prompt" if self.gives else "A given text"), *adopt, *law,
                ("c", "Set up"), ("+ -", "Columns"),
            )  # fmt: skip
        else:
            own = (("⏎", "Read" if self.gives else "Run"), ("tab", "Columns"))
        more = () if self.given else (("^r", "New seed"),)
        self.hints.show((*stop, *own, *more, (keys.help_key(), "Keys")))

    def on_key(self) -> None:
        self.hints.say("")

    def action_markdown(self) -> None:
        """Show every column's answer as it was written, or its Markdown as what it means."""
        self.markdown = not self.markdown
        self.row.render_markdown(self.markdown)

    # -- actions -----------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """Stop every column; else back to the chat."""
        stopped = [column.stop() for column in self.columns]
        if not any(stopped):
            self.back()
            return
        for column in self.columns:
            column.show()
        self._keep()
        self.row.say_feet()
        self._hint()

    def interrupt(self) -> bool:
        running = self.row.busy
        if running:
            self.action_stop()
            self.hints.say("stopped: what was drawn stays · ctrl+q quits")
        return running

    def leave(self) -> None:
        """Stop and save before something else is shown."""
        for column in self.columns:
            if column.stop():
                column.show()
        self.row.say_feet()
        self._keep()
        self.reading.stop()
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
        return replace(self.setup.conversation(Sampling(), self.host.engine.current), kind="compare")

    def _keep(self) -> None:
        """Save the comparison as it is by now."""
        answers = [(c.label, c.chat.transcript.shown) for c in self.columns if c.steps and not c.kept_label]
        if self.given:  # nothing was drawn
            return
        if answers and self.saved is not None:
            for column in self.columns:
                column.chat.keep()
            self.saved = comparison.updated(self.saved, answers, self.host.clock())
            self.host.save(self.saved)

    def open(self, conversation: Conversation) -> None:
        if self.is_mounted:
            self.leave()
        self.saved, self.given, self.gives = conversation, False, False
        question = next(iter(conversation.nodes.values()), None)
        self.prompt_text = question.text if question is not None else ""
        if self.is_mounted:
            self.prompt.placeholder = PROMPT
            self.prompt.take(self.prompt_text)
            self.call_later(self._lay_out)

    async def _lay_out(self) -> None:
        """Other columns in the place of those that are there."""
        await self.row.remove_children()
        await self.row.mount(*self.setup.columns(self.saved))
        self._laid_out()

    def _laid_out(self) -> None:
        self.models_changed()
        for column in self.columns:
            column.show(follow=False)
        self.row.say_feet()

    def action_redo(self) -> None:
        """Run again, every column with the same new seed."""
        self.seed = secrets.randbelow(1000)
        self.models_changed()
        if self.prompt_text:
            self._keep()
            self.start()

    def action_adopt(self) -> None:
        """Open the picked column's answer in the chat, the others as branches beside it."""
        picked = self.row.picked()
        if self.given:
            self.hints.say("a text that was given is no answer: A takes the setting and the model into the chat")
            return
        if not picked.chat.transcript.shown:
            self.hints.say("there is nothing to adopt yet")
            return
        self.leave()
        ordered = [*(column for column in self.columns if column is not picked), picked]
        answers = [(column.label, column.chat.transcript.shown) for column in ordered]
        talk = comparison.gathered(picked.chat.conversation, answers, self.host.clock())
        self.host.save(talk)
        self._go_on(talk, picked)

    def action_adopt_setting(self) -> None:
        """Go on with the conversation of the chat as the picked column draws, by its model."""
        picked, chat = self.row.picked(), self.host.session
        talk = chat.conversation if chat is not None and chat.conversation.nodes else self._empty()
        sampling, asked = picked.chat.sampling, picked.chat.settings.asked
        self.leave()
        self._go_on(replace(talk, kind="chat", recipe=sampling.recipe, order=sampling.names, asked=asked), picked)

    def _go_on(self, talk: Conversation, column: Column) -> None:
        """In the chat, by a column's model and strategy."""
        strategy = column.chat.settings.strategy
        self.host.open(talk, strategy if strategy != PLAIN else None)
        if column.law_of:
            self.host.switch_model(column.law_of)

    def commands(self) -> Iterator[Command]:
        yield "compare: Add column", "a copy of the picked one", self.action_add
        yield "compare: Set up column…", "parameters, their order, strategy or model", self.action_set_up
        yield "compare: Adopt into chat", "the others become branches", None if self.given else self.action_adopt
        yield "compare: Adopt setting", "the chat goes on as this column draws, by its model", self.action_adopt_setting
        if self.gives:
            yield "compare: Prompt", "every column answers it", self.action_give
        else:
            yield "compare: Given text", "every column reads it, nothing is drawn", self.action_give
        yield "view: Raw text", "answers as they were written, or their Markdown", self.action_markdown
        yield "compare: Remove column", "the picked one; its answer is put away", self.action_remove
        yield "compare: New seed", "the same one for every column", self.action_redo
        yield "compare: New", "empty columns", self.action_new
        if self.host.store is not None:
            yield "session: Open or search…", "all conversations, comparisons too", self.action_sessions

    # -- columns -----------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> list[Column]:
        return self.row.all if self.is_mounted else []

    def models_in_use(self) -> set[str]:
        return {name for column in self.columns for name in column.models}

    def on_column_measured(self) -> None:
        self.row.say_feet()

    async def action_add(self) -> None:
        """Another column, a copy of the picked one."""
        fits = self.room.width // (len(self.columns) + 1) >= NARROWEST
        if len(self.columns) >= MOST or not fits:
            self.hints.say("there is no room for another column")
            return
        like = self.row.picked()
        column = self.setup.column(like.chat.sampling, like.model, like.chat.settings.strategy)
        await self.row.mount(column)
        self.models_changed()
        self.setup.ask(column)

    async def action_remove(self) -> None:
        """Take the picked column away."""
        if len(self.columns) <= 2:
            self.hints.say("a comparison has at least two columns")
            return
        column = self.row.picked()
        column.stop()
        if self.saved is not None:
            self.saved = comparison.put_away(self.saved, column.answer)
        await column.remove()
        self._keep()
        self.row.unmark()  # the first one may be another now
        self._cross()
        self.columns[0].view.focus()
        self.row.say_heads()
        self.row.say_feet()

    def action_set_up(self) -> None:
        self.setup.ask(self.row.picked())
