"""The chat view: a conversation, and the routes between its panes, the session and the engine.

The transcript pane shows and reads, the inspector looks at a token, the composer writes; what they ask for is done
here, on the `ChatSession`, and what the engine reports goes from there back to the panes.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from likely.app.jobs import requests as r
from likely.app.lessons.expression import Value
from likely.app.tui.base import keys
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.chat import status
from likely.app.tui.chat.auto_saver import EVERY_S
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.inspecting.formulas import of_ids
from likely.app.tui.chat.inspecting.inspection import Subject
from likely.app.tui.chat.inspecting.inspections import Inspections
from likely.app.tui.chat.titler import Titler
from likely.app.tui.chat.tool_bench import ToolBench
from likely.app.tui.dialogs.opening import WAITING
from likely.app.tui.views.chatting import (
    commands,
    diffusing,
    slash,
    stepping,
    tooling,
    weighing,
)
from likely.app.tui.views.chatting import (
    context_full as outgrown,
)
from likely.app.tui.views.chatting import (
    generation_settings as asking,
)
from likely.app.tui.views.chatting.steering import Steering
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, InspectorLine, TopBar
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.diffusion.diffusion_pane import DiffusionPane
from likely.app.tui.widgets.figures.why_sheet import WhySheet
from likely.app.tui.widgets.input.composer import Composer
from likely.app.tui.widgets.input.message_editor import MessageEditor
from likely.app.tui.widgets.input.sampler import Sliders
from likely.app.tui.widgets.input.suggestions import Suggestions
from likely.app.tui.widgets.input.waiting import MessageQueue
from likely.app.tui.widgets.inspector import Inspector
from likely.app.tui.widgets.lists.best_texts import BestTexts
from likely.app.tui.widgets.lists.candidates import Candidates
from likely.app.tui.widgets.transcript.system_line import SystemLine
from likely.app.tui.widgets.transcript.token_view import TokenView
from likely.app.tui.widgets.transcript.tree import TreePane
from likely.app.tui.widgets.transcript_pane import TranscriptPane
from likely.app.words.heat import BITS, HEATS
from likely.app.words.units import bits
from likely.engine.chat.conversation import Conversation
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.strategy import Strategy

LONG_S = 10.0  # from which on an answer's end is told to a person who looks elsewhere
STATUS_S = 0.5  # between two looks at speed and context while tokens come
BEGUN = 16  # tokens, which the tree shows of a branch


class ChatScreen(View, Steering):
    """Talk to a model, look at every token, steer, branch."""

    NAME = "chat"
    LISTS = True
    PARTS = (
        TokenView,
        TranscriptPane,
        BestTexts,
        SystemLine,
        MessageEditor,
        Candidates,
        Sliders,
        TreePane,
        WhySheet,
        Composer,
        DiffusionPane,
    )
    BLANK = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop"),
        Binding("ctrl+r", "redo", "Redo", id="chat.redo"),
        Binding("ctrl+t", "heat", "Heat", id="chat.heat"),
        Binding("ctrl+g", "sampler", "Sampler", id="chat.sampler"),
        Binding("ctrl+o", "sessions", "Sessions", id="chat.sessions"),
        Binding("ctrl+n", "new", "New", id="chat.new"),
        Binding("ctrl+f", "find", "Find", priority=True, id="chat.find"),
    ]

    composer: Composer

    def __init__(self) -> None:
        super().__init__()
        self.session: ChatSession | None = None
        self._saved_s = self._status_s = 0.0
        self._began_s: float | None = None  # the answer that is awaited, or the first of several
        self.aside: RunControl | None = None  # of a summary or a measurement
        self.bench: ToolBench | None = None
        self._progress = self._told = ""  # of a model that is loading, and the trouble of the saver: as said last

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        with Horizontal(id="body"):
            yield TranscriptPane(id="left")
            yield Inspector(id="inspector", strategies=True)
            yield DiffusionPane(lambda: self.chat, self.names)
        yield InspectorLine(id="glance")
        yield MessageQueue(id="queue")
        yield Suggestions(id="suggestions")
        yield Composer(placeholder=WAITING, id="prompt")
        yield Caption(id="diffusion-formula")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.pane = self.query_one(TranscriptPane)
        self.inspector, self.diffusion = self.query_one(Inspector), self.query_one(DiffusionPane)
        self.pane.weigh, self.inspector.subject = partial(weighing.weigh, self), self.subject
        self.query_one(BestTexts).run = lambda: self.chat.run
        self.pane.table, self.pane.near = self.inspector.table, self.inspector.turn_near
        self.composer, self.caption = self.query_one(Composer), self.query_one("#diffusion-formula", Caption)
        self.titler = Titler(self.host.engine.submit)
        self.composer.prompts, self.composer.commands = self.host.prompts, partial(slash.suggest, self)
        self.composer.busy, self.composer.room = partial(tooling.waits, self), lambda: self.chat.room()
        self.composer.example = lambda: "" if self.chat.diffuses else self.pane.example
        self.composer.turn = self.pane.turn_example
        self.composer.list, self.composer.queue = self.query_one(Suggestions), self.query_one(MessageQueue)
        self._open_first()
        self.composer.focus()
        self.set_interval(1.0, self.tick)
        if self.host.store_news:  # stays until a key is pressed
            self.hints.say(self.host.store_news, alarm=True)

    # -- the conversation that is open -------------------------------------------------------------------------------

    @property
    def chat(self) -> ChatSession:
        """The session, once one is open."""
        assert self.session is not None
        return self.session

    def _open_first(self) -> None:
        resumed = self.resumed()
        self.open(self.host.start.of(resumed) if resumed is not None and resumed.kind == "chat" else self._fresh())
        if resumed is not None and resumed.kind != "chat":
            self.call_after_refresh(self.host.open, resumed)

    def _fresh(self) -> Conversation:
        return self.host.start.fresh(secrets.token_hex(4), self.host.clock())

    def open(self, conversation: Conversation) -> None:
        """Show a conversation, at the branch that was checked out."""
        heat, least = HEATS[0], BITS[0]
        before = None if self.session is None else self.session.settings
        if self.session is not None:
            self.leave()
            heat, least = self.session.transcript.heat, self.session.transcript.least
        chat = ChatSession(conversation, self._submit, clock=self.host.clock, store=self.host.store)
        self.session = self.host.session = chat
        chat.history.now = asking.begun(self.host.start, chat.settings, before)
        chat.transcript.heat, chat.transcript.least = heat, least
        chat.adapters = status.adapters(self.host.engine)
        tooling.opened(self)
        self.inspections = Inspections(chat, self.host.store)
        self.inspector.forget()
        if self.host.engine.current is not None:
            chat.ready(self.host.engine.current)
        self.pane.open(chat.transcript)
        self.reshow(follow=True)
        self.inspector.sampler.names = lambda token: self.names().name(token)
        self.models_changed()
        if news := asking.told(chat.settings):
            self.call_after_refresh(self.hints.say, news)

    def decode_by(self, strategy: Strategy | None) -> None:
        if strategy is not None:
            slash.run(self, f"/strategy {strategy}")

    def leave(self) -> None:
        """Stop and save before something else is shown."""
        if self.session is None:
            return
        self.titler.stop()
        outgrown.stop(self)
        if self.chat.stepping:
            self.chat.step_off()
        self.chat.stop()
        self._give_up_waiting()
        self.chat.settle()
        self.save()

    def _give_up_waiting(self) -> None:
        self.composer.take_back()
        self._began_s = None

    def current(self) -> Conversation | None:
        return self.session.conversation if self.session is not None else None

    def save(self) -> None:
        self.host.save(self.chat.conversation)

    def tick(self) -> None:
        """Once a second: what was drawn is handed to the saver; its trouble, a training, and tools are looked at."""
        tooling.tick(self)
        if self.chat.running:
            self.chat.keep()
            self.save()
        news = self.host.keeper.report() if self.host.keeper is not None else ""
        if news and not (news == self._told and self.hints.news):  # trouble that lasts hides no other line
            self.hints.say(news, alarm=True)
        self._told = news
        if self.is_current:  # the top line tells of a training, and no longer of one that could not begin
            self.status()

    def rename(self, title: str) -> None:
        """Name the conversation."""
        self.chat.conversation = replace(self.chat.conversation, title=cells.fit(title, 60))
        self.save()

    def _name_it(self) -> None:
        chat, facts = self.chat, self.host.engine.current
        if facts is not None and not chat.running and not chat.diffuses:
            self.titler.ask(
                chat.conversation, facts, lambda title: self.rename(title) if self.session is chat else None
            )

    # -- the engine --------------------------------------------------------------------------------------------------

    def _submit(self, request: r.ModelRequest) -> int:
        return self.host.engine.submit(request, self.take_events)

    def take_events(self, job: int, events: list[Any]) -> None:
        """A batch of events of one job: tokens together, one repaint."""
        run, chat = self.chat.run, self.chat
        if run is not None and self._began_s is None:
            self._began_s = monotonic()
        heard = chat.take(job, events)
        self.pane.extend(heard.tokens)
        if heard.failure is not None:
            self.call_later(self.hints.say, status.failed(heard.failure, self.host.home), True)
            self.call_later(outgrown.offered, self, heard.failure)
        if heard.scored is False:
            self.hints.say("this message cannot be looked at: the chat template changes it")
        elif heard.scored:
            self.pane.measured()
            self.inspector.inspect()
        if heard.ended:
            self._finished()
            tooling.read(self, heard.failure is not None)
        elif heard.reshow:
            self.save()
            self.reshow()
        elif heard.branched:
            self.inspector.show_tree(chat.conversation)
        if heard.tokens and not heard.ended:
            self._drawn(len(heard.tokens))
        elif run is not None and run.rated and not heard.ended:  # a search may have far to go to its first token
            self.pane.renote()
        if heard.denoised and not heard.ended:
            self.status()
        if heard.news:
            self.call_later(self.hints.say, heard.news, True)
        if chat.run is not None and chat.run is run and run.read is not None:
            self.hints.say(status.reading(*run.read))
        elif run is not None and not heard.failure and self.hints.news.startswith(status.READING):
            self._hint()

    def answered(self, failed: bool) -> None:
        """An answer has ended: the next message is sent, or a person who looks elsewhere is told."""
        chat, spent_s = self.chat, monotonic() - (self._began_s or monotonic())
        waits = bool(self.composer.queue.messages) and not failed and not chat.stepping
        self._began_s = self._began_s if waits else None
        if failed:
            self.composer.take_back()
        elif waits:
            self.composer.next()
        if spent_s > LONG_S and not waits:
            self.host.ring(f"{chat.conversation.title or 'the answer'}: ended after {spent_s:.0f} s")

    def _drawn(self, count: int) -> None:
        """Tokens were drawn: the panel looks a few times a second, the top line less often."""
        now = monotonic()
        if self.chat.run is not None and len(self.chat.run.steps) - count < BEGUN:
            self.chat.keep()
            self.inspector.tree_pane.show(self.chat.conversation)
        if self.pane.cursor is None or self.chat.peek is not None:
            self.inspector.inspect_soon()
        if now - self._status_s >= STATUS_S:
            self._status_s = now
            self.pane.renote()
            self.status()
        if now - self._saved_s >= EVERY_S:
            self._saved_s = now
            self.tick()

    def _finished(self) -> None:
        self.save()
        if not self.chat.stepping:
            self.reshow()
            weighing.weigh(self, -1)
            if self.inspector.candidates.has_focus and self.chat.peek is None:
                self.inspector.candidates.blur()
            self._name_it()
        else:
            self.inspector.inspect()
            stepping.peeked(self)
        self.status()
        self.inspector.rest()

    def models_changed(self) -> None:
        facts, loading = self.host.engine.current, self.host.engine.loading
        if self.session is None:
            return
        if facts is not None and self.chat.facts is not facts:
            self.chat.adapters = status.adapters(self.host.engine)
            self.chat.ready(facts)
            self.reshow()
        if facts is not None and loading is None:  # what could not be asked of any
            self.inspector.rest()
        self.status()
        if not self.hints.alarm and (loading is not None or self.hints.news == self._progress):
            self._progress = "" if loading is None else status.progress(loading)
            self.hints.say(self._progress)

    def adapters_changed(self) -> None:
        """The model computes something else: what was measured of the text was measured by another."""
        self.chat.transcript.scores.clear()
        self.chat.transcript.weighed.clear()
        self.chat.adapters = status.adapters(self.host.engine)
        self.chat.measure(self.pane.cursor)
        self.inspector.renew()
        self.status()

    # -- showing -----------------------------------------------------------------------------------------------------

    def reshow(self, *, follow: bool | None = None) -> None:
        """Show the lineage anew, after it has changed."""
        self.inspections.forget()
        self.inspector.sampler.show(self.chat.settings)  # of which a seed has counted on
        self.pane.reshow(follow=follow)
        self.chat.measure(self.pane.cursor)
        self.inspector.show_tree(self.chat.conversation)
        self.inspector.inspect()
        self.status()
        self._hint()

    def place_of_list(self) -> Widget:
        """The panel's second column; of a diffusion model, whose panel is another, the screen."""
        return self if self.session is None or self.chat.diffuses else self.inspector

    def list_beside(self) -> None:
        super().list_beside()
        self.call_after_refresh(self.inspector.inspect)

    def status(self) -> None:
        """The top line, as things are."""
        diffusing.show(self)

    def names(self) -> Names:
        return self.host.names_of(self.chat.conversation.model)

    def subject(self) -> Subject:
        """The token that is looked at."""
        place, cursor = self.pane.place, self.pane.cursor
        names = self.host.names_of(self.chat.transcript.model_at(place))
        return self.inspections.subject(place, cursor, names, self.host.engine.current)

    def formula(self) -> Formula | None:
        if self.chat.diffuses:
            return self.diffusion.formula()
        facts, writes = self.host.engine.current, self.composer.has_focus or not self.pane.shown
        reads = of_ids(self.chat.context_tokens(), facts.context) if facts is not None and writes else None
        return reads or self.inspector.formula()

    def help(self) -> Sequence[str]:
        return (
            "mouse            click a token to look, again to branch; drag selects; wheel scrolls",
            f"commands (tab completes)\n{slash.help_text()}",
        )

    def on_resize(self) -> None:
        """The panel and the one line that stands for it take turns as the width changes."""
        if self.is_mounted:
            self.call_after_refresh(self.inspector.inspect)

    def on_token_view_cursor_moved(self, event: TokenView.CursorMoved) -> None:
        self.chat.measure(event.place)
        self.inspector.inspect()
        self.inspector.rest()

    def on_transcript_pane_rendered(self) -> None:
        self.inspector.inspect()
        self.status()

    def on_descendant_focus(self) -> None:
        self.call_later(self.show_keys)

    def on_key(self) -> None:
        if self.hints.news and not self.chat.stepping:
            self.hints.say("")

    def show_keys(self) -> None:
        """The keys that act on what has the focus."""
        stop = (("esc", "Stop"),) if self.chat.running else ()
        self.hints.show((*stop, *commands.keys(self.focused, self.chat.diffuses), (keys.help_key(), "Keys")))

    def _hint(self) -> None:
        """Show the keys instead of the last line of news."""
        self.show_keys()
        if not self.hints.alarm and not self.chat.stepping:
            facts = self.host.engine.current
            base = facts is not None and not facts.chat and not self.pane.shown and not self.chat.diffuses
            self.hints.say("a base model, without a chat template: it continues text (f4)" if base else "")

    def compose_command(self, name: str) -> None:
        """Begin to write a command that wants more words."""
        self.composer.take(f"/{name} ")
        self.composer.focus()

    def instruct(self, system: str) -> None:
        """Another system prompt, from the next answer on."""
        self.chat.instruct(system)
        self.save()
        self.reshow()
        news = "told so from the next answer on · ^r draws the last one again" if self.pane.shown else "told so"
        self.hints.say(f"the model is {news}" if system.strip() else "no system prompt")

    # -- steering ----------------------------------------------------------------------------------------------------

    def begun(self, begun: bool, why_not: str = "") -> None:
        """A run has begun, or there is a reason why not."""
        if not begun:
            self.hints.say(why_not)
            return
        self.pane.cursor = None
        self.save()
        self.reshow(follow=True)

    def set_sampling(self, sampling: Sampling) -> None:
        """Draw otherwise from the next token on. Raises ParameterError for what the model cannot draw by."""
        asking.adjust(self, replace(self.chat.settings, sampling=sampling))

    # -- keys that act everywhere ------------------------------------------------------------------------------------

    def interrupt(self) -> bool:
        if not self.chat.running or self.chat.stepping:
            return tooling.stop(self) or outgrown.stop(self)
        self.action_stop()
        self.call_later(self.hints.say, "stopped: what was drawn stays · ctrl+q quits")
        return True

    def action_stop(self) -> None:
        """Stop generating; else leave step mode; else close the sheet; else go back to the prompt."""
        if self.composer.list.display:
            self.composer.list.offer(())
        elif self.chat.stepping:
            stepping.end(self)
        elif self.host.engine.stop_loading():
            self.hints.say("stopping the download…")
        elif self.diffusion.leave():
            self.status()
        elif self.chat.stop(hear=True):
            self._give_up_waiting()
            self.save()
            self.reshow()
            self._name_it()
            self.status()
        elif tooling.stop(self) or outgrown.stop(self):
            return
        elif self.inspector.close():
            self.composer.focus()
        elif self.composer.drop():
            self.hints.say("")
        elif not self.composer.has_focus:
            self.composer.focus()
            self.pane.view.action_latest()

    def action_sampler(self) -> None:
        """To the sliders; where the screen is narrow, the drawer turns to them, or back."""
        if self.chat.diffuses:
            self.hints.say(diffusing.settings(self))
        else:
            self.inspector.to_sampler(back=self.composer)

    def action_panel(self) -> None:
        self.inspector.next_face()

    def action_heat(self) -> None:
        self.pane.action_heat()

    def action_find(self) -> None:
        self.pane.action_find()

    def fresh(self) -> None:
        sampling, asked = self.chat.sampling, self.chat.settings.asked
        self.open(replace(self._fresh(), recipe=sampling.recipe, order=sampling.names, asked=asked))

    def action_new(self) -> None:
        self.fresh()
        self.composer.focus()

    def set_state(self, state: Mapping[str, str]) -> None:
        """An empty conversation, and what is to be sent in the prompt."""
        self.action_new()
        self.composer.take(state.get("prompt", ""))

    def numbers(self) -> Mapping[str, Value]:
        """Of the answers that are whole."""
        drawn = [n for n in self.chat.conversation.nodes.values() if n.role == "assistant" and n.steps and n.finish]
        if not drawn:
            return {"answers": 0.0}
        steps = drawn[-1].steps
        cost = bits(-sum(step.logprob or 0.0 for step in steps))
        return {"answers": float(len(drawn)), "answer_tokens": float(len(steps)), "answer_bits": cost}

    def commands(self) -> Iterator[Command]:
        return commands.offered(self)
