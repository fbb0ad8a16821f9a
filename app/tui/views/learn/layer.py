"""`LayerPicture`: one layer at one word, every vector of it: what a head looks for and reads, and what is added.

All of it is the loaded model's own (`engine.inside.layer`); the numbers are told beside the dots.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from textual.binding import Binding, BindingType

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.interpretability import Inside, InsideQuestion, question
from likely.app.jobs.worker import Failed
from likely.app.lessons.expression import Value
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.drawing.strip import dots_each, strip
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.theme import bar
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.views.learn.picture import LessonPicture
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.prompt import Prompt
from likely.engine.inside.questions import InspectedModel, LayerPass

DEPTH = 0.77  # of the layers, where it begins
OPENED = question(Inside.opened)
NAME, NUMBER, SAID = 9, 6, 17  # cells
AWAKE = 0.5  # of a neuron's size
TALL = 31  # rows of the whole picture, without those of the words


class LayerPicture(LessonPicture):
    """A layer taken apart, and what it says with a head of it taken out."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "silence", "Take out", id="layer.silence", tooltip="without this head, or with it again"),
        Binding("h", "head", "Head", id="layer.head", tooltip="the next head of the layer"),
        Binding("up", "layer(1)", "Layer", id="layer.up", tooltip="the layer after this one"),
        Binding("down", "layer(-1)", "Layer", id="layer.down", tooltip="the layer before this one"),
        Binding("left", "token(-1)", "Word", id="layer.left", tooltip="at the word before"),
        Binding("right", "token(1)", "Word", id="layer.right", tooltip="at the word after"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("x", "Take out"), ("h", "Head"), ("↑↓", "Layer"), ("←→", "Word"))

    def __init__(self) -> None:
        super().__init__()
        self.text, self.failure = "", ""
        self.answers: dict[InsideQuestion[Any], Any] = {}
        self.at_layer, self.at_head, self.position, self.silent = -1, -1, -1, False
        self.control = RunControl()

    # -- what it is of -----------------------------------------------------------------------------------------------

    def set_state(self, state: Mapping[str, str]) -> None:
        self.text = state.get("text", "")
        self.models_changed()

    def models_changed(self) -> None:
        """Begin anew: nothing of another model holds."""
        self.control.cancel()
        self.answers, self.failure, self.silent = {}, "", False
        self.at_layer = self.at_head = self.position = -1
        self.ask()

    @property
    def opened(self) -> InspectedModel | None:
        return self.answers.get(OPENED)

    @property
    def intact(self) -> InsideQuestion[LayerPass]:
        return question(Inside.layer, self.position, self.at_layer, self.at_head, None, False)

    @property
    def without(self) -> "InsideQuestion[LayerPass] | None":
        """Without the head, to say what the whole model says; None until that is known."""
        whole = self.answers.get(self.intact)
        return question(Inside.layer, self.position, self.at_layer, whole.head, whole.target, True) if whole else None

    @property
    def shown(self) -> LayerPass | None:
        wanted = self.without if self.silent else self.intact
        return self.answers.get(wanted) if wanted is not None else None

    def ask(self) -> None:
        """Ask for what is to be shown next, unless it is known."""
        facts = self.host.engine.current
        wanted: InsideQuestion[Any] | None = OPENED
        if self.opened is not None:
            wanted = self.intact if self.intact not in self.answers else self.without if self.silent else None
        if facts is not None and self.text and wanted is not None and wanted not in self.answers:
            self.control = control = RunControl()
            request = call(calls.look, facts.name, Prompt(parts=(self.text,)), wanted, control)
            self.host.engine.submit(request, lambda job, found: self._heard(wanted, control, found))
        self.redraw()

    def _heard(self, wanted: InsideQuestion[Any], control: RunControl, found: list[Any]) -> None:
        if control.cancelled or not self.is_attached:
            return
        for event in found:
            if isinstance(event, Failed):
                self.failure = event.line
            elif isinstance(event, InspectedModel):
                self.at_layer = min(round(DEPTH * event.layers), event.layers - 1)
                self.position = len(event.ids) - 1
                self.answers[wanted] = event
            elif isinstance(event, LayerPass):
                self.answers[wanted] = event
                if self.at_head < 0:
                    self.at_head = event.head
                    self.answers[self.intact] = event
        if self.failure:
            self.redraw()
        else:
            self.ask()

    def numbers(self) -> Mapping[str, Value]:
        opened, at = self.opened, self.answers.get(self.intact)
        if opened is None or at is None:
            return {}
        read, name = int(np.argmax(at.weights)), self.names.name
        sizes = [float(np.linalg.norm(part)) for part in (at.states[1], at.attention, at.mlp, at.states[3])]
        numbers: dict[str, Value] = {
            "layers": float(opened.layers), "layer": float(at.layer), "head": float(at.head),
            "d": float(len(at.query)), "tokens": float(len(at.ids)), "silent": float(self.silent),
            "read": name(at.ids[read]), "read_score": float(at.scores[read]), "read_share": float(at.weights[read]),
            "start": name(at.ids[0]), "start_score": float(at.scores[0]), "start_share": float(at.weights[0]),
            "target": name(at.target), "p": float(np.exp(at.logp[-1])),
            "x_in": sizes[0], "attn": sizes[1], "mlp": sizes[2], "x_out": sizes[3],
        }  # fmt: skip
        without = self.answers.get(self.without) if self.without is not None else None
        return numbers | ({} if without is None else {"p_without": float(np.exp(without.logp[-1]))})

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_silence(self) -> None:
        if self.answers.get(self.intact) is not None:
            self.silent = not self.silent
            self.ask()

    def action_head(self) -> None:
        if self.opened is not None and self.at_head >= 0:
            self._go(head=(self.at_head + 1) % self.opened.heads)

    def action_layer(self, by: int) -> None:
        if self.opened is not None:
            self._go(layer=min(max(self.at_layer + by, 0), self.opened.layers - 1))

    def action_token(self, by: int) -> None:
        if self.opened is not None:
            first = self.opened.first
            self._go(position=min(max(self.position + by, first), len(self.opened.ids) - 1))

    def _go(self, *, layer: int | None = None, head: int | None = None, position: int | None = None) -> None:
        """Look at another layer, head or word, with the head in place."""
        self.control.cancel()
        self.at_layer = self.at_layer if layer is None else layer
        self.at_head = self.at_head if head is None else head
        self.position = self.position if position is None else position
        self.silent = False
        self.ask()

    def formula(self) -> Formula | None:
        at = self.answers.get(self.intact)
        if at is None:
            return None
        read = int(np.argmax(at.weights))
        told = f"softmax(q·k/√{len(at.query)}) of {self.names.name(at.ids[read])}: e^{at.scores[read]:.2f} / Σ = "
        return Formula("model", ((told, False), (f"{at.weights[read]:.3f}", True)))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, sheet: Canvas) -> None:
        look, opened, at = sheet.look, self.opened, self.shown
        if opened is None or at is None:
            self.wait(sheet, 1)
            return
        sheet = sheet.part(1, 0, sheet.width - 2)
        word = self.names.name(at.ids[-1])
        sheet.words(
            0, 0, (f"LAYER {at.layer} OF {opened.layers}", look.heading), (f"  at {word} of “{self.text}”", look.faint)
        )
        words = self._words(at, sheet.height)
        if sheet.height >= TALL + len(words):
            self._whole(sheet.part(0, 1), at, words)
        else:
            self._scores(sheet.part(0, 2, sheet.width, len(words) + 2), at, words)
            self._ends(sheet.part(0, len(words) + 4), at)

    @staticmethod
    def _words(at: LayerPass, height: int) -> list[int]:
        """The positions that are shown: all, or the most read ones in their order."""
        room = min(max(height - (TALL if height > TALL else 8), 3), 8)
        most = sorted(np.argsort(-at.weights, kind="stable")[:room])
        return [int(i) for i in most]

    def _whole(self, sheet: Canvas, at: LayerPass, words: list[int]) -> None:
        look = sheet.look
        room = sheet.width - NAME - SAID - 1
        embedding, x_in, _, x_out, _ = at.states
        sheet.right(0, cells.pad("if it ended here", SAID - 1), look.faint)
        y = self._vector(sheet, 1, "embed", embedding, room, said=(cells.pad("the word alone", SAID - 1), ""))
        sheet.put(NAME, y, f"↓ {at.layer} layers before this one have added to it", look.faint)
        y = self._vector(sheet, y + 1, "x in", x_in, room, point=1, at=at)
        heads = self.opened.heads if self.opened is not None else 0
        sheet.put(NAME, y, f"↓ norm, then {heads} heads side by side; shown: head {at.layer}.{at.head}", look.faint)
        small = min(16, room // 3)
        sheet.put(0, y + 1, "q", look.accent)
        strip(sheet, NAME, y + 1, at.query, small)
        sheet.put(NAME + small + 2, y + 1, f"what it looks for: {len(at.query)} numbers", look.faint)
        y = self._scores(sheet.part(0, y + 2, sheet.width, len(words) + 2), at, words, strips=small) + y + 2
        sheet.put(NAME, y, f"↓ × W_O, the {heads} heads summed", look.faint)
        y = self._vector(sheet, y + 1, "+ attn", at.attention, room, point=2, at=at)
        awake = f"{int((np.abs(at.neurons) > AWAKE).sum()):,} awake"
        sheet.put(NAME, y, "↓ norm", look.faint)
        y += 1
        if len(at.neurons):
            sheet.put(0, y, "neurons", look.accent)
            sheet.put(0, y + 1, f"{len(at.neurons):,}", look.faint)
            strip(sheet, NAME, y, at.neurons, room, 2)
            sheet.right(y, cells.pad(awake, SAID - 1), look.faint)
            sheet.right(y + 1, cells.pad("|a| > ½", SAID - 1), look.faint)
            sheet.put(NAME, y + 2, "↓ × W_down", look.faint)
            y += 3
        y = self._vector(sheet, y, "+ mlp", at.mlp, room)
        sheet.put(NAME, y, "= x in + attn + mlp", look.faint)
        y = self._vector(sheet, y + 1, "x out", x_out, room, point=3, at=at)
        self._ends(sheet.part(0, y + 1), at)
        each = dots_each(len(x_in), room, 2)
        many = f"{each} numbers a dot, the largest" if each > 1 else "a number a dot"
        sheet.words(
            0, sheet.height - 1, ("█", look.bar), (" above 0  ", look.faint), ("█", look.accent),
            (f" below 0   {many}", look.faint),
        )  # fmt: skip

    def _vector(
        self, sheet: Canvas, y: int, name: str, vector: np.ndarray, room: int, *, point: int = -1,
        at: LayerPass | None = None, said: tuple[str, str] = ("", ""),
    ) -> int:  # fmt: skip
        """A vector in two rows, its length, and what would be said with it; gives the row after it."""
        look = sheet.look
        sheet.put(0, y, name, look.accent)
        sheet.put(0, y + 1, f"|x| {_size(float(np.linalg.norm(vector)))}", look.faint)
        strip(sheet, NAME, y, vector, room, 2)
        if at is not None:
            told = "  ".join(
                f"{self.names.name(int(token))} {100 * float(share):.0f} %"
                for token, share in zip(at.best[point][:2], at.shares[point], strict=False)
            )
            rank = int(at.rank[point])
            said = told, f"{self.names.name(at.target)} #{rank:,}"
        for row, words in enumerate(said):
            sheet.right(y + row, cells.pad(cells.fit(words, SAID - 1), SAID - 1), look.faint if row else look.text)
        return y + 2

    def _scores(self, sheet: Canvas, at: LayerPass, words: list[int], strips: int = 0) -> int:
        """Score and share of each word for the head; gives the row after them."""
        look, glyphs = sheet.look, sheet.glyphs
        left = NAME + (strips + 2 if strips else 1)
        right = sheet.width - (strips + 1 if strips else 0)
        room = right - left - 2 * NUMBER - 4
        root = f"q·k/√{len(at.query)}"
        kept = f"{len(words)} of {len(at.ids)} words" if len(words) < len(at.ids) else "k, of each word"
        sheet.put(NAME if strips else 0, 0, kept, look.faint)
        sheet.right(0, f"{root}  softmax", look.faint, end=left + NUMBER + 11)
        if strips:
            sheet.right(0, "v", look.faint, end=right + 2)
        most = max(float(at.weights.max()), 1e-9)
        for y, i in enumerate(words, 1):
            here = bool(i == int(np.argmax(at.weights)))
            sheet.put(0, y, cells.fit(self.names.name(at.ids[i]), NAME - 1), look.chosen if here else look.text)
            if strips:
                strip(sheet, NAME, y, at.keys[i], strips)
                strip(sheet, right + 1, y, at.values[i], strips)
            score = f"{at.scores[i]:.2f}" if np.isfinite(at.scores[i]) else "unseen"
            sheet.right(y, score, look.text, end=left + NUMBER)
            sheet.put(left + NUMBER + 2, y, bar(float(at.weights[i]) / most, max(room, 0), glyphs), look.bar)
            sheet.right(y, f"{100 * at.weights[i]:.1f} %", look.text, end=right - 1)
        y = len(words) + 1
        sheet.put(0, y, "Σ a v", look.accent)
        if at.silent:
            sheet.words(NAME, y, ("0: the head is taken out, at every word", look.chosen))
        else:
            says = " ".join(self.names.name(token) for token in at.says)
            sheet.words(NAME, y, ("says ", look.faint), (cells.fit(says, right - NAME - 6), look.text))
        if strips:
            strip(sheet, right + 1, y, at.mixed, strips)
        return y + 1

    def _ends(self, sheet: Canvas, at: LayerPass) -> None:
        """The surprise of what is said at last, had the model ended at each point."""
        look, glyphs = sheet.look, sheet.glyphs
        whole = self.answers.get(self.intact)
        share = f"{100 * float(np.exp(at.logp[-1])):.1f} %"
        if whole is not None and at.silent:
            share = f"{100 * float(np.exp(whole.logp[-1])):.1f} % → {share} without {at.layer}.{at.head}"
        sheet.heading(0, "TO SAY", f"{self.names.name(at.target)}  bits, if the model ended here", share)
        bits = -at.logp[1:] / LN2
        names = [*LayerPass.POINTS[1:-1], "the end"]
        before = None if whole is None or not at.silent else -whole.logp[1:] / LN2
        most = max(float(bits.max()), 1e-9)
        for y, (name, each) in enumerate(zip(names, bits, strict=True), 1):
            room = sheet.width - NAME - 16
            sheet.put(0, y, name, look.accent)
            sheet.put(NAME, y, bar(float(each) / most, room, glyphs), look.bar)
            sheet.right(y, f"{each:.1f}", look.text, end=sheet.width - 8)
            change = float(each - (before[y - 1] if before is not None else bits[y - 2])) if y > 1 or at.silent else 0.0
            if abs(change) >= 0.05:
                sheet.right(y, f"{change:+.1f}", look.chosen if before is not None else look.faint)


def _size(length: float) -> str:
    """A length in three digits."""
    return f"{length:.0f}" if length >= 99.95 else f"{length:.1f}"
