"""Mechanistic models: the exponent that is found by training is that of the cause."""

import math
from dataclasses import replace
from pydoc_data.topics import topics

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.measure.scaling import toy_problems
from likely.engine.measure.scaling.toy_problems import Toy, measure, slope


@pytest.mark.slow
@pytest.mark.parametrize(
    ("found", "within"),
    [
        (toy_problems.quanta(0.4), 0.02),
        (
            toy_problems.manifold((2, 3)),
            0.12,
        ),  # beside its prediction: of few points curvature of a higher order counts
        (toy_problems.features(1.0), 0.05),
        (toy_problems.bigrams("\n".join(topics.values())), 0.05),
    ],
    ids=["quanta", "manifold", "features", "bigrams"],
)
def test_what_is_trained_has_the_exponent_of_its_cause(found: list[Toy], within: float) -> None:
    """At every other size and one seed; all of them: benchmarks/log."""
    for toy in found:
        result = measure(replace(toy, scale=toy.scale[::2]), 1)
        assert abs(result.off) < within, (toy.name, toy.along, result.exponent.mean, toy.predicted)


@pytest.mark.slow
def test_quanta_of_another_law_have_another_exponent() -> None:
    """Found by seeds that are trainings of their own."""
    toy = toy_problems.quanta(0.7)[0]
    result = measure(replace(toy, scale=toy.scale[::3]), 2)
    assert result.exponent.mean == pytest.approx(0.7, abs=0.02)
    assert (result.losses[0] != result.losses[1]).all()


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(DataError, match="500 different words or more, got 2"):
        toy_problems.bigrams("a b a b")


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("alpha", [0.05, 0.37, 1.0, 3.0, 4.5])
def test_the_slope_is_that_of_a_planted_power_from_any_start(alpha: float) -> None:
    x = np.array([3, 5, 11, 40, 1000])
    assert slope(x, 7 * x**-alpha) == pytest.approx(alpha, abs=1e-7)


def test_the_slope_of_a_line_with_one_run_off_is_that_of_the_others() -> None:
    x = np.geomspace(10, 1000, 7)
    losses = 3 * x**-0.37
    losses[3] *= 1.5  # distances, not squares, so that one run moves little
    assert slope(x, losses) == pytest.approx(0.37, abs=0.001)


@pytest.mark.parametrize(("along", "count", "examples"), [("parameters", 3, 12), ("examples", 12, 3)])
def test_the_loss_of_random_features_is_the_least_squares(along: str, count: int, examples: int) -> None:
    (toy,) = (toy for toy in toy_problems.features() if toy.along == along)
    spectrum = np.arange(1.0, toy_problems.LATENT + 1) ** -2
    random, losses = chance(5), []
    for _ in range(2):
        x = random.standard_normal((examples, toy_problems.LATENT)) * spectrum**0.5
        project = random.standard_normal((toy_problems.LATENT, count)) / toy_problems.LATENT**0.5
        teachers = random.standard_normal((toy_problems.LATENT, toy_problems.TEACHERS))
        off = teachers - project @ (np.linalg.pinv(x @ project) @ (x @ teachers))
        losses.append(np.mean([(spectrum * column**2).sum() for column in off.T]))
    assert toy.train(3, chance(5)) == pytest.approx(np.mean(losses), rel=1e-6)


def test_what_is_predicted_is_the_slope_of_the_spectrum_s_tails() -> None:
    for toy in toy_problems.features():
        spectrum = np.arange(1.0, toy_problems.LATENT + 1) ** -2
        tails = np.array([math.fsum(spectrum[n:]) for n in toy.scale])
        assert toy.predicted == pytest.approx(slope(toy.scale, tails), rel=1e-9)
    assert [toy.predicted for toy in toy_problems.quanta(1.0)] == [1.0, 0.5]
    assert [toy.predicted for toy in toy_problems.manifold()] == [2.0, pytest.approx(4 / 3), 1.0]
