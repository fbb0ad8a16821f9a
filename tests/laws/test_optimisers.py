"""Optimisers and schedules against their papers' formulas in float64, each default, and both sides of each bound."""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.train.run import optimizers
from likely.engine.train.run.optimizers import ParameterGroup, norm, rate, update
from likely.metal import mx
from tests.models.oracle import difference

Formula = Callable[[list[np.ndarray]], np.ndarray]  # gradients so far -> the direction


def adam(gs: list[np.ndarray], b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> np.ndarray:
    t = len(gs)
    m = sum((1 - b1) * b1 ** (t - 1 - i) * g for i, g in enumerate(gs)) / (1 - b1**t)
    v = sum((1 - b2) * b2 ** (t - 1 - i) * g * g for i, g in enumerate(gs)) / (1 - b2**t)
    found: np.ndarray = m / (np.sqrt(v) + eps)
    return found


def lion(gs: list[np.ndarray], b1: float = 0.9, b2: float = 0.99) -> np.ndarray:
    *before, last = gs
    m = sum(((1 - b2) * b2 ** (len(before) - 1 - i) * g for i, g in enumerate(before)), np.zeros_like(last))
    return np.sign(b1 * m + (1 - b1) * last)


def sgd(gs: list[np.ndarray], momentum: float = 0.9) -> np.ndarray:
    found: np.ndarray = sum(momentum ** (len(gs) - 1 - i) * g for i, g in enumerate(gs))  # type: ignore[assignment]
    return found


def newton_schulz(x: np.ndarray, steps: int = 5) -> np.ndarray:
    """By the singular values alone, on which each round is a polynomial."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    s = s / (np.sqrt((s**2).sum()) + 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    found: np.ndarray = u * s @ v
    return found


def muon(gs: list[np.ndarray], momentum: float = 0.95, steps: int = 5) -> np.ndarray:
    m = sum((1 - momentum) * momentum ** (len(gs) - 1 - i) * g for i, g in enumerate(gs))
    u = (1 - momentum) * gs[-1] + momentum * m
    if u.ndim < 2:
        return np.sign(u)
    return newton_schulz(u, steps) * math.sqrt(max(1.0, u.shape[0] / u.shape[1]))


def adafactor(gs: list[np.ndarray], decay: float = 0.8, eps: float = 1e-30, clip: float = 1.0) -> np.ndarray:
    last = gs[-1]
    v: Any = 0.0
    row: Any = 0.0
    column: Any = 0.0
    for t, g in enumerate(gs, 1):
        beta, square = 1 - t**-decay, g * g + eps
        v = beta * v + (1 - beta) * square
        if g.ndim > 1:
            row = beta * row + (1 - beta) * square.mean(-1)
            column = beta * column + (1 - beta) * square.mean(-2)
    second = v if last.ndim < 2 else np.outer(row, column) / row.mean()
    u = last / np.sqrt(second)
    return np.asarray(u / max(1.0, np.sqrt((u * u).mean()) / clip))


CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("adamw", {}, adam), ("adamw", {"beta1": 0.7, "beta2": 0.9, "eps": 0.1}, lambda g: adam(g, 0.7, 0.9, 0.1)),
    ("lion", {}, lion), ("lion", {"beta1": 0.5, "beta2": 0.8}, lambda g: lion(g, 0.5, 0.8)),
    ("sgd", {}, sgd), ("sgd", {"momentum": 0.5}, lambda g: sgd(g, 0.5)), ("sgd", {"momentum": 0.0}, lambda g: g[-1]),
    ("muon", {}, muon), ("muon", {"momentum": 0.5, "steps": 2}, lambda g: muon(g, 0.5, 2)),
    ("adafactor", {}, adafactor), ("adafactor", {"decay": 0.5, "clip": 0.3}, lambda g: adafactor(g, 0.5, clip=0.3)),
    ("adafactor", {"eps": 0.5}, lambda g: adafactor(g, eps=0.5)),
]  # fmt: skip


@pytest.mark.parametrize("shape", [(6, 4), (3, 7), (5,)])
@pytest.mark.parametrize(("name", "options", "formula"), CASES)
def test_directions_are_those_of_the_papers(
    name: str, options: dict[str, Any], formula: Formula, shape: tuple[int, ...]
) -> None:
    random = np.random.default_rng(sum(shape))
    step, state, gs = optimizers.OPTIMISERS[name](**options), {}, []
    for t in range(1, 5):
        gs.append(random.normal(0, 0.5 if t % 2 else 3.0, shape))
        direction, state = step(mx.array(gs[-1].astype(np.float32)), state, t)
        assert np.array(direction) == pytest.approx(formula(gs), rel=2e-3, abs=2e-4), t


def test_each_parameter_follows_its_group() -> None:
    random = np.random.default_rng(2)
    w = {"a.lora_a": random.normal(size=(2, 3)), "b": random.normal(size=(3, 2)), "c": random.normal(size=3)}
    g = {name: random.normal(size=array.shape) for name, array in w.items()}
    groups = {
        "a.lora_a": ParameterGroup(optimizers.sgd(), 2.0, 0.5),
        "b": ParameterGroup(optimizers.adamw(), 0.5, 0.25),
        "c": ParameterGroup(optimizers.sgd(), 1.0, 0.9),
    }
    given = [{name: mx.array(each[name].astype(np.float32)) for name in w} for each in (w, g)]
    new, states = update(given[0], given[1], {}, groups, 1, 0.1, l1=0.3)
    assert (ParameterGroup(optimizers.sgd()).rate, ParameterGroup(optimizers.sgd()).decay) == (1.0, 0.0)

    def near(value: np.ndarray, own: float) -> np.ndarray:
        return np.asarray(np.sign(value) * np.maximum(np.abs(value) - own * 0.3, 0))

    assert np.array(new["a.lora_a"]) == pytest.approx(near(w["a.lora_a"] * 0.9 - 0.2 * g["a.lora_a"], 0.2), abs=1e-6)
    expected = near(w["b"] * (1 - 0.05 * 0.25) - 0.05 * adam([g["b"]]), 0.05)
    assert np.array(new["b"]) == pytest.approx(expected, abs=1e-6)
    assert np.array(new["c"]) == pytest.approx(w["c"] - 0.1 * g["c"], abs=1e-6)
    assert set(states) == set(w) and set(states["b"]) == {"m", "v"}
    again, _ = update(given[0], given[1], states, groups, 2, 0.1)
    assert np.array(again["c"]) == pytest.approx(w["c"] - 0.1 * 1.9 * g["c"], abs=1e-6)
    half = {"c": given[0]["c"].astype(mx.float16)}
    kept, _ = update(half, {"c": given[1]["c"].astype(mx.float16)}, {}, groups, 1, 0.1)
    assert kept["c"].dtype == mx.float16


def test_the_norm_is_of_all_together() -> None:
    found = norm({"a": mx.array([[3.0, 0.0]]), "b": mx.array([4.0], dtype=mx.float16), "c": mx.array([12.0])})
    assert float(found) == 13 and float(norm({})) == 0


@pytest.mark.parametrize(
    ("schedule", "steps", "warmup", "floor", "rates"),
    [
        ("constant", 4, 0, 0.0, [1, 1, 1, 1]), ("constant", 4, 2, 0.0, [1 / 2, 1, 1, 1]),
        ("linear", 5, 0, 0.0, [1, 3 / 4, 2 / 4, 1 / 4, 0.5 / 4]),
        ("linear", 5, 0, 0.2, [1, 0.2 + 0.8 * 3 / 4, 0.6, 0.4, 0.2]),
        ("linear", 5, 2, 0.0, [1 / 2, 1, 1, 1 / 2, 1 / 4]), ("linear", 3, 2, 0.0, [1 / 2, 1, 1]),
        ("linear", 1, 0, 0.0, [1]), ("linear", 2, 0, 0.0, [1, 1 / 2]), ("linear", 2, 5, 0.0, [1 / 5, 2 / 5]),
        ("cosine", 5, 0, 0.0, [0.5 + 0.5 * math.cos(math.pi * share) for share in (0, 0.25, 0.5, 0.75, 0.875)]),
        ("cosine", 5, 0, 0.1, [0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * s / 4)) for s in range(5)]),
        ("wsd", 11, 0, 0.0, [*[1] * 9, 0.5, 0.25]), ("wsd", 11, 0, 0.3, [*[1] * 9, 0.65, 0.3]),
        ("wsd", 13, 2, 0.0, [0.5, *[1] * 10, 0.5, 0.25]),
    ],
)  # fmt: skip
def test_the_rate_of_every_step(schedule: str, steps: int, warmup: int, floor: float, rates: list[float]) -> None:
    """Above 0 at the last one too; past the end it stays at its floor."""
    for peak in (1.0, 0.3):
        found = [rate(schedule, peak, t, steps, warmup, floor) for t in range(1, steps + 1)]
        assert found == pytest.approx([peak * each for each in rates])
    if floor and schedule != "wsd":
        assert rate(schedule, 1.0, 30, steps, warmup, floor) == pytest.approx(floor)
    with pytest.raises(ParameterError, match="one of constant, linear, cosine, wsd, got 'steep'"):
        rate("steep", 1.0, 3, 9, 0)


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
    groups = {"w": optimizers.ParameterGroup(optimizers.OPTIMISERS[name](), decay=decay)}
    for t in range(1, 6):
        g = {"w": mx.random.normal((12, 7), key=mx.random.key(t))}
        w, kept = optimizers.update(w, g, kept, groups, t, 1e-2)
        other = peer.apply_gradients(g, other)
    assert difference(w["w"], other["w"]) <= 2e-5


def test_muon_scales_by_what_a_matrix_maps_however_it_is_kept() -> None:
    """The fault: A [in, r] had sqrt(in / r) and B [r, out] had 1, the wrong way round."""
    sizes = {"w": (48, 12), "v": (12, 48), "w.lora_a": (48, 4), "w.lora_b": (4, 100), "e.lora_a": (2, 4, 48)}
    scales = {"w": 2.0, "v": 1.0, "w.lora_a": 1.0, "w.lora_b": 5.0, "e.lora_a": 1.0}
    start = {name: mx.zeros(shape) for name, shape in sizes.items()}
    g = {name: mx.random.normal(shape, key=mx.random.key(i)) for i, (name, shape) in enumerate(sizes.items())}
    groups = dict.fromkeys(sizes, optimizers.ParameterGroup(optimizers.muon()))
    new, _ = optimizers.update(start, g, {}, groups, 1, 1.0)
    for name, array in new.items():
        values = np.linalg.svd(np.array(array), compute_uv=False)  # near 1, times the scale
        assert np.mean(values) == pytest.approx(scales[name], rel=0.25), name
        assert difference(-array, scales[name] * optimizers.orthogonal(g[name])) <= 2e-3


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
    groups = {"w": optimizers.ParameterGroup(optimizers.sgd(0.0))}
    design, wanted = mx.array(x, dtype=mx.float32), mx.array(y[:, None], dtype=mx.float32)
    for t in range(1, 301):
        slope = {"w": design.T @ (design @ w["w"] - wanted) / 40}
        w, states = optimizers.update(w, slope, states, groups, t, 0.2, l1=strength)
        mx.eval(w)
    found = np.asarray(w["w"])[:, 0]
    assert 0 < (exact == 0).sum() < 12 and ((found == 0) == (exact == 0)).all()
    np.testing.assert_allclose(found, exact, atol=2e-6)
