"""The tune screen with a scripted trainer: every key, every end, and what is kept."""

import math
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.widgets import Label

from app.heat import moved_level
from app.jobs import TrainingJobs
from app.requests import TrainingPlan
from app.training_plan import pace
from app.tui import _kept
from app.tui.dialogs.palette import entries
from app.tui.tokens.block import ShownToken
from app.tui.tokens.layout import TokenPlace
from app.tui.training.run import Training, command
from app.tui.views.tune import TuneScreen
from app.tui.widgets.candidates import Candidates
from app.tui.widgets.gauge import Gauge
from app.tui.widgets.heat_view import HeatView
from app.tui.widgets.tune_form import TuneForm
from app.worker import Worker
from engine.errors import DataError, OutOfMemory
from engine.sources.fetch.progress import Report
from engine.tune.config import Config, configure
from engine.tune.control import Compare, Complete, Ended
from tests.support.trainer import PROMPTS, ScriptedTrainer
from tests.tui.conftest import Play, Stage

ROWS = configure({"data": "rows.jsonl", "steps": 40})


class Held:
    """Holds a scripted trainer before a step, until it is let go."""

    def __init__(self, trainer: ScriptedTrainer, *steps: int) -> None:
        self.gates = {step: threading.Event() for step in steps}
        trainer.pace = self._hold

    def _hold(self, step: int) -> None:
        if step in self.gates:
            self.gates[step].wait(30)

    def go(self, step: int) -> None:
        self.gates[step].set()


def screen(stage: Stage) -> TuneScreen:
    found = stage.app.screen
    assert isinstance(found, TuneScreen)
    return found


def words(stage: Stage) -> str:
    standing = screen(stage).query_one(Gauge).standing
    return " | ".join([standing.words, *standing.facts])


def run_of(stage: Stage) -> Training:
    training = screen(stage).training
    assert training is not None
    return training


def form_line(stage: Stage) -> str:
    """What the form says is wrong."""
    return str(screen(stage).query_one("#form-line", Label).visual)


async def to_the_run(stage: Stage) -> None:
    """The focus from the field to the run: its keys act. Nothing where the run could not begin."""
    await stage.until(lambda: screen(stage).prompt.has_focus or screen(stage).has_class("-form"), "a field to write in")
    if screen(stage).has_class("-form"):
        return
    await stage.pilot.press("escape")
    await stage.until(lambda: screen(stage).gauge.has_focus)


@asynccontextmanager
async def running(play: Play, trainer: ScriptedTrainer, config: Config = ROWS, **how: Any) -> AsyncIterator[Stage]:
    """A run that was started with the program, at its first step or where the trainer holds."""
    async with play(trainer=trainer, tune=config, **{"size": (100, 30), **how}) as stage:
        await stage.until(lambda: isinstance(stage.app.screen, TuneScreen), "the tune screen")
        await to_the_run(stage)
        yield stage


async def state(stage: Stage, *wanted: str) -> None:
    await stage.until(lambda: (it := screen(stage).training) is not None and it.state in wanted, f"state {wanted}")


async def reach(stage: Stage, step: int) -> None:
    await stage.until(lambda: screen(stage).course.step >= step, f"step {step}")


class Rowed(ScriptedTrainer):
    """A trainer that shows a row of its data, and says how rows become steps."""

    def open(self, config: Config, resume: bool, progress: Report) -> TrainingPlan:
        plan = super().open(config, resume, progress)
        words = [" The", " sky", " looks", " blue", " because", "<|im_end|>"]
        ids = [self.engine.tokenizer.pieces.index(word.encode()) for word in words]
        row = tuple((token, index >= 2) for index, token in enumerate(ids))
        return replace(
            plan, row=row, pace=("60 rows, batch 4: 15 batches, 15 steps an epoch", "a step takes about 2.0 s")
        )


@pytest.mark.slow
async def test_before_the_first_step_a_row_is_seen_as_the_model_sees_it(play: Play) -> None:
    trainer = Rowed()
    held = Held(trainer, 0)
    async with running(play, trainer, size=(120, 40)) as stage:
        await stage.until(lambda: screen(stage).said.blocks, "a row")
        block, picture = screen(stage).said.blocks[0], stage.picture()
        assert [bool(token.level) for token in block.tokens] == [False, False, True, True, True, True]
        assert "4 of 6 tokens are trained" in picture and "<|im_end|>" in picture
        assert "60 rows, batch 4: 15 batches, 15 steps an epoch · a step takes about 2.0 s" in words(stage) + picture
        stage.app.clock = lambda: 1e9 + 75
        await stage.until(lambda: "the first step · 1 min 15 s" in stage.picture(), "a sign of life")
        run_of(stage).control.reading = (700, 1400)  # the loop tells it after every batch
        await stage.until(lambda: "1 min 15 s · 700 of 1,400 tokens" in stage.picture(), "tokens that were read")
        assert "bits a token" in stage.picture()
        held.go(0)
        await reach(stage, 3)
        assert "the first step" not in stage.picture()


@pytest.mark.slow
async def test_what_is_typed_is_a_question_until_the_run_has_the_focus(play: Play) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 5)
    async with running(play, trainer) as stage:
        it = screen(stage)
        await reach(stage, 5)
        it.set_focus(None)  # as after a click beside everything
        await stage.pilot.press(*"yes hpsc")
        assert it.prompt.has_focus and it.prompt.text == "yes hpsc"
        assert run_of(stage).state == "training" and not stage.app._clipboard and len(stage.app.screen_stack) == 3
        await stage.pilot.press("escape", "space")  # the run's keys, once it has the focus
        assert it.gauge.has_focus and "pausing after this step" in words(stage) and it.prompt.text == "yes hpsc"
        held.go(5)
        await state(stage, "paused")
        await stage.pilot.press("space", "t")
        assert it.prompt.has_focus
        await state(stage, "ended")


@pytest.mark.slow
async def test_a_question_before_there_is_a_model_stays_written(play: Play) -> None:
    trainer = ScriptedTrainer()
    gate, opened = threading.Event(), trainer.open

    def slow(*how: Any) -> TrainingPlan:
        gate.wait(30)
        return opened(*how)

    trainer.open = slow  # type: ignore[method-assign]
    async with play(trainer=trainer, tune=ROWS) as stage:
        await stage.until(lambda: isinstance(stage.app.screen, TuneScreen) and screen(stage).prompt.has_focus)
        await stage.pilot.press(*"Why", "enter")
        assert screen(stage).prompt.text == "Why" and "no model to ask yet" in screen(stage).hints.news
        gate.set()
        await state(stage, "ended")


@pytest.mark.parametrize(("rows", "batch", "batches", "accumulate", "steps"), [(60, 4, 15, 1, 15), (60, 4, 15, 2, 8)])
def test_rows_become_steps(rows: int, batch: int, batches: int, accumulate: int, steps: int) -> None:
    config = configure({"batch": batch, "accumulate": accumulate})
    opened: Any = SimpleNamespace(run=SimpleNamespace(config=config))
    found: Any = SimpleNamespace(samples=rows, batches=batches, steps=30, seconds=60.0)
    said = (f"{rows} rows, batch {batch}: {batches} batches, {steps} steps an epoch", "a step takes about 2.0 s")
    assert pace(opened, found) == said
    found.seconds = math.inf  # not known
    assert pace(opened, found) == said[:1]


@pytest.mark.slow
async def test_a_run_is_shown_to_its_end_with_where_it_is_kept(play: Play) -> None:
    async with running(play, ScriptedTrainer()) as stage:
        await state(stage, "ended")
        it = screen(stage)
        assert it.course.steps == list(range(1, 41))
        assert [v.step for v in it.course.validated] == [10, 20, 30, 40]
        assert words(stage).startswith("∎ done after step 40, best ") and "kept in adapter" in words(stage)
        assert run_of(stage).parting() == (0, ["done after step 40: adapter"])


@pytest.mark.slow
async def test_space_pauses_after_the_step_and_goes_on(play: Play) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 5)
    async with running(play, trainer) as stage:
        await reach(stage, 5)
        await stage.pilot.press("space")
        assert "pausing after this step" in words(stage)
        held.go(5)
        await state(stage, "paused")
        assert screen(stage).course.step == 6 and "paused · step 6/40" in words(stage)
        screen(stage).try_out("Why is the sky blue?")  # a run that waits answers at once
        await stage.until(lambda: screen(stage).watching.answers.drawn)
        assert screen(stage).watching.answers.drawn[0].step == 6
        await stage.pilot.press("space")
        await state(stage, "ended")
        assert trainer.step == 40


@pytest.mark.slow
@pytest.mark.parametrize("key", ["s", "ctrl+c", "q"])
async def test_stopping_asks_nothing_keeps_the_run_and_tells_how_to_go_on(play: Play, key: str) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 7)
    async with play(trainer=trainer) as stage:
        await stage.pilot.press("f5")
        screen(stage).start(configure({"data": "my rows.jsonl", "steps": 40, "rank": 4}), False)
        await to_the_run(stage)
        await reach(stage, 7)
        await stage.pilot.press(key)
        assert "finishing this step" in words(stage)
        held.go(7)
        await state(stage, "ended")
        assert trainer.saved == 8 and "stopped after step 8" in words(stage)
        again = "likely tune 'my rows.jsonl' --rank 4 --steps 40 --resume"
        assert again in words(stage)
        assert run_of(stage) is stage.app.training and run_of(stage).parting() == (
            130, ["stopped after step 8: adapter", f"go on with: {again}"],
        )  # fmt: skip
        await stage.pilot.press("c")
        await stage.until(lambda: trainer.step == 40)
        await state(stage, "ended")
        assert screen(stage).course.steps == list(range(1, 41))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_leaving_the_program_in_a_step_loses_nothing(
    play: Play, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 7)
    async with running(play, trainer) as stage:
        await reach(stage, 7)
        await stage.pilot.press(key)
        await stage.pilot.pause(0.05)
        app = stage.app
    assert trainer.saved == 0  # the screen is gone, the step is not over
    threading.Timer(0.5, held.go, [7]).start()
    assert _kept(app) == 130
    assert trainer.saved == 8
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "finishing the step, then saving…"
    assert said[1:] == ["stopped after step 8: adapter", "go on with: likely tune rows.jsonl --steps 40 --resume"]


@pytest.mark.slow
async def test_a_run_goes_on_while_another_screen_is_looked_at(play: Play) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 3, 30)
    async with play(trainer=trainer) as stage:
        await stage.pilot.press("f5")
        screen(stage).start(ROWS, False)
        await to_the_run(stage)
        await reach(stage, 3)
        await stage.pilot.press("escape")
        assert stage.app.screen is stage.chat
        held.go(3)
        await stage.ask("Why is the sky blue?")
        await stage.until(lambda: trainer.step == 30)
        await stage.pilot.press("f5")
        await reach(stage, 30)
        held.go(30)
        await state(stage, "ended")


@pytest.mark.slow
async def test_a_prompt_is_answered_by_the_model_as_it_is_and_by_the_base(play: Play) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 10, 20, 30)
    async with running(play, trainer) as stage:
        await reach(stage, 10)
        await stage.pilot.press("t", *"red", "enter")
        held.go(10)
        await stage.until(lambda: len(screen(stage).watching.answers.drawn) == 1)
        await stage.pilot.press("escape", "b")
        await reach(stage, 20)
        held.go(20)
        await stage.until(lambda: len(screen(stage).watching.answers.drawn) == 2)
        await stage.pilot.press("r")
        held.go(30)
        await stage.until(lambda: len(screen(stage).watching.answers.drawn) == 3)
        it = screen(stage)
        assert [d.request for d in it.watching.answers.drawn] == [
            Complete("red"),
            Complete("red", base=True),
            Complete("red"),
        ]
        view = it.query_one("#answers", HeatView)
        assert [block.who for block in view.blocks] == ["you", "model", "base", "model"]
        assert view.blocks[1].note.startswith("step 11") and view.blocks[2].note.startswith("before training")
        assert any(token.level for token in view.blocks[1].tokens)
        view.focus()
        view.move_to(TokenPlace(1, 4))
        await stage.pilot.pause()
        shown = it.query_one(Candidates).view
        drawn = it.watching.answers.drawn[0].steps[4]
        assert shown is not None and shown.rows and shown.name == it.watching.names.name(drawn.token)


@pytest.mark.slow
async def test_an_answer_can_be_asked_for_at_every_validation(play: Play) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 5)
    async with running(play, trainer) as stage:
        await reach(stage, 5)
        it = screen(stage)
        it.toggle_always()
        it.try_out("red")
        held.go(5)
        await state(stage, "ended")
        await stage.until(lambda: len(it.watching.answers.drawn) >= 2)
        assert {d.request.text for d in it.watching.answers.drawn} == {"red"}


@pytest.mark.slow
async def test_what_moved_is_measured_at_validations_and_when_asked(play: Play) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 3, 4)
    async with running(play, trainer) as stage:
        await reach(stage, 3)
        it = screen(stage)
        await stage.pilot.press("w")
        held.go(3)
        await stage.until(lambda: (along := it.watching.along) is not None and along.step == 4)
        view = it.query_one(Candidates).view
        assert view is not None and view.title == "NEXT" and view.rows
        held.go(4)
        await stage.until(lambda: it.watching.found[it.watching.text].step >= 10)
        assert it.watching.found[it.watching.text].difference.kl > 0
        await state(stage, "ended")


@pytest.mark.slow
async def test_bars_and_heat_are_those_of_the_difference(play: Play) -> None:
    async with running(play, ScriptedTrainer()) as stage:
        await state(stage, "ended")
        it = screen(stage)
        await stage.until(lambda: not it.watching.pending)
        of_prompt = it.watching.found[it.watching.prompts[0]].difference.positions[-1]
        view = it.query_one(Candidates).view
        assert view is not None and f"KL {of_prompt.kl / math.log(2):.3f} bits" in view.numbers
        shifts = {s.token: s for s in of_prompt.likely}
        for row in view.rows:
            assert row.after is not None and abs(row.after / math.exp(shifts[row.token].now) - 1) < 1e-6
            assert abs(row.before / math.exp(shifts[row.token].before) - 1) < 1e-6
        heat = it.query_one("#text", HeatView)
        places = it.watching.found[it.watching.text].difference.positions
        tokens: list[ShownToken] = heat.blocks[0].tokens
        assert len(tokens) == len(places) + 1 and tokens[0].level == 0
        assert [t.level for t in tokens[1:]] == [moved_level(p.kl) for p in places]
        heat.focus()
        heat.move_to(TokenPlace(0, 5))
        await stage.pilot.pause()
        view = it.query_one(Candidates).view
        assert view is not None and f"KL {places[4].kl / math.log(2):.3f} bits" in view.numbers
        assert view.name == it.watching.names.name(places[5].token)


@pytest.mark.slow
async def test_prompts_and_the_text_are_a_persons_to_choose(play: Play) -> None:
    trainer = ScriptedTrainer()
    async with running(play, trainer) as stage:
        await state(stage, "ended")
        it = screen(stage)
        assert [p.text for p in it.watching.prompts] == list(PROMPTS)
        await stage.pilot.press("right_square_bracket")
        await stage.until(lambda: it.watching.prompts[1] in it.watching.found)
        await stage.pilot.press("p", *"red", "enter")
        await stage.until(lambda: Compare("red", True, 10) in it.watching.found)
        await stage.pilot.press("h", *"Blue light", "enter")
        await stage.until(lambda: Compare("Blue light", False, 10) in it.watching.found)
        assert it.query_one("#text", HeatView).blocks[0].who == "text"
        it.reframe()
        await stage.until(lambda: Compare("red", False, 10) in it.watching.found)


@pytest.mark.slow
async def test_what_cannot_be_answered_is_one_line(play: Play) -> None:
    async with running(play, ScriptedTrainer()) as stage:
        await state(stage, "ended")
        screen(stage).watching.ask(Complete("  "))
        await stage.until(lambda: screen(stage).hints.news == "there is nothing to look at: give a text")
        assert run_of(stage).state == "ended"


@pytest.mark.slow
async def test_a_full_disk_loses_nothing(play: Play) -> None:
    error = DataError("cannot write adapter/adapters.safetensors: No space left on device")
    trainer = ScriptedTrainer(fail={15: error})
    async with running(play, trainer) as stage:
        await state(stage, "failed")
        await stage.until(lambda: "No space left" in words(stage))
        assert "nothing is lost" in words(stage) and "c goes on from step 15" in words(stage)
        await stage.pilot.press("s")
        await state(stage, "ended")
        assert trainer.saved == 15 and "stopped after step 15" in words(stage)
        await stage.pilot.press("c")
        await stage.until(lambda: trainer.step == 40)


@pytest.mark.slow
async def test_leaving_after_a_failure_saves_what_was_learned(play: Play) -> None:
    trainer = ScriptedTrainer(fail={15: DataError("disk full")})
    async with running(play, trainer) as stage:
        await state(stage, "failed")
        app = stage.app
        await stage.pilot.press("q")
    assert _kept(app) == 130 and trainer.saved == 15


@pytest.mark.slow
async def test_a_bug_in_the_trainer_is_a_line_and_the_run_can_go_on(play: Play) -> None:
    trainer = ScriptedTrainer(fail={4: RuntimeError("a bug")})
    async with running(play, trainer) as stage:
        await state(stage, "failed")
        await stage.until(lambda: "RuntimeError: a bug" in words(stage))
        failure = run_of(stage).failure
        assert failure is not None and "Traceback" in failure.trace
        await stage.pilot.press("c")
        await state(stage, "ended")


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["nan", "diverged"])
async def test_a_loss_that_runs_away_stops_and_keeps_the_weights_before(play: Play, reason: str) -> None:
    trainer = ScriptedTrainer(end=Ended(reason, 12, "loss nan at step 12, rows rows.jsonl:17"))
    async with running(play, trainer) as stage:
        await state(stage, "ended")
        assert "rows.jsonl:17" in words(stage) and "kept in adapter" in words(stage)
        assert screen(stage).query_one(Gauge).standing.alarm
        assert run_of(stage).parting()[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("error", [DataError("rows.jsonl:3:7: a comma expected"), OutOfMemory("a step needs 9 GB")])
async def test_what_cannot_begin_leads_back_to_the_form_with_everything_in_it(play: Play, error: Exception) -> None:
    trainer = ScriptedTrainer()
    trainer.refuse = error
    config = configure({"data": "rows.jsonl", "rank": 4, "kl": 0.5, "steps": 12})
    async with running(play, trainer, config) as stage:
        form = screen(stage).query_one(TuneForm)
        await stage.until(lambda: form_line(stage) == str(error))
        assert form.field("data").value == "rows.jsonl" and form.field("rank").value == "4"
        trainer.refuse = None
        form.field("data").value = "other.jsonl"
        await stage.pilot.press("enter")
        await state(stage, "ended")
        # what has no field is not forgotten
        assert trainer.config == configure({"data": "other.jsonl", "rank": 4, "kl": 0.5, "steps": 12})


@pytest.mark.slow
async def test_the_form_starts_a_run_and_says_what_is_wrong(play: Play, tmp_path: Path) -> None:
    trainer = ScriptedTrainer()
    (tmp_path / "more.toml").write_text('steps = 6\noptimiser = "lion"\n')
    (tmp_path / "wrong.toml").write_text("stepps = 6\n")
    async with play(trainer=trainer) as stage:
        await stage.pilot.press("f5", "enter")
        it = screen(stage)
        form = it.query_one(TuneForm)
        assert form_line(stage).startswith("data: give a file")
        await stage.pilot.press(*"rows.jsonl", "down", "down", *"mine", "down", *"8x", "enter")
        assert form_line(stage) == "rank must be a whole number, got '8x'"
        await stage.pilot.press("backspace")
        form.field("config").value = "wrong.toml"
        await stage.pilot.press("enter")
        assert form_line(stage) == "unknown option stepps; did you mean steps?"
        form.field("config").value = "more.toml"
        await stage.pilot.press("enter")
        await state(stage, "ended")
        assert trainer.config == configure(
            {"data": "rows.jsonl", "model": "scripted", "out": "mine", "steps": 6, "optimiser": "lion"}
        )
        assert trainer.step == 6
        await to_the_run(stage)
        await stage.pilot.press("n")
        assert it.has_class("-form")


@pytest.mark.slow
async def test_a_run_that_is_there_is_resumed_with_its_past(play: Play) -> None:
    trainer = ScriptedTrainer(start=25)
    async with play(trainer=trainer) as stage:
        await stage.pilot.press("f5", *"rows.jsonl", "ctrl+r")
        await state(stage, "ended")
        assert screen(stage).course.steps == list(range(1, 41))
        assert run_of(stage).resume


@pytest.mark.slow
async def test_opening_can_be_given_up(play: Play) -> None:
    trainer = ScriptedTrainer()
    gate = threading.Event()
    opened = trainer.open

    def slow(config: Config, resume: bool, progress: Any) -> Any:
        progress("loading", 1, 2)
        gate.wait(30)
        return opened(config, resume, progress)

    trainer.open = slow  # type: ignore[method-assign]
    async with running(play, trainer) as stage:
        await stage.until(lambda: "loading 50%" in words(stage))
        await stage.pilot.press("s")
        assert screen(stage).has_class("-form") and stage.app.training is None
        gate.set()
        await stage.pilot.pause(0.1)
        assert trainer.step == 0 and trainer.saved == 0


@pytest.mark.slow
async def test_the_palette_offers_what_applies(play: Play) -> None:
    trainer = ScriptedTrainer()
    held = Held(trainer, 5)
    async with running(play, trainer) as stage:
        await reach(stage, 5)
        names = {name for name, _, _ in entries(stage.app.screen)}
        assert {"tune: Pause", "tune: Stop and keep", "tune: What moved"} <= names and "tune: Fine-tune…" not in names
        await stage.pilot.press("s")
        held.go(5)
        await state(stage, "ended")
        names = {name for name, _, _ in entries(stage.app.screen)}
        assert {"tune: Go on", "tune: Fine-tune…", "tune: Pretrain…"} <= names and "tune: Pause" not in names


@pytest.mark.slow
async def test_a_terminal_that_shrinks_to_nothing_does_no_harm(play: Play) -> None:
    async with running(play, ScriptedTrainer()) as stage:
        for size in ((20, 5), (1, 1), (200, 60), (60, 20)):
            await stage.pilot.resize_terminal(*size)
            await stage.pilot.press("w", "l", "a")
        await state(stage, "ended")


def test_a_run_that_nobody_waits_for_ends_by_itself() -> None:
    training = Training(Worker(lambda: TrainingJobs(ScriptedTrainer())), ROWS)
    training.close()
    assert training.wait(10)


def test_the_command_names_what_is_not_the_default() -> None:
    config = configure({"data": "a b.jsonl", "rate": 1e-3, "modules": ["q_proj", "mlp.*"], "packing": False})
    assert command(config) == "likely tune 'a b.jsonl' --no-packing --modules q_proj --modules 'mlp.*' --rate 0.001"


@pytest.mark.slow
async def test_what_was_learned_is_put_on_the_chats_model(play: Play) -> None:
    async with play(trainer=ScriptedTrainer()) as stage:
        await stage.pilot.press("f5")
        screen(stage).start(configure({"data": "rows.jsonl", "model": "scripted", "out": "mine"}), False)
        await to_the_run(stage)
        await state(stage, "ended")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.app.screen is stage.chat and stage.app.engine.attached)
        assert [adapter.name for adapter in stage.app.engine.attached] == ["mine"]


@pytest.mark.slow
async def test_from_a_run_alone_the_chat_loads_its_model_first(play: Play) -> None:
    config = configure({"data": "rows.jsonl", "model": "scripted", "out": "mine"})
    async with running(play, ScriptedTrainer(), config) as stage:
        await state(stage, "ended")
        assert stage.app.engine.current is None  # nothing was loaded beside the run
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.app.screen is stage.chat and stage.app.engine.attached)
