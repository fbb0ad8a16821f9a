"""`ReadingsPicture`: all orders in which a text of four letters can be read, what each costs, their mean, and -log p.

The model is one of the six letters that has counted texts of them (`engine.proofs.learned`): masked, there for every
person, and as unsure as so many texts leave it. The bits are its own (`engine.diffusion.orders`).
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from textual.binding import Binding, BindingType

from likely.app.lessons.expression import Value
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.theme import bar
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.views.learn.picture import LessonPicture
from likely.engine.diffusion.orders import Orders, every
from likely.engine.measure.proofs.enumeration import LETTERS, MASK, chained
from likely.engine.measure.proofs.learned import counted, drawn

TEXT, LENGTH, SEED = "neat", 4, 0
READ = (30, 100, 300, 1000, 10_000)  # texts that the model has counted
NAME, NUMBER = 9, 6  # cells
BLANK = "_"


class ReadingsPicture(LessonPicture):
    """Orders that are drawn one by one, cheapest first, and the mean of them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "draw", "Draw", id="readings.draw", tooltip="one order more, by chance"),
        Binding("a", "all", "All", id="readings.all", tooltip="every order"),
        Binding("left", "learn(-1)", "Fewer texts", id="readings.fewer", tooltip="a model that has read fewer texts"),
        Binding("right", "learn(1)", "More texts", id="readings.more", tooltip="a model that has read more texts"),
        Binding("up", "move(-1)", "Up", id="readings.up", tooltip="the order above, letter by letter"),
        Binding("down", "move(1)", "Down", id="readings.down", tooltip="the order below, letter by letter"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("space", "Draw"), ("a", "All"), ("↑↓", "Order"), ("←→", "Texts read"),
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.text, self.drawn, self.at, self.read = TEXT, 0, 0, READ.index(300)
        self.found: Orders | None = None

    def set_state(self, state: Mapping[str, str]) -> None:
        self.text = state.get("text", TEXT)
        self._measure()

    def _measure(self) -> None:
        if len(self.text) != LENGTH or not set(self.text) <= {*LETTERS[1:]}:
            return
        denoise = counted(drawn(READ[self.read], LENGTH, SEED))
        self.found = every(denoise, [LETTERS.index(letter) for letter in self.text], MASK)
        self.turns = np.random.default_rng(SEED).permutation(len(self.found.orders))
        self.redraw()

    @property
    def shown(self) -> np.ndarray:
        """The orders that were drawn, the cheapest first."""
        assert self.found is not None
        turns = self.turns[: self.drawn]
        return np.asarray(turns[np.argsort(self.found.totals[turns], kind="stable")])

    def numbers(self) -> Mapping[str, Value]:
        if self.found is None:
            return {}
        bits = self.found.totals / LN2
        return {
            "text": self.text, "drawn": float(self.drawn), "orders": float(len(bits)), "texts": float(READ[self.read]),
            "left_to_right": float(bits[0]), "right_to_left": float(bits[-1]),
            "rank": 1.0 + float((bits < bits[0] - 1e-9).sum()), "least": float(bits.min()), "most": float(bits.max()),
            "bound": self.found.bound / LN2, "mixture": self.found.mixture / LN2,
        }  # fmt: skip

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_draw(self) -> None:
        """One order more; after the last of them from the first again."""
        if self.found is not None:
            self.drawn = self.drawn % len(self.turns) + 1
            self.at = int(np.flatnonzero(self.shown == self.turns[self.drawn - 1])[0])
            self.redraw()

    def action_all(self) -> None:
        if self.found is not None:
            self.drawn = len(self.turns)
            self.redraw()

    def action_learn(self, by: int) -> None:
        self.read = min(max(self.read + by, 0), len(READ) - 1)
        self._measure()

    def action_move(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), max(self.drawn - 1, 0))
        self.redraw()

    def formula(self) -> Formula | None:
        if self.found is None:
            return None
        bound, mixture = self.found.bound / LN2, self.found.mixture / LN2
        return Formula("diffusion", ((f"−log₂ p {mixture:.2f} ≤ E_σ ", False), (f"{bound:.2f} bits", True)))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, sheet: Canvas) -> None:
        if self.found is None:
            words = f"the text must be {LENGTH} of the letters {' '.join(LETTERS[1:])}, got {self.text!r}"
            sheet.put(1, 1, cells.fit(words, sheet.width - 2), sheet.look.alarm)
            return
        look, tall = sheet.look, sheet.height >= 36
        counted_ = f"by a masked model of {READ[self.read]:,} texts"
        body = sheet.part(1, 1 if tall else 0, sheet.width - 2)
        body.heading(0, f"{len(self.turns)} ORDERS", f"of {self.text}, {counted_}: bits", f"{self.drawn} drawn")
        if not self.drawn:
            body.put(0, 2, "space draws an order, and reads the text in it", look.faint)
            return
        below = 12 if tall else 3  # rows under the list
        rows = min(len(self.turns), body.height - 1 - below)
        self._list(body.part(0, 1, body.width, rows))
        self._mean(body.part(0, 1 + min(rows, self.drawn)))
        self._by_hand(body.part(0, body.height - below + 2 if tall else body.height - 1), tall)

    def _scale(self, width: int) -> float:
        """Cells a bit."""
        assert self.found is not None
        return (width - NAME - NUMBER - 3) / float(self.found.totals.max() / LN2)

    def _list(self, sheet: Canvas) -> None:
        assert self.found is not None
        look, shown, scale = sheet.look, self.shown, self._scale(sheet.width)
        first = min(max(self.at - sheet.height // 2, 0), max(len(shown) - sheet.height, 0))
        for y, order in enumerate(shown[first : first + sheet.height]):
            chosen = first + y == self.at
            if chosen:
                sheet.put(0, y, sheet.glyphs.chosen, look.chosen)
            name = "".join(self.text[at] for at in self.found.orders[order])
            sheet.put(2, y, " ".join(name), look.chosen if chosen else look.text)
            x, whole = NAME + 2, 0.0
            for turn, cost in enumerate(self.found.costs[order] / LN2):
                start, whole = x + round(whole * scale), whole + float(cost)
                size = x + round(whole * scale) - start
                ink = look.bar_cut if turn % 2 else look.bar
                if size:
                    sheet.put(start, y, sheet.glyphs.blocks[-1] * size, ink)
            sheet.right(y, f"{whole:.2f}", look.chosen if chosen else look.text)

    def _mean(self, sheet: Canvas) -> None:
        """Where the mean over all orders lies, and the model's own -log p, once they are drawn; till then a mean of
        those that are."""
        assert self.found is not None
        look, scale, found = sheet.look, self._scale(sheet.width), self.found
        mean = float(found.totals[self.turns[: self.drawn]].mean() / LN2)
        every_ = self.drawn == len(self.turns)
        words = f"mean of {self.drawn} {mean:.2f}" if not every_ else f"{mean:.2f} mean: the bound"
        at = NAME + 2 + round(mean * scale)
        sheet.put(at, 0, "▲", look.chosen)
        if not every_:
            sheet.right(0, f"{words} ", look.chosen, end=at)
            return
        own = found.mixture / LN2
        place = min(NAME + 2 + round(own * scale), at - 1)
        sheet.put(place, 0, "▲", look.accent)
        sheet.right(0, f"−log₂ p {own:.2f} ", look.accent, end=place)
        sheet.right(1, words, look.chosen)

    def _by_hand(self, sheet: Canvas, tall: bool) -> None:
        """The chosen order letter by letter: what is seen before each, and what it costs."""
        assert self.found is not None
        look, order = sheet.look, int(self.shown[self.at])
        canvas, y = [BLANK] * len(self.text), 0
        parts = []
        for place, cost in zip(self.found.orders[order], self.found.costs[order] / LN2, strict=True):
            before, canvas[place] = "".join(canvas), self.text[place]
            parts.append((before, self.text[place], float(cost)))
        if not tall:
            sheet.put(0, 0, cells.fit("   ".join(f"{seen} {a} {bits:.2f}" for seen, a, bits in parts), sheet.width),
                      look.text)  # fmt: skip
            return
        sheet.heading(0, "BY HAND", "what is seen, what is read next, and its bits in this order")
        most = max(bits for *_, bits in parts)
        for y, (seen, letter, bits) in enumerate(parts, 1):
            sheet.put(2, y, f"{seen}  →  {letter}", look.text)
            sheet.put(NAME + 7, y, bar(bits / most, sheet.width - NAME - 7 - NUMBER - 1, sheet.glyphs), look.bar)
            sheet.right(y, f"{bits:.2f}", look.text)
        own = -chained([LETTERS.index(letter) for letter in self.text]) / LN2
        bits_ = self.found.totals / LN2
        sheet.put(0, 6, f"Least {bits_.min():.2f}, most {bits_.max():.2f}: one text, one model, {len(bits_)} prices.",
                  look.faint)  # fmt: skip
        sheet.put(0, 7, f"Who knew p would ask {own:.2f} in every order (chain rule): → reads more.",
                  look.faint)  # fmt: skip
