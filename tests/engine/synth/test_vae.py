"""The text VAE: its bound beside exact sums over texts and an integral over z, and what its rows are."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.measure.synth import pipeline, vae
from likely.engine.measure.synth.config import configure
from likely.engine.measure.synth.method import LONG
from likely.engine.measure.synth.pipeline import RowsWarned
from likely.engine.measure.synth.vae import END, PAD, LearnedVae, TextVae
from likely.metal import mx
from tests.engine.synth.makers import rows_of, write_rows

A, B = vae.SIGNS, vae.SIGNS + 1  # two words
GRID = np.linspace(-8, 8, 1601)
PRIOR = np.exp(-(GRID**2) / 2) / math.sqrt(2 * math.pi) * (GRID[1] - GRID[0])


def exact(weights: vae.Weights, row: list[int], context: int) -> np.ndarray:
    """log p(x | z) at every point of a grid over a latent number, in float64 by numpy alone."""
    w = {name: np.array(value, np.float64) for name, value in weights.items()}
    found = np.zeros(len(GRID))
    before = [vae.PAD] * context
    for word in row:
        hidden = np.maximum(
            np.concatenate([w["words"][i] for i in before]) @ w["before"] + GRID[:, None] * w["latent"] + w["bias"], 0
        )
        scores = hidden @ w["out"] @ w["words"].T + w["often"]
        found += scores[:, word] - np.log(np.exp(scores).sum(axis=1))
        before = [*before[1:], word]
    return found


def test_the_bound_lies_below_the_likelihood_by_the_kl_to_the_true_posterior() -> None:
    """Every text of two words to a length, with a latent number that is integrated over: sums are 1, the bound of each
    is that of an integral under q, and what it lacks is KL(q || p(z | x))."""
    context, vocab = 2, vae.SIGNS + 2
    weights = vae.start(vocab, 1, context, seed=3, width=4, hidden=6)
    weights = {name: 1.5 * value for name, value in weights.items()}
    words = [i for i in range(vocab) if i != vae.END]
    texts = [[*text, vae.END] for n in range(4) for text in itertools.product(words, repeat=n)]
    open_ends = [list(text) for text in itertools.product(words, repeat=4)]
    marginal = {tuple(row): float((np.exp(exact(weights, row, context)) * PRIOR).sum()) for row in (*texts, *open_ends)}
    assert sum(marginal.values()) == pytest.approx(1, abs=1e-9)
    for row in ([A, B, vae.END], [B, vae.END], [A, A, A, vae.END]):
        ids = np.array([row])
        mean, spread = (float(each.item()) for each in vae.posterior(weights, mx.array(ids)))
        q = np.exp(-((GRID - mean) ** 2) / (2 * math.exp(spread))) / math.sqrt(2 * math.pi * math.exp(spread))
        q *= GRID[1] - GRID[0]
        given = exact(weights, row, context)
        kl = float((q * (np.log(q + 1e-300) - np.log(PRIOR))).sum())
        n = 4000
        said, each = vae.bound(weights, np.repeat(ids, n, 0), context, np.random.default_rng(0).normal(size=(n, 1)))
        assert float(each[0].sum().item()) == pytest.approx(kl, abs=2e-5)
        error = float(np.std(np.array(said))) / math.sqrt(n)
        assert abs(float(said.mean().item()) - float((q * given).sum())) < 4 * error + 1e-5
        log_p = math.log(marginal[tuple(row)])
        true = np.exp(given) * PRIOR / marginal[tuple(row)]
        gap = float((q * (np.log(q + 1e-300) - np.log(true))).sum())
        assert float((q * given).sum()) - kl == pytest.approx(log_p - gap, abs=1e-6) and gap > 0


def two_topics(count: int) -> list[list[int]]:
    """Rows that say one of two words three times: log 2 nats of a row are unknown before it."""
    return [[A if i % 2 else B] * 3 + [vae.END] for i in range(count)]


@pytest.mark.slow
def test_it_learns_a_law_whose_entropy_is_known_and_free_bits_keep_its_latent_vector_in_use() -> None:
    how = {"latent": 2, "context": 3, "steps": 300, "seed": 0}
    used = vae.learn(two_topics(64), A + 2, free_bits=0.35, anneal=0.5, **how)
    nats = -used.bound * 4
    assert math.log(2) - 0.05 < nats < math.log(2) + 0.5  # no bound is better than the entropy
    assert used.kl > vae.COLLAPSED
    drawn = [row for row, _ in used.draw(range(40), 6)]
    assert sum(row in ([A, A, A, vae.END], [B, B, B, vae.END]) for row in drawn) >= 36
    assert 8 <= sum(row[0] == A for row in drawn) <= 32
    (alone, own), (beside, same) = used.draw([7], 6)[0], used.draw([5, 7], 6)[1]
    assert alone == beside and own == pytest.approx(same, abs=1e-6)  # a row is its seed's, whatever is beside it
    idle = vae.learn(two_topics(64), A + 2, free_bits=0.0, anneal=0.0, **how)
    assert idle.kl < used.kl  # nothing asks for it: one word says which topic


def rows(path: Path, count: int) -> str:
    said = [{"prompt": f"Is the sky {c}?", "completion": f" The sky is {c} today."} for c in ("blue", "grey", "red")]
    path.write_text("".join(json.dumps(said[i % 3]) + "\n" for i in range(count)))
    return str(path)


@pytest.mark.slow
def test_rows_of_it_go_through_the_pipeline_and_are_the_same_by_the_seed(tmp_path: Path) -> None:
    data = rows(tmp_path / "rows.jsonl", 60)
    made = {"method": "vae", "data": data, "rows": 24, "learn": 150, "max_tokens": 40, "sampling": {"temp": 0.7}}

    def run(name: str) -> list[pipeline.SynthEvent]:
        config = configure({"out": str(tmp_path / name), "seed": 3, "generate": made, "deduplicate": {"near": False}})
        return list(pipeline.run(config, lambda name, adapters: pytest.fail("no model is wanted")))

    events = run("a")
    drawn = (tmp_path / "a" / "drawn.jsonl").read_bytes()
    kept = rows_of(tmp_path / "a" / "train.jsonl") + rows_of(tmp_path / "a" / "dropped.jsonl")
    assert len(kept) >= 22 and all(row["source"]["method"] == "vae" for row in kept)
    said = [row["completion"] for row in kept]
    assert sum(row.startswith(" The sky is") for row in said) > len(said) / 2
    assert any("bits a word; its latent vector" in e.line for e in events if isinstance(e, RowsWarned))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "drawn.jsonl").write_bytes(drawn[: len(drawn) // 2])  # cut by a kill
    run("b")
    assert (tmp_path / "b" / "drawn.jsonl").read_bytes() == drawn
    made["data"] = rows(tmp_path / "few.jsonl", 8)
    with pytest.raises(DataError, match="learns from at least 20 rows, got 8"):
        run("c")
    for wrong, name in (({"strategy": "beam 4"}, "strategy"), ({"stop": ["x"]}, "stop"), ({"chat": True}, "chat"),
                        ({"sampling": {"top_p": 0.9}}, "sampling.top_p")):  # fmt: skip
        with pytest.raises(ParameterError, match=f"generate.{name} goes with"):
            configure({"generate": {**made, **wrong}})


def test_pieces_spell_what_is_no_word_of_the_vocabulary() -> None:
    found = vae.pieces(["12 apples, 3 Äpfel_x", "an apple\n\tand"])
    ids = found.ids("12 apples,", " Äpfel and\n3_x")
    assert found.row(ids) == ("12 apples,", " Äpfel and\n3_x") and ids[-1] == vae.END
    assert found.row(found.ids("", "apples")) == ("", "apples")
    assert found.row(found.ids("", "selppa")) == ("", "selppa") and found.row(found.ids("", "日")) == ("", "")


VOCAB = 7
ROWS = np.array([[3, 4, 5, END], [6, END, PAD, PAD], [4, 4, END, PAD]])


def numbers_of(weights: vae.Weights) -> dict[str, np.ndarray]:
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


def test_a_row_s_likelihood_and_divergence_are_those_of_float64() -> None:
    weights = small(1)
    w, z = numbers_of(weights), np.random.default_rng(1).normal(size=(3, 2))
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


def test_fewer_rows_than_twenty_are_refused() -> None:
    how: dict[str, Any] = {"latent": 2, "context": 2, "steps": 1, "free_bits": 0.0, "anneal": 0.0, "seed": 0}
    rows = [[3, END]] * 20
    vae.learn(rows, 4, **how)
    with pytest.raises(DataError, match="at least 20 rows, got 19"):
        vae.learn(rows[1:], 4, **how)
    with pytest.raises(DataError, match="not finite after step 1: lower"):
        vae.learn(rows, 4, **how | {"free_bits": math.inf})


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_a_row_is_drawn_word_by_word_by_its_own_seed(temperature: float) -> None:
    weights = small(2)
    w = numbers_of(weights)
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
