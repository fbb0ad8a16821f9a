"""Evaluations on the screen: what a person asks for, sees as it goes, stops, takes up again, looks into and reports."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from likely.app.jobs import requests as r
from likely.app.jobs.evaluation_jobs import EvaluationJobs
from likely.app.results.scoreboard import Scoreboard
from likely.app.results.task_sources import sources
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.engine.base.errors import DataError
from likely.engine.measure.evaluate.tasks.tasks import Result
from tests.pictures import assert_picture
from tests.support.evaluator import ScriptedEvaluator
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

MODELS = ("mild", "good", "bad")
SUMS = [
    {"context": f"What is {i} + {i + 3}?\nAnswer:", "choices": [str(2 * i + k) for k in (3, 4, 0)], "gold": i % 3}
    for i in range(40)
]
Open = Callable[..., Screen]


@pytest.fixture
def view(tmp_path: Path) -> Iterator[Open]:
    """Opens the view of evaluations in a program with three models; beside it a file of sums."""
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SUMS))
    with ExitStack() as running:

        def opened(**how: object) -> Screen:
            engines = [ScriptedEngine(name) for name in MODELS]
            found = running.enter_context(Screen(tmp_path, *engines, **how))  # type: ignore[arg-type]
            found.press("f7")
            return found

        yield opened


def measure(screen: Screen, tasks: str = "sums.jsonl", models: str = "mild good bad", items: str = "") -> None:
    screen.press("n")
    screen.type(tasks)
    screen.press("tab", "ctrl+a", "ctrl+k")
    screen.type(models)
    screen.press("tab")
    screen.say(items)


def measured(screen: Screen, model: str, task: str = "sums") -> list[float]:
    """What is kept of each item: whether it was right."""
    store = Evaluations(screen.home / "evaluations.db")
    try:
        found = next(each for each in store.all() if (each.task, each.model) == (task, model))
        return [row.values["acc"] for row in store.rows(found)]
    finally:
        store.close()


def row_of(screen: Screen, words: str) -> str:
    return next(line for line in screen.lines if words in line)


@pytest.mark.slow
def test_models_stand_side_by_side_each_against_the_first(view: Open) -> None:
    screen = view()
    assert "nothing was measured yet · n begins" in screen.text
    measure(screen, "sums.jsonl markov:items=6")
    row = row_of(screen, "sums  ")
    for model in MODELS:
        assert f"{sum(measured(screen, model)) / 40:.3f}" in row
    assert row.index("▲ better") < row.index("▼ worse") and "lower is better" in screen.text
    assert "not seen   1.2" in row_of(screen, "markov:items=6 ")  # six documents say too little
    assert "∎ done · kept" in screen.text and "after Holm over 4 comparisons" in screen.text


@pytest.mark.slow
def test_the_items_on_which_two_models_differ_are_opened_with_their_tokens(view: Open) -> None:
    screen = view()
    measure(screen)
    assert "WHERE A IS WRONG  14 of 40" in screen.text and "ECE" in screen.text
    screen.press("right")
    a, b = measured(screen, "mild"), measured(screen, "good")
    won, lost = sum(y > x for x, y in zip(a, b, strict=True)), sum(x > y for x, y in zip(a, b, strict=True))
    assert f"WHERE A AND B DIFFER  {won + lost} of 40" in screen.text
    assert f"B alone right {won} · A alone {lost}" in screen.text
    assert f"Δ = mean(b_i − a_i) = {(won - lost) / 40:+.3f}" in screen.text
    screen.press("enter", "down")
    assert "ITEM 39 " in screen.text and "∎ 76 the answer" in screen.text and "▶B said  √ right" in screen.text
    screen.press("equals_sign")
    assert "McNemar" in screen.text and "four times in five" in screen.text
    screen.press("escape", "enter")  # what the other said, token by token
    screen.wait(2)
    assert "What is 38 + 41?" in screen.text and "Answer: 76" in screen.text and "ppl" in screen.lines[0]


@pytest.mark.slow
def test_a_task_is_asked_in_other_ways(view: Open) -> None:
    screen = view()
    screen.press("v")
    assert "n measures a task first" in screen.text
    measure(screen, models="mild good", items="20")
    screen.press("right", "v")
    ways = ["sums", *(f"sums (typos {number})" for number in range(1, 8))]
    means = [np.mean(measured(screen, "good", way)[:20]) for way in ways]
    rows = ["sums ", *(f"  typos {number} " for number in range(1, 8))]
    assert len(set(means)) > 1 and all(
        f"{mean:.3f}" in row_of(screen, row) for row, mean in zip(rows, means, strict=True)
    )
    told = f"asked in 8 ways: {min(means):.3f} to {max(means):.3f}, spread {np.std(means, ddof=1):.3f}"
    assert told in screen.text
    screen.press(*["down"] * 3, "enter")  # an item as it was asked in the third way
    assert "ITEM" in screen.text and "is not there any more" not in screen.text


@pytest.mark.slow
def test_a_run_pauses_goes_on_behind_other_views_stops_and_is_taken_up(view: Open) -> None:
    evaluator = ScriptedEvaluator()
    screen = view(evaluator=evaluator)
    evaluator.pace = lambda model, number: screen.hold() if number == 12 else None
    measure(screen, models="mild")
    assert len(evaluator.asked) == 13 and "● sums · mild · " in screen.text
    screen.press("space")
    assert "paused" in screen.text
    screen.press("n")
    assert "s stops and keeps it" in screen.text
    screen.press("f2", "f7")
    assert "paused" in screen.text
    screen.press("s")
    screen.release()
    done = len(evaluator.asked)
    assert done < 40 and "go on from there" in screen.text and len(measured(screen, "mild")) == done
    evaluator.pace = lambda model, number: None
    measure(screen, models="mild")
    assert "∎ done" in screen.text
    assert sorted(number for _, _, number in evaluator.asked) == list(range(40))  # nothing twice
    assert f"WHERE A IS WRONG  {40 - sum(measured(screen, 'mild')):.0f} of 40" in screen.text  # the last items too


@pytest.mark.slow
def test_what_was_measured_before_is_there_and_is_reported(view: Open, tmp_path: Path) -> None:
    screen = view()
    measure(screen)
    screen.press("ctrl+q")
    (tmp_path / "sums.jsonl").unlink()
    screen = view()
    assert "what was measured before" in screen.text and "0.900" in row_of(screen, "sums  ")
    screen.press("enter", "enter")
    assert "are not where they were" in screen.text and "not there any more" in screen.text
    screen.press("e")
    (page,) = screen.home.glob("evaluations-*.html")
    assert f"report: {page}" in screen.foot.replace("- ", "-") and "0.900" in page.read_text()


def test_what_was_measured_with_adapters_is_opened_with_those_alone(view: Open, tmp_path: Path) -> None:
    (source,) = sources([str(tmp_path / "sums.jsonl")])
    asked = {"source": source.source.identity, "form": "choices", "protocol": {"chat": False}}
    place = {**source.place, "model": "mild", "adapters": [["style", 0.5]]}
    (tmp_path / "home").mkdir()
    store = Evaluations(tmp_path / "home" / "evaluations.db")
    its = Evaluation("sums", "mild + style", asked, (), place)
    store.begin(its)
    store.keep(its, [Result(0, None, {"acc": 0.0}, {"loglikelihoods": [-1.0, -2.0, -3.0], "gold": 1})])
    store.close()
    screen = view()
    screen.press("f2")
    screen.say("/adapter other")
    screen.press("f7", "enter", "enter")
    screen.wait(2)
    assert "What is 0 + 3?" in screen.text
    assert [(each.name, each.weight) for each in screen.models[0].adapters.values()] == [("style", 0.5)]


@pytest.mark.slow
def test_mistakes_in_what_is_asked_for_stay_to_be_mended(view: Open) -> None:
    evaluator = ScriptedEvaluator()
    screen = view(evaluator=evaluator)
    screen.press("n", "enter")
    assert "give a file, or one of arithmetic" in screen.text
    screen.say("nothing.jsonl")
    assert "there is no file nothing.jsonl" in screen.text
    screen.press("ctrl+a", "ctrl+k")
    screen.type("sums.jsonl")
    screen.press("tab", "tab")
    screen.say("some")
    assert "a whole number from 1 on, got 'some'" in screen.text
    screen.press("ctrl+a", "ctrl+k", "4", "enter")
    assert "∎ done" in screen.text
    assert evaluator.asked == [("sums", "mild", number) for number in range(4)]  # the chat's model was there already


@pytest.mark.slow
def test_what_cannot_be_measured_is_said_and_the_view_goes_on(view: Open) -> None:
    evaluator = ScriptedEvaluator(refuse=DataError("there is no model nowhere"))
    screen = view(evaluator=evaluator)
    measure(screen, models="nowhere")
    assert "▲ there is no model nowhere" in screen.text
    evaluator.refuse = None
    measure(screen, models="mild")
    assert "∎ done" in screen.text


def test_a_disk_that_keeps_nothing_is_said_and_costs_no_score(tmp_path: Path) -> None:
    sums = tmp_path / "sums.jsonl"
    sums.write_text("".join(json.dumps(row) + "\n" for row in SUMS))
    jobs = EvaluationJobs(ScriptedEvaluator, sums / "evaluations.db")  # in a file, where no folder can be
    events = list(jobs.execute(r.Evaluate((str(sums),), ("mild", "good")), lambda event: None))
    boards = [each for each in events if isinstance(each, Scoreboard)]
    assert all("results are not kept" in each.unkept for each in boards)
    assert {score.estimate.n for score in boards[-1].scores.values()} == {40} and boards[-1].compared
    (detail,) = jobs.execute(r.Examine("sums", ("mild", "good")), lambda event: None)
    assert detail.common == 40
    jobs.close()


@pytest.mark.slow
def test_many_tasks_are_walked_through_in_few_rows(view: Open) -> None:
    screen = view(size=(80, 24))
    tasks = ["sums.jsonl", *(f"lookup:items={n}" for n in range(3, 12))]
    measure(screen, " ".join(tasks), models="mild good")
    seen = []
    for _ in tasks:
        seen.append(next(line.split()[0].lstrip("▶") or line.split()[1] for line in screen.lines if "▶" in line[:3]))
        screen.press("down")
    assert len({*seen}) == len(tasks)  # each is chosen once, and where a person stands is always seen


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_the_board_looks_as_in_its_pictures(view: Open, size: tuple[int, int]) -> None:
    screen = view(size=size)
    measure(screen, "sums.jsonl brackets:items=12 lookup:items=12 markov:items=4")
    screen.press("right")
    assert_picture(f"screen/pictures/runs-{size[0]}x{size[1]}.txt", screen.text + "\n")
