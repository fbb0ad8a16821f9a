"""Text mode: any text, without a chat template; every token measured, and continued from anywhere."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.lessons.expression import Value
from likely.app.tui.base import keys
from likely.app.tui.base.answer_settings import AnswerSettings
from likely.app.tui.base.context import before
from likely.app.tui.base.sampling import Sampling
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.chat import text_document
from likely.app.tui.chat.auto_saver import EVERY_S
from likely.app.tui.chat.inspecting.formulas import of_text
from likely.app.tui.chat.inspecting.greedy_continuation import GreedyContinuation
from likely.app.tui.chat.inspecting.inspection import Inspection, Subject, entropies
from likely.app.tui.chat.inspecting.word_surprisals import figures
from likely.app.tui.chat.live_run import CANCELLED, FAILED, LiveRun
from likely.app.tui.views.view import Command, View
from likely.app.tui.widgets.bars import Hints, InspectorLine, TopBar
from likely.app.tui.widgets.figures.text_measures import TextMeasures
from likely.app.tui.widgets.figures.word_strip import WordStrip
from likely.app.tui.widgets.input.buffer import TextBuffer
from likely.app.tui.widgets.input.sampler import Sliders
from likely.app.tui.widgets.inspector import Inspector
from likely.app.tui.widgets.lists.candidates import Candidates
from likely.app.tui.widgets.transcript.tree import TreePane
from likely.app.words.heat import HEATS, heat_level
from likely.app.words.units import predicted
from likely.engine.base.statistics.scores import bits_per_byte, perplexity
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import TokenStep

TYPING_S = 0.25  # how long a person pauses before the text is measured


class TextScreen(View):
    """An editable text and what the model makes of it."""

    NAME = "text"
    PARTS = (Candidates, Sliders, TreePane)
    STAYS = True
    BLANK = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "continue", "Continue", id="text.continue"),
        Binding("escape", "stop", "Stop", id="text.stop"),
        Binding("ctrl+g", "sampler", "Sampler", id="text.sampler"),
        Binding("ctrl+o", "sessions", "Sessions", id="text.sessions"),
        Binding("ctrl+n", "new", "New", id="text.new"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.conversation: Conversation | None = None  # to be shown first
        self.talk = Conversation("", kind="text")
        self.steps: list[TokenStep] = []
        self.measured = self.refused = self.refusal = ""  # the text that was measured last, that could not be, and why
        self.next_logits: tuple[str, np.ndarray] | None = None
        self.run: LiveRun | None = None
        self.going_on = GreedyContinuation()
        self._job = -1
        self._typing: Timer | None = None
        self._saved_s = 0.0

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME, id="top")
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield TextBuffer(id="buffer")
                yield TextMeasures(id="measures")
            yield Inspector(id="inspector")
        yield InspectorLine(id="glance")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.buffer = self.query_one(TextBuffer)
        self.measures = self.query_one(TextMeasures)
        self.inspector = self.query_one(Inspector)
        self.inspector.subject = self.subject
        self._show(self.conversation or self._fresh())
        self.buffer.focus()
        self.hints.show((("^r", "Continue"), ("esc", "Stop"), ("^g", "Sampler"), (keys.help_key(), "Keys")))

    def on_screen_resume(self) -> None:
        if self.is_mounted:  # another theme or model may have been chosen elsewhere
            self.host.restyle()
            self.models_changed()
            self.inspect()

    def _fresh(self) -> Conversation:
        now = self.host.clock()
        return Conversation(secrets.token_hex(4), kind="text", recipe=Sampling().recipe, created=now, updated=now)

    def current(self) -> Conversation:
        return self.talk

    def rename(self, title: str) -> None:
        self.talk = replace(self.talk, title=cells.fit(title, 60))
        self.save()

    def fresh(self) -> None:
        self.open(self._fresh())

    def action_new(self) -> None:
        self.fresh()
        self.buffer.focus()

    def open(self, conversation: Conversation) -> None:
        self.conversation = conversation
        if self.is_mounted:
            self.leave()
            self._show(conversation)

    def _show(self, conversation: Conversation) -> None:
        self.talk = conversation
        self.sampling = Sampling.of(conversation.recipe, conversation.order)
        self.inspector.sampler.show(AnswerSettings(self.sampling))
        self._write(text_document.text_of(conversation))
        self.models_changed()
        self.show_tree()

    def _write(self, text: str) -> None:
        """Another text in the buffer, the cursor at its end."""
        self.buffer.text = text
        self.buffer.move_cursor(self.buffer.document.end)

    def _commit(self, text: str) -> Fork:
        """Make what is written a part of the conversation; gives the fork at its end."""
        self.talk, fork = text_document.commit(self.talk, text, _new_id)
        return fork

    # -- measuring ---------------------------------------------------------------------------------------------------

    def on_text_buffer_moved(self) -> None:
        if self.run is not None:
            self._fit_measures()
            return
        self.inspect()
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(TYPING_S, self.measure)

    def measure(self) -> None:
        """Have the whole text measured, and the distribution after it."""
        facts, text = self.host.engine.current, self.buffer.text
        if facts is None or self.run is not None:
            return
        if text == self.measured:
            if self.buffer.measured < len(text):  # it was changed, and changed back before that was measured
                self._tint()
                self.inspect()
            return
        if not text:
            self.steps, self.measured = [], ""
            self.buffer.tint("", [])
            self.going_on.stop()
            self.inspect()
            return

        def measured(job: int, events: list[Any]) -> None:
            for event in events if self.is_attached else ():
                match event:
                    case r.Scored(steps):
                        self.steps, self.measured = list(steps), text
                        self._tint()
                        self.inspect()
                    case Failed(line):
                        self.refused, self.refusal = text, line
                        self.hints.say(line, alarm=True)
                        self.inspect()

        def followed(job: int, events: list[Any]) -> None:
            for event in events if self.is_attached else ():
                if isinstance(event, np.ndarray):
                    self.next_logits = (text, event)
                    self.inspect()

        context = Prompt(parts=(text,))
        self.host.engine.submit(call(calls.score, facts.name, context), measured)
        self.host.engine.submit(call(calls.logits, facts.name, context), followed)

    def stale(self) -> str:
        """Why what was measured is not of the text as it stands; "" where it is."""
        text = self.buffer.text
        if not text or text == self.measured:
            return ""
        if self.run is not None:
            return "continuing"
        return "not measured" if self.host.engine.current is None or text == self.refused else "measuring"

    def show_measures(self) -> None:
        """Fill the room that the text leaves with what was measured of it."""
        text, facts, going_on = self.buffer.text, self.host.engine.current, self.going_on
        current = bool(text) and self.measured == text
        if going_on.after and (going_on.after != text or not current):
            going_on.stop()
        if not self._fit_measures():
            return
        if current and facts is not None and self.run is None and going_on.after != text:
            going_on.ask(text, facts.name, self.host.engine.submit, self.show_measures)
        known, spans = self.buffer.measured, text_document.spans(self.steps)
        steps = [step for step, (_, end) in zip(self.steps, spans, strict=True) if end <= known]
        self.measures.show(steps, self.here(), going_on, self.stale())
        self._fit_measures()

    def _fit_measures(self) -> bool:
        """Give them the rows that are left; gives whether there are any."""
        if not self.is_attached:
            return False
        rows = self.buffer.wrapped_document.height if self.buffer.text else 0
        width, height = self.query_one("#left").size
        return self.measures.fit(width, height, rows)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_measures)

    def on_word_strip_word_pointed(self, event: WordStrip.WordPointed) -> None:
        lead = len(event.word.text) - len(event.word.text.lstrip())
        self.buffer.stand(event.word.start + lead)
        self.buffer.focus()

    def _tint(self) -> None:
        levels: list[int] = []
        highest = 0  # of the tokens that make one character together
        for step, (start, end) in zip(self.steps, text_document.spans(self.steps), strict=True):
            highest = max(highest, heat_level(step, "surprisal"))
            if end > start:
                levels += [highest] * (end - start)
                highest = 0
        self.buffer.tint(self.measured, levels)

    def here(self) -> int | None:
        """The token that the cursor stands before; None at the end of the text."""
        at = self.buffer.place
        for index, (start, end) in enumerate(text_document.spans(self.steps)):
            if start <= at < end:
                return index
        return None

    def inspection(self) -> Inspection | None:
        """The token under the cursor, else the place after the text."""
        names = self.host.names_of(self.host.engine.current.name if self.host.engine.current else "")
        recipe, seed, index = self.sampling.recipe, self.talk.seed, self.here()
        if index is not None and self.measured.startswith(self.buffer.text[: self.buffer.place + 1]):
            title, before = f"TOKEN {index + 1}/{len(self.steps)}", tuple(s.token for s in self.steps[:index])
            return Inspection(self.steps[index], recipe, names, title, before, seed=seed, number=index + 1)
        if self.next_logits is None or not self.steps or self.next_logits[0] != self.buffer.text:
            return None
        ids = [step.token for step in self.steps]
        return Inspection(None, recipe, names, "NEXT", ids, seed=seed, upcoming=True, logits=self.next_logits[1])

    def subject(self) -> Subject:
        """The subject of the panel: the token under the cursor, and the entropies of the text."""
        return Subject(self.inspection(), entropies(self.steps), self.here(), stale=self.stale())

    def inspect(self) -> None:
        """Bring the panel and the top line up to date with the cursor and the sliders."""
        self.inspector.inspect()
        self.show_measures()
        self.status()

    def formula(self) -> Formula | None:
        """Of the token before the cursor; at the end, of the whole text."""
        return self.inspector.formula() if self.here() is not None or not self.buffer.has_focus else of_text(self.steps)

    def set_state(self, state: Mapping[str, str]) -> None:
        """A new text, which is measured at once."""
        self.fresh()
        self._write(state.get("text", ""))
        self.buffer.focus()
        self.measure()

    def lacks(self) -> str:
        refused = self.buffer.text and self.buffer.text == self.refused
        return self.refusal if refused else super().lacks()

    def numbers(self) -> Mapping[str, Value]:
        """Of the text, once all of it is measured."""
        return {} if not self.steps or self.stale() else figures(self.steps, self.measured)

    def status(self) -> None:
        facts = self.host.engine.current
        if facts is None:
            self.top.show("no model", ("loading",) if self.host.engine.loading else ())
            return
        logprobs = [step.logprob for step in self.steps]
        ppl = perplexity(logprobs)
        density = bits_per_byte(
            logprobs, max(sum(len(step.piece) for step in self.steps if step.logprob is not None), 1)
        )
        known = predicted(sum(logprob is not None for logprob in logprobs), len(logprobs))
        measured = () if ppl is None else (f"ppl {ppl:.1f}", f"{density:.2f} bits/byte", known)
        stale = self.stale()
        parts = (stale,) if stale else (*measured, f"{len(self.steps)}/{facts.context} ctx")
        self.top.show(facts.title or facts.name, parts, kept=1 if stale else min(len(parts) - 1, 2))
        self.top.tint(HEATS[0])

    def models_changed(self) -> None:
        """A model was loaded: measure with it."""
        if self.host.engine.current is not None and self.talk.model != self.host.engine.current.name:
            self.talk = replace(self.talk, model=self.host.engine.current.name)
            self.measured = ""
            self.measure()
        self.status()

    # -- continuing --------------------------------------------------------------------------------------------------

    def action_continue(self, token: int | None = None) -> None:
        """Go on from the cursor; what stood behind it stays on its own branch."""
        facts = self.host.engine.current
        if facts is None or self.run is not None:
            self.hints.say("no model is loaded" if facts is None else "it is being continued: esc stops")
            return
        whole, prefix = self.buffer.text, self.buffer.text[: self.buffer.place]
        self.going_on.stop()
        self._commit(whole)
        fork = self._commit(prefix)
        prompt = before(self.talk, fork)
        if not prompt.parts:
            self.hints.say("write something to continue")
            return
        new_seed = self.host.start.new_seed
        seed = secrets.randbits(31) if new_seed is None else new_seed()
        node = Node(_new_id(), fork, "text", seed=seed, joins=True)
        self.talk = self.talk.add(node)
        control = RunControl(self.sampling.recipe)
        if token is not None:
            control.force([token])
        self.run = LiveRun(node.id, control, _new_id)
        self._write(prefix)
        self.call_after_refresh(self.show_measures)
        request = r.Generate(facts.name, prompt, control, node.seed)
        self._job = self.host.engine.submit(request, self.take_events)
        self.save()

    def take_events(self, job: int, events: list[Any]) -> None:
        """Events of the run: what was drawn goes to the end of the text."""
        run = self.run
        if run is None or job != self._job or not self.is_attached:
            return
        self.talk, drawn = run.take(self.talk, events)
        if drawn:
            self.buffer.insert("".join(step.text for step in drawn if not step.special), self.buffer.document.end)
            self.buffer.move_cursor(self.buffer.document.end)
        elif run.turned:
            self._write(text_document.text_of(self.talk))
        if run.news:
            self.hints.say(run.news)
        if run.failure is not None:
            self.hints.say(run.failure.line, alarm=True)
        if run.ended:
            self._end(run, FAILED)
            self.show_tree()
            self.measure()
        elif self.host.clock() - self._saved_s > EVERY_S:
            self._saved_s = self.host.clock()
            self.talk = run.keep(self.talk)
            self.save()

    def _end(self, run: LiveRun, finish: str) -> None:
        """The run is over: all of it is in the conversation."""
        self.talk, self.run = run.close(self.talk, finish), None
        self.save()

    def action_stop(self) -> None:
        """Stop; else close the sheet; else back to the chat."""
        if self.run is not None:
            self.run.control.cancel()
        elif self.inspector.close() or not self.buffer.has_focus:
            self.buffer.focus()
        else:
            self.back()

    def interrupt(self) -> bool:
        if self.run is None:
            return False
        self.action_stop()
        self.hints.say("stopped: what was drawn stays · ctrl+q quits")
        return True

    def on_key(self) -> None:
        if self.hints.news:
            self.hints.say("")

    def leave(self) -> None:
        """Stop and save before something else is shown."""
        self.going_on.stop()
        if self.run is not None:
            self.run.control.cancel()
            self._end(self.run, CANCELLED)
        self._commit(self.buffer.text)
        self.save()

    def save(self) -> None:
        text = text_document.text_of(self.talk)
        words, title = cells.clean(" ".join(text.split())), self.talk.title
        if words.startswith(title):  # its first words, until it is renamed
            title = cells.fit(words, 60)
        self.talk = replace(
            self.talk,
            title=title,
            updated=self.host.clock(),
            recipe=self.sampling.recipe,
            order=self.sampling.names,
        )
        self.host.save(self.talk)

    # -- panel -------------------------------------------------------------------------------------------------------

    def show_tree(self) -> None:
        self.inspector.tree_pane.show(self.talk)

    def on_sliders_changed(self, event: Sliders.Changed) -> None:
        self.sampling = event.settings.sampling
        if self.run is not None:
            self.run.control.recipe = event.settings.sampling.recipe
        self.inspect()

    def on_tree_pane_checked_out(self, event: TreePane.CheckedOut) -> None:
        if self.run is None:
            self._commit(self.buffer.text)
            self.talk = self.talk.choose(event.fork, event.option)
            self._write(text_document.text_of(self.talk))
            self.show_tree()
            self.save()

    def on_candidates_picked(self, event: Candidates.Picked) -> None:
        if event.verb == "branch":
            index = self.here()
            if index is not None:  # stand before the token that is replaced
                start = text_document.spans(self.steps)[index][0]
                self.buffer.stand(start)
            self.action_continue(event.token)
        elif self.run is not None:
            self.run.control.force([event.token])

    def action_sampler(self) -> None:
        """To the sliders; where the screen is narrow, the drawer turns to them, or back."""
        self.inspector.to_sampler(back=self.buffer)

    def commands(self) -> Iterator[Command]:
        yield "text: Continue", "from the cursor", self.action_continue
        yield "text: New", "an empty text", self.action_new
        if self.host.store is not None:
            yield "session: Open or search…", "all conversations", self.action_sessions
        if self.run is not None:
            yield "text: Stop", "what was drawn stays", self.action_stop


def _new_id() -> str:
    return secrets.token_hex(6)
