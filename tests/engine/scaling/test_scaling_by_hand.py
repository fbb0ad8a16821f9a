"""Parts of a scaling analysis by hand: forms, spans, fits, budgets, forecasts, the report."""

import math
from dataclasses import astuple, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError
from engine.evaluate.estimates import Estimate
from engine.scaling import alternatives, fitted, forecast, report
from engine.scaling.fit import descend, huber
from engine.scaling.fitted import Fitted
from engine.scaling.forecast import Foretold, buy, held_out, rate
from engine.scaling.forms import BrokenPowerLaw, PowerLaw, PowerLaws, log_sum
from engine.scaling.frontier import IsoFlop, budgets, envelope, exponent, lowest
from engine.scaling.ladder import Ladder, LeftOut
from engine.scaling.law import FLOP, Law, effective
from tests.engine.scaling.test_fit import LAW, ladder

N, D = np.array([1e6, 4e6, 9e6, 2e7]), np.array([5e7, 3e7, 2e8, 1e9])


def test_a_sum_of_logs_has_the_shares_of_its_terms() -> None:
    value, shares = log_sum(np.array([0.0, 800.0]), np.log(3.0) + np.zeros(2))
    assert value == pytest.approx([math.log(4), 800.0]) and shares[0] == pytest.approx([0.25, 1.0])
    assert shares[1] == pytest.approx([0.75, 0.0], abs=1e-300)


def test_a_theta_is_its_law() -> None:
    form, theta = PowerLaws(N, D), np.array([0.3, -0.2, 0.5, 0.34, 0.28])
    law = form.law(theta)
    assert form.log_loss(theta[None])[0][0] == pytest.approx(np.log(law.loss(N, D)))
    assert (law.E, law.alpha, law.beta) == (pytest.approx(math.exp(0.5)), 0.34, 0.28)
    assert pytest.approx(math.exp(0.3) * math.exp(0.34 * np.log(N).mean())) == law.A
    assert form.laws(theta[None]).tolist() == [list(astuple(law))]
    (value,), _ = PowerLaw(N).log_loss(np.array([[0.7, 0.4]]))
    assert value == pytest.approx(0.7 - 0.4 * (np.log(N) - np.log(N).mean()))


def test_starts_at_the_true_exponents_are_the_law() -> None:
    form, loss = PowerLaws(N, D), LAW.loss(N, D)
    exponents = np.array([LAW.beta, LAW.alpha, 1.5])
    found = form.starts(loss, exponents)
    assert found.shape == (9, 5) and {tuple(row) for row in found[:, 3:].tolist()} == {
        (a, b) for a in exponents.tolist() for b in exponents.tolist()
    }
    (true,) = [row for row in found if (row[3], row[4]) == (LAW.alpha, LAW.beta)]
    assert list(astuple(form.law(true))) == pytest.approx(list(astuple(LAW)), rel=1e-4)
    weird = form.starts(loss[::-1], np.array([1.0]))  # where a part would be below nothing, it is next to nothing
    assert np.exp(weird[0, :3]).min() == pytest.approx(1e-3 * loss.min())


def test_the_broken_law_is_its_formula() -> None:
    b, e, c0, c1, d, f, x = 0.4, 0.2, 0.1, 0.15, -0.7, 0.3, np.log(N) - 15.0
    (value,), _ = BrokenPowerLaw(N, 15.0).log_loss(np.array([[b, e, c0, c1, d, f]]))
    bend = (1 + np.exp((x - d) / math.exp(f))) ** (-c1 * math.exp(f))
    assert np.exp(value) == pytest.approx(math.exp(e) + math.exp(b) * np.exp(-c0 * x) * bend)


def test_huber_s_loss_is_even_and_grows_as_a_line() -> None:
    assert huber(np.array([-2e-3, 1e-3, 0.0])) == pytest.approx([1.5e-6, 5e-7, 0])


def test_a_search_moves_only_where_it_gains_and_ends_where_it_stands() -> None:
    form = PowerLaws(N, D)
    seen = np.log(LAW.loss(N, D))
    start = np.array([[0.1, 0.1, 0.3, 0.3, 0.3]] * 3)
    weights = np.array([[1.0] * 4, [0.0, 1.0, 1.0, 1.0], [2.0] * 4])
    theta, objective = descend(form, start, seen, weights, rounds=3)
    again = (weights * huber(form.log_loss(theta)[0] - seen)).sum(-1)
    before = (weights * huber(form.log_loss(start)[0] - seen)).sum(-1)
    assert objective == pytest.approx(again, rel=1e-9) and (objective < before).all()
    far, short = (descend(form, start, seen, rounds=n)[1] for n in (300, 3))
    assert (far < short).all() and far[0] < 1e-12
    still, same = descend(form, start, seen, rounds=0)
    assert (still == start).all() and same == pytest.approx((huber(form.log_loss(start)[0] - seen)).sum(-1))


def test_a_law_s_best_size_and_the_worth_of_tokens() -> None:
    assert LAW.size_exponent == pytest.approx(0.28 / 0.62)
    n, d = LAW.best(1e20)
    slope_n = -LAW.alpha * LAW.A * n**-LAW.alpha  # of the loss by log N, and by log D
    assert slope_n == pytest.approx(-LAW.beta * LAW.B * d**-LAW.beta) and FLOP == 6
    for law in (replace(LAW, alpha=0.0), replace(LAW, beta=-0.1)):
        assert np.isnan(law.best(1e20)[0]) and np.isnan(law.best(1e20)[1])
    assert str(LAW) == "L(N, D) = 1.69 + 406/N^0.340 + 411/D^0.280"
    assert np.isfinite(Law(1.0, 1.0, 1.0, 500.0, 500.0).loss(10.0, 10.0))
    worth = effective(np.array([50.0, 300.0]), np.array([100.0, 100.0]), 2.0)
    assert worth == pytest.approx([50.0, 100 + 100 * 2 * (1 - math.exp(-1))])


def test_a_span_is_the_middle_of_what_is_a_number() -> None:
    values = np.arange(1001.0)
    assert fitted.span(values).tolist() == [25.0, 975.0]
    assert fitted.span(np.stack([values, values[::-1]]), axis=1).tolist() == [[25.0, 25.0], [975.0, 975.0]]
    assert fitted.span(np.array([np.nan, np.nan])).tolist() == [math.inf, math.inf]
    assert fitted.span(np.array([1.0, np.nan, 3.0]))[0] == pytest.approx(1.05)
    assert fitted.span(np.array([1.0, math.inf, math.inf]))[1] == math.inf
    laws = np.array([[1.0, 2.0, 3.0, 0.3, 0.1], [1.0, 2.0, 3.0, 0.3, 0.1]])
    assert fitted.intervals(laws) == {
        "E": (1, 1), "A": (2, 2), "B": (3, 3), "alpha": (0.3, 0.3), "beta": (0.1, 0.1), "a": (0.25, 0.25)
    }  # fmt: skip


def of(runs: Ladder, law: Law = LAW) -> Fitted:
    return Fitted(law, runs, np.zeros(5), 0.0)


def test_deviations_are_widened_for_what_was_fitted() -> None:
    runs = ladder(2, 4, 0.01)
    off = np.log(runs.loss / LAW.loss(runs.parameters, runs.tokens))
    assert of(runs).residuals == pytest.approx(off)
    assert of(runs).deviations == pytest.approx((off - off.mean()) * math.sqrt(8 / 3))
    few = runs.where(np.arange(8) < 5)
    assert of(few).deviations == pytest.approx((off[:5] - off[:5].mean()) * math.sqrt(5))
    assert isinstance(of(runs).form, PowerLaws) and (of(runs).form.tokens == runs.tokens).all()


def test_six_runs_of_three_sizes_and_amounts_are_enough() -> None:
    n, d = (each.ravel() for each in np.meshgrid([1e6, 2e6, 4e6], [1e7, 4e7, 9e7]))
    runs = Ladder(n, d, LAW.loss(n, d), np.arange(9))
    fitted.fit(runs.where(np.array([1, 1, 1, 0, 1, 1, 1, 0, 0], bool)))
    for kept, line in (
        ([1, 1, 1, 1, 1, 0, 0, 0, 0], "got 5 of 3 and 2"),
        ([1, 1, 0, 1, 1, 0, 1, 1, 0], "got 6 of 2 and 3"),
        ([1, 1, 1, 1, 1, 1, 0, 0, 0], "got 6 of 3 and 2"),
    ):
        with pytest.raises(DataError, match=line):
            fitted.fit(runs.where(np.array(kept, bool)))


def test_refits_are_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fitted.fit(ladder(2, 4, 0.01))
    whole = fitted.refits(found, 7, seed=3)
    assert whole.shape == (7, 5) and (whole != fitted.refits(found, 7)).any()
    asked: list[np.ndarray] = []
    monkeypatch.setattr(fitted, "_again", lambda form, theta, seen, w: asked.append(w) or np.zeros((len(w), 5)))
    monkeypatch.setattr(fitted, "CHUNK", 24)  # three at a time
    fitted.refits(found, 7, seed=3)
    assert [len(w) for w in asked] == [3, 3, 1]
    assert np.concatenate(asked) == pytest.approx(np.random.default_rng(3).exponential(size=(7, 8)))
    asked.clear()
    fitted.leave_one_out(found)
    assert (asked[0] == 1 - np.eye(8)).all()


def test_runs_far_above_the_others_law_have_diverged() -> None:
    runs = ladder(4, 5)
    for times, left in ((1.3, 0), (3.0, 1)):
        loss = runs.loss.copy()
        loss[7] *= times
        named = np.array([f"r{i}" for i in range(20)])
        found, gone = fitted.fit_sound(replace(runs, loss=loss, run=named))
        assert len(gone) == left and len(found.runs) == 20 - left
    assert gone[0].run == "r7" and gone[0].row == 9 and f"is {times:.1f} times" in gone[0].reason
    assert str(gone[0]).startswith("row 9 (r7): it diverged") and str(LeftOut(3, "no")) == "row 3: no"


# -- budgets and the frontier ------------------------------------------------------------------------------------------


def test_runs_of_about_one_compute_are_a_budget() -> None:
    sizes = np.array([1e6, 2e6, 4e6, 8e6])
    n = np.concatenate([sizes[::-1], sizes, sizes[:3]])
    compute = np.concatenate([[1e15, 1.1e15, 1.2e15, 1.3e15], [1.6e16] * 4, [9e17] * 3])
    d = compute / FLOP / n
    loss = (np.log(n) - np.log(3e6)) ** 2 + 2
    found = budgets(Ladder(n, d, loss, np.arange(11)))
    assert len(found) == 2 and found[0].sizes == tuple(sizes) and found[0].losses == tuple(loss[:4][::-1])
    assert found[0].compute == pytest.approx(float(np.exp(np.log(compute[:4]).mean())))
    assert found[1].compute == pytest.approx(1.6e16) and found[0].window == 8
    assert [each.best for each in found] == pytest.approx([3e6, 3e6]) and found[0].loss == pytest.approx(2)
    assert found[0].parabola(np.array([3e6, 6e6])) == pytest.approx([2, 2 + math.log(2) ** 2])
    none = IsoFlop(1e25, tuple(sizes), (4.0, 3.0, 2.0, 1.0), None, None)
    assert none.bias(LAW) is None
    twice = Ladder(n[[0, 0, 1, 2]], d[[0, 0, 1, 2]], loss[[0, 0, 1, 2]], np.arange(4))
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
    runs = Ladder(one, np.array([2.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0, 3.0, 3.0]), np.arange(4))
    assert envelope(runs).tolist() == [1, 2]  # of one compute the better, and no run that is only as good


# -- forecasts ---------------------------------------------------------------------------------------------------------


def test_runs_are_foretold_the_cheapest_first_with_the_law_s_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ladder(2, 4, 0.01)
    laws = np.array([list(astuple(LAW)), [2.0, 400.0, 410.0, 0.34, 0.28]])
    asked: list[Any] = []
    monkeypatch.setattr(forecast, "refits", lambda f, count, *, seed: asked.append((count, seed)) or laws)
    order = np.array([3, 0, 5])
    found = forecast.foretold(of(runs), runs.where(np.isin(np.arange(8), order)), seed=4, count=2)
    assert asked == [(2, 4)]
    chance = np.exp(np.random.default_rng([4, 2]).choice(of(runs).deviations, 2))
    cheapest = sorted(order.tolist(), key=lambda i: (runs.compute[i], i))
    assert [each.row for each in found] == [int(runs.row[i]) for i in cheapest]
    for each, i in zip(found, cheapest, strict=True):
        losses = chance * np.array([Law(*law).loss(runs.parameters[i], runs.tokens[i]) for law in laws])
        low, high = np.quantile(losses, [0.025, 0.975])
        assert (each.low, each.high) == (pytest.approx(low), pytest.approx(high)) and each.seen == runs.loss[i]
        assert each.told == pytest.approx(LAW.loss(runs.parameters[i], runs.tokens[i]))
        assert each.compute == runs.compute[i]
    assert [Foretold(1, 1.0, 2.0, 1.0, 3.0, seen).is_inside for seen in (0.9, 1.0, 3.0, 3.1)] == [0, 1, 1, 0]


def test_the_largest_decade_or_third_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ladder(4, 5)  # 1e17 to 1e21, each 21.5 times the one before
    asked: list[Any] = []
    monkeypatch.setattr(forecast, "fit", lambda some: asked.append(len(some)) or "law")

    def told(law: Any, some: Ladder, *, seed: int, count: int) -> list[Any]:
        asked.append((law, sorted(some.row.tolist()), seed, count))
        return [SimpleNamespace(low=1.0, high=2.0), SimpleNamespace(low=math.inf, high=math.inf)]

    monkeypatch.setattr(forecast, "foretold", told)
    assert len(held_out(runs, seed=3, count=9)) == 1
    assert asked == [15, ("law", [17, 18, 19, 20, 21], 3, 9)]
    near = replace(runs, tokens=runs.tokens * np.repeat([1e4, 1e3, 1.0, 1.0], 5))
    asked.clear()
    held_out(near)
    top = near.compute > np.sort(near.compute)[-7]
    assert asked[1] == ("law", sorted(near.row[top].tolist()), 0, 500) and top.sum() <= 6 and asked[0] == 20 - top.sum()

    def none(_: Any) -> Any:
        raise DataError("no law")

    monkeypatch.setattr(forecast, "fit", none)
    assert held_out(runs) == []


def test_a_budget_buys_what_the_law_says_with_intervals_up_to_ten_times() -> None:
    runs = ladder(2, 4)
    laws = np.array([list(astuple(LAW)), [1.7, 400.0, 400.0, 0.3, 0.3], [1.7, 400.0, 400.0, -0.1, 0.3]])
    largest = float(runs.compute.max())
    found = buy(of(runs), laws, 10 * largest)
    n, d = LAW.best(10 * largest)
    assert (found.parameters, found.tokens, found.loss) == (n, d, LAW.loss(n, d)) and found.times == pytest.approx(10)
    each = [(*Law(*law).best(10 * largest), Law(*law).loss(*Law(*law).best(10 * largest))) for law in laws[:2]]
    spans = fitted.span(np.array(each))
    assert found.intervals == {
        name: (pytest.approx(spans[0, i]), pytest.approx(spans[1, i]))
        for i, name in enumerate(("parameters", "tokens", "loss"))
    }
    assert not found.is_open and buy(of(runs), laws, 10.0001 * largest).is_open
    line = forecast.frontier(of(runs), laws, 1e18, 1e20, points=3)
    assert line.compute == pytest.approx([1e18, 1e19, 1e20]) and line.loss == pytest.approx(
        [LAW.loss(*LAW.best(c)) for c in (1e18, 1e19, 1e20)]
    )
    both = [sorted(Law(*law).loss(*Law(*law).best(1e19)) for law in laws[:2])]
    low, high = np.quantile(both, [0.025, 0.975])
    assert (line.low[1], line.high[1]) == (pytest.approx(low), pytest.approx(high))
    assert len(forecast.frontier(of(runs), laws, 1.0, 2.0).compute) == 80


def test_a_machine_s_rate_is_that_of_the_larger_half() -> None:
    one = np.ones(5)
    runs = Ladder(one, np.array([1.0, 2, 3, 4, 5]) / FLOP, one, np.arange(5))
    assert rate(runs) is None and rate(replace(runs, seconds=np.full(5, np.nan))) is None
    assert rate(replace(runs, seconds=np.array([1.0, 1, 1, 2, 1]))) == pytest.approx(3)  # of 3, 2 and 5
    assert rate(replace(runs, seconds=np.array([np.nan, 1, 1, np.nan, 1]))) == pytest.approx(4)


def test_doubts_are_of_runs_that_were_read_again_and_of_a_break() -> None:
    found = fitted.fit(ladder(2, 4))
    assert alternatives.repeated(found) is None
    once = replace(found, runs=replace(found.runs, unique=found.runs.tokens))
    assert alternatives.repeated(once) is None  # none was read twice
    assert alternatives.broken(ladder(2, 3)) is None
    compute = np.geomspace(1e15, 1e17, 8)
    eight = Ladder(compute / FLOP, np.ones(8), 2 + (compute / 1e15) ** -0.1, np.arange(8))
    assert alternatives.broken(eight.where(np.arange(8) < 7)) is None
    broken = alternatives.broken(eight)
    assert broken is not None and broken.objective < 1e-9
    assert [broken.loss(c) for c in compute] == pytest.approx(eight.loss.tolist(), rel=1e-4)
    assert broken.centre == pytest.approx(float(np.log(compute).mean())) and len(broken.theta) == 6
    assert broken.before == broken.theta[2] and broken.after == broken.theta[2] + broken.theta[3]
    assert broken.at == pytest.approx(math.exp(broken.theta[4] + broken.centre))


# -- the report --------------------------------------------------------------------------------------------------------


def test_the_report_has_each_part_of_the_runs_that_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FEW", 20), ("HIGHEST", 3)):
        monkeypatch.setattr(report, name, value)
    coverage: list[Any] = []
    monkeypatch.setattr(report.fits, "coverage", lambda found, *, seed: coverage.append(seed) or {"E": 0.9})
    monkeypatch.setattr(report, "broken", lambda runs: ("broken", len(runs)))
    monkeypatch.setattr(report, "held_out", lambda runs, *, seed: [("held", len(runs), seed)])
    runs = ladder(4, 5, 0.003)
    loss = runs.loss.copy()
    loss[2] *= 3
    runs = replace(runs, loss=loss, embedding=runs.parameters * 0.25)
    left = [LeftOut(99, "no"), LeftOut(1, "none")]
    found = report.report(runs, left, count=40, seed=5)
    assert len(found.fitted.runs) == 19 and [each.row for each in found.left_out] == [1, 4, 99]
    assert found.laws.shape == (40, 5) and (found.laws == fitted.refits(found.fitted, 40, seed=5)).all()
    assert found.intervals == fitted.intervals(found.laws) and found.coverage == {"E": 0.9} and coverage == [5]
    assert (found.broken, found.foretold, found.repeated) == (("broken", 19), [("held", 19, 5)], None)
    largest = float(found.fitted.runs.compute.max())
    assert [each.compute / largest for each in found.purchases] == pytest.approx([1, 10, 100])
    assert found.iso_flop == budgets(found.fitted.runs) and found.by_parabolas is not None
    lows = [each for each in found.iso_flop if each.best]
    assert found.by_parabolas == exponent(np.array([e.compute for e in lows]), np.array([e.best for e in lows]))
    best = envelope(found.fitted.runs)
    assert found.by_envelope == exponent(found.fitted.runs.compute[best], found.fitted.runs.parameters[best])
    without = found.without_embedding
    assert without is not None and (without.runs.parameters == found.fitted.runs.parameters * 0.75).all()
    alone = Law(*fitted.leave_one_out(found.fitted).T)
    rows = {
        f"without row {found.fitted.runs.row[i]}" for i in (alone.size_exponent.argmin(), alone.size_exponent.argmax())
    }
    assert {each.without for each in found.sensitivity} == {*rows, "without the 3 highest losses"}
    for each in found.sensitivity[:-1]:
        i = found.fitted.runs.row.tolist().index(int(each.without.split()[-1]))
        assert (each.alpha, each.beta, each.a) == (alone.alpha[i], alone.beta[i], alone.size_exponent[i])
    kept = found.fitted.runs.where(found.fitted.runs.loss < np.sort(found.fitted.runs.loss)[-3])
    assert found.sensitivity[-1].alpha == fitted.fit(kept).law.alpha and len(kept) == 16
    every = report.report(runs, [], [3e18], count=5, keep_all=True)
    assert len(every.fitted.runs) == 20 and every.coverage is None and [e.compute for e in every.purchases] == [3e18]
    plain = report.report(ladder(4, 5, 0.003), [], count=5)
    assert plain.without_embedding is None and plain.left_out == []


def test_runs_whose_loss_does_not_fall_with_both_have_no_best_size(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ladder(2, 4)
    monkeypatch.setattr(report.fits, "fit", lambda some: of(some, replace(LAW, alpha=-0.1)))
    with pytest.raises(DataError, match=r"does not fall with both .*alpha -0\.1, beta 0\.28"):
        report.report(runs, [], keep_all=True)
