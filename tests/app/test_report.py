"""Report of evaluations: its page to the last mark, from results made by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from app import report
from app.evaluations import Evaluations, Row
from app.report import page, write
from engine.evaluate.estimates import Change, Estimate
from engine.evaluate.figures import ComparedMeasure, Tally
from tests.app.results import evaluation, fill, store_in
from tests.pictures import assert_picture


@pytest.fixture
def store(tmp_path: Path) -> Evaluations:
    return store_in(tmp_path)


def test_a_page_has_every_figure_and_how_to_measure_it_again(store: Evaluations, tmp_path: Path) -> None:
    measured = [(each.evaluation, None) for each in fill(store)]
    text = page(store, measured)
    assert text.startswith(
        '<!doctype html>\n<html lang=en><head><meta charset="utf-8"><title>likely eval</title><style>'
    )
    assert_picture("app/pictures/report.html", text.partition("<body>")[2].replace("><", ">\n<"))
    write(tmp_path / "r.html", store, measured)
    assert (tmp_path / "r.html").read_text() == text


def test_a_page_of_one_model_compares_nothing(store: Evaluations) -> None:
    done = fill(store)
    text = page(store, [(done[0].evaluation, 3)])
    assert "against" not in text and "differ" not in text and "<h1>one</h1>" in text
    assert text.count("<figure>") == 1 and "<td class=n>3<td>" in text, "three items lie below the third"
    assert page(store, [(replace(done[0].evaluation, command=()), None)]).count("<pre>likely") == 0


def test_a_reading_of_a_bar_is_on_the_scale_of_its_measure() -> None:
    found = Estimate(0.5, 0.1, bounds=(0.25, 0.75))
    line = '<line x1="105.0" x2="315.0" y1="9" y2="9" stroke="red" stroke-width="3" stroke-linecap="round"/>'
    assert report._bar(found, 0.0, 1.0, "red") == (
        f'<svg width="420" height="18">{line}<circle cx="210.0" cy="9" r="5" fill="red"/></svg>'
    )
    open_ = report._bar(replace(found, bounds=(float("-inf"), float("inf"))), 0.0, 1.0, "red")
    assert 'x1="0" x2="420"' in open_ and 'cx="210.0"' in open_
    beyond = report._bar(replace(found, bounds=(-5.0, 5.0)), 0.0, 1.0, "red")
    assert 'x1="0.0" x2="420.0"' in beyond
    assert report._bar(replace(found, error=0.0), 0.0, 1.0, "red") == ""
    assert report._bar(replace(found, mean=float("nan")), 0.0, 1.0, "red") == ""


def test_a_scale_has_some_room_at_its_ends() -> None:
    assert report._range([Estimate(1.0, 0.1, bounds=(0.0, 2.0)), Estimate(3.0, 0.1, bounds=(2.0, float("inf")))]) == (
        pytest.approx(-0.24), pytest.approx(3.24),
    )  # fmt: skip
    assert report._range([]) == (pytest.approx(-0.08), pytest.approx(1.08))
    assert report._range([Estimate(2.0, 0.0)]) == (pytest.approx(1.92), pytest.approx(2.08))


def test_a_sentence_is_coloured_by_its_verdict() -> None:
    def said(mean: float, p: float, error: float = 0.1) -> str:
        change = Change(Estimate(mean, error, 9, n=10), p)
        return report._sentence(ComparedMeasure("t", "acc", ("a<c", "b"), change, p, 10))

    assert said(0.5, 0.001) == (
        "<p>acc: b against a&lt;c +0.5000 (0.2738 to 0.7262; p 0.001, 10 items): <b class='better'>better</b></p>"
    )
    assert said(-0.5, 0.001).endswith("<b class='worse'>worse</b></p>")
    assert said(0.1, 0.5).endswith("<b class='not'>not seen</b>; 79 items would show it</p>")
    assert said(0.5, 0.5).endswith("<b class='not'>not seen</b></p>"), "so few were asked, and did not show it"
    assert said(0.0, 0.5).endswith("<b class='not'>not seen</b></p>")


def test_a_number_is_short_where_it_is_large() -> None:
    assert [report._number(x) for x in (9.9999, -10.0, 12345.678, float("inf"))] == [
        "9.9999",
        "-10.00",
        "12,345.68",
        "-",
    ]


def test_a_circle_is_as_large_as_its_bin_is_full() -> None:
    tally = Tally()
    for number, (confidence, right) in enumerate([(0.5, 1.0), (0.5, 0.0), (0.5, 1.0), (0.5, 0.0), (0.99, 1.0)]):
        tally.add(number, None, {"acc": right, "confidence": confidence})
    drawn = report._reliability("m", tally)
    assert '<circle cx="130.0" cy="130.0" r="10.0"' in drawn and '<circle cx="257.4" cy="0.0" r="6.5"' in drawn
    assert "confidence 0.50, right 0.50, 4 items" in drawn
    assert report._reliability("m", Tally()) == ""


def test_only_so_many_items_are_shown_that_two_models_have_otherwise(store: Evaluations) -> None:
    one, two = evaluation("t", "one", "choices"), evaluation("t", "two", "choices")
    for each, value in ((one, 1.0), (two, 0.0)):
        store.begin(each)
        detail = {"answers": ["x" * 300]}
        store.keep(each, [Row(i, None, {"acc": value}, detail) for i in range(40)])
    drawn = report._differing(store, [(one, None), (two, None)])
    assert drawn.count("<tr><td class=n>") == 30 and "<td class=n>29<" in drawn and "x" * 201 not in drawn
    assert report._differing(store, [(one, 2), (two, None)]).count("<tr><td class=n>") == 2
    assert report._differing(store, [(one, None), (one, None)]) == ""


def test_shares_that_differ_are_no_right_and_wrong(store: Evaluations) -> None:
    one, two = evaluation("t", "one", "choices"), evaluation("t", "two", "choices")
    rows = [(0.0, "a"), (0.5, "a"), (1.0, "b"), (1.0, "b")], [(1.0, "a"), (0.0, "a"), (1.0, "b"), (0.5, "c")]
    for each, values in zip((one, two), rows, strict=True):
        store.begin(each)
        store.keep(each, [Row(i, None, {name: value}, {}) for i, (value, name) in enumerate(values)])
    drawn = report._differing(store, [(one, None), (two, None)])
    assert [drawn.count(f"<tr><td class=n>{i}<") for i in range(4)] == [1, 0, 0, 0]
    assert "<td>a<td>0<td>1<td><small>null<br>null</small>" in drawn
