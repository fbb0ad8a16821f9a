"""The Gaussians of a posterior against closed forms in float64: Kronecker factors, evidence, probit, SWAG's moments."""

import math

import numpy as np
import pytest

from likely.engine.train.posterior.evidence import log_evidence
from likely.engine.train.posterior.kronecker import Curvature, Kronecker
from likely.engine.train.posterior.moments import Moments
from likely.engine.train.posterior.posterior import Ensemble, Laplace
from likely.engine.train.posterior.uncertainty import probit, sampled

RANDOM = np.random.default_rng(0)


def spectrum(rows: np.ndarray, keep: int = 99) -> Curvature:
    found = Curvature(rows.shape[1], keep)
    for part in np.array_split(rows, 3):
        found.add(part)
    return found


def test_linear_gaussian_laplace_is_exact() -> None:
    """x = (1, 2, 3), y = (1, 2, 2), noise 1, prior 1: the posterior and the evidence are those of conjugate Bayes."""
    x, y = np.array([1.0, 2, 3]), np.array([1.0, 2, 2])
    part = Kronecker(spectrum(x[:, None]).spectrum(), spectrum(np.ones((1, 1))).spectrum())
    variance = float(part.variance(1.0)[0, 0])
    mean = variance * float(x @ y)
    likelihood = -0.5 * float(np.square(y - mean * x).sum()) - 1.5 * math.log(2 * math.pi)
    assert (mean, variance) == (pytest.approx(0.733333, abs=1e-6), pytest.approx(0.0666667, abs=1e-7))
    assert log_evidence(likelihood, mean**2, part.curvature, 1.0) == pytest.approx(-4.577507, abs=1e-6)
    # several inputs and outputs: log N(vec Y; 0, I + X X^T x I), by its density
    x, y = RANDOM.normal(size=(7, 3)), RANDOM.normal(size=(7, 2))
    part = Kronecker(spectrum(x).spectrum(), spectrum(np.eye(2)).spectrum())
    weights = part.applied(x.T @ y, lambda h: 1 / (h + 0.5))
    assert weights == pytest.approx(np.linalg.solve(x.T @ x + 0.5 * np.eye(3), x.T @ y), abs=1e-12)
    covariance = np.eye(7) + x @ x.T / 0.5
    density = sum(
        -0.5 * (c @ np.linalg.solve(covariance, c) + np.linalg.slogdet(covariance)[1] + 7 * math.log(2 * math.pi))
        for c in y.T
    )
    likelihood = -0.5 * float(np.square(y - x @ weights).sum()) - 7 * math.log(2 * math.pi)
    found = log_evidence(likelihood, float(np.square(weights).sum()), part.curvature, 0.5)
    assert found == pytest.approx(density, abs=1e-10)


@pytest.mark.parametrize("keep", [(99, 99), (4, 99), (4, 2)])
def test_a_kronecker_gaussian_is_the_dense_one(keep: tuple[int, int]) -> None:
    """Also where a side, or each, keeps a few directions and spreads the rest of its trace over the others."""
    sizes = (40, 9), (5, 3)
    left, right = (spectrum(RANDOM.normal(size=size), few).spectrum() for size, few in zip(sizes, keep, strict=True))
    part, precision = Kronecker(left, right), 0.7
    whole = []
    for side in (left, right):
        projector = np.eye(len(side.vectors)) - side.vectors @ side.vectors.T
        whole.append(side.vectors @ np.diag(side.values) @ side.vectors.T + side.rest * projector)
    covariance = np.linalg.inv(np.kron(*whole) + precision * np.eye(27))
    assert part.variance(precision).ravel() == pytest.approx(np.diag(covariance), abs=1e-10)
    roots = part.draw(np.eye(27).reshape(27, 9, 3), precision).reshape(27, 27)
    values, vectors = np.linalg.eigh(covariance)
    assert roots == pytest.approx(vectors * np.sqrt(values) @ vectors.T, abs=1e-10)
    assert np.sort(part.curvature) == pytest.approx(np.linalg.eigvalsh(np.kron(*whole)), abs=1e-9)
    trained = {"w": RANDOM.normal(size=(9, 3))}
    mean, variance = Laplace({"w": part}, precision).gaussian(trained)
    draws = np.stack([Laplace({"w": part}, precision).draw(trained, 0, i)["w"] for i in range(1500)])
    error = math.sqrt(2 / 1500) * variance["w"]
    assert (np.abs(draws.var(axis=0) - variance["w"]) < 4.5 * error).all()
    assert (np.abs(draws.mean(axis=0) - mean["w"]) < 4.5 * np.sqrt(variance["w"] / 1500)).all()


def test_the_probit_formula_is_near_the_mean_of_drawn_sigmoids() -> None:
    assert float(probit(np.array([1.0]), np.array([4.0]))[0]) == pytest.approx(0.651056, abs=1e-6)
    noise = np.random.default_rng(1).standard_normal(200_000)
    for m, v in ((1.0, 4.0), (-0.5, 1.0), (2.0, 0.25), (3.0, 9.0)):
        drawn = float((1 / (1 + np.exp(-(m + math.sqrt(v) * noise)))).mean())
        assert float(probit(np.array([m]), np.array([v]))[0]) == pytest.approx(drawn, abs=0.02)
    mean, covariance = np.array([1.0, 0.0, -1.0]), np.diag([2.0, 2.0, 2.0])
    drawn = np.exp(mean + math.sqrt(2) * np.random.default_rng(2).standard_normal((100_000, 3)))
    drawn = (drawn / drawn.sum(axis=1, keepdims=True)).mean(axis=0)
    assert sampled(mean, covariance, 100_000) == pytest.approx(drawn, abs=0.005)
    near, trained = (np.abs(probit(mean, np.full(3, v)) - drawn).max() for v in (2.0, 0.0))
    assert near < 0.04 < 0.1 < trained  # of several classes the formula is rougher than of two


def test_moments_are_numpys_and_draws_have_them() -> None:
    """An AR(1) about a minimum: its mean and variance, as numpy has them of the same iterates."""
    moments, w, seen, keep = Moments(20), np.zeros(6), [], 20
    for _ in range(3000):
        w = 1.0 + 0.9 * (w - 1.0) + RANDOM.normal(size=6) * np.linspace(0.1, 0.6, 6)
        moments.add({"w": w})
        seen.append(w)
    found, every = moments.gaussians()["w"], np.stack(seen)
    assert found.mean == pytest.approx(every.mean(axis=0), abs=1e-10)
    assert found.diagonal == pytest.approx(every.var(axis=0), rel=1e-8)
    running = np.cumsum(every, axis=0) / np.arange(1, 3001)[:, None]
    assert found.deviations == pytest.approx((every - running)[-keep:], abs=1e-10)
    stationary = np.linspace(0.1, 0.6, 6) / math.sqrt(1 - 0.81)
    assert (np.abs(found.mean - 1.0) < 4.5 * stationary * math.sqrt(19 / 3000)).all()  # (1 + a) / (1 - a) = 19
    half = found.deviations.T @ found.deviations / (2 * (keep - 1))
    assert found.variance == pytest.approx(found.diagonal / 2 + np.diag(half), rel=1e-12)
    noise = np.random.default_rng(2)
    draws = np.stack([found.draw(noise.standard_normal(6), noise.standard_normal(keep)) for _ in range(1500)])
    covariance = np.diag(found.diagonal / 2) + half
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / 1500)
    assert (np.abs(np.cov(draws.T) - covariance) < 4.5 * error).all()
    still = Moments(2)
    for _ in range(3):
        still.add({"w": np.full(2, 0.1)})
    assert (still.gaussians()["w"].diagonal > 0).all()


def test_an_ensemble_offers_the_gaussian_of_its_members() -> None:
    members = RANDOM.normal(size=(5, 2, 3))
    mean, variance = Ensemble({"w": members}).gaussian({})
    assert mean["w"] == pytest.approx(members.mean(axis=0)) and variance["w"] == pytest.approx(members.var(0, ddof=1))
