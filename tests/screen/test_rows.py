"""The rows of a data set on the screen: walked through, ordered by their numbers, read, measured, kept or dropped."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from likely.engine.train.data import data
from tests.pictures import assert_picture
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


WHY = ("filter: verifier", "generate: longer than max_tokens", "decontaminate: asks what is evaluated")


def made(number: int, **more: object) -> dict[str, object]:
    """A row as a pipeline writes it, of so many quarters of a bit a token."""
    scores = {"logprob": -number * math.log(2) / 4, "tokens": 1.0, "words": 3.0 + number % 3}
    source = {"method": "verified", "parent": f"sums:{number}", "model": "smollm2", "seed": 123, "recipe": {"temp": 1}}
    return {"prompt": f"{number}+1=", "completion": f" {number + 1}", "source": source, "scores": scores, **more}


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Screen]:
    """The rows that a pipeline has kept, and beside them those it has dropped and two lines that are none."""
    (tmp_path / "made").mkdir()
    kept = [json.dumps(made(n)) for n in range(9)]
    dropped = [*(json.dumps(made(100 + n, dropped=why)) for n, why in enumerate(WHY)), '{"prompt": 1', "[1]"]
    for name, lines in (("train", kept), ("dropped", dropped)):
        (tmp_path / "made" / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    with Screen(tmp_path) as screen:
        screen.press("f5")
        screen.type("made")
        screen.press("ctrl+l")
        yield screen


def numbers(screen: Screen) -> list[int]:
    """The rows that are listed, as they are numbered in their file."""
    head = next(at for at, line in enumerate(screen.lines) if "ROW" in line)
    lines = screen.lines[head + 1 : next(at for at, line in enumerate(screen.lines) if at > head and not line)]
    return [int(line.replace("▶", " ").replace("✕", " ").replace("●", " ").split()[0]) for line in lines]


def test_a_dropped_row_is_marked_left_out_and_its_file_stays_as_it_is(pipeline: Screen) -> None:
    path = pipeline.folder / "made" / "train.jsonl"
    before = path.read_bytes()
    plain = pipeline.ink("5+1=")
    pipeline.press("down", "down", "d")
    assert "1 dropped, 0 kept by hand" in pipeline.text and "✕       3" in pipeline.text
    assert pipeline.ink("2+1=") != plain == pipeline.ink("4+1=")
    found = data.read(path.parent, valid=0)
    asked = [row.messages[0]["content"] for row in found.train]
    assert len(asked) == 8 and found.left_out == 1 and "2+1=" not in asked
    pipeline.press("up")
    facts = pipeline.text.partition("verified · sums:2 · smollm2")[2]
    assert "dropped by hand" in facts and "0.50 bits a token · tokens 1 · words 5" in facts
    pipeline.press("k")
    assert "dropped by hand" not in pipeline.text and len(data.read(path.parent, valid=0).train) == 9
    assert path.read_bytes() == before


@pytest.mark.slow
def test_the_order_goes_through_the_numbers_and_back_to_the_file(pipeline: Screen) -> None:
    keys = {"bits a token": lambda n: n, "words": lambda n: n % 3, "tokens": lambda n: 0}  # what is one number, last
    for name, key in keys.items():
        pipeline.press("o")
        assert f"row 1 of 9  by {name}" in pipeline.text
        assert [key(n - 1) for n in numbers(pipeline)] == sorted(map(key, range(9)), reverse=True)
    pipeline.press("o")
    assert numbers(pipeline) == [*range(1, 10)] and "  by " not in pipeline.text
    pipeline.press("m")
    assert "bits a token under scripted" in pipeline.text and "tinted by surprise" in pipeline.text
    pipeline.press("down")
    assert "tinted by surprise" not in pipeline.text


@pytest.mark.slow
def test_what_a_pipeline_dropped_comes_back_where_it_can_and_what_is_no_row_is_said(pipeline: Screen) -> None:
    pipeline.press("]", "k")
    assert "1 kept by hand" in pipeline.text and "● " in pipeline.text
    pipeline.press("up")
    assert " kept by hand  dropped: filter: verifier" in pipeline.text
    pipeline.press("down")
    for why in WHY[1:]:
        pipeline.press("k")
        assert f"it cannot come back: {why}" in pipeline.text
        pipeline.press("down")
    pipeline.press("d")
    assert "this is no row" in pipeline.text and "one JSON object a line expected" in pipeline.text
    pipeline.press("end")
    assert "a JSON object expected, got a list" in pipeline.text


def test_choices_that_cannot_be_read_or_written_lose_nothing(pipeline: Screen) -> None:
    folder = pipeline.folder / "made"
    (folder / "choices.jsonl").write_text('{"row": "a", "keep": 3}\n')
    pipeline.press("r")
    assert "choices.jsonl:1: a choice of a row expected" in pipeline.text
    (folder / "choices.jsonl").unlink()
    (folder / "choices.partial.jsonl").mkdir()
    pipeline.press("r", "d")
    assert "move it away" in pipeline.text and "dropped, " not in pipeline.text and numbers(pipeline)[0] == 1
    shutil.rmtree(folder)
    pipeline.press("r")
    assert "there is no made on this machine" in pipeline.text and "0+1=" not in pipeline.text


@pytest.mark.slow
def test_columns_go_before_the_text_does_and_the_row_that_is_looked_at_is_seen(pipeline: Screen) -> None:
    shown = []
    for width in (120, 90, 80, 70, 60, 50):
        pipeline.resize(width, 24)
        head = next(line for line in pipeline.lines if "ROW" in line)
        shown.append([name for name in ("BITS", "WORDS", "TOKENS", "FROM") if name in head])
        line = next(line for line in pipeline.lines if line.startswith("▶"))
        assert "0+1= → 1" in line and (width - head.index("TEXT") >= 30 or shown[-1] == ["BITS"])
    assert shown[0] == ["BITS", "WORDS", "TOKENS", "FROM"] and shown[-1] == ["BITS"]
    pipeline.resize(60, 20)
    page = len(numbers(pipeline)) - 1
    assert page < 8
    for key, number in (("down", 2), ("pagedown", 2 + page), ("pageup", 2), ("end", 9), ("up", 8), ("home", 1)):
        pipeline.press(key)
        here = next(line for line in pipeline.lines if line.startswith("▶"))
        assert f"row {number} of 9" in pipeline.text and f"{number - 1}+1=" in here, key
    pipeline.click("2+1=")
    assert "row 3 of 9" in pipeline.text


SOURCES = {
    "": "give a file or a folder", "empty.jsonl": "no rows", "rows.csv": "a → b",
    "bad.jsonl": "one JSON object a line expected",
}  # fmt: skip


@pytest.mark.slow
def test_any_source_is_shown_or_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe\n" + b"[" * 5000 + b"\n")
    (tmp_path / "rows.csv").write_text("prompt,completion\na,b\n")
    with Screen(tmp_path, size=(60, 20)) as screen:
        screen.press("f5")
        for source, said in SOURCES.items():
            screen.burst("ctrl+u", *source)
            screen.press("ctrl+l")
            assert said in " ".join(screen.text.split()), source
            screen.press("d", "k", "o", "m", "end", "enter", "escape")  # nothing of it fails
            screen.press(*["escape"] * ("fine-tune" not in screen.text))


@pytest.mark.slow
def test_of_many_rows_the_last_is_there_at_once(tmp_path: Path) -> None:
    line = json.dumps(made(1)) + "\n"
    (tmp_path / "many.jsonl").write_text(line * 20_000 + line[:-1])  # without a newline at its end
    with Screen(tmp_path) as screen:
        screen.press("f5")
        screen.type("many.jsonl")
        screen.press("ctrl+l", "end")
        assert "row 20,001 of 20,001" in screen.text and "1+1= → 2" in screen.text


def test_rows_look_as_in_their_picture(pipeline: Screen) -> None:
    pipeline.press("down", "down", "d", "up")
    pipeline.resize(80, 24)
    assert_picture("screen/pictures/rows-80x24.txt", pipeline.text + "\n")
