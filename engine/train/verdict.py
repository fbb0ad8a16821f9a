"""`TrainingVerdict`: rows that a training learned and answers that it changed, before and now, with intervals.

A row is given back where greedy decoding gives its answer word for word; one of `--test`, which may be asked in other
words, where its answer stands in what is said; of preferences, where the chosen answer is the likelier one. Losses and
KL in nats. Plain data, without mlx.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from likely.engine.base.statistics.estimates import Change, Estimate, compare, ratio, share

CHANGED = 3 * math.log(2)  # nats of regret: more than the answers of one model differ by at 8 and at 6 bits a weight
HALF = 0.5  # of what rows cost before: a training that left them more has hardly begun
WORDS, TEXTS, PAIRS = "words", "texts", "pairs"  # what can be said of rows: see `RowChange.form`


@dataclass(frozen=True, slots=True)
class RowChange:
    """Rows before training and now, paired.

    `form`: words (given back or not), texts (long: only what they cost tells), pairs (ranked or not). `of` is how many
    rows there are, of which `right.n` were looked at.
    """

    of: int
    form: str
    right_before: Estimate
    right: Estimate
    rise: Change  # of the share that is right
    loss_before: Estimate  # a target
    loss: Estimate
    cost: Change  # of a row's mean loss

    @property
    def counts(self) -> tuple[int, int]:
        """Rows that are right, before and now."""
        before, now = (round(e.mean * e.n) for e in (self.right_before, self.right))
        return before, now

    @property
    def learned(self) -> bool:
        """Whether most of the rows are right and cost less than before; of texts the latter, and of pairs, whose chosen
        answers may cost more while they are ranked, the former."""
        cheaper, most = self.cost.estimate.mean < 0, self.right.mean > 0.5
        return {TEXTS: cheaper, PAIRS: most}.get(self.form, cheaper and most)

    @property
    def begun(self) -> bool:
        """Whether rows cost at most half of what they did."""
        return self.loss.mean <= HALF * self.loss_before.mean


def row_change(
    of: int, form: str, before: Sequence[tuple[float, float, int, bool]], now: Sequence[tuple[float, float, int, bool]]
) -> RowChange:
    """The change from scores of the same rows: each the sum of its losses, of their squares, how many, and `right`."""
    right = [[float(row[3]) for row in scores] for scores in (before, now)]
    mean = [[row[0] / row[2] for row in scores] for scores in (before, now)]
    loss_before, loss = (ratio([(row[0], row[2]) for row in scores]) for scores in (before, now))
    return RowChange(
        of, form, share(right[0]), share(right[1]), compare(*right), loss_before, loss, compare(*mean)
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """The answers to a question, before training and now. `wanted` is the row's answer, or "" where there is
    none; `right` whether either gives it. `regret`, nats: by how much the model of before finds the answer of now less
    likely than the words that it would itself say at each of its places; 0 of its own greedy answer."""

    question: str
    wanted: str
    before: str
    now: str
    right: tuple[bool, bool]
    regret: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether the answer of now is another one, and not the same question answered by near ties."""
        return self.regret > CHANGED


@dataclass(frozen=True, slots=True)
class OtherAnswers:
    """Answers to questions that have nothing to do with the rows (`engine.tune.examination`)."""

    replies: tuple[Reply, ...]
    changed: Estimate  # share
    kl: Estimate  # KL(now || before) a token of the answers of before, by answer
    right_before: Estimate  # share
    right: Estimate
    rise: Change  # of the share that is right

    @property
    def count(self) -> int:
        """Answers that changed: the model of before would hardly have given them."""
        return sum(reply.changed for reply in self.replies)

    @property
    def worded(self) -> int:
        """Answers that differ by as much as a letter, those that changed among them."""
        return sum(reply.changed or reply.before != reply.now for reply in self.replies)


@dataclass(frozen=True, slots=True)
class Remedy:
    """Remedy that was tried: a few steps from the start at another rate, and what they left a target of the rows to
    cost, nats."""

    rate: float
    steps: int
    loss: float


@dataclass(frozen=True, slots=True)
class TrainingVerdict:
    """The verdict on a training after `step` steps. `held` are rows that it did not see, those of `--test` or else
    those set aside for validation; `tested` is each of `--test` in words; `trial`: where it has hardly begun."""

    step: int
    trained: RowChange
    held: RowChange | None
    others: OtherAnswers | None
    tested: tuple[Reply, ...] = ()
    trial: Remedy | None = None
