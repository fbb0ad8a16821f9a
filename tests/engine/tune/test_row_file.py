"""Rows of a file to be looked at: where lines begin, what stands beside a row, and what is no row."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import DataError
from likely.engine.text.rows.training_row import parse
from likely.engine.train.data import row_file
from likely.engine.train.data.row_file import FileRow, RowFile, listed, of_value, opened, stamp


def lines(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def row(text: str) -> str:
    return json.dumps({"text": text})


def numbers(rows: Any) -> list[str]:
    return [each.where.rpartition(":")[2] for each in rows]


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("", ""), ("\n", ""), (" \t\r\n\n  \n", ""), ("{A}", "1"), ("{A}\n", "1"), ("{A}\n{B}", "12"),
        ("\n\n{A}\n \n{B}\r\n\n", "35"), ("{A}\n\n\n{B}\n   ", "14"), ("  {A}  \n{B}", "12"),
    ],
)  # fmt: skip
def test_lines_begin_where_they_do_and_blank_ones_are_none(text: str, there: str, tmp_path: Path) -> None:
    path = lines(tmp_path, text.replace("{A}", row("first")).replace("{B}", row("second, and longer")))
    wanted = [
        FileRow(f"{path}:{number}", parse({"text": words}, f"{path}:{number}"))
        for number, words in zip(there, ("first", "second, and longer"), strict=False)
    ]
    assert list(RowFile(path)) == wanted and len(RowFile(path)) == len(there)


@pytest.mark.parametrize("over", range(-2, 6))
def test_lines_of_a_large_file_are_found_wherever_a_read_of_it_ends(over: int, tmp_path: Path) -> None:
    """A file is read 16 MiB at a time: what stands about that place is a line's end, blanks, or inside a row."""
    between, last, filler = "\r\n \n", row("last"), row("x" * (1 << 20)) + "\n"
    head = filler * 15
    head += row("x" * (row_file.CHUNK - len(head) - len(row("")) - over)) + between
    rows = RowFile(lines(tmp_path, head + last))
    assert numbers(rows) == [*map(str, range(1, 17)), "18"]
    assert rows[17 - 1].row == parse({"text": "last"}, rows[16].where) and all(each.row for each in rows[:])


def test_rows_are_asked_for_by_number_and_by_slices(tmp_path: Path) -> None:
    rows = RowFile(lines(tmp_path, "\n".join(row(f"r{i}") for i in range(6))))
    assert numbers(rows) == [*"123456"] and numbers(rows[1:5:2]) == ["2", "4"]
    assert rows[-1].where.endswith(":6") and rows[-6] == rows[0] and rows[4:99] == [rows[4], rows[5]]
    with pytest.raises(IndexError):
        rows[6]


def test_a_line_that_is_no_row_is_an_error_by_itself(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + row("a").encode() + b"\n{\n[1]\n" + b'{"x": 1}\n\xff\xfe\n' + row("b").encode()
    path = lines(tmp_path, text)
    rows = RowFile(path)
    assert [bool(each.row) for each in rows] == [True, False, False, False, False, True]
    assert rows[1].error.startswith(f"{path}:2: ") and "one JSON object a line expected" in rows[1].error
    assert rows[2].error and str(path) in rows[3].error and f"{path}:5" in rows[4].error
    longest = "x" * (row_file.LONGEST - len(row("")))
    rows = RowFile(lines(tmp_path, row(longest + "x") + "\n" + row("c") + "\n" + row(longest)))
    assert rows[0].error == f"{path}:1: a row of 4 MB" and [bool(each.row) for each in rows] == [False, True, True]


def test_the_file_is_held_and_its_stamp_says_when_it_is_another(tmp_path: Path) -> None:
    path = lines(tmp_path, row("old") + "\n")
    rows = RowFile(path)
    assert rows.stamp == stamp(path) == (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns)
    (tmp_path / "other").write_text(row("new"))
    os.replace(tmp_path / "other", path)
    assert rows[0].row == parse({"text": "old"}, f"{path}:1") and stamp(path) != rows.stamp
    with pytest.raises(DataError, match=r"cannot read .*gone\.jsonl: No such file"):
        RowFile(tmp_path / "gone.jsonl")


def test_what_stands_beside_a_row_is_words_and_finite_numbers() -> None:
    value: dict[str, Any] = {
        "text": "a", "source": {"kind": "made", "by": {"model": "m", "t": 0.7000}, "n": 3, "nothing": "", "f": 0.5},
        "scores": {"logprob": -2, "bad": math.nan, "far": math.inf, "word": "x", "p": 0.25}, "dropped": "too short",
    }  # fmt: skip
    found = of_value(value, "here")
    assert (found.row, found.where, found.error) == (parse(value, "here"), "here", "")
    assert found.source == {"kind": "made", "by": "model=m t=0.7", "n": "3", "f": "0.5"}
    assert found.scores == {"logprob": -2.0, "p": 0.25} and found.dropped == "too short"
    plain = of_value({"text": "a", "source": "web", "scores": [1], "dropped": 3}, "here")
    assert (plain.source, plain.scores, plain.dropped) == ({}, {}, "") and plain.row is not None
    wrong = of_value({"source": {"kind": "made"}, "scores": {"p": 1}}, "here")
    assert wrong.row is None and "here" in wrong.error
    assert wrong.source == {"kind": "made"} and wrong.scores == {"p": 1.0}
    assert of_value([1], "here").row is None and of_value(None, "here").source == {}
    for logprob, bits in ((-math.log(8), 3), (0.0, 0)):  # bits, and never a minus before nothing
        told = FileRow("", scores={"logprob": logprob}).surprisal
        assert told == pytest.approx(bits) and math.copysign(1, told) == 1
    assert FileRow("").surprisal is None and FileRow("", scores={"p": 1.0}).surprisal is None


def test_a_data_set_is_its_files_and_what_was_kept_aside(tmp_path: Path) -> None:
    """Columns have the names of the map; what is no JSON lines is read whole."""
    single, folder, texts, table = (tmp_path / name for name in ("one.jsonl", "set", "texts", "rows.csv"))
    single.write_text(json.dumps({"q": "why", "a": "so"}))
    names = {"q": "prompt", "a": "completion"}
    assert listed(single) == [single] and isinstance(opened(single), RowFile) and RowFile(single)[0].row is None
    assert opened(single, names)[0].row == parse({"q": "why", "a": "so"}, f"{single}:1", names)
    folder.mkdir()
    for name in ("train.jsonl", "valid.jsonl", "notes.md"):
        (folder / name).write_text(row("a"))
    assert [path.name for path in listed(folder)] == ["train.jsonl", "valid.jsonl"]
    (folder / "dropped.jsonl").write_text(row("b"))
    assert [path.name for path in listed(folder)] == ["train.jsonl", "valid.jsonl", "dropped.jsonl"]
    texts.mkdir()
    (texts / "a.txt").write_text("hello")
    (texts / "b.txt").write_text("there")
    table.write_text("prompt,completion\nwhy,so\nhow,thus\n")
    assert listed(texts) == [texts]
    for place in (texts, table):
        shown = opened(place)
        assert not isinstance(shown, RowFile) and len(shown) == 2
        assert all(each.row is not None and each.where == each.row.where for each in shown)
