"""JSON of strangers: depth, size, digits and types end in one line."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import CheckpointError, DataError
from likely.engine.base.files.foreign_json import DEPTH, check, parse, read


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[" * 100_000, "nested deeper"), ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "nested deeper"),
        ('{"a":' * DEPTH + "[]" + "}" * DEPTH, "nested deeper"), ("9" * 5000, "at most 20 digits, got one of 5,000"),
        ("[-" + "9" * 21 + "]", "at most 20 digits"), (b"\xff\xfe\xfd", "UTF-8 expected"), ("", "Expecting value"),
        ("[1] 2", "Extra data"), ("1" * 9, "more than"),
    ],
)  # fmt: skip
def test_what_has_no_measure_is_one_line(text: str | bytes, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        parse(text, largest=8 if text == "1" * 9 else 1 << 20)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_what_has_measure_is_the_value() -> None:
    deep: Any = 1
    for _ in range(DEPTH):
        deep = [deep]
    for value in (deep, -(2**63), 2**64 - 1, {"a": [None, True, 1.5, "é"]}, 0):
        assert parse(json.dumps(value)) == value


SCHEMA = {"n": int, "x?": (float, None), "names?": [str], "by?": {str: float}, "inner?": {"flag": bool}, "any?": object}


def test_a_schema_takes_what_it_says() -> None:
    value = {"n": 1, "x": 2, "names": ["a"], "by": {"k": 0.5}, "inner": {"flag": True}, "any": [1], "unknown": {}}
    assert check(value, SCHEMA) is value
    assert check({"n": 0, "x": None}, SCHEMA) == {"n": 0, "x": None}


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"n": True}, r"n: a whole number expected, got true or false \(True\)"),
        ({"n": 1.0}, "n: a whole number expected, got a number"),
        ({"n": None}, "n: a whole number expected, got nothing"),
        ({"x": math.nan}, "x: a number or nothing expected, got a number"),
        ({"x": math.inf}, "x: a number or nothing expected"),
        ({"names": ["a", 1]}, r"names\[1\]: text expected, got a whole number \(1\)"),
        ({"names": "a"}, "names: a list expected, got text"), ({"by": {"k": "v"}}, "by.k: a number expected, got text"),
        ({"inner": {}}, "inner.flag is missing"), ({"inner": []}, "inner: an object expected, got a list"),
    ],
)  # fmt: skip
def test_a_schema_names_the_place(changed: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        check({"n": 1} | changed, SCHEMA)
    with pytest.raises(ValueError, match="n is missing"):
        check({}, SCHEMA)


def test_a_file_is_blamed_by_the_callers_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(CheckpointError, match=r"cannot read .*a\.json: No such file"):
        read(path, error=CheckpointError)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"cannot read .*a\.json: an object expected, got a list"):
        read(path)
    assert read(path, list) == []
