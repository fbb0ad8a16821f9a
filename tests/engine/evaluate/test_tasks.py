"""Tasks from files, what is odd about their rows, and the verifiers of answers."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from likely.engine.errors import DataError
from likely.engine.evaluate.task_files import read
from likely.engine.evaluate.tasks import Choices, Document, Item, MinimalPair, Problem, Question, Task


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one(path: Path) -> Task:
    (task,) = read(path)
    return task


def bodies(task: Task) -> list[Any]:
    return [entry.body for entry in task.items() if isinstance(entry, Item)]


def test_the_form_is_known_by_the_keys(tmp_path: Path) -> None:
    rows = {
        "pairs": ({"good": "a", "bad": "b", "uid": 1}, MinimalPair("a", "b")),
        "choices": ({"context": "c", "choices": ["x", "y"], "gold": 1}, Choices("c", ("x", "y"), 1)),
        "documents": ({"text": "t"}, Document("t")),
    }
    for name, (row, body) in rows.items():
        task = one(write(tmp_path / f"{name}.jsonl", [row]))
        assert task.name == name and name == task.form.NAME and bodies(task) == [body]
    asked = one(write(tmp_path / "q.jsonl", [{"prompt": "p", "answer": 3}]))
    assert bodies(asked) == [Question("p", ("3",), {"prompt": "p", "answer": 3})]
    table = tmp_path / "table.csv"
    table.write_text('context,choices,gold\n"a, b",x|y,B\nc,"[""p"", ""q|r""]",q|r\n')
    assert bodies(one(table)) == [Choices("a, b", ("x", "y"), 1), Choices("c", ("p", "q|r"), 1)]
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"good": "a", "bad": "b"}\n'))
    assert one(packed).name == "pairs" and bodies(one(packed)) == [MinimalPair("a", "b")]


def test_odd_rows_are_listed_and_none_is_dropped_in_silence(tmp_path: Path) -> None:
    good = {"context": "c", "choices": ["x", "y"], "gold": 0}
    rows = [
        good, good, good | {"gold": 2}, good | {"gold": "z"}, good | {"gold": "9" * 5000}, good | {"gold": True},
        good | {"choices": ["x"]}, good | {"choices": ["x", " "]}, good | {"context": None},
        {"context": "c", "choices": ["x", "y"]},
    ]  # fmt: skip
    entries = list(one(write(tmp_path / "t.jsonl", rows)).items())
    problems = [entry for entry in entries if isinstance(entry, Problem)]
    assert [(p.number, p.kind, p.scored) for p in problems] == [
        (1, "duplicate", True), (2, "unanswerable", False), (3, "unanswerable", False), (4, "unanswerable", False),
        (5, "unanswerable", False), (6, "unanswerable", False), (7, "empty", False), (8, "empty", False),
        (9, "unanswerable", False),
    ]  # fmt: skip
    assert "one of the choices or its number from 0, got 2" in problems[1].words
    assert [entry.number for entry in entries if isinstance(entry, Item)] == [0, 1]
    pairs = one(
        write(tmp_path / "p.jsonl", [{"good": "a", "bad": "b"}, {"good": "a", "bad": "a"}, {"good": "", "bad": "b"}])
    )
    assert [entry.kind for entry in pairs.items() if isinstance(entry, Problem)] == ["unanswerable", "empty"]
    asked = one(write(tmp_path / "q.jsonl", [{"prompt": "p", "answer": None}, {"prompt": " ", "answer": "x"}]))
    assert [entry.kind for entry in asked.items() if isinstance(entry, Problem)] == ["unanswerable", "empty"]


def test_a_toml_file_describes_a_task_of_columns(tmp_path: Path) -> None:
    write(
        tmp_path / "rows.jsonl",
        [{"q": f"{i}?", "options": ["no", "yes"], "right": i % 2, "of": i // 2} for i in range(5)],
    )
    (tmp_path / "t.toml").write_text(
        'name = "mine"\ndata = "rows.jsonl"\ncontext = "Q: {q}\\nA:"\nchoices = "options"\ngold = "right"\n'
        'shots = 2\nseparator = "\\n\\n"\ncluster = "of"\n'
    )
    task = one(tmp_path / "t.toml")
    entries = list(task.items())
    assert task.name == "mine" and [entry.kind for entry in entries[:2]] == ["example", "example"]
    assert entries[2] == Item(2, Choices("Q: 0?\nA: no\n\nQ: 1?\nA: yes\n\nQ: 2?\nA:", ("no", "yes"), 0), "1")
    assert [entry.number for entry in task.items(limit=1)] == [0, 1, 2]
    write(tmp_path / "shots.jsonl", [{"q": "s", "options": ["no", "yes"], "right": 1}])
    text = (tmp_path / "t.toml").read_text().replace("shots = 2", 'shots = 1\nexamples = "shots.jsonl"')
    (tmp_path / "other.toml").write_text(text)
    other = one(tmp_path / "other.toml")
    assert len(bodies(other)) == 5 and bodies(other)[0].context.startswith("Q: s\nA: yes\n\nQ: 0?")
    assert other.identity != task.identity
    (tmp_path / "suite.toml").write_text('tasks = ["t.toml", "rows.toml"]')
    (tmp_path / "rows.toml").write_text('data = "rows.jsonl"\nprompt = "{q}"\nanswer = "{right}"\nscorer = "numeric"')
    assert [task.name for task in read(tmp_path / "suite.toml")] == ["mine", "rows"]
    assert read(tmp_path / "suite.toml")[1].settings.scorers == ("numeric",)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.jsonl", "", "t has no rows"),
        ("t.jsonl", '{"a": 1}\n', r"row 1: expected the keys of one form .*good, bad.*, got a"),
        ("t.jsonl", '{"good"\n', r"t.jsonl:1: no JSON"),
        ("t.jsonl", "[1]\n", r"t.jsonl:1: expected an object, got list"),
        ("t.txt", "x", "must be a .jsonl, .csv or .toml file"),
        ("t.toml", 'data = "r.jsonl"\nshotz = 3', "t.toml: unknown option shotz; did you mean shots"),
        ("t.toml", "shots = 3", "data must name"),
        ("t.toml", 'data = "r.jsonl"\nshots = "3"', "shots must be a whole number, got '3'"),
        ("t.toml", 'data = "r.jsonl"\nprompt = "{x}"\nanswer = "{q}"', "no column 'x' for prompt, only q"),
        ("t.toml", 'data = "r.jsonl"\nprompt = "{q}"\nanswer = "{q}"\ncluster = "u"', "there is no column 'u' in"),
        ("t.toml", "= 3", "t.toml: not TOML"),
        ("t.toml", f"shots = {'3' * 5000}", "t.toml: not TOML"),
    ],
)
def test_a_malformed_task_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path / "r.jsonl", [{"q": "x"}])
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        for task in read(tmp_path / name):
            list(task.items())
    with pytest.raises(DataError, match="there is no file"):
        read(tmp_path / "none.jsonl")


def test_a_suite_in_itself_a_damaged_archive_and_a_device_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('tasks = ["b.toml"]')
    (tmp_path / "b.toml").write_text('tasks = ["a.toml"]')
    whole = gzip.compress(b'{"good": "a b", "bad": "b a"}\n' * 50)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-12])
    (tmp_path / "bad.jsonl.gz").write_bytes(whole[:20] + bytes(byte ^ 255 for byte in whole[20:30]) + whole[30:])
    (tmp_path / "endless.jsonl").symlink_to("/dev/zero")
    for name, words in {
        "a.toml": "listed in itself, by .*b.toml", "cut.jsonl.gz": "cannot read .*cut",
        "bad.jsonl.gz": "cannot read .*bad", "endless.jsonl": "it is a device",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=words):
            [*read(tmp_path / name)[0].rows()]
