"""A pretraining on the screen: what is seen of it, what does not apply, its form, and a real one to its end."""

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.jobs.jobs import TrainingJobs
from likely.app.jobs.local_trainer import LocalTrainer
from likely.app.tui.training.run import Training
from likely.engine.train.control import (
    Answer,
    Complete,
    Completion,
    Ended,
    Event,
    Stepped,
    TrainControl,
    TrainingPlan,
    Validated,
)
from likely.engine.train.pretrain.config import PretrainConfig, configure
from likely.engine.weights.sources.fetch.progress import Report
from likely.metal import mx
from tests.engine.pretrain.texts import config, finish, words
from tests.support.screen import Screen
from tests.support.trainer import ScriptedTrainer
from tests.support.worker import HeardWorker


class FromNothing(ScriptedTrainer):
    """A scripted pretraining: bits a byte, losses by position, a noise scale, and a sample at each validation."""

    def open(self, config: Any, resume: bool, progress: Report) -> TrainingPlan:
        return replace(super().open(config, resume, progress), prompts=(), chat=False)

    @property
    def steps(self) -> int:
        return 40

    def events(self, step: int) -> list[Stepped | Validated]:
        def more(event: Stepped | Validated) -> Stepped | Validated:
            if isinstance(event, Stepped):
                return replace(event, noise_scale=100.0 * step if step > 1 else None)
            by_position = tuple(event.loss + 0.5 / (i + 1) for i in range(6))
            return replace(event, bits_per_byte=event.loss / 2, by_position=by_position)

        return [more(event) for event in super().events(step)]

    def train(self, control: TrainControl) -> Iterator[Any]:
        for event in super().train(control):
            yield event
            if isinstance(event, Validated):
                yield self.answer(Complete("Once", False, 8))


@pytest.mark.slow(2)
def test_bits_position_and_noise_stand_where_a_tuning_has_its_drift(tmp_path: Path) -> None:
    trainer = FromNothing()
    with Screen(tmp_path, trainer=trainer) as screen:
        screen.hold(after=35)
        screen.press("f5", "ctrl+t")
        assert "│ pretraining" in screen.lines[0]
        screen.say("texts")
        screen.press("escape")
        screen.wait()
        last = next(event for event in trainer.events(30) if isinstance(event, Validated))
        assert f"BITS A BYTE  {last.loss / 2:.3f} at step 30" in screen.text
        first, late = (last.by_position[i] / math.log(2) for i in (0, 5))
        assert f"BY POSITION  {first:.2f} → {late:.2f} bits" in screen.text
        assert "NOISE SCALE  3,500 tokens  a step 450" in screen.text and "WHAT MOVED" not in screen.text
        for key in ("b", "h"):
            screen.press(key)
            assert "no base" in screen.lines[-1]
        assert "step 30" in screen.text and "The sky" in screen.text  # a sample of its own
        screen.resize(60, 20)
        screen.press("w")
        found = [y for name in ("BITS A BYTE", "BY POSITION", "NOISE") for y, x in enumerate(screen.lines) if name in x]
        assert len(found) == 3 and found == sorted(found)
        screen.release()
        screen.wait()
        assert "∎ done after step 40" in screen.text


@pytest.mark.slow
def test_the_form_asks_for_either_kind_and_what_was_typed_stays(tmp_path: Path) -> None:
    trainer = FromNothing()
    with Screen(tmp_path, trainer=trainer, size=(80, 24)) as screen:
        screen.press("f5", "x", "ctrl+t")
        assert "│ pretrain" in screen.text and " rank " not in screen.text and " tokenizer " in screen.text
        assert "x" in next(line for line in screen.lines if " text " in line)
        screen.press("ctrl+l")
        assert "no rows to keep or drop" in screen.text
        screen.press("down", "down", "down", "down")
        screen.say("many")
        assert "tokens must be a whole number, got 'many'" in screen.text
        screen.press("ctrl+a", "ctrl+k", "9", "0", "0", "0", "enter")
        assert trainer.config == configure({"data": "x", "tokens": 9000})  # type: ignore[comparison-overlap]


def events_of(options: PretrainConfig, *, resume: bool = False, stop: int = 0) -> tuple[Training, list[Any]]:
    """A real run by the jobs of the screen, asked something after it; its events, to a stop before the step `stop`."""
    gate = threading.Event()

    class Gated(LocalTrainer):
        def train(self, control: TrainControl) -> Iterator[Event | Answer]:
            for event in super().train(control):
                yield event
                if isinstance(event, Stepped) and event.step == stop:
                    gate.wait()

    worker = HeardWorker(lambda: TrainingJobs(Gated()), "trainer")
    it = Training(worker, options, resume=resume)
    found: list[Any] = []
    it.ask(Complete("ba", False, 4))
    while it.state not in ("ended", "failed"):
        worker.wait()
        found += it.drain()
        if stop and any(isinstance(event, Stepped) and event.step == stop for event in found):
            it.stop()
            gate.set()
    worker.finish()
    assert it.wait()
    return it, found


@pytest.mark.slow
def test_a_real_one_is_sampled_stopped_and_goes_on_to_what_it_learns_alone(tmp_path: Path) -> None:
    text = words(tmp_path)
    finish(config(text, tmp_path / "alone"))
    options = config(text, tmp_path / "seen", sample_tokens=3)
    first, began = events_of(options, stop=3)
    assert first.plan is not None and first.plan.model == "llama" and first.plan.row[1][1] and not first.plan.prompts
    assert any("tokenizer bytes" in line for line in first.plan.lines)
    assert first.ended == Ended("stopped", 3) and first.parting()[0] == 130
    assert {event.request.text for event in began if isinstance(event, Completion)} > {"ba"}  # and a sample of its own
    again, went_on = events_of(options, resume=True)
    assert again.plan is not None and [event.step for event in again.plan.past] == [1, 2, 3, 3]
    assert again.ended is not None and again.ended.reason == "done" and type(went_on[-1]) is Ended
    one, two = (mx.load(str(tmp_path / name / "model.safetensors")) for name in ("alone", "seen"))
    assert all(np.array_equal(np.array(one[name]), np.array(two[name])) for name in one)  # type: ignore[call-overload]
