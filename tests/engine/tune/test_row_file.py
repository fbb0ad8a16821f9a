"""Rows of a file to be looked at: where lines begin, what stands beside a row, and what is no row."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from likely.engine.errors import DataError
from likely.engine.tune import row_file
from likely.engine.tune.row_file import FileRow, RowFile, listed, of_value, opened, stamp
from likely.engine.tune.rows import parse


def lines(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def row(text: str) -> str:
    return json.dumps({"text": text})


def said(rows: RowFile) -> list[str]:
    return [each.row.messages[0].content if each.row and each.row.messages else each.error for each in rows[:]]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []), ("\n", []), (" \t\r\n\n  \n", []), ("{A}", [1]), ("{A}\n", [1]), ("{A}\n{B}", [1, 2]),
        ("\n\n{A}\n \n{B}\r\n\n", [3, 5]), ("{A}\n\n\n{B}\n   ", [1, 4]), ("  {A}  \n{B}", [1, 2]),
    ],
)  # fmt: skip
def test_lines_begin_where_they_do_and_blank_ones_are_none(text: str, numbers: list[int], tmp_path: Path) -> None:
    path = lines(tmp_path, text.replace("{A}", row("first")).replace("{B}", row("second, and longer")))
    rows = RowFile(path)
    assert len(rows) == len(numbers)
    assert [each.where for each in rows] == [f"{path}:{number}" for number in numbers]
    wanted = ["first", "second, and longer"][: len(numbers)]
    for each, words in zip(rows, wanted, strict=True):
        assert each == FileRow(each.where, parse({"text": words}, each.where))


@pytest.mark.parametrize("over", range(-2, 6))
def test_lines_of_a_large_file_are_found_wherever_a_read_of_it_ends(over: int, tmp_path: Path) -> None:
    """A file is read 16 MiB at a time: what stands about that place is a line's end, blanks, or inside a row."""
    between, last, filler = "\r\n \n", row("last"), row("x" * (1 << 20)) + "\n"
    head = filler * 15
    head += row("x" * (row_file.CHUNK - len(head) - len(row("")) - over)) + between
    rows = RowFile(lines(tmp_path, head + last))
    assert [each.where.rpartition(":")[2] for each in rows] == [*map(str, range(1, 17)), "18"]
    assert rows[17 - 1].row == parse({"text": "last"}, rows[16].where) and all(each.row for each in rows[:])


def test_rows_are_asked_for_by_number_and_by_slices(tmp_path: Path) -> None:
    rows = RowFile(lines(tmp_path, "\n".join(row(f"r{i}") for i in range(6))))
    where = [each.where.rpartition(":")[2] for each in rows]
    assert where == ["1", "2", "3", "4", "5", "6"]
    assert [each.where.rpartition(":")[2] for each in rows[1:5:2]] == ["2", "4"]
    assert rows[-1].where.endswith(":6") and rows[-6] == rows[0] and rows[4:99] == [rows[4], rows[5]]
    with pytest.raises(IndexError):
        rows[6]


def test_a_line_that_is_no_row_is_an_error_by_itself(tmp_path: Path) -> None:
    path = lines(
        tmp_path, b"\xef\xbb\xbf" + row("a").encode() + b"\n{\n[1]\n" + b'{"x": 1}\n\xff\xfe\n' + row("b").encode()
    )
    rows = RowFile(path)
    assert [bool(each.row) for each in rows] == [True, False, False, False, False, True]
    assert "one JSON object a line expected" in rows[1].error and rows[1].error.startswith(f"{path}:2: ")
    assert rows[2].error and rows[3].error and str(path) in rows[3].error and f"{path}:5" in rows[4].error
    longest = "x" * (row_file.LONGEST - len(row("")))
    rows = RowFile(lines(tmp_path, row(longest + "x") + "\n" + row("c") + "\n" + row(longest)))
    assert rows[0].error == f"{path}:1: a row of 4 MB" and rows[0].row is None
    assert rows[1].row is not None and rows[2].row is not None


def test_the_file_is_held_and_its_stamp_says_when_it_is_another(tmp_path: Path) -> None:
    path = lines(tmp_path, row("old") + "\n")
    rows = RowFile(path)
    assert rows.stamp == stamp(path) == (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
    other = tmp_path / "other"
    other.write_text(row("new"))
    os.replace(other, path)
    assert rows[0].row == parse({"text": "old"}, f"{path}:1") and stamp(path) != rows.stamp
    with pytest.raises(DataError, match=r"cannot read .*gone\.jsonl: No such file"):
        RowFile(tmp_path / "gone.jsonl")


def test_names_of_columns_are_by_the_map(tmp_path: Path) -> None:
    path = lines(tmp_path, json.dumps({"q": "why", "a": "so"}))
    names = {"q": "prompt", "a": "completion"}
    assert RowFile(path)[0].row is None
    assert RowFile(path, names)[0].row == parse({"q": "why", "a": "so"}, f"{path}:1", names)
    (found,) = opened(path, names)
    assert found == RowFile(path, names)[0]


def test_what_stands_beside_a_row_is_words_and_finite_numbers() -> None:
    value: dict[str, Any] = {
        "text": "a", "source": {"kind": "made", "by": {"model": "m", "t": 0.7000}, "n": 3, "nothing": "", "f": 0.5},
        "scores": {"logprob": -2, "bad": math.nan, "far": math.inf, "word": "x", "p": 0.25}, "dropped": "too short",
    }  # fmt: skip
    found = of_value(value, "here")
    assert found.row == parse(value, "here") and found.where == "here" and found.error == ""
    assert found.source == {"kind": "made", "by": "model=m t=0.7", "n": "3", "f": "0.5"}
    assert found.scores == {"logprob": -2.0, "p": 0.25} and found.dropped == "too short"
    plain = of_value({"text": "a", "source": "web", "scores": [1], "dropped": 3}, "here")
    assert (plain.source, plain.scores, plain.dropped) == ({}, {}, "") and plain.row is not None
    wrong = of_value({"source": {"kind": "made"}, "scores": {"p": 1}}, "here")
    assert wrong.row is None and "here" in wrong.error
    assert wrong.source == {"kind": "made"} and wrong.scores == {"p": 1.0}
    assert of_value([1], "here").row is None and of_value(None, "here").source == {}


def test_surprisal_is_in_bits_and_never_a_minus_before_nothing() -> None:
    assert FileRow("", scores={"logprob": -math.log(8)}).surprisal == pytest.approx(3)
    assert FileRow("").surprisal is None and FileRow("", scores={"p": 1.0}).surprisal is None
    certain = FileRow("", scores={"logprob": 0.0}).surprisal
    assert certain == 0 and math.copysign(1, certain) == 1


def test_a_data_set_is_its_files_and_what_was_kept_aside(tmp_path: Path) -> None:
    single = tmp_path / "one.jsonl"
    single.write_text(row("a"))
    assert listed(single) == [single]
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train.jsonl", "valid.jsonl", "notes.md"):
        (folder / name).write_text(row("a"))
    assert [path.name for path in listed(folder)] == ["train.jsonl", "valid.jsonl"]
    (folder / "dropped.jsonl").write_text(row("b"))
    assert [path.name for path in listed(folder)] == ["train.jsonl", "valid.jsonl", "dropped.jsonl"]
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("hello")
    (texts / "b.txt").write_text("there")
    assert listed(texts) == [texts]
    shown = opened(texts)
    assert len(shown) == 2 and all(each.row is not None and each.where == each.row.where for each in shown)


def test_other_files_are_read_whole(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("prompt,completion\nwhy,so\nhow,thus\n")
    shown = opened(table)
    assert not isinstance(shown, RowFile) and len(shown) == 2 and shown[1].row is not None
    assert isinstance(opened(lines(tmp_path, row("a"))), RowFile)
