"""`OrdersPicture`: three maps of one distribution, each alone, and two of them in either order.

The transforms are those that the sampler runs, on the raw logits of the loaded model after the chapter's text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from textual.binding import Binding, BindingType

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.app.lessons.expression import Value
from likely.app.tui.base.drawing.canvas import Canvas
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.theme import bar
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.views.learn.picture import LessonPicture
from likely.engine.base.arrays import entropy, softmax
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.transforms import MinP, Temperature, TopP, Transform, run, start

T, TOP_P, MIN_P = SLIDERS = ("T", "top-p", "min-p")
RANGES = {T: (0.1, 2.0, 0.1), TOP_P: (0.1, 1.0, 0.05), MIN_P: (0.05, 0.9, 0.05)}  # least, most, step
ORDERS = ((TOP_P, T), (T, TOP_P))
NAME, NUMBER = 10, 6  # cells


@dataclass(frozen=True, slots=True)
class MapValues:
    """Where the sliders of the three maps stand."""

    values: Mapping[str, float] = field(default_factory=lambda: {T: 0.5, TOP_P: 0.5, MIN_P: 0.2})

    def moved(self, name: str, by: int) -> "MapValues":
        low, high, step = RANGES[name]
        value = min(max(round(self.values[name] + by * step, 2), low), high)
        return MapValues({**self.values, name: value})

    def transform(self, name: str) -> Transform:
        value = self.values[name]
        return {T: Temperature, TOP_P: TopP, MIN_P: MinP}[name](value)


def law(logits: np.ndarray, transforms: Sequence[Transform]) -> np.ndarray:
    """q [V] after transforms in this order, 0 where a token was removed; p without any."""
    after, _ = run(transforms, logits, start(transforms, None, (), np), (0, 0), np)
    return np.asarray(softmax(after))


class OrdersPicture(LessonPicture):
    """One map at a time, then two orders of the same two."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "swap", "Swap order", id="orders.swap", tooltip="temperature and top-p in the other order"),
        Binding("left", "slide(-1)", "Less", id="orders.less", tooltip="the slider to the left"),
        Binding("right", "slide(1)", "More", id="orders.more", tooltip="the slider to the right"),
        Binding("tab", "turn", "Slider", id="orders.turn", tooltip="the next slider"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("o", "Swap order"), ("tab", "Slider"), ("←→", "Move"))

    def __init__(self) -> None:
        super().__init__()
        self.text, self.failure = "", ""
        self.logits: np.ndarray | None = None
        self.sliders = MapValues()
        self.slider, self.order = T, 0
        self.asked = -1

    # -- what it is of -----------------------------------------------------------------------------------------------

    def set_state(self, state: Mapping[str, str]) -> None:
        self.text = state.get("text", "")
        self.models_changed()

    def models_changed(self) -> None:
        """Have the distribution after the text."""
        facts = self.host.engine.current
        self.logits, self.failure = None, ""
        if facts is not None and self.text:
            request = call(calls.logits, facts.name, Prompt(parts=(self.text,)))
            self.asked = self.host.engine.submit(request, self._heard)
        self.redraw()

    def _heard(self, job: int, events: list[Any]) -> None:
        for event in events if job == self.asked and self.is_attached else ():
            if isinstance(event, np.ndarray):
                self.logits = event.astype(np.float64)
            elif isinstance(event, Failed):
                self.failure = event.line
        if self.is_attached:
            self.redraw()

    def numbers(self) -> Mapping[str, Value]:
        if self.logits is None:
            return {}
        p = law(self.logits, ())
        first, second = (int(token) for token in np.argsort(-p, kind="stable")[:2])
        cold = law(self.logits, [Temperature(0.5)])
        kept = [int((law(self.logits, self._pair(order)) > 0).sum()) for order in ORDERS]
        return {
            "first": self.names.name(first), "second": self.names.name(second),
            "p_first": float(p[first]), "p_second": float(p[second]), "cold_first": float(cold[first]),
            "entropy": _bits(p), "cold_entropy": _bits(cold), "min_p": self.sliders.values[MIN_P],
            "order": ", ".join(ORDERS[self.order]),
            "kept_top_p_first": float(kept[0]), "kept_temperature_first": float(kept[1]),
        }  # fmt: skip

    def _pair(self, order: Sequence[str]) -> list[Transform]:
        return [self.sliders.transform(name) for name in order]

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_swap(self) -> None:
        self.order = 1 - self.order
        self.redraw()

    def action_slide(self, by: int) -> None:
        self.sliders = self.sliders.moved(self.slider, by)
        self.redraw()

    def action_turn(self) -> None:
        self.slider = SLIDERS[(SLIDERS.index(self.slider) + 1) % len(SLIDERS)]
        self.redraw()

    def formula(self) -> Formula | None:
        if self.logits is None:
            return None
        names, values = ORDERS[self.order], self.sliders.values
        kept = int((law(self.logits, self._pair(names)) > 0).sum())
        told = ", then ".join(f"{name} {values[name]:g}" for name in names)
        return Formula("decoder", ((f"q = f(p): {told}   kept ", False), (f"{kept:,}", True)))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, sheet: Canvas) -> None:
        look, logits = sheet.look, self.logits
        sheet.put(1, 1 if sheet.height > 20 else 0, cells.fit(f"{self.text} …", sheet.width - 20), look.text)
        if logits is None:
            self.wait(sheet, 3)
            return
        p = law(logits, ())
        sheet.right(1 if sheet.height > 20 else 0, f"H(p) {_bits(p):.2f} bits ", look.chosen)
        both = sheet.height >= 26
        top = sheet.part(1, 3 if both else 1, sheet.width - 2, min(sheet.height // 2, 18) if both else sheet.height - 1)
        words = np.argsort(-p, kind="stable")
        if both:
            self._alone(top, p, words)
            self._orders(sheet.part(1, 3 + top.height + 1, sheet.width - 2), p, words)
        elif self.order == 0:
            self._alone(top, p, words)
        else:
            self._orders(top, p, words)

    def _alone(self, sheet: Canvas, p: np.ndarray, words: np.ndarray) -> None:
        assert self.logits is not None
        values = self.sliders.values
        sheet.heading(0, "ONE AT A TIME", "p → q, %")
        laws = [p, *(law(self.logits, [self.sliders.transform(name)]) for name in SLIDERS)]
        heads = ["p", *(f"{name} {values[name]:g}" for name in SLIDERS)]
        marked = [False, *(name == self.slider for name in SLIDERS)]
        self._columns(sheet.part(0, 1), laws, heads, marked, p, words)

    def _orders(self, sheet: Canvas, p: np.ndarray, words: np.ndarray) -> None:
        assert self.logits is not None
        values = self.sliders.values
        sheet.heading(0, "ORDER MATTERS", f"the same two sliders, T {values[T]:g} and top-p {values[TOP_P]:g}")
        laws = [law(self.logits, self._pair(order)) for order in ORDERS]
        heads = [", then ".join(order) for order in ORDERS]
        self._columns(sheet.part(0, 1), laws, heads, [self.order == 0, self.order == 1], p, words)

    def _columns(
        self, sheet: Canvas, laws: Sequence[np.ndarray], heads: Sequence[str], marked: Sequence[bool], p: np.ndarray,
        words: np.ndarray,
    ) -> None:  # fmt: skip
        """A column a law: the words in their bars, with a tick at p, and below how many are kept, and H."""
        look, glyphs, size = sheet.look, sheet.glyphs, (sheet.width - NAME) // len(laws)
        most = max(float(q.max()) for q in laws)
        rows = min(sheet.height - 3, len(words), 12)
        for index, (q, head) in enumerate(zip(laws, heads, strict=True)):
            x, room = NAME + index * size, size - NUMBER - 2
            sheet.put(x, 0, cells.fit(head, size - 1), look.chosen if marked[index] else look.faint)
            for y, token in enumerate(words[:rows], 1):
                share = float(q[token])
                if index == 0:
                    sheet.put(0, y, self.names.name(int(token)), look.text, size=NAME - 1)
                if share == 0:
                    sheet.put(x, y, glyphs.cut, look.cut)
                    sheet.right(y, "cut", look.cut, end=x + size - 2)
                    continue
                sheet.put(x, y, bar(share / most, room, glyphs), look.bar)
                tick = x + int(float(p[token]) / most * room)
                if q is not laws[0] or len(laws) == 2:
                    sheet.put(min(tick, x + room - 1), y, glyphs.tick, look.tick)
                sheet.right(y, f"{100 * share:.1f}", look.text, end=x + size - 2)
            kept = f"{int((q > 0).sum()):,} kept" if size < 24 else f"keeps {int((q > 0).sum()):,} · H {_bits(q):.2f}"
            sheet.right(rows + 1, kept, look.faint, end=x + size - 2)
            if size < 24:
                sheet.right(rows + 2, f"H {_bits(q):.2f}", look.faint, end=x + size - 2)


def _bits(q: np.ndarray) -> float:
    """The entropy of a law in bits."""
    with np.errstate(divide="ignore"):
        return abs(float(entropy(np.log(q), np))) / LN2  # of one word 0, without a sign
