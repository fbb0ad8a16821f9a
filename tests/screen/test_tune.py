"""A training on the screen: begun, watched, asked, stopped, gone on with; what fails, what is kept; one is real."""

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.app.jobs.jobs import TrainingJobs
from likely.app.jobs.local_trainer import LocalTrainer
from likely.app.jobs.worker import Worker
from likely.app.results.training_command import command
from likely.app.results.training_plan import pace
from likely.app.tui.training.run import Training
from likely.engine.base.errors import DataError, OutOfMemory
from likely.engine.train.control import Ended, Memory, TrainControl, TrainingPlan
from likely.engine.train.rewards.figures import HeldOut, Rewarded
from likely.engine.train.verdict import TrainingVerdict, row_change
from likely.engine.weights.adapters.config import Config, configure
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.metal import mx
from tests.engine import tiny
from tests.pictures import assert_picture
from tests.support.everyday import everyday
from tests.support.screen import Screen
from tests.support.trainer import BASE, EXPERT, ScriptedTrainer

Begin = Callable[..., Screen]
AGAIN = "likely tune --out adapter --resume"


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins a run by the form, with so many steps that it may make; the keys are those of the run."""
    with ExitStack() as around:

        def begun(trainer: ScriptedTrainer, steps: int | None = None, **how: Any) -> Screen:
            screen = around.enter_context(Screen(tmp_path, trainer=trainer, **how))
            if steps is not None:
                screen.hold(after=steps)
            screen.press("f5")
            screen.say("rows.jsonl")
            screen.press("escape")
            return screen

        yield begun


def release(screen: Screen) -> None:
    screen.release()
    screen.wait()


def axis(screen: Screen) -> str:
    """The step at which the curve of the loss begins."""
    return next(line for line in screen.lines if re.match(r" +\d+ .* step 40", line)).split()[0]


def head(screen: Screen) -> str:
    """What the view says of the run."""
    return " ".join(" ".join(screen.lines[1:4]).split())


# -- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_is_watched_to_its_end_and_its_adapter_is_chatted_with(begin: Begin) -> None:
    before, now = ([(1.0 + 2 * cost, 9.0, 3, i < right) for i in range(60)] for cost, right in ((3, 0), (0, 52)))
    trainer = ScriptedTrainer(verdict=TrainingVerdict(40, row_change(60, "words", before, now), None, None))
    screen = begin(trainer, 12)
    assert "● step 12/40" in head(screen) and "valid" in screen.text and "training" in screen.lines[0]
    release(screen)
    assert "∎ done after step 40, best " in head(screen) and "kept in adapter" in head(screen)
    assert trainer.saved == 40 and "ended" in screen.lines[0] and "learned 52 of 60 rows · kept" in head(screen)
    screen.press("i")
    assert "trained   87 [76, 93] % given back, 0 before; bits a token 3.37, now 0.48" in screen.text
    screen.press("escape", "enter")
    assert "│ scripted +" in screen.lines[0] and "Ask anything" in screen.text


@pytest.mark.slow
def test_space_pauses_after_the_step_and_a_run_that_waits_answers(begin: Begin) -> None:
    screen = begin(ScriptedTrainer(), 6)
    screen.press("space")
    assert "pausing after this step" in head(screen)
    release(screen)
    assert "paused · step 6/40" in head(screen)
    screen.press("t")
    screen.say("red")
    assert "model  step 6 · " in screen.text
    screen.press("escape", "space")
    screen.wait()
    assert "∎ done after step 40" in head(screen)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["s", "ctrl+c", "q"])
def test_stopping_keeps_the_run_and_says_how_it_goes_on(begin: Begin, key: str) -> None:
    trainer = ScriptedTrainer()
    screen = begin(trainer, 8)
    assert trainer.saved == 0
    screen.press(key)
    release(screen)
    assert "stopped after step 8" in head(screen) and AGAIN in head(screen)
    assert trainer.saved == 8
    screen.press("y")
    assert screen.clipboard == AGAIN
    screen.press("c")
    assert "done after step 40" in head(screen) and trainer.saved == 40


@pytest.mark.slow
def test_a_run_goes_on_behind_other_views_and_typing_is_a_question(begin: Begin) -> None:
    trainer = ScriptedTrainer()
    screen = begin(trainer, 3)
    screen.press("f2")
    screen.say("Why is the sky blue?")
    assert trainer.step == 3 and "training 3/40" in screen.lines[0]
    release(screen)
    screen.wait(2.0)
    assert "training" not in screen.lines[0].replace("tune", "")
    screen.press("f5", "t")
    screen.type("yes hpsc q")
    assert trainer.step == 40 and "yes hpsc q" in screen.text and screen.running


@pytest.mark.slow
def test_before_the_first_step_a_row_is_seen_and_how_long_it_takes(begin: Begin) -> None:
    class Rowed(ScriptedTrainer):
        waits, stage = True, "asking the base"

        def train(self, control: TrainControl) -> Iterator[Any]:
            while self.waits:  # in its first step, or before it
                control.stage = self.stage
                yield None
            yield from super().train(control)

        def open(self, config: Config, resume: bool, progress: Report) -> TrainingPlan:
            plan = super().open(config, resume, progress)
            ids = self.engine.tokenizer.encode(" The sky looks blue because air")
            row = tuple((token, index >= 2) for index, token in enumerate(ids))
            return replace(plan, row=row, pace=("60 rows, batch 4: 15 batches, 15 steps an epoch",))

    trainer = Rowed()
    screen = begin(trainer)
    assert "4 of 6 tokens are trained" in screen.text and "The sky looks blue because air" in screen.text
    assert "60 rows, batch 4: 15 batches, 15 steps an epoch" in screen.text
    screen.press("space")
    assert "pausing after this · asking the base" in head(screen)
    screen.press("space")
    trainer.stage = ""
    screen.wait(5)
    assert re.search(r"● the first step( · \d+ s)?", head(screen))
    screen.wait(12)
    assert "the first step · 1" in head(screen)
    trainer.waits = False
    screen.wait()
    assert "done after step 40" in head(screen)


@pytest.mark.parametrize(("rows", "batch", "batches", "accumulate", "steps"), [(60, 4, 15, 1, 15), (60, 4, 15, 2, 8)])
def test_rows_become_steps(rows: int, batch: int, batches: int, accumulate: int, steps: int) -> None:
    config = configure({"batch": batch, "accumulate": accumulate})
    plan = TrainingPlan(rows, 1, 1, (), 1, batches, 40, 1, 60.0, Memory(10**9, 2, 3, 4), 1, program=10**9)
    run = SimpleNamespace(config=config, counters=SimpleNamespace(step=10))
    opened: Any = SimpleNamespace(run=run, plan=plan, whole_s=75.0)
    said = (f"{rows} rows, batch {batch}: {batches} batches, {steps} steps an epoch", "a step takes about 2.0 s")
    assert pace(opened) == ("about 1 min 15 s and 2.0 GB in all", *said)  # of the 30 steps that are left
    opened.plan = replace(plan, seconds=math.inf)  # not known
    assert pace(opened) == said[:1]


def test_what_is_not_the_default_is_in_the_command() -> None:
    config = configure({"data": "a b.jsonl", "rate": 1e-3, "modules": ["q_proj", "mlp.*"], "packing": False})
    assert command(config) == "likely tune 'a b.jsonl' --no-packing --modules q_proj --modules 'mlp.*' --rate 0.001"


# -- answers, and what moved ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_model_as_it_is_and_its_base_answer_beside_each_other(begin: Begin) -> None:
    screen = begin(ScriptedTrainer(), 10)
    screen.press("t")
    screen.say("red")
    release(screen)
    screen.press("escape", "b")
    assert "base  before training" in screen.text and re.search(r"model  step \d+", screen.text)
    assert "you" in screen.text and "red" in screen.text
    screen.press("r")
    assert "model  step 40" in screen.text
    screen.press("p", "ctrl+a", "ctrl+k")
    screen.say("Hello")
    assert "prompt 3/3" in screen.text and "Hello" in screen.text


@pytest.mark.slow
def test_bits_that_moved_are_those_of_the_two_distributions(begin: Begin) -> None:
    trainer = ScriptedTrainer()
    screen = begin(trainer)
    screen.press("w")
    (asked,) = [each for each in trainer.requests if getattr(each, "text", "") == "Why is the sky blue?"][-1:]
    at = trainer.answer(asked).difference.positions[-1]  # type: ignore[union-attr,arg-type]
    assert f"NEXT  KL {at.kl / math.log(2):.3f} bits" in screen.text and "held out  mean KL " in screen.text
    best = max(at.likely, key=lambda shift: shift.now)
    row = next(line for line in screen.lines if "now %" in line or "base %" in line)
    figures = screen.lines[screen.lines.index(row) + 1].split()[-2:]
    assert [float(each) for each in figures] == pytest.approx(
        [100 * math.exp(best.before), 100 * math.exp(best.now)], abs=0.06
    )
    assert "WHAT MOVED  prompt 1/2 · step 40" in screen.text
    held = next(each for each in reversed(trainer.requests) if not getattr(each, "text", "x"))
    found = trainer.answer(held).difference  # type: ignore[union-attr,arg-type]
    shown = re.findall(r"[▲▼] (\S+) +([+−][\d.]+)", screen.text.partition("ROSE AND FELL")[2])
    moved = [each for pair in zip(found.risen, found.fallen, strict=False) for each in pair]
    assert [float(value.replace("−", "-")) for _, value in shown] == pytest.approx(
        [100 * each.change for each in moved[: len(shown)]], abs=0.006
    )
    assert len(shown) >= 6 and [value[0] for _, value in shown] == ["+", "−"] * (len(shown) // 2)
    screen.press("right_square_bracket")
    assert "prompt 2/2" in screen.text and "what about sunsets" in screen.text
    screen.press("h")
    screen.say("Blue light")
    assert "text  mean KL" in screen.text


@pytest.mark.slow
def test_what_cannot_be_answered_is_a_line(begin: Begin) -> None:
    screen = begin(ScriptedTrainer(), 5)
    screen.press("r")  # nothing was asked yet: the field to ask in
    screen.say("  ")
    assert "you" not in screen.text
    screen.press("escape", "n")
    assert "a run is under way: s stops and keeps it" in screen.text


@pytest.mark.slow
def test_curves_come_closer_and_the_formula_has_their_last_figure(begin: Begin) -> None:
    trainer = ScriptedTrainer()
    screen = begin(trainer)
    assert axis(screen) == "0"
    screen.press("z")
    assert axis(screen) == "20"
    screen.press("equals_sign")
    loss = trainer.events(40)[0].loss / math.log(2)
    assert f"L = −(1/n) Σ log₂ p(xᵢ | x<i) = {loss:.3f} bits" in screen.text and f"2^L = {2**loss:.2f}" in screen.text
    screen.press("escape", "i")
    assert "400 chat; 380 train, 20 valid" in screen.text and "likely tune rows.jsonl --model scripted" in screen.text


# -- rewards ----------------------------------------------------------------------------------------------------------


def test_a_training_by_rewards_shows_its_rewards_its_warnings_and_what_is_said_to_a_problem(tmp_path: Path) -> None:
    trainer = ScriptedTrainer()
    config = configure({"data": "sums.jsonl", "objective": "reward", "steps": 40, "expert": 3, "test": "held.jsonl"})
    with Screen(tmp_path, trainer=trainer, tune=config) as screen:
        screen.press("escape")
        look = next(each for each in trainer.drawn(40) if isinstance(each, HeldOut))
        before, now = (float(np.mean(each)) / 8 for each in (BASE, look.now))
        assert f"held out pass@1 {before:.2f} → {now:.2f} · ▲ wrong answers grow" in head(screen)
        drawn = [step for t in range(31, 41) for step in trainer.drawn(t) if isinstance(step, Rewarded)]
        wrong, mixed, right = np.mean([step.groups for step in drawn], axis=0) / 8
        error = 0.2 / 2.3646 / math.sqrt(len(drawn))  # of eight problems a step; Student's t of 7, then of 70
        for words in (
            f"REWARD  ─ {np.mean([step.reward for step in drawn]):.2f} ± {1.9944 * error:.2f}",
            f"all wrong {wrong:.0%}  ▒ mixed {mixed:.0%}  █ all right {right:.0%}",
            f"KL  {np.mean([step.kl for step in drawn]) / math.log(2):.2f} bits",
            f"PASS@K ─ now {now:.2f} ─ base {before:.2f} ─ expert {np.mean(EXPERT) / 8:.2f}",
            "from 8 on the base is ahead",
        ):
            assert words in screen.text
        assert "LOSS" not in screen.text
        screen.press("right_square_bracket")
        assert "problem  2 of 8" in screen.text and "How much is 1 + 2?" in screen.text
        assert "base  1 of 8 right" in screen.text and "✗ 4× 5" in screen.text and "✓ 8× 3" in screen.text
        screen.press("i")
        assert "wrong answers grew from 31 to 61 tokens" in screen.text and "expert iteration, 3 rounds" in screen.text
        screen.press("escape", "equals_sign")
        assert f"r = (1/N) Σ rᵢ = {drawn[-1].reward:.3f}" in screen.text


@pytest.mark.parametrize(("width", "told"), [(120, True), (100, False)])
def test_a_wide_form_says_beside_each_field_what_it_is(width: int, told: bool, tmp_path: Path) -> None:
    with Screen(tmp_path, size=(width, 40)) as screen:
        screen.press("f5")
        for field, about in (
            ("batch", "samples a batch; 0: by the data"),
            ("options", "a TOML file with any other options"),
        ):
            (line,) = [line for line in screen.lines if line.strip().startswith(field)]
            assert (about in line) is told
        begins = {
            line.index(about) for line in screen.lines for about in ("samples a batch", "a TOML file") if about in line
        }
        assert len(begins) == told  # below each other


def test_the_form_of_rewards_begins_a_training_by_them(tmp_path: Path) -> None:
    trainer = ScriptedTrainer()
    with Screen(tmp_path, trainer=trainer, size=(80, 24)) as screen:
        screen.press("f5", "ctrl+t", "ctrl+t")
        assert "learn from rewards" in screen.text and re.search(r"steps +100\n", screen.text)
        for text in ("sums.jsonl", "", "python3 check.py", "", "", "16"):
            screen.type(text)
            screen.press("down")
        screen.press("enter", "escape")
        wanted = {"data": "sums.jsonl", "objective": "reward", "verifier": "python3 check.py", "answers": 16}
        assert trainer.config == configure({**wanted, "model": "scripted"}) and "REWARD" in screen.text
        screen.press("i")
        assert "--objective reward" in screen.text and "--verifier 'python3 check.py'" in screen.text


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_loses_nothing(begin: Begin) -> None:
    error = DataError("cannot write adapter/adapters.safetensors: No space left on device")
    trainer = ScriptedTrainer(fail={15: error})
    screen = begin(trainer)
    assert "No space left" in head(screen) and "nothing is lost" in head(screen)
    assert "c goes on from step 15" in head(screen)
    screen.press("s")
    assert trainer.saved == 15 and "stopped after step 15" in head(screen)
    screen.press("c")
    assert trainer.step == 40


def test_a_long_line_of_what_went_wrong_is_told_to_its_end_which_says_what_to_do(begin: Begin) -> None:
    error = DataError("of 32 problems tried " + "0 had answers of different worth, " * 4 + "--look-first 0 goes on")
    screen = begin(ScriptedTrainer(fail={4: error}), size=(80, 24))
    assert " ".join(str(error).split()) in " ".join(screen.text.split()) and "nothing is lost" in screen.text
    screen.press("i")
    assert "of 32 problems tried" in screen.text


@pytest.mark.slow(2)
def test_a_bug_in_the_trainer_is_a_line_and_the_run_goes_on(begin: Begin) -> None:
    screen = begin(ScriptedTrainer(fail={4: RuntimeError("a bug")}))
    assert "RuntimeError: a bug" in head(screen)
    screen.press("c")
    assert "done after step 40" in head(screen)


@pytest.mark.parametrize("reason", everyday(["nan", "diverged"], 2))
def test_a_loss_that_runs_away_stops_and_keeps_the_weights_before(begin: Begin, reason: str) -> None:
    screen = begin(ScriptedTrainer(end=Ended(reason, 12, "loss nan at step 12, rows rows.jsonl:17")))
    assert "▲" in head(screen) and "rows.jsonl:17" in head(screen) and "kept in adapter" in head(screen)


@pytest.mark.slow
@pytest.mark.parametrize("error", [DataError("rows.jsonl:3:7: a comma expected"), OutOfMemory("a step needs 9 GB")])
def test_what_cannot_begin_leads_back_to_the_form_with_everything_in_it(tmp_path: Path, error: Exception) -> None:
    trainer = ScriptedTrainer()
    trainer.refuse = error
    config = configure({"data": "rows.jsonl", "rank": 4, "kl": 0.5, "steps": 12})
    with Screen(tmp_path, trainer=trainer, tune=config) as screen:
        assert screen.text.count(str(error)) == 1 and "rows.jsonl" in screen.text
        trainer.refuse = None
        screen.press("backspace")  # it is mended at its end
        assert "rows.json " in screen.text
        screen.press("home", "ctrl+k", "enter")  # what is emptied does not stand for what it held
        assert "data: give a file" in screen.text
        screen.say("other.jsonl")
        screen.press("escape")
        assert "done after step 12" in head(screen)
        # what has no field is not forgotten
        assert trainer.config == configure({"data": "other.jsonl", "rank": 4, "kl": 0.5, "steps": 12})


def test_of_a_training_that_could_not_begin_the_chat_says_nothing(tmp_path: Path) -> None:
    trainer = ScriptedTrainer()
    trainer.refuse = DataError("no disk is here")
    with Screen(tmp_path, trainer=trainer) as screen:
        screen.press("f5")
        screen.say("rows.jsonl")
        assert "no disk is here" in screen.text
        screen.press("f2")
        screen.wait(2)
        assert "training" not in screen.lines[0]


@pytest.mark.slow
def test_the_form_says_what_is_wrong_and_reads_a_file_of_settings(tmp_path: Path) -> None:
    trainer = ScriptedTrainer()
    (tmp_path / "more.toml").write_text('steps = 6\noptimiser = "lion"\n')
    (tmp_path / "wrong.toml").write_text("stepps = 6\n")
    with Screen(tmp_path, trainer=trainer) as screen:
        screen.press("f5", "enter")
        assert "data: give a file" in screen.text and re.search(r"rate +by the data +peak", screen.text)
        screen.type("rows.jsonl")
        assert "data: give a file" not in screen.text
        screen.press("down", "down", "down")
        screen.type("mine")
        screen.press("down")
        screen.say("8x")
        assert "rank must be a whole number, got '8x'" in screen.text
        screen.press("backspace")
        screen.press("down", "down", "down", "down", "down")  # to the last field
        screen.say("wrong.toml")
        assert "unknown option stepps; did you mean steps?" in screen.text
        screen.press("ctrl+a", "ctrl+k")
        screen.say("more.toml")
        screen.press("escape")
        assert "done after step 6" in head(screen)
        wanted = {"data": "rows.jsonl", "model": "scripted", "out": "mine", "rank": 8, "steps": 6, "optimiser": "lion"}
        assert trainer.config == configure(wanted)


def test_a_training_without_data_begins_with_the_form(tmp_path: Path) -> None:
    with Screen(tmp_path, trainer=ScriptedTrainer(), tune=configure({"rank": 4})) as screen:
        assert re.search(r"rank +4 ", screen.text) and "give a file" not in screen.text


def test_the_form_says_how_the_columns_of_the_data_are_read(tmp_path: Path) -> None:
    """Whole, where it is longer than a row of the screen."""
    more = [f"column {i}" for i in range(9)]
    (tmp_path / "rows.csv").write_text(f"question;answer;{';'.join(more)}\nq;a{';1' * 9}\n")
    with Screen(tmp_path, trainer=ScriptedTrainer()) as screen:
        screen.press("f5")
        screen.type(str(tmp_path / "rows.csv"))
        whole = f"question asks, answer is learned; not read: {', '.join(more)}; semicolons part the columns"
        assert whole in " ".join(screen.text.split())
        screen.press("backspace")
        assert "is learned" not in screen.text


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_form_says_what_a_training_costs_before_it_begins(tmp_path: Path, size: tuple[int, int]) -> None:
    """As soon as nothing is typed for a moment, and anew where another option is: what stood before is gone at once."""
    (tmp_path / "rows.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    trainer = ScriptedTrainer()
    with Screen(tmp_path, trainer=trainer, size=size) as screen:
        screen.press("f5")
        screen.type("rows.jsonl")
        assert "about 2 min" not in screen.text and "rows.jsonl" in screen.text
        screen.wait(2)
        assert "about 2 min 05 s and 1.3 GB in all; 400 rows, batch 4" in " ".join(screen.text.split())
        screen.press("down", "down", "down", "down")
        screen.type("8")
        assert "about 2 min" not in screen.text
        screen.wait(2)
        assert "about 2 min 05 s" in screen.text
        assert trainer.foretold == [
            configure({"data": "rows.jsonl", "model": "scripted", **more}) for more in ({}, {"rank": 8})
        ]
        screen.press("enter", "escape")
        assert "done after step 40" in head(screen) and trainer.config == trainer.foretold[-1]
        screen.press("n")
        screen.wait(2)
        assert "about 2 min 05 s" in screen.text and len(trainer.foretold) == 3


def test_the_cost_on_the_form_is_that_of_the_plan_and_nothing_is_made_for_it(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with Screen(tmp_path, trainer=LocalTrainer()) as screen:  # type: ignore[arg-type]
        screen.press("f5")
        screen.type(options["data"])
        screen.press("down", "down", "home", "ctrl+k")
        screen.type(options["model"])
        screen.wait(2)
        said = " ".join(screen.text.split())
        screen.press("down", "home", "ctrl+k")
        screen.type(options["data"])
        screen.wait(2)
        assert "--out is a folder, and " in " ".join(screen.text.split())
        plan = LocalTrainer().open(configure({"data": options["data"], "model": options["model"]}), False, silent)
        assert f"GB in all; {plan.pace[1]}; {plan.steps} steps in all" in said
        assert not (tmp_path / "adapter").exists()


def test_columns_that_are_not_understood_are_named_in_the_form(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("frage;antwort\nWas?;Das.\n")
    trainer = ScriptedTrainer()
    with Screen(tmp_path, trainer=trainer, size=(80, 24)) as screen:
        screen.press("f5")
        assert "columns" not in screen.text
        screen.type(str(tmp_path / "rows.csv"))
        assert "frage, antwort: no row that can be learned from" in screen.text
        assert "frage=prompt, antwort=completion" in screen.text  # what may be typed
        screen.press("down")
        screen.type("frage=prompt, antwort=ende")
        assert "--map must be COLUMN=NAME" in screen.text
        screen.press(*["backspace"] * 4)
        screen.type("completion")
        assert "frage asks, antwort is learned; semicolons part the columns" in screen.text
        screen.press("enter", "escape")
        assert trainer.config.map == ("frage=prompt", "antwort=completion")


def test_a_run_that_is_there_is_resumed_with_its_past(tmp_path: Path) -> None:
    with Screen(tmp_path, trainer=ScriptedTrainer(start=25)) as screen:
        screen.press("f5")
        screen.type("rows.jsonl")
        screen.press("ctrl+r", "escape")
        assert "done after step 40" in head(screen)
        assert axis(screen) == "0"


@pytest.mark.slow
def test_the_palette_offers_what_applies(begin: Begin) -> None:
    screen = begin(ScriptedTrainer(), 5)
    screen.press("ctrl+p")
    screen.type("tune: ")
    assert "tune: Pause" in screen.text and "tune: Fine-tune" not in screen.text
    screen.press("escape", "s")
    release(screen)
    screen.press("ctrl+p")
    screen.type("tune: ")
    assert "tune: Go on" in screen.text and "tune: Pause" not in screen.text


# -- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("key", ["q", "ctrl+q"])
def test_leaving_the_program_in_a_step_keeps_the_run(tmp_path: Path, key: str) -> None:
    trainer = ScriptedTrainer()
    with Screen(tmp_path, trainer=trainer) as screen:
        screen.hold(after=7)
        screen.press("f5")
        screen.say("rows.jsonl")
        screen.press("escape", key)
        release(screen)
        if screen.running:  # by the key that stops first
            screen.press("ctrl+q")
        training = screen.app.training
        assert not screen.running and training is not None
        assert training.wait() and training.parting() == (
            130,
            ["stopped after step 7: adapter", f"go on with: {AGAIN}"],
        )
    assert trainer.saved == 7


def test_a_run_that_nobody_waits_for_ends_by_itself() -> None:
    training = Training(Worker(lambda: TrainingJobs(ScriptedTrainer())), configure({"data": "rows.jsonl", "steps": 40}))
    training.close()
    assert training.wait()


@pytest.mark.slow
def test_a_terminal_that_shrinks_to_nothing_does_no_harm(begin: Begin) -> None:
    screen = begin(ScriptedTrainer(), 20)
    for size in ((20, 5), (1, 1), (200, 60), (60, 20)):
        screen.resize(*size)
        screen.press("w", "l", "a")
    release(screen)
    assert "∎ done after step 40" in head(screen)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (60, 20)])
def test_a_run_looks_as_in_its_pictures(begin: Begin, size: tuple[int, int]) -> None:
    screen = begin(ScriptedTrainer(), size=size)
    assert_picture(f"screen/pictures/tune-{size[0]}x{size[1]}.txt", screen.text + "\n")


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
