"""Errors and intervals: known values, coverage by enumeration and simulation, and tests' errors of both kinds."""

import math

import numpy as np
import pytest

from engine.evaluate.estimates import (
    bootstrap,
    clustered,
    compare,
    holm,
    mcnemar,
    mean,
    needed,
    paired,
    share,
    student,
    two_sided,
    wilson,
)

SIMULATIONS = 2000


def test_known_values() -> None:
    """Miller's clusters (arXiv:2411.00640), pairs, Wilson's interval of 8 of 10."""
    scores = [float(c) for c in "111100001100"]
    found = clustered(scores, [0] * 4 + [1] * 4 + [2] * 4)
    assert (found.mean, found.df) == (0.5, 2) and found.error == pytest.approx(0.239686, abs=1e-6)
    assert [clustered(scores, [0, *[1] * 11][:n] + [1] * (12 - n)).df for n in (12, 1)] == [1, 1]
    assert mean(scores).error == pytest.approx(0.150756, abs=1e-6)
    a, b = (1, 1, 0, 1, 0, 1, 1, 0, 1, 1), (1, 0, 0, 1, 0, 1, 0, 0, 1, 1)
    change = paired(b, a)
    assert change.mean == pytest.approx(0.2) and change.error == pytest.approx(0.133333, abs=1e-6)
    assert wilson(0.8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    assert needed(1 / 3, 0.03) == 969
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert mcnemar(0, 0) == 1 and mcnemar(1, 5) == pytest.approx(2 * 7 / 64) and mcnemar(3, 3) == 1


def test_p_values_of_student() -> None:
    """P(|T| >= 1) of 1 and 2 degrees of freedom in closed form, the normal limit, and the quantiles the other way."""
    assert two_sided(1, 1) == pytest.approx(0.5)
    assert two_sided(1, 2) == pytest.approx(1 - 1 / math.sqrt(3))
    assert two_sided(1.96, 1e7) == pytest.approx(two_sided(1.96, math.inf), rel=1e-5) == pytest.approx(0.05, abs=1e-5)
    for df in (3, 10, 29, 200):
        assert two_sided(student(df), df) == pytest.approx(0.05, rel=0.02)
    assert two_sided(0, 5) == 1


@pytest.mark.parametrize(("n", "least"), [(20, 0.83), (50, 0.83), (100, 0.83), (500, 0.83)])
def test_wilson_holds_what_it_says_by_enumeration(n: int, least: float) -> None:
    """The share of outcomes whose interval holds p, over a grid of p; it dips near 0 and 1, to 83.9 % at 50 items."""
    k = np.arange(n + 1)
    bounds = np.array([wilson(i / n, n) for i in k])
    log_choose = np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in k])
    p = np.linspace(0.0005, 0.9995, 2000)
    mass = np.exp(log_choose + np.log(p)[:, None] * k + np.log1p(-p)[:, None] * (n - k))
    held = (bounds[:, 0] <= p[:, None]) & (p[:, None] <= bounds[:, 1])
    coverage = (mass * held).sum(axis=1)
    assert 0.94 <= coverage.mean() <= 0.97
    assert least < coverage.min() < 0.95


def coverage(found: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in found]))


@pytest.mark.parametrize("n", [20, 100])
def test_the_interval_of_a_mean_holds(n: int) -> None:
    rows = np.random.default_rng(0).gamma(4, 1, (SIMULATIONS, n))
    assert 0.93 <= coverage([mean(row.tolist()).interval for row in rows], 4) <= 0.97


def test_the_interval_of_a_paired_difference_holds() -> None:
    random = np.random.default_rng(1)
    hard = random.normal(0, 3, (SIMULATIONS, 50))
    before, now = (hard + shift + random.normal(0, 1, hard.shape) for shift in (0, 0.3))
    found = [paired(a.tolist(), b.tolist()) for a, b in zip(before, now, strict=True)]
    assert 0.93 <= coverage([each.interval for each in found], 0.3) <= 0.97
    apart = [mean(a.tolist()).error ** 2 + mean(b.tolist()).error ** 2 for a, b in zip(before, now, strict=True)]
    assert np.mean([each.error for each in found]) < 0.5 * np.mean(np.sqrt(apart))


def in_clusters(seed: int, groups: int) -> tuple[np.ndarray, list[int]]:
    random = np.random.default_rng(seed)
    sizes = [3, 5, 8] * (groups // 3) + [5] * (groups % 3)
    names = [g for g, size in enumerate(sizes) for _ in range(size)]
    common = random.normal(0, 1, (SIMULATIONS, groups))
    return common[:, names] + random.normal(0, 1, (SIMULATIONS, len(names))), names


@pytest.mark.parametrize(("groups", "low"), [(30, 0.93), (60, 0.93), (9, 0.88)])
def test_the_interval_of_clustered_items_holds(groups: int, low: float) -> None:
    """With few clusters it is too narrow: 92 % for 9 of them, by t; and without clusters it would be far off."""
    rows, names = in_clusters(2, groups)
    assert low <= coverage([clustered(row.tolist(), names).interval for row in rows], 0) <= 0.97
    assert coverage([mean(row.tolist()).interval for row in rows], 0) < 0.8


def test_the_interval_of_a_clustered_share_holds() -> None:
    random = np.random.default_rng(3)
    groups, size = 40, 5
    chance = random.beta(2, 2, (SIMULATIONS, groups))
    rows = (random.random((SIMULATIONS, groups, size)) < chance[..., None]).reshape(SIMULATIONS, -1).astype(float)
    names = np.repeat(np.arange(groups), size).tolist()
    assert 0.93 <= coverage([share(row.tolist(), names).interval for row in rows], 0.5) <= 0.97
    assert share([1.0] * 10, list(range(10))).interval[0] == pytest.approx(wilson(1, 10, student(9))[0])


def test_a_paired_test_errs_as_often_as_it_says_and_sees_what_it_should() -> None:
    """Type I at 5 %; power 80 % at the number of items that `needed` names; McNemar, being exact, errs less."""
    random = np.random.default_rng(4)
    n = needed(1.0, 0.25)
    null = random.normal(0, 1, (SIMULATIONS, n))
    zeros = [0.0] * n
    errors = np.mean([compare(zeros, row.tolist()).p < 0.05 for row in null])
    power = np.mean([compare(zeros, (row + 0.25).tolist()).p < 0.05 for row in null])
    assert 0.035 < errors < 0.065 and 0.77 < power < 0.83
    before, now = (random.random((2, SIMULATIONS, 100)) < 0.7).astype(float)
    wrong = np.mean([compare(a.tolist(), b.tolist()).p < 0.05 for a, b in zip(before, now, strict=True)])
    assert 0.005 < wrong < 0.055


def test_a_comparison_says_better_worse_or_not_seen() -> None:
    a, b = [0.0, 1.0, 0.0, 0.0, 1.0] * 20, [1.0, 1.0, 0.0, 0.0, 1.0] * 20
    assert compare(a, b).verdict() == "better" and compare(b, a).verdict() == "worse"
    assert compare(a, b).verdict(larger_is_better=False) == "worse"
    assert compare(a, a).verdict() == "not seen" and compare(a, a).needed is None
    assert compare(a, a).items_to_see(0.1) is None and compare([0.0], [1.0]).items_to_see(0.1) is None
    assert compare(a, b).items_to_see(0.1) == needed(np.std(np.subtract(b, a), ddof=1), 0.1)
    assert compare([0.0, 1.0], [1.0, 1.0]).verdict() == "not seen"
    assert compare([1.0] * 9, [1.5] * 9).verdict() == "better"  # the same difference at every item
    assert compare(a, b, list(range(100))).p < 0.001 and compare(a, b, [0] * 50 + [1] * 50).p > 0.0
    assert compare(a, b).verdict(p=0.2) == "not seen"


def test_the_bootstrap_of_a_median() -> None:
    items = np.random.default_rng(5).normal(3, 2, 200)
    found = bootstrap(items, np.median)
    assert found.mean == np.median(items) and found.interval[0] < 3 < found.interval[1]
    assert found.error == pytest.approx(math.sqrt(math.pi / 2) * 2 / math.sqrt(200), rel=0.3)
    assert bootstrap(items, np.median) == found


def test_one_item_has_a_mean_and_an_error_without_end() -> None:
    found = mean([3.0])
    assert (found.mean, found.error, found.df, found.n) == (3.0, math.inf, 1, 1)
