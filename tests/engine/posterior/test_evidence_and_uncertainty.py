"""Evidence at its bounds, the probit formula in closed form, samples that are drawn, and how many there may be."""

import math

import numpy as np
import pytest

from likely.engine.errors import ParameterError
from likely.engine.posterior import averaged
from likely.engine.posterior.averaged import samples_of
from likely.engine.posterior.evidence import best_precision
from likely.engine.posterior.kronecker import Curvature, Kronecker, Spectrum
from likely.engine.posterior.posterior import Ensemble, Laplace
from likely.engine.posterior.uncertainty import check_samples, probit, sampled


def test_the_best_precision_is_where_both_sides_are_alike_and_has_bounds() -> None:
    h, square = np.array([0.25, 3.0, 8.0, 0.0]), 0.6
    best = best_precision(square, h)
    assert float((h / (h + best)).sum()) == pytest.approx(best * square, rel=1e-9)
    assert best_precision(1e-30, np.ones(2)) == pytest.approx(1e12)
    assert best_precision(1e30, np.ones(2)) == pytest.approx(1e-8)
    for square, h, why in (
        (0.0, np.ones(3), "the weights are 0"),
        (0.0, np.zeros(3), "the weights are 0"),
        (1.0, np.zeros(3), "the data do not depend on the weights"),
        (1.0, np.zeros(0), "the data do not depend on the weights"),
    ):
        with pytest.raises(ParameterError, match=why):
            best_precision(square, h)


def test_the_probit_formula_is_a_softmax_of_shrunk_logits() -> None:
    mean, variance = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 3000.0]]), np.array([[1.0, 4.0, 0.0], [2.0, 2.0, 2.0]])
    for row, spread, found in zip(mean, variance, probit(mean, variance), strict=True):
        shrunk = [m / math.sqrt(1 + math.pi * v / 8) for m, v in zip(row, spread, strict=True)]
        mass = [math.exp(x - max(shrunk)) for x in shrunk]
        assert found == pytest.approx(np.array(mass) / sum(mass))


def test_logits_are_drawn_with_their_covariance() -> None:
    """Of two classes the difference is a Gaussian alone: its mean sigmoid by quadrature."""
    mean, covariance = np.array([1.0, 0.2]), np.array([[2.0, 1.2], [1.2, 1.5]])
    x, w = np.polynomial.hermite_e.hermegauss(80)
    exact = float((w / (1 + np.exp(-(0.8 + math.sqrt(2 + 1.5 - 2.4) * x)))).sum() / w.sum())
    found = sampled(mean, covariance)
    assert found[0] == pytest.approx(exact, abs=0.006) and found.sum() == pytest.approx(1)
    assert (found == sampled(mean, covariance, 10_000, 0)).all() and (found != sampled(mean, covariance, seed=1)).all()
    below = sampled(mean, np.array([[1.0, 1.0], [1.0, 1.0]]) - 1e-12 * np.eye(2), draws=5)  # rounding below 0
    assert below == pytest.approx(probit(mean, np.zeros(2)), abs=1e-5)


def test_two_to_eight_samples_are_rows_of_a_batch() -> None:
    for samples in (2, 8):
        check_samples(samples)
    for samples in (1, 9, 0):
        with pytest.raises(ParameterError, match=f"must be 2 to 8, got {samples}"):
            check_samples(samples)
    side = Spectrum(np.eye(1), np.ones(1))
    other = Laplace({"w": Kronecker(side, side)}, 1.0)
    three = Ensemble({"w": np.zeros((3, 2, 2))})
    assert samples_of(other, 0) == averaged.MOST == 8 and samples_of(other, 5) == 5
    assert samples_of(three, 0) == 3 and samples_of(three, 2) == 2 and samples_of(three, 3) == 3
    with pytest.raises(ParameterError, match="this ensemble has 3 members, got samples = 4"):
        samples_of(three, 4)
    with pytest.raises(ParameterError, match="must be 2 to 8, got 9"):
        samples_of(other, 9)


def test_a_side_is_whole_up_to_what_is_kept_and_beyond_it_its_rest_is_even() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (30, 5)).astype(np.float32)
    whole = Curvature(5, 5)
    whole.add(rows[:11])
    whole.add(rows[11:])
    found = whole.spectrum()
    assert found.left_out == 0 and found.rest == 0 and len(found.values) == 5
    assert found.vectors * found.values @ found.vectors.T == pytest.approx(rows.T @ rows, rel=1e-5, abs=1e-5)
    sharp = rows * np.array([30, 20, 10, 0.01, 0.01], np.float32)
    few = Curvature(5, 3)
    for row in np.array_split(sharp, 4):
        few.add(row)
    kept, exact = few.spectrum(), np.linalg.eigvalsh((sharp.T @ sharp).astype(np.float64))
    assert kept.left_out == 2 and kept.vectors.shape == (5, 3)
    assert sorted(kept.values) == pytest.approx(exact[2:], rel=1e-3)
    assert kept.every.sum() == pytest.approx(few.trace, rel=1e-7) and 0 <= kept.rest < 1
