"""Array functions of distributions against float64 sums written out."""

import math

import numpy as np
import pytest

from likely.engine.base import arrays
from likely.metal import mx
from tests.laws import by_definition as reference

NAMESPACES = pytest.mark.parametrize("xp", [np, mx], ids=["numpy", "mlx"])


@NAMESPACES
@pytest.mark.parametrize("offset", [0.0, 80.0, -300.0])
def test_every_number_equals_its_float64_sum(xp, offset):
    rng = np.random.default_rng(0)
    z = (rng.normal(0, 3, 2000) + offset).astype(np.float32)
    p = reference.softmax(z)
    x, seven = xp.array(z), xp.array(7)
    scale = 1e-6 * max(1, abs(offset))
    lse = max(z) + math.log(math.fsum(math.exp(v - max(z)) for v in z))
    for exact in (False, True):
        assert float(arrays.logsumexp(x, xp, exact=exact)) == pytest.approx(lse, abs=10 * scale)
        found = arrays.logprobs(x, xp, exact=exact)
        np.testing.assert_allclose(np.asarray(found), np.log(p), atol=10 * scale, rtol=1e-6)
    assert float(arrays.chosen(found, seven, xp)) == pytest.approx(math.log(p[7]), abs=10 * scale)
    assert float(arrays.entropy(x, xp)) == pytest.approx(reference.entropy(z), abs=1e-4)
    assert int(arrays.rank(x, seven, xp)) == 1 + sum(v > z[7] for v in z)
    ids = np.asarray(arrays.top(x, 5, xp))
    assert ids.tolist() == np.argsort(-z, kind="stable")[:5].tolist()
    np.testing.assert_allclose(np.asarray(found)[ids], np.sort(np.log(p))[::-1][:5], atol=10 * scale)
    np.testing.assert_allclose(arrays.softmax(z), p, rtol=1e-12)


@NAMESPACES
def test_divergence(xp):
    rng = np.random.default_rng(1)
    z, w = rng.normal(0, 2, 300).astype(np.float32), rng.normal(0, 2, 300).astype(np.float32)
    p, q = reference.softmax(z), reference.softmax(w)
    expected = math.fsum(p * np.log(p / q))
    one, other = arrays.logprobs(xp.array(z), xp), arrays.logprobs(xp.array(w), xp)
    half = z.copy()
    half[:100] = -np.inf
    cut = arrays.logprobs(xp.array(half), xp)
    for fast in (False, True):
        assert float(arrays.kl(one, other, xp, fast=fast)) == pytest.approx(expected, rel=1e-5)
        assert float(arrays.kl(one, one, xp, fast=fast)) == 0
        assert float(arrays.kl(cut, one, xp, fast=fast)) == pytest.approx(-math.log(p[100:].sum()), rel=1e-5)
        assert float(arrays.kl(one, cut, xp, fast=fast)) == math.inf
    m = (p + q) / 2
    js = math.fsum(p * np.log(p / m)) / 2 + math.fsum(q * np.log(q / m)) / 2
    assert float(arrays.js(one, other, xp)) == pytest.approx(js, rel=1e-5)
    assert float(arrays.tv(one, other, xp)) == pytest.approx(math.fsum(abs(p - q)) / 2, rel=1e-5)
    # what both rule out adds nothing, and what one does is no more than log 2
    assert float(arrays.js(cut, cut, xp)) == pytest.approx(0, abs=1e-12)
    assert 0 < float(arrays.js(one, cut, xp)) < math.log(2)


@NAMESPACES
def test_a_small_kl_is_not_lost_in_rounding(xp):
    rng = np.random.default_rng(2)
    z = rng.normal(0, 3, 5000).astype(np.float32)
    w = (z + rng.normal(0, 1e-3, 5000)).astype(np.float32)
    p, q = reference.softmax(z), reference.softmax(w)
    found = float(arrays.kl(arrays.logprobs(xp.array(z), xp), arrays.logprobs(xp.array(w), xp), xp))
    assert found == pytest.approx(math.fsum(p * np.log(p / q)), rel=0.02)


@NAMESPACES
def test_scores_over_a_large_vocabulary_are_within_2e_5(xp):
    """Where mlx's own sum, in order, is three times as far off."""
    z = np.random.default_rng(0).normal(0, 3, (4, 49_152)).astype(np.float32)
    exact = z.astype(np.float64)
    want = exact.max(-1) + np.log(np.exp(exact - exact.max(-1, keepdims=True)).sum(-1))
    np.testing.assert_allclose(np.asarray(arrays.logsumexp(xp.array(z), xp, exact=True)), want, atol=5e-6)


@NAMESPACES
def test_a_certain_and_an_even_distribution(xp):
    certain = xp.array([-math.inf, 2.0, -math.inf])
    assert float(arrays.entropy(certain, xp)) == 0.0
    assert float(arrays.logprobs(certain, xp)[1]) == 0.0 and int(arrays.rank(certain, xp.array(0), xp)) == 2
    even = xp.array([1.5] * 64)
    assert float(arrays.entropy(even, xp)) == pytest.approx(math.log(64), rel=1e-6)
    assert np.asarray(arrays.top(even, 3, xp)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("size", "k"), [(300, 2), (1000, 1), (5003, 3), (40_007, 16), (152_064, 16)])
def test_the_best_of_a_large_vocabulary_are_found_by_their_blocks(size, k):
    """`top` looks at the blocks with the largest peaks alone: equal to sorting all, ties to the lower id."""
    random = np.random.default_rng(0)
    x = random.normal(size=(3, size)).astype(np.float32)
    x[1] = random.integers(0, 4, size)  # nearly all are equal to another
    x[2, 5:] = -np.inf
    np.testing.assert_array_equal(arrays.top(x, k, np), np.argsort(-x, axis=-1, kind="stable")[:, :k])


@NAMESPACES
def test_rows_are_as_each_alone(xp):
    rng = np.random.default_rng(3)
    z, w = (np.round(rng.normal(0, 2, (2, 3, 70)).astype(np.float32) * 2) / 2 for _ in range(2))
    p, q = arrays.logprobs(xp.array(z), xp), arrays.logprobs(xp.array(w), xp)
    tokens = xp.array(rng.integers(0, 70, (2, 3)))
    for i in np.ndindex(2, 3):
        for of in (arrays.kl, arrays.js, arrays.tv):
            assert float(of(p, q, xp)[i]) == pytest.approx(float(of(p[i], q[i], xp)), abs=1e-6)
        for of in (arrays.entropy, arrays.logsumexp):
            assert float(of(p, xp)[i]) == pytest.approx(float(of(p[i], xp)), abs=1e-6)
        assert int(arrays.rank(p, tokens, xp)[i]) == int(arrays.rank(p[i], tokens[i], xp))
        for k in (1, 9, 69, 70):
            assert (
                np.asarray(arrays.top(p, k, xp)[i]).tolist()
                == np.argsort(-np.asarray(p[i]), kind="stable")[:k].tolist()
            )
