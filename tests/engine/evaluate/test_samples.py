"""Distances and diversity of samples: values computed by hand or with the named packages, laws, and limits."""

import json
import math
from collections import Counter
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import DataError
from likely.engine.base.statistics.estimates import Estimate, jackknife, mean, share
from likely.engine.base.statistics.measures import measure
from likely.engine.measure.evaluate.figures import calibration, sample_metrics, samples
from likely.engine.measure.evaluate.figures.samples import (
    buckets,
    grams,
    mauve_in,
    mauve_of,
    new,
    ngrams,
    self_bleus,
    spectrum,
    vendi_of,
)

PEERS = json.loads((Path(__file__).parents[2] / "data" / "samples" / "peers.json").read_text())


def points(seed: int, n: int, d: int, shift: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def mmd(x: np.ndarray, y: np.ndarray, width: float | None = None, **how: int) -> tuple[float, float]:
    squares = samples.pooled(x, y)
    return samples.mmd(samples.gaussian(squares, width or samples.median(squares)), len(x), **how)


def coverage(real: np.ndarray, made: np.ndarray, k: int = 5) -> dict[str, float]:
    inside, reached = samples.neighbourhoods(samples.pooled(real, made), len(real), k)
    return {
        "precision": inside.any(0).mean(), "recall": reached.mean(), "density": inside.sum(0).mean() / k,
        "coverage": inside.any(1).mean(),
    }  # fmt: skip


def test_precision_recall_density_and_coverage_as_prdc_has_them() -> None:
    for each in PEERS["prdc"]:
        case = each["case"]
        found = sample_metrics.of_features(points(*case), points(100, case[1], case[2], 0.0), k=each["k"])
        for name in ("precision", "recall", "density", "coverage"):
            assert found[name].mean == pytest.approx(each[name], abs=1e-12), (case, name)


def test_mmd_by_scikit_learns_kernel() -> None:
    for each in PEERS["mmd"]:
        case = each["case"]
        found = mmd(points(100, case[1], case[2], 0.0), points(*case), width=each["width"], permutations=1)
        assert found[0] == pytest.approx(each["squared"], abs=1e-12)


def test_mauve_as_mauve_text_has_it() -> None:
    for each in PEERS["mauve"]:
        assert mauve_of(np.array(each["p"]), np.array(each["q"])) == pytest.approx(each["mauve"], abs=1e-9)


def test_vendi_as_vendi_score_has_it() -> None:
    for each in PEERS["vendi"]:
        rows = points(*each["case"])
        assert samples.vendi_of(rows) == pytest.approx(each["value"], rel=1e-6)


def test_self_bleu_as_sacrebleu_has_it() -> None:
    texts = [text.split() for text in PEERS["self_bleu"]["texts"]]
    assert samples.self_bleus(texts) == pytest.approx(PEERS["self_bleu"]["scores"], abs=1e-9)


def test_calibration_as_scikit_learn_has_it() -> None:
    given = PEERS["calibration"]
    said, right = given["confidence"], given["right"]
    for bins, names in (
        (calibration.reliability(said, right), ("accuracy", "means")),
        (calibration.adaptive(said, right), ("adaptive_accuracy", "adaptive_means")),
    ):
        assert [each.accuracy for each in bins] == pytest.approx(given[names[0]])
        assert [each.confidence for each in bins] == pytest.approx(given[names[1]])


@pytest.mark.slow(1)
def test_the_intervals_of_samples_hold_as_their_entries_say() -> None:
    """100 seeds of generated texts against one reference: an interval holds the mean figure of as many texts in 95 %,
    but for three standard errors of so few seeds in 88 %; of `mauve` its entry says less."""
    random, real = np.random.default_rng(3), np.random.default_rng(99).normal(size=(40, 8))
    found = [sample_metrics.of_features(random.normal(size=(40, 8)) + 1, real) for _ in range(100)]
    for name in ("mmd2", "precision", "recall", "density", "coverage", "vendi", "mauve"):
        middle = np.mean([each[name].mean for each in found])
        held = np.mean([low <= middle <= high for low, high in (each[name].interval for each in found)])
        assert held >= (0.65 if name == "mauve" else 0.88), name
        if measure(name).unit == "share":
            assert all(low >= 0 and high <= 1 for low, high in (each[name].interval for each in found)), name
    assert measure("mauve").note and measure("vendi").note and not measure("recall").note


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape)


def test_grams_and_their_spectrum_are_counted() -> None:
    assert grams("abcd", 2) == [("a", "b"), ("b", "c"), ("c", "d")] and grams("ab", 2) == [("a", "b")]
    assert grams("ab", 3) == [] and grams("", 1) == []
    texts = ["abab", "abc", "", "zzz"]
    rows = spectrum(texts)
    assert rows.shape == (4, 512) and (rows == spectrum(texts, 2, 512)).all()
    for i, j in product(range(4), repeat=2):
        a, b = (Counter(grams(texts[k], 2)) for k in (i, j))
        dot = sum(a[gram] * b[gram] for gram in a)
        norm = math.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values())) or 1
        assert rows[i] @ rows[j] == pytest.approx(dot / norm)
    assert (rows[2] == 0).all() and spectrum(["ab"], 1, 7).shape == (1, 7)
    assert spectrum(["xy"]).argmax() == 279  # the same in every process and on every machine


def test_the_discrepancy_is_the_sum_over_pairs() -> None:
    x, y = normal(2, 4, 2), normal(3, 6, 2) + 0.5

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return math.exp(-((a - b) ** 2).sum() / (2 * 0.8**2))

    within = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 12
    other = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 30
    across = sum(k(a, b) for a in x for b in y) / 24
    found = mmd(x, y, width=0.8)
    assert found[0] == pytest.approx(within + other - 2 * across)


def test_the_permutations_p_is_that_of_all_divisions() -> None:
    """Of 3 and 4 points every one of 35 divisions; those that are as far apart count, the own one too."""
    x, y = np.array([[0.0], [1.0], [2.5]]), np.array([[1.5], [3.0], [4.0], [4.5]])
    kernel = samples.gaussian(samples.pooled(x, y), 1.3)

    def squared(side: tuple[int, ...]) -> float:
        rest = [i for i in range(7) if i not in side]
        a, b = list(side), rest
        mixed = kernel[np.ix_(a, b)].sum() / (3 * 4)
        return float(kernel[np.ix_(a, a)].sum() / 6 + kernel[np.ix_(b, b)].sum() / 12 - 2 * mixed)

    own = squared((0, 1, 2))
    exact = np.mean([squared(side) >= own - 1e-12 for side in combinations(range(7), 3)])
    found, p = mmd(x, y, width=1.3, permutations=4000, seed=1)
    assert found == pytest.approx(own) and 0 < exact < 0.3
    assert abs(p - exact) < 4 * math.sqrt(exact * (1 - exact) / 4000)
    assert p * 4001 == pytest.approx(round(p * 4001))
    same = np.ones((3, 2))
    assert mmd(same, same, permutations=9)[1] == 1


def test_a_neighbourhood_holds_its_edge_and_k_is_below_both() -> None:
    real, made = np.array([[0.0], [1.0], [5.0]]), np.array([[2.0], [9.0], [-1.0]])
    found = coverage(real, made, 1)  # balls of 1, 1 and 4 around 0, 1 and 5; of 3, 7 and 3 around 2, 9 and -1
    assert found == {"precision": 1, "recall": 1, "density": pytest.approx(4 / 3), "coverage": 1}
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k must be between 1 and 2, got {k}"):
            coverage(real, np.concatenate([made, made]), k)
    assert coverage(real, made, 2)["precision"] == 1


def test_points_go_into_buckets_by_what_varies_most() -> None:
    """By k-means over directions, be they of points that are far or near; points that are alike are in one."""
    far = np.repeat(np.eye(5) * 50, 4, 0) + normal(9, 20, 5) * 0.01
    for scale in (1.0, 1e-3):  # also where all distances together are small
        apart = buckets(far[:10] * scale, far[10:] * scale, 5, seed=0).reshape(5, 4)
        assert (apart == apart[:, :1]).all() and len(set(apart[:, 0].tolist())) == 5
    alike = buckets(np.ones((2, 2)), np.ones((2, 2)), 3)  # fewer different points than centres
    assert len(set(alike.tolist())) == 1


def test_mauve_is_of_smoothed_counts_in_a_tenth_as_many_buckets() -> None:
    assert [samples.bucket_count(n) for n in (1, 20, 29, 30, 100)] == [2, 2, 2, 3, 10]
    one, other = np.array([0, 0, 1]), np.array([1, 2, 2, 2])
    p, q = np.array([2.5, 1.5, 0.5]) / 4.5, np.array([0.5, 1.5, 3.5]) / 5.5
    assert mauve_in(one, other, 3) == mauve_of(p, q, 5.0) == mauve_of(p, q)
    assert mauve_in(one, other, 3, 2.0, 0.0) == pytest.approx(
        mauve_of(np.array([2, 1, 0]) / 3, np.array([0, 1, 3]) / 4, 2.0)
    )


TEXTS = [list("abcabd"), list("abca"), [], list("xyzabc"), list("a"), list("abcab"), list("bd")]


def test_shares_of_different_and_of_new_grams() -> None:
    there = {gram for text in TEXTS[:2] for gram in grams(text, 2)}
    assert ngrams(TEXTS[:2], 2) == there
    assert new(TEXTS[3], there, 2) == (3, 5) and new([], there, 2) == (0, 0)


def test_figures_of_features_are_those_of_the_samples_with_the_jackknifes_error() -> None:
    x, y = normal(13, 12, 3), normal(14, 31, 3) + 0.4
    found = sample_metrics.of_features(x, y)
    assert set(found) == {"mmd2", "mmd2_p", "precision", "recall", "density", "coverage", "mauve", "vendi"}
    width = samples.median(samples.pooled(x, y))
    squared, by_other_draws = mmd(x, y)
    left = jackknife(12, lambda kept: mmd(x[kept], y, width=width, permutations=1)[0])
    assert found["mmd2"].mean == pytest.approx(squared) and found["mmd2"].error == pytest.approx(left.error)
    _, p = samples.mmd(samples.gaussian(samples.pooled(y, x), width), 31, permutations=500, seed=0)
    assert found["mmd2_p"].mean == p and found["mmd2_p"].error == math.sqrt(p * (1 - p) / 500)
    assert abs(p - by_other_draws) < 0.08 and found["mmd2_p"].n == 12
    of = coverage(y, x, 5)
    for name in ("precision", "recall", "density", "coverage"):
        assert found[name].mean == pytest.approx(of[name]) and found[name].n == 12
    inside, _ = samples.neighbourhoods(samples.pooled(y, x), 31, 5)
    assert found["precision"] == share(inside.any(0).astype(float).tolist())
    assert found["density"] == mean((inside.sum(0) / 5).tolist())
    labels = buckets(x, y, 2, seed=0)
    assert found["mauve"] == jackknife(12, lambda kept: mauve_in(labels[:12][kept], labels[12:], 2)).within(0, 1)
    logs = jackknife(12, lambda kept: math.log(vendi_of(x[kept])))
    assert found["vendi"] == Estimate(vendi_of(x), vendi_of(x) * logs.error, 9, tuple(map(math.exp, logs.interval)), 12)
    for name in ("recall", "coverage"):
        left = jackknife(12, lambda kept, name=name: coverage(y, x[kept], 5)[name])  # type: ignore[misc]
        assert found[name].error == pytest.approx(left.error) and found[name].interval[0] >= 0


def test_features_of_ten_texts_or_more_are_wanted() -> None:
    x = normal(15, 11, 2)
    sample_metrics.of_features(x[:10], x)
    for few, many in ((x[:9], x), (x, x[:9])):
        with pytest.raises(
            DataError, match=f"10 texts of each kind or more are wanted, got {len(few)} and {len(many)}"
        ):
            sample_metrics.of_features(few, many)
    broken = x.copy()
    broken[3, 1] = np.nan
    for pair in ((broken, x), (x, broken)):
        with pytest.raises(DataError, match="not finite"):
            sample_metrics.of_features(*pair)


def words(seed: int, n: int, length: int) -> list[list[str]]:
    return [list(map(str, row)) for row in np.random.default_rng(seed).integers(0, 4, (n, length))]


def test_figures_of_texts_leave_out_texts_by_groups() -> None:
    texts = [*words(0, 14, 12), ["1"]]
    known = [*words(1, 9, 30), texts[3][:9], texts[5][2:]]
    found = sample_metrics.of_texts(texts, known)
    assert list(found) == ["distinct_1", "distinct_2", "distinct_3", "self_bleu", "novelty_4", "novelty_8"]
    for n in (1, 2, 3):
        every = [grams(text, n) for text in texts]
        assert found[f"distinct_{n}"] == jackknife(
            15, lambda kept, of=every: len(set().union(*(of[i] for i in kept))) / sum(len(of[i]) for i in kept)
        )
    assert found["self_bleu"] == mean(self_bleus(texts))
    for n in (4, 8):
        there = {gram for text in known for gram in grams(text, n)}
        fresh = np.array([[sum(gram not in there for gram in grams(text, n)), len(grams(text, n))] for text in texts])
        by = jackknife(15, lambda kept, of=fresh: np.divide(*of[kept].sum(axis=0)))
        assert (found[f"novelty_{n}"].mean, found[f"novelty_{n}"].error) == pytest.approx((by.mean, by.error))
        assert 0 < found[f"novelty_{n}"].mean < 1
    assert math.isnan(sample_metrics.of_texts([["a"]], known)["novelty_4"].mean)
    assert math.isnan(sample_metrics.of_texts([["a"]], known)["distinct_2"].mean)


def test_a_judge_s_perplexity_is_by_token_over_all_texts() -> None:
    scored = [[(1, -0.5), (1, -1.5), (2, -0.25)], [], [(3, -2.0)], [(4, -0.1), (5, -0.2)]]
    found = sample_metrics.of_judge(scored)
    sums = [(-2.25, 3), (0, 0), (-2.0, 1), (-0.3, 2)]
    by = jackknife(4, lambda kept: math.exp(-sum(sums[i][0] for i in kept) / sum(sums[i][1] for i in kept)))
    assert found["judge_perplexity"].mean == pytest.approx(math.exp(4.55 / 6))
    assert found["judge_perplexity"].error == pytest.approx(by.error)
    thirds = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert found["token_entropy"].mean == pytest.approx((thirds + 0 + 0 + math.log(2)) / 4)
