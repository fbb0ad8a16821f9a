"""Scores of texts, and how two models differ on one, against the same sums in float64."""

import math
from typing import Any

import numpy as np
import pytest

from likely.engine.base import arrays
from likely.engine.base.concurrency.resumable import whole
from likely.engine.base.errors import CheckpointError, DataError, ParameterError
from likely.engine.base.statistics import compare, measures, scores
from likely.engine.base.statistics.comparison import Comparison
from likely.engine.base.statistics.difference import Difference, Position, Shift, TokenSequence
from likely.engine.base.statistics.estimates import block_length, blockwise
from likely.engine.sampling.transforms import RepetitionPenalty, Temperature, TopK, along, run, start


def test_scores_are_of_the_tokens_that_have_a_distribution() -> None:
    said = [None, math.log(0.5), math.log(0.125)]
    assert scores.total(said) == pytest.approx(math.log(1 / 16))
    assert scores.surprisal(said) == pytest.approx(math.log(4)) and scores.perplexity(said) == pytest.approx(4)
    assert scores.bits_per_byte(said, 8) == pytest.approx(0.5)
    assert scores.perplexity([None]) is None and scores.surprisal([]) is None and scores.bits_per_byte(said, 0) is None
    assert scores.total([]) == 0


def laws(seed: int, rows: int, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of two models."""
    random = np.random.default_rng(seed)
    p, q = (np.asarray(arrays.logprobs(random.normal(0, 2, (rows, vocab)), np)) for _ in range(2))
    return p, q


def test_a_comparison_adds_up_rows() -> None:
    found, rows = Comparison(["reverse_kl", "same_top"]), []
    for seed in range(3):
        p, q = laws(seed, 6, 20)
        ids = np.random.default_rng(seed + 9).integers(0, 20, 6)
        found.add(p, q, ids)
        cost = [-float(np.mean([x[i, ids[i + 1]] for i in range(5)])) for x in (p, q)]
        rows.append((float((np.exp(p) * (p - q)).sum(-1).mean()), float((p.argmax(-1) == q.argmax(-1)).mean()), *cost))
    kl, same, before, now = (list(column) for column in zip(*rows, strict=True))
    assert found.estimate("reverse_kl").mean == pytest.approx(np.mean(kl))
    assert found.estimate("reverse_kl").error == pytest.approx(np.std(kl, ddof=1) / math.sqrt(3))
    assert found.estimate("same_top").mean == pytest.approx(np.mean(same))
    assert found.perplexity == pytest.approx((math.exp(np.mean(before)), math.exp(np.mean(now))))
    assert found.cost.mean == pytest.approx(np.mean(now) - np.mean(before)) and found.tokens == 18


def test_measures_are_found_by_name_and_are_their_definitions() -> None:
    names = [each.name for each in measures.MEASURES]
    assert len({*names}) == len(names) and list(measures.values(["tv", "kl"])) == ["tv", "kl"]
    for name in ("KL", "acc"):  # which is of no two distributions
        with pytest.raises(ParameterError, match=rf"there is no metric {name}: there are kl \(KL\(now"):
            measures.values([name])
    (log_p,), (log_q,) = laws(0, 1, 3)
    p, q = np.exp(log_p), np.exp(log_q)
    m = (p + q) / 2
    assert measures.every(log_p, log_q) == pytest.approx({
        "kl": float((q * np.log(q / p)).sum()), "reverse_kl": float((p * np.log(p / q)).sum()),
        "js": float((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2,
        "tv": float(np.abs(p - q).sum() / 2), "same_top": float(p.argmax() == q.argmax()),
    })  # fmt: skip


def given(rows: np.ndarray) -> compare.ScalingLaw:
    """A model that says these rows, three at a time."""
    return lambda ids, start: (rows[low : low + 3].astype(np.float32) for low in range(start, len(ids), 3))


def moved(change: np.ndarray, top: int) -> tuple[list[int], list[int]]:
    """The tokens that rise and that fall the most."""
    up, down = np.argsort(-change)[:top].tolist(), np.argsort(change)[:top].tolist()
    return [t for t in up if change[t] > 0], [t for t in down if change[t] < 0]


def said(shifts: Any) -> list[int]:
    return [shift.token for shift in shifts]


def test_two_models_are_compared_place_by_place() -> None:
    (p, q), ids = laws(1, 4, 9), [3, 0, 5, 8]
    found = compare.compare(given(p), given(q), ids, ("a", "b"), top=2, metrics=["tv"])
    a, b = np.exp(p), np.exp(q)
    for i, place in enumerate(found.positions):
        assert place.token == ids[i] and place.kl == pytest.approx(float((b[i] * (q[i] - p[i])).sum()), rel=1e-4)
        assert place.entropy == pytest.approx((-(a[i] * p[i]).sum(), -(b[i] * q[i]).sum()), rel=1e-4)
        assert place.top == (a[i].argmax(), b[i].argmax())
        assert place.next == (None if i == 3 else pytest.approx((p[i, ids[i + 1]], q[i, ids[i + 1]]), abs=1e-5))
        assert (said(place.risen), said(place.fallen)) == moved(b[i] - a[i], 2)
        shifts = [*place.risen, *place.fallen]
        assert [s.change for s in shifts] == pytest.approx([(b[i] - a[i])[s.token] for s in shifts], abs=1e-5)
        likely = {*np.argsort(-a[i])[:2].tolist(), *np.argsort(-b[i])[:2].tolist()}
        assert said(place.likely) == sorted(likely, key=lambda t: -b[i, t])
        assert place.metrics == {"tv": pytest.approx(np.abs(a[i] - b[i]).sum() / 2, rel=1e-4)}
    assert (said(found.risen), said(found.fallen)) == moved(b.mean(0) - a.mean(0), 2)
    kls = [place.kl for place in found.positions]
    assert found.kl == pytest.approx(np.mean(kls)) and found.same_top == np.mean(p.argmax(1) == q.argmax(1))
    assert found.nll == pytest.approx([-np.mean([x[i, ids[i + 1]] for i in range(3)]) for x in (p, q)], abs=1e-5)
    assert found.metrics == {"tv": pytest.approx(np.mean(np.abs(a - b).sum(1) / 2), rel=1e-4)}
    middle = {"mean": np.mean(kls), "median": np.median(kls), "p99": np.quantile(kls, 0.99)}
    assert set(found.spread) == {"kl", "tv"} and found.spread["kl"] == pytest.approx(middle)
    assert compare.compare(given(p), given(p), ids, ("a", "b")).kl == 0


def test_each_text_is_read_by_each_law() -> None:
    """Three laws, of which the third never says token 4; two of them have one text."""
    rows = [laws(seed, 40, 9)[0] for seed in range(3)]
    rows[2] = np.asarray(arrays.logprobs(np.where(np.arange(9) == 4, -np.inf, rows[2]), np))
    texts = [
        TokenSequence(tuple(np.random.default_rng(seed).integers(0, 9, 40).tolist()), 3, ended=True) for seed in (0, 1)
    ]
    texts.append(texts[0])
    names = ("a", "b", "c")
    ready = [given(each) for each in rows]
    waits = [lambda ids, start: iter([None, None, *ready[0](ids, start)]), *ready[1:]]  # it has to read first
    read = whole(compare.crossed(waits, texts, names, metrics=["reverse_kl"]))
    assert set(read) == {(i, j) for i in range(3) for j in range(3) if i != j}
    for (author, reader), difference in read.items():
        p, q, ids = rows[author][3:39], rows[reader][3:39], texts[author].ids[4:]
        with np.errstate(invalid="ignore"):
            kl = np.nansum(np.exp(p) * (p - q), axis=-1)
        own, other = ([-x[i, token] for i, token in enumerate(ids)] for x in (p, q))
        assert difference.along("reverse_kl") == pytest.approx(kl, rel=1e-4) and difference.names[0] == names[author]
        assert [cost.mean for cost in difference.costs] == pytest.approx([np.mean(own), np.mean(other)], rel=1e-4)
        assert difference.estimate("reverse_kl").mean == pytest.approx(np.mean(kl), rel=1e-4)
        assert difference.forks == tuple(np.flatnonzero(p.argmax(-1) != q.argmax(-1)))
        if np.inf not in (*own, *other):
            excess = np.subtract(other, own)
            low, high = difference.excess.interval
            assert difference.excess.mean == pytest.approx(excess.mean(), abs=1e-5) and low < excess.mean() < high
    assert math.isinf(read[0, 2].estimate("reverse_kl").mean) and 4 in texts[0].ids[4:]
    assert read[0, 2].excess.better("a", "c") == "a" and not math.isfinite(read[0, 2].excess.interval[0])


def test_neighbours_that_are_alike_widen_an_interval() -> None:
    """The circular block bootstrap's error is that of the blocks' sums, enumerated; it holds what was foretold."""
    random, size = np.random.default_rng(3), 7
    assert block_length(216) == 6 and block_length(217) == size
    inside = {0.0: 0, 0.6: 0}
    for rho in inside:
        for _ in range(60):
            values = random.normal(0, 1, 217)
            for i in range(1, 217):
                values[i] = rho * values[i - 1] + math.sqrt(1 - rho**2) * values[i]
            found = blockwise(values.tolist(), samples=400)
            inside[rho] += found.interval[0] < 0 < found.interval[1]
        blocks = np.array([np.roll(values, -i)[:size].mean() for i in range(217)])
        assert found.error == pytest.approx(blocks.std() / math.sqrt(31), rel=0.15) and found.n == 217
    assert inside[0.0] >= 53 and inside[0.6] >= 48  # of 60; resampled one by one the second would hold 40
    few = blockwise([1.0, 2.0, 4.0])
    assert few.mean == pytest.approx(7 / 3) and math.isinf(few.error) and not few.better("a", "b")


def test_the_interval_by_blocks_is_wider_by_student_s_t() -> None:
    """Of 40 values in 10 blocks of 4: the percentiles of a bootstrap of ours, times t(9) / z from a table."""
    random = np.random.default_rng(8)
    values = random.gamma(2.0, 1.0, 40)
    low, high = blockwise(values.tolist(), samples=20_000).interval
    starts = random.integers(0, 40, (20_000, 10, 1))
    means = values[(starts + np.arange(4)) % 40].mean(axis=(1, 2))
    least, most = (np.quantile(means, [0.025, 0.975]) - values.mean()) * 2.262157 / 1.959964
    assert (low - values.mean(), high - values.mean()) == pytest.approx((least, most), rel=0.03)


def test_a_law_that_is_drawn_from_is_that_of_a_draw_at_every_place() -> None:
    """Transforms that look back see the text up to each place, as if it ended there."""
    transforms, ids = (RepetitionPenalty(1.7), Temperature(0.6), TopK(4)), [1, 5, 5, 2, 7, 0, 3]
    raw = np.random.default_rng(2).normal(0, 2, (5, 9)).astype(np.float32)
    rows = along(transforms, None, raw, ids, 2, seed=4)
    for i, row in enumerate(rows):
        read = ids[: 3 + i]
        alone, _ = run(transforms, raw[i], start(transforms, None, read, np), (4, len(read)), np)
        np.testing.assert_allclose(row, alone, rtol=1e-6)
    assert [np.isfinite(row).sum() for row in along((), None, raw, ids, 2, 4, greedy=True)] == [1] * 5


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="the text is empty"):
        compare.compare(given(np.zeros((0, 3))), given(np.zeros((0, 3))), [], ("a", "b"))
    with pytest.raises(CheckpointError, match="a has 9 tokens and b 8"):
        compare.compare(given(np.zeros((1, 9))), given(np.zeros((1, 8))), [1], ("a", "b"))
    one = Difference(("a", "b"), (Position(1, 0.5, (1.0, 1.0), None, (1, 2), (), ()),))
    assert math.isnan(one.nll[0]) and math.isnan(one.nll[1]) and one.same_top == 0 and one.metrics == {}
    assert Shift(1, math.log(0.25), math.log(0.75)).change == pytest.approx(0.5)

    class Printed:
        def __init__(self, fingerprint: str) -> None:
            self.fingerprint = fingerprint

    compare.check_vocabularies(Printed("x"), Printed("x"), ("a", "b"))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="a and b have different vocabularies"):
        compare.check_vocabularies(Printed("x"), Printed("y"), ("a", "b"))  # type: ignore[arg-type]
