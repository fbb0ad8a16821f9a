"""The best size by compute: known vertices of parabolas, the envelope, forecasts and what stays open.

A public reconstruction of Chinchilla's runs gives the published law.

Its licence is not stated, so it is not here: LIKELY_CHINCHILLA names the file, svg_extracted_data.csv of Epoch AI's
analyzing-chinchilla (245 runs; columns Model Size, Training FLOP, loss).
"""

import math
import os
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.scaling import fitted
from likely.engine.measure.scaling.fit import huber
from likely.engine.measure.scaling.forecast import RunForecast, buy, foretold, held_out, rate
from likely.engine.measure.scaling.frontier import IsoFlop, budgets, envelope, exponent, lowest
from likely.engine.measure.scaling.report import FEW, HIGHEST, report
from likely.engine.measure.scaling.scaling_law import FLOP, ScalingLaw
from likely.engine.measure.scaling.sweep import LeftOut, ScalingSweep, mapping, read_runs
from tests.laws.test_scaling import LAW, ladder, of


@pytest.mark.parametrize(("window", "bias"), [(2, 1.0033), (4, 1.0132), (8, 1.0299)])
def test_a_parabola_is_off_by_its_window_and_its_exponent_is_not(window: float, bias: float) -> None:
    found = budgets(ScalingSweep(*_centred(window), np.arange(75)))
    assert [each.best / LAW.best(each.compute)[0] for each in found if each.best] == pytest.approx([bias] * 5, abs=1e-4)
    assert [each.bias(LAW) for each in found] == pytest.approx([bias] * 5, abs=1e-4)
    assert [each.window for each in found] == pytest.approx([window**2] * 5)
    slope = exponent(np.array([each.compute for each in found]), np.array([each.best for each in found]))
    assert slope is not None and slope.mean == pytest.approx(0.451613, abs=1e-6)


def _centred(window: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    computes = np.geomspace(1e17, 1e21, 5)
    n = np.concatenate([LAW.best(c)[0] * np.geomspace(1 / window, window, 15) for c in computes])
    d = np.repeat(computes, 15) / FLOP / n
    return n, d, LAW.loss(n, d)


def test_runs_without_order_have_no_budgets() -> None:
    random = np.random.default_rng(0)
    n, d = np.exp(random.uniform(10, 20, 12)), np.exp(random.uniform(20, 25, 12))
    assert budgets(ScalingSweep(n, d, LAW.loss(n, d), np.arange(12))) == []


def test_runs_of_about_one_compute_are_a_budget() -> None:
    sizes = np.array([1e6, 2e6, 4e6, 8e6])
    n = np.concatenate([sizes[::-1], sizes, sizes[:3]])
    compute = np.concatenate([[1e15, 1.1e15, 1.2e15, 1.3e15], [1.6e16] * 4, [9e17] * 3])
    d = compute / FLOP / n
    loss = (np.log(n) - np.log(3e6)) ** 2 + 2
    found = budgets(ScalingSweep(n, d, loss, np.arange(11)))
    assert len(found) == 2 and found[0].sizes == tuple(sizes) and found[0].losses == tuple(loss[:4][::-1])
    assert found[0].compute == pytest.approx(float(np.exp(np.log(compute[:4]).mean())))
    assert found[1].compute == pytest.approx(1.6e16) and found[0].window == 8
    assert [each.best for each in found] == pytest.approx([3e6, 3e6]) and found[0].loss == pytest.approx(2)
    assert found[0].parabola(np.array([3e6, 6e6])) == pytest.approx([2, 2 + math.log(2) ** 2])
    none = IsoFlop(1e25, tuple(sizes), (4.0, 3.0, 2.0, 1.0), None, None)
    assert none.bias(LAW) is None
    twice = ScalingSweep(n[[0, 0, 1, 2]], d[[0, 0, 1, 2]], loss[[0, 0, 1, 2]], np.arange(4))
    assert budgets(twice) == []  # of four runs three sizes


def test_the_lowest_point_is_inside_the_sizes() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    for at in (1.1, 3.0, 7.9):
        best, loss = lowest(x, 3 * (np.log(x) - math.log(at)) ** 2 + 5)
        assert (best, loss) == (pytest.approx(at), pytest.approx(5))
    for at in (0.9, 8.5):
        assert lowest(x, 3 * (np.log(x) - math.log(at)) ** 2 + 5) == (None, None)
    assert lowest(x, 5 - (np.log(x) - math.log(3)) ** 2) == (None, None)


def test_an_exponent_is_a_line_through_logs() -> None:
    compute, best = np.array([1e15, 1e16, 1e18, 1e19]), np.array([1e6, 4e6, 3e7, 2e8])
    found = exponent(compute, best)
    x, y = np.log(compute), np.log(best)
    slope, middle = np.polyfit(x, y, 1)
    left = y - slope * x - middle
    error = math.sqrt((left @ left) / 2 / ((x - x.mean()) ** 2).sum())
    assert found == Estimate(pytest.approx(slope), pytest.approx(error), 2, n=4)
    assert exponent(compute[:2], best[:2]) is None and exponent(compute[:3], best[:3]) is not None
    one = np.ones(4)
    runs = ScalingSweep(one, np.array([2.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 3.0, 3.0]), np.arange(4))
    assert envelope(runs).tolist() == [1, 2]  # of one compute the better, and no run that is only as good


def test_a_budget_buys_what_the_law_says_with_intervals_up_to_ten_times() -> None:
    runs = ladder(2, 4)
    laws = np.array([list(astuple(LAW)), [1.7, 400.0, 400.0, 0.3, 0.3], [1.7, 400.0, 400.0, -0.1, 0.3]])
    largest = float(runs.compute.max())
    found = buy(of(runs), laws, 10 * largest)
    n, d = LAW.best(10 * largest)
    assert (found.parameters, found.tokens, found.loss) == (n, d, LAW.loss(n, d)) and found.times == pytest.approx(10)
    each = [
        (*ScalingLaw(*law).best(10 * largest), ScalingLaw(*law).loss(*ScalingLaw(*law).best(10 * largest)))
        for law in laws[:2]
    ]
    spans = fitted.span(np.array(each))
    assert found.intervals == {
        name: (pytest.approx(spans[0, i]), pytest.approx(spans[1, i]))
        for i, name in enumerate(("parameters", "tokens", "loss"))
    }
    assert not found.is_open and buy(of(runs), laws, 10.0001 * largest).is_open


def test_a_machine_s_rate_is_that_of_the_larger_half() -> None:
    one = np.ones(5)
    runs = ScalingSweep(one, np.array([1.0, 2, 3, 4, 5]) / FLOP, one, np.arange(5))
    assert rate(runs) is None and rate(replace(runs, seconds=np.full(5, np.nan))) is None
    assert rate(replace(runs, seconds=np.array([1.0, 1, 1, 2, 1]))) == pytest.approx(3)  # of 3, 2 and 5
    assert rate(replace(runs, seconds=np.array([np.nan, 1, 1, np.nan, 1]))) == pytest.approx(4)


def test_runs_are_foretold_the_cheapest_first_with_the_law_s_uncertainty() -> None:
    runs = ladder(2, 4, 0.01)
    found, order = fitted.fit(runs), np.array([3, 0, 5])
    told = foretold(found, runs.where(np.isin(np.arange(8), order)), seed=4, count=40)
    laws = [ScalingLaw(*each) for each in fitted.refits(found, 40, seed=4)]
    chance = np.exp(np.random.default_rng([4, 40]).choice(found.deviations, 40))
    cheapest = sorted(order.tolist(), key=lambda i: (runs.compute[i], i))
    assert [each.row for each in told] == [int(runs.row[i]) for i in cheapest]
    for each, i in zip(told, cheapest, strict=True):
        losses = chance * np.array([law.loss(runs.parameters[i], runs.tokens[i]) for law in laws])
        assert (each.low, each.high) == pytest.approx(tuple(np.quantile(losses, [0.025, 0.975])))
        assert (each.seen, each.compute) == (runs.loss[i], runs.compute[i])
        assert each.told == pytest.approx(found.law.loss(runs.parameters[i], runs.tokens[i]))
    assert [RunForecast(1, 1.0, 2.0, 1.0, 3.0, seen).is_inside for seen in (0.9, 1.0, 3.0, 3.1)] == [0, 1, 1, 0]


def test_the_largest_decade_or_third_is_held_out() -> None:
    runs = ladder(4, 5, 0.01)  # 1e17 to 1e21, each 21.5 times the one before
    assert sorted(each.row for each in held_out(runs)) == [17, 18, 19, 20, 21]
    near = replace(runs, tokens=runs.tokens * np.repeat([1e4, 1e3, 1.0, 1.0], 5))  # of a decade or so: too few are left
    top = near.compute > np.sort(near.compute)[-7]
    assert sorted(each.row for each in held_out(near)) == sorted(near.row[top].tolist()) and 0 < top.sum() <= 6
    assert held_out(runs.where(np.arange(20) < 6)) == []  # of the rest there is no law


@pytest.mark.slow
def test_the_report_has_each_part_of_the_runs_that_are_sound() -> None:
    runs = ladder(6, 6, 0.003)  # FEW or more: how often their intervals hold is not simulated
    loss = runs.loss.copy()
    loss[2] *= 3
    runs = replace(runs, loss=loss, embedding=runs.parameters * 0.25)
    left = [LeftOut(99, "no"), LeftOut(1, "none")]
    found = report(runs, left, count=40, seed=5)
    assert len(found.fitted.runs) == 35 >= FEW and [each.row for each in found.left_out] == [1, 4, 99]
    largest = float(found.fitted.runs.compute.max())
    assert [each.compute / largest for each in found.purchases] == pytest.approx([1, 10, 100])
    assert found.iso_flop == budgets(found.fitted.runs) and found.by_parabolas is not None
    without = found.without_embedding
    assert without is not None and (without.runs.parameters == found.fitted.runs.parameters * 0.75).all()
    alone = ScalingLaw(*fitted.leave_one_out(found.fitted).T)
    rows = {
        f"without row {found.fitted.runs.row[i]}" for i in (alone.size_exponent.argmin(), alone.size_exponent.argmax())
    }
    assert {each.without for each in found.sensitivity} == {*rows, f"without the {HIGHEST} highest losses"}
    kept = found.fitted.runs.where(found.fitted.runs.loss < np.sort(found.fitted.runs.loss)[-HIGHEST])
    assert found.sensitivity[-1].alpha == fitted.fit(kept).law.alpha and len(kept) == 35 - HIGHEST
    every = report(runs, [], [3e18], count=5, keep_all=True)
    assert len(every.fitted.runs) == 36 and [e.compute for e in every.purchases] == [3e18]


def test_runs_whose_loss_does_not_fall_with_both_have_no_best_size() -> None:
    runs = ladder(4, 5)
    loss = ScalingLaw(1.69, 1.0, 410.7, -0.1, 0.28).loss(runs.parameters, runs.tokens)
    with pytest.raises(DataError, match=r"does not fall with both .*alpha -0\.1, beta 0\.28"):
        report(replace(runs, loss=loss), [], keep_all=True)


def test_the_largest_decade_is_told_from_the_rest() -> None:
    runs = ladder(5, 6, 0.005, seed=4)
    found = held_out(runs)
    assert {round(np.log10(each.compute)) for each in found} == {21} and len(found) == 6
    assert all(each.told == pytest.approx(each.seen, rel=1e-6) for each in held_out(ladder(5, 6)))
    changed = replace(runs, loss=np.where(runs.compute > 2e20, 9.0, runs.loss))
    assert [each.told for each in held_out(changed)] == [each.told for each in found]  # what is told is not seen
    assert sum(each.is_inside for each in found) >= 4 and not any(each.is_inside for each in held_out(changed))


FILE = os.environ.get("LIKELY_CHINCHILLA", "")
PUBLISHED = ScalingLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658)  # Besiroglu et al., arXiv:2404.10102, of 240 runs


@pytest.mark.skipif(not FILE, reason="LIKELY_CHINCHILLA names no file of Chinchilla's runs")
def test_the_law_is_the_published_one() -> None:
    columns = mapping(["parameters=Model Size", "compute=Training FLOP", "loss=loss"])
    runs, left = read_runs(Path(FILE), columns)
    assert len(runs) == 245 and not left
    kept = runs.where(runs.loss < np.sort(runs.loss)[-5])  # as its authors did
    found = fitted.fit(kept)
    off = np.log(PUBLISHED.loss(kept.parameters, kept.tokens)) - np.log(kept.loss)
    assert found.objective <= float(huber(off).sum())
    np.testing.assert_allclose(astuple(found.law), astuple(PUBLISHED), rtol=0.03)
    every, diverged = fitted.fit_sound(runs)
    assert not diverged and every.law.beta - found.law.beta > 0.05  # it hangs on those five, and that is said
