"""The text VAE beside numpy in float64: what it computes of rows, how it learns, draws, and what its rows become."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError
from engine.synth import vae
from engine.synth.config import configure
from engine.synth.method import LONG
from engine.synth.vae import END, PAD, TURN, LearnedVae, TextVae
from metal import mx
from tests.engine.synth.makers import write_rows

VOCAB = 7
ROWS = np.array([[3, 4, 5, END], [6, END, PAD, PAD], [4, 4, END, PAD]])


def exact(weights: vae.Weights) -> dict[str, np.ndarray]:
    return {name: np.array(value, np.float64) for name, value in weights.items()}


def small(seed: int = 0) -> vae.Weights:
    found = vae.start(VOCAB, 2, 3, seed, width=4, hidden=5)
    chance = np.random.default_rng(seed)
    for name in ("bias", "often"):
        found[name] = mx.array(chance.normal(0, 0.3, found[name].shape).astype(np.float32))
    return found


def scores(w: dict[str, np.ndarray], z: np.ndarray, before: Sequence[int]) -> np.ndarray:
    hidden = np.maximum(np.concatenate([w["words"][i] for i in before]) @ w["before"] + z @ w["latent"] + w["bias"], 0)
    found: np.ndarray = hidden @ w["out"] @ w["words"].T + w["often"]
    return found


def said(w: dict[str, np.ndarray], z: np.ndarray, row: Sequence[int], context: int) -> float:
    before, total = [PAD] * context, 0.0
    for word in row:
        each = scores(w, z, before)
        total += each[word] - np.logaddexp.reduce(each)
        before = [*before[1:], word]
    return total


def about(w: dict[str, np.ndarray], row: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    pairs = zip([PAD, *row[:-1]], row, strict=True)
    seen = [np.maximum(np.concatenate([w["words"][a], w["words"][b]]) @ w["pairs"], 0) for a, b in pairs]
    pooled = sum(seen) / math.sqrt(len(row))
    return pooled @ w["mean"], np.clip(pooled @ w["spread"], -8, 4)


def plain(row: np.ndarray) -> list[int]:
    return [int(i) for i in row if i != PAD]


def test_weights_begin_at_their_scales() -> None:
    found = vae.start(400, 20, 3, 7)
    shapes = {"words": (400, 32), "pairs": (64, 128), "mean": (128, 20), "spread": (128, 20), "before": (96, 128),
              "latent": (20, 128), "bias": (128,), "out": (128, 32), "often": (400,)}  # fmt: skip
    assert {name: array.shape for name, array in found.items()} == shapes
    deviations = {"words": 0.3, "spread": 0.1 / math.sqrt(128)}
    for name, shape in shapes.items():
        array = np.array(found[name])
        if len(shape) == 1:
            assert (array == 0).all()
            continue
        wanted = deviations.get(name, 1 / math.sqrt(shape[0]))
        assert array.std() == pytest.approx(wanted, rel=0.06) and abs(array.mean()) < 0.1 * wanted, name
    again, other = vae.start(400, 20, 3, 7), vae.start(400, 20, 3, 8)
    assert all(bool(mx.array_equal(found[n], again[n])) for n in shapes)
    assert not bool(mx.array_equal(found["words"], other["words"]))


def test_what_is_known_of_a_row_is_of_its_words_whatever_stands_beside_it() -> None:
    weights = small()
    w = exact(weights)
    mean, spread = (np.array(each) for each in vae.posterior(weights, mx.array(ROWS)))
    for i, row in enumerate(ROWS):
        middle, wide = about(w, plain(row))
        assert mean[i] == pytest.approx(middle, abs=1e-5) and spread[i] == pytest.approx(wide, abs=1e-5)
    large = {**weights, "spread": weights["spread"] * 1e4}
    assert set(np.array(vae.posterior(large, mx.array(ROWS))[1]).ravel().tolist()) == {-8.0, 4.0}


def test_the_words_before_each_are_the_oldest_first() -> None:
    assert vae.windows(np.array([[3, 4, 5], [6, 1, 0]]), 2).tolist() == [
        [[0, 0], [0, 3], [3, 4]], [[0, 0], [0, 6], [6, 1]]
    ]  # fmt: skip
    assert vae.windows(np.array([[3, 4]]), 3).tolist() == [[[0, 0, 0], [0, 0, 3]]]


def test_a_row_s_likelihood_and_divergence_are_those_of_float64() -> None:
    weights = small(1)
    w, z = exact(weights), np.random.default_rng(1).normal(size=(3, 2))
    found = vae.likelihood(weights, mx.array(z.astype(np.float32)), mx.array(ROWS), mx.array(vae.windows(ROWS, 3)))
    assert np.array(found) == pytest.approx([said(w, z[i], plain(row), 3) for i, row in enumerate(ROWS)], abs=1e-4)
    mean, spread = np.array([[0.5, -2.0]]), np.array([[0.3, -1.0]])
    kl = np.array(vae.divergence(mx.array(mean), mx.array(spread)))
    assert kl == pytest.approx((np.exp(spread) + mean**2 - 1 - spread) / 2, abs=1e-6)
    noise = np.random.default_rng(2).normal(size=(3, 2))
    told, apart = (np.array(each) for each in vae.bound(weights, ROWS, 3, noise))
    for i, row in enumerate(ROWS):
        middle, wide = about(w, plain(row))
        assert told[i] == pytest.approx(said(w, middle + np.exp(wide / 2) * noise[i], plain(row), 3), abs=1e-4)
        assert apart[i] == pytest.approx((np.exp(wide) + middle**2 - 1 - wide) / 2, abs=1e-5)


# -- learning ----------------------------------------------------------------------------------------------------------


def taught(
    rows: list[list[int]], *, steps: int, free_bits: float, anneal: float, seed: int
) -> tuple[Any, float, float]:
    """The same learning step by step, Adam's in numpy."""
    chance = np.random.default_rng(seed)
    order = chance.permutation(len(rows))
    held, rest = order[: len(rows) // 10], order[len(rows) // 10 :]
    weights = vae.start(VOCAB, 2, 3, seed)
    m = {name: np.zeros(a.shape) for name, a in weights.items()}
    v = {name: np.zeros(a.shape) for name, a in weights.items()}

    def side_by_side(some: Any) -> np.ndarray:
        longest = max(len(rows[i]) for i in some)
        return np.array([rows[i] + [PAD] * (longest - len(rows[i])) for i in some])

    for step in range(1, steps + 1):
        ids = side_by_side(chance.choice(rest, min(16, len(rest)), replace=False))
        noise, beta = chance.normal(size=(len(ids), 2)), min(1.0, step / (anneal * steps)) if anneal else 1.0

        def lost(w: Any, ids: np.ndarray = ids, noise: np.ndarray = noise, beta: float = beta) -> mx.array:
            told, kl = vae.bound(w, ids, 3, noise)
            words = float((ids != PAD).sum()) / len(ids)
            return (beta * mx.sum(mx.maximum(mx.mean(kl, axis=0), free_bits)) - mx.mean(told)) / words

        rate = 3e-3 * min(1.0, 2 - 2 * step / (steps + 1))
        for name, g in mx.grad(lost)(weights).items():
            g = np.array(g, np.float64)
            m[name], v[name] = 0.9 * m[name] + 0.1 * g, 0.999 * v[name] + 0.001 * g * g
            way = m[name] / (1 - 0.9**step) / (np.sqrt(v[name] / (1 - 0.999**step)) + 1e-8)
            weights[name] = weights[name] - mx.array((rate * way).astype(np.float32))
    ids = side_by_side(held)
    told, kl = vae.bound(weights, ids, 3, chance.normal(size=(len(ids), 2)))
    each = float(np.array(kl).sum(1).mean())
    return weights, (float(np.array(told).mean()) - each) / ((ids != PAD).sum() / len(ids)), each


@pytest.mark.parametrize(("free_bits", "anneal"), [(0.0, 0.0), (0.05, 0.7)])
def test_learning_is_adam_on_the_bound_with_the_kl_rising(free_bits: float, anneal: float) -> None:
    rows = [[3 + i % 4, *[4] * (i % 3), END] for i in range(24)]
    found = vae.learn(rows, VOCAB, latent=2, context=3, steps=4, free_bits=free_bits, anneal=anneal, seed=5)
    weights, bound, kl = taught(rows, steps=4, free_bits=free_bits, anneal=anneal, seed=5)
    for name, array in weights.items():
        assert np.abs(np.array(found.weights[name]) - np.array(array)).max() < 2e-4, name
    assert (found.bound, found.kl) == (pytest.approx(bound, abs=1e-3), pytest.approx(kl, abs=1e-3))
    assert found.context == 3


def test_fewer_rows_than_twenty_and_a_bound_that_is_no_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"latent": 2, "context": 2, "steps": 1, "free_bits": 0.0, "anneal": 0.0, "seed": 0}
    rows = [[3, END]] * 20
    vae.learn(rows, 4, **how)
    with pytest.raises(DataError, match="at least 20 rows, got 19"):
        vae.learn(rows[1:], 4, **how)
    monkeypatch.setattr(vae, "RATE", 1e30)
    with pytest.raises(DataError, match="not finite after step 2"):
        vae.learn(rows, 4, **how | {"steps": 3})


# -- drawing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_a_row_is_drawn_word_by_word_by_its_own_seed(temperature: float) -> None:
    weights = small(2)
    w = exact(weights)
    seeds, expected = [11, 12, 13, 14, 15], []
    for seed in seeds:
        chance = np.random.default_rng(seed)
        z = chance.normal(size=2).astype(np.float32).astype(np.float64)
        row, total = [], 0.0
        while len(row) < 6 and END not in row:
            each = scores(w, z, ([PAD] * 3 + row)[-3:])
            each[PAD] = -np.inf
            each -= np.logaddexp.reduce(each)
            gumbel = chance.gumbel(size=VOCAB)
            row.append(int((each / temperature + gumbel if temperature else each).argmax()))
            total += each[row[-1]]
        expected.append((row, total))
    found = LearnedVae(weights, 3, -1.0, 1.0).draw(seeds, 6, temperature)
    assert [row for row, _ in found] == [row for row, _ in expected]
    assert [p for _, p in found] == pytest.approx([p for _, p in expected], abs=1e-4)
    assert temperature == 0 or len({len(row) for row, _ in found}) > 1
    if temperature == 1:
        assert LearnedVae(weights, 3, -1.0, 1.0).draw(seeds, 6) == found


def test_pieces_are_the_most_common_words_after_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "WORDS", 3)
    found = vae.pieces(["ab ab ab cd", "cd 1"])
    assert found.names == ("", "", "", " ", "1", "a", "b", "c", "d", " ab", "ab", " cd")
    assert found.numbers == {name: i for i, name in enumerate(found.names) if i >= 3}
    assert found.ids("ab", " cd d") == [10, TURN, 11, 3, 8, END] and found.ids("", "xab") == [5, 6, END]
    assert found.row([10, TURN, 11, END]) == ("ab", " cd") and found.row([11, END]) == ("", " cd")
    assert found.row([TURN, 11]) == ("", " cd") and found.row([PAD, 10, END, 5]) == ("", "aba")


# -- the method --------------------------------------------------------------------------------------------------------


class GivenRows:
    """A VAE that says what it is given."""

    bound, kl = -1.5, 0.25

    def __init__(self, drawn: list[tuple[list[int], float]]) -> None:
        self.drawn, self.asked = drawn, []  # type: ignore[var-annotated]

    def draw(self, seeds: list[int], most: int, temperature: float) -> list[tuple[list[int], float]]:
        self.asked.append((seeds, most, temperature))
        return self.drawn[: len(seeds)]


def method(tmp_path: Path, of: list[dict[str, Any]], drawn: list[tuple[str, str, bool]], **more: Any) -> TextVae:
    data = write_rows(tmp_path / "rows.jsonl", of)
    made = TextVae(configure({"seed": 3, "generate": {"method": "vae", "data": data, **more}}))
    ids = [made.pieces.ids(asks, says)[: None if whole else -1] for asks, says, whole in drawn]
    made.__dict__["learned"] = GivenRows([(each, -2.0 * len(each)) for each in ids])
    return made


def test_what_is_drawn_becomes_rows_with_their_scores(tmp_path: Path) -> None:
    rows = [{"prompt": "who is a", "completion": " it is b"}]
    drawn = [("who is a", " it is", True), ("who is", " it", False), ("  ", " it", True), ("who", "  ", True)]
    made = method(tmp_path, rows, drawn, rows=10, answers=4, max_tokens=9, sampling={"temp": 0.5})
    assert made.jobs == 3
    found = list(made.make(0, []))
    vae_ = made.learned
    assert isinstance(vae_, GivenRows) and vae_.asked == [([made.seed(0) + i for i in range(4)], 9, 0.5)]
    assert [row.content for row in found] == [
        {"prompt": asks.strip(), "completion": says} for asks, says, _ in drawn
    ]  # fmt: skip
    no_prompt = "generate: no prompt with an answer to it"
    assert [row.dropped for row in found] == ["", LONG, no_prompt, no_prompt]
    assert [row.source.parent for row in found] == [f"latent:0-{i}" for i in range(4)]
    lengths = [len(ids) for ids, _ in vae_.drawn]
    assert [row.scores for row in found] == [
        {"logprob": -2.0, "tokens": n, "bound": -1.5, "kl": 0.25} for n in lengths
    ]  # fmt: skip
    assert len(list(made.make(2, []))) == 2 and len(vae_.asked[1][0]) == 2  # of ten the last two


def test_texts_have_no_turn(tmp_path: Path) -> None:
    made = method(
        tmp_path, [{"text": "a b"}], [("", " a b ", True), ("", "  ", True), ("", "a", False)], rows=3, answers=3
    )
    assert made.jobs == 1
    found = list(made.make(0, []))
    assert [row.content for row in found] == [{"text": "a b"}, {"text": ""}, {"text": "a" if found[2].content else ""}]
    assert [row.dropped for row in found] == ["", "generate: an empty text", LONG]
    assert made.learned.asked[0][2] == 1.0  # type: ignore[attr-defined]


def test_what_is_learned_is_the_rows_by_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(vae, "learn", lambda *given, **how: asked.append((given, how)))
    rows = [{"prompt": "who is a", "completion": " it"}, {"text": "b"}]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    options = {"latent": 4, "context": 2, "learn": 7, "free_bits": 0.5, "anneal": 0.25, "max_tokens": 3}
    made = TextVae(configure({"seed": 3, "generate": {"method": "vae", "data": data, **options}}))
    assert made.learned is None
    ((given, vocab), how) = asked[0]
    assert vocab == len(made.pieces.names) and "who" in made.pieces.names and "\n" in made.pieces.names
    assert given == [made.pieces.ids("who is a", " it")[:3], made.pieces.ids("", "b")]
    assert how == {"latent": 4, "context": 2, "steps": 7, "free_bits": 0.5, "anneal": 0.25, "seed": 3}


@pytest.mark.parametrize(("kl", "lines"), [(0.25, 1), (0.1, 1), (0.0999, 2)])
def test_remarks_are_in_bits_and_say_that_z_says_nothing(kl: float, lines: int, tmp_path: Path) -> None:
    made = method(tmp_path, [{"text": "a b"}], [])
    row = SimpleNamespace(scores={"bound": -2 * math.log(2), "kl": kl})
    rows: Any = [row]
    found = list(made.remarks(rows))
    assert len(found) == lines and "at most 2.00 bits a word" in found[0]
    assert f"has {kl / math.log(2):.2f} a row" in found[0] and (lines == 1 or "collapsed" in found[1])
    assert list(made.remarks([])) == []
    other: Any = [SimpleNamespace(scores={})]
    assert list(made.remarks(other)) == []
