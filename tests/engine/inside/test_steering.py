"""Steering vectors: added after a layer, as a thing on the model that leaves nothing behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.store.run_trace import run_trace
from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted
from likely.engine.decode.session import Session
from likely.engine.inside import steering
from likely.engine.inside.attribution import attribution
from likely.engine.inside.lens import states
from likely.engine.inside.subject import InspectedText
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import Temperature
from likely.engine.train.attach.stack import Stack
from likely.metal import mx
from tests.engine import tiny

TEXT = [104, 105, 33, 97, 98]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    from likely.engine.weights.sources.checkpoint import load

    arrays = {name: mx.array(array) for name, array in tiny.weights(tiny.LLAMA).items()}
    return Session(load(str(tiny.write_folder(tmp_path / "model", tiny.LLAMA, arrays))))


def found_in(session: Session) -> tuple[Any, steering.Direction]:
    model: Any = session.model
    return model, steering.direction(model, [[5, 6, 7], [8, 6]], [[9, 10]], 0, "tiny")


def test_a_direction_is_the_difference_of_means(session: Session) -> None:
    model, found = found_in(session)
    last = [np.array(states(InspectedText(model, ids))[1][0, -1]) for ids in ((5, 6, 7), (8, 6), (9, 10))]
    assert np.allclose(np.array(found.vector), (last[0] + last[1]) / 2 - last[2], atol=1e-5)


def test_it_moves_the_residual_stream_and_leaves_nothing_behind(session: Session) -> None:
    model, found = found_in(session)
    tokens = mx.array([TEXT])
    before, blocks, hidden = model(tokens), list(model.blocks), model.inspect(tokens).hidden
    one, two = steering.attach(model, found, 2.0), steering.attach(model, found, -0.5)
    moved = model.inspect(tokens).hidden
    assert mx.array_equal(moved[0], hidden[0])
    assert np.allclose(np.array(moved[1] - hidden[1]), 1.5 * np.array(found.vector), atol=1e-5)
    whole = attribution(InspectedText(model, tuple(TEXT)))
    assert abs(whole.sum - whole.logit) < 1e-4
    assert np.allclose(np.array(states(InspectedText(model, tuple(TEXT)))[1]), np.array(moved[1]), atol=1e-6)
    steering.detach(model, 0, one)
    assert np.allclose(np.array(model.inspect(tokens).hidden[1] - hidden[1]), -0.5 * np.array(found.vector), atol=1e-5)
    steering.detach(model, 0, two)
    assert all(a is b for a, b in zip(blocks, model.blocks, strict=True)) and mx.array_equal(before, model(tokens))


def test_in_a_running_chat_it_is_one_more_adapter(session: Session, tmp_path: Path) -> None:
    _, found = found_in(session)
    steering.save(tmp_path / "kind", found)
    stack = Stack(session)

    def drawn() -> list[int]:
        events = session.generate(TEXT, RunControl(SamplingConfig(greedy=True)), max_tokens=6)
        return [event.step.token for event in events if type(event).__name__ == "Emitted"]

    plain, logits = drawn(), session.logits_after(TEXT)
    shown = stack.add(tmp_path / "kind", 6.0)
    assert (shown.kind, shown.modules, shown.trained_on) == ("steering", ("layers.0",), "tiny")
    assert stack.identity and session.adapted
    steered = session.logits_after(TEXT)
    assert np.abs(steered - logits).max() > 0.1 and drawn() != plain
    first = stack.identity
    stack.weigh("kind", 3.0)
    assert stack.identity != first and np.abs(session.logits_after(TEXT) - steered).max() > 0.01
    stack.weigh("kind", 0.0)
    assert not stack.identity and np.array_equal(session.logits_after(TEXT), logits)
    stack.weigh("kind", 6.0)
    assert np.array_equal(session.logits_after(TEXT), steered)
    stack.clear()
    assert stack.attached == () and drawn() == plain and np.array_equal(session.logits_after(TEXT), logits)


def test_a_trace_says_which_tokens_were_drawn_under_it(session: Session, tmp_path: Path) -> None:
    """From its next token on, through a file, and not once it is off; what is drawn with nothing on it says nothing."""
    _, found = found_in(session)
    steering.save(tmp_path / "kind", found)
    stack, control, steps = Stack(session), RunControl(SamplingConfig((Temperature(0.8),))), []
    for event in session.generate(TEXT, control, max_tokens=9):
        if isinstance(event, Emitted):
            steps.append(event.step)
            match len(steps):
                case 3:
                    stack.add(tmp_path / "kind", 6.0)
                case 5:
                    control.recipe = SamplingConfig(greedy=True)
                case 6:
                    stack.weigh("kind", -2.0)
                case 8:
                    stack.clear()
    names = [step.recipe.adapters for step in steps]
    assert names[:3] == [()] * 3 and names[8] == () and not control.recipe.adapters
    assert all(len(each) == 1 and each[0].startswith("kind=6 ") for each in names[4:6])
    assert all(len(each) == 1 and each[0].startswith("kind=-2 ") for each in names[7:8])
    run = run_trace(session, TEXT, steps, 0, "length")
    file.save([run], tmp_path / "run.jsonl")
    (again,) = file.load(tmp_path / "run.jsonl")
    assert [step.recipe for step in again.steps] == [step.recipe for step in steps]


def test_how_far_all_that_is_on_the_model_moves_a_text(session: Session, tmp_path: Path) -> None:
    model, found = found_in(session)
    stack = Stack(session)
    assert stack.shift(TEXT) == 0
    steering.save(tmp_path / "kind", found)
    stack.add(tmp_path / "kind", 4.0)
    logits = session.logits_after(TEXT)
    assert stack.shift(TEXT) > 1e-3 and np.array_equal(session.logits_after(TEXT), logits)  # it is as it was
    stack.weigh("kind", 0.0)
    want = steering.shift(model, found, TEXT, 4.0)
    stack.weigh("kind", 4.0)
    assert stack.shift(TEXT) == pytest.approx(want, rel=1e-4)


def test_what_is_no_direction(session: Session, tmp_path: Path) -> None:
    model, found = found_in(session)
    with pytest.raises(ParameterError, match="0 to 1, got 2"):
        steering.direction(model, [[1]], [[2]], 2)
    with pytest.raises(ParameterError, match="no direction between them"):
        steering.direction(model, [[1]], [[1]], 0)
    steering.save(tmp_path / "wide", steering.Direction(0, mx.zeros(65) + 1, "other"))
    stack = Stack(session)
    with pytest.raises(CheckpointError, match="65 numbers does not fit a model of width 64: it was made with other"):
        stack.add(tmp_path / "wide")
    steering.save(tmp_path / "kind", found)
    (tmp_path / "kind" / steering.VECTOR).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="no direction that can be read"):
        stack.add(tmp_path / "kind")
    assert stack.attached == ()


def test_a_direction_is_kept_by_its_name_and_read_by_its_format(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))
    assert steering.folder_of("kind-1_b.c") == tmp_path / "directions" / "kind-1_b.c"
    for name in ("", ".x", "a/b", "a b", "é"):
        with pytest.raises(ParameterError, match="a direction's name is of letters, digits"):
            steering.folder_of(name)
    steering.save(tmp_path / "d", steering.Direction(3, mx.array([3.0, 4.0]), "m"))
    read = steering.read(tmp_path / "d")
    assert (read.layer, read.model, read.vector.tolist(), read.norm) == (3, "m", [3.0, 4.0], 5.0)
    assert steering.is_direction(tmp_path / "d") and not steering.is_direction(tmp_path)
    for text, line in (
        ('{"format": 2, "layer": 2}', "of another format"), ("{", "no direction that can be read"),
        ('{"format": 1}', "layer is missing"),
    ):  # fmt: skip
        (tmp_path / "d" / steering.CONFIG).write_text(text)
        with pytest.raises(CheckpointError, match=line):
            steering.read(tmp_path / "d")
