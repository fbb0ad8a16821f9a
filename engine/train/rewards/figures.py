"""Figures of learning from rewards: what a step drew, and pass@1..k of base and policy on held-out problems.

Plain data, without mlx. Log-probabilities, KL and entropies in nats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from likely.engine.base.statistics.estimates import Change, Estimate, clustered, compare, mean
from likely.engine.decode.answers.program import RIGHT
from likely.engine.decode.answers.vote import pass_at


@dataclass(frozen=True, slots=True)
class Rollout:
    """An answer that was drawn. `reward` is None without a verdict; `entropy` the sum over its tokens."""

    where: str
    ids: tuple[int, ...]
    text: str
    reward: float | None
    logprob: float
    entropy: float
    cut: bool  # by the limit of tokens

    @property
    def right(self) -> bool:
        return self.reward is not None and self.reward >= RIGHT


@dataclass(frozen=True, slots=True)
class Rewarded:
    """The answers of a step. `reward` is their mean with its 95 % interval, clustered by problem.

    `groups` counts problems by the rewards of their answers, as the advantages do: all equal and below right, of
    different worth, all equal and right. Only the second kind has advantages other than 0 (`advantages` "others" and
    "std"). Answers without a verdict count nowhere, nor does a problem that has no other.
    """

    step: int
    reward: float
    low: float
    high: float
    groups: tuple[int, int, int]
    kl: float  # to the base, an answer
    entropy: float  # a token
    length_right: float | None  # tokens, mean
    length_wrong: float | None
    cut: float  # share that the limit ended: they count as wrong
    missing: int  # answers without a verdict, which teach nothing
    drawn_s: float
    verified_s: float = 0.0
    updated_s: float = 0.0  # all else of the step
    shares: bool = False  # whether all rewards were in [0, 1], as of right and wrong


def summary(
    step: int, groups: Sequence[Sequence[Rollout]], kls: Sequence[float], drawn_s: float, verified_s: float = 0.0
) -> Rewarded:
    """The figures of a step's answers, by problem."""
    every = [one for group in groups for one in group]
    judged = [(float(one.reward), k) for k, group in enumerate(groups) for one in group if one.reward is not None]
    estimate = clustered([r for r, _ in judged], [k for _, k in judged])
    low, high = estimate.interval
    worths = [worth for group in groups if (worth := {one.reward for one in group if one.reward is not None})]
    mixed = sum(len(worth) > 1 for worth in worths)
    solved = sum(len(worth) == 1 and min(worth) >= RIGHT for worth in worths)
    lengths = [[len(one.ids) for one in every if one.right is right] for right in (True, False)]
    of_right, of_wrong = (sum(of) / len(of) if of else None for of in lengths)
    return Rewarded(
        step, estimate.mean, low, high, (len(worths) - mixed - solved, mixed, solved), sum(kls) / len(kls),
        sum(one.entropy for one in every) / max(1, sum(len(one.ids) for one in every)),
        of_right,
        of_wrong,
        sum(one.cut for one in every) / len(every), sum(one.reward is None for one in every), drawn_s,
        verified_s, shares=all(0.0 <= reward <= 1.0 for reward, _ in judged),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PassedAt:
    """pass@k on the same problems: the probability that one of k answers is right (arXiv:2107.03374, eq. 1)."""

    k: int
    base: Estimate
    policy: Estimate
    rise: Change


@dataclass(frozen=True, slots=True)
class AnsweredProblem:
    """A held-out problem, its answer, and what the base and the policy said to it."""

    prompt: str
    answer: str
    before: tuple[Rollout, ...]
    now: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Base and policy on held-out problems after a step: how many of each problem's `answers` are right, before and
    now. `seen` is what they said, where it is known."""

    step: int
    answers: int
    before: tuple[int, ...]
    now: tuple[int, ...]
    passed: tuple[PassedAt, ...]
    seen: tuple[AnsweredProblem, ...] = ()

    @property
    def crossing(self) -> int | None:
        """The least k at which the policy, ahead at 1, is behind: rewards sharpen what the model can do, and so may
        lose by many answers."""
        ahead = self.passed[0].policy.mean > self.passed[0].base.mean
        return next((one.k for one in self.passed if one.policy.mean < one.base.mean), None) if ahead else None


def held_out(
    before: Sequence[int], now: Sequence[int], answers: int, step: int = 0, seen: Sequence[AnsweredProblem] = ()
) -> HeldOut:
    """The comparison, from the right answers of each problem by the base and by the policy, of `answers` each."""
    sizes = [k for k in (2**i for i in range(answers.bit_length())) if k <= answers]
    found = []
    for k in sizes:
        sides = [[pass_at(k, right, answers) for right in of] for of in (before, now)]
        base, policy = (mean(side).within(0.0, 1.0) for side in sides)
        rise = compare(*sides)
        if math.isfinite(rise.estimate.error):  # else nothing is known of it
            rise = replace(rise, estimate=rise.estimate.within(-1.0, 1.0))
        found.append(PassedAt(k, base, policy, rise))
    return HeldOut(step, answers, tuple(before), tuple(now), tuple(found), tuple(seen))


@dataclass(frozen=True, slots=True)
class ExpertIteration:
    """Expert iteration on the same problems, beside a policy that rewards have made: `drawn` answers in so many
    `rounds`, `kept` different right ones, `tokens` learned from the start. It against the base, and the policy against
    it, by the same held-out problems."""

    rounds: int
    drawn: int
    kept: int
    tokens: int
    beside_base: HeldOut
    policy: HeldOut
