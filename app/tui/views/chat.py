"""The chat view: a conversation, and the routes between its panes, the session and the engine.

The transcript pane shows and reads, the inspector looks at a token, the composer writes; what they ask for is done
here, on the `ChatSession`, and what the engine reports goes from there back to the panes.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from likely.app import requests as r
from likely.app.heat import BITS, HEATS
from likely.app.tui.base import cells, keys
from likely.app.tui.base.formula import Formula
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.chat import status, titler
from likely.app.tui.chat.auto_saver import EVERY_S
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.formulas import of_ids
from likely.app.tui.chat.inspection import Subject
from likely.app.tui.chat.titler import Titler
from likely.app.tui.chat.token_look import TokenLook
from likely.app.tui.dialogs.opening import LOADING, NO_MODEL, WAITING
from likely.app.tui.views import commands, diffusing, slash, stepping
from likely.app.tui.views.steering import Steering
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, InspectorLine, TopBar
from likely.app.tui.widgets.best_texts import BestTexts
from likely.app.tui.widgets.body import Body
from likely.app.tui.widgets.candidates import Candidates
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.composer import Composer
from likely.app.tui.widgets.diffusion_pane import DiffusionPane
from likely.app.tui.widgets.inspector import Inspector
from likely.app.tui.widgets.place_editor import SYSTEM, PlaceEditor
from likely.app.tui.widgets.sampler import Sliders
from likely.app.tui.widgets.suggestions import Suggestions
from likely.app.tui.widgets.system_line import SystemLine
from likely.app.tui.widgets.token_view import TokenView
from likely.app.tui.widgets.transcript_pane import TranscriptPane
from likely.app.tui.widgets.tree import TreePane
from likely.engine.conversation import Conversation

STATUS_S = 0.5  # between two looks at speed and context while tokens come
BEGUN = 16  # tokens, which the tree shows of a branch


class ChatScreen(View, Steering):
    """Talk to a model, look at every token, steer, branch."""

    NAME = "chat"
    PARTS = (
        TokenView,
        TranscriptPane,
        BestTexts,
        SystemLine,
        PlaceEditor,
        Candidates,
        Sliders,
        TreePane,
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
        self._progress = ""  # of a model that is loading, as it was said last

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        with Body(id="body"):
            yield TranscriptPane(id="left")
            yield Inspector(id="inspector", strategies=True)
            yield DiffusionPane(lambda: self.talk, self.names)
        yield InspectorLine(id="glance")
        yield Suggestions(id="suggestions")
        yield Composer(placeholder=WAITING, id="prompt")
        yield Caption(id="diffusion-formula")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.pane = self.query_one(TranscriptPane)
        self.inspector, self.diffusion = self.query_one(Inspector), self.query_one(DiffusionPane)
        self.inspector.subject = self.subject
        self.query_one(BestTexts).run = lambda: self.talk.run
        self.pane.table, self.pane.near = self.inspector.table, self.inspector.turn_near
        self.composer, self.caption = self.query_one(Composer), self.query_one("#diffusion-formula", Caption)
        self.titler = Titler(self.host.engine.submit)
        self.composer.prompts = self.host.prompts
        self.composer.commands = partial(slash.suggest, self)
        self.composer.busy, self.composer.room = lambda: self.talk.running, lambda: self.talk.room()
        self.composer.example = lambda: "" if self.talk.diffuses else self.pane.example
        self.composer.turn = self.pane.turn_example
        self.composer.list = self.query_one(Suggestions)
        self._open_first()
        self.composer.focus()
        self.set_interval(1.0, self.tick)
        if self.host.store_news:  # stays until a key is pressed
            self.hints.say(self.host.store_news, alarm=True)

    # -- the conversation that is open -------------------------------------------------------------------------------

    @property
    def talk(self) -> ChatSession:
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
        if self.session is not None:
            self.leave()
            heat, least = self.session.transcript.heat, self.session.transcript.least
        talk = ChatSession(conversation, self._submit, clock=self.host.clock)
        self.session = self.host.session = talk
        talk.max_tokens, talk.new_seed = self.host.start.max_tokens, self.host.start.new_seed or talk.new_seed
        talk.transcript.heat, talk.transcript.least = heat, least
        talk.adapters = status.adapters(self.host.engine)
        self.look = TokenLook(talk, self.host.store)
        self.inspector.forget()
        if self.host.engine.current is not None:
            talk.ready(self.host.engine.current)
        self.pane.open(talk.transcript)
        self.reshow(follow=True)
        self.inspector.sampler.names = lambda token: self.names().name(token)
        self.inspector.sampler.show(talk.sampling, talk.strategy)
        self.models_changed()

    def leave(self) -> None:
        """Stop and save before something else is shown."""
        if self.session is None:
            return
        self.titler.stop()
        if self.talk.stepping:
            self.talk.step_off()
        self.talk.stop()
        self.talk.settle()
        self.save()

    def current(self) -> Conversation | None:
        return self.session.conversation if self.session is not None else None

    def save(self) -> None:
        self.host.save(self.talk.conversation)

    def tick(self) -> None:
        """Once a second: what was drawn is handed to the saver, and its trouble is shown."""
        if self.talk.running:
            self.talk.keep()
            self.save()
        if self.host.keeper is not None and (news := self.host.keeper.report()):
            self.hints.say(news, alarm=True)

    def rename(self, title: str) -> None:
        """Name the conversation."""
        self.talk.conversation = replace(self.talk.conversation, title=cells.fit(title, 60))
        self.save()

    def _name_it(self) -> None:
        talk, facts = self.talk, self.host.engine.current
        if facts is not None and not talk.running and not talk.diffuses:
            self.titler.ask(
                talk.conversation, facts, lambda title: self.rename(title) if self.session is talk else None
            )

    # -- the engine --------------------------------------------------------------------------------------------------

    def _submit(self, request: r.ModelRequest) -> int:
        return self.host.engine.submit(request, self.take_events)

    def take_events(self, job: int, events: list[Any]) -> None:
        """A batch of events of one job: tokens together, one repaint."""
        run, talk = self.talk.run, self.talk
        heard = talk.take(job, events)
        self.pane.extend(heard.tokens)
        if heard.failure is not None:
            self.call_later(self.hints.say, status.failed(heard.failure, self.host.home), True)
        if heard.scored is False:
            self.hints.say("this message cannot be looked at: the chat template changes it")
        elif heard.scored:
            self.pane.measured()
            self.inspector.look()
        if heard.ended:
            self._finished()
        elif heard.reshow:
            self.save()
            self.reshow()
        elif heard.branched:
            self.inspector.show_tree(talk.conversation)
        if heard.tokens and not heard.ended:
            self._drawn(len(heard.tokens))
        if heard.denoised and not heard.ended:
            self.status()
        if heard.news:
            self.call_later(self.hints.say, heard.news, True)
        if talk.run is not None and talk.run is run and run.read is not None:
            self.hints.say(status.reading(*run.read))
        elif run is not None and not heard.failure and self.hints.news.startswith(status.READING):
            self._hint()

    def _drawn(self, count: int) -> None:
        """Tokens were drawn: the panel looks a few times a second, the top line less often."""
        now = monotonic()
        if self.talk.run is not None and len(self.talk.run.steps) - count < BEGUN:
            self.talk.keep()
            self.inspector.tree_pane.show(self.talk.conversation)
        if self.pane.cursor is None or self.talk.peek is not None:
            self.inspector.look_soon()
        if now - self._status_s >= STATUS_S:
            self._status_s = now
            self.pane.renote()
            self.status()
        if now - self._saved_s >= EVERY_S:
            self._saved_s = now
            self.talk.keep()
            self.save()

    def _finished(self) -> None:
        self.save()
        if not self.talk.stepping:
            self.pane.fold_thinking()
            self.reshow()
            if self.inspector.candidates.has_focus and self.talk.peek is None:
                self.inspector.candidates.blur()
            self._name_it()
        else:
            self.inspector.look()
            stepping.peeked(self)
        self.status()
        self.inspector.rest()

    def models_changed(self) -> None:
        facts, loading = self.host.engine.current, self.host.engine.loading
        if self.session is None:
            return
        if facts is not None and self.talk.facts is not facts:
            self.talk.adapters = status.adapters(self.host.engine)
            self.talk.ready(facts)
            self.reshow()
        self.status()
        if not self.hints.alarm and (loading is not None or self.hints.news == self._progress):
            self._progress = "" if loading is None else status.progress(loading)
            self.hints.say(self._progress)

    def adapters_changed(self) -> None:
        """The model computes something else: what was measured of the text was measured by another."""
        self.talk.transcript.scores.clear()
        self.talk.adapters = status.adapters(self.host.engine)
        self.inspector.renew()
        self.status()

    # -- showing -----------------------------------------------------------------------------------------------------

    def reshow(self, *, follow: bool | None = None) -> None:
        """Show the lineage anew, after it has changed."""
        self.look.forget()
        self.pane.reshow(follow=follow)
        self.inspector.show_tree(self.talk.conversation)
        self.inspector.look()
        self.status()
        self._hint()

    def status(self) -> None:
        """The top line, as things are."""
        diffusing.show(self)

    def names(self) -> Names:
        return self.host.names_of(self.talk.conversation.model)

    def subject(self) -> Subject:
        """The token that is looked at."""
        return self.look.subject(self.pane.place, self.pane.cursor, self.names(), self.host.engine.current)

    def formula(self) -> Formula | None:
        if self.talk.diffuses:
            return self.diffusion.formula()
        facts, writes = self.host.engine.current, self.composer.has_focus or not self.pane.shown
        reads = of_ids(self.talk.context_tokens(), facts.context) if facts is not None and writes else None
        return reads or self.inspector.formula()

    def help(self) -> Sequence[str]:
        return (
            "mouse            click a token to look, again to branch; drag selects; wheel scrolls",
            f"commands (tab completes)\n{slash.help_text()}",
        )

    def on_resize(self) -> None:
        """The panel and the one line that stands for it take turns as the width changes."""
        if self.is_mounted:
            self.call_after_refresh(self.inspector.look)

    def on_token_view_cursor_moved(self, event: TokenView.CursorMoved) -> None:
        if event.place is not None and event.place.block < len(self.pane.shown):
            self.talk.look(event.place.block)
        self.inspector.look()
        self.inspector.rest()

    def on_transcript_pane_rendered(self) -> None:
        self.inspector.look()
        self.status()

    def on_descendant_focus(self) -> None:
        self.call_later(self._show_keys)

    def on_key(self) -> None:
        if self.hints.news and not self.talk.stepping:
            self.hints.say("")

    def _show_keys(self) -> None:
        """The keys that act on what has the focus."""
        stop = (("esc", "Stop"),) if self.talk.running else ()
        self.hints.show((*stop, *commands.keys(self.focused, self.talk.diffuses), (keys.help_key(), "Keys")))

    def _hint(self) -> None:
        """Show the keys instead of the last line of news."""
        self._show_keys()
        if not self.hints.alarm and not self.talk.stepping:
            facts = self.host.engine.current
            base = facts is not None and not facts.chat and not self.pane.shown and not self.talk.diffuses
            self.hints.say("a base model, without a chat template: it continues text (f4)" if base else "")

    # -- saying something --------------------------------------------------------------------------------------------

    def compose_command(self, name: str) -> None:
        """Begin to write a command that wants more words."""
        self.composer.take(f"/{name} ")
        self.composer.focus()

    def on_suggestions_taken(self, event: Suggestions.Taken) -> None:
        self.composer.take(event.suggestion.text)
        self.composer.focus()

    def on_composer_commanded(self, event: Composer.Commanded) -> None:
        self.command(event.text)

    def command(self, text: str) -> None:
        slash.run(self, text)

    def on_composer_said(self, event: Composer.Said) -> None:
        self.titler.stop()
        self.pane.view.move_to(None)
        if not self.talk.conversation.title:
            self.rename(titler.first_words(event.text))
        self.talk.submit(event.text)
        self.save()
        self.reshow(follow=True)
        if self.talk.waiting is not None:
            self.hints.say(NO_MODEL if self.host.engine.loading is None else LOADING)
        elif event.news:
            self.hints.say(event.news)

    def on_place_editor_kept(self, event: PlaceEditor.Kept) -> None:
        if event.index == SYSTEM:
            self.instruct(event.text)
        elif event.index < len(self.pane.shown):
            self.titler.stop()
            self.talk.edit(event.index, event.text, go_on=event.go_on)
            self.save()
            self.reshow(follow=self.talk.running or None)

    def instruct(self, system: str) -> None:
        """Another system prompt, from the next answer on."""
        self.talk.instruct(system)
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

    def action_redo(self, sampling: Sampling | None = None, seed: int | None = None) -> None:
        """Another answer; with settings or a seed of its own."""
        self.begun(self.talk.regenerate(sampling, seed), "there is no answer to draw again")

    def action_resume(self) -> None:
        self.begun(
            self.talk.resume(), "a canvas is filled whole" if self.talk.diffuses else "there is no answer to go on with"
        )

    def action_take(self, number: int) -> None:
        """Branch with candidate `number`; after g, go to a view."""
        if self.went(number):
            return
        table, place = self.inspector.table(), self.pane.place
        if table is not None and place is not None and number <= len(table.rows):
            self.pane.take(place, table.rows[number - 1].token)

    def on_transcript_pane_steered(self, event: TranscriptPane.Steered) -> None:
        begun = self.talk.branch(event.place, event.token, event.force)
        self.begun(begun, "branches leave from answers: e edits a message of yours")

    def on_transcript_pane_altered(self, event: TranscriptPane.Altered) -> None:
        turned = self.talk.change(event.change, keeps_run=event.keeps_run)
        self.save()
        if turned:
            self.pane.cursor = None if event.fork is None else self.pane.cursor
            self.reshow()
        self.pane.altered(event)
        if event.news:
            self.hints.say(event.news)

    def set_sampling(self, sampling: Sampling) -> None:
        """Draw otherwise from the next token on. Raises ParameterError for what the model cannot draw by."""
        diffusing.check(self.talk, sampling)
        self.inspector.sampler.show(sampling)
        self.talk.resample(sampling)
        self.inspector.look()
        self.inspector.rest()
        if not self.talk.running:
            self.save()

    def action_step(self) -> None:
        stepping.turn(self)

    def key_space(self) -> None:
        if self.talk.stepping and not self.composer.has_focus:
            self.talk.pick(None)

    # -- keys that act everywhere ------------------------------------------------------------------------------------

    def interrupt(self) -> bool:
        if not self.talk.running or self.talk.stepping:
            return False
        self.action_stop()
        self.call_later(self.hints.say, "stopped: what was drawn stays · ctrl+q quits")
        return True

    def action_stop(self) -> None:
        """Stop generating; else leave step mode; else close the sheet; else go back to the prompt."""
        if self.composer.list.display:
            self.composer.list.offer(())
        elif self.talk.stepping:
            stepping.end(self)
        elif self.host.engine.stop_loading():
            self.hints.say("stopping the download…")
        elif self.diffusion.leave():
            self.status()
        elif self.talk.stop(hear=True):
            self.save()
            self.pane.fold_thinking()
            self.reshow()
            self._name_it()
            self.status()
        elif self.inspector.close():
            self.composer.focus()
        elif self.composer.drop():
            self.hints.say("")
        elif not self.composer.has_focus:
            self.composer.focus()
            self.pane.view.action_latest()

    def action_sampler(self) -> None:
        """To the sliders; where the screen is narrow, the drawer turns to them, or back."""
        if self.talk.diffuses:
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
        self.open(self._fresh())

    def action_new(self) -> None:
        self.fresh()
        self.composer.focus()

    def commands(self) -> Iterator[Command]:
        return commands.offered(self)
