"""Report of evaluations: a page with every figure, from results made by hand."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from likely.app.cli.eval_output import number
from likely.app.evaluations import Evaluations
from likely.app.report import page, write
from likely.app.scoreboard import ScoreKeeper
from likely.engine.evaluate.tasks import Result
from tests.app.results import evaluation, fill, store_in


@pytest.fixture
def store(tmp_path: Path) -> Evaluations:
    return store_in(tmp_path)


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
