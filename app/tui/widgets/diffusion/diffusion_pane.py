"""The chat of a diffusion model: its transcript fills in place, a slider walks the steps, a panel looks at a position.

It stands in the place of transcript and inspector while such a model is the current one. What becomes of a choice is
the view's.
"""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.timer import Timer

from likely.app.tui.base.text.formula import Formula, Part, path
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.denoising import LN2, Denoising
from likely.app.tui.chat.inspecting.likelihood_bounds import LikelihoodBounds
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.diffusion.denoising_panel import DenoisingPanel, PanelView
from likely.app.tui.widgets.diffusion.denoising_steps import DenoisingSteps
from likely.app.tui.widgets.diffusion.denoising_text import DenoisingLegend, DenoisingText
from likely.app.tui.widgets.host import host
from likely.engine.chat.conversation import Fork

SENTENCE = "Nothing is written left to right: the surest words come first, the rest stay open, some are taken back."
SHORT = "The surest words come first."
PLACEHOLDER = "Message, or a text with gaps: The [MASK:8] of France  (enter)"
PLAY_S = 0.2  # between two steps that are played
ON = "-diffusion"  # a screen whose model is one


class DiffusionPane(Vertical, can_focus=True):
    """The canvas of the last answer, at the step and the position that a person looks at."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "step(-1)", "Step back", id="canvas.back"),
        Binding("right_square_bracket", "step(1)", "Step", id="canvas.forward"),
        Binding("left_curly_bracket", "step(-10000)", "First step", id="canvas.first"),
        Binding("right_curly_bracket", "step(10000)", "Newest step", id="canvas.newest"),
        Binding("space", "play", "Play", id="canvas.play"),
        Binding("left", "position(-1)", "Position", id="canvas.left"),
        Binding("right", "position(1)", "Position", id="canvas.right"),
        Binding("up", "row(-1)", "Row", id="canvas.up"),
        Binding("down", "row(1)", "Row", id="canvas.down"),
        Binding("enter", "choose", "Choose", id="canvas.choose"),
        Binding("less_than_sign", "answer(-1)", "Other answer", id="canvas.previous_answer"),
        Binding("greater_than_sign", "answer(1)", "Other answer", id="canvas.next_answer"),
        Binding("m", "mask", "Mask again", id="canvas.mask"),
        Binding("p", "bound", "Bound", id="canvas.bound"),
    ]

    class CellChanged(Message):
        """A person puts a token at a position of a canvas as it was after a step; None masks it again."""

        def __init__(self, node: str, step: int, position: int, token: int | None) -> None:
            super().__init__()
            self.node, self.step, self.position, self.token = node, step, position, token

    class AnswerTurned(Message):
        """A person turns to another answer to the same message."""

        def __init__(self, fork: Fork, option: str | None) -> None:
            super().__init__()
            self.fork, self.option = fork, option

    def __init__(self, chat: Callable[[], ChatSession], names: Callable[[], Names]) -> None:
        super().__init__(id="diffusion")
        self.chat, self.names = chat, names
        self.step: int | None = None  # that is looked at; None follows the newest
        self.cursor = 0
        self.picked: int | None = None  # a candidate that a person is about to choose
        self.bounds = LikelihoodBounds(self._bounded)  # by node and canvas
        self._node = ""
        self._stepless: dict[tuple[str, str, int], Denoising | None] = {}  # of an answer without its steps, and a model
        self._playing: Timer | None = None

    @property
    def roomy(self) -> bool:
        """Whether all of the panel is shown, the sums over the canvas among it."""
        return self.screen.has_class("-wide") or self.screen.has_class("-broad")

    def compose(self) -> ComposeResult:
        yield Caption(id="diffusion-sentence")
        with Horizontal(id="diffusion-body"):
            with Vertical(id="diffusion-left"):
                yield DenoisingText(id="canvas")
                yield DenoisingLegend(id="canvas-legend")
                yield DenoisingSteps(id="canvas-steps")
            yield DenoisingPanel(id="canvas-panel")

    # -- what is looked at -------------------------------------------------------------------------------------------

    @property
    def canvas(self) -> Denoising | None:
        """The canvas of the last answer; one that was kept without its steps has none."""
        chat, leaf = self.chat(), self.chat().conversation.leaf
        if leaf is None or leaf.role != "assistant" or chat.facts is None or chat.facts.mask is None:
            return None
        if (canvas := chat.canvas(leaf.id)) is not None:
            return canvas
        key = leaf.id, chat.facts.name, len(leaf.steps)
        if key not in self._stepless:
            self._stepless = {key: Denoising.of_steps(leaf, chat.facts)}
        return self._stepless[key]

    @property
    def at(self) -> int:
        """The step that is shown."""
        canvas = self.canvas
        newest = canvas.steps if canvas is not None else 0
        return newest if self.step is None else min(self.step, newest)

    def reshow(self) -> None:
        """Refresh all parts, while a diffusion model is the current one."""
        if not self.is_mounted:
            return
        chat = self.chat()
        on = chat.diffuses
        if on != self.screen.has_class(ON):
            self.screen.set_class(on, ON)
            self.call_after_refresh(self.reshow)
        if not on:
            self.bounds.stop()
            return
        canvas, names = self.canvas, self.names()
        node = chat.conversation.leaf.id if chat.conversation.leaf is not None else ""
        if node != self._node:  # another answer
            stays = canvas is not None and canvas.offset and self.cursor in canvas.shown
            self._node, self.step, self.picked = node, None, None
            if canvas is not None and not stays:
                self.cursor = next(iter(canvas.free), canvas.laid.first)
        if canvas is not None and self.cursor not in canvas.shown:
            self.cursor = next(iter(canvas.free), canvas.laid.first)
        terse = self.screen.size.width < 110
        self.query_one("#diffusion-sentence", Caption).show([(f" {SHORT if terse else SENTENCE}", "faint")])
        turns = [(shown.message.role, shown.message.text) for shown in chat.transcript.shown]
        turns = turns[:-1] if canvas is not None else [turn for turn in turns if turn[1]]
        self.query_one(DenoisingText).show(turns, self._heading(canvas), canvas, names, self.at, self.cursor)
        self.query_one(DenoisingLegend).show(canvas, names, self.at)
        self.query_one(DenoisingSteps).show(canvas, self.at, self.step is None and chat.running)
        self.query_one(DenoisingPanel).show(self._view(canvas, names))

    def _heading(self, canvas: Denoising | None) -> tuple[str, ...]:
        leaf = self.chat().conversation.leaf
        parts = leaf.label.split(" · ") if leaf is not None and leaf.label else ["diffusion"]
        count = [f"{len(canvas.free)} positions"] if canvas is not None and canvas.steps else []
        end = ["stopped"] if leaf is not None and leaf.finish == "cancelled" else []
        options = self._answers()
        which = [f"answer {options.index(leaf.id) + 1}/{len(options)}"] if leaf is not None and len(options) > 1 else []
        return (*which, parts[0], *count, *parts[1:], *end)

    def _view(self, canvas: Denoising | None, names: Names) -> PanelView | None:
        if canvas is None:
            return None
        bound = self.bounds.known.get((self._node, canvas.ids(self.at)))
        return PanelView(canvas, names, self.at, self.cursor, self.picked, bound)

    def facts(self) -> tuple[str, ...]:
        """The step and the speed, in words for the top line."""
        canvas = self.canvas
        if canvas is None or not canvas.steps:
            return ()
        seconds = canvas.seconds[-1]
        speed = f"{canvas.steps / seconds:.0f} steps/s" if seconds else ""
        return tuple(filter(None, (f"step {self.at}/{canvas.planned or canvas.steps}", speed)))

    def formula(self) -> Formula | None:
        """Why a position is decided when it is, with the entropy there."""
        canvas = self.canvas
        if canvas is None:
            return None
        cell, how = canvas.cell(self.cursor, self.at), canvas.how
        rule = {"entropy": "decide i where H(p_i) is least", "random": "decide i at random"}
        rule["ancestral"] = "decide i by the schedule's chance"
        first = f"decide i where max p_i > {how.threshold:.2f}" if how.threshold else rule.get(how.by, "")
        parts: list[Part] = [(f"{first or 'decide i of largest max p_i'}   p_i = p(x_i | decided, mask)", False)]
        if cell.entropy is not None:
            parts += [("   H = ", False), (f"{cell.entropy / LN2:.2f} bits", True)]
        return Formula("decoder", parts, "by the canvas as it was before the step: every position sees all others")

    def caption(self, width: int) -> list[tuple[str, str]]:
        """The formula in one row of at most `width` cells: the map of p, then the line with the present values."""
        formula = self.formula()
        if formula is None:
            return []
        head = [(" ", "faint"), *path(formula.map, whole=width >= 110), (" │ ", "rule")]
        words = formula.words()
        if sum(len(text) for text, _ in [*head, *words]) >= width:
            words = [(text.partition("   p_i")[0], ink) for text, ink in words]
        return [*head, *words]

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_step(self, by: int) -> None:
        """Another step; the newest is followed from there on."""
        self._halt()
        self._walk(self.at + by)

    def _walk(self, step: int) -> None:
        canvas = self.canvas
        if canvas is not None:
            self.step = None if step >= canvas.steps else max(step, 0)
            self.picked = None
            self._show_step()

    def _show_step(self) -> None:
        self.reshow()
        self.post_message(self.StepLooked())

    class StepLooked(Message):
        """Another step or position is looked at."""

    def action_play(self) -> None:
        """Play the steps one after another, from the first where the newest is shown; or stop."""
        if self._playing is not None:
            self._halt()
            return
        if self.canvas is not None and self.canvas.steps:
            self._walk(0 if self.step is None else self.at)
            self._playing = self.set_interval(PLAY_S, self._play)

    def _play(self) -> None:
        self._walk(self.at + 1)
        if self.step is None:
            self._halt()

    def _halt(self) -> None:
        if self._playing is not None:
            self._playing.stop()
            self._playing = None

    def action_position(self, by: int) -> None:
        canvas = self.canvas
        if canvas is not None and len(canvas.shown):
            self.point(min(max(self.cursor + by, canvas.shown.start), canvas.shown.stop - 1))

    def action_row(self, by: int) -> None:
        """A row up or down; while a candidate is picked, another one."""
        canvas = self.canvas
        if self.picked is not None and canvas is not None:
            count = len(canvas.guesses(self.cursor, self.at))
            self.picked = min(max(self.picked + by, 0), max(count - 1, 0))
            self._show_step()
            return
        position = self.query_one(DenoisingText).beside(by)
        if position is not None:
            self.point(position)

    def point(self, position: int) -> None:
        """Look at a position."""
        self.cursor, self.picked = position, None
        self._show_step()

    def action_choose(self) -> None:
        """Pick among the candidates; again puts the picked one there."""
        canvas = self.canvas
        guesses = canvas.guesses(self.cursor, self.at) if canvas is not None else []
        if not guesses:
            host(self).say("there are no candidates here: nothing was thought of this position")
        elif self.picked is None:
            self.picked = 0
            self._show_step()
        else:
            self._place(guesses[self.picked].token)

    def action_mask(self) -> None:
        """Mask the position again, and have it filled anew."""
        self._place(None)

    def action_answer(self, by: int) -> None:
        """The next or the previous answer to the same message."""
        leaf, options = self.chat().conversation.leaf, self._answers()
        if leaf is None or len(options) < 2:
            host(self).say("there is no other answer here: ^r draws one")
        else:
            self.post_message(self.AnswerTurned(leaf.fork, options[(options.index(leaf.id) + by) % len(options)]))

    def _answers(self) -> tuple[str | None, ...]:
        """All answers to the message whose answer is shown."""
        talk, leaf = self.chat().conversation, self.chat().conversation.leaf
        options = talk.options(leaf.fork) if leaf is not None and leaf.role == "assistant" else ()
        return options if leaf is not None and leaf.id in options else ()

    def _place(self, token: int | None) -> None:
        canvas = self.canvas
        if canvas is None or self.chat().canvas(self._node) is None:
            host(self).say("the steps of this answer were not kept: ^r fills another canvas")
            return
        if canvas.cell(self.cursor, self.at).token == token:
            host(self).say("it is a mask already" if token is None else "that stands there already")
            return
        self._halt()
        self.picked = None
        self.post_message(self.CellChanged(self._node, self.at, self.cursor, token))

    def leave(self) -> bool:
        """Give up what is being picked, played or measured; gives whether there was anything."""
        had = self.bounds.stop() or self.picked is not None or self._playing is not None
        self._halt()
        self.picked = None
        self.reshow()
        return had

    def action_bound(self) -> None:
        """Measure the bound on -log p of the answer, once all of it is decided."""
        canvas, chat = self.canvas, self.chat()
        if canvas is None or not canvas.steps or chat.facts is None:
            host(self).say("the bound is of an answer: say something first")
            return
        whole = canvas.whole(self.at)
        if chat.running or whole is None:
            host(self).say("the bound is of a whole answer: masks are left at this step")
            return
        self.bounds.ask(host(self).engine.submit, (self._node, canvas.ids(self.at)), chat.facts.name, *whole)
        self.reshow()

    def _bounded(self, line: str) -> None:
        if line:
            host(self).say(line, alarm=True)
        self.reshow()

    def on_resize(self) -> None:
        """Wrap the words for the new width."""
        self.reshow()

    # -- the mouse ---------------------------------------------------------------------------------------------------

    def on_denoising_text_position_pointed(self, event: DenoisingText.PositionPointed) -> None:
        self.focus()
        self.point(event.position)

    def on_denoising_steps_walked(self, event: DenoisingSteps.Walked) -> None:
        self.focus()
        self._halt()
        self._walk(event.step)

    def on_denoising_panel_candidate_pointed(self, event: DenoisingPanel.CandidatePointed) -> None:
        self.focus()
        canvas = self.canvas
        if canvas is not None and event.index < len(canvas.guesses(self.cursor, self.at)):
            again, self.picked = self.picked == event.index, event.index
            self.action_choose() if again else self._show_step()
