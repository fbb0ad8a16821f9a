"""Text mode: any text, without a chat template; every token measured, and continued from anywhere."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.timer import Timer

from app import requests as r
from app.heat import heat_level
from app.tui.chat import candidates, text_document
from app.tui.chat.auto_saver import EVERY_S
from app.tui.chat.candidates import LN2, CandidateTable, Outcome
from app.tui.chat.context import before
from app.tui.dialogs.overlays import Read
from app.tui.palette import Entry
from app.tui.sampling import Sampling
from app.tui.tokens import cells
from app.tui.widgets.bars import Hints, InspectorLine, TopBar
from app.tui.widgets.buffer import TextBuffer
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.entropy import EntropyRow
from app.tui.widgets.inspector import Body, Inspector, Left
from app.tui.widgets.sampler import Sampler
from app.tui.widgets.tree import TreePane
from app.worker import Failed
from engine.conversation import Conversation, Node
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted
from engine.evaluate.scores import bits_per_byte, perplexity
from engine.prompt import Prompt
from engine.trace.trace import TokenStep

if TYPE_CHECKING:
    from app.tui.app import LikelyApp

TYPING_S = 0.25  # how long a person pauses before the text is measured


class TextScreen(Screen[None]):
    """An editable text and what the model makes of it."""

    BLANK = True

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "continue", "Continue", show=False, id="text.continue"),
        Binding("escape", "stop", "Stop", show=False, id="text.stop"),
        Binding("ctrl+g", "sampler", "Sampler", show=False, id="text.sampler"),
        Binding("f1", "keys", "Keys", show=False, id="text.keys"),
    ]

    def __init__(self, conversation: Conversation | None = None) -> None:
        super().__init__()
        self.conversation = conversation
        self.steps: list[TokenStep] = []
        self.measured = ""
        self.next_outcome: Outcome | None = None
        self.next_logits: tuple[str, np.ndarray] | None = None
        self.control: RunControl | None = None
        self.new_seed: Callable[[], int] = lambda: secrets.randbits(31)
        self._node = ""
        self._fresh: list[TokenStep] = []
        self._job = -1
        self._typing: Timer | None = None
        self._saved_s = 0.0

    @property
    def likely(self) -> "LikelyApp":
        return cast("LikelyApp", self.app)

    def compose(self) -> ComposeResult:
        yield TopBar("text", id="top")
        with Body(id="body"):
            with Left(id="left"):
                yield TextBuffer(id="buffer")
            yield Inspector(id="inspector")
        yield InspectorLine(id="glance")
        yield Hints(id="hints")

    def on_mount(self) -> None:
        self.buffer = self.query_one(TextBuffer)
        self.hints = self.query_one(Hints)
        now = self.likely.clock()
        if self.conversation is None:
            self.conversation = Conversation(
                secrets.token_hex(4), kind="text", recipe=Sampling().recipe, created=now, updated=now
            )
        self.talk = self.conversation
        self.sampling = Sampling.of(self.talk.recipe, self.talk.order)
        self.query_one(Sampler).show(self.sampling)
        self.buffer.text = text_document.text_of(self.talk)
        self.buffer.move_cursor(self.buffer.document.end)
        self.buffer.focus()
        self.hints.show((("^r", "Continue"), ("esc", "Stop"), ("^g", "Sampler"), ("f1", "Keys")))
        self.model_changed()
        self.show_tree()

    # -- measuring ---------------------------------------------------------------------------------------------------

    def on_text_buffer_moved(self) -> None:
        if self.control is not None:
            return
        self.inspect()
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(TYPING_S, self.measure)

    def measure(self) -> None:
        """Have the whole text measured, and the distribution after it."""
        facts, text = self.likely.engine.current, self.buffer.text
        if facts is None or self.control is not None or text == self.measured:
            return
        if not text:
            self.steps, self.measured = [], ""
            self.buffer.tint("", [])
            self.inspect()
            return

        def measured(job: int, events: list[Any]) -> None:
            for event in events:
                match event:
                    case r.Scored(steps) if self.is_mounted:
                        self.steps, self.measured = list(steps), text
                        self._tint()
                        self.inspect()
                    case Failed(line):
                        self.hints.say(line, alarm=True)

        def followed(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, r.ExactLogits):
                    self.next_logits = (text, event.logits)
                    self.inspect()

        context = Prompt(parts=(text,))
        self.likely.engine.submit(r.Score(facts.name, context), measured)
        self.likely.engine.submit(r.Exact(facts.name, context), followed)

    def _tint(self) -> None:
        levels: list[int] = []
        for step, (start, end) in zip(self.steps, text_document.spans(self.steps), strict=True):
            levels += [heat_level(step, "surprisal")] * (end - start)
        self.buffer.tint(self.measured, levels)

    def here(self) -> int | None:
        """The token that the cursor stands before; None at the end of the text."""
        at = self.buffer.place
        for index, (start, end) in enumerate(text_document.spans(self.steps)):
            if start <= at < end:
                return index
        return None

    def view(self) -> CandidateTable | None:
        names = self.likely.names_of(self.likely.engine.current.name if self.likely.engine.current else "")
        index = self.here()
        if index is not None and self.measured.startswith(self.buffer.text[: self.buffer.place + 1]):
            step = self.steps[index]
            before = tuple(step.token for step in self.steps[:index])
            outcome = candidates.replayed(step, self.sampling.recipe, before, (), names, self.talk.seed)
            title = f"TOKEN {index + 1}/{len(self.steps)}"
            return candidates.view(step, outcome, self.sampling.recipe, names, title=title, live=False)
        if self.next_logits is None or not self.steps or self.next_logits[0] != self.buffer.text:
            return None
        ids = [step.token for step in self.steps]
        recipe = self.sampling.recipe
        logits = self.next_logits[1]
        outcome = candidates.exact(logits, recipe, ids, names, (self.talk.seed, len(ids)))
        return candidates.next_view(outcome, recipe, names, len(logits))

    def inspect(self) -> None:
        view = self.view()
        self.query_one(Candidates).show(view)
        bits = [None if step.entropy is None else step.entropy / LN2 for step in self.steps]
        at = self.here()
        self.query_one(EntropyRow).show(bits, at)
        end = len(bits) if at is None else at + 1
        self.query_one(InspectorLine).show(view, bits[max(end - 8, 0) : end])
        self.status()

    def status(self) -> None:
        facts = self.likely.engine.current
        if facts is None:
            self.query_one(TopBar).show("no model", ("loading",) if self.likely.engine.loading else ())
            return
        said = [step.logprob for step in self.steps]
        ppl = perplexity(said)
        density = bits_per_byte(said, max(sum(len(step.piece) for step in self.steps if step.logprob is not None), 1))
        parts = [f"{len(self.steps)}/{facts.context} ctx"]
        if ppl is not None:
            parts += [f"ppl {ppl:.1f}", f"{density:.2f} bits/byte"]
        self.query_one(TopBar).show(cells.fit(facts.title or facts.name, 40), tuple(parts))

    def model_changed(self) -> None:
        """A model was loaded: measure with it."""
        if self.likely.engine.current is not None and self.talk.model != self.likely.engine.current.name:
            self.talk = replace(self.talk, model=self.likely.engine.current.name)
            self.measured = ""
            self.measure()
        self.status()

    # -- continuing --------------------------------------------------------------------------------------------------

    def action_continue(self, token: int | None = None) -> None:
        """Go on from the cursor; what stood behind it stays on its own branch."""
        facts = self.likely.engine.current
        if facts is None or self.control is not None:
            self.hints.say("no model is loaded" if facts is None else "it is being continued: esc stops")
            return
        whole, prefix = self.buffer.text, self.buffer.text[: self.buffer.place]
        self.talk, _ = text_document.commit(self.talk, whole, _new_id)
        self.talk, fork = text_document.commit(self.talk, prefix, _new_id)
        if not before(self.talk, fork).parts:
            self.hints.say("write something to continue")
            return
        seed = self.new_seed()
        node = Node(_new_id(), fork, "text", seed=seed, joins=True)
        context = before(self.talk, fork)
        self.talk = self.talk.add(node)
        self._node, self._fresh = node.id, []
        self.control = RunControl(self.sampling.recipe)
        if token is not None:
            self.control.force([token])
        self.buffer.text = prefix
        self.buffer.move_cursor(self.buffer.document.end)
        self._job = self.likely.engine.submit(r.Generate(facts.name, context, self.control, seed), self._reported)
        self.save()

    def _reported(self, job: int, events: list[Any]) -> None:
        drawn: list[TokenStep] = []
        ended = ""
        for event in events if job == self._job else ():
            match event:
                case Emitted(_, step):
                    drawn.append(step)
                case Done(_, reason):
                    ended = reason
                case Failed(line):
                    ended = "failed"
                    self.hints.say(line, alarm=True)
        if self.control is None or not self.is_mounted:
            return
        if drawn:
            self._fresh += drawn
            text = "".join(step.text for step in drawn if not step.special)
            self.buffer.insert(text, self.buffer.document.end)
            self.buffer.move_cursor(self.buffer.document.end)
        now = self.likely.clock()
        if ended or now - self._saved_s > EVERY_S:
            self._saved_s = now
            self.talk = self.talk.extend(self._node, tuple(self._fresh), ended)
            self._fresh = []
            self.save()
        if ended:
            self.control = None
            self.show_tree()
            self.measure()

    def action_stop(self) -> None:
        """Stop; else close the sheet; else back to the chat."""
        inspector = self.query_one(Inspector)
        if self.control is not None:
            self.control.cancel()
        elif inspector.has_class("-open"):
            inspector.remove_class("-open")
            self.buffer.focus()
        elif not self.buffer.has_focus:
            self.buffer.focus()
        else:
            self.likely.action_go("chat")

    def leave(self) -> None:
        """Stop and save before something else is shown."""
        if self.control is not None:
            self.control.cancel()
            self.talk = self.talk.extend(self._node, tuple(self._fresh), "cancelled")
            self.control = None
        self.talk, _ = text_document.commit(self.talk, self.buffer.text, _new_id)
        self.save()

    def save(self) -> None:
        text = text_document.text_of(self.talk)
        title = self.talk.title or cells.fit(cells.clean(" ".join(text.split())), 60)
        self.talk = replace(
            self.talk,
            title=title,
            updated=self.likely.clock(),
            recipe=self.sampling.recipe,
            order=self.sampling.names,
        )
        if self.likely.keeper is not None:
            self.likely.keeper.save(self.talk)

    # -- panel -------------------------------------------------------------------------------------------------------

    def show_tree(self) -> None:
        self.query_one(TreePane).show(self.talk)

    def on_sampler_changed(self, event: Sampler.Changed) -> None:
        self.sampling = event.sampling
        if self.control is not None:
            self.control.recipe = event.sampling.recipe
        self.inspect()

    def on_tree_pane_chosen(self, event: TreePane.Chosen) -> None:
        if self.control is None:
            self.talk, _ = text_document.commit(self.talk, self.buffer.text, _new_id)
            self.talk = self.talk.choose(event.fork, event.option)
            self.buffer.text = text_document.text_of(self.talk)
            self.buffer.move_cursor(self.buffer.document.end)
            self.show_tree()
            self.save()

    def on_candidates_picked(self, event: Candidates.Picked) -> None:
        if event.verb == "branch":
            index = self.here()
            if index is not None:  # stand before the token that is replaced
                start = text_document.spans(self.steps)[index][0]
                self.buffer.stand(start)
            self.action_continue(event.token)
        elif event.verb == "ban":
            self.sampling = self.sampling.banned(event.token)
            self.query_one(Sampler).show(self.sampling)
            self.inspect()
        elif self.control is not None:
            self.control.force([event.token])

    def action_sampler(self) -> None:
        inspector = self.query_one(Inspector)
        if self.has_class("-narrow") or self.has_class("-tiny"):
            inspector.toggle_class("-open")
            if not inspector.has_class("-open"):
                self.buffer.focus()
                return
        self.call_after_refresh(self.query_one(Sampler).focus)

    def action_keys(self) -> None:
        from app.tui.help import keys_text

        self.app.push_screen(Read("keys", keys_text(self)))

    def palette(self) -> Iterator[Entry]:
        """What the palette offers here."""
        yield "text: Continue", "from the cursor", self.action_continue
        if self.control is not None:
            yield "text: Stop", "what was drawn stays", self.action_stop

    def on_top_bar_screen_asked(self, event: TopBar.ScreenAsked) -> None:
        self.likely.action_go(event.name)


def _new_id() -> str:
    return secrets.token_hex(6)
