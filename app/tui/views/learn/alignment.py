"""`AlignmentPicture`: four answers, their reward, and a slider for its price: reward against KL from the base.

The answers and their numbers are an example that is given; what they come to is computed (`engine.proofs.alignment`).
"""

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
from likely.engine.measure.proofs.alignment import best_of, tilted

ANSWERS = ("It just is.", "It mirrors the sea.", "Air scatters blue.", "Air scatters short waves most.")
P, REWARDS = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.0, 0.5, 2.0, 3.0])
STEPS = 4  # of the slider, from a price to half of it
DEAR, CHEAP = -3 * STEPS, 5 * STEPS  # β 8 to 1/32
DRAWS = (1, 2, 4, 8, 16)  # of best-of-n
AXIS, NAME, NUMBER = 6, 31, 8  # cells


def price(at: int) -> float:
    """β at a place of the slider; 0 is 1."""
    return float(2.0 ** (-at / STEPS))


class AlignmentPicture(LessonPicture):
    """A curve of the most reward that a KL can buy, where β stands on it, and q beside p."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "b", "halve", "Halve β", id="alignment.halve", tooltip="half the price; at its end from the dearest on"
        ),
        Binding("left", "slide(-1)", "Dearer", id="alignment.dearer", tooltip="a larger β: nearer to the base"),
        Binding("right", "slide(1)", "Cheaper", id="alignment.cheaper", tooltip="a smaller β: more reward"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("b", "Halve β"), ("←→", "Slide β"))

    def __init__(self) -> None:
        super().__init__()
        self.at = 0

    def numbers(self) -> Mapping[str, Value]:
        now, one, half = (tilted(P, REWARDS, beta) for beta in (price(self.at), 1.0, 0.5))
        return {
            "price": price(self.at), "reward": now.reward, "kl": now.kl / LN2, "base_reward": float(P @ REWARDS),
            "q_best": float(now.q[int(np.argmax(REWARDS))]), "kl_one": one.kl / LN2, "kl_half": half.kl / LN2,
        }  # fmt: skip

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_halve(self) -> None:
        self.at = self.at + STEPS if self.at + STEPS <= CHEAP else DEAR
        self.redraw()

    def action_slide(self, by: int) -> None:
        self.at = min(max(self.at + by, DEAR), CHEAP)
        self.redraw()

    def formula(self) -> Formula | None:
        now = tilted(P, REWARDS, price(self.at))
        told = f"β {price(self.at):.3g}: reward {now.reward:.2f} for "
        return Formula("preference", ((told, False), (f"{now.kl / LN2:.2f} bits", True)))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, sheet: Canvas) -> None:
        look, now = sheet.look, tilted(P, REWARDS, price(self.at))
        tall = sheet.height >= 24
        body = sheet.part(1, 1 if tall else 0, sheet.width - 2)
        body.heading(0, "REWARD AGAINST KL", "the most that a KL buys; ◆ best of n", f"β {price(self.at):.3g}")
        high = 17 if tall else max(body.height - 8, 0)
        self._curve(body.part(0, 1, None, high))
        below = body.part(0, 1 + high + tall)
        below.part(0, 0, below.width - 3 * NUMBER).heading(0, "FOUR ANSWERS", "█ q, │ p, reward: an example")
        for back, head in ((2, "p %"), (1, "q %"), (0, "reward")):
            below.right(0, head, look.faint, end=below.width - back * NUMBER)
        room = below.width - NAME - 3 * NUMBER
        for y, (words, p, q, reward) in enumerate(zip(ANSWERS, P, now.q, REWARDS, strict=True), 1):
            below.put(0, y, words, look.text, size=NAME - 1)
            below.put(NAME, y, bar(float(q), room, sheet.glyphs), look.bar)
            below.put(NAME + min(int(float(p) * room), room - 1), y, sheet.glyphs.tick, look.tick)
            for back, number in ((2, f"{100 * p:.0f}"), (1, f"{100 * q:.1f}"), (0, f"{reward:g}")):
                below.right(y, number, look.text, end=below.width - back * NUMBER)
        told = f"Reward {P @ REWARDS:.2f} → {now.reward:.2f}, for KL {now.kl / LN2:.2f} bits"
        below.put(0, 6 if tall else 5, told, look.chosen)
        if tall:
            below.put(0, 8, "Near the base reward is cheap: KL grows with the square of what is moved.", look.faint)
            below.put(0, 9, "At the end one answer is left, and more reward cannot be bought.", look.faint)

    def _curve(self, sheet: Canvas) -> None:
        if sheet.height < 3:
            return
        look, width, height = sheet.look, sheet.width - AXIS, sheet.height - 1
        laws = [tilted(P, REWARDS, price(at)) for at in range(DEAR, CHEAP + 1)]
        right = float(-np.log2(P[int(np.argmax(REWARDS))]))
        frame = plot.Frame(0.0, right, float(P @ REWARDS), float(REWARDS.max()), width, height)
        for value in (frame.bottom, frame.top):
            sheet.put(0, frame.row(value), f"{value:.2f}", look.faint)
        for y in range(height):
            sheet.put(AXIS - 1, y, sheet.glyphs.tick, look.rule)
        xs = np.array([0.0, *(law.kl / LN2 for law in laws)])
        ys = np.array([frame.bottom, *(law.reward for law in laws)])
        sheet.dots(AXIS, 0, plot.curve(frame, xs, ys), look.bar)
        for count in DRAWS:
            law = best_of(count, P, REWARDS)
            x, y = AXIS + frame.column(law.kl / LN2), frame.row(law.reward)
            sheet.put(x, y, sheet.glyphs.moved, look.accent)
            if count > 1 and height > 8:
                sheet.put(x, y + 1, f"{count}", look.faint)
        now = laws[self.at - DEAR]
        sheet.put(AXIS + frame.column(now.kl / LN2), frame.row(now.reward), sheet.glyphs.knob, look.chosen)
        sheet.put(AXIS, height, "0", look.faint)
        sheet.right(height, f"KL {right:.2f} bits", look.faint)
