"""`TrainingPicture`: a small model that is trained here, its checkpoints a slider: cross-entropy = entropy + KL.

It learns the next of six letters by gradient descent (`engine.proofs.learned`), from a language whose entropy is known,
so that both parts of its loss are.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from textual.binding import Binding, BindingType

from likely.app.lessons.expression import Value
from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.theme import bar
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.views.learn.picture import LessonPicture
from likely.engine.measure.proofs.enumeration import LETTERS, TABLE
from likely.engine.measure.proofs.learned import divergences, entropy, texts_of, trained

RATES = (0.3, 3.0, 30.0)
MORE, MOST_STEPS = 1000, 5000
ROUND = (1, 2, 5)  # checkpoints are at these, and at ten times them, and so on
AXIS, NAME, NUMBER = 7, 12, 8  # cells
KL = "▒"  # of a bar: what is not known yet


def checkpoints(steps: int) -> list[int]:
    """The steps at which a training is looked at: 0, 1, 2, 5, 10, ... and its last."""
    powers = range(int(math.log10(steps)) + 1)
    return sorted({0, steps, *(each * 10**power for power in powers for each in ROUND if each * 10**power <= steps)})


class TrainingPicture(LessonPicture):
    """A loss curve between log 6 and the entropy, two bars a checkpoint, and the next letter by model and language."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Before", id="training.before", tooltip="the checkpoint before"),
        Binding("right", "move(1)", "Next", id="training.next", tooltip="the next checkpoint"),
        Binding("up", "letter(-1)", "Letter", id="training.up", tooltip="behind the letter before"),
        Binding("down", "letter(1)", "Letter", id="training.down", tooltip="behind the next letter"),
        Binding("space", "train", "Train on", id="training.on", tooltip=f"{MORE:,} steps more"),
        Binding("l", "rate", "Another rate", id="training.rate", tooltip="train anew, with another learning rate"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("←→", "Checkpoint"), ("space", "Train on"), ("l", "Rate"), ("↑↓", "Letter"),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.rate, self.at, self.letter = RATES[0], 0, LETTERS.index("s")
        self._train(MORE)

    def _train(self, steps: int) -> None:
        self.laws = trained(steps, self.rate)
        self.steps = checkpoints(steps)
        self.kl = divergences(self.laws) / LN2
        self.entropy = entropy() / LN2

    def numbers(self) -> Mapping[str, Value]:
        step = self.steps[self.at]
        kl = float(self.kl[step])
        return {
            "step": float(step), "steps": float(self.steps[-1]), "rate": self.rate, "loss": self.entropy + kl,
            "language": self.entropy, "kl": kl, "last_loss": self.entropy + float(self.kl[-1]),
        }  # fmt: skip

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), len(self.steps) - 1)
        self.redraw()

    def action_letter(self, by: int) -> None:
        self.letter = (self.letter + by) % len(LETTERS)
        self.redraw()

    def action_train(self) -> None:
        if self.steps[-1] < MOST_STEPS:
            self._train(self.steps[-1] + MORE)
        self.at = len(self.steps) - 1
        self.redraw()

    def action_rate(self) -> None:
        self.rate = RATES[(RATES.index(self.rate) + 1) % len(RATES)]
        self._train(self.steps[-1])
        self.redraw()

    def formula(self) -> Formula | None:
        kl = float(self.kl[self.steps[self.at]])
        told = f"H(p,q) = {self.entropy:.2f} + {kl:.2f} = "
        return Formula("training", ((told, False), (f"{self.entropy + kl:.2f} bits", True)))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, sheet: Canvas) -> None:
        look, step, body = sheet.look, self.steps[self.at], sheet.part(1, 0, sheet.width - 2)
        if sheet.height < 30:
            shown = [0, step] if step else [0]
            self._bars(body.part(0, 0, None, 3), shown)
            self._next(body.part(0, 1 + len(shown)))
            return
        body = body.part(0, 1)
        rate = f"rate {self.rate:g}, {self.steps[-1]:,} steps"
        body.heading(0, "CROSS-ENTROPY", f"bits a letter by step; {rate}", f"step {step:,}")
        self._curve(body.part(0, 1, None, 10))
        below = body.part(0, 12)
        marks = {0, *(each for each in (10, 100, 1000) if each <= self.steps[-1]), self.steps[-1], step}
        self._bars(below.part(0, 0, None, 8), sorted(marks))
        rows = 1 + len(marks) + 1
        self._next(below.part(0, rows))
        written = " ".join(texts_of(self.laws[step], 9, seed=step))
        below.words(0, rows + len(LETTERS) + 3, ("IT WRITES  ", look.heading), (written, look.text))
        words = " ".join(texts_of(TABLE, 9))
        below.words(0, rows + len(LETTERS) + 4, ("LANGUAGE   ", look.heading), (words, look.text))

    def _curve(self, sheet: Canvas) -> None:
        """The loss by the logarithm of the step, between what knows nothing and what knows all."""
        look, width, height = sheet.look, sheet.width - AXIS, sheet.height - 1
        losses = np.minimum(self.entropy + self.kl, 2 * math.log2(len(LETTERS)))
        bottom, least = self.entropy, math.log2(len(LETTERS))
        top = max(least, float(losses.max()))
        xs = np.log10(1 + np.arange(len(losses)))
        frame = plot.Frame(0.0, float(xs[-1]), bottom, top, width, height)
        for value in (least, bottom):
            sheet.put(AXIS, frame.row(value), sheet.glyphs.cut * width, look.rule)
            sheet.put(0, frame.row(value), f"{value:.2f}", look.faint)
        sheet.right(frame.row(least), " log₂ 6: nothing is known", look.faint)
        sheet.put(AXIS, frame.row(bottom), "entropy: no model goes below ", look.faint)
        for y in range(height):
            sheet.put(AXIS - 1, y, sheet.glyphs.tick, look.rule)
        sheet.dots(AXIS, 0, plot.curve(frame, xs, losses), look.bar)
        step = self.steps[self.at]
        column, row = frame.column(float(xs[step])), frame.row(float(losses[step]))
        sheet.put(AXIS + column, row, sheet.glyphs.knob, look.chosen)
        for each in self.steps:
            if each in (0, 10, 100, 1000):
                name = f"{each:,}"
                column = min(AXIS + frame.column(float(xs[each])), sheet.width - len(name))
                sheet.put(column, height, name, look.faint)

    def _bars(self, sheet: Canvas, steps: list[int]) -> None:
        look = sheet.look
        sheet.part(0, 0, sheet.width - 3 * NUMBER).heading(0, "TWO BARS", "cross-entropy = █ entropy + ▒ KL")
        for back, head in ((2, "entropy"), (1, "KL"), (0, "sum")):
            sheet.right(0, head, look.faint, end=sheet.width - back * NUMBER)
        room = sheet.width - NAME - 3 * NUMBER - 1
        most = self.entropy + max(float(self.kl[step]) for step in steps)
        for y, step in enumerate(steps, 1):
            kl, chosen = float(self.kl[step]), step == self.steps[self.at]
            ink = look.chosen if chosen else look.text
            sheet.put(0, y, f"{sheet.glyphs.chosen if chosen else ' '}step {step:,}", ink)
            known = round(self.entropy / most * room)
            sheet.put(NAME, y, sheet.glyphs.blocks[-1] * known, look.bar)
            sheet.put(NAME + known, y, KL * (round((self.entropy + kl) / most * room) - known), look.accent)
            for back, value in ((2, self.entropy), (1, kl), (0, self.entropy + kl)):
                sheet.right(y, f"{value:.2f}", ink, end=sheet.width - back * NUMBER)

    def _next(self, sheet: Canvas) -> None:
        """p and q of the next letter behind one of them."""
        look, glyphs, last = sheet.look, sheet.glyphs, self.letter
        p, q = TABLE[last], self.laws[self.steps[self.at]][last]
        behind = f"after {LETTERS[last]}" if last else "at the beginning"
        sheet.part(0, 0, sheet.width - 2 * NUMBER - 4).heading(0, "NEXT", f"{behind}: █ model, │ language")
        sheet.right(0, "language %", look.faint, end=sheet.width - NUMBER - 1)
        sheet.right(0, "model %", look.faint)
        room, most = sheet.width - 4 - 2 * (NUMBER + 2), float(max(p.max(), q.max()))
        for y, token in enumerate((*range(1, len(LETTERS)), 0), 1):
            sheet.put(0, y, LETTERS[token], look.text)
            sheet.put(4, y, bar(float(q[token]) / most, room, glyphs), look.bar)
            sheet.put(4 + min(int(float(p[token]) / most * room), room - 1), y, glyphs.tick, look.tick)
            sheet.right(y, f"{100 * p[token]:.0f}", look.faint, end=sheet.width - NUMBER - 1)
            sheet.right(y, f"{100 * q[token]:.1f}", look.text)
        there = p > 0
        known = float((p[there] * np.log2(p[there] / q[there])).sum())
        sheet.right(len(LETTERS) + 1, f"KL {behind} {known:.2f}", look.chosen)
