"""Collapse: frequencies retrained on their own samples follow Wright and Fisher; what accumulates does not collapse."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from likely.engine.base.statistics.estimates import jackknife
from likely.engine.measure.synth.collapse import Frequencies, diversity, generations, kept_share

N, T, P = 50, 10, (0.5, 0.3, 0.2)
REAL = [kind for kind, share in zip("abc", P, strict=True) for _ in range(int(N * share))]


def drifted(way: str, runs: int = 300, count: int = T) -> tuple[np.ndarray, float]:
    """The diversity of the last generation over runs, and what is expected of it."""
    found, expected = [], 0.0
    for run in range(runs):
        *_, last = generations(REAL, Frequencies[str](), count, way, str, seed=1000 * run)
        found.append(last.diversity.mean)
        expected = last.expected
    return np.array(found), expected


@pytest.mark.slow(2)
def test_replacing_loses_diversity_at_wright_and_fishers_rate() -> None:
    found, expected = drifted("replace")
    assert diversity(REAL) == pytest.approx(0.62) and expected == pytest.approx(0.506585, abs=1e-6)
    assert abs(found.mean() - expected) <= 4 * found.std(ddof=1) / math.sqrt(len(found))
    assert expected < 0.9 * 0.62  # a law that stood still would be seen


@pytest.mark.slow
def test_accumulating_loses_as_much_as_it_should_and_no_more() -> None:
    found, expected = drifted("accumulate")
    assert abs(found.mean() - expected) <= 4 * found.std(ddof=1) / math.sqrt(len(found))
    assert expected == pytest.approx(0.62 * math.prod(1 - 1 / (N * (k + 1) ** 2) for k in range(1, T + 1)))
    # over however many generations more than this is left: the sum of 1 / k^2 from 2 on is pi^2 / 6 - 1
    endless = math.prod(kept_share(k, N, N, "accumulate") for k in range(1, 10_000))
    assert endless >= 1 - (math.pi**2 / 6 - 1) / N > 0.98


def test_replacing_ends_at_one_kind() -> None:
    *_, last = generations(REAL, Frequencies[str](), 600, "replace", str)
    assert last.kinds == 1 and last.diversity.mean == 0 and last.expected < 1e-5
    *_, last = generations(REAL, Frequencies[str](), 60, "accumulate", str)
    assert last.kinds == 3 and last.rows == 61 * N


class Copycat:
    """A learner that only says the commonest row."""

    def fit(self, rows: Sequence[Any]) -> None:
        self.row = max(set(rows), key=list(rows).count)

    def draw(self, n: int, seed: int) -> list[Any]:
        return [self.row] * n


def test_a_learner_that_loses_more_is_below_what_is_expected() -> None:
    first, second = generations(REAL, Copycat(), 1, "replace", str, n=20)
    assert first.kinds == 3 and first.diversity.mean == first.expected == pytest.approx(0.62)
    assert second.rows == 20 and second.diversity.mean == 0 < second.expected == pytest.approx(0.62 * 0.95)


def test_what_is_left_of_diversity_is_what_drift_leaves() -> None:
    assert diversity("aabc") == pytest.approx(1 - (4 + 1 + 1) / 16) and diversity("") == 0
    assert kept_share(3, 10, 20, "replace") == 0.9
    assert kept_share(3, 10, 20, "accumulate") == pytest.approx(1 - 10 / 50**2)
    for way, sizes in (("replace", [4, 3, 3]), ("accumulate", [4, 7, 10])):
        found = list(generations(list("abcd"), Copycat(), 2, way, str, n=3, seed=5))
        assert [each.rows for each in found] == sizes and [each.number for each in found] == [0, 1, 2]
        assert found[0].expected == found[0].diversity.mean == 0.75
        assert found[0].diversity == jackknife(4, lambda kept: 1 - 1 / len(kept))
        expected = [0.75 * kept_share(1, 3, 4, way), 0.75 * kept_share(1, 3, 4, way) * kept_share(2, 3, 4, way)]
        assert [each.expected for each in found[1:]] == pytest.approx(expected)
        assert [each.kinds for each in found] == ([4, 1, 1] if way == "replace" else [4, 4, 4])
    (learner := Frequencies[str]()).fit(list("xyz"))
    assert learner.draw(6, 2) == [list("xyz")[i] for i in np.random.default_rng(2).integers(0, 3, 6)]
