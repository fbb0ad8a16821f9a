"""The main job on the real SmolLM2. That its logits are mlx-lm's is shown in tests/engine/test_smollm2.py."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Forked
from likely.engine.decode.sampled.sample import Sample
from likely.engine.decode.searches.beam import Beam
from likely.engine.decode.searches.exact import ExactMode
from likely.engine.decode.session import Session
from likely.engine.measure import choice_scores
from likely.engine.sampling.presets import recipe
from likely.engine.sampling.trace.replay import replay, states_at
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Constraint, run, start
from likely.engine.weights.sources.model_info import ModelInfo

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def session(smollm2: ModelInfo) -> Session:
    from likely.engine.weights.sources.checkpoint import load

    return Session(load("smollm2"))


def test_numbers_captured_while_drawing_equal_those_of_scoring(session: Session) -> None:
    ids = session.tokenizer.chat([{"role": "user", "content": "Name a colour."}])
    steps = [e.step for e in session.generate(ids, RunControl(), seed=7, max_tokens=16) if isinstance(e, Emitted)]
    session.forget()
    scored = session.score(ids + [s.token for s in steps], start=len(ids))
    for a, b in zip(steps, scored, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=5e-3)  # what is drawn keeps keys and values in halves
        assert a.rank == pytest.approx(b.rank, rel=0.02, abs=1)


def test_replay_under_the_same_recipe_holds_what_was_drawn(session: Session) -> None:
    """And the exact distribution, by one product of the head with a stored state, lies in the bounds of any other:
    here the draw is in float32, as what is measured is."""
    session = Session(session.checkpoint.with_activations(24))
    ids = session.tokenizer.chat([{"role": "user", "content": "Name a colour."}])
    settings = recipe({"temp": 0.7, "top_p": 0.9, "repetition_penalty": 1.2})
    steps = [
        e.step for e in session.generate(ids, RunControl(settings), seed=3, max_tokens=8) if isinstance(e, Emitted)
    ]
    other = recipe({"temp": 1.3, "min_p": 0.02}).transforms
    for n, step in enumerate(steps):
        assert step.snapshot is not None and step.logprob_after is not None
        states = states_at(settings.transforms, session.tokenizer, ids, steps[:n])
        same = replay(step.snapshot, settings.transforms, states, (3, step.position))
        at = int((same.ids == step.token).argmax())
        assert same.low[at] - 1e-6 <= np.exp(step.logprob_after) <= same.high[at] + 1e-6
        logits = session.logits_after([*ids, *(s.token for s in steps[:n])])
        raw = np.asarray(logits, np.float64)
        assert raw[step.token] - np.logaddexp.reduce(raw) == pytest.approx(step.logprob, abs=1e-5)
        after, _ = run(other, logits, start(other, None, ids, np), (3, step.position), np)
        p = np.exp(after - np.logaddexp.reduce(after.astype(np.float64)))[step.snapshot.ids]
        moved = replay(step.snapshot, other, start(other, None, ids, np), (3, step.position))
        assert (moved.low - 1e-5 <= p).all() and (p <= moved.high + 1e-5).all()


def test_attention_of_every_head_adds_up(session: Session) -> None:
    from likely.engine.measure.evaluate.scoring.explain import attention

    seen = attention(session, "The cat sat on the mat.", top=7)
    layers, heads, tokens, top = seen.weights.shape
    assert (layers, heads, top) == (30, 9, 7) and tokens == len(session.tokenizer.encode("The cat sat on the mat."))
    np.testing.assert_allclose(seen.weights.sum(-1), 1, atol=1e-4)  # at most seven tokens are visible
    w = np.where(seen.weights > 0, seen.weights, 1)
    np.testing.assert_allclose(seen.entropy, -(w * np.log(w)).sum(-1), atol=1e-3)
    assert (seen.positions.max(-1) <= np.arange(tokens)).all()


def test_the_commands_as_a_person_runs_them(smollm2: ModelInfo, tmp_path: Path) -> None:
    likely = [sys.executable, "-c", "from likely.app.cli import main; main()"]

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*likely, *args], capture_output=True, text=True, check=False)

    trace = tmp_path / "run.jsonl"
    first = call("run", "What is the capital of France?", "--temp", "0", "-m", "12", "--save", str(trace))
    assert first.returncode == 0 and "Paris" in first.stdout and "tokens at" in first.stderr
    again = call("run", "--replay", str(trace), "--temp", "2", "--json")
    assert again.returncode == 0
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert all(0 <= line["replayed"]["p_after"][0] <= line["replayed"]["p_after"][1] <= 1 for line in lines)

    explained = json.loads(call("explain", "The capital of France is", "-c", " Paris", "-c", " Rome", "--json").stdout)
    paris, rome = (c["logprob"] for c in explained["continuations"])
    assert paris > rome and explained["perplexity"] > 1


@pytest.mark.slow
def test_of_two_answers_the_likelier_one_is_drawn_and_found(session: Session) -> None:
    """However likely the other begins: in scraps, " the Xanadu palace" may begin as almost anything does."""
    ids, texts = session.tokenizer.encode("She went to"), [" the Xanadu palace", " school"]
    found = choice_scores.scored(session, ids, texts)
    for choice in found:
        alone = sum(step.logprob or 0.0 for step in session.score([*ids, *choice.tokens], start=len(ids)))
        assert alone - 0.05 < choice.logprob < alone + math.log(len(session.tokenizer.eos)) + 0.05
    regex = SamplingConfig((Constraint("regex", "|".join(texts), len(ids)),))
    for strategy, bound in (
        *(
            (how, choice_scores.bound(found, SamplingConfig(), how, len(ids)))
            for how in (Sample(), Beam(4, 0.0), ExactMode())
        ),
        (Beam(4, 0.0), regex),
        (ExactMode(), regex),
    ):
        text: dict[int, str] = {}
        for event in session.generate(ids, RunControl(bound), strategy=strategy, max_tokens=16):
            if isinstance(event, Emitted):
                text[event.branch] = text.get(event.branch, "") + event.step.text
            elif isinstance(event, Forked):
                text[event.child] = text.get(event.parent, "")
            elif isinstance(event, Done):
                assert text[event.branch] == " school", strategy
                break  # the first that is told of is the best
