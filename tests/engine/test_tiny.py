"""Tiny models that are made here: the bigram is its table, the other knows more than how often characters come."""

import json
import math
from collections import Counter
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli import likely
from likely.engine.base.errors import DataError
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.tasks.shipped import SHIPPED
from likely.engine.measure.proofs import bounds
from likely.engine.measure.proofs.enumeration import END, LETTERS, TABLE
from likely.engine.weights.sources.checkpoint import load
from tests.engine.tiny import random_folder


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))


def pulled(name: str) -> tuple[str, Session]:
    """What the command says of it, twice, and the model at work."""
    said, again = (CliRunner().invoke(likely, ["pull", name]) for _ in range(2))
    assert said.exit_code == 0 and said.stdout == again.stdout, said.output
    return said.stdout, Session(load(name))


@pytest.mark.slow
def test_the_bigram_is_its_table_and_refuses_what_it_cannot_spell() -> None:
    said, session = pulled("tiny-bigram")
    assert "tiny-bigram is here: 121 kB" in said and "made here: p of the next of 6 letters" in said
    for last, row in enumerate(TABLE):
        logits = session.logits_after([0, 4, last]).astype(np.float64)
        assert np.allclose(np.exp(logits - np.logaddexp.reduce(logits)), row, atol=1e-6), LETTERS[last]
    assert session.tokenizer.encode("neat", bos=True) == [0, 3, 2, 1, 5] and session.tokenizer.decode([3, 2, 0]) == "ne"
    with pytest.raises(DataError, match="no token for byte 0x54, in 'T' at character 0"):
        session.tokenizer.encode("The")


@pytest.mark.slow(3)
def test_proofs_are_of_a_loaded_model_too(tmp_path: Path) -> None:
    """All of the six letters', by its own file; of any other its mode, here beside all texts of four letters behind s,
    and its martingale. What is listed for six letters is refused of it."""

    def told(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(likely, ["prove", *words, "--draws", "400", "--json"])
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"refused": str(done.exception)}
        return found

    _, session = pulled("tiny-bigram")
    assert told("sample", "-M", "tiny-bigram")["holds"] and told("distinct", "-M", "tiny-bigram")["holds"]
    assert told("-M", "tiny-bigram", "--with-fault", "shared-key")["p"] < 1e-6
    logs = np.log(np.maximum(TABLE, 1e-12))
    ways = {(*ids, END)[: (*ids, END).index(END) + 1][:4] for ids in product(range(6), repeat=4)}
    best = max(sum(logs[a, b] for a, b in pairwise((4, *ids))) for ids in ways)
    *_, proven, again, beams, greedy = bounds.mode((END, 4), 4)(session)
    assert proven.name == "proven" and proven.value == pytest.approx(best, abs=1e-5) == again.value
    assert greedy.value <= best + 1e-5 and beams.value <= best + 1e-5
    other = str(random_folder(tmp_path / "other"))
    assert told("mode", "-M", other)["holds"] and told("martingale", "-M", other, "--text", "He")["p"] > 1e-4
    assert "sample is listed for six letters" in told("sample", "-M", other)["refused"]


@pytest.mark.soak
def test_characters_are_trained_to_know_more_than_how_often_each_comes() -> None:
    said, session = pulled("tiny-characters")
    text = "".join(SHIPPED["python-reference"]().values())
    shares = np.array([*Counter(text).values()]) / len(text)
    held = "The value of the expression is the result of the call, and it must be a string or a number."
    bits = -sum(step.logprob or 0.0 for step in session.score(session.tokenizer.encode(held))) / math.log(2)
    assert bits / (len(held) - 1) < 0.85 * -(shares * np.log2(shares)).sum()
    assert "trained here on" in said and session.tokenizer.decode(session.tokenizer.encode("naïve ∎")) == "naïve ∎"
