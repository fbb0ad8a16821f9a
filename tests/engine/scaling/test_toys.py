"""Mechanistic models: the exponent that is found by training is that of the cause."""

from dataclasses import replace
from pydoc_data.topics import topics

import numpy as np
import pytest

from engine.errors import DataError
from engine.scaling import toys
from engine.scaling.toys import Toy, measure, slope


def test_the_slope_is_that_of_a_planted_power() -> None:
    x = np.geomspace(10, 1000, 7)
    assert slope(x, 3 * x**-0.37) == pytest.approx(0.37, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("found", "within"),
    [
        (toys.quanta(0.4), 0.02),
        (toys.manifold((2, 3)), 0.12),  # beside its prediction: of few points curvature of a higher order counts
        (toys.features(1.0), 0.05),
        (toys.bigrams("\n".join(topics.values())), 0.05),
    ],
    ids=["quanta", "manifold", "features", "bigrams"],
)
def test_what_is_trained_has_the_exponent_of_its_cause(found: list[Toy], within: float) -> None:
    """At every other size and one seed; all of them: docs/log.md."""
    for toy in found:
        result = measure(replace(toy, scale=toy.scale[::2]), 1)
        assert abs(result.off) < within, (toy.name, toy.along, result.exponent.mean, toy.predicted)


@pytest.mark.slow
def test_quanta_of_another_law_have_another_exponent() -> None:
    """Found by seeds that are trainings of their own."""
    toy = toys.quanta(0.7)[0]
    result = measure(replace(toy, scale=toy.scale[::3]), 2)
    assert result.exponent.mean == pytest.approx(0.7, abs=0.02)
    assert (result.losses[0] != result.losses[1]).all()


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(DataError, match="500 different words or more, got 2"):
        toys.bigrams("a b a b")
