"""Calibration against loops over items: bins and their edges, errors, measures of a choice, the best temperature."""

import itertools
import math

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import bootstrap, mean
from likely.engine.measure.evaluate.figures import temperature_scaling
from likely.engine.measure.evaluate.figures.calibration import Bin, debiased, ece, of_choice, reliability, temperature
from likely.engine.measure.evaluate.figures.figures import CALIBRATION
from likely.engine.measure.evaluate.tasks.tasks import Result


def by_hand(said: np.ndarray, was: np.ndarray, edges: list[float]) -> list[Bin]:
    found = []
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        there = [i for i in range(len(said)) if low < said[i] <= high or (number == 0 and said[i] <= low)]
        if there:
            found.append(Bin(low, high, len(there), float(said[there].mean()), float(was[there].mean())))
    return found


def same(found: list[Bin], expected: list[Bin]) -> None:
    assert [each.count for each in found] == [each.count for each in expected]
    for name in ("low", "high", "confidence", "accuracy"):
        assert [getattr(b, name) for b in found] == pytest.approx([getattr(b, name) for b in expected], abs=1e-12)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_bins_of_equal_width_hold_what_lies_above_their_low_end(bins: int) -> None:
    random = np.random.default_rng(bins)
    said = np.concatenate([random.random(60) ** 2, [0.0, 1.0]])
    was = (random.random(62) < said).astype(float)
    same(reliability(said, was, bins), by_hand(said, was, [i / bins for i in range(bins + 1)]))
    assert reliability(said, was) == reliability(said.tolist(), was.tolist(), 15)


def test_an_edge_is_met_by_what_rounding_makes_of_it() -> None:
    for i in range(1, 10):
        for said, low in ((i / 10, i - 1), (i / 10 + 5e-13, i - 1), (i / 10 + 1e-9, i), (i / 10 - 1e-9, i - 1)):
            (only,) = reliability([said], [1.0], 10)
            assert only.low == pytest.approx(low / 10) and only.high == pytest.approx((low + 1) / 10)
    assert [(each.low, each.high) for each in reliability([0.0, 1.0], [1, 1], 2)] == [(0.0, 0.5), (0.5, 1.0)]
    assert reliability([], [], 5) == []


def test_errors_are_weighed_by_their_bins_items() -> None:
    bins = [Bin(0.0, 0.5, 4, 0.3, 0.5), Bin(0.5, 1.0, 6, 0.9, 2 / 3), Bin(0.9, 1.0, 1, 0.95, 0.0)]
    assert ece(bins) == pytest.approx((4 * 0.2 + 6 * (0.9 - 2 / 3) + 0.95) / 11)
    squares = 4 * (0.04 - 0.25 / 3) + 6 * ((0.9 - 2 / 3) ** 2 - 2 / 9 / 5)  # a bin of one has no variance to take off
    assert squares < 0 == debiased(bins)
    far = [Bin(0.0, 1.0, 4, 0.9, 0.5), Bin(0.0, 1.0, 2, 0.1, 1.0)]
    assert debiased(far) == pytest.approx(math.sqrt((4 * (0.16 - 0.25 / 3) + 2 * 0.81) / 6))
    assert math.isnan(ece([])) and math.isnan(debiased([])) and debiased([Bin(0, 1, 1, 0.9, 0.0)]) == 0


def test_measures_of_a_question_by_its_choices() -> None:
    found = of_choice([math.log(0.2) - 3, math.log(0.5) - 3, math.log(0.3) - 3], 2)
    assert found == pytest.approx(
        {"acc": 0.0, "brier_score": 0.04 + 0.25 + 0.49, "nll": -math.log(0.3), "confidence": 0.5}
    )
    assert of_choice([-1.0, -1.0], 0)["acc"] == 1 and of_choice([-1.0, -1.0], 1)["acc"] == 0
    assert of_choice([-1000.0, -1001.0], 0)["confidence"] == pytest.approx(1 / (1 + math.exp(-1)))


def loss(rows: list[list[float]], gold: list[int], t: float) -> float:
    return math.fsum(np.logaddexp.reduce(np.array(row) / t) - row[g] / t for row, g in zip(rows, gold, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_the_temperature_is_the_one_of_least_loss(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [random.normal(5, 1, random.integers(2, 5)).tolist() for _ in range(12)]
    gold = [int(np.argmax(row)) if random.random() < 0.6 else 0 for row in rows]
    found = temperature(rows, gold)
    least = loss(rows, gold, found)
    assert 0.05 < found < 50
    for near in (0.999, 1.001):
        assert loss(rows, gold, found * near) > least
    slope = (loss(rows, gold, found * (1 + 1e-4)) - loss(rows, gold, found * (1 - 1e-4))) / 2e-4
    assert abs(slope) < 1e-6
    rows[0] = [*rows[0], -math.inf]  # what cannot be moves nothing
    assert temperature(rows, gold) == pytest.approx(found, rel=1e-9)


def test_the_temperature_has_bounds_where_all_is_right_or_worse_than_chance() -> None:
    assert temperature([[0.0, 1.0], [3.0, 0.0]], [1, 0]) == pytest.approx(0.01, rel=1e-9)
    assert temperature([[0.0, 1.0], [3.0, 0.0]], [0, 1]) == pytest.approx(100, rel=1e-9)


def test_scaled_measures_are_those_of_choices_at_the_temperature() -> None:
    random = np.random.default_rng(7)
    details = [{"loglikelihoods": random.normal(0, 2, 3).tolist(), "gold": i % 3} for i in range(30)]
    answered = [Result(i, None, {}, detail) for i, detail in enumerate(details)]
    fitted = temperature_scaling.fit(answered)
    assert fitted == temperature(*([each.detail[name] for each in answered] for name in ("loglikelihoods", "gold")))
    found = temperature_scaling.scaled(answered, 2.5)
    each = [of_choice([x / 2.5 for x in a.detail["loglikelihoods"]], a.detail["gold"]) for a in answered]
    assert set(found) == {f"{name}_scaled" for name in ("brier_score", "nll", *CALIBRATION)}
    for name in ("brier_score", "nll"):
        assert found[f"{name}_scaled"] == mean([of[name] for of in each])
    rows = np.array([[of["confidence"], of["acc"]] for of in each])
    assert found["ece_scaled"] == bootstrap(rows, CALIBRATION["ece"], samples=500)
    assert temperature_scaling.scaled([], 2.5) == {}
    with pytest.raises(DataError, match="the validation task has none"):
        temperature_scaling.fit([])
