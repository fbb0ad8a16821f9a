"""The browser of rows without a screen: which files and numbers there are, the order, the place, choices by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.tui.training import browser as browsing
from likely.app.tui.training.browser import OpenedRows, RowBrowser
from likely.engine.base.errors import DataError
from likely.engine.text.rows.training_row import TrainingRow, parse
from likely.engine.train.data import row_choices
from likely.engine.train.data.row_file import FileRow


def row(number: int, dropped: str = "", **scores: float) -> FileRow:
    return FileRow(f"rows:{number}", parse({"text": f"text {number}"}, "rows"), "", {}, scores, dropped)


def write(path: Path, *values: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in values))
    return path


def shown(tmp_path: Path, *rows: FileRow, numbers: tuple[str, ...] = ("bits", "words")) -> RowBrowser:
    """A browser of these rows."""
    found = RowBrowser(str(write(tmp_path / "train.jsonl", {"text": "a"})))
    found.show(OpenedRows(tmp_path / "train.jsonl", rows, numbers, {}))
    return found


def test_numbers_are_those_of_the_first_rows_what_is_always_the_same_last(tmp_path: Path) -> None:
    values = [
        {"text": f"t{i}", "scores": {"tokens": 5, "words": i, "logprob": -1.5} | ({"late": i} if i >= 200 else {})}
        for i in range(202)
    ]
    path = write(tmp_path / "train.jsonl", *values)
    write(tmp_path / "choices.jsonl", {"row": "a", "keep": True})
    found = browsing.opened(path, None, tmp_path / "choices.jsonl")
    assert found.path == path and len(found.rows) == 202 and found.choices == {"a": True}
    assert found.numbers == ("bits", "words", "tokens")  # two hundred rows are looked at, one less than has "late"
    write(path, *[{key: value for key, value in each.items() if key == "text"} for each in values[:3]])
    assert browsing.opened(path, None, tmp_path / "none.jsonl").numbers == ()
    values[199]["scores"] = {"late": 1}  # and no surprisal
    found = browsing.opened(write(path, *values), None, tmp_path / "none.jsonl")
    assert found.numbers[0] == "bits" and "late" in found.numbers
    with pytest.raises(DataError):
        browsing.opened(tmp_path / "gone.jsonl", None, tmp_path / "none.jsonl")


def test_numbers_of_all_rows_have_a_hole_where_a_row_has_none() -> None:
    rows = [row(0, logprob=-2 * math.log(2), words=3.0), row(1), row(2, words=0.0)]
    found = browsing.columns(rows, ("bits", "words"))
    np.testing.assert_array_equal(found["bits"], [2.0, math.nan, math.nan])
    np.testing.assert_array_equal(found["words"], [3.0, math.nan, 0.0])
    assert browsing.number(rows[0], "bits") == 2.0 and browsing.number(rows[1], "words") is None
    assert browsing.number(rows[0], "logprob") == -2 * math.log(2)


def test_rows_are_ordered_the_largest_first_and_those_without_a_number_last(tmp_path: Path) -> None:
    rows = [row(0, words=1.0), row(1), row(2, words=3.0), row(3, words=1.0), row(4, words=2.0)]
    it = shown(tmp_path, *rows)
    it.columns = browsing.columns(rows, ("bits", "words"))
    assert it.next_order == "bits"
    it.go(3)
    it.sort("words")
    assert (it.by, it.at) == ("words", 0) and it.order is not None
    assert [it.row(i).where for i in range(5)] == [f"rows:{n}" for n in (2, 4, 0, 3, 1)]
    assert it.here is rows[2] and it.next_order == ""
    it.go(2)
    it.sort("")
    assert (it.by, it.order, it.at) == ("", None, 0) and it.row(1) is rows[1]
    it.sort("bits")
    assert it.next_order == "words"


def test_a_row_is_kept_or_dropped_and_the_choice_taken_back(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, "filter: too short"),
        row(2, "generate: longer than max_tokens"),
        FileRow("rows:3", error="no row"),
    ]
    it = shown(tmp_path, *rows)
    for at, keep, said in (
        (0, True, "it is kept as it is"),
        (1, False, "it is dropped already: filter: too short"),
        (2, True, "it cannot come back: generate: longer than max_tokens"),
        (2, False, "it is dropped already: generate: longer than max_tokens"),
        (3, False, "this is no row: nothing is trained on it"),
    ):
        it.go(at)
        before = it.opened
        assert it.choose(keep) == said and it.opened is before and it.by_hand == (0, 0)
    keys = [row_choices.key(each.row) for each in rows if isinstance(each.row, TrainingRow)]
    it.go(0)
    assert it.choose(False) == "dropped: left out of trainings that begin after this"
    assert it.choice(rows[0]) is False and it.choice(rows[1]) is None and it.choice(rows[3]) is None
    it.go(1)
    assert it.choose(True) == "kept: likely synth brings it back"
    assert it.choice(rows[1]) is True and it.by_hand == (1, 1)
    assert row_choices.read(tmp_path / "choices.jsonl") == {keys[0]: False, keys[1]: True}
    assert it.opened is not None and it.opened.numbers == ("bits", "words") and it.opened.rows == tuple(rows)
    assert it.choose(False) == "the choice is taken back" and it.by_hand == (1, 0)
    it.go(0)
    assert it.choose(True) == "the choice is taken back" and it.by_hand == (0, 0)
    assert row_choices.read(tmp_path / "choices.jsonl") == {}


def test_a_file_that_was_written_to_or_is_gone_has_changed(tmp_path: Path) -> None:
    it = RowBrowser(str(write(tmp_path / "train.jsonl", {"text": "a"})))
    it.show(browsing.opened(tmp_path / "train.jsonl", None, it.beside))
    assert not it.changed
    write(tmp_path / "train.jsonl", {"text": "a"}, {"text": "b"})
    assert it.changed
    it.show(browsing.opened(tmp_path / "train.jsonl", None, it.beside))
    assert not it.changed
    (tmp_path / "train.jsonl").unlink()
    assert it.changed


def test_files_are_looked_for_again_and_the_one_that_is_open_stays(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"text": "a"})
    write(tmp_path / "valid.jsonl", {"text": "b"})
    it = RowBrowser(str(tmp_path))
    assert [path.name for path in it.files] == [
        "train.jsonl",
        "valid.jsonl",
    ] and it.beside == tmp_path / "choices.jsonl"
    it.file = 1
    assert it.path == tmp_path / "valid.jsonl"
    write(tmp_path / "test.jsonl", {"text": "c"})
    write(tmp_path / "dropped.jsonl", {"text": "c"})
    it.relist()
    assert it.path == tmp_path / "valid.jsonl" and len(it.files) > 2
    (tmp_path / "valid.jsonl").unlink()
    it.relist()
    assert it.file == 0 and it.path == tmp_path / "train.jsonl"
    it.source = str(tmp_path / "gone")
    it.relist()
    assert it.path is None and it.files == [] and it.file == 0 and "there is no" in it.why
