"""Distances and diversity of samples against loops over points and texts, enumeration, and each default."""

import math
from collections import Counter
from itertools import combinations, pairwise, product

import numpy as np
import pytest

from engine.errors import DataError
from engine.evaluate import sample_metrics, samples
from engine.evaluate.estimates import Estimate, jackknife, mean, share
from engine.evaluate.samples import (
    buckets,
    coverage,
    distances,
    distinct,
    grams,
    mauve,
    mauve_in,
    mauve_of,
    mmd,
    new,
    ngrams,
    novelty,
    self_bleu,
    self_bleus,
    spectrum,
    vendi,
    vendi_of,
)


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


def test_squared_distances_and_the_kernel_of_a_width() -> None:
    x, y = normal(0, 4, 3), normal(1, 5, 3)
    exact = np.array([[((a - b) ** 2).sum() for b in y] for a in x])
    assert distances(x, y) == pytest.approx(exact)
    assert (distances(x * 1e8, x * 1e8) >= 0).all()
    kernel = samples.gaussian(samples.pooled(x, y), 1.5)
    both = np.concatenate([x, y])
    for i, j in product(range(9), repeat=2):
        value = math.exp(-((both[i] - both[j]) ** 2).sum() / (2 * 1.5**2)) if i != j else 0
        assert kernel[i, j] == pytest.approx(value)
    every = [math.dist(a, b) ** 2 for a, b in combinations(both, 2)]
    assert samples.median(samples.pooled(x, y)) == pytest.approx(math.sqrt(np.median(every)))
    assert samples.median(np.zeros((3, 3))) == 1


def test_the_discrepancy_is_the_sum_over_pairs() -> None:
    x, y = normal(2, 4, 2), normal(3, 6, 2) + 0.5

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return math.exp(-((a - b) ** 2).sum() / (2 * 0.8**2))

    within = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 12
    other = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 30
    across = sum(k(a, b) for a in x for b in y) / 24
    found = mmd(x, y, width=0.8)
    assert found.squared == pytest.approx(within + other - 2 * across) and found.width == 0.8
    assert mmd(x, y) == mmd(x, y, width=samples.median(samples.pooled(x, y)), permutations=500, seed=0)
    assert mmd(x, y) != mmd(x, y, seed=2)
    assert mmd(x + 0.3, y).p != mmd(x + 0.3, y, seed=1).p
    for few in (x[:1], y[:0]):
        nothing = mmd(few, y)
        assert math.isnan(nothing.squared) and math.isnan(nothing.width) and nothing.p == 1 and mmd(y, few).p == 1
    assert mmd(x[:2], y[:2], permutations=3).p >= 1 / 4


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
    found = mmd(x, y, width=1.3, permutations=4000, seed=1)
    assert found.squared == pytest.approx(own) and 0 < exact < 0.3
    assert abs(found.p - exact) < 4 * math.sqrt(exact * (1 - exact) / 4000)
    assert found.p * 4001 == pytest.approx(round(found.p * 4001))
    same = np.ones((3, 2))
    assert mmd(same, same, permutations=9).p == 1


@pytest.mark.parametrize(("n", "m", "k"), [(9, 7, 1), (7, 12, 3), (6, 6, 5)])
def test_neighbourhoods_by_loops(n: int, m: int, k: int) -> None:
    real, made = normal(4, n, 2), normal(5, m, 2) * 1.3
    of_real = [sorted(math.dist(a, b) for j, b in enumerate(real) if j != i)[k - 1] for i, a in enumerate(real)]
    of_made = [sorted(math.dist(a, b) for j, b in enumerate(made) if j != i)[k - 1] for i, a in enumerate(made)]
    inside = np.array([[math.dist(a, b) <= r for b in made] for a, r in zip(real, of_real, strict=True)])
    reached = [any(math.dist(a, b) <= r for b, r in zip(made, of_made, strict=True)) for a in real]
    found = coverage(real, made, k)
    assert found.precision == inside.any(0).mean() and found.recall == np.mean(reached)
    assert found.density == pytest.approx(inside.sum() / k / m) and found.coverage == inside.any(1).mean()
    assert coverage(normal(6, 9, 2), normal(7, 8, 2)) == coverage(normal(6, 9, 2), normal(7, 8, 2), 5)


def test_a_neighbourhood_holds_its_edge_and_k_is_below_both() -> None:
    real, made = np.array([[0.0], [1.0], [5.0]]), np.array([[2.0], [9.0], [-1.0]])
    found = coverage(real, made, 1)  # balls of 1, 1 and 4 around 0, 1 and 5; of 3, 7 and 3 around 2, 9 and -1
    assert (found.precision, found.recall, found.density, found.coverage) == (1, 1, pytest.approx(4 / 3), 1)
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k must be between 1 and 2, got {k}"):
            coverage(real, np.concatenate([made, made]), k)
    assert coverage(real, made, 2).precision == 1


def test_points_are_taken_to_ninety_percent_of_their_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def kept(points: np.ndarray, count: int, seed: int) -> np.ndarray:
        given.append((points, count, seed))
        return np.zeros(len(points), int)

    monkeypatch.setattr(samples, "_kmeans", kept)
    sides = [(0, 40), (1, 8), (2, 2)]  # of the variance 80, 16 and 4 percent
    points = np.concatenate([np.eye(4)[[axis]].repeat(n, 0) * sign for axis, n in sides for sign in (3.0, -0.5)])
    assert len(buckets(points[:30], points[30:], 6, seed=9)) == 100
    (seen, count, seed), *_ = given
    assert seen.dtype == np.float32 and seen.shape == (100, 2) and (count, seed) == (6, 9)
    assert np.abs(seen[:80]) == pytest.approx(np.array([[1.0, 0.0]] * 80), abs=1e-6)
    assert np.abs(seen[80:96]) == pytest.approx(np.array([[0.0, 1.0]] * 16), abs=1e-6)
    assert np.abs(seen[96:]) == pytest.approx(np.zeros((4, 2)), abs=1e-6)
    buckets(points + np.eye(4)[3], points, 3)
    assert given[1][2] == 0 and abs(given[1][0].mean(0)).max() < 1e-6  # about their mean
    buckets(np.zeros((5, 2)), np.zeros((5, 2)), 2)  # nothing varies
    assert np.isfinite(given[2][0]).all()


@pytest.mark.parametrize("seed", range(3))
def test_k_means_finds_the_best_division_of_a_few_points(seed: int) -> None:
    points = np.random.default_rng(seed).normal(0, 1, (7, 1)).astype(np.float32)

    def cost(labels: tuple[int, ...]) -> float:
        parts = [points[[i for i, at in enumerate(labels) if at == label]] for label in set(labels)]
        return float(sum(((part - part.mean(0)) ** 2).sum() for part in parts))

    least = min(cost(labels) for labels in product(range(3), repeat=7))
    found = samples._kmeans(points, 3, seed)
    assert cost(tuple(found.tolist())) == pytest.approx(least, rel=1e-4)
    assert (found == samples._kmeans(points, 3, seed)).all()


def test_k_means_ends_where_each_point_is_nearest_its_own_centre() -> None:
    points = normal(8, 80, 3).astype(np.float32)
    labels = samples._kmeans(points, 6, 1)
    assert set(labels.tolist()) == set(range(6))
    centres = np.stack([points[labels == label].mean(0) for label in range(6)])
    assert (((points[:, None] - centres) ** 2).sum(-1).argmin(1) == labels).all()
    far = np.repeat(np.eye(5, dtype=np.float32) * 50, 4, 0) + normal(9, 20, 5).astype(np.float32) * 0.01
    for scale in (1.0, 1e-3):  # also where all distances together are small
        apart = samples._kmeans(far * np.float32(scale), 5, 0).reshape(5, 4)
        assert (apart == apart[:, :1]).all() and len(set(apart[:, 0].tolist())) == 5
    alike = samples._kmeans(np.ones((4, 2), np.float32), 3, 0)  # fewer different points than centres
    assert len(set(alike.tolist())) == 1


def test_mauve_is_of_smoothed_counts_in_a_tenth_as_many_buckets() -> None:
    x, y = normal(10, 60, 4), normal(11, 45, 4) + 0.3
    labels = buckets(x, y, 4, seed=0)
    assert mauve(x, y) == mauve_in(labels[:60], labels[60:], 4, 5.0, 0.5)
    assert mauve(x, y, count=3, seed=2, scale=1.0, smooth=0.0) == mauve_in(
        *np.split(buckets(x, y, 3, seed=2), [60]), 3, 1.0, 0.0
    )
    assert mauve(x, y) == mauve(x, y, count=None, scale=5.0, smooth=0.5, seed=0)
    assert [samples.bucket_count(n) for n in (1, 20, 29, 30, 100)] == [2, 2, 2, 3, 10]
    one, other = np.array([0, 0, 1]), np.array([1, 2, 2, 2])
    p, q = np.array([2.5, 1.5, 0.5]) / 4.5, np.array([0.5, 1.5, 3.5]) / 5.5
    assert mauve_in(one, other, 3) == mauve_of(p, q, 5.0) == mauve_of(p, q)
    assert mauve_in(one, other, 3, 2.0, 0.0) == pytest.approx(
        mauve_of(np.array([2, 1, 0]) / 3, np.array([0, 1, 3]) / 4, 2.0)
    )


def test_mauve_is_the_area_under_its_curve() -> None:
    p, q = np.array([0.7, 0.3, 0.0]), np.array([0.2, 0.3, 0.5])

    def kl(a: np.ndarray, b: np.ndarray) -> float:
        return math.fsum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    for scale in (1.0, 5.0):
        points = [(0.0, 1.0)]
        for step in range(24, -1, -1):
            weight = 1e-6 + (1 - 2e-6) * step / 24
            r = weight * p + (1 - weight) * q
            points.append((math.exp(-scale * kl(q, r)), math.exp(-scale * kl(p, r))))
        points.append((1.0, 0.0))
        area = math.fsum((b - a) * (u + v) / 2 for (a, u), (b, v) in pairwise(points))
        assert mauve_of(p, q, scale) == pytest.approx(area, abs=1e-12)
    assert mauve_of(np.array([1.0, 0.0]), np.array([0.0, 1.0])) < 0.05


TEXTS = [list("abcabd"), list("abca"), [], list("xyzabc"), list("a"), list("abcab"), list("bd")]


def test_shares_of_different_and_of_new_grams() -> None:
    every = [gram for text in TEXTS for gram in grams(text, 2)]
    assert distinct(TEXTS, 2) == len(set(every)) / len(every)
    there = {gram for text in TEXTS[:2] for gram in grams(text, 2)}
    assert ngrams(TEXTS[:2], 2) == there
    assert novelty(TEXTS[3:], TEXTS[:2], 2) == pytest.approx((3 + 0 + 0 + 0) / (5 + 4 + 1))
    assert new(TEXTS[3], there, 2) == (3, 5) and new([], there, 2) == (0, 0) and math.isnan(novelty([[]], TEXTS, 2))


def test_self_bleu_by_loops() -> None:
    expected = []
    for i, text in enumerate(TEXTS):
        if not text:
            continue
        others = [other for j, other in enumerate(TEXTS) if j != i]
        logs, zeros = [], 0
        for n in range(1, 4):
            own = Counter(grams(text, n))
            if not own:
                continue
            hits = sum(
                min(count, max(Counter(grams(other, n))[gram] for other in others)) for gram, count in own.items()
            )
            zeros += not hits
            logs.append(math.log((hits or 1 / 2**zeros) / sum(own.values())))
        nearest = min(others, key=lambda other: (abs(len(other) - len(text)), len(other)))
        short = math.exp(min(0.0, 1 - len(nearest) / len(text)))
        expected.append(0.0 if zeros == len(logs) else short * math.exp(sum(logs) / len(logs)))
    assert self_bleus(TEXTS, 3) == pytest.approx(expected) and len(expected) == 6
    assert self_bleu(TEXTS, 3) == pytest.approx(np.mean(expected)) and self_bleus(TEXTS) == self_bleus(TEXTS, 4)
    assert self_bleu(TEXTS) == self_bleu(TEXTS, 4)
    assert self_bleus([list("ab")]) == [] and math.isnan(self_bleu([list("ab")])) and math.isnan(self_bleu([[], []]))


def test_how_often_a_gram_stands_in_one_text_and_in_any_other() -> None:
    counts = [Counter(grams(text, 1)) for text in ("aab", "abb", "aaa", "bb", "c")]
    found = samples._most(counts)
    for gram in (("a",), ("b",), ("c",)):
        each = [own[gram] for own in counts]
        largest, owner, second = found[gram]
        assert (largest, owner) == (max(each), each.index(max(each)))
        assert second == max(n for i, n in enumerate(each) if i != owner)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_how_many_different_ones_there_are(shape: tuple[int, int]) -> None:
    rows = normal(12, *shape)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(rows))
    exact = math.exp(-sum(v * math.log(v) for v in values if v > 1e-12))
    assert vendi_of(rows) == pytest.approx(exact) and vendi(unit @ unit.T) == pytest.approx(exact)
    assert vendi_of(np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])) == pytest.approx(3 ** (2 / 3))  # one is at 0


# -- figures by name ---------------------------------------------------------------------------------------------------


def test_figures_of_features_are_those_of_the_samples_with_the_jackknifes_error() -> None:
    x, y = normal(13, 12, 3), normal(14, 31, 3) + 0.4
    found = sample_metrics.of_features(x, y)
    assert set(found) == {"mmd2", "mmd2_p", "precision", "recall", "density", "coverage", "mauve", "vendi"}
    width = samples.median(samples.pooled(x, y))
    whole = mmd(x, y)
    left = jackknife(12, lambda kept: mmd(x[kept], y, width=width, permutations=1).squared)
    assert found["mmd2"].mean == pytest.approx(whole.squared) and found["mmd2"].error == pytest.approx(left.error)
    p = samples.mmd_of(samples.gaussian(samples.pooled(y, x), width), 31, width, permutations=500, seed=0).p
    assert found["mmd2_p"].mean == p and found["mmd2_p"].error == math.sqrt(p * (1 - p) / 500)
    assert abs(p - whole.p) < 0.08 and found["mmd2_p"].n == 12
    of = coverage(y, x, 5)
    for name in ("precision", "recall", "density", "coverage"):
        assert found[name].mean == pytest.approx(getattr(of, name)) and found[name].n == 12
    balls = samples.neighbourhoods(samples.pooled(y, x), 31, 5)
    assert found["precision"] == share(balls.inside.any(0).astype(float).tolist())
    assert found["density"] == mean((balls.inside.sum(0) / 5).tolist())
    labels = buckets(x, y, 2, seed=0)
    assert found["mauve"] == jackknife(12, lambda kept: mauve_in(labels[:12][kept], labels[12:], 2))
    logs = jackknife(12, lambda kept: math.log(vendi_of(x[kept])))
    assert found["vendi"] == Estimate(vendi_of(x), vendi_of(x) * logs.error, 9, tuple(map(math.exp, logs.interval)), 12)
    for name in ("recall", "coverage"):
        left = jackknife(12, lambda kept, name=name: getattr(coverage(y, x[kept], 5), name))  # type: ignore[misc]
        assert found[name].error == pytest.approx(left.error) and found[name].interval[0] >= 0
    other = sample_metrics.of_features(x, y, k=3, seed=4)
    assert other["recall"].mean == coverage(y, x, 3).recall != found["recall"].mean
    assert other["mmd2_p"] != found["mmd2_p"] and other["mmd2"] == found["mmd2"]


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
        assert found[f"distinct_{n}"] == jackknife(15, lambda kept, n=n: distinct([texts[i] for i in kept], n))
    assert found["self_bleu"] == mean(self_bleus(texts))
    for n in (4, 8):
        by = jackknife(15, lambda kept, n=n: novelty([texts[i] for i in kept], known, n))
        assert (found[f"novelty_{n}"].mean, found[f"novelty_{n}"].error) == pytest.approx((by.mean, by.error))
        assert 0 < found[f"novelty_{n}"].mean < 1
    assert next(iter(sample_metrics.of_texts(texts, known, orders=(2,)))) == "distinct_2"
    assert math.isnan(sample_metrics.of_texts([["a"]], known)["novelty_4"].mean)
    assert math.isnan(sample_metrics.of_texts([["a"]], known)["distinct_2"].mean)
    many = words(2, 203, 3)
    assert sample_metrics.of_texts(many, known)["self_bleu"] == mean(self_bleus(many[:200]))


def test_a_judge_s_perplexity_is_by_token_over_all_texts() -> None:
    scored = [[(1, -0.5), (1, -1.5), (2, -0.25)], [], [(3, -2.0)], [(4, -0.1), (5, -0.2)]]
    found = sample_metrics.of_judge(scored)
    sums = [(-2.25, 3), (0, 0), (-2.0, 1), (-0.3, 2)]
    by = jackknife(4, lambda kept: math.exp(-sum(sums[i][0] for i in kept) / sum(sums[i][1] for i in kept)))
    assert found["judge_perplexity"].mean == pytest.approx(math.exp(4.55 / 6))
    assert found["judge_perplexity"].error == pytest.approx(by.error)
    thirds = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert found["token_entropy"].mean == pytest.approx((thirds + 0 + 0 + math.log(2)) / 4)
    said = {"features": "f", "n": 40, "k": 5, "buckets": 4, "scale": 5.0, "smooth": 0.5}
    assert sample_metrics.protocol("f", 40) == said and sample_metrics.protocol("f", 40, 7)["k"] == 7
