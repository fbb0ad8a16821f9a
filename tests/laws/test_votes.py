"""Votes and scorers, against fractions, enumeration and numbers by hand."""

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest

from likely.engine.decode.answers.vote import changes, decided, maj_at, pass_at, winner
from likely.engine.measure.reason import scorers
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep


def step(p: list[float], token: int = 0) -> TokenStep:
    with np.errstate(divide="ignore"):
        return observe(np.log(np.array(p, np.float32)), token, recipe=SamplingConfig(), position=0)


def beta(a: int, b: int) -> Fraction:
    return Fraction(math.factorial(a - 1) * math.factorial(b - 1), math.factorial(a + b - 1))


def test_a_change_has_the_probability_that_fractions_give() -> None:
    for (first, second), others in product([(0, 0), (1, 0), (3, 1), (5, 5), (4, 2), (2, 4)], range(6)):
        exact = sum(
            (
                math.comb(others, k) * beta(second + 1 + k, first + 1 + others - k) / beta(second + 1, first + 1)
                for k in range(others + 1)
                if second + k >= first + others - k
            ),
            Fraction(0),
        )
        assert changes(first, second, others) == pytest.approx(float(exact), rel=1e-12)
        assert changes(first, second, others) <= 1


def test_a_vote_is_decided_from_its_confidence_on() -> None:
    """One vote against none, one to come: it draws level with probability a third."""
    assert decided(["a"], 2, 0.66) and not decided(["a"], 2, 0.67)
    assert decided(["a", None], 3, 0.66) and not decided(["a", None], 3, 0.67)  # who says nothing has voted
    assert decided(["a", "b", "a", "b", "a"], 5) and not decided(["a", "b"], 2)
    assert decided(["a", "b", "c", "b", "b"], 6) == (changes(3, 1, 1) <= 0.05)
    assert decided(["a"] * 5, 5, 1.0)
    assert not decided([], 3) and not decided([None, None], 2)
    leads = [decided(["a"] * n, 8) for n in range(1, 9)]
    assert leads == [changes(n, 0, 8 - n) <= 1 - 0.95 for n in range(1, 9)] and True in leads[:4] and not leads[0]


def test_the_same_seed_breaks_a_tie_the_same_way() -> None:
    tied = {"b": 2.0, "a": 2.0, "c": 1.0}
    for votes in (tied, dict(reversed(tied.items()))):
        assert "".join(str(winner(votes, seed)) for seed in range(16)) == "baaaabbaaabaabbb"
    assert winner(tied) == winner(tied, 0) and winner({"x": 0.5}) == "x" and winner({}) is None


def test_one_of_some_is_right_as_often_as_subsets_say() -> None:
    for n, right in ((5, 0), (5, 2), (6, 5), (4, 4)):
        for k in range(1, n + 1):
            subsets = list(combinations(range(n), k))
            share = sum(any(i < right for i in each) for each in subsets) / len(subsets)
            assert pass_at(k, right, n) == pytest.approx(share, abs=1e-12)


ANSWERS: list[list[str | None]] = [
    ["r", "r", "r", "b", "b", None, "c", "r", "b", "c"], ["r", "w", None, "r", "v", "w"], ["w", None, "w"],
    [None, None, "r"], ["r", "a", "b", "c", "d", "e"], ["r", "r", "a", "a", "b", "b"], ["r"], [None],
]  # fmt: skip


@pytest.mark.parametrize("answers", ANSWERS)
def test_a_majority_of_some_is_that_of_all_subsets(answers: list[str | None]) -> None:
    """Every k, by every subset; who says nothing votes for nothing, and equals have their share."""
    for k in range(1, len(answers) + 1):
        won = []
        for some in combinations(answers, k):
            counts = Counter(answer for answer in some if answer is not None)
            most = [answer for answer, count in counts.items() if count == max(counts.values())]
            won.append(("r" in most) / max(1, len(most)))
        assert maj_at(k, answers, "r") == pytest.approx(sum(won) / len(won), abs=1e-12)
    assert maj_at(1, answers, "r") == pytest.approx(pass_at(1, answers.count("r"), len(answers)), abs=1e-12)


def spread(size: int) -> TokenStep:
    """Token i has a share that falls with i."""
    p = np.arange(size, 0, -1.0)
    return step(list(p / p.sum()))


def test_a_confidence_is_of_the_twenty_likeliest() -> None:
    logs = np.log(np.arange(40, 0, -1.0) / np.arange(41).sum())
    assert scorers.confidences([spread(40)])[0] == pytest.approx(-logs[:20].mean(), abs=1e-5)
    assert scorers.SCORERS["mean"].of([]) == -math.inf  # of a path that says nothing
    assert scorers.confidences([spread(40)], 3)[0] == pytest.approx(-logs[:3].mean(), abs=1e-5)
    assert scorers.SCORERS["confidence"].of([spread(40), spread(4)]) == pytest.approx(
        np.mean([-logs[:20].mean(), -np.log(np.arange(1, 5) / 10).mean()]), abs=1e-5
    )


def test_the_certainty_is_the_divergence_from_the_uniform_distribution() -> None:
    p = np.array([0.5, 0.3, 0.2])
    assert scorers.certainty(step(list(p)).snapshot) == pytest.approx(-np.log(p * 3).mean(), abs=1e-6)  # type: ignore[arg-type]


def test_windows_of_tokens_are_means_that_move_on() -> None:
    """Tokens whose confidences are known; a window of 4 over 7, by numpy's own."""
    steps = [step([p, 1 - p]) for p in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.55)]
    found = scorers.confidences(steps)
    windows = np.lib.stride_tricks.sliding_window_view(found, 4).mean(axis=1)
    assert scorers.groups(steps, 4) == pytest.approx(windows) and len(scorers.groups(steps, 4)) == 4
    assert scorers.groups(steps, 7) == pytest.approx([found.mean()]) and len(scorers.groups(steps, 6)) == 2
    assert scorers.groups(steps) == pytest.approx([found.mean()])
    assert len(scorers.groups(steps * 6)) == 42 - 32 + 1


def test_a_tenth_of_the_groups_is_at_least_one() -> None:
    for tokens, count in ((1, 1), (32, 1), (41, 1), (50, 1), (51, 2), (61, 3)):
        steps = [step([p, 1 - p]) for p in np.random.default_rng(tokens).uniform(0.5, 0.99, tokens)]
        lows = np.sort(scorers.groups(steps))[:count]
        assert scorers.lowest_tenth(steps) == pytest.approx(lows.mean())
        assert scorers.SCORERS["lowest"].of(steps) == pytest.approx(lows[0])
        assert scorers.SCORERS["tail"].of(steps) == pytest.approx(scorers.confidences(steps)[-32:].mean())
