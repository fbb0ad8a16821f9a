"""Bounds: a peer's quantiles, closed forms, and that they fail as seldom as they say."""

import math

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.measure.estimate import bounds
from likely.engine.measure.estimate.bounds import GaussianPosterior, RiskBound

PEER = (  # scipy 1.17.1: beta.ppf(1 - delta, k + 1, n - k)
    (0, 20, 0.05, 0.13910834066826516), (3, 20, 0.05, 0.3436638043142818), (10, 40, 0.05, 0.3870602400920182),
    (39, 40, 0.05, 0.9987184894771247), (1, 1000, 0.01, 0.006619668395648625), (500, 1000, 0.01, 0.5372219332390025),
)  # fmt: skip


def test_clopper_pearson_is_the_peers_and_fails_at_most_as_often_as_it_says() -> None:
    for errors, n, delta, upper in PEER:
        assert bounds.clopper_pearson(errors, n, delta) == pytest.approx(upper, rel=1e-9)
    assert bounds.clopper_pearson(5, 5) == 1.0
    with pytest.raises(DataError, match="got 6 of 5"):
        bounds.clopper_pearson(6, 5)
    n, uppers = 20, [bounds.clopper_pearson(k, 20) for k in range(21)]
    fails = []
    for p in np.linspace(0.02, 0.98, 25):
        law = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        fails.append(sum(share for share, upper in zip(law, uppers, strict=True) if upper < p))
    assert max(fails) <= 0.05 and np.mean(fails) > 0.02


def test_inverses_and_smoothing_by_their_definitions() -> None:
    assert bounds.kl_inverse(0.0, 0.3) == pytest.approx(1 - math.exp(-0.3))
    for q, budget in ((0.2, 0.1), (0.5, 0.01), (0.9, 2.0)):
        p = bounds.kl_inverse(q, budget)
        assert p > q and bounds.binary_kl(q, p) == pytest.approx(budget, rel=1e-6)
    assert bounds.hoeffding(1.0, 50, 4.0, 0.05) == pytest.approx(1 + 4 * math.sqrt(math.log(20) / 100))
    lost = bounds.smoothed(np.array([0.0, 1.0]), 100, 0.1)
    assert lost == pytest.approx([math.log(1000), -math.log(0.901)])
    assert RiskBound("", 1, 0.5, 1.0, 1.0, 0.95).is_vacuous and not RiskBound("", 1, 0.5, 0.9, 1.0, 0.95).is_vacuous


def test_pac_bayes_holds_where_the_law_is_known_and_is_not_vacuous() -> None:
    """Linear classifiers of two normal classes: the error of each is known exactly."""
    random, n, fails, uppers = np.random.default_rng(1), 100, 0, []
    centre = np.array([1.0, 0.5, 0.0, 0.0])
    for _ in range(60):
        label = random.choice([-1.0, 1.0], n)
        x = label[:, None] * centre + random.standard_normal((n, 4))
        w = (label[:, None] * x).mean(0)
        posterior = GaussianPosterior({"w": w}, {"w": np.array(0.1)}, {"w": np.zeros(4)})
        drawn = [posterior.draw(random)["w"] for _ in range(100)]
        losses = [float((label * (x @ each) <= 0).mean()) for each in drawn]
        upper, kl = bounds.pac_bayes(losses, n, posterior, 0.05)
        many = np.stack([posterior.draw(random)["w"] for _ in range(500)])
        margins = many @ centre / np.linalg.norm(many, axis=1)
        risk = np.mean([0.5 * math.erfc(margin / math.sqrt(2)) for margin in margins])
        fails, uppers = fails + (risk > upper), [*uppers, upper]
        assert kl > 0 and upper > np.mean(losses)
    assert fails <= 3 and max(uppers) < 0.65


def test_bounds_at_their_edges() -> None:
    assert bounds.clopper_pearson(0, 1) == pytest.approx(0.95) and bounds.clopper_pearson(1, 1) == 1
    for errors, n in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(DataError, match=f"got {errors} of {n}"):
            bounds.clopper_pearson(errors, n)
    assert bounds.binary_kl(0.0, 0.0) == 0 and bounds.binary_kl(1.0, 1.0) == 0
    assert bounds.binary_kl(0.5, 0.0) == math.inf == bounds.binary_kl(0.5, 1.0)
    exact = 0.3 * math.log(0.3 / 0.6) + 0.7 * math.log(0.7 / 0.4)
    assert bounds.binary_kl(0.3, 0.6) == pytest.approx(exact)
    assert bounds.kl_inverse(1.0, 0.2) == pytest.approx(1) and bounds.kl_inverse(0.3, 0.0) == pytest.approx(0.3)
    assert bounds.kl_inverse(0.3, exact) == pytest.approx(0.6, abs=1e-12)


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


def test_a_bound_of_drawn_models_pays_for_few_draws_and_each_try() -> None:
    posterior = GaussianPosterior({"a": np.full(5, 0.1)}, {"a": np.array(0.01)}, {"a": np.zeros(5)})
    kl, left = posterior.divergence(0.025)
    for tried in (1, 4):
        few = bounds.kl_inverse(0.2, math.log(2 * tried / 0.025) / 3)
        upper = bounds.kl_inverse(few, (kl + math.log(2 * math.sqrt(70) / left)) / 70)
        assert bounds.pac_bayes([0.1, 0.2, 0.3], 70, posterior, 0.05, tried) == (pytest.approx(upper), kl)
