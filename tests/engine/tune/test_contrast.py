"""The start at what sets rows apart: its directions by a whole decomposition; what it and a rehearsal leave alike."""

from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.train.assess.examination import TrainingVerdict, examine
from likely.engine.train.control import Stepped, TrainControl
from likely.engine.train.run.contrast import directions
from likely.engine.train.run.trainer import train
from likely.engine.weights.adapters.config import configure
from likely.metal import mx
from tests.engine.tune.test_verdict import opened


def test_directions_are_the_leading_solutions_of_the_whole_problem() -> None:
    random = np.random.default_rng(3)
    ours, theirs = (
        x.T @ x / len(x) for x in (random.standard_normal((90, 24)) * s for s in (2.0 ** -np.arange(24), 1))
    )
    metric = theirs + 0.03 * np.trace(theirs) / 24 * np.eye(24)
    values, vectors = np.linalg.eigh(metric)
    root = vectors / np.sqrt(values) @ vectors.T  # metric ** -1/2
    wanted = np.linalg.eigvalsh(root @ ours @ root)[::-1][:4]
    found = directions(ours, theirs, 4)
    ratio = [float((a @ ours @ a) / (a @ metric @ a)) for a in found.T]
    assert sorted(ratio, reverse=True) == pytest.approx(wanted, rel=1e-6)
    assert [a @ ours @ a for a in found.T] == pytest.approx([np.trace(ours) / 72] * 4)


def arrays(folder: str) -> dict[str, np.ndarray]:
    loaded: dict[str, mx.array] = mx.load(f"{folder}/adapters.safetensors")  # type: ignore[assignment]
    return {name: np.array(array) for name, array in loaded.items()}


@pytest.mark.slow(14)
def test_only_b_is_trained_a_run_goes_on_alike_and_other_answers_change_less(tmp_path: Path) -> None:
    how = {"init": "contrast", "reword": 0.5, "test": "", "save_every": 5, "steps": 30}
    whole = opened(tmp_path / "a", **how).run
    events = train(whole)
    next(events)
    begun = {name: np.array(a) for name, a in whole.trained.parameters().items()}
    list(events)
    ended = arrays(whole.config.out)
    kept = [np.array_equal(begun[name], ended[name]) == name.endswith("lora_a") for name in begun]
    assert all(kept) and len(kept) > 2
    control = TrainControl()
    for event in train(opened(tmp_path / "b", **how).run, control):
        if isinstance(event, Stepped) and event.step == 12:
            control.stop()
    list(train(opened(tmp_path / "b", resume=True, **how).run))
    again = arrays(str(tmp_path / "b" / "out"))
    assert all(np.array_equal(ended[name], again[name]) for name in ended)
    moved, plainly = [], {"init": "zero", "rehearsal": 0.0, "reword": 0.0, "layers": -1, "rank": 8}
    for values in ({"init": "contrast", "rate": 0.05}, {"rehearsal": 3.0, "rate": 0.03}, {"rate": 0.03}):
        run = opened(tmp_path / str(len(moved)), **how | plainly | values).run
        list(train(run))
        (*_, verdict) = examine(run)
        assert isinstance(verdict, TrainingVerdict) and verdict.others is not None
        moved.append((verdict.trained.loss.mean, verdict.others.kl.mean))
    plain = moved.pop()
    assert all(loss < plain[0] + 0.2 and kl < plain[1] / 2 for loss, kl in moved)


def test_what_it_cannot_begin_is_refused_by_name(tmp_path: Path) -> None:
    for values, line in (({"kind": "dora"}, "kind = lora"), ({"objective": "dpo"}, "objective = sft")):
        with pytest.raises(ParameterError, match=f"init = contrast goes with {line}"):
            configure({"init": "contrast", **values})
    with pytest.raises(ParameterError, match="goes with matrices, not with"):
        opened(tmp_path, init="contrast", modules=("*", "embed_tokens"))
