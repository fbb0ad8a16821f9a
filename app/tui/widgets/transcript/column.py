"""One column of a comparison: a way to draw, its answer, and what it came to."""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Label

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.store.sampling_text import words
from likely.app.store.store import Store
from likely.app.tui.base import presets
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.block import ShownToken
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.denoising import LN2, Denoising
from likely.app.tui.chat.inspecting import denoising_layout
from likely.app.tui.chat.inspecting.comparison import divergence
from likely.app.tui.chat.inspecting.inspections import Inspections
from likely.app.tui.chat.inspecting.likelihood_bounds import LikelihoodBounds
from likely.app.tui.chat.transcript import EDITED
from likely.app.tui.widgets.host import host
from likely.app.tui.widgets.transcript.token_view import TokenView
from likely.app.words import heat
from likely.engine.base.statistics.scores import perplexity, surprisal
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import TokenStep

EMPTY = "c sets it up · ⏎ in the prompt runs it"


class AnswerView(TokenView):
    """The answer of a column, or the text that it reads."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "fork(1)", "Next fork", id="compare.next_fork"),
        Binding("N", "fork(-1)", "Previous fork", id="compare.previous_fork"),
    ]

    class ForkAsked(Message):
        """A person wants the next token at which another column would go on otherwise."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def action_fork(self, by: int) -> None:
        self.post_message(self.ForkAsked(by))


class Column(Vertical):
    """A `ChatSession` and the view of its answer."""

    def __init__(self, chat: ChatSession, model: str, store: Store | None = None, label: str = "") -> None:
        """`label` is how the answer that it has was drawn, where it was kept."""
        super().__init__()
        self.chat = chat
        self.inspections = Inspections(chat, store)
        self.model = model  # a name to load; "" for the one that is current
        self.kept_label = label
        self.named = False  # its model is said first: another column has another
        self.parts_at: int | None = None  # the first token that is not the first column's
        # held, not looked up: events may come before they are mounted, and while they go
        self.view = AnswerView()
        self._head = Label("", classes="column-head", markup=False)
        self._foot = Label("", classes="column-foot")
        self.bounds = LikelihoodBounds(lambda line: self.post_message(self.Measured()))  # by answer
        self._alike = 0  # so many tokens were found to be the same
        self.tinted = ""  # by what, where it is not by its surprisal
        self._reading = -1  # the job that measures a text that was given

    def compose(self) -> ComposeResult:
        yield self._head
        yield self.view
        yield self._foot

    @property
    def place(self) -> TokenPlace | None:
        """The token that is looked at, in the conversation: the prompt is not shown."""
        place = self.view.cursor or self.view.newest()
        shown = self.chat.transcript.shown
        return TokenPlace(len(shown) - 1, place.token) if place is not None and shown else None

    @property
    def steps(self) -> Sequence[TokenStep]:
        return self.chat.transcript.shown[-1].steps if self.chat.transcript.shown else ()

    @property
    def answer(self) -> str:
        """The id of the node that its answer ends in, "" for none."""
        shown = self.chat.transcript.shown
        return shown[-1].message.last.id if len(shown) > 1 else ""

    @property
    def label(self) -> str:
        """The settings of this column that tell it apart, in words."""
        if self.kept_label:
            return self.kept_label
        sampling, facts = self.chat.sampling, self.chat.facts
        model = (facts.title or facts.name) if facts is not None and (self.model or self.named) else self.model
        order = f"{sampling.order_name} order" if sampling.order_name != "mlx-lm" else ""
        strategy = "diffusion" if self.chat.diffuses else self.chat.settings.strategy.words
        drawn = (presets.name_of(sampling, facts) or words(sampling.recipe), order, strategy)
        parts = (model, *drawn) if self.named else (*drawn, model)  # what is first stays where there is little room
        return " · ".join(part for part in parts if part)

    @property
    def law_of(self) -> str:
        """The model that it draws with, by name; "" while none is loaded."""
        return self.chat.facts.name if self.chat.facts is not None else self.model

    @property
    def models(self) -> set[str]:
        """The loaded models that this column draws with; "" is the current one."""
        return {self.model, *self.chat.settings.strategy.needs}

    # -- running -----------------------------------------------------------------------------------------------------

    def start(self, conversation: Conversation, prompt: str) -> None:
        """Answer a prompt in a conversation of its own, from the beginning."""
        self._begin(conversation)
        self.chat.submit(prompt)
        self.show(follow=True)

    def read(self, conversation: Conversation, text: str) -> None:
        """Have a text that was given measured, in the place of an answer."""
        chat, facts = self.chat, self.chat.facts
        self._begin(conversation)
        chat.conversation = conversation.add(Node(chat.new_id(), Fork(), "user"))
        if facts is not None:
            self._reading = chat.send(call(calls.score, facts.name, Prompt(parts=(text,))))
        self.show(follow=False)

    def _begin(self, conversation: Conversation) -> None:
        self.stop()
        self.kept_label = self.tinted = ""
        self.chat.conversation = conversation
        self.unmark()
        self.view.move_to(None)

    def stop(self) -> bool:
        """Stop its run, and what is measured of the last; gives whether there was either."""
        measured, ran, reads = self.bounds.stop(), self.chat.stop(), self._reading >= 0
        if reads:
            host(self).engine.worker.stop(self._reading)
            self._reading = -1
        return measured or ran or reads

    @property
    def busy(self) -> bool:
        """Whether its answer is being drawn, or its text measured."""
        return self.chat.running or self.chat.waiting is not None or self._reading >= 0

    def take_events(self, job: int, events: Sequence[Any]) -> str:
        """Take in events of a job of this column's; gives a line about what went wrong, or ""."""
        if job == self._reading:
            return self._read(events)
        heard = self.chat.take(job, list(events))
        if heard.tokens:
            self.view.extend(heard.tokens)
        if heard.denoised and not heard.ended:
            self._fill()
        if heard.ended and not heard.failure:
            self._bound()
        if heard.ended or heard.reshow:
            self.show()
        return heard.failure.line if heard.failure is not None else heard.news

    def _read(self, events: Sequence[Any]) -> str:
        self._reading, line, talk = -1, "", self.chat.conversation
        for event in events:
            if isinstance(event, r.Scored) and talk.leaf is not None:
                node = Node(self.chat.new_id(), Fork(talk.leaf.id), "assistant", steps=event.steps, finish=EDITED)
                self.chat.conversation = talk.add(node)
            elif isinstance(event, Failed):
                line = event.line
        self.show(follow=False)
        return line

    @property
    def canvas(self) -> Denoising | None:
        """The canvas of its answer, where a diffusion model fills one."""
        return self.chat.canvas(self.answer) if self.answer else None

    def _fill(self) -> None:
        """Show the canvas as it is: masks are shaded."""
        canvas, shown = self.canvas, self.chat.transcript.shown
        if canvas is not None:
            names, cells_ = host(self).names_of(self.chat.conversation.model), canvas.until_end(canvas.steps)
            texts = denoising_layout.spoken(cells_, names, canvas.laid.special)
            tinted = [heat.level(c.entropy / LN2) if c.token is None and c.entropy else 0 for c in cells_]
            shown[-1].block.fill(ShownToken(piece.text, level) for piece, level in zip(texts, tinted, strict=True))
            self.view.show([shown[-1].block])

    def _bound(self) -> None:
        """Ask for the bound on the likelihood of a canvas, once it is filled."""
        canvas, facts = self.canvas, self.chat.facts
        whole = canvas.whole(canvas.steps) if canvas is not None else None
        if facts is not None and whole is not None:
            self.bounds.ask(host(self).engine.submit, self.answer, facts.name, *whole)

    class Measured(Message):
        """There is more to be said below a column."""

    class Resized(Message):
        """A column, and so what is said above and below it, has another width."""

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    # -- showing -----------------------------------------------------------------------------------------------------

    def show(self, *, follow: bool | None = None) -> None:
        """Show the answer alone: the prompt is the same everywhere, and the foot says what the heading would."""
        blocks = self.chat.transcript.blocks()[1:]
        for block in blocks:
            block.note = ""
        self.view.show(blocks, follow=follow)

    def render_markdown(self, on: bool) -> None:
        """Show the answer's Markdown as what it means, or as it was written; the token looked at stays in view."""
        self.view.show_otherwise(lambda: self.chat.transcript.render(on))
        self.view.move_to(self.view.cursor)

    def tint(self, levels: Sequence[int], by: str) -> None:
        """Tint its text by other figures than its own surprisal."""
        tokens = self.chat.transcript.shown[-1].block.tokens
        tokens[:] = [token._replace(level=level) for token, level in zip(tokens, levels, strict=True)]
        self.tinted = by
        self.view.redraw()

    def unmark(self) -> None:
        """Compare with the first column from the beginning."""
        self.parts_at, self._alike, self.view.mark = None, 0, None

    def compare(self, first: "Column") -> None:
        """Mark where this answer first differs from the first column's; looks at new tokens only."""
        if self is first or self.parts_at is not None:
            return
        self.parts_at = divergence(first.steps, self.steps, self._alike)
        self._alike = min(len(first.steps), len(self.steps))
        if self.parts_at is not None:
            self.view.mark = TokenPlace(0, self.parts_at)
            self.view.redraw()

    def _costs(self) -> list[str]:
        """Likelihood, passes, seconds."""
        canvas, steps = self.canvas, self.steps
        if canvas is not None:
            bound = self.bounds.known.get(self.answer)
            bits = f"≤ {bound.bound.mean / LN2 / bound.tokens:.2f} bits/tok" if isinstance(bound, r.Bounded) else ""
            return [bits, f"{canvas.steps} steps", f"{canvas.seconds[-1]:.1f} s" if canvas.seconds else ""]
        mean = surprisal(step.logprob for step in steps)
        bits = f"{mean / LN2:.2f} bits/tok" if mean is not None else ""
        return [bits, f"{len(steps)} steps", f"{steps[-1].elapsed_s:.1f} s"] if steps else []

    def head(self, letter: str) -> None:
        self._head.update(cells.fit(cells.clean(f"{letter} {self.label}"), max(self.size.width - 3, 4)))

    def foot(self, first: bool, likelihood: bool = False) -> None:
        """Where it first differs from the first column, perplexity, tokens, speed in its own time; with `likelihood`
        what both factorisations have: passes of the model, seconds, bits a token (of a canvas a bound)."""
        steps, room = self.steps, max(self.size.width - 3, 4)
        spent = steps[-1].elapsed_s - steps[0].elapsed_s if steps else 0.0
        ppl = perplexity(step.logprob for step in steps)
        alike = "" if first or not steps else "the same so far" if self.chat.running else self.tinted or "the same"
        parts = [
            alike if self.parts_at is None else f"differs at {self.parts_at + 1}",
            f"ppl {ppl:.1f}" if ppl is not None else "",
            f"{len(steps)} tok" if steps else "",
            f"{(len(steps) - 1) / spent:.0f} tok/s" if spent > 0 else "",
        ]
        if likelihood:
            parts = [*self._costs(), parts[0]]
        parts = [part for part in parts if part]
        while len(parts) > 1 and cells.width(" · ".join(parts)) > room:  # speed matters least, then how many tokens
            parts.pop()
        summary = " · ".join(parts)
        if not steps and not self.chat.running:
            summary = EMPTY if cells.width(EMPTY) <= room else EMPTY.partition(" · ")[0]
        self._foot.update(cells.fit(summary, room))
