"""A training as its screen sees it, on a worker that only notes what it is told: states, words, and how to go on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.requests import Progressed, Train, TrainingPlan, TrainOn
from app.tui.theme import GLYPHS
from app.tui.training.history import TrainingHistory
from app.tui.training.run import Training, command
from app.tui.training.status import RunStatus, standing
from app.worker import Closed, Failed
from engine.pretrain.config import PretrainConfig
from engine.tune.config import Config
from engine.tune.control import Compare, Complete, Ended, Paused, Refused, Saved, Stepped, Validated

CONFIG = Config(data="rows.jsonl", steps=40)
PLAN = TrainingPlan(("a line",), "scripted", "out/adapter", 40, pace=("60 rows", "a step takes 2 s"))
STEP = Stepped(1, 40, 0.05, 3.5, 3.25, 2e-4, 1.5, 100, 1204.6, 0.0, 0.0, 1_310_000_000, 2.0)


class NotingWorker:
    """Notes what it is told; what it reports is put into `reports`."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.reports: list[tuple[int, Any]] = []
        self.ends = True

    def submit(self, request: Any) -> int:
        self.told.append(request)
        return len(self.told)

    def start(self) -> None:
        self.told.append("start")

    def finish(self) -> None:
        self.told.append("finish")

    def join(self, seconds: float | None) -> bool:
        self.told.append(("join", seconds))
        return self.ends

    def drain(self) -> list[tuple[int, Any]]:
        found, self.reports = self.reports, []
        return found


def training(*events: Any, config: Any = CONFIG, resume: bool = False) -> tuple[Training, NotingWorker]:
    """A run that has reported these events; what it told before is forgotten."""
    worker = NotingWorker()
    found = Training(worker, config, resume=resume)  # type: ignore[arg-type]
    worker.reports = [(1, event) for event in events]
    assert found.drain() == list(events)
    worker.told.clear()
    return found, worker


def test_a_run_is_opened_at_once() -> None:
    worker = NotingWorker()
    it = Training(worker, CONFIG, resume=True)  # type: ignore[arg-type]
    assert worker.told == [Train(CONFIG, True, it.control), "start"]
    assert (it.state, it.plan, it.saved, it.ended, it.failure, it.resume) == ("opening", None, 0, None, None, True)
    assert it.kind.verb == "tune" and not it.busy and not it.unfinished
    assert training()[0].resume is False and it.drain() == []


def test_pausing_waits_for_the_step_that_is_being_taken() -> None:
    it, worker = training(PLAN)
    assert it.state == "training" and it.busy and it.plan is PLAN
    it.pause()
    assert it.state == "training" and it.control.paused
    worker.reports = [(1, Paused(3))]
    it.drain()
    assert it.state == "paused" and it.busy
    it.pause()
    assert it.state == "training" and not it.control.paused
    worker.reports = [(1, Paused(3))]  # of before
    it.drain()
    assert it.state == "training"
    it.pause()
    worker.reports = [(1, Paused(4)), (1, STEP)]
    it.drain()
    assert it.state == "training"
    opening, _ = training()
    opening.pause()
    assert opening.state == "opening" and not opening.control.paused
    assert worker.told == []


def test_stopping_saves_what_there_is() -> None:
    it, worker = training()
    it.stop()
    assert (it.state, worker.told, it.control.stopped) == ("opening", ["finish"], True)
    worker.reports = [(1, PLAN)]
    it.drain()
    assert it.state == "stopping" and it.busy
    it, worker = training(PLAN)
    it.stop()
    assert (it.state, worker.told, it.control.stopped) == ("stopping", [], True)
    worker.reports = [(1, Paused(1)), (1, STEP), (1, Saved(7, Path("out"))), (1, Ended("stopped", 7))]
    it.drain()
    assert (it.state, it.saved, it.ended, it.busy, it.unfinished) == ("ended", 7, Ended("stopped", 7), False, True)
    it.stop()
    assert it.state == "ended" and worker.told == []
    it, worker = training(PLAN, Failed("no room"))
    assert (it.state, it.busy, it.unfinished, it.failure) == ("failed", False, True, Failed("no room"))
    it.stop()
    assert (it.state, it.failure, worker.told) == ("stopping", None, [TrainOn(it.control)])


def test_what_fails_before_there_is_a_plan_is_over() -> None:
    it, worker = training(Failed("no data"))
    assert it.state == "failed" and not it.unfinished
    it.stop()
    assert it.state == "failed" and worker.told == []
    assert not it.go_on()
    made = Training(worker, CONFIG)  # type: ignore[arg-type]
    worker.reports = [(1, Failed("no data"))]
    made.drain()
    assert worker.told[-1] == "finish"
    it, worker = training(PLAN)
    worker.reports = [(1, Failed("a bug"))]
    it.drain()
    assert worker.told == []


def test_a_run_goes_on_from_where_it_was_stopped_or_has_failed() -> None:
    for event in (Ended("stopped", 7), Failed("no room")):
        it, worker = training(PLAN, event)
        it.control.stopped = it.control.paused = True
        assert it.go_on()
        assert (it.state, it.ended, it.failure, it.control.stopped, it.control.paused) == (
            "training", None, None, False, False,
        )  # fmt: skip
        assert worker.told == [TrainOn(it.control)]
    for events in ((PLAN,), (PLAN, Ended("done", 40)), (PLAN, Ended("nan", 4))):
        it, worker = training(*events)
        assert not it.unfinished and not it.go_on() and worker.told == []


def test_a_question_that_fails_is_refused_and_the_run_goes_on() -> None:
    it, worker = training(PLAN, Saved(5, Path("out")))
    question, other = Complete("why"), Compare()
    it.ask(question)
    it.ask(other)
    assert worker.told == [question, other]
    worker.reports = [(1, Failed("too long")), (1, Closed()), (2, Closed()), (2, Failed("a bug"))]
    assert it.drain() == [Refused(5, question, "too long"), Failed("a bug")]  # of a job that is closed nothing is asked
    assert it.state == "failed"
    it, worker = training(PLAN)
    it.ask(question)
    worker.reports = [(9, Closed()), (1, Refused(0, question, "no"))]
    assert it.drain() == [Refused(0, question, "no")] and it.state == "training"


def test_whoever_waits_takes_in_what_was_reported() -> None:
    it, worker = training(PLAN)
    worker.reports = [(1, Ended("done", 40))]
    worker.ends = False
    assert it.wait(2.5) is False and it.state == "ended" and worker.told == [("join", 2.5)]
    worker.ends = True
    assert it.wait() is True and worker.told[-1] == ("join", None)
    worker.told.clear()
    it.close()
    assert worker.told == ["finish"] and it.control.stopped


AGAIN = "likely tune rows.jsonl --steps 40 --resume"


def test_the_last_lines_say_where_the_run_is() -> None:
    for events, parting in [
        ((), (0, [])),
        ((PLAN,), (0, [])),
        ((Failed("no data"),), (1, ["Error: no data"])),
        ((PLAN, Failed("no room")), (1, ["Error: no room"])),
        (
            (PLAN, Saved(1, Path("out")), Failed("no room")),
            (1, ["Error: no room", f"go on from step 1 with: {AGAIN}"]),
        ),
        ((PLAN, Ended("nan", 7, "no number")), (1, ["Error: no number; the weights before it are in out/adapter"])),
        ((PLAN, Ended("diverged", 7, "it grew")), (1, ["Error: it grew; the weights before it are in out/adapter"])),
        ((PLAN, Ended("stopped", 7)), (130, ["stopped after step 7: out/adapter", f"go on with: {AGAIN}"])),
        ((PLAN, Ended("done", 40)), (0, ["done after step 40: out/adapter"])),
        ((PLAN, Ended("patience", 30)), (0, ["patience after step 30: out/adapter"])),
        ((Ended("done", 40),), (0, [])),
    ]:  # fmt: skip
        assert training(*events)[0].parting() == parting


def test_the_command_names_what_is_not_as_it_would_be() -> None:
    for config, words in [
        (Config(data="a b"), "likely tune 'a b'"),
        (Config(data="rows", model="my model", rate=1e-3), "likely tune rows --model 'my model' --rate 0.001"),
        (Config(data="rows", duplicates=False, rslora=True), "likely tune rows --no-duplicates --rslora"),
        (Config(data="rows", map=("a=b", "c d=e"), length=9), "likely tune rows --map a=b --map 'c d=e' --length 9"),
        (Config(data="rows", rate=3e-5, seed=7), "likely tune rows --rate 3e-05 --seed 7"),
        (PretrainConfig(data="text.txt", out="m"), "likely pretrain text.txt --out m"),
    ]:  # fmt: skip
        assert command(config) == words and command(config, resume=True) == f"{words} --resume"


# -- in words ---------------------------------------------------------------------------------------------------------


def course(*events: Stepped | Validated) -> TrainingHistory:
    found = TrainingHistory()
    for event in events:
        found.take(event)
    return found


def said(
    *events: Any,
    taken: tuple[Stepped | Validated, ...] = (),
    waited: float = 0.0,
    do: Callable[[Training], Any] = lambda it: None,
) -> RunStatus:
    it, _ = training(*events)
    do(it)
    return standing(it, course(*taken), "loading", GLYPHS, waited)


TENTH = replace(STEP, step=10, elapsed_s=20.0, epoch=0.5, tokens=1000)
FACTS = ["epoch 0.50", "1,205 tok/s", "1.31 GB", "1,000 tokens trained"]


def test_a_run_that_is_opened_says_what_is_done() -> None:
    assert said() == RunStatus("loading…")
    assert said(Progressed("loading", "loading", 1, 2)) == RunStatus("loading…")


def test_the_first_step_says_since_when_it_is_taken() -> None:
    pace = PLAN.pace
    assert said(PLAN) == RunStatus("● the first step", 0.0, "of 40", pace)
    assert standing(training(PLAN)[0], course(), "", GLYPHS) == RunStatus("● the first step", 0.0, "of 40", pace)
    assert said(PLAN, waited=0.99) == RunStatus("● the first step", 0.0, "of 40", pace)
    assert said(PLAN, waited=1.0) == RunStatus("● the first step · 1 s", 0.0, "of 40", pace)

    def read(it: Training) -> None:
        it.control.reading = 1200, 4500

    words = "● the first step · 1 min 01 s · 1,200 of 4,500 tokens"
    assert said(PLAN, waited=61.0, do=read) == RunStatus(words, 0.0, "of 40", pace)
    assert said(replace(PLAN, steps=0)) == RunStatus("● the first step", 0.0, "of 0", pace)
    assert said(PLAN, do=Training.stop) == RunStatus("● finishing this step, then saving · step 0/40", 0.0, "", [])


def test_a_run_says_how_far_it_is() -> None:
    taken = (TENTH,)
    assert said(PLAN, taken=taken) == RunStatus("● step 10/40", 0.25, "1 min 00 s left", FACTS)
    pausing = RunStatus("‖ pausing after this step · step 10/40", 0.25, "1 min 00 s left", FACTS)
    assert said(PLAN, taken=taken, do=Training.pause) == pausing
    stopping = RunStatus("● finishing this step, then saving · step 10/40", 0.25, "1 min 00 s left", FACTS)
    assert said(PLAN, taken=taken, do=Training.stop) == stopping
    it, worker = training(PLAN)
    it.pause()
    worker.reports = [(1, Paused(10))]
    it.drain()
    paused = RunStatus("‖ paused · step 10/40", 0.25, "1 min 00 s left", FACTS)
    assert standing(it, course(TENTH), "", GLYPHS) == paused
    long = replace(TENTH, step=1200, steps=4800)
    assert said(PLAN, taken=(long,)).words == "● step 1,200/4,800"


def test_an_end_says_where_the_run_is_kept() -> None:
    best = (Validated(1000, 2.5, 2.4, 2.6, True, 0.0), Validated(1005, 3.0, 2.9, 3.1, False, 0.0))
    kept = ["kept in out/adapter", "likely diff smollm2 out/adapter TEXT"]
    assert said(PLAN, Ended("done", 40), taken=(replace(TENTH, step=40), *best)) == RunStatus(
        "∎ done after step 40, best 2.500 at 1,000", None, "20 s", kept
    )
    words = "∎ stopped: validation no longer gets better after step 1,040"
    assert said(PLAN, Ended("patience", 1040), taken=(TENTH,)) == RunStatus(words, None, "20 s", kept)
    again = ["kept in out/adapter", AGAIN]
    assert said(PLAN, Ended("stopped", 10), taken=(TENTH,)) == RunStatus("∎ stopped after step 10", 0.25, "20 s", again)
    assert said(PLAN, Ended("stopped", 0)) == RunStatus("∎ stopped after step 0", 0.0, "", again)
    assert said(PLAN, Ended("other", 3)).words == "∎ other after step 3"
    before = "the weights before it, of step 1,007, are kept in out/adapter"
    for reason, why in (("nan", "it is not a number"), ("diverged", "")):
        found = said(PLAN, Ended(reason, 1007, why), taken=(TENTH,))
        assert found == RunStatus(f"▲ {why or reason}", None, "", (before,), alarm=True)


def test_a_failure_says_that_nothing_is_lost() -> None:
    found = said(PLAN, Failed("no room"), taken=(replace(TENTH, step=1010),))
    facts = ["nothing is lost", "c goes on from step 1,010", "s saves", "nothing is saved yet"]
    assert found == RunStatus("▲ no room", None, "", facts, alarm=True)
    found = said(PLAN, Saved(1000, Path("out")), Failed("no room"), taken=(TENTH,))
    assert found.facts[1:] == ["c goes on from step 10", "s saves", "out/adapter is at step 1,000"]
    assert not RunStatus().alarm and RunStatus().facts == ()
