"""`Distribution` against float64 sums written out."""

import math

import numpy as np
import pytest

from engine.distribution import Distribution
from metal import mx
from tests.engine import reference

NAMESPACES = pytest.mark.parametrize("xp", [np, mx], ids=["numpy", "mlx"])


@NAMESPACES
@pytest.mark.parametrize("offset", [0.0, 80.0, -300.0])
def test_every_number_equals_its_float64_sum(xp, offset):
    rng = np.random.default_rng(0)
    z = (rng.normal(0, 3, 2000) + offset).astype(np.float32)
    p = reference.softmax(z)
    d = Distribution(xp.array(z), xp)
    scale = 1e-6 * max(1, abs(offset))
    assert float(d.lse) == pytest.approx(max(z) + math.log(math.fsum(math.exp(v - max(z)) for v in z)), abs=10 * scale)
    np.testing.assert_allclose(np.asarray(d.logprobs), np.log(p), atol=10 * scale, rtol=1e-6)
    assert float(d.logprob(7)) == pytest.approx(math.log(p[7]), abs=10 * scale)
    assert float(d.entropy()) == pytest.approx(reference.entropy(z), abs=1e-4)
    assert int(d.rank(7)) == 1 + sum(v > z[7] for v in z)
    ids, logprobs = d.top(5)
    assert np.asarray(ids).tolist() == np.argsort(-z, kind="stable")[:5].tolist()
    np.testing.assert_allclose(np.asarray(logprobs), np.sort(np.log(p))[::-1][:5], atol=10 * scale)


@NAMESPACES
def test_divergence(xp):
    rng = np.random.default_rng(1)
    z, w = rng.normal(0, 2, 300).astype(np.float32), rng.normal(0, 2, 300).astype(np.float32)
    p, q = reference.softmax(z), reference.softmax(w)
    expected = math.fsum(p * np.log(p / q))
    one, other = Distribution(xp.array(z), xp), Distribution(xp.array(w), xp)
    assert float(one.kl(other)) == pytest.approx(expected, rel=1e-5)
    assert float(one.kl(one)) == 0
    half = z.copy()
    half[:100] = -np.inf
    cut = Distribution(xp.array(half), xp)
    assert float(cut.kl(one)) == pytest.approx(-math.log(p[100:].sum()), rel=1e-5)
    assert float(one.kl(cut)) == math.inf


@NAMESPACES
def test_a_certain_and_an_even_distribution(xp):
    certain = Distribution(xp.array([-math.inf, 2.0, -math.inf]), xp)
    assert (float(certain.entropy()), float(certain.logprob(1)), int(certain.rank(0))) == (0.0, 0.0, 2)
    even = Distribution(xp.array([1.5] * 64), xp)
    assert float(even.entropy()) == pytest.approx(math.log(64), rel=1e-6)
    assert np.asarray(even.top(3)[0]).tolist() == [0, 1, 2]
