"""Optimisers and schedules against their papers' formulas in float64, each default, and both sides of each bound."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from likely.engine.errors import ParameterError
from likely.engine.tune import optimisers
from likely.engine.tune.optimisers import ParameterGroup, norm, rate, update
from likely.metal import mx

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
    step, state, gs = optimisers.OPTIMISERS[name](**options), {}, []
    for t in range(1, 5):
        gs.append(random.normal(0, 0.5 if t % 2 else 3.0, shape))
        direction, state = step(mx.array(gs[-1].astype(np.float32)), state, t)
        assert np.array(direction) == pytest.approx(formula(gs), rel=2e-3, abs=2e-4), t


def test_each_parameter_follows_its_group() -> None:
    random = np.random.default_rng(2)
    w = {"a.lora_a": random.normal(size=(2, 3)), "b": random.normal(size=(3, 2)), "c": random.normal(size=3)}
    g = {name: random.normal(size=array.shape) for name, array in w.items()}
    groups = {
        "a.lora_a": ParameterGroup(optimisers.sgd(), 2.0, 0.5),
        "b": ParameterGroup(optimisers.adamw(), 0.5, 0.25),
        "c": ParameterGroup(optimisers.sgd(), 1.0, 0.9),
    }
    given = [{name: mx.array(each[name].astype(np.float32)) for name in w} for each in (w, g)]
    new, states = update(given[0], given[1], {}, groups, 1, 0.1, l1=0.3)
    assert (ParameterGroup(optimisers.sgd()).rate, ParameterGroup(optimisers.sgd()).decay) == (1.0, 0.0)

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
    for peak in (1.0, 0.3):
        found = [rate(schedule, peak, t, steps, warmup, floor) for t in range(1, steps + 1)]
        assert found == pytest.approx([peak * each for each in rates])
    if not floor:
        assert [rate(schedule, 1.0, t, steps, warmup) for t in range(1, steps + 1)] == pytest.approx(rates)


def test_a_schedule_that_there_is_not_is_refused_and_past_the_end_it_stays_at_its_floor() -> None:
    with pytest.raises(ParameterError, match="one of constant, linear, cosine, wsd, got 'steep'"):
        rate("steep", 1.0, 3, 9, 0)
    assert rate("cosine", 1.0, 30, 9, 0, 0.1) == pytest.approx(0.1) and rate("linear", 1.0, 30, 9, 0, 0.1) == 0.1
