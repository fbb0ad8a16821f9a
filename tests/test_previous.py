"""Files that the version before wrote open unchanged: their values are those it had (`data/previous/write.py`)."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from likely.app.store import export
from likely.app.store.store import Store
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.sampling.trace.file import load
from likely.engine.sampling.trace.replay import replay, states_at
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.train.control import Stepped
from likely.engine.train.run import metrics
from likely.engine.weights.adapters import adapters
from tests.engine.tune import tiny

FOLDER = Path(__file__).parent / "data" / "previous"


@pytest.fixture
def known() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "known.json").read_text())
    return found


def _settings(step: TokenStep) -> str:
    """The sampling settings as the old version wrote them: the class was called `Recipe`."""
    return repr(step.recipe).replace(", adapters=()", "").replace("SamplingConfig(", "Recipe(")


def check(step: TokenStep, known: dict[str, Any], whole: bool = True) -> None:
    """Every number that the step had when it was written."""
    there = {f.name for f in fields(step)}
    plain = {name: value for name, value in known.items() if name in there - {"piece", "removed_by"}}
    assert len(plain) == 12
    assert {name: getattr(step, name) for name in plain} == plain
    assert step.piece.hex() == known["piece"] and _settings(step) == known["transforms"]
    if whole:
        assert step.snapshot is not None and step.removed_by is not None
        assert step.removed_by.tolist() == known["removed_by"]
        assert step.snapshot.ids.tolist() == known["ids"] and step.snapshot.lse == known["lse"]


def test_a_trace_and_its_replay(known: dict[str, Any]) -> None:
    (trace,) = load(FOLDER / "trace.jsonl")
    assert (trace.model, trace.seed, trace.prompt, trace.finish) == ("tiny", 5, (7, 8, 7), "length")
    assert trace.lexicon.pieces == {7: b"\xf0\x9f", 8: b"\n"} and trace.lexicon.eos == {1, 2}
    first, *steps = trace.steps
    assert first.logprob is None and first.snapshot is None
    for n, (step, told, seen) in enumerate(zip(steps, known["steps"], known["replayed"], strict=True), 1):
        check(step, told)
        assert step.snapshot is not None
        states = states_at(step.recipe.transforms, trace.lexicon, trace.prompt, trace.steps[1:n])
        key = (trace.seed, step.position)
        again = replay(step.snapshot, step.recipe.transforms, states, key, greedy=step.recipe.greedy)
        assert list(again.kept) == seen["kept"]
        assert [again.low.sum(), again.high.sum()] == pytest.approx([seen["low"], seen["high"]], abs=1e-12)


def same(talk: Conversation, known: dict[str, Any], whole: bool) -> None:
    assert (talk.title, talk.model, talk.system, talk.seed) == ("Sky", "m", "Be brief", 3)
    assert [[m.role, m.text] for m in talk.messages()] == known["texts"]
    assert [[node, unit, words] for (node, unit), words in talk.marks.items()] == known["marks"]
    assert talk.pruned == {(Fork("a", 2), "b")} and sorted(talk.nodes) == ["a", "b", "d", "u"]
    assert (talk.nodes["b"].fork, talk.nodes["b"].joins, talk.nodes["b"].finish) == (Fork("a", 2), True, "stop")
    for step, told in zip(talk.nodes["a"].steps, known["steps"], strict=True):
        check(step, told, whole)


def test_a_database_with_a_fork_a_mark_and_a_pruned_way(known: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(FOLDER / "sessions.db", tmp_path)
    store = Store(tmp_path / "sessions.db")
    assert [(s.id, s.title, s.tokens) for s in store.sessions()] == [("c", "Sky", 6)] and not store.notice
    assert store.vocabulary("m") == (b"a", b"\xff", b"cd")
    talk = store.load("c")
    same(talk, known, whole=False)
    same(store.with_snapshots(talk), known, whole=True)
    # and what is added to it is kept beside what was there
    step = store.with_snapshots(talk).nodes["a"].steps[0]
    store.save(talk.add(Node("e", Fork("d"), "assistant", steps=(step,), finish="stop")))
    store.close()
    again = Store(tmp_path / "sessions.db")
    whole = again.with_snapshots(again.load("c"))
    same(replace(whole, nodes={id: node for id, node in whole.nodes.items() if id != "e"}), known, whole=True)
    check(whole.nodes["e"].steps[0], known["steps"][0])
    again.close()


def test_an_exported_conversation(known: dict[str, Any]) -> None:
    same(export.read(FOLDER / "conversation.jsonl", "c", 0.0), known, whole=True)


def test_an_adapter(known: dict[str, Any]) -> None:
    stored = adapters.read(FOLDER / "adapter")
    assert (stored.kind, stored.model) == ("lora", "tiny")
    assert {name: float(a.sum()) for name, a in stored.arrays.items()} == pytest.approx(known["adapter"], rel=1e-6)
    placed = adapters.build(tiny.model(), stored).parameters()
    assert sorted(float(a.sum()) for a in placed.values()) == pytest.approx(sorted(known["adapter"].values()), rel=1e-6)


def test_a_training_is_resumed_to_the_losses_it_would_have_had(known: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "adapter", tmp_path / "run")
    told = [event for event in metrics.read(tmp_path / "run") if isinstance(event, Stepped)]
    assert [event.loss for event in told] == known["losses"][:4]
    options = {"rank": 2, "steps": 6, "save_every": 3, "modules": ["q_proj"], "layers": 1}
    resumed = tiny.run(tmp_path / "run", resume=True, **options)
    assert resumed.counters.step == 3
    losses = [event.loss for event in tiny.finish(resumed) if isinstance(event, Stepped)]
    assert losses == pytest.approx(known["losses"][3:], rel=1e-6)
