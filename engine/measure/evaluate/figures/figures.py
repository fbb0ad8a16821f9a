"""Figures of an evaluation: what the items' measures add up to, each with its standard error and interval. No mlx."""

import math
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, count, takewhile

import numpy as np

from likely.engine.base.statistics.estimates import Change, Estimate, bootstrap, compare, holm, share, share_or_mean
from likely.engine.base.statistics.measures import measure
from likely.engine.base.statistics.scores import AT_MOST, BOUNDED, stem
from likely.engine.measure.evaluate.figures import calibration
from likely.engine.measure.evaluate.tasks.tasks import Problem

COUNTS = ("tokens", "bytes")
RESAMPLED = 500  # times, for what has no error by itself
LIKELIHOOD = ("nats", *COUNTS)  # what a document's items have
AT_LEAST_SO_LIKELY = (f"nats{AT_MOST}", *COUNTS)  # what they have of a diffusion model


def _bins(rows: np.ndarray, binned: Callable[..., Sequence[calibration.Bin]]) -> Sequence[calibration.Bin]:
    return binned(rows[:, 0], rows[:, 1])


# Of items [n, 2], confidence and whether it was right: 15 bins of equal width, or of as many items each.
CALIBRATION: dict[str, Callable[[np.ndarray], float]] = {
    "ece": lambda rows: calibration.ece(_bins(rows, calibration.reliability)),
    "ece_adaptive": lambda rows: calibration.ece(_bins(rows, calibration.adaptive)),
    "rmsce_debiased": lambda rows: calibration.debiased(_bins(rows, calibration.reliability)),
}


@dataclass
class Tally:
    """Measurements so far: numbers alone, in the order in which they came."""

    numbers: list[int] = field(default_factory=list)
    clusters: list[str | None] = field(default_factory=list)
    values: dict[str, dict[int, float]] = field(default_factory=dict)  # by measure, then by number

    def add(self, number: int, cluster: str | None, values: Mapping[str, float]) -> None:
        self.numbers.append(number)
        self.clusters.append(cluster)
        for name, value in values.items():
            self.values.setdefault(name, {})[number] = value

    def only(self, numbers: Container[int]) -> "Tally":
        """Those of these items."""
        tally = Tally()
        for number, cluster in zip(self.numbers, self.clusters, strict=True):
            if number in numbers:
                tally.add(number, cluster, {name: of[number] for name, of in self.values.items() if number in of})
        return tally

    @property
    def main(self) -> Estimate | None:
        """Of the first measure: what is shown while it runs."""
        if not self.numbers:
            return None
        name = self.first
        return self._likelihood()[f"perplexity{self._end}"] if self.texts else self.estimate(name)

    @property
    def first(self) -> str:
        """The measure that stands for the task; "" before there is an item."""
        return next(iter(self.values), "")

    @property
    def texts(self) -> bool:
        """Whether the items are documents, whose nats add up."""
        return self.first in (*LIKELIHOOD, *AT_LEAST_SO_LIKELY)

    @property
    def bounded(self) -> bool:
        """Whether the documents' nats are bounds."""
        return AT_LEAST_SO_LIKELY[0] in self.values

    @property
    def _end(self) -> str:
        return AT_MOST if self.bounded else ""

    @property
    def headline(self) -> str:
        """The measure that stands for the task, of documents bits a byte."""
        return f"bits_per_byte{self._end}" if self.texts else self.first

    def figures(self) -> dict[str, Estimate]:
        """Each measure's estimate. Of documents: total nats, tokens and bytes, perplexity a token, bits a byte.

        Where these are bounds their names say so, and the standard error of the masks that were drawn stands beside.
        """
        if set(self.values) >= set(LIKELIHOOD) or self.bounded:
            return self._likelihood()
        estimates = {name: self.estimate(name) for name in self.values}
        if self.confidences() is not None:
            estimates |= {name: self.calibrated(name) for name in CALIBRATION}
        return estimates

    def calibrated(self, name: str) -> Estimate:
        """An error of calibration, with the items resampled, or their clusters."""
        rows = self.confidences()
        assert rows is not None
        return bootstrap(rows, CALIBRATION[name], self._named("acc"), samples=RESAMPLED)

    def confidences(self) -> np.ndarray | None:
        """Items [n, 2]: confidence in what was taken, and whether it was right; None where none is known."""
        if not {"acc", "confidence"} <= set(self.values):
            return None
        return np.array([[self.values[name][n] for name in ("confidence", "acc")] for n in self.numbers])

    def _named(self, name: str) -> list[str] | None:
        """The clusters of the items that have a measure; None where there are none."""
        clusters = [c for n, c in zip(self.numbers, self.clusters, strict=True) if n in self.values[name]]
        return None if any(c is None for c in clusters) else [c for c in clusters if c is not None]

    def estimate(self, name: str) -> Estimate:
        """One measure of the items, or one that documents add up to."""
        if name not in self.values:
            return self._likelihood()[name]
        of = self.values[name]
        values = [of[n] for n in self.numbers if n in of]
        clusters = self._named(name)
        if measure(name).unit != "share":
            return share_or_mean(values, clusters)
        if len(set(values)) == 1:  # of 1, not only 0 or all of it
            return share(values, clusters)
        return share_or_mean(values, clusters).within(0.0, 1.0)

    def _likelihood(self) -> dict[str, Estimate]:
        """The items, windows or documents, are what varies; those of one cluster add up before."""
        sums: dict[object, list[float]] = {}
        for number, cluster in zip(self.numbers, self.clusters, strict=True):
            row = sums.setdefault(number if cluster is None else cluster, [0.0, 0.0, 0.0])
            for i, name in enumerate(AT_LEAST_SO_LIKELY if self.bounded else LIKELIHOOD):
                row[i] += self.values[name][number]
        nats, tokens, size = (math.fsum(row[i] for row in sums.values()) for i in range(3))
        groups = len(sums)

        def per(i: int) -> Estimate:
            """Nats for each of another sum, the ratio's error by its residuals."""
            total = (nats, tokens, size)[i]
            if not total:
                return Estimate(math.nan, math.nan, n=groups)
            middle = nats / total
            squares = math.fsum((row[0] - middle * row[i]) ** 2 for row in sums.values())
            error = math.sqrt(squares * groups / (groups - 1)) / total if groups > 1 else math.inf
            ratio = Estimate(middle, error, max(1, groups - 1), n=groups)
            return ratio.within(0.0) if groups > 1 else ratio

        token, byte = per(1), per(2)
        exact = {name: Estimate(total, 0.0, n=groups) for name, total in zip(COUNTS, (tokens, size), strict=True)}
        end = self._end
        estimates = {
            f"nats{end}": token.map(lambda x: x * tokens, tokens),
            **exact,
            f"perplexity{end}": token.map(_exp, _exp(token.mean)),
            f"bits_per_byte{end}": byte.map(lambda x: x / math.log(2), 1 / math.log(2)),
        }
        if self.bounded and size:
            variance = math.fsum(self.values[BOUNDED][number] for number in self.numbers)
            estimates["bits_per_byte_draw_error"] = Estimate(math.sqrt(variance) / size / math.log(2), 0.0, n=groups)
        return estimates


def _exp(x: float) -> float:
    return math.inf if x >= 700 else math.exp(x)


@dataclass(frozen=True)
class ComparedMeasure:
    """One measure of a task under two models: the change, and the verdict after the correction for several."""

    task: str
    measure: str
    models: tuple[str, str]
    change: Change
    p: float  # corrected
    n: int  # items that both answered
    bounds: tuple[bool, bool] = (False, False)  # of which model there is a bound alone: its nats are these or fewer
    items: tuple[int, int] = (0, 0)  # that each answered; `n` counts windows of one text that were added up as one
    means: tuple[float, float] = (math.nan, math.nan)  # of the items that both answered

    @property
    def verdict(self) -> str:
        """better | worse | not seen | too few to tell, or that a bound does not tell."""
        before, now = self.bounds
        if before or now:  # a bound that is lower than what is exact is enough, one that is higher says nothing
            telling = self.change.estimate.mean < 0 if now else self.change.estimate.mean > 0
            if (before and now) or not telling or not self.p < 0.05:
                return "a bound does not tell"
        return self.change.verdict(self.p, better=measure(self.measure).better)


Tallies = Mapping[tuple[str, str], Tally]  # (task, model) ->


def comparisons(tallies: Tallies, models: Sequence[str]) -> list[ComparedMeasure]:
    """Each model against the first, by every task's measures, over the items that both answered; Holm's correction over
    all of them. Of documents: nats, as a difference a token."""
    compared: list[ComparedMeasure] = []
    for task in dict.fromkeys(task for task, _ in tallies):
        first = tallies.get((task, models[0])) if models else None
        for other in models[1:]:
            second = tallies.get((task, other))
            if first is None or second is None:
                continue
            for name in first.values:
                same = counterpart(name, second.values)
                if same is None or measure(name).better == "neither":
                    continue
                before, now, clusters = _paired(first, second, name, same)
                if n := len(before):
                    change = _compare(name, before, now, clusters)
                    bounds = name.endswith(AT_MOST), same.endswith(AT_MOST)
                    items = len(first.values[name]), len(second.values[same])
                    means = math.fsum(before) / n, math.fsum(now) / n
                    who = models[0], other
                    compared.append(ComparedMeasure(task, stem(name), who, change, change.p, n, bounds, items, means))
    corrected = holm([row.p for row in compared])
    return [replace(row, p=p) for row, p in zip(compared, corrected, strict=True)]


def counterpart(name: str, among: Iterable[str]) -> str | None:
    """The measure of the same, exact or by bounds, among another model's."""
    return next((other for other in among if stem(other) == stem(name)), None)


def changed(first: Tally, second: Tally, name: str, other: str = "") -> tuple[Change, int]:
    """By how much the second is above the first over the items that both have, and how many these are. `other`: what
    the second calls the measure, where that is not the same."""
    before, now, clusters = _paired(first, second, name, other or name)
    return _compare(name, before, now, clusters), len(before)


def _compare(name: str, before: Sequence[float], now: Sequence[float], clusters: Sequence[object] | None) -> Change:
    """The change of a measure; the interval of a difference of shares ends at -1 and 1, where it has one."""
    change = compare(before, now, clusters)
    if measure(name).unit != "share" or change.estimate.error == math.inf:
        return change
    return replace(change, estimate=change.estimate.within(-1.0, 1.0))


def _paired(
    first: Tally, second: Tally, name: str, other: str
) -> tuple[list[float], list[float], list[str | None] | None]:
    """The measure of the items that both have, and their clusters; nats by the first's tokens in an item."""
    first, second = aligned(first, second)
    a, b = first.values[name], second.values[other]
    numbers = [number for number in first.numbers if number in a and number in b]
    named = dict(zip(first.numbers, first.clusters, strict=True))
    clusters = [named[number] for number in numbers]
    before, now = [a[number] for number in numbers], [b[number] for number in numbers]
    if stem(name) == "nats" and numbers:  # of the same tokens, so that the sums can be set side by side
        tokens = math.fsum(first.values["tokens"][number] for number in numbers) / len(numbers)
        before, now = [x / tokens for x in before], [x / tokens for x in now]
    return before, now, None if None in clusters else clusters


def aligned(first: Tally, second: Tally) -> tuple[Tally, Tally]:
    """The two where a number is of the same text in both: windows of one text, where they end at other bytes, are added
    up from one byte at which both have an end to the next, as far as no window is missing."""
    a, b = first.values.get("bytes"), second.values.get("bytes")
    if a is None or b is None or all(a[number] == b[number] for number in a.keys() & b.keys()):
        return first, second
    ends = [list(accumulate(sizes[i] for i in takewhile(sizes.__contains__, count()))) for sizes in (a, b)]
    common = sorted(set(ends[0]).intersection(ends[1]))
    return _added(first, ends[0], common), _added(second, ends[1], common)


def _added(tally: Tally, ends: Sequence[float], common: Sequence[float]) -> Tally:
    """Sums of the windows up to each of these ends."""
    sums, last = Tally(), 0
    for number, end in enumerate(common):
        until = bisect(ends, end)
        sums.add(
            number, None, {name: math.fsum(of[i] for i in range(last, until)) for name, of in tally.values.items()}
        )
        last = until
    return sums


def left_out(problems: Iterable[Problem]) -> dict[str, dict[str, int]]:
    """How many rows were odd, by kind: those not scored, and those scored nevertheless."""
    by_kind: dict[str, Counter[str]] = {"left out": Counter(), "scored": Counter()}
    for problem in problems:
        by_kind["scored" if problem.scored else "left out"][problem.kind] += 1
    return {name: dict(counts) for name, counts in by_kind.items() if counts}
