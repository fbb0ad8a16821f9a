"""The best size by compute: known vertices of parabolas, the envelope, forecasts and what stays open."""

import numpy as np
import pytest

from engine.scaling import fitted
from engine.scaling.forecast import buy, held_out
from engine.scaling.frontier import budgets, envelope, exponent, lowest
from engine.scaling.ladder import Ladder
from engine.scaling.law import FLOP, Law
from tests.engine.scaling.test_fit import LAW, ladder


def test_the_best_division_of_a_budget_is_the_least_loss_along_it() -> None:
    n, d = LAW.best(1e21)
    assert n == pytest.approx(1.824218e9, rel=1e-6) and FLOP * n * d == pytest.approx(1e21)
    sizes = n * np.geomspace(0.9, 1.1, 2001)
    assert sizes[LAW.loss(sizes, 1e21 / FLOP / sizes).argmin()] == pytest.approx(n, rel=1e-4)


@pytest.mark.parametrize(("window", "bias"), [(2, 1.0033), (4, 1.0132), (8, 1.0299)])
def test_a_parabola_is_off_by_its_window_and_its_exponent_is_not(window: float, bias: float) -> None:
    found = budgets(Ladder(*_centred(window), np.arange(75)))
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


def test_a_law_that_is_alike_in_both_has_no_bias() -> None:
    law = Law(1.0, 300.0, 300.0, 0.3, 0.3)
    sizes = law.best(1e20)[0] * np.geomspace(0.1, 10, 9)
    best, _ = lowest(sizes, law.loss(sizes, 1e20 / FLOP / sizes))
    assert best == pytest.approx(law.best(1e20)[0], rel=1e-9)


def test_no_best_size_outside_the_window() -> None:
    assert lowest(np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])) == (None, None)
    assert lowest(np.array([1.0, 2, 4, 8]), np.array([1.0, 2, 2, 1])) == (None, None)


def test_runs_without_order_have_no_budgets() -> None:
    random = np.random.default_rng(0)
    n, d = np.exp(random.uniform(10, 20, 12)), np.exp(random.uniform(20, 25, 12))
    assert budgets(Ladder(n, d, LAW.loss(n, d), np.arange(12))) == []


def test_the_envelope_is_what_no_cheaper_run_beats() -> None:
    one = np.ones(5)
    runs = Ladder(one, np.array([1.0, 2, 3, 4, 4]), np.array([5.0, 6, 4, 3.5, 3]), np.arange(5))
    assert list(envelope(runs)) == [0, 2, 4]


def test_the_largest_decade_is_told_from_the_rest() -> None:
    runs = ladder(5, 6, 0.005, seed=4)
    found = held_out(runs)
    assert {round(np.log10(each.compute)) for each in found} == {21} and len(found) == 6
    exact = held_out(ladder(5, 6))
    assert all(each.told == pytest.approx(each.seen, rel=1e-6) for each in exact)
    assert sum(each.is_inside for each in found) >= 4
    changed = Ladder(runs.parameters, runs.tokens, np.where(runs.compute > 2e20, 9.0, runs.loss), runs.row)
    assert [each.told for each in held_out(changed)] == [each.told for each in found]  # what is told is not seen
    assert not any(each.is_inside for each in held_out(changed))


@pytest.mark.slow
def test_deviations_of_few_runs_are_as_wide_as_those_of_runs_to_come() -> None:
    laws = [fitted.fit(ladder(3, 4, 0.01, seed=seed)) for seed in range(30)]
    assert np.mean([law.deviations.var() for law in laws]) == pytest.approx(0.01**2, rel=0.25)
    assert np.mean([law.residuals.var() for law in laws]) < 0.75 * 0.01**2


def test_what_lies_beyond_ten_times_the_data_is_open() -> None:
    found = fitted.fit(ladder(5, 6, 0.005))
    laws = fitted.refits(found, 200)
    near, far = buy(found, laws, 1e22), buy(found, laws, 1.1e22)
    assert near.intervals is not None and near.intervals["loss"][0] < near.loss < near.intervals["loss"][1]
    assert FLOP * near.parameters * near.tokens == pytest.approx(1e22) and near.times == pytest.approx(10)
    assert far.is_open and far.intervals is None
