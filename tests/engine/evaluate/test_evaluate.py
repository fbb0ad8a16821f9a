"""Scores, estimates and comparisons against sums written out."""

import math

import numpy as np
import pytest

from likely.engine import arrays
from likely.engine.errors import ParameterError
from likely.engine.statistics import scores
from likely.engine.statistics.comparison import Comparison
from likely.engine.statistics.measures import MEASURES, values


def test_scores_are_of_the_tokens_that_have_a_distribution():
    said = [None, math.log(0.5), math.log(0.125)]
    assert scores.total(said) == pytest.approx(math.log(1 / 16))
    assert scores.surprisal(said) == pytest.approx(math.log(4)) and scores.perplexity(said) == pytest.approx(4)
    assert scores.bits_per_byte(said, 8) == pytest.approx(0.5)
    assert scores.perplexity([None]) is None and scores.surprisal([]) is None and scores.bits_per_byte(said, 0) is None
    assert scores.total([]) == 0


def test_a_comparison_adds_up_rows():
    random = np.random.default_rng(1)
    found = Comparison(["reverse_kl", "same_top"])
    rows = []
    for _ in range(3):
        p, q = (arrays.logprobs(random.normal(0, 2, (6, 20)), np) for _ in range(2))
        ids = random.integers(0, 20, 6)
        found.add(p, q, ids)
        cost = [-float(np.mean([x[i, ids[i + 1]] for i in range(5)])) for x in (p, q)]
        rows.append((float((np.exp(p) * (p - q)).sum(-1).mean()), float((p.argmax(-1) == q.argmax(-1)).mean()), *cost))
    kl, same, before, now = (list(column) for column in zip(*rows, strict=True))
    assert found.estimate("reverse_kl").mean == pytest.approx(np.mean(kl))
    assert found.estimate("reverse_kl").error == pytest.approx(np.std(kl, ddof=1) / math.sqrt(3))
    assert found.estimate("same_top").mean == pytest.approx(np.mean(same))
    assert found.perplexity == pytest.approx((math.exp(np.mean(before)), math.exp(np.mean(now))))
    assert found.cost.mean == pytest.approx(np.mean(now) - np.mean(before)) and found.tokens == 18


def test_measures_are_found_by_name():
    assert len({each.name for each in MEASURES}) == len(MEASURES)
    assert list(values(["tv", "kl"])) == ["tv", "kl"]
    for name in ("KL", "acc"):  # which is of no two distributions
        with pytest.raises(ParameterError, match=rf"there is no metric {name}: there are kl \(KL\(now"):
            values([name])
