"""A made row as it is kept, and the rows that methods begin with: of training, of tasks, problems with examples."""

import hashlib
import json
import math
from pathlib import Path

import pytest

from likely.engine.base.errors import DataError
from likely.engine.measure.synth import inputs
from likely.engine.measure.synth.row import RowSource, SynthRow, digest, of_value
from likely.engine.text.rows.training_row import parse, sides


def row(job: int, says: str, asks: str = "", parent: str = "p", dropped: str = "", **attributes: str) -> SynthRow:
    content = {"prompt": asks, "completion": says} if asks else {"text": says}
    return SynthRow(content, RowSource("m", job, 0, 0, parent, attributes=attributes), {}, dropped)


def test_a_row_has_its_number_its_sides_and_what_is_beside_it() -> None:
    made = row(12, " b c", "a").scored(x=1.0).scored(y=math.nan).out("filter: why")
    assert (made.id, made.sides, made.text, made.completion) == ("000012-000", ("a", " b c"), "a\n b c", " b c")
    value = made.value()
    assert value["id"] == "000012-000" and value["dropped"] == "filter: why" and set(value["scores"]) == {"x", "y"}
    again = of_value(json.loads(json.dumps(value)))
    assert (again.content, again.source, again.dropped) == (made.content, made.source, made.dropped)
    with pytest.raises(ValueError, match="scores are numbers"):
        of_value({**value, "scores": {"x": "1"}})
    several = parse(
        {
            "messages": [
                {"role": "user", "content": "q"}, {"role": "assistant", "content": "r"},
                {"role": "user", "content": "s"}, {"role": "assistant", "content": "t"},
            ]
        },
        "",
    )  # fmt: skip
    assert sides(several) == ("q\nr\ns", "t")
    assert digest("A, b!") == digest("a b") == hashlib.sha256(b"a b").hexdigest()[:16]


def test_sources_are_rows_of_training_or_tasks(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n{"text": "c"}\n')
    assert inputs.pairs(str(rows)) == [("a", "b"), ("", "c")]
    items = tmp_path / "items.jsonl"
    items.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "c", "answer": ["d", "e"]}\n')
    assert inputs.pairs(str(items)) == [("a", " b"), ("c", " d")]
    assert [each.where for each in inputs.training_rows(str(items))] == [f"{items}:0", f"{items}:1"]
    choices = tmp_path / "choices.csv"
    choices.write_text("context,choices,gold\nwhy,so|no,1\nhow,a|b,0\n")
    assert inputs.pairs(str(choices)) == [("", "why no"), ("", "how a")]
    toml = tmp_path / "t.toml"
    toml.write_text('data = "items.jsonl"\nshots = 1\n')
    assert inputs.pairs(str(toml)) == [("a", " b"), ("c", " d")]  # without the examples before it
    assert len(inputs.pairs("arithmetic:items=3,shots=0")) == 3
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "c"}\n')
    assert inputs.pairs(str(folder)) == [("", "c")]
    with pytest.raises(DataError, match="there is no task nothing"):
        inputs.task_of("nothing")
    toml.write_text('tasks = ["items.jsonl", "items.jsonl"]\n')
    with pytest.raises(DataError, match="is a suite of 2 tasks: name one of them"):
        inputs.task_of(str(toml))


def test_problems_are_asked_with_their_examples_and_trained_on_without(tmp_path: Path) -> None:
    task = inputs.task_of("sorting:items=4,shots=2")
    found = inputs.problems(task)
    assert [each.number for each in found] == [2, 3, 4, 5]
    for each in found:
        assert each.asked.prompt.endswith(each.bare.prompt) and each.asked.prompt.count("Sort") == 3
        assert each.bare.prompt.count("Sort") == 1
    assert [each.number for each in inputs.problems(task, 2)] == [2, 3]
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="problems are rows with prompt and answer, not documents"):
        inputs.problems(inputs.task_of(str(path)))
    path.write_text('{"prompt": "", "answer": "b"}\n')
    with pytest.raises(DataError, match="no problem is in it"):
        inputs.problems(inputs.task_of(str(path)))
