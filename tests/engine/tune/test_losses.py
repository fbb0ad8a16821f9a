"""Losses and their gradients against plain mlx, optimisers against mlx's own, schedules and error bars by hand."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from likely.engine import objectives
from likely.engine.tune import losses, optimisers
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


def test_the_kl_of_the_base_to_itself_is_nothing() -> None:
    m = model()
    _, none = losses.token_losses(lambda h, _: m.head(h), {}, states(4), TARGETS, lambda s: m.head(states(4)[s]), 7)
    assert float(mx.max(mx.abs(none))) <= 1e-5


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


THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "adamw": ("AdamW", {"weight_decay": 0.1, "bias_correction": True}),
    "lion": ("Lion", {"weight_decay": 0.1}),
    "sgd": ("SGD", {"momentum": 0.9}),
    "muon": ("Muon", {"momentum": 0.95, "weight_decay": 0.0}),  # its decay is not decoupled
    "adafactor": ("Adafactor", {"relative_step": False, "scale_parameter": False}),
}


@pytest.mark.parametrize("name", list(THEIRS))
def test_optimisers_take_the_steps_of_mlxs(name: str) -> None:
    w = {"w": mx.random.normal((12, 7), key=mx.random.key(0))}
    kind, options = THEIRS[name]
    peer = getattr(import_module("mlx.optimizers"), kind)(1e-2, **options)
    other, kept = dict(w), {}
    decay = 0.0 if name in ("sgd", "adafactor", "muon") else 0.1
    groups = {"w": optimisers.ParameterGroup(optimisers.OPTIMISERS[name](), decay=decay)}
    for t in range(1, 6):
        g = {"w": mx.random.normal((12, 7), key=mx.random.key(t))}
        w, kept = optimisers.update(w, g, kept, groups, t, 1e-2)
        other = peer.apply_gradients(g, other)
    assert difference(w["w"], other["w"]) <= 2e-5


def test_muon_scales_by_what_a_matrix_maps_however_it_is_kept() -> None:
    """The fault: A [in, r] had sqrt(in / r) and B [r, out] had 1, the wrong way round."""
    sizes = {"w": (48, 12), "v": (12, 48), "w.lora_a": (48, 4), "w.lora_b": (4, 100), "e.lora_a": (2, 4, 48)}
    scales = {"w": 2.0, "v": 1.0, "w.lora_a": 1.0, "w.lora_b": 5.0, "e.lora_a": 1.0}
    start = {name: mx.zeros(shape) for name, shape in sizes.items()}
    g = {name: mx.random.normal(shape, key=mx.random.key(i)) for i, (name, shape) in enumerate(sizes.items())}
    groups = dict.fromkeys(sizes, optimisers.ParameterGroup(optimisers.muon()))
    new, _ = optimisers.update(start, g, {}, groups, 1, 1.0)
    for name, array in new.items():
        values = np.linalg.svd(np.array(array), compute_uv=False)  # near 1, times the scale
        assert np.mean(values) == pytest.approx(scales[name], rel=0.25), name
        assert difference(-array, scales[name] * optimisers.orthogonal(g[name])) <= 2e-3


def test_decay_is_decoupled_and_spares_vectors() -> None:
    w = {"matrix": mx.ones((2, 2)), "vector": mx.ones((2,))}
    zero = {n: mx.zeros_like(a) for n, a in w.items()}
    decaying = dict.fromkeys(w, optimisers.ParameterGroup(optimisers.adamw(), decay=0.1))
    new, _ = optimisers.update(w, zero, {}, decaying, 1, 1e-3)
    assert float(new["matrix"][0, 0]) == pytest.approx(0.9999, abs=1e-7)
    assert float(new["vector"][0]) == 1
    slower = dict.fromkeys(w, optimisers.ParameterGroup(optimisers.adamw(), rate=0.5, decay=0.1))
    assert float(optimisers.update(w, zero, {}, slower, 1, 1e-3)[0]["matrix"][0, 0]) == pytest.approx(0.99995, abs=1e-7)
    # the same decay as a gradient is another thing under Adam
    plain = dict.fromkeys(w, optimisers.ParameterGroup(optimisers.adamw()))
    coupled, _ = optimisers.update(w, {n: 0.1 * a for n, a in w.items()}, {}, plain, 1, 1e-3)
    assert float(coupled["matrix"][0, 0]) < 0.9995


def test_l1_gives_exact_zeros_and_spares_vectors() -> None:
    w = {"w": mx.array([[0.05, -0.3, 0.5]]), "norm": mx.array([0.05, 1.0])}
    groups = dict.fromkeys(w, optimisers.ParameterGroup(optimisers.sgd()))
    new, _ = optimisers.update(w, {n: mx.zeros_like(a) for n, a in w.items()}, {}, groups, 1, 0.1, l1=1.0)
    got: list[float] = new["w"][0].tolist()  # type: ignore[assignment]
    assert got[0] == 0 and got == pytest.approx([0, -0.2, 0.4], abs=1e-7)
    assert bool(mx.array_equal(new["norm"], w["norm"]))


def test_proximal_steps_end_at_the_lasso() -> None:
    """Coordinate descent in float64 (Friedman et al., JSS 2010, eq. 5) says which weights are zero, and the others."""
    random = np.random.default_rng(4)
    x, strength = random.normal(size=(40, 12)), 0.3
    y = x @ np.where(np.arange(12) < 4, [1.5, -1.0, 0.5, 0.2] * 3, 0.0) + random.normal(size=40)
    exact = np.zeros(12)
    for _ in range(500):
        for j in range(12):
            pull = x[:, j] @ (y - x @ exact + x[:, j] * exact[j]) / 40
            exact[j] = np.sign(pull) * max(abs(pull) - strength, 0) / (x[:, j] @ x[:, j] / 40)
    w, states = {"w": mx.zeros((12, 1))}, {}
    groups = {"w": optimisers.ParameterGroup(optimisers.sgd(0.0))}
    design, wanted = mx.array(x, dtype=mx.float32), mx.array(y[:, None], dtype=mx.float32)
    for t in range(1, 301):
        slope = {"w": design.T @ (design @ w["w"] - wanted) / 40}
        w, states = optimisers.update(w, slope, states, groups, t, 0.2, l1=strength)
        mx.eval(w)
    found = np.asarray(w["w"])[:, 0]
    assert 0 < (exact == 0).sum() < 12 and ((found == 0) == (exact == 0)).all()
    np.testing.assert_allclose(found, exact, atol=2e-6)


def test_schedules() -> None:
    def rates(schedule: str, **options: Any) -> list[float]:
        return [optimisers.rate(schedule, 1.0, t, 10, 2, **options) for t in range(1, 11)]

    assert rates("constant") == [0.5, *[1.0] * 9]
    cosine = rates("cosine", floor=0.1)
    assert cosine[1] == cosine[2] == 1 and cosine[-1] == pytest.approx(0.1) and sorted(cosine[2:])[::-1] == cosine[2:]
    assert rates("linear")[2] == 1 and rates("linear")[-2:] == pytest.approx([1 / 7, 0.5 / 7])
    assert rates("wsd")[2:8] == [1.0] * 6
    for schedule in optimisers.SCHEDULES:  # the fault: the last step was taken at rate 0, and so did nothing
        for steps in (1, 2, 3, 10):
            for warmup in (0, 1, 2):
                assert all(optimisers.rate(schedule, 1.0, t, steps, warmup) > 0 for t in range(1, steps + 1))
