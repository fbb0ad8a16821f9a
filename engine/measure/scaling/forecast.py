"""Forecasts of a law: the largest runs from the smaller ones, and what a budget buys, closed up to ten times the data.

Knows no files and no machine: a budget is floating-point operations.
"""

from dataclasses import dataclass

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.measure.scaling.fitted import FittedLaw, fit, refits, span
from likely.engine.measure.scaling.scaling_law import ScalingLaw
from likely.engine.measure.scaling.sweep import ScalingSweep

DECADE = 10.0  # of compute: the share of runs that is held out, and how far beyond the largest a law is believed


@dataclass(frozen=True, slots=True)
class RunForecast:
    """A run that the fit had not seen: loss told, where 95 % of such runs are by the law's uncertainty and by how far
    runs lie from it, and loss seen."""

    row: int
    compute: float
    told: float
    low: float
    high: float
    seen: float

    @property
    def is_inside(self) -> bool:
        return self.low <= self.seen <= self.high


@dataclass(frozen=True, slots=True)
class Purchase:
    """The best use of a budget of `compute`; `times` the largest run. Beyond ten times the law is `open`: an interval
    of its numbers would be one of the form as well, which no run speaks for there."""

    compute: float
    times: float
    parameters: float
    tokens: float
    loss: float
    intervals: dict[str, tuple[float, float]] | None  # parameters, tokens, loss; None where open

    @property
    def is_open(self) -> bool:
        return self.intervals is None


def held_out(runs: ScalingSweep, *, seed: int = 0, count: int = 500) -> list[RunForecast]:
    """The runs of the largest decade of compute, or where that leaves too few the largest third, each told by the law
    of the rest; [] where the rest determine none."""
    compute = runs.compute
    large = compute > compute.max() / DECADE * (1 + 1e-6)
    if (~large).sum() < 6:
        large = compute > np.sort(compute)[-(len(runs) // 3) - 1]
    try:
        fitted = fit(runs.where(~large))
    except DataError:
        return []
    forecasts = foretold(fitted, runs.where(large), seed=seed, count=count)
    # so few runs may give no interval
    return [forecast for forecast in forecasts if np.isfinite([forecast.low, forecast.high]).all()]


def foretold(fitted: FittedLaw, runs: ScalingSweep, *, seed: int = 0, count: int = 500) -> list[RunForecast]:
    """Runs that a law has not seen, told by it, the cheapest first."""
    laws = ScalingLaw(*refits(fitted, count, seed=seed).T)
    chance = np.exp(np.random.default_rng([seed, count]).choice(fitted.deviations, count))
    forecasts = []
    for i in np.argsort(runs.compute, kind="stable"):
        n, d = float(runs.parameters[i]), float(runs.tokens[i])
        low, high = map(float, span(chance * laws.loss(n, d)))
        loss = fitted.law.loss(n, d)
        forecasts.append(RunForecast(int(runs.row[i]), float(runs.compute[i]), loss, low, high, float(runs.loss[i])))
    return forecasts


@dataclass(frozen=True)
class Frontier:
    """The least loss that each compute buys by the law [n], and where 95 % of its refits have it."""

    compute: np.ndarray
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray


def frontier(fitted: FittedLaw, laws: np.ndarray, first: float, last: float, points: int = 80) -> Frontier:
    """The frontier of a law and of its refits [R, 5] from one compute to another."""
    compute = np.geomspace(first, last, points)
    every = ScalingLaw(*laws[(laws[:, 3] > 0) & (laws[:, 4] > 0)].T[..., None])
    ends = span(every.loss(*every.best(compute)))
    return Frontier(compute, fitted.law.loss(*fitted.law.best(compute)), *ends)


def buy(fitted: FittedLaw, laws: np.ndarray, compute: float) -> Purchase:
    """The best use of a budget by the law, up to ten times the largest run with intervals over those of its refits
    [R, 5] by which there is one."""
    parameters, tokens = fitted.law.best(compute)
    loss = fitted.law.loss(parameters, tokens)
    times = compute / float(fitted.runs.compute.max())
    if times > DECADE * (1 + 1e-9):
        return Purchase(compute, times, parameters, tokens, loss, None)
    every = ScalingLaw(*laws[(laws[:, 3] > 0) & (laws[:, 4] > 0)].T)
    best = every.best(compute)
    low, high = span(np.stack([*best, every.loss(*best)], -1)).tolist()
    spans = dict(zip(("parameters", "tokens", "loss"), zip(low, high, strict=True), strict=True))
    return Purchase(compute, times, parameters, tokens, loss, spans)


def rate(runs: ScalingSweep) -> float | None:
    """FLOP a second of the larger half of the runs whose time is known, in the middle; None where none is."""
    if runs.seconds is None:
        return None
    known = np.isfinite(runs.seconds)
    if not known.any():
        return None
    compute, seconds = runs.compute[known], runs.seconds[known]
    return float(np.median((compute / seconds)[compute >= np.median(compute)]))
