"""Scoreboard of results made by hand, items on which two models differ, and the page with every figure of them."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from likely.app.cli.evaluation.eval_output import number
from likely.app.results import disagreements
from likely.app.results.disagreements import AdaptedModel, DifferingItem, ModelAnswer, detail
from likely.app.results.report import page, write
from likely.app.results.scoreboard import Scoreboard, ScoreKeeper, half, left_s
from likely.app.results.task_sources import sources
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.evaluate.figures.figures import Tally
from likely.engine.measure.evaluate.tasks.tasks import Result
from tests.app.results import asked, evaluation, fill, store_in

HERE = Path("nowhere")


@pytest.fixture
def store(tmp_path: Path) -> Evaluations:
    return store_in(tmp_path)


def keeper(store: Evaluations) -> ScoreKeeper:
    fill(store)
    made = ScoreKeeper()
    made.read(store)
    return made


def test_a_board_has_tasks_and_models_as_they_came(store: Evaluations) -> None:
    board = keeper(store).board(("ask", "two"), 12.5)
    assert (board.tasks, board.models) == (("choose", "ask", "read"), ("one", "two"))
    assert (board.live, board.left_s, board.left_out, board.unkept) == (("ask", "two"), 12.5, 0, "")
    scores = {cell: (score.measure, round(score.estimate.mean, 4)) for cell, score in board.scores.items()}
    assert scores == {
        ("choose", "one"): ("acc", 0.5), ("ask", "one"): ("exact", 0.3333), ("choose", "two"): ("acc", 0.6667),
        ("ask", "two"): ("exact", 0.6667), ("read", "one"): ("bits_per_byte", 1.6831),
        ("read", "two"): ("bits_per_byte", 1.8034),
    }  # fmt: skip
    assert board.scores["read", "one"].smaller_is_better and not board.scores["choose", "one"].smaller_is_better
    found = board.compared["choose", "two"]
    assert (found.task, found.measure, found.models, found.n) == ("choose", "acc", ("one", "two"), 6)
    assert set(board.compared) == {("choose", "two"), ("ask", "two"), ("read", "two")}
    assert found.change.estimate.mean == pytest.approx(1 / 6) and found.p == 1.0
    assert Scoreboard() == Scoreboard((), (), {}, {}, None, None, 0, "")


def test_what_the_other_did_not_measure_is_not_compared(store: Evaluations) -> None:
    made = ScoreKeeper()
    one, two = Tally(), Tally()
    one.add(0, None, {"a": 1.0}), two.add(0, None, {"b": 1.0})
    made.begin(evaluation("t", "one", "x"), one), made.begin(evaluation("t", "two", "x"), two)
    assert made.board().compared == {} and len(made.board().scores) == 2
    two.add(1, None, {"a": 1.0})
    assert made.board().compared == {}, "of no common item"


def test_the_latest_sixty_are_shown(store: Evaluations) -> None:
    for i in range(62):
        each = evaluation(f"t{i}", "m", "x")
        store.begin(each)
        store.keep(each, [Result(0, None, {"acc": 1.0}, {})])
    made = ScoreKeeper()
    made.read(store)
    assert made.left_out == 2 and len(made.tallies) == 60 and ("t61", "m") in made.tallies
    assert ("t1", "m") not in made.tallies and ("t2", "m") in made.tallies


def test_time_that_is_left_is_at_the_pace_since_the_beginning() -> None:
    assert left_s(100, 30, 10, 5.0) == pytest.approx(17.5) and left_s(100, 10, 10, 3.0) == 270.0
    assert left_s(0, 3, 0, 5.0) is None
    assert half(Estimate(1.0, 0.0, bounds=(0.5, 2.5))) == 1.0 and half(Estimate(1.0, math.inf, 1, n=1)) == math.inf


# -- items on which two differ ---------------------------------------------------------------------------------------


def look(store: Evaluations, *names: str, task: str = "choose") -> disagreements.TaskDetail:
    made = keeper(store)
    return detail(store, [made.evaluations[task, name] for name in names], [made.tallies[task, name] for name in names])


def test_the_items_of_a_text_are_its_windows_and_nothing_is_said_to_be_gone(store: Evaluations, tmp_path: Path) -> None:
    (one,) = [each for each in fill(store) if (each.task, each.model) == ("read", "one")]
    here = replace(one, place={"text": str(tmp_path / "book.txt")})
    made = ScoreKeeper()
    made.read(store)
    found = detail(store, [here], [made.tallies["read", "one"]])
    assert found.windows and found.note == "windows of a text: f4 measures it word by word"
    assert not look(store, "one").windows


def test_items_of_two_are_those_that_one_has_right(store: Evaluations) -> None:
    found = look(store, "one", "two")
    assert (found.task, found.models) == ("choose", ("one", "two"))
    assert (found.common, found.differing, found.won, found.lost) == (6, 1, 1, 0)
    assert found.note == "the items' texts are not where they were when this was measured" and not found.chat
    (item,) = found.items
    assert (item.number, item.title, item.prompt, item.answer) == (1, "item 2", "", "")
    assert item.said == (
        ModelAnswer("choice 2", "", 0.0, False, -3.0), ModelAnswer("choice 1", "", 1.0, True, -1.0),
    )  # fmt: skip
    assert item.bits == pytest.approx(2 / math.log(2))
    assert found.confidence[0] is not None and len(found.confidence) == 2
    assert sum(each.count for each in found.confidence[0].bins) == 6
    assert found.confidence[0].ece.mean == pytest.approx(0.4623, abs=1e-4)
    back = look(store, "two", "one")
    assert (back.won, back.lost) == (0, 1)


def test_items_of_one_are_those_that_it_has_wrong_the_surest_first(store: Evaluations) -> None:
    found = look(store, "one")
    assert [item.number for item in found.items] == [4, 1, 5] or [item.number for item in found.items] == [5, 4, 1]
    assert (found.common, found.won, found.lost, found.differing) == (6, 0, 0, len(found.items))
    answers = look(store, "one", task="ask")
    assert [item.said[0].text for item in answers.items] == ["it is 1\n<b>", "it is 2\n<b>"]
    assert [item.bits for item in answers.items] == [None, None]
    assert answers.confidence == (None,)


def test_questions_are_those_that_one_has_right(store: Evaluations) -> None:
    found = look(store, "one", "two", task="ask")
    assert [(item.number, item.said[0].right, item.said[1].right) for item in found.items] == [(1, False, True)]
    assert found.items[0].bits is None
    texts = look(store, "one", "two", task="read")
    assert [item.number for item in texts.items] == [0, 1], "the farther apart first"
    assert [said.text for said in texts.items[0].said] == ["", ""]


def test_the_most_are_listed_and_all_counted(store: Evaluations) -> None:
    one = evaluation("t", "m", "choices")
    store.begin(one)
    store.keep(one, [Result(i, None, {"acc": 0.0}, {}) for i in range(201)])
    found = detail(store, [one], [store.tally(one)])
    assert (len(found.items), found.differing) == (200, 201) and found.items[-1].number == 199


def shown(folder: Path, row: str, *rows: Result) -> tuple[DifferingItem, ...]:
    """The items of a task's file, by what one model said of its first, or two models."""
    path = folder / "task.jsonl"
    path.write_text(row + "\n")
    (found,) = sources([str(path)])
    store = store_in(folder)
    each = [
        Evaluation("task", f"m{i}", asked("x", f"m{i}") | {"source": found.source.identity}, (), found.place)
        for i in range(len(rows))
    ]
    for one, kept in zip(each, rows, strict=True):
        store.begin(one)
        store.keep(one, [kept])
    items = detail(store, each, [store.tally(one) for one in each]).items
    store.close()
    return items


def said(measures: dict[str, float], **more: Any) -> Result:
    return Result(0, None, measures, more)


def test_each_form_has_its_prompt_and_answer(tmp_path: Path) -> None:
    """As they stand in the task's file; of a pair, the words that the model found likelier."""
    for place, (row, prompt, answer, kept, text) in enumerate((
        ({"prompt": "q", "answer": "a"}, "q", "a", said({"exact": 0.0}, answers=["so"]), "so"),
        ({"context": "c", "choices": ["x", "y"], "gold": 1}, "c", "y",
         said({"acc": 0.0}, loglikelihoods=[-1.0, -3.0], gold=1), "x"),
        ({"context": "c", "choices": ["x", "y"], "gold": 1}, "c", "y", said({"acc": 0.0}), ""),
        ({"good": "well", "bad": "ill"}, "", "well", said({"acc": 0.0}, loglikelihoods=[-3.0, -1.0]), "ill"),
        ({"context": "c", "changed": "d"}, "d", "", said({"kl": 0.5}, loglikelihoods=[-2.0]), ""),
        ({"text": "words"}, "words", "", said({"nats": 2.0}, loglikelihoods=[-2.0]), ""),
    )):  # fmt: skip
        folder = tmp_path / str(place)
        folder.mkdir()
        (found,) = shown(folder, json.dumps(row), kept)
        assert (found.prompt, found.answer, found.title) == (prompt, answer, prompt or answer), row
        assert found.said[0].text == text, row


@pytest.mark.parametrize(
    ("prompt", "title"),
    [("a\n b \nAnswer:\n", "b"), ("Answer:\nA:", "A:"), ("x\n\n", "x"), ("q\na: b", "a: b"), ("x##y", "x##y")],
)
def test_a_title_is_the_last_line_that_says_something(tmp_path: Path, prompt: str, title: str) -> None:
    (found,) = shown(tmp_path, json.dumps({"prompt": prompt, "answer": "a"}), said({"exact": 0.0}, answers=["b"]))
    assert found.title == title


def test_how_far_apart_two_are_is_in_bits_where_it_is_known(tmp_path: Path) -> None:
    choices = [said({"acc": x}, loglikelihoods=[ll, -2.0], gold=0) for x, ll in ((1.0, -1.0), (0.0, -3.0))]
    (found,) = shown(tmp_path, json.dumps({"context": "c", "choices": ["x", "y"], "gold": 0}), *choices)
    assert found.bits == pytest.approx(-2.0 / math.log(2)) and [each.right for each in found.said] == [True, False]
    (tmp_path / "other").mkdir()
    answers = [said({"exact": x}, answers=["b"]) for x in (0.0, 1.0)]
    (found,) = shown(tmp_path / "other", json.dumps({"prompt": "q", "answer": "b"}), *answers)
    assert found.bits is None and [each.right for each in found.said] == [False, True]


def test_an_adapter_names_its_base_and_a_chat_is_called_one(store: Evaluations, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"model": "base"}')
    one = Evaluation("t", str(folder), asked("choices", "x"))
    store.begin(one)
    store.keep(one, [Result(0, None, {"acc": 0.5}, {})])
    found = detail(store, [one], [store.tally(one)])
    assert (
        found.bases == {str(folder): AdaptedModel("base", ((str(folder), 1.0),))}
        and found.items[0].said[0].value == 0.5
        and not found.chat
    )
    one = replace(one, asked={**one.asked, "protocol": {"chat": True}})
    store.begin(one)
    store.keep(one, [Result(0, None, {"acc": 0.5}, {})])
    assert detail(store, [one], [store.tally(one)]).chat
    for name, base in (("m", AdaptedModel("m", ())), (str(folder), AdaptedModel("base", ((str(folder), 1.0),)))):
        rounded = replace(one, model=f"{name} + 8-bit activations", place={"model": name, "adapters": ()})
        assert detail(store, [rounded], [store.tally(rounded)]).bases == {rounded.model: base}


def test_a_page_has_every_figure_and_how_to_measure_it_again(store: Evaluations, tmp_path: Path) -> None:
    measured = fill(store)
    text = page(store, measured)
    board = ScoreKeeper()
    board.read(store)
    for (task, model), score in board.board().scores.items():
        assert f"<td>{model}<td class=n>{number(score.estimate.mean)}<td>" in text, (task, model)
        assert f"likely eval {task} -M {model}" in text
    assert "odd <questions>" not in text and "it is 1" in text and "<b>" not in text
    write(tmp_path / "r.html", store, measured)
    assert (tmp_path / "r.html").read_text() == text


def test_a_page_of_one_model_compares_nothing(store: Evaluations) -> None:
    done = fill(store)
    text = page(store, [replace(done[0], below=3)])
    assert "against" not in text and "differ" not in text and "<h1>one</h1>" in text
    assert text.count("<figure>") == 1 and "<td class=n>3<td>" in text, "three items lie below the third"
    assert page(store, [replace(done[0], command=())]).count("<pre>likely") == 0


def test_bars_of_a_measure_are_on_one_scale_with_room_at_its_ends(store: Evaluations) -> None:
    """A share of 0.5 is as far between its ends as it is between the ends of the widest interval and 8 % more."""
    text = page(store, [each for each in fill(store) if each.task == "ask"])
    rows = re.findall(r"<td class=n>([\d.]+)<td>([\d.-]+) to ([\d.-]+)<td class=n>3<td>(.*?)</tr>", text)
    assert len(rows) == 2
    low, high = min(float(row[1]) for row in rows), max(float(row[2]) for row in rows)
    space = 0.08 * (high - low)
    for mean, *ends, bar in rows:
        places = [float(re.search(rf'{name}="([\d.]+)"', bar)[1]) for name in ("cx", "x1", "x2")]  # type: ignore[index]
        for value, place in zip(map(float, (mean, *ends)), places, strict=True):
            assert place == pytest.approx(420 * (value - low + space) / (high - low + 2 * space), abs=0.1)


def test_a_circle_is_as_large_as_its_bin_is_full(store: Evaluations) -> None:
    each = evaluation("t", "m", "choices")
    store.begin(each)
    rows = [(0.5, 1.0), (0.5, 0.0), (0.5, 1.0), (0.5, 0.0), (0.99, 1.0)]
    store.keep(each, [Result(i, None, {"acc": right, "confidence": sure}, {}) for i, (sure, right) in enumerate(rows)])
    drawn = page(store, [each])
    assert "confidence 0.50, right 0.50, 4 items" in drawn and "confidence 0.99, right 1.00, 1 items" in drawn
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"[^>]*><title>', drawn)
    assert circles == [("130.0", "130.0", "10.0"), ("257.4", "0.0", "6.5")]  # of 260; an area of a quarter more than 3


def test_only_so_many_items_are_shown_that_two_models_have_otherwise(store: Evaluations) -> None:
    one, two = evaluation("t", "one", "choices"), evaluation("t", "two", "choices")
    for each, value in ((one, 1.0), (two, 0.0)):
        store.begin(each)
        store.keep(each, [Result(i, None, {"acc": value}, {"answers": ["x" * 300]}) for i in range(40)])

    def items(text: str) -> int:
        return text.count("<tr><td class=n>")

    drawn = page(store, [one, two])
    assert items(drawn) == 30 and "x" * 201 not in drawn
    assert items(page(store, [replace(one, below=2), two])) == 2 and items(page(store, [one])) == 0


def test_shares_that_differ_are_no_right_and_wrong(store: Evaluations) -> None:
    one, two = evaluation("t", "one", "choices"), evaluation("t", "two", "choices")
    rows = [(0.0, "a"), (0.5, "a"), (1.0, "b"), (1.0, "b")], [(1.0, "a"), (0.0, "a"), (1.0, "b"), (0.5, "c")]
    for each, values in zip((one, two), rows, strict=True):
        store.begin(each)
        store.keep(each, [Result(i, None, {name: value}, {}) for i, (value, name) in enumerate(values)])
    drawn = page(store, [one, two])
    assert [drawn.count(f"<tr><td class=n>{i}<") for i in range(4)] == [1, 0, 0, 0]
