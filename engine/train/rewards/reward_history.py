"""Course of a training by rewards: what its steps drew, its looks at held-out problems, and the warnings in these.

Numbers alone: knows neither the model nor how a warning is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from likely.engine.base.statistics.estimates import Estimate, compare, mean, student
from likely.engine.decode.answers.vote import pass_at
from likely.engine.train.rewards.figures import HeldOut, Rewarded

SPAN = 10  # steps whose mean is "at first" and "now"; of a shorter run a half, and
FEWEST = 3  # at least
COLLAPSED = 0.1  # of the entropy at first
LONGER = 1.25  # times as long as at first
SURE = 2.0  # standard errors
Timed = TypeVar("Timed", Rewarded, HeldOut)


@dataclass(frozen=True, slots=True)
class RewardWarning:
    """A figure that went wrong by a step: what it was, and what it is.

    held_out: pass@1 of the policy, which fell while the reward rose. entropy: nats a token, under a tenth of its start.
    length: tokens of wrong answers, which grow, and more than those of right ones. verdicts: the one verdict that a
    verifier had, before the first step, for right answers and for such as say nothing.
    """

    step: int
    name: str
    before: float
    now: float


@dataclass
class RewardCourse:
    """The events of a run, oldest first; each warning is given once."""

    steps: list[Rewarded] = field(default_factory=list)
    looks: list[HeldOut] = field(default_factory=list)
    warned: list[RewardWarning] = field(default_factory=list)

    def take(self, event: Rewarded | HeldOut | RewardWarning) -> list[RewardWarning]:
        """One more event, and the warnings that it is the first to show. A step that was there already is told anew:
        a run went on from an earlier checkpoint."""
        match event:
            case RewardWarning():
                self.warned.append(event)
                return []
            case Rewarded():
                _put(self.steps, event)
            case HeldOut():
                _put(self.looks, event)
        names = {one.name for one in self.warned}
        return [one for one in warnings(self.steps, self.looks) if one.name not in names]


def _put(known: list[Timed], event: Timed) -> None:
    while known and known[-1].step >= event.step:
        known.pop()
    known.append(event)


def recent(steps: Sequence[Rewarded]) -> Estimate:
    """The mean reward of the last ten steps. The error of one problem is infinite.

    Problems vary by themselves and about alike from step to step: degrees of freedom add up, where two problems of one
    step alone say next to nothing.
    """
    last = [one for one in steps[-SPAN:] if math.isfinite(one.reward)]
    if not last:
        return Estimate(math.nan, math.nan)
    df = [sum(one.groups) - 1 for one in last]
    errors = [(one.high - one.low) / 2 / student(n) if n else math.inf for one, n in zip(last, df, strict=True)]
    middle = math.fsum(one.reward for one in last) / len(last)
    found = Estimate(middle, math.hypot(*errors) / len(last), max(1, sum(df)), n=sum(df) + len(last))
    return found.within(0.0, 1.0) if all(one.shares for one in last) else found


def warnings(steps: Sequence[Rewarded], looks: Sequence[HeldOut]) -> list[RewardWarning]:
    """The warnings that hold after the last of the steps and looks."""
    span = min(SPAN, len(steps) // 2)
    if span < FEWEST:
        return []
    first, last, t = steps[:span], steps[-span:], steps[-1].step
    found = []
    if len(looks) > 1 and _rose(steps, span, best := max(looks[:-1], key=_passed)):
        sides = [[pass_at(1, right, look.answers) for right in look.now] for look in (best, looks[-1])]
        change = compare(*sides)
        if change.verdict(change.p * (len(looks) - 1)) == "worse":  # the best of so many is found by chance
            found.append(RewardWarning(t, "held_out", _passed(best), _passed(looks[-1])))
    entropy, start = (sum(one.entropy for one in some) / span for some in (last, first))
    if entropy < COLLAPSED * start:
        found.append(RewardWarning(t, "entropy", start, entropy))
    wrong = [_lengths([one.length_wrong for one in some]) for some in (first, last)]
    right = [_lengths([one.length_right for one in some]) for some in (first, last)]
    if all(each.n >= FEWEST for each in wrong):
        was, now = (each.mean for each in wrong)
        sure = now - was > SURE * math.hypot(*(each.error for each in wrong))
        also = right[1].mean / right[0].mean if all(each.n for each in right) else 1.0
        if sure and now > LONGER * was and now / was > also:
            found.append(RewardWarning(t, "length", was, now))
    return found


def _passed(look: HeldOut) -> float:
    return look.passed[0].policy.mean


def _rose(steps: Sequence[Rewarded], span: int, since: HeldOut) -> bool:
    """Whether the mean reward is higher now than it was by that look."""
    then = [one.reward for one in steps if one.step <= since.step][-span:] or [one.reward for one in steps[:span]]
    return mean([one.reward for one in steps[-span:]]).mean > mean(then).mean


def _lengths(of: Sequence[float | None]) -> Estimate:
    return mean([length for length in of if length is not None])
