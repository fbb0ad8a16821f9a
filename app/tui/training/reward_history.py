"""History of a training by rewards, as the tune screen reads it: curves, shares, held-out problems, words. No widgets.

KL and entropy in bits; of rewards the mean of the last steps, whose problems vary by themselves.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from likely.app.tui.base.drawing.plot import Area, Curve, Mark, Picture
from likely.app.tui.base.text.block import MessageBlock, words
from likely.app.tui.base.text.formula import Formula
from likely.app.words import reward_text
from likely.app.words.units import bits
from likely.engine.base.statistics.estimates import student
from likely.engine.train.rewards.figures import AnsweredProblem, ExpertIteration, HeldOut, PassedAt, Rewarded, Rollout
from likely.engine.train.rewards.reward_history import SPAN, RewardCourse, RewardWarning, recent

GROUPS = (("wrong", "░", "faint"), ("mixed", "▒", "bar"), ("right", "█", "better"))  # by the answers to a problem

WRONG = {
    "held_out": "held out falls", "entropy": "entropy collapsed", "length": "wrong answers grow",
    "verdicts": "all is judged alike",
}  # fmt: skip


@dataclass
class RewardHistory:
    """The steps, looks and warnings of a run, and the held-out problem that is looked at."""

    course: RewardCourse = field(default_factory=RewardCourse)
    at: int = 0
    expert: ExpertIteration | None = None  # beside it, where it was asked for

    def take(self, event: Rewarded | HeldOut | RewardWarning | ExpertIteration) -> None:
        if isinstance(event, ExpertIteration):
            self.expert = event
        else:
            self.course.take(event)

    def turn(self, by: int) -> None:
        """Look at another of the held-out problems."""
        if self.seen:
            self.at = (self.at + by) % len(self.seen)

    @property
    def last(self) -> Rewarded | None:
        return self.course.steps[-1] if self.course.steps else None

    @property
    def look(self) -> HeldOut | None:
        """The last look at held-out problems."""
        return self.course.looks[-1] if self.course.looks else None

    @property
    def seen(self) -> Sequence[AnsweredProblem]:
        """The answers to the held-out problems, where they are known."""
        return next((look.seen for look in reversed(self.course.looks) if look.seen), ())

    # -- pictures ----------------------------------------------------------------------------------------------------

    def pictures(self, left: float, right: float) -> dict[str, Picture]:
        """The pictures by the charts that show them, of these steps."""
        steps = [one for one in self.course.steps if one.step >= left]
        return {
            "loss": self._reward(steps, left, right),
            "groups": self._groups(steps, left, right),
            "rate": self._small(steps, "KL", " an answer", lambda one: bits(one.kl), left, right),
            "norm": self._small(steps, "ENTROPY", " a token", lambda one: bits(one.entropy), left, right),
            "lengths": self._lengths(steps, left, right),
        }

    def _reward(self, steps: Sequence[Rewarded], left: float, right: float) -> Picture:
        """The reward with its 95 % interval, and the share of held-out problems that one answer solves."""
        xs, raw = _column(steps, lambda one: one.step), _column(steps, lambda one: one.reward)
        mean = smooth(raw)
        means = [recent(steps[max(0, end - SPAN) : end]) for end in range(1, len(steps) + 1)]
        bounds = np.array([one.interval for one in means], float).reshape(-1, 2)
        bounds[~np.isfinite([one.error for one in means])] = np.nan  # nothing is known of them
        parts: list[tuple[str, str]] = [("REWARD", "heading")]
        if len(mean):
            half = student(means[-1].df) * means[-1].error
            known = f" ± {half:.2f}" if np.isfinite(half) else ""
            parts.append((f"  ─ {mean[-1]:.2f}{known}", "bar"))
        looks = [look for look in self.course.looks if look.step >= left]
        marks = [_mark(look.step, look.passed[0]) for look in looks]
        curves = [
            Curve(xs, raw, "bar_cut", loose=True),
            *(Curve(xs, bounds[:, side], "faint", loose=True, dotted=True) for side in (1, 0)),
            Curve([m.x for m in marks], [m.y for m in marks], "chosen", dotted=True),
            Curve(xs, mean, "bar"),
        ]
        if looks:
            first = looks[-1].passed[0]
            parts.append((f"  ● held out {first.policy.mean:.2f}", "chosen"))
            parts.append((f"  ┈ base {first.base.mean:.2f}", "faint"))
            curves.insert(0, Curve([left, right], [first.base.mean] * 2, "faint", dotted=True))
        floor = 0.0 if not len(raw) or raw.min() >= 0 else None
        return Picture(parts, curves, marks, right, left, floor=floor)

    def _groups(self, steps: Sequence[Rewarded], left: float, right: float) -> Picture:
        """Shares of problems by how many of their answers are right, stacked."""
        parts: list[tuple[str, str]] = [("PROBLEMS", "heading")]
        if not steps:
            return Picture(parts, (), (), right, left, axis=False)
        counts = np.array([one.groups for one in steps], float)
        shares = [smooth(column) for column in (counts / np.maximum(1, counts.sum(-1, keepdims=True))).T]
        parts += [(f"  {glyph} {_kind(name)} {of[-1]:.0%}", ink) for (name, glyph, ink), of in zip(GROUPS, shares)]  # noqa: B905
        xs = _column(steps, lambda one: one.step)
        tops = (np.ones(len(xs)), 1 - shares[0], shares[2])  # from the top down: wrong, mixed, right
        areas = [Area(xs, top, glyph, ink) for top, (_, glyph, ink) in zip(tops, GROUPS, strict=True)]
        return Picture(parts, (), (), right, left, axis=False, floor=0.0, areas=areas)

    @staticmethod
    def _small(
        steps: Sequence[Rewarded], name: str, unit: str, of: Callable[[Rewarded], float], left: float, right: float
    ) -> Picture:
        xs, ys = _column(steps, lambda one: one.step), _column(steps, of)
        heading = [
            (name, "heading"),
            *([(f"  {round(smooth(ys)[-1], 2) + 0.0:.2f} bits", "text"), (unit, "faint")] if len(ys) else []),
        ]
        return Picture(heading, [Curve(xs, smooth(ys), "bar")], (), right, left, axis=False, floor=0.0)

    @staticmethod
    def _lengths(steps: Sequence[Rewarded], left: float, right: float) -> Picture:
        """Mean lengths of right and wrong answers, tokens."""
        xs = _column(steps, lambda one: one.step)
        heading: list[tuple[str, str]] = [("TOKENS", "heading")]
        curves = []
        kinds: Sequence[tuple[str, str, Callable[[Rewarded], float | None]]] = (
            ("✗", "bar_cut", lambda one: one.length_wrong), ("✓", "bar", lambda one: one.length_right),
        )  # fmt: skip
        for name, ink, of in kinds:
            ys = smooth(_column(steps, of))
            curves.append(Curve(xs, ys, ink))
            if len(known := ys[np.isfinite(ys)]):
                heading.append((f"  {name} {known[-1]:.0f}", ink))
        return Picture(heading, curves, (), right, left, axis=False, floor=0.0)

    def passes(self) -> Picture:
        """pass@k of base and policy over k, on the same held-out problems, and from where the base is ahead; a point is
        filled where the difference is seen (95 %, paired)."""
        parts: list[tuple[str, str]] = [("PASS@K", "heading")]
        look = self.look
        if look is None:
            return Picture([*parts, ("  of held-out problems: --test has some", "faint")])
        first = look.passed[0]
        parts.append((f" ─ now {first.policy.mean:.2f}", "bar"))
        parts.append((f" ─ base {first.base.mean:.2f}", "bar_cut"))
        if self.expert is None:
            parts.append((f"  step {look.step:,}", "faint"))
        else:
            parts.append((f" ─ expert {self.expert.beside_base.passed[0].policy.mean:.2f}", "better"))
        at = range(len(look.passed))
        curves = [
            Curve(at, [one.base.mean for one in look.passed], "bar_cut"),
            Curve(at, [one.policy.mean for one in look.passed], "bar"),
        ]
        if self.expert is not None:
            curves.insert(1, Curve(at, [one.policy.mean for one in self.expert.beside_base.passed], "better"))
        seen = [not low <= 0 <= high for low, high in (one.rise.estimate.interval for one in look.passed)]
        points = [
            (float(i), one.policy.mean, "●" if sure else "○", "bar")
            for i, (one, sure) in enumerate(zip(look.passed, seen, strict=True))
        ]
        uprights = [
            (float(i), f"from {one.k} on the base is ahead", "accent")
            for i, one in enumerate(look.passed)
            if one.k == look.crossing
        ]
        return Picture(
            parts, curves, (), max(len(look.passed) - 1, 1), along=f"k = {look.passed[-1].k}", points=points,
            across=[(float(i), f"{one.k}") for i, one in enumerate(look.passed)], uprights=uprights, floor=0.0,
        )  # fmt: skip

    # -- words -------------------------------------------------------------------------------------------------------

    def facts(self) -> list[str]:
        """Warnings, and what is cut, without a verdict, and the time of a step."""
        last = self.last
        said = [f"▲ {WRONG[one.name]}" for one in self.course.warned]
        if last is None:
            return said
        missing = [f"{last.missing} without a verdict"] if last.missing else []
        return [*said, *missing, f"{last.cut:.0%} cut", reward_text.times(last)]

    def outcome(self) -> list[str]:
        """The rise of pass@1, and the warnings in a word."""
        first = self.look.passed[0] if self.look is not None else None
        rose = [f"held out pass@1 {first.base.mean:.2f} → {first.policy.mean:.2f}"] if first is not None else []
        return [*rose, *(f"▲ {WRONG[one.name]}" for one in self.course.warned)]

    def lines(self) -> list[str]:
        """The warnings in full, and the last look at what is held out."""
        said = [f"step {one.step:,}: {reward_text.warning(one)}" for one in self.course.warned]
        found = reward_text.lines(self.look) if self.look is not None else ()
        return [*said, *found, *(reward_text.expert_lines(self.expert) if self.expert is not None else ())]

    def formula(self) -> Formula | None:
        """The mean reward of the last step; None before the first."""
        last = self.last
        if last is None:
            return None
        note = "a step goes up Σ Aᵢ log q(answer i) / N, Aᵢ the reward less the mean of the problem's other answers"
        return Formula("metric", [("r = (1/N) Σ rᵢ = ", False), (f"{last.reward:.3f}", True)], note)

    def blocks(self) -> list[MessageBlock]:
        """The problem that is looked at: what is asked, and what base and policy said, equal answers once."""
        if not self.seen:
            return []
        each = self.seen[self.at]
        problem = MessageBlock(f"problem {self.at}", "problem", f"{self.at + 1} of {len(self.seen)}")
        problem.extend(words(each.prompt))
        found = [problem]
        for who, answers in (("base", each.before), ("now", each.now)):
            right = sum(one.right for one in answers)
            block = MessageBlock(f"{who} {self.at}", who, f"{right} of {len(answers)} right")
            block.extend(words("\n".join(_said(answers))))
            found.append(block)
        return found


def _said(answers: Sequence[Rollout]) -> list[str]:
    """The answers, the most frequent first, each with its verdict."""
    counted = Counter((one.text.strip(), one.right, one.cut) for one in answers)
    rows = []
    for (text, right, cut), count in counted.most_common():
        times = f" {count}×" if count > 1 else ""
        rows.append(f"{'✓' if right else '✗'}{times} {text or '(nothing)'}{' …' if cut else ''}")
    return rows


def _kind(name: str) -> str:
    return name if name == "mixed" else f"all {name}"


def _mark(x: float, one: PassedAt) -> Mark:
    mean, (low, high) = one.policy.mean, one.policy.interval
    return Mark(x, mean, max(low, 0.0), min(high, 1.0))


def _column(steps: Sequence[Rewarded], of: Callable[[Rewarded], float | None]) -> np.ndarray:
    return np.array([np.nan if (value := of(one)) is None else value for one in steps], float)


def smooth(ys: np.ndarray) -> np.ndarray:
    """The mean of each value and of those before it, as far as it looks back; of what is known."""
    known = np.isfinite(ys)
    sums, counts = (np.concatenate([[0.0], np.cumsum(each)]) for each in (np.where(known, ys, 0.0), known))
    ends = np.arange(1, len(ys) + 1)
    starts = np.maximum(0, ends - SPAN)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = (sums[ends] - sums[starts]) / (counts[ends] - counts[starts])
    return found
