"""The rows of a data set on the screen: walked through, ordered by their numbers, read, measured, kept or dropped."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.screen import Screen

CHAT = {"messages": [{"role": "user", "content": "Why is"}, {"role": "assistant", "content": " The sky looks blue"}]}


def write(folder: Path, **files: int) -> None:
    """Files of so many rows, each with a number of its own."""
    folder.mkdir(exist_ok=True)
    for name, count in files.items():
        rows = [{"text": f"{name} {n}", "scores": {"logprob": -n * math.log(2)}} for n in range(1, count + 1)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Screen]:
    """The rows of two files, from the form of a fine-tuning."""
    write(tmp_path / "made", train=4, valid=2)
    with Screen(tmp_path, size=(100, 24)) as screen:
        screen.press("f5")
        screen.type("made")
        screen.press("ctrl+l")
        yield screen


@pytest.mark.slow
def test_rows_are_walked_through_and_ordered_by_their_numbers(rows: Screen) -> None:
    assert "train.jsonl" in rows.text and "row 1 of 4" in rows.text and "train 1" in rows.text
    rows.press("down", "down")
    assert "row 3 of 4" in rows.text and "train 3" in rows.text
    rows.press("o")
    assert "by bits a token" in rows.text and "row 1 of 4" in rows.text and "train 4" in rows.text
    rows.press("down")
    assert "train 3" in rows.text
    rows.press("o", "right_square_bracket")
    assert "valid.jsonl" in rows.text and "row 1 of 2" in rows.text
    rows.press("enter")
    assert "text" in rows.text and "valid 1" in rows.text and "logprob" in rows.text
    rows.press("escape", "escape")
    assert "fine-tune" in rows.text


def test_a_row_is_dropped_and_taken_back_and_trainings_are_told(rows: Screen) -> None:
    rows.press("d")
    assert "left out" in rows.text and "1 dropped" in rows.text
    choices = rows.folder / "made" / "choices.jsonl"
    assert [json.loads(line)["keep"] for line in choices.read_text().splitlines()] == [False]
    rows.press("up", "k")
    assert "taken back" in rows.text and "dropped" not in "".join(rows.lines[:3])
    rows.press("up", "k")
    assert "it is kept as it is" in rows.text


def test_a_file_that_was_written_to_is_read_again(rows: Screen) -> None:
    write(rows.folder / "made", train=3)
    rows.wait(5)
    assert "the file is another by now: r reads it again" in rows.text
    rows.press("r")
    assert "of 3" in rows.text


def test_a_row_is_measured_by_the_model_of_the_chat(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(each) for each in (CHAT, {"wrong": 1})))
    with Screen(tmp_path, size=(100, 24)) as screen:
        screen.press("f5")
        screen.type("rows.jsonl")
        screen.press("ctrl+l", "o")
        assert "these rows have no numbers to be ordered by" in screen.text
        screen.press("m")
        assert "bits a token under scripted" in screen.text
        screen.press("down", "m")
        assert "there is no row here" in screen.text
        screen.press("d")
        assert "this is no row: nothing is trained on it" in screen.text


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(100, 24)) as screen:
        screen.press("f5")
        screen.type("gone")
        screen.press("ctrl+l")
        assert "there is no gone on this machine" in screen.text
        write(tmp_path / "gone", train=2)
        screen.press("r")
        assert "row 1 of 2" in screen.text
