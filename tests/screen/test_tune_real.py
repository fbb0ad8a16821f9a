"""The tune screen on a tiny model that is really trained: watched, asked, stopped and resumed, it learns the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.local_trainer import LocalTrainer
from likely.engine.adapters.config import configure
from likely.metal import mx
from tests.engine import tiny
from tests.support.screen import Screen

STEPS, STOP = 20, 7


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    arrays = {name: mx.array(a) for name, a in tiny.weights(tiny.LLAMA).items()}
    model = tiny.write_folder(tmp_path / "model", tiny.LLAMA, arrays)
    rows = tmp_path / "rows.jsonl"
    values = [{"prompt": f"tag {i}", "completion": f"<{i}>"} for i in range(40)]
    rows.write_text("".join(json.dumps(value) + "\n" for value in values))
    return {
        "data": str(rows), "model": str(model), "steps": STEPS, "length": 64, "batch": 2, "rate": 1e-2,
        "eval_every": 5, "dropout": 0.1, "rank": 2,
    }  # fmt: skip


def learned(folder: Path) -> dict[str, np.ndarray]:
    loaded: Any = mx.load(str(folder / "adapters.safetensors"))
    return {name: np.array(a) for name, a in loaded.items()}


@pytest.mark.slow(10)
def test_watched_stopped_and_resumed_a_run_learns_what_it_learns_alone(options: dict[str, Any], tmp_path: Path) -> None:
    alone, watched = (configure({**options, "out": str(tmp_path / name)}) for name in ("alone", "watched"))
    with Screen(tmp_path, trainer=LocalTrainer(), tune=alone) as screen:  # type: ignore[arg-type]
        screen.wait(2)
        assert f"done after step {STEPS}" in screen.text and "bits" in screen.text
    screen = Screen(tmp_path, trainer=LocalTrainer(), tune=watched)  # type: ignore[arg-type]
    screen.hold(after=STOP)
    with screen:
        assert f"step {STOP}" in screen.text
        screen.say("tag 3")
        screen.press("escape", "w", "s")
        screen.wait(2)
        assert f"stopped after step {STOP}" in screen.text
    with Screen(tmp_path, trainer=LocalTrainer(), tune=(watched, True)) as screen:  # type: ignore[arg-type]
        screen.wait(2)
        assert f"done after step {STEPS}" in screen.text
        assert screen.app.training is not None and len(screen.app.training.plan.past) == STOP + 1
    a, b = learned(tmp_path / "alone"), learned(tmp_path / "watched")
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_what_is_wrong_with_the_data_is_said_on_the_form_and_nothing_is_made(
    options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "one"}\n{"text": \n')
    config = configure({**options, "data": "bad.jsonl", "out": "adapter"})
    with Screen(tmp_path, trainer=LocalTrainer(), tune=config) as screen:  # type: ignore[arg-type]
        assert "bad.jsonl:2" in screen.text and "rank" in screen.text
        assert not (tmp_path / "adapter").exists()
