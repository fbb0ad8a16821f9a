"""Watching a training: pauses, stops, and the model asked in the middle, before and now."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import likely.engine.weights.adapters.lora as lora
from likely.engine.base import arrays
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics import compare
from likely.engine.train import open_run
from likely.engine.train.control import (
    Answer,
    Compare,
    Compared,
    Complete,
    Completion,
    Ended,
    Event,
    Paused,
    Refused,
    Request,
    Stepped,
    TrainControl,
    Validated,
)
from likely.engine.train.data.data import read
from likely.engine.train.run import metrics, trainer
from likely.engine.train.run.probes import answer
from likely.engine.weights.adapters.config import configure
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.metal import mx
from tests.engine import tiny as files
from tests.engine.tune.tiny import run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return load(files.random_folder(tmp_path / "model"))


def opened(checkpoint: Checkpoint, folder: Path, **values: Any) -> trainer.TrainingRun:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"tag {i}", "completion": f"<{i}>"}) + "\n" for i in range(20)))
    options = {"steps": 4, "length": 64, "rate": 3e-2, "out": str(folder / "out"), "model": str(folder / "model")}
    settings = configure({**options, "save_every": 0, "eval_every": 0, **values})
    return open_run.assemble(checkpoint, settings, read(rows)).run


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_requests_are_answered_between_steps_by_the_model_as_it_is_then(
    kind: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    a = opened(checkpoint, tmp_path, kind=kind)
    before = checkpoint.model(mx.array([checkpoint.tokenizer.encode("tag 3", bos=True)]))[0]
    events: list[Event | Answer] = [answer(a, Complete("tag 3", tokens=8))]
    asked: tuple[Request, ...] = (
        Complete("tag 3", tokens=8), Complete("tag 3", tokens=8, base=True), Compare("tag 3", top=3), Compare(""),
        Complete("", chat=False),
    )  # fmt: skip
    for event in trainer.train(a):
        events.append(event)
        if isinstance(event, Stepped) and event.step == 3:
            events += [answer(a, request) for request in asked]
    kinds = [type(e).__name__ for e in events]
    assert kinds[:5] == ["Completion", "Stepped", "Stepped", "Stepped", "Completion"]
    first, now, base = (e for e in events if isinstance(e, Completion))
    assert (first.step, now.step, base.step) == (0, 3, 3)
    assert base.steps[0].logprob == pytest.approx(first.steps[0].logprob, abs=1e-5)
    assert [s.token for s in base.steps] == [s.token for s in first.steps] != [s.token for s in now.steps]
    assert now.text == "".join(s.text for s in now.steps) and now.reason in ("length", "eot")
    moved, held = (e for e in events if isinstance(e, Compared))
    assert moved.step == 3 and moved.difference.kl > 1e-3
    p = moved.difference.positions[0]
    probability = mx.softmax(before[0])
    assert p.risen[0].before == pytest.approx(float(mx.log(probability[p.risen[0].token])), abs=1e-4)
    assert moved.pieces[p.token] == "t" and all(s.token in moved.pieces for s in p.fallen)
    valid = a.rows.valid[0]
    assert [q.token for q in held.difference.positions] == list(valid.ids)
    assert [e.why for e in events if isinstance(e, Refused)] == ["there is nothing to look at: give a text"]
    assert kinds[-2:] == ["Saved", "Ended"]


def test_asking_changes_nothing_of_what_is_learned(checkpoint: Checkpoint, tmp_path: Path) -> None:
    a = opened(checkpoint, tmp_path, dropout=0.1)
    for event in trainer.train(a):
        if isinstance(event, Stepped):
            answer(a, Complete("tag 5", tokens=4))
            answer(a, Compare("tag 5"))
    asked = a.trained.parameters()
    assert isinstance(a.trained, lora.Adapter)
    lora.detach(a.trained)
    b = opened(checkpoint, tmp_path, dropout=0.1, out=str(tmp_path / "quiet"))
    list(trainer.train(b))
    assert all(bool(mx.array_equal(asked[n], p)) for n, p in b.trained.parameters().items())


def test_a_paused_run_waits_answers_and_goes_on(checkpoint: Checkpoint, tmp_path: Path) -> None:
    a = opened(checkpoint, tmp_path)
    control = TrainControl()
    kinds = []
    for event in trainer.train(a, control):
        kinds.append(type(event).__name__)
        if isinstance(event, Stepped) and event.step == 2:
            control.pause()
        elif isinstance(event, Paused):
            assert event.step == 2
            kinds.append(type(answer(a, Complete("tag 1", tokens=2))).__name__)
            control.go_on()
    assert kinds == ["Stepped", "Stepped", "Paused", "Completion", "Stepped", "Stepped", "Validated", "Saved", "Ended"]


def test_the_metrics_of_a_run_are_read_again_as_events(tmp_path: Path) -> None:
    events = list(trainer.train(run(tmp_path, eval_every=4)))
    assert metrics.read(tmp_path) == [e for e in events if type(e).__name__ in ("Stepped", "Validated")]
    assert metrics.read(tmp_path / "nowhere") == []


def test_tensorboard_gets_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import struct

    from tensorboardX.proto.event_pb2 import Event as Record

    events = list(trainer.train(run(tmp_path, steps=3, tensorboard=True)))
    found: dict[tuple[str, int], float] = {}
    for file in tmp_path.glob("events.out.tfevents*"):
        data, at = file.read_bytes(), 0
        while at < len(data):  # length, its checksum, the record, its checksum
            (size,) = struct.unpack_from("<Q", data, at)
            record = Record.FromString(data[at + 12 : at + 12 + size])
            found |= {(value.tag, record.step): value.simple_value for value in record.summary.value}
            at += 16 + size
    steps = [e for e in events if isinstance(e, Stepped)]
    assert [found["stepped/loss", e.step] for e in steps] == pytest.approx([e.loss for e in steps])
    assert [found["stepped/rate", e.step] for e in steps] == pytest.approx([e.rate for e in steps])
    checked = [e for e in events if isinstance(e, Validated)]
    assert found["validated/high", 3] == pytest.approx(checked[-1].high)
    for name in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ParameterError, match=r"tensorboard needs a writer: .*pip install tensorboardX"):
        next(trainer.train(run(tmp_path / "none", steps=3, tensorboard=True)))  # before the first step


def test_difference_of_a_model_with_a_trained_head(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The head counts too: before training it was another."""
    a = opened(checkpoint, tmp_path, kind="full", l2_sp=1e-6)
    ids = checkpoint.tokenizer.encode("tag 3")
    base = checkpoint.model(mx.array([ids]))[0]
    logp = base - mx.logsumexp(base, axis=-1, keepdims=True)
    list(trainer.train(a))
    now = next(iter(compare.logits(checkpoint.model)(ids, 0)))
    found = answer(a, Compare("tag 3"))
    assert isinstance(found, Compared)
    expected = mx.mean(arrays.kl(now, logp, mx))
    assert found.difference.kl == pytest.approx(float(expected), rel=1e-3)


def test_a_run_waits_as_long_as_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control, looks, bare = TrainControl(), [], run(tmp_path, steps=1)
    monkeypatch.setattr("time.sleep", lambda s: looks.append(s) or (control.go_on() if len(looks) == 3 else None))
    control.pause()
    events = list(trainer.train(bare, control))
    assert events[0] == Paused(0) and len(looks) == 3 and events[-1] == Ended("done", 1)
    assert sum(isinstance(event, Paused) for event in events) == 1
    refused = answer(bare, Complete("x"))
    assert isinstance(refused, Refused) and "no tokenizer" in refused.why
    control.pause()
    waiting = trainer.train(run(tmp_path / "stopped"), control)
    assert next(waiting) == Paused(0)
    control.stop()
    assert list(waiting)[-1] == Ended("stopped", 0)
