"""Learning curves: a planted law, what more rows are worth, and how often intervals hold in simulated worlds."""

import math

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.measure.estimate import curve
from likely.engine.measure.estimate.curve import CurveForecast, LearningCurve, forecast

ROWS = np.repeat([20.0, 40, 80, 160, 320], 3)


def test_a_planted_law_is_told_with_what_more_rows_are_worth() -> None:
    random = np.random.default_rng(3)
    truth = 1.0 + 5.0 * ROWS**-0.5
    found = curve.fit(ROWS, truth * (1 + 1e-4 * random.standard_normal(15)))
    assert found.numbers["E"].told == pytest.approx(1.0, abs=0.01)
    assert found.numbers["beta"].told == pytest.approx(0.5, abs=0.02)
    worth = found.worth(320, 420)
    assert worth.told == pytest.approx(5 * (320**-0.5 - 420**-0.5), rel=0.02) and worth.low < worth.told < worth.high
    out = curve.checked(ROWS, truth * (1 + 1e-3 * random.standard_normal(15)))
    assert out is not None and (out.begin, out.end) == (160, 320)
    assert out.loss.seen == pytest.approx(truth[-1], rel=2e-3) and out.loss.is_inside and out.gain.is_inside
    assert out.gain.seen == pytest.approx(truth[-4] - truth[-1], rel=0.03)
    broken = np.where(ROWS == 320, truth * 1.5, truth)  # a size that no law of the others tells
    held = curve.checked(ROWS, broken * (1 + 1e-3 * random.standard_normal(15)))
    assert held is not None and held.loss.is_inside is False
    assert curve.checked([1, 1, 2, 2, 3], [3.0, 3, 2, 2, 1.5]) is None


@pytest.mark.parametrize(("law", "noise"), [((1.0, 5.0, 0.5), 0.05), ((2.0, 8.0, 0.8), 0.01), ((0.0, 8.0, 0.4), 0.05)])
def test_intervals_hold_as_often_as_they_say(law: tuple[float, float, float], noise: float) -> None:
    """Those of the loss with more rows, of what these are worth, of beta and of the largest size held out: each within
    3 standard errors of 95 % over 60 worlds where the law and the noise are known."""
    (floor, factor, beta), random, worlds = law, np.random.default_rng([2, len(ROWS)]), 60
    truth, largest, end = floor + factor * ROWS**-beta, float(ROWS.max()), float(ROWS.max()) + 100
    at_end = floor + factor * end**-beta
    true = {"loss": at_end, "worth": floor + factor * largest**-beta - at_end, "beta": beta}
    hits = dict.fromkeys((*true, "held out"), 0)
    for world in range(worlds):
        losses = truth * np.exp(noise * random.standard_normal(len(ROWS)))
        fitted = curve.fit(ROWS, losses, draws=300, seed=world)
        intervals = {"loss": forecast(fitted.loss(end)), "worth": fitted.worth(largest, end)}
        for name, interval in (intervals | {"beta": fitted.numbers["beta"]}).items():
            hits[name] += interval.low <= true[name] <= interval.high
        out = curve.checked(ROWS, losses, draws=300, seed=world)
        hits["held out"] += out is not None and bool(out.loss.is_inside)
    assert min(hits.values()) / worlds >= 0.95 - 3 * (0.95 * 0.05 / worlds) ** 0.5, hits


FEW = np.array([10.0, 10, 20, 40, 40, 80])
LOSSES = np.array([3.0, 3.1, 2.4, 2.0, 1.9, 1.7])


def cell(beta: float) -> tuple[np.ndarray, np.ndarray, float, float]:
    """E and B by least squares of losses over themselves, their covariance in units of the noise, the squares left,
    and how far the curve's derivative by beta is from what E and B can do."""
    x = (FEW / 80) ** -beta
    design = np.column_stack([1 / LOSSES, x / LOSSES])
    linear = np.linalg.lstsq(design, np.ones(6), rcond=None)[0]
    slope = -x * np.log(FEW / 80) / LOSSES
    alone = slope - design @ np.linalg.lstsq(design, slope, rcond=None)[0]
    left = float(((1 - design @ linear) ** 2).sum())
    return linear, np.linalg.inv(design.T @ design), left, float(np.sqrt((alone**2).sum()))


def test_draws_have_the_mean_spread_and_noise_of_the_posterior_cell_by_cell() -> None:
    found = curve.fit(FEW, LOSSES, draws=4000, seed=1)
    grid = np.geomspace(0.02, 5, 1200)
    cells = [cell(beta) for beta in grid]
    step = np.gradient(grid)
    logs = np.array([
        (2 - 6) / 2 * math.log(left) + math.log(abs(linear[1]) * away) + math.log(wide)
        for (linear, _, left, away), wide in zip(cells, step, strict=True)
    ])  # fmt: skip
    share = np.exp(logs - logs.max())
    share /= share.sum()
    middle = float(share @ grid)
    deviation = math.sqrt(float(share @ (grid - middle) ** 2))
    assert found.beta.mean() == pytest.approx(middle, abs=5 * deviation / math.sqrt(4000) + 0.02 * deviation)
    assert found.beta.std() == pytest.approx(deviation, rel=0.1)
    left = np.interp(found.beta, grid, [each[2] for each in cells])
    assert float((left / found.noise**2).mean()) == pytest.approx(4, rel=0.05)  # chi square of n - 2
    for i, draws in enumerate((found.floor, found.fall)):
        at = np.interp(found.beta, grid, [each[0][i] for each in cells])
        wide = np.sqrt(np.interp(found.beta, grid, [each[1][i, i] for each in cells]))
        unit = (draws - at) / found.noise / wide
        assert abs(unit.mean()) < 0.08 and unit.std() == pytest.approx(1, abs=0.05)


def test_a_curve_s_losses_and_what_rows_are_worth_are_by_its_draws() -> None:
    made = LearningCurve(FEW, LOSSES, np.array([1.0, 2.0]), np.array([0.5, 1.0]), np.array([1.0, 0.5]), np.ones(2))
    assert made.loss(20).tolist() == pytest.approx([1 + 0.5 * 4, 2 + 2]) and made.loss(80).tolist() == [1.5, 3.0]
    assert made.worth(20, 80) == forecast(np.array([1.5, 1.0]))
    assert made.numbers == {"E": forecast(made.floor), "beta": forecast(made.beta)}
    draws = np.arange(1001.0)
    assert forecast(draws, 7.0) == CurveForecast(500.0, 25.0, 975.0, 7.0) and forecast(draws).seen is None
    assert CurveForecast(1, 0, 2).is_inside is None
    assert [CurveForecast(1, 0, 2, x).is_inside for x in (-0.1, 0, 2, 2.1)] == [False, True, True, False]


def test_five_runs_of_three_sizes_are_enough() -> None:
    curve.fit([1, 1, 2, 2, 4], [3.0, 3.1, 2, 2.1, 1.5], draws=10)
    for rows, losses, line in (
        ([1, 2, 4, 8], [3.0, 2, 1, 0.5], "got 4 of 4"), ([1, 1, 1, 2, 2], [3.0, 3, 2, 2, 1], "got 5 of 2"),
        ([1, 1, 2, 2, 4], [3.0, 3, 2, 2, 0.0], "above 0"), ([1, 1, 2, 2, 4], [3.0, 3, 2, 2, math.inf], "above 0"),
        ([1, 1, 2, 2, 4], [1.0, 1, 1, 1, 1 + 9e-10], "all the same"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=line):
            curve.fit(rows, losses)
    curve.fit([1, 1, 2, 2, 4], [1.0, 1, 1, 1, 1 - 3e-9], draws=10)


def test_the_largest_size_is_told_by_the_others() -> None:
    rows = np.array([10.0, 10, 20, 40, 40, 80, 80])
    losses = np.array([3.0, 3.1, 2.4, 2.0, 1.9, 1.7, 1.6])
    found = curve.checked(rows, losses, draws=500, seed=3)
    assert found is not None and (found.begin, found.end) == (40, 80)
    made = curve.fit(rows[:5], losses[:5], draws=500, seed=3)
    chance = np.random.default_rng([3, 500]).standard_normal(500) * made.noise / math.sqrt(2)
    to_come = made.loss(80) * (1 + chance)
    assert found.loss == forecast(to_come, 1.65) and found.gain == forecast(1.95 - to_come, 1.95 - 1.65)
    assert curve.checked(rows[:5], losses[:5]) is None
