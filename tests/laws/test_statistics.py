"""Errors and intervals: known values, coverage by enumeration and simulation, and tests' errors of both kinds."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.estimates import (
    Change,
    Estimate,
    bootstrap,
    clustered,
    compare,
    holm,
    incomplete_beta,
    jackknife,
    mcnemar,
    mean,
    needed,
    paired,
    ratio,
    share,
    share_or_mean,
    student,
    two_sided,
    wilson,
)

SIMULATIONS = 2000


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


def test_an_estimate_has_an_interval_by_student_or_its_own_bounds() -> None:
    assert Estimate(3.0, 0.5, 4).interval == pytest.approx((3 - 2.776445 * 0.5, 3 + 2.776445 * 0.5))
    assert Estimate(3.0, 0.5).interval == pytest.approx((3 - 0.979982, 3 + 0.979982))
    assert Estimate(3.0, 0.5, 4, (1.0, 9.0)).interval == (1.0, 9.0)
    assert (Estimate(3.0, 0.5).df, Estimate(3.0, 0.5).n, Estimate(3.0, 0.5).bounds) == (math.inf, 0, None)


def test_a_function_of_an_estimate_has_the_image_of_its_interval() -> None:
    found = Estimate(2.0, 0.5, 4, n=7).map(math.exp, -3.0)
    low, high = Estimate(2.0, 0.5, 4).interval
    assert found == Estimate(math.exp(2), 1.5, 4, (math.exp(low), math.exp(high)), 7)


@pytest.mark.parametrize("values", [[1.0, 4.0], [2.0, 2.0, 5.0], [0.5, -1.0, 3.0, 8.0]])
def test_a_mean_and_a_paired_mean_are_numpys(values: list[float]) -> None:
    found, n = mean(values), len(values)
    assert found.mean == pytest.approx(np.mean(values)) and (found.df, found.n) == (n - 1, n)
    assert found.error == pytest.approx(np.std(values, ddof=1) / math.sqrt(n))
    assert paired([1.0] * n, [value + 1 for value in values]) == found
    assert mean([]).n == 0 and math.isnan(mean([]).error)


ROWS = [([1.0, 2.0, 4.0], "a"), ([3.0], "b"), ([0.0, 5.0], "c"), ([2.0, 2.0, 1.0, 7.0], "d")]


def test_a_ratio_s_error_is_that_of_leaving_out_a_row() -> None:
    rows = [row for row, _ in ROWS]
    found = ratio([(sum(row), len(row)) for row in rows])
    left = [np.mean(np.concatenate(rows[:i] + rows[i + 1 :])) for i in range(4)]
    assert found.mean == pytest.approx(np.mean(np.concatenate(rows))) and found.n == 10
    assert found.error == pytest.approx(math.sqrt(3 / 4 * sum((each - found.mean) ** 2 for each in left)))
    equal = ratio([(2.0, 2), (5.0, 2), (6.0, 2)])
    assert equal.df == pytest.approx(2) and equal.error == pytest.approx(np.std([1.0, 2.5, 3.0], ddof=1) / math.sqrt(3))


def test_a_ratio_of_one_row_has_no_interval() -> None:
    one = ratio([(6.0, 3), (0.0, 0)])
    assert (one.mean, one.error, one.n) == (2.0, math.inf, 3) and one.interval == (-math.inf, math.inf)
    assert all(
        math.isnan(each.mean) and math.isnan(each.error) and not each.n for each in (ratio([]), ratio([(0.0, 0)]))
    )


def held(seed: int, sizes: np.ndarray, spread: float) -> float:
    """How often the interval holds the mean of tokens whose surprisals are gamma of shape 0.4, in rows of these sizes
    [worlds, rows] whose means are log-normal about it."""
    random = np.random.default_rng(seed)
    means = 2.5 * np.exp(random.normal(-(spread**2) / 2, spread, sizes.shape))
    totals = random.gamma(0.4 * sizes) * means / 0.4
    found = [
        ratio(list(zip(each.tolist(), size.tolist(), strict=True))) for each, size in zip(totals, sizes, strict=True)
    ]
    return coverage([each.interval for each in found], 2.5)


def test_the_interval_of_a_ratio_holds_for_few_rows() -> None:
    """Rows of 12 to 64 tokens; as many of a text where the sizes are the same in every world."""
    for rows in (2, 4, 10):
        sizes = np.tile(np.geomspace(12, 64, rows).astype(int), (SIMULATIONS, 1))
        assert 0.93 <= held(rows, sizes, 0.25) <= 0.97, rows


@pytest.mark.slow(40)
@pytest.mark.parametrize("rows", [2, 3, 4, 6, 10, 30])
@pytest.mark.parametrize(("middle", "wide"), [(40, 0.0), (27, 0.6), (55, 1.0)], ids=["equal", "chat", "texts"])
def test_the_interval_of_a_ratio_holds_for_rows_of_random_sizes(rows: int, middle: float, wide: float) -> None:
    """Sizes are log-normal from 4 tokens on; 95% is the most where the rows' means are very skew."""
    random = np.random.default_rng(100 + rows)  # not those of the means: sizes tell nothing of them
    sizes = np.clip(middle * np.exp(random.normal(0, wide, (2 * SIMULATIONS, rows))), 4, 2048).astype(int)
    found = [held(rows, sizes, spread) for spread in (0.2, 0.25, 0.8)]
    assert all(0.93 <= each <= 0.97 for each in found[:2])
    assert 0.84 <= found[2] <= 0.95


def test_clustered_items_are_left_out_a_cluster_at_a_time() -> None:
    """The error from the means without each cluster; the degrees of freedom from the traces of the matrix whose
    quadratic form in the clusters' means the squared error is, these having variances as 1 / size."""
    values = [value for row, _ in ROWS for value in row]
    names = [name for row, name in ROWS for _ in row]
    found = clustered(values, names)
    left = [np.mean([v for v, name in zip(values, names, strict=True) if name != out]) for _, out in ROWS]
    assert found.mean == np.mean(values) and found.n == 10
    assert found.error == pytest.approx(math.sqrt(3 / 4 * sum((each - found.mean) ** 2 for each in left)))
    sizes = np.array([len(row) for row, _ in ROWS])
    share = sizes / sizes.sum()
    away = np.eye(4) - np.outer(np.ones(4), share)
    form = away.T @ np.diag((share / (1 - share)) ** 2) @ away @ np.diag(1 / sizes)
    assert found.df == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))
    assert clustered([1.0, 2.0, 4.0, 8.0], list("aabb")).df == pytest.approx(1)
    assert clustered(list(range(12)), [i // 3 for i in range(12)]).df == pytest.approx(3)  # of one size
    one = clustered([1.0, 2.0], ["a", "a"])
    assert (one.mean, one.error, one.df, one.n) == (1.5, math.inf, 1, 2)
    with pytest.raises(ValueError):
        clustered([1.0], [])


def test_a_share_has_wilson_s_interval_of_as_many_items_as_its_error_is_worth() -> None:
    plain = share([1.0, 0.0, 1.0, 1.0])
    assert (plain.mean, plain.error, plain.df, plain.n) == (0.75, 0.25, 3, 4)
    assert plain.interval == wilson(0.75, 4)
    assert share([]).interval == (0, 1) and math.isnan(share([]).mean)
    alone = share([1.0], ["a"])
    assert alone.interval == wilson(1, 1) and (alone.error, alone.df, alone.n) == (math.inf, 1, 1)
    values, names = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0], list("aabbcd")
    found, spread = share(values, names), clustered(values, names)
    assert (found.mean, found.error, found.df, found.n) == (0.5, spread.error, spread.df, 6)
    assert found.interval == wilson(0.5, 0.25 / spread.error**2, student(spread.df)) and 0.25 / spread.error**2 < 6
    apart = [1.0, 0.0, 1.0, 0.0, 1.0]  # clusters that are worth more than their items: no more than these
    assert clustered(apart, list("aabbb")).error < math.sqrt(0.24 / 5)
    assert share(apart, list("aabbb")).interval == wilson(0.6, 5, student(clustered(apart, list("aabbb")).df))
    for value in (0.0, 1.0):  # no error to go by: as many as there are clusters
        assert share([value] * 6, list("aabbcc")).interval == pytest.approx(wilson(value, 3, student(2)))
    assert share([1.0, 0.0], ["a", "a"]).interval == wilson(0.5, 1, student(1))
    assert share([1.0, 0.0], ["a", "b"]).interval == pytest.approx(wilson(0.5, 0.25 / 0.25, student(1)))


def test_what_is_not_all_or_nothing_is_a_mean() -> None:
    assert share_or_mean([1.0, 0.0, 1.0]) == share([1.0, 0.0, 1.0]) != mean([1.0, 0.0, 1.0])
    assert share_or_mean([1.0, 0.5, 1.0]) == mean([1.0, 0.5, 1.0])
    assert share_or_mean([1.0, 0.0, 1.0], list("aab")) == share([1.0, 0.0, 1.0], list("aab"))
    assert share_or_mean([1.0, 0.5, 1.0], list("aab")) == clustered([1.0, 0.5, 1.0], list("aab"))


@pytest.mark.parametrize(("p", "n", "z"), [(0.3, 7, 1.5), (0.0, 5, 2.0), (1.0, 2.5, 1.0), (0.9, 40, 3.0)])
def test_wilson_s_bounds_are_the_roots_of_his_equation(p: float, n: float, z: float) -> None:
    for bound, other in zip(wilson(p, n, z), (min, max), strict=True):
        assert (p - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / n, abs=1e-12)
        assert other(bound, p) == bound
    assert wilson(p, n) == wilson(p, n, 1.959963984540054) and wilson(p, 0) == (0.0, 1.0)
    assert wilson(1e-17, 3, 2)[0] >= 0 and wilson(1.0, 3, 2)[1] <= 1


class Told:
    """A statistic that keeps what it was given."""

    def __init__(self, of: Callable[[np.ndarray], float]) -> None:
        self.of, self.given = of, []  # type: ignore[var-annotated]

    def __call__(self, rows: np.ndarray) -> float:
        self.given.append(rows)
        return self.of(rows)


@pytest.mark.parametrize("clusters", [None, list("aabbbc")])
def test_the_bootstrap_resamples_items_or_whole_clusters(clusters: list[str] | None) -> None:
    items = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    told = Told(lambda rows: float(rows.sum() + rows.max()))
    found = bootstrap(items, told, clusters, samples=400, seed=3)
    drawn = np.array([told.of(rows) for rows in told.given[:-1]])
    assert len(drawn) == 400 and (told.given[-1] == items).all() and (found.mean, found.n) == (95.0, 6)
    assert found.error == pytest.approx(np.std(drawn, ddof=1), rel=1e-12) and found.df == math.inf
    assert found.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), rel=1e-12)
    groups = [[1.0, 2.0], [4.0, 8.0, 16.0], [32.0]] if clusters else [[item] for item in items.tolist()]
    counted = np.zeros(len(groups))
    for rows in told.given[:-1]:
        left, taken = rows.tolist(), 0
        for number, group in enumerate(groups):
            copies = left.count(group[0])
            assert all(left.count(item) == copies for item in group)
            counted[number] += copies
            taken += copies
        assert taken == len(groups)  # as many as there are
    assert (np.abs(counted / 400 - 1) < 5 / math.sqrt(400)).all() and len(set(drawn.tolist())) > 5
    assert bootstrap(items, told.of, clusters, samples=400) != found


def test_the_jackknife_leaves_out_each_item_once_in_equal_groups() -> None:
    told = Told(lambda numbers: float((numbers**2).sum() / len(numbers)))
    found = jackknife(23, told, 5, seed=2)
    whole, *left = told.given
    assert whole.tolist() == list(range(23)) and len(left) == 5
    out = [sorted(set(range(23)) - set(rows.tolist())) for rows in left]
    assert sorted(number for each in out for number in each) == list(range(23))
    assert sorted(map(len, out)) == [4, 4, 5, 5, 5] and any(b - a != 1 for each in out for a, b in pairwise(each))
    assert all(rows.tolist() == sorted(rows.tolist()) for rows in left)
    values = np.array([told.of(rows) for rows in left])
    assert found.mean == told.of(whole) and (found.df, found.n) == (4, 23)
    assert found.error == pytest.approx(math.sqrt(4 / 5 * ((values - values.mean()) ** 2).sum()))
    assert jackknife(40, told.of).df == 9 and jackknife(3, told.of).df == 2
    plain = jackknife(6, lambda numbers: float(np.mean(numbers)))  # of a mean it is the plain standard error
    assert plain.error == pytest.approx(mean(list(range(6))).error)
    one = jackknife(1, lambda numbers: 7.0)
    assert (one.mean, one.error, one.df, one.n) == (7.0, math.inf, 1, 1)


def test_a_change_says_how_many_items_would_show_it() -> None:
    change = Change(Estimate(0.5, 0.2, 24, n=25), 0.02)
    assert change.needed == change.items_to_see(0.5) == needed(1.0, 0.5) == 32
    assert change.items_to_see(-0.5) == 32 and change.items_to_see(0.0) is None
    assert Change(Estimate(0.0, 0.2, n=25), 1.0).needed is None and Change(Estimate(0.5, 0.0, n=9), 0.0).needed is None
    assert Change(Estimate(0.5, math.inf, n=1), 1.0).needed is None


@pytest.mark.parametrize(("p", "said"), [(0.0499, "better"), (0.05, "not seen"), (math.nan, "not seen")])
def test_a_verdict_is_given_below_five_percent(p: float, said: str) -> None:
    assert Change(Estimate(0.1, 0.1), p).verdict() == said == Change(Estimate(0.1, 0.1), 0.5).verdict(p)
    worse = said.replace("better", "worse")
    assert Change(Estimate(-0.1, 0.1), p).verdict() == Change(Estimate(0.1, 0.1), p).verdict(better="lower")
    assert Change(Estimate(-0.1, 0.1), p).verdict() == worse
    assert Change(Estimate(-0.1, 0.1), p).verdict(better="lower") == said
    assert Change(Estimate(0.1, 0.1), 0.01).verdict(0.0) == "better"


def test_a_comparison_s_test_is_exact_for_what_is_all_or_nothing_and_independent() -> None:
    before, now = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    assert compare(before, now).p == pytest.approx(2 * (1 + 4) / 16)
    plain = paired(before, now)
    assert compare(before, now).estimate == replace(plain, bounds=compare(before, now).estimate.bounds)
    assert compare(before, before).p == 1
    for changes in ([1.0, 1.0, 1.0, -0.5, 0.5, 0.0], [0.1, 0.9, 0.4, 0.7, 0.2, 0.3], [1.0, 2.0, 1.5, 1.0, 3.0, -0.1]):
        of, total = mean(changes), abs(sum(changes)) - 1e-12  # not all or nothing: Student's, or all choices of signs
        signs = [abs(sum(s * x for s, x in zip(each, changes, strict=True))) for each in product((-1, 1), repeat=6)]
        both = two_sided(of.mean / of.error, 5), sum(each >= total for each in signs) / 64
        found = compare([0.25] * 6, [0.25 + x for x in changes])
        assert found.p == pytest.approx(max(both)) and found.estimate.error == pytest.approx(of.error)
        assert compare([0.25 + x for x in changes], [0.25] * 6).p == pytest.approx(found.p)
        twice = compare([0.25] * 12, [0.25 + x for x in changes * 2], list("abcdef" * 2))  # two alike in each cluster
        assert (twice.p, twice.estimate.error) == pytest.approx((found.p, of.error))
    assert compare([0.5], [1.5]).p == 1 and compare([0.0, 0.0], [0.0, 0.0], list("ab")).p == 1
    with pytest.raises(ValueError):
        compare([0.5], [1.5, 2.0])


def test_the_number_of_items_is_that_of_the_normal_law() -> None:
    for spread, difference, power, quantile in ((1.0, 0.1, 0.8, 0.841621), (3.0, 0.7, 0.9, 1.281552)):
        exact = ((1.959964 + quantile) * spread / difference) ** 2
        assert needed(spread, difference, power) == math.ceil(exact)
    assert needed(2.0, 0.3) == needed(2.0, 0.3, 0.8) and needed(1e-3, 1.0) == 2 and needed(0.61, 1.0) == 3


@pytest.mark.parametrize(
    ("won", "lost"), [(0, 0), (0, 1), (1, 0), (2, 7), (7, 2), (5, 5), (5, 6), (40, 60), (900, 1000)]
)
def test_mcnemar_s_test_is_the_binomial_s_tail_twice(won: int, lost: int) -> None:
    n = won + lost
    tail = sum(math.comb(n, k) for k in range(min(won, lost) + 1))
    assert mcnemar(won, lost) == pytest.approx(min(1.0, 2 * tail / 2**n), rel=1e-9)
    assert mcnemar(won, lost) <= 1


def test_holm_s_correction_never_falls_and_keeps_the_order() -> None:
    assert holm([]) == [] and holm([0.03]) == [0.03] and holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([0.02, 0.01, 0.015, 0.5]) == pytest.approx([0.045, 0.04, 0.045, 0.5])


@pytest.mark.parametrize(("a", "b"), [(1, 1), (2, 3), (5, 2), (30, 70), (200, 3), (1, 400)])
def test_the_incomplete_beta_function_is_a_binomial_s_tail(a: int, b: int) -> None:
    n = a + b - 1
    for x in (0.001, 0.2, 0.31, 0.5, 0.75, 0.999):
        tail = math.fsum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(a, n + 1))
        assert incomplete_beta(a, b, x) == pytest.approx(tail, rel=1e-11, abs=1e-14)
    for x, value in ((-1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1.5, 1.0)):
        assert incomplete_beta(a, b, x) == value


def test_the_incomplete_beta_function_of_halves_is_an_arc_sine() -> None:
    for x in (1e-6, 0.1, 0.49, 0.5, 0.51, 0.97):
        assert incomplete_beta(0.5, 0.5, x) == pytest.approx(2 / math.pi * math.asin(math.sqrt(x)), rel=1e-11)
        assert incomplete_beta(2.5, 0.5, x) + incomplete_beta(0.5, 2.5, 1 - x) == pytest.approx(1)


def test_student_s_quantiles_are_those_of_the_tables() -> None:
    tables = (
        (1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (10, 2.2281), (30, 2.0423), (120, 1.9799),
    )  # fmt: skip
    for df, table in (*tables, (math.inf, 1.95996)):
        assert student(df) == pytest.approx(table, abs=5e-5)
    for df in (1.3, 2.5, 77.7):
        assert two_sided(student(df), df) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("clusters", [None, ["a", "a", "b"]])
def test_nan_is_not_compared(clusters: list[str] | None) -> None:
    for before, now in (([1.0, math.nan, 2.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [1.0, math.nan, 2.0])):
        with pytest.raises(ParameterError, match="item 2 is NaN"):
            compare(before, now, clusters)
    same = [1.0, -math.inf, 2.0]
    assert (compare(same, same, clusters).estimate.mean, compare(same, same, clusters).p) == (0.0, 1.0)
