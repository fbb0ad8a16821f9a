"""The main job on the real SmolLM2, beside mlx-lm on the same weights."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.decode.control import Control, Emitted
from engine.info import ModelInfo
from engine.session import Session
from engine.trace import Recipe
from metal import mx

pytestmark = pytest.mark.real

TEXT = (
    "Language models assign a probability to every possible next token. Given the beginning of a sentence, such as "
    "'The capital of France is', most of the mass lies on a single word, while after 'My favourite colour is' it is "
    "spread over many. Surprisal measures how unexpected the token was that really came; entropy measures how unsure "
    "the model was before it came. In 1948 Claude Shannon asked people to guess the next letter of a text, and found "
    "that English carries about one bit per letter. A tokenizer cuts text into pieces, so models of different "
    "vocabularies are compared in bits per byte: 3.14159, naïve café, 你好, and code like `for i in range(10):` all "
    "count by their bytes. Good compression and good prediction are the same thing, seen from two sides; that is why "
    "a better model is, in the end, a shorter file, and nothing more mysterious than that."
)


@pytest.fixture(scope="module")
def session(smollm2: ModelInfo) -> Session:
    from engine.checkpoint import load

    return Session(load("smollm2"))


@pytest.fixture(scope="module")
def peer(smollm2: ModelInfo, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """mlx-lm's own model of the same weights, in float32."""
    from mlx_lm.utils import load_model

    from benchmarks.peers import export

    return load_model(export(tmp_path_factory.mktemp("peer"), "float32"))[0]


def test_logits_equal_mlx_lms_at_every_position_and_so_do_greedy_tokens(session: Session, peer) -> None:  # type: ignore[no-untyped-def]
    ids = session.tokenizer.encode(TEXT)[:200]
    assert len(ids) == 200
    ours = np.array(session.model(mx.array([ids]))[0])
    theirs = np.array(peer(mx.array([ids]))[0])
    assert np.abs(ours - theirs).max() <= 1e-3

    prompt = ids[:50]
    drawn = [
        event.step.token
        for event in session.generate(prompt, Control(Recipe(greedy=True)), max_tokens=64)
        if isinstance(event, Emitted)
    ]
    from mlx_lm.generate import generate_step

    assert drawn == [int(t) for t, _ in generate_step(mx.array(prompt), peer, max_tokens=len(drawn))]
    assert len(drawn) == 64 or drawn[-1] in session.tokenizer.eos


def test_numbers_captured_while_drawing_equal_those_of_scoring(session: Session) -> None:
    ids = session.tokenizer.chat([{"role": "user", "content": "Name a colour."}])
    steps = [e.step for e in session.generate(ids, Control(), seed=7, max_tokens=16) if isinstance(e, Emitted)]
    session.forget()
    scored = session.score(ids + [s.token for s in steps], start=len(ids))
    for a, b in zip(steps, scored, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-3) and a.rank == b.rank


def test_attention_of_every_head_adds_up(session: Session) -> None:
    from engine.explain import attention

    seen = attention(session, "The cat sat on the mat.", top=7)
    layers, heads, tokens, top = seen.weights.shape
    assert (layers, heads, top) == (30, 9, 7) and tokens == len(session.tokenizer.encode("The cat sat on the mat."))
    np.testing.assert_allclose(seen.weights.sum(-1), 1, atol=1e-4)  # at most seven tokens are visible
    w = np.where(seen.weights > 0, seen.weights, 1)
    np.testing.assert_allclose(seen.entropy, -(w * np.log(w)).sum(-1), atol=1e-3)
    assert (seen.positions.max(-1) <= np.arange(tokens)).all()


def test_the_commands_as_a_person_runs_them(smollm2: ModelInfo, tmp_path: Path) -> None:
    likely = [sys.executable, "-c", "from app.cli import main; main()"]

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*likely, *args], capture_output=True, text=True, timeout=240, check=False)

    trace = tmp_path / "run.jsonl"
    first = run("run", "What is the capital of France?", "--temp", "0", "-m", "12", "--save", str(trace))
    assert first.returncode == 0 and "Paris" in first.stdout and "tokens at" in first.stderr
    again = run("run", "--replay", str(trace), "--temp", "2", "--json")
    assert again.returncode == 0
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert all(0 <= line["p_after"][0] <= line["p_after"][1] <= 1 for line in lines)

    explained = json.loads(run("explain", "The capital of France is", "-c", " Paris", "-c", " Rome", "--json").stdout)
    paris, rome = (c["logprob"] for c in explained["continuations"])
    assert paris > rome and explained["perplexity"] > 1
