"""Learning curves: a planted law, what more rows are worth, and how often intervals hold in simulated worlds."""

import numpy as np
import pytest

from engine.errors import DataError
from engine.estimate import curve

ROWS = np.repeat([20.0, 40, 80, 160, 320], 3)


def test_a_planted_law_is_told_with_what_more_rows_are_worth() -> None:
    random = np.random.default_rng(3)
    truth = 1.0 + 5.0 * ROWS**-0.5
    found = curve.fit(ROWS, truth * (1 + 1e-4 * random.standard_normal(15)))
    assert found.numbers["E"].told == pytest.approx(1.0, abs=0.01) and found.numbers["beta"].told == pytest.approx(
        0.5, abs=0.02
    )
    worth = found.worth(320, 420)
    assert worth.told == pytest.approx(5 * (320**-0.5 - 420**-0.5), rel=0.02) and worth.low < worth.told < worth.high
    out = curve.checked(ROWS, truth * (1 + 1e-3 * random.standard_normal(15)))
    assert out is not None and (out.begin, out.end) == (160, 320)
    assert out.loss.seen == pytest.approx(truth[-1], rel=2e-3) and out.loss.is_inside and out.gain.is_inside
    assert out.gain.seen == pytest.approx(truth[-4] - truth[-1], rel=0.03)
    broken = np.where(ROWS == 320, truth * 1.5, truth)  # a size that no law of the others tells
    held = curve.checked(ROWS, broken * (1 + 1e-3 * random.standard_normal(15)))
    assert held is not None and held.loss.is_inside is False
    assert curve.checked([1, 1, 2, 2, 3], [3.0, 3, 2, 2, 1.5]) is None


@pytest.mark.parametrize(("law", "noise"), [((1.0, 5.0, 0.5), 0.05), ((2.0, 8.0, 0.8), 0.01), ((0.0, 8.0, 0.4), 0.05)])
def test_intervals_hold_as_often_as_they_say(law: tuple[float, float, float], noise: float) -> None:
    """Each within 3 standard errors of 95 % over 60 worlds."""
    held = curve.coverage(ROWS, law, noise, count=60, draws=300, seed=2)
    assert set(held) == {"loss", "worth", "beta", "held out"}
    assert min(held.values()) >= 0.95 - 3 * (0.95 * 0.05 / 60) ** 0.5, held


def test_runs_that_determine_no_curve_are_refused() -> None:
    for rows, losses, line in (
        ([1, 2, 4, 8], [3.0, 2, 1, 1], "5 runs of 3 sizes"),
        ([1, 1, 1, 2, 2], [3.0, 3, 3, 2, 2], "got 5 of 2"),
        ([1, 2, 4, 8, 16], [3.0, 2, 1, 1, 0], "above 0"),
        ([1, 2, 4, 8, 16], [3.0, 2, 1, 1, np.nan], "above 0"),
        ([1, 2, 4, 8, 16], [2.0] * 5, "all the same"),
    ):
        with pytest.raises(DataError, match=line):
            curve.fit(rows, losses)
