"""The history of a training, as the tune screen reads it: numbers, curves, words. No widgets."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from likely.app.tui.base.drawing.plot import Curve, Mark, Picture
from likely.app.tui.base.text.formula import Formula, Part
from likely.app.tui.base.theme import Glyphs
from likely.app.tui.training.reward_history import RewardHistory
from likely.app.words.units import LN2, bits, margin
from likely.engine.train.control import Stepped, Validated
from likely.engine.train.rewards.figures import ExpertIteration, HeldOut, Rewarded
from likely.engine.train.rewards.reward_history import RewardWarning

Parts = Sequence[tuple[str, str]]
KEPT = ("step", "loss", "smooth", "rate", "norm", "noise_scale")  # of every step
RECENT = 0.25  # share of the run that the closer view shows, and
FEWEST = 20  # steps of it at least


@dataclass
class TrainingHistory:
    """The steps and validations of a run, oldest first; of one by rewards what these draw, too."""

    per: str = "token"  # that the loss is a mean over
    bounded: bool = False  # whether it is a bound, by k of l tokens that are masked
    rewards: RewardHistory | None = None
    last: Stepped | None = None
    validated: list[Validated] = field(default_factory=list)
    _columns: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in KEPT})

    def take(self, event: Stepped | Validated | Rewarded | HeldOut | RewardWarning | ExpertIteration) -> None:
        """One more event. A step that was there already is told anew: a run went on from an earlier checkpoint."""
        if isinstance(event, Rewarded | HeldOut | RewardWarning | ExpertIteration):
            if self.rewards is not None:
                self.rewards.take(event)
            return
        if isinstance(event, Validated):
            while self.validated and self.validated[-1].step >= event.step:
                self.validated.pop()
            self.validated.append(event)
            return
        known = bisect_left(self._columns["step"], event.step)
        for name, column in self._columns.items():
            del column[known:]
            value = getattr(event, name)
            column.append(math.nan if value is None else value)
        self.last = event

    @property
    def step(self) -> int:
        return self.last.step if self.last is not None else 0

    @property
    def steps(self) -> list[int]:
        """The steps that are known."""
        return [int(step) for step in self._columns["step"]]

    @property
    def best(self) -> Validated | None:
        """The lowest validation so far."""
        return min(self.validated, key=lambda v: v.loss, default=None)

    @property
    def left_s(self) -> float | None:
        """Seconds to go, at the mean pace of all steps so far."""
        last = self.last
        return None if last is None else last.elapsed_s / last.step * (last.steps - last.step)

    # -- pictures ----------------------------------------------------------------------------------------------------

    def pictures(self, glyphs: Glyphs, *, close: bool = False) -> dict[str, Picture]:
        """The pictures by the charts that show them: of the loss, or of rewards, whose loss is 0 by construction."""
        if self.rewards is not None:
            return self.rewards.pictures(*self._range(self._column("step", close), close))
        return {"loss": self.loss(glyphs, close=close), "rate": self.rate(close=close), "norm": self.norm(close=close)}

    def loss(self, glyphs: Glyphs, *, close: bool = False) -> Picture:
        """Training loss, raw and smoothed, and the validations with their intervals."""
        xs, raw, smooth = self._column("step", close), *(self._column(name, close) / LN2 for name in ("loss", "smooth"))
        left, right = self._range(xs, close)
        best = self.best
        marks = [
            Mark(
                v.step,
                bits(v.loss),
                bits(v.loss if v.low is None else v.low),
                bits(v.loss if v.high is None else v.high),
                v is best,
            )
            for v in self.validated
            if v.step >= left
        ]
        curves = [
            Curve(xs, raw, "bar_cut", loose=True),
            Curve([m.x for m in marks], [m.y for m in marks], "chosen", dotted=True),
            Curve(xs, smooth, "bar"),
        ]
        return Picture(self._loss_words(glyphs), curves, marks, right, left)

    def _loss_words(self, glyphs: Glyphs) -> Parts:
        parts: list[tuple[str, str]] = [("LOSS", "heading"), (f" bits a {self.per}", "faint")]
        if self.last is not None:
            parts.append((f"  {glyphs.line} train {bits(self.last.smooth):.3f}", "bar"))
        if self.validated:
            v, sign = self.validated[-1], "≤ " if self.bounded else ""
            parts.append((f"  {glyphs.live} valid {sign}{margin(v.loss, v.high)}", "chosen"))
            if v.bits_per_byte is not None:
                parts.append((f"  {sign}{v.bits_per_byte:.3f} bits/byte", "chosen"))
        best = self.best
        if best is not None and best is not self.validated[-1]:
            parts.append((f"  ◆ best {bits(best.loss):.3f} at {best.step:,}", "chosen"))
        return parts

    def rate(self, *, close: bool = False) -> Picture:
        """The learning rate."""
        return self._small("RATE", "rate", power, close)

    def norm(self, *, close: bool = False) -> Picture:
        """The gradient's norm, before clipping."""
        return self._small("GRADIENT", "norm", "{:.3g}".format, close)

    def bits(self, *, close: bool = False) -> Picture:
        """Validations in bits a byte, which do not depend on the tokenizer."""
        left, right = self._range(self._column("step", close), close)
        known = [(v.step, v.bits_per_byte) for v in self.validated if v.bits_per_byte is not None and v.step >= left]
        words = [("BITS A BYTE", "heading")]
        if known:
            words.append((f"  {known[-1][1]:.3f} at step {known[-1][0]:,}", "chosen"))
        xs, ys = [step for step, _ in known], [value for _, value in known]
        points = [(float(x), y, "●", "chosen") for x, y in known[-1:]]
        return Picture(words, [Curve(xs, ys, "chosen")], (), right, left, points=points)

    def positions(self) -> Picture:
        """Loss of the last validation by how many targets stand before, in octaves, and faintly that of the first."""
        known = [v for v in self.validated if v.by_position]
        words = [("BY POSITION", "heading")]
        if not known:
            return Picture(words)
        first, last = (tuple(map(bits, v.by_position)) for v in (known[0], known[-1]))
        words.append((f"  {last[0]:.2f} → {last[-1]:.2f} bits", "bar"))
        if len(known) > 1:
            words.append((f"  step {known[0].step:,}: {first[0]:.2f} → {first[-1]:.2f}", "faint"))
        curves = [Curve(range(len(v)), v, ink) for v, ink in ((first, "bar_cut"), (last, "bar"))[len(known) < 2 :]]
        across = [(float(i), count(1 << max(i - 1, 0))) for i in range(1, len(last), 2)]
        right = max(len(last) - 1, 1)
        return Picture(words, curves, (), right, along="token", across=across)

    def noise(self, *, close: bool = False) -> Picture:
        """The gradient's noise scale, and dotted the tokens of a step, both in powers of ten."""
        xs, ys = self._column("step", close), self._column("noise_scale", close)
        words = [("NOISE SCALE", "heading")]
        left, right = self._range(xs, close)
        known = ys[np.isfinite(ys) & (ys > 0)]
        if self.last is None or not len(known):
            return Picture(words, (), (), right, left)
        a_step = self.last.tokens / self.last.step
        words += [(f"  {count(round(known[-1]))} tokens", "text"), (f"  a step {count(round(a_step))}", "faint")]
        with np.errstate(divide="ignore", invalid="ignore"):
            powers = np.log10(ys)
        line = math.log10(a_step)
        low, high = math.floor(min(line, np.log10(known).min())), math.ceil(max(line, np.log10(known).max()) + 1e-9)
        up = [(float(power), count(10**power)) for power in range(low, high + 1)]
        curves = [Curve([left, right], [line, line], "faint", dotted=True), Curve(xs, powers, "bar", loose=True)]
        return Picture(words, curves, (), right, left, floor=low, up=up)

    def _small(self, heading: str, name: str, form: Callable[[float], str], close: bool) -> Picture:
        xs, ys = self._column("step", close), self._column(name, close)
        words = [(heading, "heading")]
        if len(ys):
            words += [(f"  {form(ys[-1])}", "text"), (f"  peak {form(ys.max())}", "faint")]
        left, right = self._range(xs, close)
        return Picture(words, [Curve(xs, ys, "bar", loose=True)], (), right, left, axis=False, floor=0.0)

    def _column(self, name: str, close: bool) -> np.ndarray:
        column = np.array(self._columns[name])
        if not close:
            return column
        first = self.step - max(int(self.step * RECENT), FEWEST)
        return column[bisect_left(self._columns["step"], first) :]

    @staticmethod
    def _range(xs: np.ndarray, close: bool) -> tuple[float, float]:
        left = float(xs[0]) if close and len(xs) else 0.0
        return left, max(float(xs[-1]) if len(xs) else 1.0, left + 1)

    # -- words -------------------------------------------------------------------------------------------------------

    def facts(self) -> list[str]:
        """The cost of a step and what it has come to, the most wanted first."""
        last = self.last
        if last is None:
            return []
        if self.rewards is not None:
            return [*self.rewards.facts(), f"epoch {last.epoch:.2f}", size(last.memory)]
        facts = [f"epoch {last.epoch:.2f}", f"{last.tokens_per_s:,.0f} tok/s", size(last.memory)]
        facts.append(f"{count(last.tokens)} tokens trained")
        if last.kl:
            facts.append(f"KL to the base {bits(last.kl):.3f} bits")
        return facts

    def numbers(self) -> dict[str, float]:
        """The step, and its loss in bits where there is one."""
        last = self.last
        loss = {"loss": bits(last.loss)} if last is not None and self.rewards is None else {}
        return {"step": float(self.step), **loss}

    def formula(self) -> Formula | None:
        """The loss of the last step, or its reward; None before the first."""
        last = self.last
        if self.rewards is not None:
            return self.rewards.formula()
        if last is None:
            return None
        of = "−(1/n) Σ log₂ p(xᵢ | x<i)" if self.per == "token" else f"mean loss of a {self.per}"
        of = "−(1/n) Σ (l/k) log₂ p(xᵢ | unmasked)" if self.bounded else of
        parts: list[Part] = [(f"L = {of} = ", False), (f"{bits(last.loss):.3f} bits", True), ("   smoothed ", False)]
        parts.append((f"{bits(last.smooth):.3f}", True))
        if self.per == "token":
            parts += [("   perplexity 2^L = ", False), (f"{np.exp(last.loss):.2f}", True)]
        note = f"step {last.step:,}: θ ← θ − η·update, η = {power(last.rate)}, gradient's norm {last.norm:.3g}"
        return Formula("metric", parts, note)


def power(value: float) -> str:
    """A small number: `2.0e-4`."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def size(nbytes: float) -> str:
    """A size in memory."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


def count(number: int) -> str:
    """A count in about three digits."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= unit:
            return f"{number / 1e3:.0f}k" if name == "k" else f"{number / unit:.1f}{name}"
    return f"{number:,}"
