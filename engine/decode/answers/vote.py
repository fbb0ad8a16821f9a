"""Votes of sampled answers: the tally, what wins, whether more answers could change it, and what a vote gains.

Answers are normalised texts, None where a path gave none: that votes for nothing, and counts as a path.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from likely.engine.base.statistics.estimates import wilson
from likely.engine.sampling.transforms import uniform


def tally(answers: Sequence[str | None], weights: Sequence[float] | None = None) -> dict[str, float]:
    """The weight of each answer, the heaviest first."""
    votes: Counter[str] = Counter()
    for answer, weight in zip(answers, weights if weights is not None else [1.0] * len(answers), strict=True):
        if answer is not None:
            votes[answer] += weight  # type: ignore[assignment]
    return dict(sorted(votes.items(), key=lambda vote: -vote[1]))


def winner(votes: Mapping[str, float], seed: int = 0) -> str | None:
    """The heaviest; among equals one at random, by the seed: the first that came would be favoured without a reason."""
    most = max(votes.values(), default=0.0)
    tied = sorted(answer for answer, weight in votes.items() if weight == most)
    return tied[int(uniform((seed, 0), "tie") * len(tied))] if tied else None


def changes(first: int, second: int, others: int) -> float:
    """The probability that the second of two answers overtakes the first, or draws level, in `others` more votes.

    Of those two alone, whose shares have the law Beta(first + 1, second + 1): the votes to come are beta-binomial.
    """
    ahead, log = first - second, math.lgamma
    total = 0.0
    for k in range(others + 1):  # votes for the second
        if 2 * k - others < ahead:
            continue
        a, b = second + 1 + k, first + 1 + others - k
        ways = log(others + 1) - log(k + 1) - log(others - k + 1)
        rise = log(a) + log(b) - log(a + b) - (log(second + 1) + log(first + 1) - log(first + second + 2))
        total += math.exp(ways + rise)
    return min(total, 1.0)


def decided(answers: Sequence[str | None], n: int, confidence: float = 0.95) -> bool:
    """Whether the votes so far, of n in all, leave the first answer its place with that probability."""
    counts = sorted(Counter(answer for answer in answers if answer is not None).values(), reverse=True)
    if not counts:
        return False
    return changes(counts[0], counts[1] if len(counts) > 1 else 0, n - len(answers)) <= 1 - confidence


def interval(count: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share, 95 %: (0, 1) where nothing was counted."""
    return wilson(count / n, n) if n else (0.0, 1.0)


def pass_at(k: int, right: int, n: int) -> float:
    """An unbiased estimate of the probability that one of k answers is right, from n of which some are (n >= k)."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def maj_at(k: int, answers: Sequence[str | None], right: str) -> float:
    """The probability that a vote of k of these answers, taken without replacement, is won by the right one, exactly;
    an answer that ties counts for its share.

    Each answer is taken by a coin of probability k / n, given that k are: counts of different answers are independent
    then. For each count that could win, a table over the others' votes together [k + 1] and how many of them tie.
    """
    n, chance = len(answers), k / len(answers)
    counts = Counter(answers)
    silent, won = counts.pop(None, 0), counts.pop(right, 0)  # type: ignore[call-overload]

    def law(of: int) -> list[float]:
        """Of how many of so many equal answers are taken."""
        return [math.comb(of, j) * chance**j * (1 - chance) ** (of - j) for j in range(of + 1)]

    others, nothing, mine = [law(count) for count in counts.values()], law(silent), law(won)
    total = 0.0
    for most in range(1, min(won, k) + 1):
        table = np.zeros((k - most + 1, k // most))  # votes of others, and how many of them have `most`
        table[0, 0] = 1.0
        for other in others:
            before, table = table, np.zeros_like(table)
            for j, p in enumerate(other[: min(most, k - most + 1)]):
                table[j:] += p * before[: len(before) - j]
            if most < len(other) and most <= k - most:
                table[most:, 1:] += other[most] * before[:-most, :-1]
        rest = np.array(
            [nothing[remaining] if remaining < len(nothing) else 0.0 for remaining in range(k - most, -1, -1)]
        )
        total += mine[most] * float(rest @ table @ (1 / np.arange(1, table.shape[1] + 1)))
    return min(1.0, total / law(n)[k])
