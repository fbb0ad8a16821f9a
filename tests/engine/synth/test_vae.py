"""The text VAE: its bound beside exact sums over texts and an integral over z, and what its rows are."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError, ParameterError
from engine.synth import pipeline, vae
from engine.synth.config import configure
from engine.synth.pipeline import RowsWarned
from metal import mx
from tests.engine.synth.makers import rows_of

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
