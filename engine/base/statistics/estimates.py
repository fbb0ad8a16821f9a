"""Estimates: a figure with its standard error and interval, from items that need not be independent; comparisons.

Which error is right depends on the items: independent ones, those that come in clusters (questions on one text, tokens
of one window), those that two models answered both, shares near 0 and 1. Does not know which way is better. No mlx.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist

import numpy as np

from likely.engine.base.errors import ParameterError

Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution
TELLING = 6  # items or clusters from which on a difference can be seen: of 5 of one sign, p by signs is 2 / 2**5 = 0.06
TOO_FEW = "too few to tell"  # the verdict of fewer
ENUMERATED = 16  # differences of which all choices of signs are gone through


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error, and the degrees of freedom of that error."""

    mean: float
    error: float
    df: float = math.inf
    bounds: tuple[float, float] | None = None  # of an interval that is not symmetric
    n: int = 0  # items

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, by Student's t where there are no bounds."""
        if self.bounds is not None:
            return self.bounds
        half = student(self.df) * self.error
        return self.mean - half, self.mean + half

    def within(self, least: float, most: float = math.inf) -> "Estimate":
        """The estimate of what is never below `least` nor above `most`: its interval ends there."""
        low, high = self.interval
        return replace(self, bounds=(max(low, least), min(high, most))) if low < least or high > most else self

    def better(self, one: str, other: str) -> str:
        """Of two whose difference this is, how much more `other` pays than `one`, the one that pays less; "" where the
        interval holds 0, and where there is none."""
        low, high = self.interval
        if math.isinf(self.mean):
            return one if self.mean > 0 else other
        return one if low > 0 else other if high < 0 else ""

    def map(self, f: Callable[[float], float], slope: float) -> "Estimate":
        """The estimate of f(mean), f increasing: the interval is the image, the error is by the delta method."""
        low, high = self.interval
        return Estimate(f(self.mean), abs(slope) * self.error, self.df, (f(low), f(high)), self.n)


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent items, such as rows or windows of a text; the error of one alone is infinite."""
    n = len(values)
    if not n:
        return Estimate(math.nan, math.nan)
    middle = math.fsum(values) / n
    if n == 1:
        return Estimate(middle, math.inf, 1, n=1)
    variance = math.fsum((value - middle) ** 2 for value in values) / (n - 1)
    return Estimate(middle, math.sqrt(variance / n), n - 1, n=n)


def paired(before: Sequence[float], now: Sequence[float]) -> Estimate:
    """The mean rise of items from before to now: what all have in common is in neither mean nor error.

    ValueError where they are not the same number.
    """
    return mean([b - a for a, b in zip(before, now, strict=True)])


def ratio(rows: Sequence[tuple[float, int]]) -> Estimate:
    """The mean over all tokens from each row's sum and number of tokens, the rows being clusters (`by_cluster`).

    One row has no interval. By simulation the 95% interval holds 93 to 97% from 2 rows on, where the means of rows have
    a standard deviation of 20 to 25% of the mean. Very skew rows (log-normal means, deviation 80%) are held less often,
    85 to 93%: for them 95% is the most.
    """
    return by_cluster([row for row in rows if row[1]])


def clustered(values: Sequence[float], clusters: Sequence[object]) -> Estimate:
    """The mean of items that come in clusters (`by_cluster`).

    Intervals hold 94 to 97 % from 6 clusters on, of sizes 3 to 8; one that has most of the items makes them wider.
    """
    return by_cluster(grouped(values, clusters))


def by_cluster(totals: Sequence[tuple[float, int]]) -> Estimate:
    """The mean of items from each cluster's sum and number: the error by leaving out one cluster at a time (MacKinnon,
    Nielsen and Webb 2023, CV3), its degrees of freedom by Satterthwaite, where items were independent (Bell and
    McCaffrey 2002): of clusters of one size one less than there are. The error of one cluster is infinite."""
    n, groups = sum(count for _, count in totals), len(totals)
    if not n:
        return Estimate(math.nan, math.nan)
    mean = math.fsum(total for total, _ in totals) / n
    if groups < 2:
        return Estimate(mean, math.inf, 1, n=n)
    sums, counts = (np.array([row[i] for row in totals], np.float64) for i in range(2))
    share = counts / n
    error = math.sqrt((groups - 1) / groups * float(((share * (sums / counts - mean) / (1 - share)) ** 2).sum()))
    weight = (share / (1 - share)) ** 2  # of a cluster's squared residual, whose variance is as 1 / share - 1
    alone = 1 / share - 1
    df = float((weight @ alone) ** 2 / (weight**2 @ (alone**2 - 1) + weight.sum() ** 2))
    return Estimate(mean, error, df, n=n)


def grouped(values: Sequence[float], clusters: Sequence[object]) -> list[tuple[float, int]]:
    """The sum and the number of each cluster's items."""
    members: defaultdict[object, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        members[cluster].append(value)
    return [(math.fsum(group), len(group)) for group in members.values()]


def share(values: Sequence[float], clusters: Sequence[object] | None = None) -> Estimate:
    """A share of items that are 0 or 1, with Wilson's interval (JASA 1927), which holds near 0 and 1 too.

    Items in clusters count for as many independent ones as have the same error.
    """
    n, p = len(values), math.fsum(values) / len(values) if values else math.nan
    plain = mean(values)
    if clusters is None or n < 2:
        return Estimate(p, plain.error, plain.df, wilson(p, n), n)
    return within_share(clustered(values, clusters), len(set(clusters)))


def within_share(estimate: Estimate, least: int) -> Estimate:
    """A share whose error is known, with Wilson's interval of as many independent items as have that error, at most all
    of them; of `least` where there is no error to go by."""
    p, worth = estimate.mean, float(least)
    if 0 < p < 1 and 0 < estimate.error < math.inf:
        worth = min(estimate.n, p * (1 - p) / estimate.error**2)
    return replace(estimate, bounds=wilson(p, worth, student(estimate.df)))


def share_or_mean(values: Sequence[float], clusters: Sequence[object] | None = None) -> Estimate:
    """The `share` of items that are all 0 or 1, the mean of others, clustered where items are."""
    if all(value in (0.0, 1.0) for value in values):
        return share(values, clusters)
    return mean(values) if clusters is None else clustered(values, clusters)


def wilson(p: float, n: float, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a share p of n items; (0, 1) of none."""
    if not n:
        return 0.0, 1.0
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    items: Sequence[float] | np.ndarray,
    statistic: Callable[[np.ndarray], float],
    clusters: Sequence[object] | None = None,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """A statistic of items [n, ...] that is no mean, by resampling them, or whole clusters of them: `statistic` takes
    [n, ...], gives a number.

    The interval is the percentiles' (Efron and Tibshirani 1993, ch. 13).
    """
    rows, random = np.asarray(items, np.float64), np.random.default_rng(seed)
    names = list(range(len(rows))) if clusters is None else list(clusters)
    members: defaultdict[object, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        members[name].append(index)
    groups = [np.array(indices) for indices in members.values()]

    def resampled() -> np.ndarray:
        if clusters is None:
            return random.integers(0, len(rows), len(rows))
        return np.concatenate([groups[i] for i in random.integers(0, len(groups), len(groups))])

    drawn = [float(statistic(rows[resampled()])) for _ in range(samples)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(statistic(rows)), float(np.std(drawn, ddof=1)), bounds=(float(low), float(high)), n=len(rows))


def block_length(n: int) -> int:
    """So many neighbours of n values are resampled together: the cube root of n, the order that is best for the error
    of a mean (Hall, Horowitz and Jing 1995)."""
    return max(1, math.ceil(math.cbrt(n) - 1e-9))


def blockwise(values: Sequence[float], *, samples: int = 2000, seed: int = 0) -> Estimate:
    """The mean of values in a row, of which neighbours are alike, as the tokens of a text are, by the circular block
    bootstrap (Politis and Romano 1992): blocks of `block_length` neighbours, wherever they begin.

    The interval is the percentiles', made wider as Student's t of so many blocks is than the normal law: by simulation
    it holds 82 to 94 % of 40 to 512 log-normal values that have 0 to 0.6 of their neighbour. Infinite where a value is,
    and without an interval where there are fewer than `TELLING` blocks.
    """
    items, n = np.asarray(values, np.float64), len(values)
    if not n or not np.isfinite(items).all():
        return Estimate(sum(values) / n if n else math.nan, math.inf if n else math.nan, n=n)
    size, middle = block_length(n), float(items.mean())
    blocks = math.ceil(n / size)
    if blocks < TELLING:
        return Estimate(middle, math.inf, n=n)
    sums = np.concatenate([items, items[: size - 1]])
    sums = np.convolve(sums, np.ones(size), "valid")  # [n], of the block that begins at each
    drawn = sums[np.random.default_rng(seed).integers(0, n, (samples, blocks))].mean(axis=1) / size
    widen = student(blocks - 1) / Z
    low, high = (middle + (float(bound) - middle) * widen for bound in np.quantile(drawn, [0.025, 0.975]))
    return Estimate(middle, float(drawn.std(ddof=1)), bounds=(min(low, middle), max(high, middle)), n=n)


def jackknife(n: int, statistic: Callable[[np.ndarray], float], groups: int = 10, *, seed: int = 0) -> Estimate:
    """A statistic of n items by their numbers, and its error from leaving out a group of them at a time (Shao and Tu
    1995, sec. 5.1): for what resampling with repetition would spoil, such as distances to neighbours."""
    groups = min(groups, n)
    middle = float(statistic(np.arange(n)))
    if groups < 2:
        return Estimate(middle, math.inf, 1, n=n)
    parts = np.array_split(np.random.default_rng(seed).permutation(n), groups)
    values = np.array([statistic(np.sort(np.concatenate(parts[:i] + parts[i + 1 :]))) for i in range(groups)])
    error = math.sqrt((groups - 1) / groups * float(((values - values.mean()) ** 2).sum()))
    return Estimate(middle, error, groups - 1, n=n)


@dataclass(frozen=True)
class Change:
    """How far one model is above another on the same items, how sure that is, and what it would take to see it."""

    estimate: Estimate
    p: float  # of a difference as large where there is none, two-sided
    groups: int = TELLING  # of what varies by itself: items, or clusters of them

    @property
    def needed(self) -> int | None:
        """Items to see a difference of this size four times in five; None where there is none."""
        return self.items_to_see(self.estimate.mean)

    def items_to_see(self, difference: float) -> int | None:
        """Items that see this difference four times in five, where items vary as these do; None for a difference of 0,
        from a single item, and where they do not vary, which says nothing of those to come."""
        spread = self.estimate.error * math.sqrt(self.estimate.n)
        return needed(spread, difference) if difference and 0 < spread < math.inf else None

    def verdict(self, p: float | None = None, *, better: str = "higher") -> str:
        """better | worse | not seen, by p, or by what a correction made of it, at 5 %; too few to tell where not even
        differences of one sign could be seen (`TELLING`). `better`: higher | lower | neither, which are different."""
        if self.groups < TELLING:
            return TOO_FEW
        if not (self.p if p is None else p) < 0.05:
            return "not seen"
        if better == "neither":
            return "different"
        return "better" if (self.estimate.mean > 0) == (better == "higher") else "worse"


def compare(before: Sequence[float], now: Sequence[float], clusters: Sequence[object] | None = None) -> Change:
    """Items that both answered, in one order: exact McNemar where all are 0 or 1 and independent, else the paired t
    test, by clusters where items are. p is never below what the exact test by signs says (`by_signs`), and an interval
    holds 0 where p does not see a difference. ParameterError for NaN."""
    for number, pair in enumerate(zip(before, now, strict=True), 1):
        if any(math.isnan(value) for value in pair):
            raise ParameterError(f"item {number} is NaN: only numbers can be compared; leave the item out")
    differences = [b - a if a != b else 0.0 for a, b in zip(before, now, strict=True)]  # of infinite ones too
    estimate = mean(differences) if clusters is None else clustered(differences, clusters)
    sums = differences if clusters is None else [total for total, _ in grouped(differences, clusters)]
    binary = bool(differences) and all(value in (0, 1) for value in (*before, *now))
    if binary and clusters is None:
        won, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
        p, (low, high) = mcnemar(won, lost), tango(won, lost, len(differences))
    else:
        if estimate.error <= 1e-12 * max(map(abs, differences), default=0.0):
            estimate = replace(estimate, error=math.inf)  # differences that do not vary say nothing of how they would
        p = max(
            two_sided(estimate.mean / estimate.error, estimate.df) if estimate.error < math.inf else 0.0, by_signs(sums)
        )
        low, high = estimate.interval
        if binary and estimate.error < math.inf:
            low, high = max(low, -1.0), min(high, 1.0)
    if not p < 0.05:
        low, high = min(low, 0.0), max(high, 0.0)
    if (low, high) != estimate.interval:
        estimate = replace(estimate, bounds=(low, high))
    return Change(estimate, p, len(sums))


def by_signs(differences: Sequence[float]) -> float:
    """p of the exact test by signs: how many of all choices of the differences' signs have as large a sum, each being
    as likely where there is no difference (Fisher 1935). Of more than 16 differences, the least that it can be."""
    n, total = len(differences), abs(math.fsum(differences))
    if not total:
        return 1.0
    if n > ENUMERATED:
        return 2.0 ** (1 - n)
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return float(np.mean(np.abs(sums) >= total * (1 - 1e-9)))


def tango(won: int, lost: int, n: int, z: float = Z) -> tuple[float, float]:
    """The score interval of a difference of two shares, from the items of n that were won and lost (Tango 1998): z at a
    difference d is (won - lost - n d) / sqrt(n (2 q + d (1 - d))), q being the likeliest share of lost ones there."""

    def score(d: float) -> float:
        b = (2 * n - won + lost) * d - won - lost
        q = (math.sqrt(max(0.0, b * b + 8 * n * lost * d * (1 - d))) - b) / (4 * n)
        away, variance = won - lost - n * d, n * (2 * q + d * (1 - d))
        return away / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, away) if away else 0.0

    def bound(out: float) -> float:
        """Where the score is z, between the difference that was seen and the largest or least that there can be."""
        inside, at = (won - lost) / n, out
        for _ in range(60):
            middle = (inside + at) / 2
            inside, at = (middle, at) if abs(score(middle)) <= z else (inside, middle)
        return inside

    return bound(-1.0), bound(1.0)


def needed(spread: float, difference: float, power: float = 0.8) -> int:
    """Items to see a difference of paired items that have this standard deviation (Miller, arXiv:2411.00640, eq. 9)."""
    return max(2, math.ceil((Z + NormalDist().inv_cdf(power)) ** 2 * spread**2 / difference**2))


def mcnemar(won: int, lost: int) -> float:
    """The exact two-sided p of so many items won and lost, where each is as likely."""
    n, least = won + lost, min(won, lost)
    if not n:
        return 1.0
    tail = math.fsum(math.exp(_choose(n, k) - n * math.log(2)) for k in range(least + 1))
    return min(1.0, 2 * tail)


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Each p corrected for there being several: the k-th smallest of m times m - k + 1, never falling (Holm 1979)."""
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted


def two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|) of Student's t: the regularised incomplete beta function at df / (df + t^2)."""
    if math.isinf(df):
        return 2 * (1 - NormalDist().cdf(abs(t)))
    return incomplete_beta(df / 2, 0.5, df / (df + t * t))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), by its continued fraction (Lentz)."""
    if x <= 0:
        return 0.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value


@cache
def student(df: float) -> float:
    """The 97.5 % quantile of Student's t, by halving."""
    low, high = 0.0, 1.0
    while two_sided(high, df) > 0.05:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, df) > 0.05 else (low, middle)
    return (low + high) / 2
