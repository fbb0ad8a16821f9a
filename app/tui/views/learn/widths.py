"""`WidthsPicture`: the loaded model in fewer bits a weight: what each width takes, and the KL of it, on a log scale.

The copies are made and measured by what `likely quantize --bits all` runs, in the worker, a layer at a time; nothing is
written, and nothing is begun before a person has read what it costs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from textual.binding import Binding, BindingType

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.requests import Progressed, WidthsMeasured
from likely.app.jobs.worker import Failed
from likely.app.lessons.expression import Value
from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.canvas import Canvas, fold
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.formula import Formula
from likely.app.tui.base.theme import bar
from likely.app.tui.chat.candidates import LN2
from likely.app.tui.views.learn.picture import LessonPicture
from likely.engine.decode.loop.control import RunControl

if TYPE_CHECKING:
    from likely.engine.weights.quantize.measure import QuantizationReport

STOPS = "q stops it; it goes on while other views are looked at"
LEAST = 1e-5  # bits of KL: what is below it is drawn there
AXIS, TALL = 8, 26
COLUMNS = (("MB", 8), ("KL bits", 9), ("× above", 9), ("flips %", 9), ("ppl", 10))


class WidthsPicture(LessonPicture):
    """A point a width, with its interval, and what it costs in a row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "measure", "Quantise", id="widths.measure", tooltip="measure copies in fewer bits; again: stop"),
        Binding("left", "move(-1)", "Fewer bits", id="widths.fewer", tooltip="the width of fewer bits"),
        Binding("right", "move(1)", "More bits", id="widths.more", tooltip="the width of more bits"),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (("q", "Quantise"), ("←→", "Bits"))

    def __init__(self) -> None:
        super().__init__()
        self.reports: Sequence[QuantizationReport] = ()
        self.control: RunControl | None = None  # of a measurement under way
        self.news, self.failure, self.at = "", "", 0

    def models_changed(self) -> None:
        """Nothing of another model holds."""
        self._stop()
        self.reports, self.failure = (), ""
        self.redraw()

    def on_unmount(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.control is not None:
            self.control.cancel()
        self.control, self.news = None, ""

    def _heard(self, control: RunControl, found: list[Any]) -> None:
        if control is not self.control or not self.is_attached:
            return
        for event in found:
            if isinstance(event, Progressed):
                self.news = f"layer {min(event.done + 1, event.total)} of {event.total}; {STOPS}"
            elif isinstance(event, Failed):
                self.failure, self.control = event.line, None
            elif isinstance(event, WidthsMeasured):
                self.reports, self.control = event.reports, None
                self.at = next((i for i, each in enumerate(event.reports) if each.bits == 4), 0)
        self.redraw()

    def numbers(self) -> Mapping[str, Value]:
        if self.host.engine.current is None:
            return {}
        if not self.reports:
            return {"measured": 0.0}
        kl = {f"kl_{each.bits}": each.kl / LN2 for each in self.reports}
        size = {each.bits: each.nbytes for each in self.reports}
        return {"measured": 1.0, "growth": kl["kl_3"] / kl["kl_4"], "saved": 1 - size[3] / size[4], **kl}

    # -- keys --------------------------------------------------------------------------------------------------------

    def action_measure(self) -> None:
        """Measure the copies, or measure them again; while that lasts, stop."""
        facts = self.host.engine.current
        if self.control is not None:
            self._stop()
        elif facts is not None:
            self.control = control = RunControl()
            self.reports, self.failure, self.news = (), "", STOPS
            request = call(calls.widths, facts.name, control)
            self.host.engine.submit(request, lambda job, found: self._heard(control, found))
        self.redraw()

    def action_move(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), max(len(self.reports) - 1, 0))
        self.redraw()

    def formula(self) -> Formula | None:
        if not self.reports:
            return None
        chosen = self.reports[self.at]
        return Formula("kl", ((f"KL(p ‖ q) at {chosen.bits} bits a weight = ", False), (_bits(chosen.kl), True)))

    # -- drawing -----------------------------------------------------------------------------------------------------

    def draw(self, sheet: Canvas) -> None:
        look, facts, tall = sheet.look, self.host.engine.current, sheet.height >= TALL
        body = sheet.part(1, 1 if tall else 0, sheet.width - 2)
        name = (facts.title or facts.name) if facts is not None else "no model"
        if self.reports:
            said = f"{name} in fewer bits a weight; {self.reports[0].predicted:,} tokens held out"
            body.heading(0, "BITS AGAINST KL", said)
            if tall:
                self._curve(body.part(0, 1, None, 17))
            self._rows(body.part(0, 19 if tall else 1))
            return
        body.heading(0, "BITS AGAINST KL", name)
        told = "The model is being loaded…"
        if facts is not None:
            told = (
                f"q measures copies of it in 2, 3, 4, 5, 6 and 8 bits a weight: {facts.nbytes / 1e6:,.0f} MB are read "
                "a layer at a time, and a text of some 500 tokens by seven models at once, so it takes as long as a "
                "prompt of 3,500 tokens, or longer. Nothing is written."
            )
        y = 2
        for words in (self.failure, self.news, told):
            for row in fold(words, body.width) if words else ():
                body.put(0, y, row, look.alarm if words is self.failure else look.text)
                y += 1
            y += bool(words)

    def _curve(self, sheet: Canvas) -> None:
        """KL by bits a weight with its interval, on a log scale."""
        look, width, height = sheet.look, sheet.width - AXIS, sheet.height - 2
        xs = np.array([each.weight_bits for each in self.reports])
        kl = np.log10([max(each.kl / LN2, LEAST) for each in self.reports])
        frame = plot.Frame(xs[0] - 0.3, xs[-1] + 0.3, math.floor(kl.min()), math.ceil(kl.max()), width, height)
        for power in range(math.floor(kl.min()), math.ceil(kl.max()) + 1):
            sheet.right(frame.row(power), f"{10.0**power:g}", look.faint, end=AXIS - 2)
            sheet.put(AXIS - 1, frame.row(power), "┤", look.rule)
        sheet.dots(AXIS, 0, plot.curve(frame, xs, kl), look.bar)
        for at, each in enumerate(self.reports):
            ink = look.chosen if at == self.at else look.text
            column = AXIS + frame.column(each.weight_bits)
            low, high = (frame.row(math.log10(max(end / LN2, LEAST))) for end in each.kl_interval)
            for y in range(max(high, 0), min(low, height - 1) + 1):
                sheet.put(column, y, sheet.glyphs.tick, look.faint)
            sheet.put(column, frame.row(float(kl[at])), sheet.glyphs.knob, ink)
            sheet.put(column - 1, height, f"{each.weight_bits:.1f}", ink)
        sheet.put(AXIS, height + 1, "bits a weight with their scales; lines are 95 % intervals", look.faint)

    def _rows(self, sheet: Canvas) -> None:
        look, left = sheet.look, 12
        ends = [sheet.width - sum(size for _, size in COLUMNS[at + 1 :]) for at in range(len(COLUMNS))]
        room = ends[0] - COLUMNS[0][1] - left
        sheet.heading(0, "WHAT IT COSTS")
        for end, (head, _) in zip(ends, COLUMNS, strict=True):
            sheet.right(0, head, look.faint, end=end)
        most = max(each.kl for each in self.reports) or 1.0
        rows = list(reversed(list(enumerate(self.reports))))
        for y, (at, each) in enumerate(rows, 1):
            ink = look.chosen if at == self.at else look.text
            sheet.put(0, y, f"{sheet.glyphs.chosen if at == self.at else ' '} {each.bits} bits", ink)
            sheet.put(left, y, bar(each.kl / most, room, sheet.glyphs), look.bar)
            above = self.reports[at + 1].kl if at + 1 < len(self.reports) else 0.0
            written = (
                f"{each.nbytes / 1e6:,.0f}", _number(each.kl / LN2), f"× {each.kl / above:.1f}" if above > 0 else "",
                f"{100 * each.flips:.1f}", _number(each.perplexity),
            )  # fmt: skip
            for end, number in zip(ends, written, strict=True):
                sheet.right(y, number, ink, end=end)
        chosen = self.reports[self.at]
        low, high = (end / LN2 for end in chosen.kl_interval)
        told = f"{chosen.bits} bits: KL {_number(low)} to {_number(high)} bits a token, 1,000 tokens cost "
        told += f"{1000 * chosen.kl / LN2:,.0f} bits more"
        sheet.put(0, len(rows) + 2, cells.fit(told, sheet.width), look.faint)


def _number(value: float) -> str:
    """A number in three digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _bits(nats: float) -> str:
    return f"{_number(nats / LN2)} bits"
