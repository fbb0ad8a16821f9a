"""Losses and their gradients against plain mlx, optimisers against mlx's own, schedules and error bars by hand."""

from typing import Any

import numpy as np
import pytest

from likely.engine.base import objectives
from likely.engine.train.losses import losses
from likely.metal import mx
from tests.engine.tune.tiny import V, model
from tests.models.oracle import difference

N, C = 23, 32


def states(seed: int) -> mx.array:
    return mx.random.normal((N, C), key=mx.random.key(seed))


TARGETS = mx.random.randint(0, V, (N,), key=mx.random.key(9))


def plain(head: Any, hidden: mx.array) -> mx.array:
    logits = head(hidden)
    return mx.logsumexp(logits, axis=-1) - mx.take_along_axis(logits, TARGETS[:, None], axis=-1)[:, 0]


@pytest.mark.parametrize("chunk", [0, 5, 23, 64])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_the_chunked_loss_and_its_gradient_are_the_plain_ones(chunk: int, softcap: float | None) -> None:
    import dataclasses

    m = model()
    m.config = dataclasses.replace(m.config, logit_softcap=softcap, logit_scale=1.5)
    weights = mx.random.uniform(0, 1, (N,), key=mx.random.key(2))
    expected = mx.value_and_grad(lambda h: mx.sum(plain(m.head, h) * weights))(states(1))
    got = mx.value_and_grad(lambda h: mx.sum(losses.nll(m.head, h, TARGETS, chunk) * weights))(states(1))
    assert abs(float(got[0] - expected[0])) <= 1e-5 * abs(float(expected[0]))
    assert difference(got[1], expected[1]) <= 1e-5


def test_a_very_unlikely_target_has_a_finite_loss() -> None:
    logits = mx.array([[0.0, 500.0, -500.0]])
    lost = losses.nll(lambda h: h, logits, mx.array([2]))
    assert float(lost[0]) == pytest.approx(1000.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("trained", [False, True])
def test_losses_kl_and_their_gradients_with_a_constant_and_with_a_trained_head(trained: bool, smoothing: float) -> None:
    w, base = (mx.random.normal((V, C), key=mx.random.key(k)) * 0.2 for k in (3, 5))
    weights = mx.random.uniform(0, 1, (N,), key=mx.random.key(2))
    reference = states(4) @ base.T

    def logp(z: mx.array) -> mx.array:
        return z - mx.logsumexp(z, axis=-1, keepdims=True)

    def expected(h: mx.array, w: mx.array) -> mx.array:
        p, q = logp(h @ w.T), logp(reference)
        spread = (1 - smoothing) * plain(lambda x: x @ w.T, h) - smoothing / V * mx.sum(p, axis=-1)
        return mx.sum((spread + 0.7 * mx.sum(mx.exp(p) * (p - q), axis=-1)) * weights)

    def ours(h: mx.array, w: mx.array) -> mx.array:
        def head(x: mx.array, named: dict[str, mx.array]) -> mx.array:
            return x @ named.get("w", w).T

        named = {"w": w} if trained else {}
        lost, found = losses.token_losses(head, named, h, TARGETS, lambda rows: reference[rows], 6, smoothing)
        return mx.sum((lost + 0.7 * found) * weights)

    which = (0, 1) if trained else (0,)
    value, gradients = mx.value_and_grad(expected, which)(states(1), w)
    got, found = mx.value_and_grad(ours, which)(states(1), w)
    assert float(got) == pytest.approx(float(value), rel=1e-5)
    assert max(difference(a, b) for a, b in zip(found, gradients, strict=True)) <= 1e-5


@pytest.mark.parametrize("trained", [False, True])
def test_the_logits_of_all_tokens_never_stand_at_once(trained: bool) -> None:
    """The fault: a chunk's loss, which nothing waits for, kept its logits until the last chunk was done."""
    n, v = 1024, 1 << 14
    whole = 4 * n * v  # bytes of all logits
    w = mx.random.normal((v, 8), key=mx.random.key(1))
    hidden, targets = mx.random.normal((n, 8), key=mx.random.key(2)), mx.zeros(n, mx.int32)
    mx.eval(w, hidden, targets)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()

    def lost(hidden: mx.array, w: mx.array) -> mx.array:
        named = {"w": w} if trained else {}
        return mx.sum(losses.token_losses(lambda h, p: h @ p.get("w", w).T, named, hidden, targets, chunk=16)[0])

    mx.eval(mx.grad(lost, (0, 1) if trained else (0,))(hidden, w))
    assert mx.get_peak_memory() - before <= 0.6 * whole


def test_preferences_by_their_definitions() -> None:
    policy, reference = np.array([[-3.0, -5.0], [-4.0, -2.0]]), np.array([[-3.5, -4.0], [-3.0, -2.5]])
    tokens = np.array([[6.0, 5.0], [4.0, 8.0]])
    margin = (policy[0] - policy[1]) - (reference[0] - reference[1])
    mean = policy / tokens
    odds = np.exp(mean) / (1 - np.exp(mean))
    ratio = -np.log(1 / (1 + np.exp(-np.log(odds[0] / odds[1]))))
    expected = {
        "dpo": (np.log1p(np.exp(-0.3 * margin)), margin),
        "orpo": (-mean[0] + 0.3 * ratio, mean[0] - mean[1]),
    }
    pairs = objectives.Pairs(mx.array(policy), mx.array(reference), mx.array(tokens))
    for objective in objectives.OBJECTIVES:
        if objective.of_pairs is not None:
            for ours, theirs in zip(objective.of_pairs(pairs, 0.3, mx), expected[objective.name], strict=True):
                assert np.allclose(np.array(ours), theirs, rtol=1e-5)
