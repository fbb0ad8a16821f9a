"""The evaluation view with a scripted evaluator: a run as it goes, its ends, its items; and as pictures."""

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Label

from app import requests as r
from app.differing import TaskDetail
from app.evaluation_jobs import EvaluationJobs
from app.evaluations import Evaluations
from app.scoreboard import Scoreboard
from app.tui.dialogs.evaluation import NewEvaluation
from app.tui.dialogs.palette import entries
from app.tui.views.runs import RunsScreen
from app.tui.views.text import TextScreen
from app.tui.widgets.gauge import Gauge
from engine.errors import DataError
from tests.support.evaluator import ScriptedEvaluator
from tests.tui.conftest import Play, Stage, assert_screen

SIZES = {"120x40": (120, 40), "80x24": (80, 24), "60x20": (60, 20)}
MODELS = ("mild", "good", "bad")
SUMS = [
    {"context": f"What is {i} + {i + 3}?\nAnswer:", "choices": [str(2 * i + k) for k in (3, 4, 0)], "gold": i % 3}
    for i in range(40)
]


@pytest.fixture
def sums(tmp_path: Path) -> str:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in SUMS))
    return str(path)


def view(stage: Stage) -> RunsScreen:
    found = stage.app.screen
    assert isinstance(found, RunsScreen)
    return found


def line(stage: Stage) -> str:
    standing = view(stage).query_one(Gauge).standing
    return " | ".join([standing.words, *standing.facts])


def looked(stage: Stage, *models: str) -> TaskDetail | None:
    """What is known of the task that is chosen, once it is of these models."""
    found = view(stage).detail
    return found if found is not None and found.models == models and found.task == view(stage).table.chosen else None


@asynccontextmanager
async def opened(
    play: Play, evaluator: ScriptedEvaluator, order: r.Evaluate | None = None, **how: Any
) -> AsyncIterator[Stage]:
    """The view; with an order, a run that was started."""
    async with play(evaluator=evaluator, **how) as stage:
        stage.app.go("runs")
        await stage.until(lambda: isinstance(stage.app.screen, RunsScreen) and view(stage).worker is not None)
        if order is not None:
            view(stage).start(order)
        yield stage


async def finished(stage: Stage) -> None:
    await stage.until(lambda: view(stage).state == "done", "the end of the run")
    await stage.until(lambda: looked(stage, "mild"), "a look at the first task")


@pytest.mark.slow
async def test_intervals_shrink_and_models_stand_side_by_side(play: Play, sums: str) -> None:
    evaluator, gate = ScriptedEvaluator(), threading.Event()
    wide: list[float] = []
    evaluator.pace = lambda model, number: gate.wait(30) and None if (model, number) == ("good", 8) else None
    order = r.Evaluate((sums, "markov:items=6"), MODELS)
    async with opened(play, evaluator, order) as stage:
        held = ("sums", "good")
        await stage.until(lambda: view(stage).board.live == held, "the second model")
        await stage.until(lambda: len(evaluator.asked) >= 40 + 6 + 8)
        assert "sums · good · " in line(stage) and "not measured" not in stage.picture()
        gate.set()
        await finished(stage)
        board = view(stage).board
        wide = [high - low for low, high in (board.scores["sums", m].estimate.interval for m in ("mild", "good"))]
        assert all(0 < each < 0.4 for each in wide)
        assert board.compared["sums", "good"].verdict == "better"
        assert board.compared["markov:items=6", "bad"].verdict == "worse"  # of bits a byte, less is better
        picture = stage.picture()
        assert "▲ better" in picture and "▼ worse" in picture and "lower is better" in picture
        assert "∎ done" in line(stage) and "after Holm over 4 comparisons" in picture
        right = sum(row["acc"] for row in measures(stage, "sums", "good"))
        assert f"{right / 40:.3f}" in picture


def measures(stage: Stage, task: str, model: str) -> list[Any]:
    store = Evaluations(stage.app.home / "evaluations.db")
    found = next(each for each in store.all() if (each.task, each.model) == (task, model))
    rows = [row.measures for row in store.rows(found)]
    store.close()
    return rows


@pytest.mark.slow
async def test_the_items_on_which_two_models_differ_open_with_their_tokens(play: Play, sums: str) -> None:
    async with opened(play, ScriptedEvaluator(), r.Evaluate((sums,), MODELS)) as stage:
        await finished(stage)
        await stage.pilot.press("right")
        await stage.until(lambda: looked(stage, "mild", "good"))
        a, b = measures(stage, "sums", "mild"), measures(stage, "sums", "good")
        detail = view(stage).detail
        assert detail is not None
        assert detail.won == sum(y["acc"] > x["acc"] for x, y in zip(a, b, strict=True)) > 0
        assert detail.differing == detail.won + detail.lost == len(detail.items) and detail.common == 40
        assert all(item.said[0].right != item.said[1].right for item in detail.items)
        await stage.pilot.press("enter", "down")
        item = view(stage).items.item
        assert item is not None and item == detail.items[1] and f"ITEM {item.number + 1}" in stage.picture()
        row = SUMS[item.number]
        assert item.answer == row["choices"][row["gold"]] and item.prompt == row["context"]  # type: ignore[index]
        stage.app.switch_model = lambda name: switched.append(name)  # type: ignore[method-assign]
        switched: list[str] = []
        await stage.pilot.press("enter")
        await stage.until(lambda: isinstance(stage.app.screen, TextScreen))
        text = stage.app.screen
        assert isinstance(text, TextScreen) and switched == ["good"]
        await stage.until(lambda: text.buffer.text == f"{row['context']} {item.said[1].text}")
        await stage.until(lambda: text.measured == text.buffer.text and text.steps, "every token's surprisal")


@pytest.mark.slow
async def test_it_goes_on_behind_other_views_pauses_stops_and_takes_up_again(play: Play, sums: str) -> None:
    evaluator, gate = ScriptedEvaluator(), threading.Event()
    evaluator.pace = lambda model, number: gate.wait(30) and None if number == 12 else None
    order = r.Evaluate((sums,), ("mild",))
    async with opened(play, evaluator, order) as stage:
        it = view(stage)
        await stage.until(lambda: len(evaluator.asked) == 12 and it.state == "measuring")
        await stage.pilot.press("space")
        gate.set()
        assert it.state == "paused" and "paused" in line(stage)
        names = {name for name, _, _ in entries(it)}
        assert {"runs: Go on", "runs: Stop and keep"} <= names and "runs: New…" not in names
        await stage.pilot.press("n")
        assert "s stops and keeps it" in it.hints.news
        stage.app.go("chat")
        stage.app.go("runs")
        assert view(stage) is it and it.state == "paused"
        await stage.pilot.press("s")
        await stage.until(lambda: it.state == "stopped")
        done = len(evaluator.asked)
        assert done < 40 and "go on from there" in line(stage)
        it.start(r.Evaluate((sums,), ("mild",)))
        await finished(stage)
        assert sorted(number for _, _, number in evaluator.asked) == list(range(40))  # nothing twice


@pytest.mark.slow
async def test_what_was_measured_before_is_there_and_can_be_reported(play: Play, sums: str) -> None:
    async with opened(play, ScriptedEvaluator(), r.Evaluate((sums, "lookup:items=5"), MODELS)) as stage:
        await finished(stage)
    Path(sums).unlink()
    async with opened(play, ScriptedEvaluator()) as stage:
        await stage.until(lambda: view(stage).board.scores, "the scores of before")
        assert view(stage).board.models == MODELS and "what was measured before" in line(stage)
        view(stage).table.at = view(stage).table.rows.index("sums")
        view(stage).look()
        await stage.until(lambda: looked(stage, "mild"))
        await stage.pilot.press("enter", "enter")
        assert "not there any more" in view(stage).hints.news and "are not where they were" in stage.picture()
        await stage.pilot.press("e")
        await stage.until(lambda: list(stage.app.home.glob("evaluations-*.html")))
        await stage.until(lambda: "report: " in view(stage).hints.news)
        score = view(stage).board.scores["sums", "mild"]
        await stage.pilot.press("equals_sign")
        assert (
            "four times in five" in stage.picture()
            and f"{score.measure} = {score.estimate.mean:.3f} [" in stage.picture()
        )


@pytest.mark.slow
async def test_a_run_is_asked_for_in_a_few_fields_and_mistakes_stay_to_be_mended(play: Play, sums: str) -> None:
    evaluator = ScriptedEvaluator()
    async with opened(play, evaluator) as stage:
        await stage.until(lambda: "nothing was measured yet" in line(stage))
        await stage.pilot.press("n")
        form = stage.app.screen
        assert isinstance(form, NewEvaluation) and form.query_one("#asked-models", Input).value == "scripted"
        said = lambda: str(form.query_one("#asked-line", Label).visual)  # noqa: E731
        await stage.pilot.press("enter")
        assert "give a file, or one of arithmetic" in said()
        form.query_one("#asked-tasks", Input).value = "nothing.jsonl"
        await stage.pilot.press("enter")
        assert "there is no file nothing.jsonl" in said()
        form.query_one("#asked-tasks", Input).value = sums
        form.query_one("#asked-items", Input).value = "some"
        await stage.pilot.press("enter")
        assert "a whole number from 1 on, got 'some'" in said()
        form.query_one("#asked-items", Input).value = "4"
        await stage.pilot.press("enter")
        await stage.until(lambda: isinstance(stage.app.screen, RunsScreen) and view(stage).state == "done")
        assert [each[1:] for each in evaluator.asked] == [("scripted", n) for n in range(4)]


def test_a_disk_that_keeps_nothing_is_said_and_costs_no_score(sums: str) -> None:
    jobs = EvaluationJobs(ScriptedEvaluator, Path(sums) / "evaluations.db")  # in a file, where no folder can be
    events = list(jobs.execute(r.Evaluate((sums,), ("mild", "good")), lambda event: None))
    boards = [each for each in events if isinstance(each, Scoreboard)]
    assert all("results are not kept" in each.unkept for each in boards)
    assert {score.estimate.n for score in boards[-1].scores.values()} == {40} and boards[-1].compared
    (detail,) = jobs.execute(r.Examine("sums", ("mild", "good")), lambda event: None)
    assert detail.common == 40
    jobs.close()


@pytest.mark.slow
async def test_what_cannot_be_measured_is_said_and_the_view_goes_on(play: Play, sums: str) -> None:
    evaluator = ScriptedEvaluator(refuse=DataError("there is no model nowhere"))
    async with opened(play, evaluator, r.Evaluate((sums,), ("nowhere",))) as stage:
        await stage.until(lambda: view(stage).state == "failed")
        assert "there is no model nowhere" in line(stage)
        evaluator.refuse = None
        view(stage).start(r.Evaluate((sums,), ("mild",)))
        await finished(stage)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_pictures(play: Play, sums: str, size: str) -> None:
    order = r.Evaluate((sums, "brackets:items=12", "lookup:items=12", "markov:items=4"), MODELS)
    async with opened(play, ScriptedEvaluator(), order, size=SIZES[size]) as stage:
        await finished(stage)
        await stage.pilot.press("right")
        await stage.until(lambda: looked(stage, "mild", "good"))
        await assert_screen(stage, f"runs-table-{size}.txt", stage.picture)
        await stage.pilot.press("enter", "down")
        await assert_screen(stage, f"runs-items-{size}.txt", stage.picture)
        await stage.pilot.press("escape", "r")
        await assert_screen(stage, f"runs-reliability-{size}.txt", stage.picture)
