"""The tune view on a host that only notes and a worker that reports what it is given: each key, event and hint."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, Label, Static

from app.requests import Progressed, Train, TrainOn
from app.training_kind import PRETRAIN, TUNE
from app.tui.dialogs.overlays import Ask, Read
from app.tui.dialogs.rows import RowsScreen
from app.tui.views import tune
from app.tui.views.tune import NO_BASE, TuneScreen
from app.tui.widgets.bars import TopBar
from app.tui.widgets.chart import Chart
from app.tui.widgets.gauge import Gauge
from app.tui.widgets.tune_form import TuneForm
from app.worker import Failed
from engine.pretrain.config import PretrainConfig
from engine.tune.config import Config
from engine.tune.control import Compare, Complete, Completion, Ended, Paused, Refused, Saved, Stepped, Validated
from tests.tui.small_app import HostApp, shown
from tests.tui.test_training_probes import PIECES, step
from tests.tui.test_training_run import NotingWorker

CONFIG = Config(data="rows.jsonl", steps=40, out="out")
PLAN = tune.TrainingPlan(
    ("rows 4", "tokens 9"), "models/scripted", "runs/adapter", 40, prompts=("why", "what"), chat=False,
    vocabulary=PIECES, row=((0, False), (1, True)),
)  # fmt: skip
STEP = Stepped(1, 40, 0.05, 3.5, 3.25, 2e-4, 1.5, 100, 1204.6, 0.0, 0.0, 1_310_000_000, 2.0)
VALID = Validated(1, 2.0, 1.9, 2.1, True, 0.0)
WHY, HELD = Compare("why", False, 10), Compare("", False, 10)


class Tuned:
    """A view on a host, and the workers of its runs, the newest last."""

    def __init__(self, host: HostApp, view: TuneScreen, pilot: Pilot[None], workers: list[NotingWorker]) -> None:
        self.host, self.view, self.pilot, self.workers = host, view, pilot, workers

    def report(self, *events: Any) -> None:
        """The newest worker has reported these, and the view has looked."""
        self.workers[-1].reports = [(1, event) for event in events]
        self.view.tick()

    @property
    def told(self) -> list[Any]:
        """What the newest worker was told since the last time."""
        found, self.workers[-1].told = self.workers[-1].told, []
        return found

    @property
    def line(self) -> str:
        return self.view.query_one(Gauge).standing.words

    @property
    def keys(self) -> list[str]:
        return [f"{key} {name}" for key, name in self.view.hints.keys]

    @property
    def news(self) -> str:
        return self.view.hints.news

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def to_the_run(self) -> None:
        self.view.gauge.focus()
        await self.pilot.pause()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[NotingWorker]:
    made: list[NotingWorker] = []

    def worker(jobs: Any, name: str) -> NotingWorker:
        made.append(NotingWorker())
        made[-1].jobs = jobs  # type: ignore[attr-defined]
        return made[-1]

    monkeypatch.setattr("tests.tui.small_app.Worker", worker)
    monkeypatch.setattr(tune, "TICK_S", 1000.0)
    return made


@asynccontextmanager
async def opened(
    home: Path, workers: list[NotingWorker], *events: Any, config: Any = CONFIG, order: bool = False,
    size: tuple[int, int] = (50, 12),
) -> AsyncIterator[Tuned]:  # fmt: skip
    """The view with its form, or with a run that has reported some events; the focus on the run."""
    host, view = HostApp(home), TuneScreen()
    host.tune_order = (config, True) if order else None
    async with shown(view, size, host) as (_, pilot):
        it = Tuned(host, view, pilot, workers)
        if events or order:
            if not order:
                view.start(config, False)
            it.report(*events)
            await it.to_the_run()
        yield it


# -- the form ---------------------------------------------------------------------------------------------------------


async def test_the_form_is_there_first_and_starts_a_run(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers) as it:
        view, form = it.view, it.view.query_one(TuneForm)
        assert view.has_class("-form") and form.field("model").value == "model" and form.field("data").has_focus
        assert it.keys == ["⏎ Start", "↑↓ Field", "^t Kind", "^l Rows", "^r Resume", "esc Back", "f1 Keys"]
        assert (view.query_one(TopBar).model, view.query_one(TopBar).facts) == ("fine-tuning", ())
        await it.press("ctrl+t")
        assert view.query_one(TopBar).model == "pretraining"
        await it.press("ctrl+t", "s", "p", "space")
        assert form.field("data").value == "sp " and workers == []  # keys of a run are letters here
        await it.press("enter")
        assert len(workers) == 1 and view.training is it.host.training is not None
        assert it.told == [Train(view.training.config, False, view.training.control), "start"]
        assert view.training.config.data == "sp" and not view.has_class("-form") and view.prompt.has_focus
        assert view.stage == "opening" and it.line == "opening…" and view.query_one(TopBar).facts == ("opening",)


async def test_typing_goes_to_the_first_field_of_the_form(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers) as it:
        form = it.view.query_one(TuneForm)
        form.field("data").value = "ro"
        it.view.set_focus(None)
        await it.press("w", "s", "escape")
        assert form.field("data").value == "rows" and it.host.went == ["restyle", "chat"]
        form.field("model").value = "mine"
        it.view._show_form()
        assert form.field("model").value == "mine" and form.field("data").has_focus


@pytest.mark.slow
async def test_the_command_line_starts_a_run_and_leaving_it_leaves_the_program(
    tmp_path: Path, workers: list[NotingWorker]
) -> None:
    async with opened(tmp_path, workers, order=True) as it:
        assert workers[0].told[0] == Train(CONFIG, True, it.view.training.control)  # type: ignore[union-attr]
        await it.press("q")
        assert it.host.went[-1] == "quit"
        await it.press("escape")
        assert it.host.went[-1] == "quit"  # there is no chat to go to
    async with opened(tmp_path, workers, PLAN) as it:
        await it.press("q")
        assert it.view.training.state == "stopping" and "chat" not in it.host.went  # type: ignore[union-attr]
        it.report(Ended("stopped", 1))
        await it.press("q")
        assert it.host.went[-1] == "chat"
    async with opened(tmp_path, workers) as it:
        assert it.view.interrupt() is True and it.host.went[-1] == "chat"


async def test_a_new_run_waits_for_the_one_before(
    tmp_path: Path, workers: list[NotingWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, workers, PLAN, STEP) as it:
        first, before = workers[0], it.view.training
        it.host.trainer = lambda: "a trainer"  # type: ignore[attr-defined]
        it.view.closer, it.view.stage = True, "over"
        it.view.start(PretrainConfig(data="text.txt", out="m"), True)
        assert first.told[-1] == "finish" and before is not None and before.control.stopped
        assert (it.view.closer, it.view.stage, it.view.course.step) == (False, "opening", 0)
        assert it.view.has_class("-baseless") and not it.view.watching.base and it.view.said.blocks == []
        first.join = lambda seconds=None: first.told.append("joined")  # type: ignore[method-assign,assignment]
        monkeypatch.setattr(tune, "TrainingJobs", lambda trainer: ("jobs", trainer))
        assert workers[-1].jobs() == ("jobs", "a trainer") and first.told[-1] == "joined"  # type: ignore[attr-defined]
        it.view.start(CONFIG, False)
        assert not it.view.has_class("-baseless") and it.view.watching.base


# -- what is reported -------------------------------------------------------------------------------------------------


async def test_what_is_reported_is_shown_at_once(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers, Progressed("trainer", "loading", 1, 4)) as it:
        view = it.view
        assert view.stage == "loading 25%" and it.line == "loading 25%…" and not view.ready
        it.report(Progressed("trainer", "reading the data", 0, 0))
        assert it.line == "reading the data…"
        it.host.now = 2e9
        it.report(replace(PLAN, past=(STEP, VALID)))
        assert view.began_s == 2e9 and view.ready and view.course.step == 1 and view.course.validated == [VALID]
        assert [block.who for block in view.said.blocks] == ["row"] and view.has_class("-answered")
        assert (view.query_one(TopBar).model, view.query_one(TopBar).facts) == ("scripted → adapter", ("training",))
        assert it.line == "● step 1/40" and it.told[2:] == [WHY, HELD]
        it.report(replace(STEP, step=2), replace(VALID, step=2))
        assert it.line == "● step 2/40" and len(view.course.validated) == 2
        for name, picture in (
            ("loss", view.course.loss(it.host.glyphs)), ("rate", view.course.rate()), ("norm", view.course.norm()),
        ):  # fmt: skip
            chart = view.query_one(f"#{name}", Chart).picture
            assert chart.heading == picture.heading and len(chart.curves) == len(picture.curves)
        it.report(Refused(2, WHY, "it is too long"))
        assert (it.news, view.hints.alarm) == ("it is too long", True)
        it.report(Completion(2, Complete("why", chat=False), (step(5),), "eot"))
        assert [block.who for block in view.said.blocks] == ["you", "model"]
    async with opened(tmp_path, workers, replace(PLAN, row=())) as it:
        assert it.view.said.blocks == [] and not it.view.has_class("-answered")


async def test_time_goes_on_until_the_first_step_and_nothing_is_drawn_behind_another_screen(
    tmp_path: Path, workers: list[NotingWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    async with opened(tmp_path, workers, PLAN) as it:
        monkeypatch.setattr(TuneScreen, "reshow", lambda self: drawn.append("drawn"))
        it.report()
        assert drawn == ["drawn"]
        it.report(STEP)
        it.report()
        assert drawn == ["drawn"] * 2  # nothing was reported
        for _ in range(2):
            it.host.push_screen(Screen())
            await it.pilot.pause()
        drawn.clear()
        it.report(replace(STEP, step=2))
        assert drawn == [] and it.view.course.step == 2
    async with opened(tmp_path, workers) as it:
        drawn.clear()
        it.view.tick()
        assert drawn == []


async def test_the_first_step_says_how_long_it_takes(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers, PLAN) as it:
        it.host.now += 12
        it.report()
        assert it.line == "● the first step · 12 s"


@pytest.mark.slow
async def test_what_cannot_begin_leads_back_to_the_form(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers, Progressed("trainer", "loading", 1, 4)) as it:
        it.report(Failed("out is there already: --resume goes on with it"))
        assert it.view.has_class("-form") and it.view.training is it.host.training is None
        form = it.view.query_one(TuneForm)
        assert str(it.view.query_one("#form-line", Label).visual) == "out is there already: ^r goes on with it"
        assert form.field("data").value == "rows.jsonl" and form.base == CONFIG
    async with opened(tmp_path, workers, Progressed("trainer", "loading", 1, 4)) as it:
        await it.press("s")
        assert it.view.has_class("-form") and it.told[-1] == "finish"
        assert str(it.view.query_one("#form-line", Label).visual) == ""
    async with opened(tmp_path, workers, PLAN, STEP) as it:
        it.report(Failed("no room"))
        assert not it.view.has_class("-form") and it.line == "▲ no room"


# -- keys of a run ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_run_is_paused_stopped_and_goes_on(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers, PLAN, STEP) as it:
        training = it.view.training
        assert training is not None
        moved = ["w What moved", "t Try", "l Loss", "^l Rows", "[ ] Prompt", "z Closer", "f1 Keys"]
        assert it.keys == ["space Pause", "s Stop and keep", *moved]
        await it.press("space")
        assert training.control.paused and it.line.startswith("‖ pausing")
        assert it.keys[0] == "space Go on"
        it.report(Paused(1))
        assert it.line.startswith("‖ paused") and it.keys[:2] == ["space Go on", "s Stop and keep"]
        await it.press("space")
        assert training.state == "training" and it.keys[0] == "space Pause"
        await it.press("c")
        assert training.state == "training"
        await it.press("s")
        assert training.state == "stopping" and it.line.startswith("● finishing") and it.keys == moved
        it.report(Saved(1, Path("out")), Ended("stopped", 1))
        ended = ["w What moved", "t Try", "l Loss", "n New run", "^l Rows", "[ ] Prompt", "z Closer", "f1 Keys"]
        assert it.keys == ["c Go on", "⏎ Chat with it", *ended]
        await it.press("space")
        assert training.state == "ended"
        it.workers[-1].told.clear()
        await it.press("c")
        assert training.state == "training" and it.told == [TrainOn(training.control)]
        assert it.line == "● step 1/40"
        it.report(Failed("no room"))
        assert it.keys == ["c Go on", "s Save", *ended]
        it.view.training = None
        for key in ("space", "s", "c", "y", "i"):
            await it.press(key)
    async with opened(tmp_path, workers, PLAN, Ended("done", 40)) as it:
        assert it.keys[0] == "⏎ Chat with it"


@pytest.mark.slow
async def test_a_question_is_asked_when_there_is_a_model(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers, Progressed("trainer", "loading", 1, 4)) as it:
        view = it.view
        await it.press("t")
        assert view.prompt.has_focus and it.keys == ["⏎ Ask", "esc The run: pause, stop, what moved", "f1 Keys"]
        await it.press("h", "i", "enter")
        assert it.news == "there is no model to ask yet" and view.prompt.text == "hi"
        assert view.prompt.prompts == ["hi"] and it.told[2:] == []
        it.report(PLAN)
        it.workers[-1].told.clear()
        await it.press("enter")
        assert it.told == [Complete("hi", chat=False)] and view.prompt.text == "" and view.has_class("-answers")
        await it.press("space", "enter")
        assert it.told == []
        await it.press("escape")
        assert view.gauge.has_focus
        view.watching.pending.clear()
        await it.press("r")
        assert it.told == [Complete("hi", chat=False)]
        view.action_view("loss")
        await it.press("b")
        assert it.told == [Complete("hi", chat=False, base=True)] and view.has_class("-answers")
        await it.press("escape")
        assert it.host.went[-1] == "chat"
    async with opened(tmp_path, workers, PLAN) as it:
        await it.press("r")
        assert it.view.prompt.has_focus  # nothing was asked yet
        it.view.set_focus(None)
        await it.pilot.pause()
        assert it.keys[0] == "space Pause"  # those of the run, though none of them acts before it has the focus
        await it.press("g")
        await it.pilot.pause()
        assert it.view.prompt.text == "g" and it.view.prompt.has_focus and it.keys[0] == "⏎ Ask"


@pytest.mark.slow
async def test_what_moved_is_measured_and_its_prompts_are_chosen(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers, Progressed("trainer", "loading", 1, 4)) as it:
        view = it.view
        await it.press("w", "p", "h")
        assert not view.has_class("-moved") and it.host.screen is view
        it.report(PLAN)
        assert it.told[2:] == [WHY, HELD]
        view.watching.pending.clear()
        await it.press("w")
        assert view.has_class("-moved") and not view.has_class("-loss") and it.told == [WHY, HELD]
        await it.press("l")
        assert view.has_class("-loss") and not view.has_class("-moved")
        await it.press("a")
        assert view.has_class("-answers")
        await it.press("right_square_bracket")
        assert view.watching.at == 1 and it.told == [Compare("what", False, 10)] and view.has_class("-moved")
        await it.press("left_square_bracket")
        assert view.watching.at == 0
        view.watching.pending.clear()
        it.workers[-1].told.clear()
        await it.press("p")
        ask = it.host.screen
        assert isinstance(ask, Ask) and ask.query_one(Input).value == ""
        ask.query_one(Input).value = "other"
        view.action_view("loss")
        await it.press("enter")
        assert it.told == [Compare("other", False, 10), HELD] and view.has_class("-moved")
        await it.press("p", "enter")
        assert len(view.watching.prompts) == 3  # of nothing no prompt is made
        await it.press("p", "escape")
        view.watching.question("asked")
        await it.press("p")
        assert it.host.screen.query_one(Input).value == "asked"
        await it.press("escape", "h")
        held = it.host.screen.query_one(Input)
        assert held.value == ""
        held.value = "a text"
        await it.press("enter")
        assert view.watching.text == Compare("a text", False, 10)
        await it.press("h")
        assert it.host.screen.query_one(Input).value == "a text"
        await it.press("escape")
        view.reframe()
        assert it.news == "prompts go through the chat template" and view.watching.chat
        view.reframe()
        assert it.news == "prompts go in as plain text"
        view.toggle_always()
        assert it.news == "asks again at every validation" and view.watching.always
        view.toggle_always()
        assert it.news == "asks only when told to"


async def test_without_a_base_there_is_nothing_to_compare_with(tmp_path: Path, workers: list[NotingWorker]) -> None:
    config = PretrainConfig(data="text.txt", out="m")
    async with opened(tmp_path, workers, PLAN, STEP, config=config) as it:
        assert it.keys[2:] == ["w Bits, position, noise", "t Try", "l Loss", "z Closer", "f1 Keys"]
        assert it.view.learned.query(Chart).first().picture.heading == it.view.course.bits().heading
        for key in ("b", "left_square_bracket", "p", "h"):
            it.view.hints.say("")
            await it.press(key)
            assert it.news == NO_BASE and it.host.screen is it.view
        await it.press("w")
        assert it.view.has_class("-moved") and it.news == "" and it.told[2:] == []
        await it.press("ctrl+l")
        assert it.news == "a text is read whole: it has no rows to keep or drop"
        assert [name for name, _, _ in it.view.commands()][3:] == [
            "tune: Try a prompt", "tune: Ask at every validation", "tune: Bits, position, noise", "tune: Show the plan",
            "tune: Closer or all",
        ]  # fmt: skip


@pytest.mark.slow
async def test_the_plan_the_rows_and_the_command_are_shown(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers, PLAN, STEP) as it:
        again = "likely tune rows.jsonl --out out --steps 40"
        await it.press("i")
        assert isinstance(it.host.screen, Read)
        said = str(it.host.screen.query_one("VerticalScroll Static", Static).visual)
        assert said == f"rows 4\ntokens 9\n\n{again}"
        await it.press("escape", "y")
        assert it.host.went[-1] == (f"{again} --resume", "command to go on")
        await it.press("ctrl+l")
        rows = it.host.screen
        assert isinstance(rows, RowsScreen) and rows.browser.source == "rows.jsonl"
        await it.press("escape")
        await it.press("n")
        assert it.news == "a run is under way: s stops and keeps it" and not it.view.has_class("-form")
        it.report(Ended("stopped", 1))
        await it.press("n")
        assert it.view.has_class("-form")
        await it.press("escape")
        it.view.action_new(PRETRAIN)
        assert it.view.query_one(TuneForm).kind is PRETRAIN
        it.view.action_new()
        assert it.view.query_one(TuneForm).kind is PRETRAIN
        it.view.action_new(TUNE)
        form = it.view.query_one(TuneForm)
        form.field("data").value, form.field("rank").value = "mine", "none"
        it.view.action_rows()
        assert "rank" in str(it.view.query_one("#form-line", Label).visual)
        form.field("rank").value = ""
        it.view.action_rows()
        await it.pilot.pause()
        assert isinstance(it.host.screen, RowsScreen) and it.host.screen.browser.source == "mine"


async def test_a_result_is_chatted_with_once_the_run_is_over(tmp_path: Path, workers: list[NotingWorker]) -> None:
    async with opened(tmp_path, workers, PLAN, STEP) as it:
        await it.press("enter")
        assert it.view.result is None and it.host.went == ["restyle"]
        it.report(Ended("done", 40))
        await it.press("enter")
        assert it.view.result == it.host.went[-1] == ("smollm2", "runs/adapter")
    async with opened(tmp_path, workers) as it:
        assert it.view.result is None


async def test_curves_are_closer_or_whole(tmp_path: Path, workers: list[NotingWorker]) -> None:
    steps = [replace(STEP, step=n) for n in range(1, 41)]
    async with opened(tmp_path, workers, PLAN, *steps, replace(VALID, bits_per_byte=1.5)) as it:
        charts = {name: it.view.query_one(f"#{name}", Chart) for name in ("loss", "rate", "norm")}
        assert [chart.picture.left for chart in charts.values()] == [0, 0, 0]
        await it.press("z")
        assert [chart.picture.left for chart in charts.values()] == [20, 20, 20]
        await it.press("z")
        assert [chart.picture.left for chart in charts.values()] == [0, 0, 0]
        found = it.view.formula()
        assert found is not None and found.map == "metric"


async def test_what_is_small_is_laid_out_for_it(tmp_path: Path, workers: list[NotingWorker]) -> None:
    for size, slim, short in (((76, 30), False, False), ((75, 30), True, False), ((76, 29), False, True)):
        async with opened(tmp_path, workers, size=size) as it:
            assert (it.view.has_class("-slim"), it.view.has_class("-short")) == (slim, short)
            assert it.view.has_class("-loss") and not it.view.has_class("-moved")


async def test_the_palette_has_what_applies(tmp_path: Path, workers: list[NotingWorker]) -> None:
    rows = "tune: Rows of the data"
    looks = [
        "tune: What moved", "tune: Watch a prompt…", "tune: Held-out text…", "tune: Prompts through the chat template",
        "tune: Show the plan", "tune: Closer or all",
    ]  # fmt: skip

    def names(view: TuneScreen) -> list[str]:
        return [name for name, _, _ in view.commands()]

    async with opened(tmp_path, workers) as it:
        assert names(it.view) == [rows, "tune: Fine-tune…", "tune: Pretrain…"]
        list(it.view.commands())[2][2]()
        assert it.view.query_one(TuneForm).kind is PRETRAIN
        it.view.start(CONFIG, False)
        assert names(it.view) == [rows]
        it.report(PLAN)
        busy = [rows, "tune: Pause", "tune: Stop and keep", "tune: Try a prompt"]
        assert names(it.view) == [*busy, "tune: Ask at every validation", *looks]
        it.view.training.control.paused = True  # type: ignore[union-attr]
        it.view.watching.chat = True
        it.view.watching.question("why")
        plain = [looks[0], looks[1], looks[2], "tune: Prompts as plain text", *looks[4:]]
        asked = ["tune: Ask again", "tune: Ask the base", "tune: Ask at every validation"]
        assert names(it.view) == [rows, "tune: Go on", *busy[2:], *asked, *plain]
        it.view.watching.pending.clear()
        it.workers[-1].told.clear()
        commands = {name: do for name, _, do in it.view.commands()}
        commands["tune: Ask again"]()
        commands["tune: Ask the base"]()
        assert [request.base for request in it.told] == [False, True]
        it.report(Ended("stopped", 3))
        over = [rows, "tune: Fine-tune…", "tune: Pretrain…", "tune: Go on", "tune: Chat with it", "tune: Try a prompt"]
        assert names(it.view) == [*over, *asked, *plain]


async def test_the_place_under_a_cursor_is_looked_at(tmp_path: Path, workers: list[NotingWorker]) -> None:
    answer = Completion(2, Complete("why", chat=False), (step(5), step(6)), "eot")
    async with opened(tmp_path, workers, PLAN, STEP, answer) as it:
        seen: list[Any] = []
        it.view.panel.show = lambda watching, in_answer: seen.append(in_answer)  # type: ignore[method-assign]
        it.view.said.focus()
        await it.pilot.pause()
        await it.press("left")
        assert seen[-1] is not None and seen[-1] == it.view.said.cursor
        assert it.view.said.styles.max_height is not None
        assert it.view.said.styles.max_height.value == it.view.said.layout_.height + 1
        await it.to_the_run()
        await it.pilot.pause()
        assert seen[-1] is None
        it.host.went.clear()
        it.view.on_screen_resume()
        assert it.host.went == ["restyle"]
