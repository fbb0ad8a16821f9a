"""Learning curves against least squares cell by cell, and bounds at their edges."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError, ParameterError
from engine.estimate import bounds, curve, guarantee, ladder
from engine.estimate.bounds import GaussianPosterior, RiskBound
from engine.estimate.curve import Foretelling, LearningCurve, told
from engine.estimate.guarantee import ERRORS, LOSS, Guarantees

ROWS = np.array([10.0, 10, 20, 40, 40, 80])
LOSSES = np.array([3.0, 3.1, 2.4, 2.0, 1.9, 1.7])


def cell(beta: float) -> tuple[np.ndarray, np.ndarray, float, float]:
    """E and B by least squares of losses over themselves, their covariance in units of the noise, the squares left,
    and how far the curve's derivative by beta is from what E and B can do."""
    x = (ROWS / 80) ** -beta
    design = np.column_stack([1 / LOSSES, x / LOSSES])
    linear = np.linalg.lstsq(design, np.ones(6), rcond=None)[0]
    slope = -x * np.log(ROWS / 80) / LOSSES
    alone = slope - design @ np.linalg.lstsq(design, slope, rcond=None)[0]
    left = float(((1 - design @ linear) ** 2).sum())
    return linear, np.linalg.inv(design.T @ design), left, float(np.sqrt((alone**2).sum()))


def test_each_cell_is_a_least_squares_fit_with_its_weight() -> None:
    grid = np.geomspace(0.1, 2.0, 40)
    found = curve._posterior(grid, ROWS, LOSSES)
    cells = [cell(beta) for beta in grid]
    assert found.linear == pytest.approx(np.stack([c[0] for c in cells]), rel=1e-6)
    assert found.spread == pytest.approx(np.stack([c[1] for c in cells]), rel=1e-6)
    assert found.squares == pytest.approx([c[2] for c in cells], rel=1e-6)
    wide = [(grid[min(i + 1, 39)] - grid[max(i - 1, 0)]) / (min(i + 1, 39) - max(i - 1, 0)) for i in range(40)]
    logs = [
        (2 - 6) / 2 * math.log(left) + math.log(abs(linear[1]) * away) + math.log(step)
        for (linear, _, left, away), step in zip(cells, wide, strict=True)
    ]
    weight = np.exp(np.array(logs) - max(logs))
    assert found.weight[1:-1] == pytest.approx(weight[1:-1], rel=0.05)  # the grid's steps are not even
    assert found.weight.max() == 1 and (found.beta == grid).all()


def test_draws_have_the_posterior_s_mean_spread_and_noise() -> None:
    found = curve.fit(ROWS, LOSSES, draws=4000, seed=1)
    grid = np.geomspace(0.02, 5, 1200)
    cells = curve._posterior(grid, ROWS, LOSSES)
    share = cells.weight / cells.weight.sum()
    middle = float(share @ grid)
    deviation = math.sqrt(float(share @ (grid - middle) ** 2))
    assert found.beta.mean() == pytest.approx(middle, abs=5 * deviation / math.sqrt(4000) + 0.02 * deviation)
    assert found.beta.std() == pytest.approx(deviation, rel=0.1)
    left = np.interp(found.beta, grid, cells.squares)
    assert float((left / found.noise**2).mean()) == pytest.approx(4, rel=0.05)  # chi square of n - 2
    at = [np.interp(found.beta, grid, cells.linear[:, i]) for i in range(2)]
    for i, draws in enumerate((found.floor, found.fall)):
        unit = (draws - at[i]) / found.noise / np.sqrt(np.interp(found.beta, grid, cells.spread[:, i, i]))
        assert abs(unit.mean()) < 0.08 and unit.std() == pytest.approx(1, abs=0.05)
    again = curve.fit(ROWS.tolist(), LOSSES.tolist())
    assert len(again.beta) == 2000 and (again.beta == curve.fit(ROWS, LOSSES, draws=2000, seed=0).beta).all()
    assert (found.rows == ROWS).all() and (found.losses == LOSSES).all() and found.largest == 80


def test_a_curve_s_losses_and_what_rows_are_worth_are_by_its_draws() -> None:
    made = LearningCurve(ROWS, LOSSES, np.array([1.0, 2.0]), np.array([0.5, 1.0]), np.array([1.0, 0.5]), np.ones(2))
    assert made.loss(20).tolist() == pytest.approx([1 + 0.5 * 4, 2 + 2]) and made.loss(80).tolist() == [1.5, 3.0]
    assert made.worth(20, 80) == told(np.array([1.5, 1.0]))
    assert made.numbers == {"E": told(made.floor), "beta": told(made.beta)}
    draws = np.arange(1001.0)
    assert told(draws, 7.0) == Foretelling(500.0, 25.0, 975.0, 7.0) and told(draws).seen is None
    assert Foretelling(1, 0, 2).is_inside is None
    assert [Foretelling(1, 0, 2, x).is_inside for x in (-0.1, 0, 2, 2.1)] == [False, True, True, False]


def test_five_runs_of_three_sizes_are_enough() -> None:
    curve.fit([1, 1, 2, 2, 4], [3.0, 3.1, 2, 2.1, 1.5], draws=10)
    for rows, losses, line in (
        ([1, 2, 4, 8], [3.0, 2, 1, 0.5], "got 4 of 4"),
        ([1, 1, 1, 2, 2], [3.0, 3, 2, 2, 1], "got 5 of 2"),
        ([1, 1, 2, 2, 4], [3.0, 3, 2, 2, 0.0], "above 0"),
        ([1, 1, 2, 2, 4], [3.0, 3, 2, 2, math.inf], "above 0"),
        ([1, 1, 2, 2, 4], [1.0, 1, 1, 1, 1 + 9e-10], "all the same"),
    ):
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
    assert found.loss == told(to_come, 1.65) and found.gain == told(1.95 - to_come, 1.95 - 1.65)
    assert curve.checked(rows[:5], losses[:5]) is None
    assert curve.checked(rows, losses) == curve.checked(rows, losses, draws=2000, seed=0)


def test_coverage_asks_each_world_for_the_known_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    law, asked = (1.0, 5.0, 0.5), []
    random = np.random.default_rng([4, 6])

    def truth(n: Any) -> Any:
        return 1 + 5 * n**-0.5

    def fitted(n: np.ndarray, losses: np.ndarray, *, draws: int, seed: int) -> Any:
        expected = truth(ROWS) * np.exp(0.1 * random.standard_normal(6))
        assert losses == pytest.approx(expected) and draws == 77
        asked.append(seed)
        right = seed % 2 == 0
        loss = np.full(9, truth(80.0 + 20) + (0 if right else 1))
        return SimpleNamespace(
            loss=lambda end: loss if end == 100 else pytest.fail(str(end)),
            worth=lambda low, high: told(np.full(9, truth(80.0) - truth(100.0) + (seed > 0)))
            if (low, high) == (80, 100) else None,
            numbers={"beta": Foretelling(0.5, 0.5, 0.5) if seed < 3 else Foretelling(9, 9, 9)},
        )  # fmt: skip

    outs = [None, SimpleNamespace(loss=Foretelling(1, 0, 2, 1.5)), SimpleNamespace(loss=Foretelling(1, 0, 2, 3)), None]
    monkeypatch.setattr(curve, "fit", fitted)
    monkeypatch.setattr(curve, "checked", lambda n, losses, *, draws, seed: outs[seed])
    found = curve.coverage(ROWS, law, 0.1, count=4, draws=77, more=20, seed=4)
    assert asked == [0, 1, 2, 3] and found == {"loss": 0.5, "worth": 0.25, "beta": 0.75, "held out": 0.25}


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_bounds_at_their_edges() -> None:
    assert bounds.clopper_pearson(0, 1) == pytest.approx(0.95) and bounds.clopper_pearson(1, 1) == 1
    assert bounds.clopper_pearson(3, 20) == bounds.clopper_pearson(3, 20, 0.05)
    for errors, n in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(DataError, match=f"got {errors} of {n}"):
            bounds.clopper_pearson(errors, n)
    assert bounds.hoeffding(1.0, 50, 4.0) == bounds.hoeffding(1.0, 50, 4.0, 0.05)
    assert bounds.binary_kl(0.0, 0.0) == 0 and bounds.binary_kl(1.0, 1.0) == 0
    assert bounds.binary_kl(0.5, 0.0) == math.inf == bounds.binary_kl(0.5, 1.0)
    exact = 0.3 * math.log(0.3 / 0.6) + 0.7 * math.log(0.7 / 0.4)
    assert bounds.binary_kl(0.3, 0.6) == pytest.approx(exact)
    assert bounds.kl_inverse(1.0, 0.2) == pytest.approx(1) and bounds.kl_inverse(0.3, 0.0) == pytest.approx(0.3)
    assert bounds.kl_inverse(0.3, exact) == pytest.approx(0.6, abs=1e-12)
    for upper, vacuous in ((0.99, False), (1.0, True), (1.5, True)):
        assert RiskBound("", 9, 0.5, upper, 1.0, 0.95).is_vacuous is vacuous
    assert RiskBound("", 9, 0.5, 1.0, 1.0, 0.95).kl is None


def test_a_divergence_is_from_where_the_prior_is_centred() -> None:
    random = np.random.default_rng(0)
    mean = {"a": random.normal(size=(2, 3)), "b": random.normal(size=4)}
    start = {"a": random.normal(size=(2, 3)), "b": np.full(4, 0.3)}
    variance = {"a": np.array(0.02), "b": random.uniform(0.01, 0.05, 4)}
    found = GaussianPosterior(mean, variance, start)
    best = []
    for j in range(1, 3001):
        prior, kl = 0.1 * math.exp(-j / 100), 0.0
        for name in mean:
            for m, s, v in np.broadcast(mean[name], start[name], variance[name]):
                kl += ((v + (m - s) ** 2) / prior - 1 + math.log(prior / v)) / 2
        best.append((kl + 2 * math.log(j), kl, 6 * 0.05 / (math.pi * j) ** 2))
    kl, left = found.divergence()
    assert (kl, left) == pytest.approx(min(best)[1:]) and found.divergence(0.01)[1] == pytest.approx(left / 5)
    drawn = [found.draw(np.random.default_rng(i)) for i in range(400)]
    for name in mean:
        each = np.stack([draw[name] for draw in drawn])
        assert each.mean(0) == pytest.approx(mean[name], abs=5 * math.sqrt(0.05 / 400))
        assert (each.var(0) / variance[name]).mean() == pytest.approx(1, abs=0.1)
    wide = GaussianPosterior({"a": np.full(3, 50.0)}, {"a": np.array(1.0)}, {"a": np.zeros(3)})
    assert wide.divergence()[1] == pytest.approx(6 * 0.05 / math.pi**2)  # the widest of the family, the first


def test_a_bound_of_drawn_models_pays_for_few_draws_and_each_try() -> None:
    posterior = GaussianPosterior({"a": np.full(5, 0.1)}, {"a": np.array(0.01)}, {"a": np.zeros(5)})
    kl, left = posterior.divergence(0.025)
    for tried in (1, 4):
        few = bounds.kl_inverse(0.2, math.log(2 * tried / 0.025) / 3)
        upper = bounds.kl_inverse(few, (kl + math.log(2 * math.sqrt(70) / left)) / 70)
        assert bounds.pac_bayes([0.1, 0.2, 0.3], 70, posterior, 0.05, tried) == (pytest.approx(upper), kl)
    assert bounds.pac_bayes([0.1], 70, posterior) == bounds.pac_bayes([0.1], 70, posterior, 0.05, 1)
    lost = bounds.smoothed(np.array([0.25, 0.5]), 10, 0.2)
    assert lost == pytest.approx([-math.log(0.8 * 0.25 + 0.02), -math.log(0.8 * 0.5 + 0.02)])


def guarantees(losses: Any, mean: dict[str, np.ndarray], begun: str = "") -> tuple[Any, list[Any]]:
    """An adapter whose losses are a function of its weights."""
    made, sets = Guarantees.__new__(Guarantees), []
    made.start, made.mean, made._begun = {n: np.zeros_like(m) for n, m in mean.items()}, mean, begun
    trained = SimpleNamespace(set=lambda arrays: sets.append({n: np.array(a) for n, a in arrays.items()}))
    config = SimpleNamespace(vocab_size=100)
    made._run = SimpleNamespace(model=SimpleNamespace(config=config), trained=trained)  # type: ignore[assignment]
    made.losses = lambda rows: losses(sets[-1] if sets else None)  # type: ignore[method-assign]
    return made, sets


def test_bounds_by_rows_held_out_are_of_their_kind() -> None:
    given = {ERRORS: np.array([1.0, 0.0, 0.0, 1.0]), LOSS: np.array([1.0, 2.0, 0.5, 0.5])}
    made, _ = guarantees(lambda _: given, {})
    assert made.trivial == {ERRORS: 1.0, LOSS: math.log(100)}
    assert made.largest == {ERRORS: 1.0, LOSS: math.log(100 / guarantee.SMOOTHING)}
    wrong, lost = made.held_out([], 0.1)
    assert wrong == RiskBound(f"{ERRORS} (Clopper-Pearson)", 4, 0.5, bounds.clopper_pearson(2, 4, 0.1), 1.0, 0.9)
    upper = bounds.hoeffding(1.0, 4, math.log(100 / guarantee.SMOOTHING), 0.1)
    assert lost == RiskBound(f"{LOSS} (Hoeffding)", 4, 1.0, upper, math.log(100), 0.9)
    assert made.held_out([])[0].confidence == 0.95


def test_bounds_by_the_rows_of_training_are_the_best_of_the_widths() -> None:
    mean = {"a": np.array([0.5, -0.5])}

    def losses(now: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        assert now is not None
        wrong = float(np.abs(now["a"] - mean["a"]).max() > 0.05)
        return {ERRORS: np.array([wrong] * 3 + [0.0] * 47), LOSS: np.full(50, 0.5 + wrong)}

    made, sets = guarantees(losses, mean)
    found = made.trained([], draws=4, seed=2)
    widths = guarantee.WIDTHS
    assert len(sets) == len(widths) * 5 and all(set(s) == {"a"} and s["a"].dtype == np.float32 for s in sets)
    best: dict[str, RiskBound] = {}
    for k, width in enumerate(widths):
        posterior = GaussianPosterior(mean, {"a": np.array(width**2)}, made.start)
        random = np.random.default_rng(2)
        drawn = [posterior.draw(random)["a"] for _ in range(4)]
        for i, each in enumerate(drawn):
            assert sets[5 * k + i]["a"] == pytest.approx(each, abs=1e-6)
        assert sets[5 * k + 4]["a"].tolist() == [0.5, -0.5]  # itself again
        for name, largest in made.largest.items():
            shares = [float(losses({"a": each.astype(np.float32)})[name].mean()) / largest for each in drawn]
            upper, kl = bounds.pac_bayes(shares, 50, posterior, 0.05, len(widths))
            bound = RiskBound(f"{name} (PAC-Bayes)", 50, float(np.mean(shares)) * largest, upper * largest,
                              made.trivial[name], 0.95, kl)  # fmt: skip
            if name not in best or bound.upper < best[name].upper:
                best[name] = bound
    assert found == list(best.values())
    one = made.trained([], {"a": np.array(0.01)}, draws=4, seed=2)
    posterior = GaussianPosterior(mean, {"a": np.array(0.01)}, made.start)
    assert one[0].kl == posterior.divergence(0.025)[0] and len(sets) == len(widths) * 5 + 5
    assert len(made.trained([], {"a": np.array(0.01)})) == 2 and len(sets) == len(widths) * 5 + 5 + 21
    begun, _ = guarantees(losses, mean, "start")
    with pytest.raises(ParameterError, match="began at warm_start start, which may have seen these rows"):
        begun.trained([])


@pytest.mark.parametrize(
    ("asked", "there", "found"),
    [((), 100, [6, 12, 25, 50, 100]), ((), 3, [1, 3]), ((0, 4), 4, [0, 4]), ((4, 2, 4), 9, [2, 4])],
)
def test_amounts_are_halves_or_those_that_are_asked_for(asked: Sequence[int], there: int, found: list[int]) -> None:
    assert ladder.sizes(asked, there) == found
    with pytest.raises(ParameterError, match="0 to the 4 rows"):
        ladder.sizes((-1, 2), 4)
