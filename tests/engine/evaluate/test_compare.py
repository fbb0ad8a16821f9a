"""How two models differ on a text, against the same sums in float64."""

import math

import numpy as np
import pytest

from likely.engine import arrays
from likely.engine.errors import CheckpointError, DataError
from likely.engine.statistics import compare, measures
from likely.engine.statistics.comparison import Comparison
from likely.engine.statistics.difference import Difference, Position, Shift
from likely.metal import mx

T, V = 7, 23


def test_two_models_are_compared_place_by_place() -> None:
    random_ = np.random.default_rng(1)
    p, q = (arrays.logprobs(random_.normal(0, 2, (4, 9)), np) for _ in range(2))
    ids = [3, 0, 5, 8]
    found = compare.compare(
        lambda _: iter([mx.array(p[:3].astype(np.float32)), mx.array(p[3:].astype(np.float32))]),
        lambda _: iter([mx.array(q[:3].astype(np.float32)), mx.array(q[3:].astype(np.float32))]), ids, ("a", "b"),
        top=2, metrics=["tv"],
    )  # fmt: skip
    a, b = np.exp(p), np.exp(q)
    for i, place in enumerate(found.positions):
        assert place.token == ids[i] and place.kl == pytest.approx(float((b[i] * (q[i] - p[i])).sum()), rel=1e-4)
        assert place.entropy == pytest.approx((-(a[i] * p[i]).sum(), -(b[i] * q[i]).sum()), rel=1e-4)
        assert place.top == (a[i].argmax(), b[i].argmax())
        assert place.next == (None if i == 3 else pytest.approx((p[i, ids[i + 1]], q[i, ids[i + 1]]), abs=1e-5))
        moved = b[i] - a[i]
        up = [t for t in np.argsort(-moved)[:2].tolist() if moved[t] > 0]
        down = [t for t in np.argsort(moved)[:2].tolist() if moved[t] < 0]
        assert [s.token for s in place.risen] == up and [s.token for s in place.fallen] == down
        assert all(s.change == pytest.approx(moved[s.token], abs=1e-5) for s in (*place.risen, *place.fallen))
        likely = {*np.argsort(-a[i])[:2].tolist(), *np.argsort(-b[i])[:2].tolist()}
        assert [s.token for s in place.likely] == sorted(likely, key=lambda t: -b[i, t])
        assert place.metrics == {"tv": pytest.approx(np.abs(a[i] - b[i]).sum() / 2, rel=1e-4)}
    mean_ = b.mean(0) - a.mean(0)
    assert [s.token for s in found.risen] == [t for t in np.argsort(-mean_)[:2].tolist() if mean_[t] > 0]
    assert [s.token for s in found.fallen] == [t for t in np.argsort(mean_)[:2].tolist() if mean_[t] < 0]
    assert found.risen[0].change == pytest.approx(mean_.max(), abs=1e-5)
    kls = [place.kl for place in found.positions]
    assert found.kl == pytest.approx(np.mean(kls)) and found.same_top == np.mean(p.argmax(1) == q.argmax(1))
    costs = [-np.mean([x[i, ids[i + 1]] for i in range(3)]) for x in (p, q)]
    assert found.nll == pytest.approx(costs, abs=1e-5)
    assert found.metrics == {"tv": pytest.approx(np.mean(np.abs(a - b).sum(1) / 2), rel=1e-4)}
    assert set(found.spread) == {"kl", "tv"} and found.spread["kl"] == pytest.approx(
        {"mean": np.mean(kls), "median": np.median(kls), "p99": np.quantile(kls, 0.99)}
    )
    usual = compare.compare(
        lambda _: iter([mx.array(p.astype(np.float32))]), lambda _: iter([mx.array(q.astype(np.float32))]), ids,
        ("a", "b"),
    )  # fmt: skip
    assert max(len(place.risen) for place in usual.positions) <= 5
    assert max(len(place.likely) for place in usual.positions) > 5
    with pytest.raises(DataError, match="the text is empty"):
        compare.compare(lambda _: iter([]), lambda _: iter([]), [], ("a", "b"))
    with pytest.raises(CheckpointError, match="a has 9 tokens and b 8"):
        compare.compare(lambda _: iter([mx.zeros((1, 9))]), lambda _: iter([mx.zeros((1, 8))]), [1], ("a", "b"))
    one = Difference(("a", "b"), (Position(1, 0.5, (1.0, 1.0), None, (1, 2), (), ()),))
    assert math.isnan(one.nll[0]) and math.isnan(one.nll[1]) and one.same_top == 0 and one.metrics == {}
    assert Shift(1, math.log(0.25), math.log(0.75)).change == pytest.approx(0.5)


def test_vocabularies_are_the_same_or_refused() -> None:
    class Printed:
        def __init__(self, fingerprint: str) -> None:
            self.fingerprint = fingerprint

    compare.check_vocabularies(Printed("x"), Printed("x"), ("a", "b"))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="a and b have different vocabularies"):
        compare.check_vocabularies(Printed("x"), Printed("y"), ("a", "b"))  # type: ignore[arg-type]


def test_every_metric_of_two_distributions() -> None:
    z, w = np.array([1.0, 0.0, -2.0]), np.array([0.0, 1.0, -1.0])
    p, q = np.exp(z) / np.exp(z).sum(), np.exp(w) / np.exp(w).sum()
    m = (p + q) / 2
    js = (float((p * np.log(p / m)).sum()) + float((q * np.log(q / m)).sum())) / 2
    assert measures.every(z, w) == pytest.approx(
        {
            "kl": float((q * np.log(q / p)).sum()), "reverse_kl": float((p * np.log(p / q)).sum()), "js": js,
            "tv": float(np.abs(p - q).sum() / 2), "same_top": 0.0,
        }
    )  # fmt: skip
    made = Comparison(["kl"])
    made.add(np.log(np.stack([p, q])), np.log(np.stack([q, p])), np.array([0, 1]))
    assert made.tokens == 2
    assert made.estimate("kl").mean == pytest.approx(((q * np.log(q / p)).sum() + (p * np.log(p / q)).sum()) / 2)
    assert made.perplexity == pytest.approx((1 / p[1], 1 / q[1]))
    assert made.cost.mean == pytest.approx(math.log(p[1] / q[1]))
