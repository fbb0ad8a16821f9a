"""A pretraining on the tune screen: what is seen of it, what does not apply, its form, and a real one to its end."""

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.jobs import TrainingJobs
from app.local_trainer import LocalTrainer
from app.requests import TrainingPlan
from app.training_kind import PRETRAIN
from app.tui.dialogs.palette import entries
from app.tui.training.run import Training, command
from app.tui.views.tune import NO_BASE
from app.tui.widgets.chart import Chart
from app.tui.widgets.tune_form import TuneForm
from app.worker import Worker
from engine.pretrain.config import PretrainConfig, configure
from engine.sources.fetch.progress import Report
from engine.tune.control import Answer, Compare, Complete, Completion, Ended, Event, Stepped, TrainControl, Validated
from metal import mx
from tests.engine.pretrain.texts import config, finish, words
from tests.support.trainer import ScriptedTrainer
from tests.tui.conftest import Play
from tests.tui.test_tune import Held, form_line, reach, run_of, running, screen, state

STEPS, TOKENS_A_STEP = 40, 450
ASKED = configure({"data": "texts", "out": "mine"})


class FromNothing(ScriptedTrainer):
    """A scripted pretraining: bits a byte, losses by position, a noise scale, and a sample at each validation."""

    @property
    def steps(self) -> int:
        return STEPS

    def open(self, config: Any, resume: bool, progress: Report) -> TrainingPlan:
        return replace(super().open(config, resume, progress), prompts=(), chat=False)

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


def headings(stage: Any) -> str:
    return " | ".join("".join(words for words, _ in chart.picture.heading) for chart in screen(stage).query(Chart))


@pytest.mark.slow
async def test_bits_position_and_noise_stand_where_a_tuning_has_its_drift(play: Play) -> None:
    trainer = FromNothing()
    held = Held(trainer, 35)
    async with running(play, trainer, ASKED, size=(120, 40)) as stage:  # type: ignore[arg-type]
        await reach(stage, 35)
        it, last = screen(stage), screen(stage).course.validated[-1]
        await stage.until(lambda: it.watching.answers.drawn, "a sample")
        assert it.watching.answers.drawn[0].request.text == "Once"
        assert f"{last.loss / 2:.3f} bits/byte" in headings(stage)
        assert f"BITS A BYTE  {last.loss / 2:.3f} at step 30" in headings(stage)
        first, late = (last.by_position[i] / math.log(2) for i in (0, 5))
        assert f"BY POSITION  {first:.2f} → {late:.2f} bits" in headings(stage)
        assert f"NOISE SCALE  3,500 tokens  a step {TOKENS_A_STEP}" in headings(stage)
        assert it.learned.size.width == 43 and it.panel.size.width == 0 and "WHAT MOVED" not in stage.picture()
        assert not any(isinstance(request, Compare) for request in trainer.requests)
        for key in ("b", "h"):
            await stage.pilot.press(key)
            assert NO_BASE in stage.picture()
        names = {name for name, _, _ in entries(stage.app.screen)}
        assert "tune: Bits, position, noise" in names and not names & {"tune: What moved", "tune: Ask the base"}
        await stage.pilot.resize_terminal(1, 1)
        await stage.pilot.resize_terminal(60, 20)
        await stage.pilot.press("w")
        lines = stage.picture().split("\n")
        found = [y for name in ("BITS A BYTE", "BY POSITION", "NOISE SCALE") for y, x in enumerate(lines) if name in x]
        assert len(found) == 3 and "Ask" in "".join(lines[found[2] + 2 :])
        held.go(35)
        await state(stage, "ended")
        assert it.result == ("mine", "") and run_of(stage).parting() == (0, ["done after step 40: mine"])
        assert command(ASKED, resume=True) == "likely pretrain texts --out mine --resume"


@pytest.mark.slow
async def test_the_form_asks_for_either_kind_and_what_was_typed_stays(play: Play) -> None:
    trainer = FromNothing()
    async with play(trainer=trainer, size=(80, 24)) as stage:
        await stage.pilot.press("f5", "x", "ctrl+t")
        form = screen(stage).query_one(TuneForm)
        await stage.until(lambda: form.kind is PRETRAIN)
        await stage.until(lambda: "│ pretraining" in stage.picture(), "the kind in the top line")
        assert form.field("data").value == "x" and form.field("size").placeholder == "1M"
        assert not form.query_one("#row-rank").display and form.query_one("#row-tokenizer").display
        form.field("size").value = "3 elephants"
        await stage.pilot.press("ctrl+l")
        await stage.until(lambda: "no rows to keep or drop" in stage.picture(), "why there are no rows")
        form.field("tokens").value = "many"
        await stage.pilot.press("enter")
        assert "tokens must be a whole number, got 'many'" in form_line(stage)
        form.field("tokens").value = "9000"
        await stage.pilot.press("enter")
        await state(stage, "ended")
        assert trainer.config == configure({"data": "x", "size": "3 elephants", "tokens": 9000})  # type: ignore[comparison-overlap]


def events_of(options: PretrainConfig, *, resume: bool = False, stop: int = 0) -> tuple[Training, list[Any]]:
    """A real run by the jobs of the screen, asked something after it; its events, to a stop before the step `stop`."""
    gate = threading.Event()

    class Gated(LocalTrainer):
        def train(self, control: TrainControl) -> Iterator[Event | Answer]:
            for event in super().train(control):
                yield event
                if isinstance(event, Stepped) and event.step == stop:
                    gate.wait(30)

    it = Training(Worker(lambda: TrainingJobs(Gated()), "trainer"), options, resume=resume)
    found: list[Any] = []
    it.ask(Complete("ba", False, 4))
    while it.state not in ("ended", "failed"):
        found += it.drain()
        if stop and any(isinstance(event, Stepped) and event.step == stop for event in found):
            it.stop()
            gate.set()
        it.worker.join(0.01)
    it.worker.finish()
    assert it.wait(30)
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
