"""Figures of `likely eval`: a table, sentences, objects, and the rows that are odd."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from likely.app.cli.evaluation.eval_output import number, say, sentence, show, span
from likely.app.results.scoreboard import Score
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.app.words.units import finite
from likely.engine.base.errors import ParameterError
from likely.engine.base.statistics.estimates import Change, Estimate
from likely.engine.measure.evaluate.figures.figures import ComparedMeasure
from likely.engine.measure.evaluate.tasks.tasks import Problem
from tests.app.results import evaluation, fill, store_in

FOUND = Estimate(0.5, 0.1, 9, n=10)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Evaluations:
    return store_in(tmp_path)


def figure(measure: str, found: Estimate = FOUND, **more: Any) -> Score:
    return Score(Evaluation("task", "model", {}, protocol={"form": "x"}), measure, found, **more)


def test_a_table_has_each_figure_in_its_column(capsys: Captured) -> None:
    rows = [
        figure("acc"), figure("tokens", Estimate(12345.4, 0.0)), figure("bytes", Estimate(99.6, 0.0)),
        figure("nats_at_most", Estimate(20_000.5, math.inf, 1, n=1)),
        figure("perplexity_draw_error", Estimate(0.25, 0.0)),
        Score(Evaluation("a longer task", "m", {}), "acc", Estimate(math.nan, math.nan), "domain=a\x1b"),
    ]  # fmt: skip
    show(rows, [], as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "task           model  measure                unit        value                     95 %   n",
        "task           model  acc                    share      0.5000         0.2738 to 0.7262  10",
        "task           model  tokens                 tokens      12345                            0",
        "task           model  bytes                  bytes         100                            0",
        "task           model  bits_at_most           bits    <= 28,855  from one item: no error   1",
        "task           model  perplexity_draw_error             0.2500                            0",
        "a longer task  m      acc domain=a␛          share           -  from one item: no error   0",
    ]


def test_a_figure_is_an_object_of_its_own(capsys: Captured) -> None:
    show([figure("acc", subgroup="é"), figure("nats_at_most", Estimate(1.0, math.inf, 1, n=1))], [], as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {
            "task": "task", "model": "model", "measure": "acc é", "value": 0.5, "se": 0.1,
            "low": pytest.approx(0.273784, abs=1e-5), "high": pytest.approx(0.726216, abs=1e-5), "n": 10,
            "protocol": {"form": "x"}, "units": dict.fromkeys(("value", "se", "low", "high"), "share"),
        },
        {
            "task": "task", "model": "model", "measure": "nats_at_most", "value": 1.0, "se": None,
            "low": None, "high": None, "n": 1, "bound": "upper", "protocol": {"form": "x"},
            "units": {"value": "nats"},
        },
    ]  # fmt: skip


def test_measures_are_named_with_their_bounds_or_without(capsys: Captured) -> None:
    rows = [figure("acc"), figure("nats_at_most"), figure("acc_norm")]
    for names, shown in (
        (["nats"], ["nats_at_most"]),
        (["bits"], ["nats_at_most"]),
        (["nats_at_most", "acc"], ["acc", "nats_at_most"]),
    ):
        show(rows, names, as_json=True)
        assert [json.loads(line)["measure"] for line in capsys.readouterr().out.splitlines()] == shown
    with pytest.raises(ParameterError) as refused:
        show(rows, ["acc", "f1"], as_json=False)
    assert str(refused.value) == "task has no measure f1: it has acc, nats_at_most, acc_norm"
    assert capsys.readouterr().out == ""


def test_a_number_has_fewer_digits_the_larger_it_is() -> None:
    given = (9.99994, 10.0, -9.5, -10.0, 9999.994, 10_000.0, math.inf, math.nan, -1e6)
    said = "9.9999 10.00 -9.5000 -10.00 9999.99 10,000 - - -1,000,000"
    assert [number(x) for x in given] == said.split()
    assert span(Estimate(1.0, 0.0, bounds=(0.5, 11.0))) == "0.5000 to 11.00"
    assert finite(1.5) == 1.5 and finite(math.inf) is None is finite(math.nan)


def compared(
    mean: float, error: float, p: float, n: int = 10, measure: str = "acc", groups: int = 0, **more: Any
) -> ComparedMeasure:
    change = Change(Estimate(mean, error, max(1, n - 1), n=n), p, groups or n)
    return ComparedMeasure("task", measure, ("a", "b"), change, p, n, items=(n, n), **more)


def test_a_sentence_says_which_is_better_and_what_it_takes() -> None:
    """With its ends in bits where they are nats, and no verdict where nothing tells."""
    seen, unseen = compared(0.5, 0.1, 0.001), compared(0.5, 0.1, 0.5)
    least, nats = {"measure": "nats"}, compared(-0.5, 0.1, 0.001, measure="nats")
    for found, difference, *said in (
        (seen, None, "acc: b against a +0.5000 (+0.2738 to +0.7262; 10 items, p 0.001): better"),
        (nats, None, "bits: b against a -0.7213 bits a token (-1.0477 to -0.3950; 10 items, p 0.001): better"),
        (unseen, None, "10 items, p 0.5): not seen"),
        (compared(0.1, 0.1, 0.5), None, "not seen; 79 items would show a difference of this size four times in five"),
        (seen, 0.0123, "better; to see 0.0123 four times in five: 5,188 items"),
        (compared(0.5, 0.0, 0.001), 0.1, "better; to see 0.1 four times in five: these do not tell"),
        (compared(0.5, math.inf, 1.0, 1), None, "(from one item: no error;", "too few to tell; 6 items, or clusters"),
        (compared(0.5, math.inf, 0.031, 12, groups=6), None, "(all differ alike: no error; 12 items in 6", "better"),
        (compared(-0.5, 0.1, 0.001, bounds=(True, True), **least), None, "(of a and b at most)", "does not tell"),
        (compared(-0.5, 0.1, 0.001, bounds=(False, True), **least), None, "(of b at most)", "better"),
    ):  # fmt: skip
        line = sentence(found, difference)
        assert line.startswith("task ") and all(words in line for words in said), line
        assert line.count("better") == (said[-1].count("better")), line


def test_items_that_are_needed_are_named_from_one_more_on() -> None:
    for n, named in ((78, True), (79, False)):
        found = compared(0.1, 0.1 * math.sqrt(10 / n), 0.5, n)
        assert found.change.needed == 79 and ("79 items would" in sentence(found, None)) is named


def test_all_that_is_said_of_two_models(store: Evaluations, capsys: Captured) -> None:
    """The table, the sentences and the rows that are odd are those of the objects; nats are read as bits."""
    done = fill(store)
    more = [Score(Evaluation("choose", name, {}), "more", FOUND) for name in ("two", "three")]
    say(store, done, [], True, items=False, more=more, difference=0.05)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    say(store, done, [], False, items=False, more=more, difference=0.05)
    out, err = capsys.readouterr()
    table = [line.split() for line in out.splitlines()]
    for row in rows:
        if "value" in row and not row["measure"].startswith("nats"):
            (line,) = [each for each in table if each[:3] == [row["task"], row["model"], row["measure"]]]
            shown = f"{row['value']:.0f}" if row["measure"] in ("tokens", "bytes") else number(row["value"])
            assert shown in line, (row, line)
        elif "difference" in row:
            nats = row["measure"] == "nats"
            name, factor = ("bits", 1 / math.log(2)) if nats else (row["measure"], 1.0)
            said = next(line for line in out.splitlines() if line.startswith(f"{row['task']} {name}: two against one"))
            assert f"{factor * row['difference']:+.4f}" in said and row["verdict"] in said
            assert row["units"]["difference"] == ("nats a token" if nats else "share")
    assert sum("difference" in row for row in rows) == out.count(": two against one") == 3
    assert "choose, one: 2 empty (left out), rows 8, 10: row 8 has no text, got ''" in err
    assert "choose, one: 1 duplicate (scored), row 3: stands twice" in err


def test_all_that_is_said_of_some_measures_and_one_model(store: Evaluations, capsys: Captured) -> None:
    done = fill(store)
    say(store, [done[0], done[3]], ["acc"], False, items=False)
    assert "confidence" not in (said := capsys.readouterr().out) and said.count("acc:") == 1
    say(store, [done[0], done[3]], ["acc"], True, items=False)
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [("value" in row, row["measure"]) for row in figures] == [(True, "acc"), (True, "acc"), (False, "acc")]
    assert figures[2]["models"] == [done[0].model, done[3].model] and "verdict" in figures[2]
    say(store, done[:1], [], False, items=False)
    assert "against" not in capsys.readouterr().out


def test_items_are_objects(store: Evaluations, capsys: Captured) -> None:
    done = fill(store)
    say(store, done[1:2], [], True, items=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    own = {"item": 0, "cluster": "c0", "exact": 1.0, "answers": ["it is 0\n<b>"]}
    assert lines[0] == {"task": "ask", "model": "one", **own}
    say(store, [replace(done[0], below=2)], [], True, items=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["item"] for line in lines] == [0, 1] and "cluster" not in lines[0]


def test_odd_rows_are_named_up_to_eight(store: Evaluations, capsys: Captured) -> None:
    for count, rows in ((8, "1, 2, 3, 4, 5, 6, 7, 8"), (9, "1, 2, 3, 4, 5, 6, 7, 8, ...")):
        each = evaluation(f"t{count}", "m", "choices")
        store.begin(each)
        store.keep(each, [], [Problem(i, "empty", f"is {i} words, got {i}") for i in range(count)])
        say(store, [each], [], False, items=False)
        assert f"t{count}, m: {count} empty (left out), rows {rows}: is 0 words, got 0\n" in capsys.readouterr().err
