"""What a training has said of itself so far, as the tune screen reads it: numbers, curves, words. No widgets."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.tui.theme import Glyphs
from app.tui.widgets.chart import Curve, Mark, Picture
from engine.tune.control import Stepped, Validated

Parts = Sequence[tuple[str, str]]
RECENT = 0.25  # share of the run that the closer view shows


@dataclass
class Course:
    """The steps and validations of a run, oldest first."""

    stepped: list[Stepped] = field(default_factory=list)
    validated: list[Validated] = field(default_factory=list)

    def take(self, event: Stepped | Validated) -> None:
        """One more event. A step that was there already is told anew: a run went on from an earlier checkpoint."""
        if isinstance(event, Validated):
            while self.validated and self.validated[-1].step >= event.step:
                self.validated.pop()
            self.validated.append(event)
            return
        while self.stepped and self.stepped[-1].step >= event.step:
            self.stepped.pop()
        self.stepped.append(event)

    @property
    def last(self) -> Stepped | None:
        return self.stepped[-1] if self.stepped else None

    @property
    def step(self) -> int:
        return self.stepped[-1].step if self.stepped else 0

    @property
    def best(self) -> Validated | None:
        """The lowest validation so far."""
        return min(self.validated, key=lambda v: v.loss, default=None)

    @property
    def left_s(self) -> float | None:
        """Seconds to go, at the mean pace of the steps that are known."""
        last = self.last
        if last is None or not last.step:
            return None
        return last.elapsed_s / last.step * (last.steps - last.step)

    # -- pictures ----------------------------------------------------------------------------------------------------

    def loss(self, glyphs: Glyphs, *, close: bool = False) -> Picture:
        """Training loss, raw and smoothed, and the validations with their intervals."""
        steps = self._view(close)
        xs = [s.step for s in steps]
        left = xs[0] if close and xs else 0
        marks = [Mark(v.step, v.loss, v.low, v.high, v is self.best) for v in self.validated if v.step >= left]
        curves = [
            Curve(xs, [s.loss for s in steps], "bar_cut", loose=True),
            Curve([m.x for m in marks], [m.y for m in marks], "chosen", dotted=True),
            Curve(xs, [s.smooth for s in steps], "bar"),
        ]
        return Picture(self._loss_words(glyphs), curves, marks, max(xs[-1] if xs else 1, left + 1), left)

    def _loss_words(self, glyphs: Glyphs) -> Parts:
        parts: list[tuple[str, str]] = [("LOSS", "heading")]
        if self.last is not None:
            parts.append((f"  {glyphs.line} train {self.last.smooth:.3f}", "bar"))
        if self.validated:
            v = self.validated[-1]
            parts.append((f"  {glyphs.live} valid {v.loss:.3f} ± {v.high - v.loss:.3f}", "chosen"))
        best = self.best
        if best is not None and best is not self.validated[-1]:
            parts.append((f"  ◆ best {best.loss:.3f} at {best.step:,}", "chosen"))
        return parts

    def rate(self, *, close: bool = False) -> Picture:
        """The learning rate."""
        steps = self._view(close)
        xs, ys = [s.step for s in steps], [s.rate for s in steps]
        words = [("RATE", "heading")]
        if ys:
            words += [(f"  {power(ys[-1])}", "text"), (f"  peak {power(max(ys))}", "faint")]
        return self._small(words, xs, ys)

    def norm(self, *, close: bool = False) -> Picture:
        """The gradient's norm, before clipping."""
        steps = self._view(close)
        xs, ys = [s.step for s in steps], [s.norm for s in steps]
        words = [("GRADIENT", "heading")]
        if ys:
            words += [(f"  {ys[-1]:.3g}", "text"), (f"  peak {max(ys):.3g}", "faint")]
        return self._small(words, xs, ys)

    @staticmethod
    def _small(words: Parts, xs: list[int], ys: list[float]) -> Picture:
        left = xs[0] if xs and xs[0] > 1 else 0
        right = max(xs[-1] if xs else 1, left + 1)
        return Picture(words, [Curve(xs, ys, "bar", loose=True)], (), right, left, axis=False, floor=0.0)

    def _view(self, close: bool) -> list[Stepped]:
        if not close or not self.stepped:
            return self.stepped
        first = self.step - max(int(self.step * RECENT), 20)
        return self.stepped[bisect_left(self.stepped, first, key=lambda s: s.step) :]

    # -- words -------------------------------------------------------------------------------------------------------

    def facts(self) -> list[str]:
        """What a step costs and has come to, the most wanted first."""
        last = self.last
        if last is None:
            return []
        facts = [f"epoch {last.epoch:.2f}", f"{last.tokens_per_s:,.0f} tok/s", size(last.memory)]
        facts.append(f"{count(last.tokens)} tokens trained")
        if last.kl:
            facts.append(f"KL to the base {last.kl:.3f}")
        return facts


def power(value: float) -> str:
    """A small number: `2.0e-4`."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def size(nbytes: float) -> str:
    """A size in memory."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


def count(number: float) -> str:
    """A count in three digits or so."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= unit:
            return f"{number / (1e3 if name == 'k' else unit):.{0 if name == 'k' else 1}f} {name}".replace(" ", "")
    return f"{number:,.0f}"
