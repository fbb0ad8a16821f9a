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
    """Three clusters of one size, whose means are 1, 0 and 1/2; pairs, Wilson's interval of 8 of 10."""
    scores = [float(c) for c in "111100001100"]
    found = clustered(scores, [0] * 4 + [1] * 4 + [2] * 4)
    assert (found.mean, found.df) == pytest.approx((0.5, 2)) and found.error == pytest.approx(0.5 / math.sqrt(3))
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


@pytest.mark.parametrize("groups", [6, 9, 30])
def test_the_interval_of_clustered_items_holds(groups: int) -> None:
    """With few clusters too; and without clusters it would be far off."""
    rows, names = in_clusters(2, groups)
    assert 0.94 <= coverage([clustered(row.tolist(), names).interval for row in rows], 0) <= 0.97
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
    assert compare(a, b).verdict(better="lower") == "worse"
    assert compare(a, a).verdict() == "not seen" and compare(a, a).needed is None
    assert compare(a, a).items_to_see(0.1) is None and compare([0.0], [1.0]).items_to_see(0.1) is None
    assert compare(a, b).items_to_see(0.1) == needed(np.std(np.subtract(b, a), ddof=1), 0.1)
    assert compare([0.0, 1.0], [1.0, 1.0]).verdict() == "too few to tell"
    assert compare([1.0] * 9, [1.5] * 9).verdict() == "better"  # the same difference at every item
    assert compare(a, b, list(range(100))).p < 0.001 and compare(a, b, [0] * 50 + [1] * 50).p > 0.0
    assert compare(a, b).verdict(p=0.2) == "not seen"


def outcomes(clusters: int) -> list[tuple[int, int, int]]:
    """How many of so many clusters may have one item more, one fewer, and as many right."""
    return [(a, b, clusters - a - b) for a in range(clusters + 1) for b in range(clusters - a + 1)]


def chance(counts: tuple[int, ...], p: tuple[float, ...]) -> float:
    """The multinomial's, exactly but for rounding."""
    ways = math.factorial(sum(counts)) // math.prod(map(math.factorial, counts))
    return ways * math.prod(x**k for x, k in zip(p, counts, strict=True))


@pytest.mark.parametrize(("clusters", "most"), [(2, 0), (3, 0), (5, 0), (6, 0.05), (9, 0.05), (14, 0.05), (20, 0.06)])
def test_clusters_without_a_true_difference_are_called_different_one_time_in_twenty(clusters: int, most: float) -> None:
    """By every outcome: clusters of two items, 0 or 1, of which one changes with a chance, to either side alike. Fewer
    than six cannot tell, be they all on one side."""
    names, told = [g for g in range(clusters) for _ in range(2)], {}
    for risen, fallen, same in outcomes(clusters):
        before, now = [0.0, 0.0] * risen + [1.0, 1.0] * fallen + [0.0, 1.0] * same, [1.0, 0.0] * (risen + fallen)
        found = compare(before, [*now, *[0.0, 1.0] * same], names)
        told[risen, fallen, same] = found.verdict()
        low, high = found.estimate.interval
        assert found.p > 0 and (found.p >= 0.05 or clusters >= 6)
        assert math.isinf(high) or (low <= 0 <= high) == (found.p >= 0.05)
    assert clusters >= 6 or set(told.values()) == {"too few to tell"}
    assert clusters < 6 or (told[clusters, 0, 0], told[0, clusters, 0]) == ("better", "worse")
    for moved in (0.05, 0.2, 0.5, 0.7, 0.9, 1.0):
        p = (moved / 2, moved / 2, 1 - moved)
        assert sum(chance(each, p) for each in told if told[each] in ("better", "worse")) <= most


@pytest.mark.parametrize("n", [8, 20, 50])
def test_the_interval_of_pairs_agrees_with_the_exact_test_and_holds(n: int) -> None:
    """By every outcome of n pairs: it has 0 in it where McNemar's exact p, from binomial coefficients, is 5 % or more;
    and over laws of won and lost it holds 95 % in the mean and 94 % at the least."""
    spans = {}
    for won, lost, same in outcomes(n):
        before, now = [0.0] * won + [1.0] * lost + [1.0] * same, [1.0] * won + [0.0] * lost + [1.0] * same
        found = compare(before, now)
        p = min(1.0, 2 * sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost))
        low, high = spans[won, lost, same] = found.estimate.interval
        assert found.p == pytest.approx(p) and (low <= 0 <= high) == (p >= 0.05)
        assert -1 <= low <= (won - lost) / n <= high <= 1
    grid = [(a, b) for a in (0.02, 0.1, 0.25, 0.4, 0.6) for b in (0.02, 0.1, 0.25, 0.4) if a + b < 1]
    held = [
        sum(chance(each, (a, b, 1 - a - b)) for each, (low, high) in spans.items() if low <= a - b <= high)
        for a, b in grid
    ]
    assert 0.945 <= np.mean(held) <= 0.985 and min(held) > 0.94


def test_differences_that_do_not_vary_are_no_certainty() -> None:
    """The same difference everywhere: p is that of all signs being one, 2 / 2^n, and no interval is made of it."""
    for n, verdict in ((2, "too few to tell"), (5, "too few to tell"), (6, "better"), (40, "better")):
        for before, now in ((0.0, 0.3), (0.1, 0.4), (0.1 + 0.2, 0.6)):
            found = compare([before] * n, [now] * n)
            assert found.p == 2.0 ** (1 - n) and found.verdict() == verdict and math.isinf(found.estimate.error)
            twice = compare([before] * 2 * n, [now] * 2 * n, [i // 2 for i in range(2 * n)])
            assert (twice.p, twice.verdict()) == (found.p, verdict) and math.isinf(twice.estimate.error)


def test_the_bootstrap_of_a_median() -> None:
    items = np.random.default_rng(5).normal(3, 2, 200)
    found = bootstrap(items, np.median)
    assert found.mean == np.median(items) and found.interval[0] < 3 < found.interval[1]
    assert found.error == pytest.approx(math.sqrt(math.pi / 2) * 2 / math.sqrt(200), rel=0.3)
    assert bootstrap(items, np.median) == found


def test_one_item_has_a_mean_and_an_error_without_end() -> None:
    found = mean([3.0])
    assert (found.mean, found.error, found.df, found.n) == (3.0, math.inf, 1, 1)
