"""The tune screen on a tiny model that is really trained: watched, asked, stopped and resumed, it learns the same."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.local_trainer import LocalTrainer
from likely.app.tui import _kept
from likely.app.tui.app import LikelyApp
from likely.app.tui.views.tune import TuneScreen
from likely.engine.adapters.config import Config, configure
from likely.engine.tune.control import Event, Stepped, TrainControl
from likely.metal import mx
from tests.engine import tiny
from tests.tui.conftest import Stage

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


class Held(LocalTrainer):
    """Waits after a step until it is let go."""

    def __init__(self, step: int, gate: threading.Event) -> None:
        super().__init__()
        self.step, self.gate = step, gate

    def train(self, control: TrainControl) -> Iterator[Event]:
        for event in super().train(control):
            yield event
            if isinstance(event, Stepped) and event.step == self.step:
                self.gate.wait(30)


def app(home: Path, config: Config, *, resume: bool = False, trainer: Callable[[], LocalTrainer] = LocalTrainer) -> Any:
    return LikelyApp(lambda: None, home, trainer=trainer, tune=(config, resume))  # type: ignore[arg-type,return-value]


def learned(folder: Path) -> dict[str, np.ndarray]:
    loaded: Any = mx.load(str(folder / "adapters.safetensors"))
    return {name: np.array(a) for name, a in loaded.items()}


@pytest.mark.slow
async def test_watched_stopped_and_resumed_a_run_learns_what_it_learns_alone(
    options: dict[str, Any], tmp_path: Path
) -> None:
    alone, watched = (configure({**options, "out": str(tmp_path / name)}) for name in ("alone", "watched"))

    first = app(tmp_path / "home", alone)
    async with first.run_test(size=(100, 30)) as pilot:
        stage = Stage(first, pilot, None, None, 0.05)  # type: ignore[arg-type]
        await stage.until(lambda: first.training is not None and first.training.state == "ended", "the end")
        it = first.screen
        assert isinstance(it, TuneScreen)
        assert it.course.steps == list(range(1, STEPS + 1))
        assert [v.step for v in it.course.validated] == [5, 10, 15, 20]
        assert it.course.validated[-1].loss < it.course.validated[0].loss
        await stage.until(lambda: not it.watching.pending)
        moved = it.watching.found[it.watching.text].difference
        assert moved.kl > 0 and moved.risen and moved.fallen and it.watching.found[it.watching.prompts[0]].step == STEPS
    assert _kept(first) == 0

    gate = threading.Event()
    second = app(tmp_path / "home", watched, trainer=lambda: Held(STOP, gate))
    async with second.run_test(size=(100, 30)) as pilot:
        stage = Stage(second, pilot, None, None, 0.05)  # type: ignore[arg-type]
        await stage.until(lambda: isinstance(second.screen, TuneScreen) and second.screen.course.step == STOP, "a step")
        it = second.screen
        assert isinstance(it, TuneScreen)
        it.try_out("tag 3")
        await pilot.press("escape", "w", "s")
        gate.set()
        await stage.until(lambda: it.training is not None and it.training.state == "ended", "the stop")
        await stage.until(lambda: it.watching.answers.drawn and not it.watching.pending, "an answer")
        assert it.watching.answers.drawn[0].steps and it.training is not None and it.training.saved == STOP
    assert _kept(second) == 130

    third = app(tmp_path / "home", watched, resume=True)
    async with third.run_test(size=(100, 30)) as pilot:
        stage = Stage(third, pilot, None, None, 0.05)  # type: ignore[arg-type]
        await stage.until(lambda: third.training is not None and third.training.state == "ended", "the end")
        it = third.screen
        assert isinstance(it, TuneScreen)
        assert it.course.steps == list(range(1, STEPS + 1))  # with what was before the stop
        assert len(third.training.plan.past) == STOP + 1
    a, b = learned(tmp_path / "alone"), learned(tmp_path / "watched")
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.slow
async def test_what_is_wrong_with_the_data_or_the_folder_is_said_on_the_form(
    options: dict[str, Any], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "one"}\n{"text": \n')
    config = configure({**options, "data": str(bad), "out": str(tmp_path / "adapter")})
    it = app(tmp_path / "home", config)
    async with it.run_test(size=(100, 30)) as pilot:
        stage = Stage(it, pilot, None, None, 0.05)  # type: ignore[arg-type]
        await stage.until(lambda: it.screen.has_class("-form"), "the form")
        assert "bad.jsonl:2" in str(it.screen.query_one("#form-line").visual)
        assert not (tmp_path / "adapter").exists()
