"""The small learners against the same learning written out a task, a point, a table at a time, with the same draws."""

import math
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError
from engine.evaluate.estimates import mean
from engine.scaling import toys
from engine.scaling.toys import Toy, measure, slope

Called = list[tuple[Any, ...]]


def spy(monkeypatch: pytest.MonkeyPatch, name: str) -> Called:
    calls: Called = []

    def kept(*given: Any) -> float:
        calls.append(given)
        return 1.5

    monkeypatch.setattr(toys, name, kept)
    return calls


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("alpha", [0.05, 0.37, 1.0, 3.0, 4.5])
def test_the_slope_is_that_of_a_planted_power_from_any_start(alpha: float) -> None:
    x = np.array([3, 5, 11, 40, 1000])
    assert slope(x, 7 * x**-alpha) == pytest.approx(alpha, abs=1e-7)


def test_the_slope_of_a_line_with_one_run_off_is_that_of_the_others() -> None:
    x = np.geomspace(10, 1000, 7)
    losses = 3 * x**-0.37
    losses[3] *= 1.5  # distances, not squares, so that one run moves little
    assert slope(x, losses) == pytest.approx(0.37, abs=0.001)


def test_a_toy_is_trained_at_every_scale_for_every_seed() -> None:
    asked = []

    def train(n: int, random: np.random.Generator) -> float:
        draw = float(random.random())
        asked.append((n, draw))
        return float((1 + 0.1 * draw) * n**-0.5)

    toy = Toy("t", "points", np.array([4, 16, 64]), 0.4, "none", train)
    found = measure(toy, 2)
    expected = [(n, chance([seed, i]).random()) for seed in range(2) for i, n in enumerate((4, 16, 64))]  # type: ignore
    assert asked == expected and all(isinstance(n, int) for n, _ in asked)
    assert found.losses.tolist() == [[(1 + 0.1 * d) * n**-0.5 for n, d in expected[i : i + 3]] for i in (0, 3)]
    assert found.exponent == mean([slope(toy.scale, row) for row in found.losses]) and found.exponent.n == 2
    assert found.off == found.exponent.mean - 0.4 and found.toy is toy


def test_the_tasks_are_all_parities_of_three_of_seven_bits() -> None:
    inputs = list(product((1, -1), repeat=7))
    assert sorted(map(tuple, toys.INPUTS.tolist())) == sorted(inputs)
    expected = [[row[a] * row[b] * row[c] for a, b, c in combinations(range(7), 3)] for row in toys.INPUTS]
    assert toys.PARITIES.tolist() == expected and toys.PARITIES.shape == (128, 35)


def test_quanta_have_room_or_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy(monkeypatch, "_parities")
    room, seen = toys.quanta()
    assert (room.name, room.along, room.predicted) == ("quanta", "parameters", 0.4)
    assert (seen.name, seen.along, seen.predicted) == ("quanta", "tokens", 0.4 / 1.4)
    assert (room.scale[0], room.scale[-1], len(room.scale)) == (24, 512, 8) and room.scale.dtype == int
    assert (seen.scale[0], seen.scale[-1], len(seen.scale)) == (10_000, 1_000_000, 8)
    random = chance()
    assert room.train(30, random) == seen.train(20_000, random) == 1.5
    assert calls == [(0.4, 1_000_000, 30, random), (0.4, 20_000, 1_000_000, random)]
    assert [toys.quanta(a)[0].scale[-1] for a in (0.79, 0.8)] == [512, 96]
    assert toys.quanta(1.0)[1].predicted == 0.5


def learned(alpha: float, examples: int, room: int, random: np.random.Generator) -> float:
    """One task after another: weights on 35 parities, multiplied by what each says of an example."""
    draws = random.zipf(1 + alpha, examples).tolist()
    counts = {task: draws.count(task) for task in sorted(set(draws))}
    kept = sorted(counts, key=lambda task: -counts[task])[:room]
    hidden = random.integers(0, 35, len(kept))
    weights = [[1 / 35] * 35 for _ in kept]
    for lesson in range(min(counts[kept[0]], 60)):
        going = [i for i, task in enumerate(kept) if counts[task] > lesson]
        for i, at in zip(going, random.integers(0, 128, len(going)).tolist(), strict=True):
            x = toys.PARITIES[at]
            y = x[hidden[i]]
            margin = max(-0.9, y * sum(w * each for w, each in zip(weights[i], x, strict=True)))
            grown = [w * math.exp(y * each / (1 + margin)) for w, each in zip(weights[i], x, strict=True)]
            weights[i] = [w / sum(grown) for w in grown]
    zeta = sum(k ** -(1.0 + alpha) for k in range(1, 200_001)) + 200_000.5**-alpha / alpha
    total, known = 0.0, 0.0
    for i, task in enumerate(kept):
        told = [
            (1 + y * (row @ weights[i])) / 2 for y, row in zip(toys.PARITIES[:, hidden[i]], toys.PARITIES, strict=True)
        ]
        share = task ** -(1.0 + alpha) / zeta
        total -= share * sum(math.log(max(p, 1e-12)) for p in told) / 128
        known += share
    return total + (1 - known) * math.log(2)


@pytest.mark.parametrize(("examples", "room"), [(1, 5), (150, 1000), (260, 4)])
def test_the_loss_of_quanta_is_that_of_each_task_learned_by_itself(examples: int, room: int) -> None:
    found = toys._parities(0.9, examples, room, chance(3))
    assert found == pytest.approx(learned(0.9, examples, room, chance(3)), rel=1e-6)


def test_the_sum_of_powers_is_zetas() -> None:
    for s, value in ((2.0, math.pi**2 / 6), (4.0, math.pi**4 / 90), (1.5, 2.6123753486854883), (1.4, 3.105547277977)):
        assert toys._zeta(s) == pytest.approx(value, rel=2e-13 if s != 1.4 else 1e-6)
        assert toys._zeta(s, 20) == pytest.approx(toys._zeta(s), rel=1e-8)


def test_manifolds_have_their_dimensions_points_and_exponents(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy(monkeypatch, "_torus")
    found = toys.manifold()
    assert [(toy.name, toy.along, toy.predicted) for toy in found] == [
        ("manifold, d = 2", "points", 2.0), ("manifold, d = 3", "points", 4 / 3), ("manifold, d = 4", "points", 1.0)
    ]  # fmt: skip
    assert [(toy.scale[0], toy.scale[-1], len(toy.scale)) for toy in found] == [
        (300, 10_000, 7), (600, 20_000, 7), (1200, 40_000, 7)
    ]  # fmt: skip
    assert toys.manifold((1,))[0].scale[0] == 300
    for toy, d in zip(found, (2, 3, 4), strict=True):
        random = chance()
        assert toy.train(50, random) == 1.5 and calls[-1] == (d, 50, random)


@pytest.mark.parametrize("d", [1, 2])
def test_the_loss_on_a_torus_is_that_of_planes_through_the_nearest_points(d: int) -> None:
    random = chance(4)
    points, asked = random.uniform(0, 2 * math.pi, (60, d)), random.uniform(0, 2 * math.pi, (12, d))
    phase = random.uniform(0, 2 * math.pi, d)

    def value(angles: np.ndarray) -> float:
        return sum(math.cos(a + p) for a, p in zip(angles, phase, strict=True))

    def place(angles: np.ndarray) -> np.ndarray:
        return np.array([*(math.cos(a) for a in angles), *(math.sin(a) for a in angles)])

    errors = []
    for angles in asked:
        near = sorted(points, key=lambda each: float(((place(each) - place(angles)) ** 2).sum()))[: 2 * (d + 1)]
        off = np.stack([place(each) - place(angles) for each in near])
        values, axes = np.linalg.eigh(np.cov(off.T))
        plane = np.column_stack([np.ones(len(near)), off @ axes[:, np.argsort(-values)[:d]]])
        told = np.linalg.lstsq(plane, np.array([value(each) for each in near]), rcond=None)[0][0]
        errors.append((told - value(angles)) ** 2)
    exact = np.mean(errors) / np.var([value(angles) for angles in asked])
    assert toys._torus(d, 60, chance(4), 12) == pytest.approx(float(exact), rel=1e-4)


def test_random_features_count_what_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy(monkeypatch, "_regression")
    count, examples = toys.features()
    assert [(toy.name, toy.along) for toy in (count, examples)] == [
        ("features", "parameters"),
        ("features", "examples"),
    ]
    assert count.scale.tolist() == examples.scale.tolist() == [16, 24, 32, 48, 64, 96, 128]
    spectrum = np.array([i**-2.0 for i in range(1, 2049)])
    tails = np.array([math.fsum(spectrum[n:]) for n in count.scale])
    assert count.predicted == examples.predicted == pytest.approx(slope(count.scale, tails), rel=1e-9)
    assert toys.features(0.5)[0].predicted < count.predicted and "i^-2 of 2048" in count.cause
    random = chance()
    assert count.train(10, random) == examples.train(10, random) == 1.5
    assert [call[1:] for call in calls] == [(10, 40, random), (40, 10, random)]
    assert all(call[0] == pytest.approx(spectrum) for call in calls)


@pytest.mark.parametrize(("count", "examples"), [(3, 12), (12, 3)])
def test_the_loss_of_random_features_is_the_least_squares(
    count: int, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toys, "LATENT", 40)
    monkeypatch.setattr(toys, "TEACHERS", 5)
    spectrum = np.arange(1.0, 41) ** -2
    random, losses = chance(5), []
    for _ in range(2):
        x = random.standard_normal((examples, 40)) * spectrum**0.5
        project = random.standard_normal((40, count)) / 40**0.5
        teachers = random.standard_normal((40, 5))
        off = teachers - project @ np.linalg.pinv(x @ project) @ x @ teachers
        losses.append(np.mean([(spectrum * column**2).sum() for column in off.T]))
    assert toys._regression(spectrum, count, examples, chance(5)) == pytest.approx(np.mean(losses), rel=1e-6)


def test_bigrams_are_of_the_text_s_own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys, "WORDS", 70)
    random = chance(6)
    names = [f"w{i}" for i in range(90)]
    text = " ".join(names[i] for i in np.minimum(random.zipf(1.3, 4000) - 1, 89).tolist()) + " W0, w1."
    (toy,) = toys.bigrams(text)
    words = [*text.lower().replace(",", " ,").replace(".", " .").split()]
    frequent = sorted(set(words), key=lambda word: (-words.count(word), words.index(word)))[:69]
    number = {word: i for i, word in enumerate(frequent)}
    joint = np.zeros((70, 70))
    for a, b in pairwise(words):
        joint[number.get(a, 69), number.get(b, 69)] += 1 / (len(words) - 1)
    (own,) = toy.train.args  # type: ignore[attr-defined]
    assert own == pytest.approx(joint) and own.sum() == pytest.approx(1) and own[69].sum() > 0
    weighed = joint / np.sqrt(joint.sum(1, keepdims=True))
    values = np.linalg.svd(weighed, compute_uv=False)
    assert toy.scale.tolist() == [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    tails = np.array([math.fsum(values[n:] ** 2) for n in toy.scale])
    assert toy.predicted == pytest.approx(slope(toy.scale, tails), rel=1e-6)
    assert (toy.name, toy.along) == ("bigrams", "width") and f"{len(words):,} words" in toy.cause
    with pytest.raises(DataError, match="70 different words or more, got 68"):
        toys.bigrams(" ".join(names[:68]))
    assert toys.bigrams(" ".join(names[:69]))[0].predicted > 0
    assert toys._weighed(np.array([[0.0, 0.0], [0.25, 0.75]])).tolist() == [[0, 0], [0.25, 0.75]]


def test_a_bigram_learner_comes_to_the_best_table_of_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a rank: the singular vectors of what was drawn, and what is above the text's own."""
    monkeypatch.setattr(toys, "DRAWN", 5000)
    monkeypatch.setattr(toys, "SWEEPS", 60)
    joint = chance(7).dirichlet(np.full(36, 0.4)).reshape(6, 6)
    joint[5] = 0  # a word that nothing follows
    joint /= joint.sum()
    joint[0, 0] += 1 - joint.sum()
    random = chance(8)
    there = np.flatnonzero(joint)
    drawn = np.zeros(36)
    drawn[there] = random.multinomial(5000, joint.ravel()[there]) / 5000
    drawn = drawn.reshape(6, 6)
    seen = drawn.sum(1)
    weighed = np.array([row / math.sqrt(n) if n else row for row, n in zip(drawn, seen, strict=True)])
    u, s, v = np.linalg.svd(weighed)
    for width in (2, 6):
        told = u[:, :width] * s[:width] @ v[:width]
        loss = 0.0
        for a in range(5):
            true = joint[a].sum()
            loss += sum((told[a, b] / math.sqrt(seen[a]) - joint[a, b] / true) ** 2 for b in range(6)) * true
        assert toys._table(joint, width, chance(8)) == pytest.approx(loss, rel=1e-6)
