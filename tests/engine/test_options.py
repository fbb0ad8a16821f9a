"""Options of a verb and readers of what strangers wrote: every bound from both sides, every line of error."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine import json_reader, whole_file
from engine.errors import CheckpointError, DataError, ParameterError
from engine.options import changes, check_needs, check_ranges, option, read_toml, typed, unknown


def test_a_value_is_as_its_field_holds_it() -> None:
    assert typed("n", 3, int) == 3 and typed("b", True, bool) is True and typed("s", "x", str) == "x"
    assert type(typed("f", 3, float)) is float and typed("f", 2.5, float) == 2.5
    assert typed("l", ["a", "b"], tuple[str, ...]) == ("a", "b") == typed("l", ("a", "b"), tuple[str, ...])
    assert typed("l", [], tuple[str, ...]) == ()
    assert typed("n", 10**18 - 1, int) == 10**18 - 1 and typed("n", 1 - 10**18, int) == 1 - 10**18
    for value, kind, line in (
        ("3", int, "x must be a whole number, got '3'"), (True, int, "x must be a whole number, got True"),
        (2.0, int, "x must be a whole number, got 2.0"), (True, float, "x must be a number, got True"),
        ("a", float, "x must be a number"), (1, bool, "x must be true or false, got 1"), (1, str, "x must be text"),
        (["a", 1], tuple[str, ...], "x must be a list of texts"), ("ab", tuple[str, ...], "x must be a list of texts"),
        (10**18, int, "at most 18 digits, got one of 19"), (-(10**18), int, "at most 18 digits, got one of 19"),
        (10**400, float, "x must be a number, got one of 401 digits"),
    ):  # fmt: skip
        with pytest.raises(ParameterError) as error:
            typed("x", value, kind)
        assert line in str(error.value), value


def test_names_are_told_apart_and_the_nearest_is_named() -> None:
    hints: dict[str, Any] = {"learning_rate": float, "seed": int}
    assert changes({"learning-rate": 1, "seed": 2}, hints) == {"learning_rate": 1.0, "seed": 2}
    assert changes({"lr": 0.5}, hints, {"lr": "learning_rate"}) == {"learning_rate": 0.5} and changes({}, hints) == {}
    for values in ({"lr": 1, "learning_rate": 2}, {"learning_rate": 2, "lr": 1}):
        with pytest.raises(ParameterError, match="lr is called learning_rate now: give one of them"):
            changes(values, hints, {"old": "seed", "lr": "learning_rate"})
    with pytest.raises(ParameterError, match="a-b is called a_b now"):
        changes({"a_b": 1, "a-b": 2}, {"a_b": int}, {"old": "seed"})
    with pytest.raises(ParameterError, match=r"unknown option learning-rat; did you mean learning_rate\?"):
        changes({"learning-rat": 1}, hints)
    assert str(unknown("zzz", ["a", "b"])) == "unknown option zzz; known: a, b"


@dataclass(frozen=True)
class Some:
    """Options of a verb."""

    low: float = option(1.0, "", low=0.5)
    both: float = option(1.0, "", low=0, high=2)
    only: int = option(1, "", high=3)
    named: str = option("a", "", choices=("a", "b"))
    plain: float = math.nan


def test_ranges_hold_at_their_ends() -> None:
    for good in ({}, {"low": 0.5}, {"low": 1e9}, {"both": 0}, {"both": 2}, {"only": 3}, {"only": -5}, {"named": "b"}):
        check_ranges(Some(**good))  # type: ignore[arg-type]
    for bad, line in (
        ({"low": 0.49}, "low must be at least 0.5, got 0.49"), ({"both": -0.1}, "both must be 0 to 2, got -0.1"),
        ({"both": 2.1}, "both must be 0 to 2, got 2.1"), ({"low": math.inf}, "low must be at least 0.5, got inf"),
        ({"both": math.nan}, "got nan"), ({"named": "c"}, "named must be one of a, b, got 'c'"),
    ):  # fmt: skip
        with pytest.raises(ParameterError) as error:
            check_ranges(Some(**bad))  # type: ignore[arg-type]
        assert line in str(error.value)


def test_an_option_that_would_change_nothing_is_refused() -> None:
    needs: Any = {"low": (lambda o: o.named == "b", "b")}
    check_needs(Some(), ["both"], needs)
    check_needs(Some(named="b"), ["low"], needs)
    with pytest.raises(ParameterError, match="low goes with b"):
        check_needs(Some(), ["low"], needs)


def test_toml_of_too_much_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "o.toml"
    for text, want in (
        ("a = 1\n[b]\nc = [1, 2]", {"a": 1, "b": {"c": [1, 2]}}), (f"a = {'9' * 20}", {"a": 10**20 - 1}),
        (f"a = -{'9' * 20}", {"a": 1 - 10**20}), (f"a = {'[' * 63}{']' * 63}", None), ("a = 1e400", {"a": math.inf}),
    ):  # fmt: skip
        file.write_text(text)
        found = read_toml(file)
        assert want is None or found == want
    for text, line in (
        ("a = ", "not TOML"), (f"a = 1{'0' * 20}", "at most 20 digits"), (f"a = [[{{b = -1{'0' * 20}}}]]", "20 digits"),
        (f"a = {'[' * 64}{']' * 64}", "nested deeper than 64"), (f"a = {'9' * 5000}", "not TOML"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(DataError, match=line):
            read_toml(file)


# -- JSON ------------------------------------------------------------------------------------------------------------


def test_json_is_bounded_from_both_sides() -> None:
    assert json_reader.parse("[1]", largest=3) == [1] and json_reader.parse(b"[1]") == [1]
    nested = "[" * 64 + "]" * 64
    json_reader.parse(nested)
    json_reader.parse('{"a": ' * 64 + "1" + "}" * 64)
    assert json_reader.parse("9" * 20) == 10**20 - 1 and json_reader.parse("-" + "9" * 19) == 1 - 10**19
    for text, line in (
        ("[11]", "it has more than 0 MB"),
        (f"[{nested}]", "nested deeper than 64"),
        ("1" * 21, "20 digits, got one of 21"),
        ('{"a": ' * 65 + "1" + "}" * 65, "nested deeper"),
        ("[" * 200_000, "nested deeper"),
        ("-" + "9" * 20, "got one of 21"),
        ("{", "Expecting"),
        (b"\xff", "UTF-8 expected: invalid start byte at byte 0"),
    ):
        with pytest.raises(ValueError, match=line) as error:
            json_reader.parse(text, largest=3 if text == "[11]" else json_reader.LARGEST)
        assert "\n" not in str(error.value)


def test_a_schema_says_where_it_is_not_met() -> None:
    schema = {"a": int, "b?": [float], "c?": {str: (str, None)}, "d?": {"e": bool}, "f?": object, "g?": None}
    for good in (
        {"a": 1},
        {"a": 1, "b": [], "other": 5},
        {"a": 1, "b": [1, 2.5]},
        {"a": 1, "c": {"x": "y", "z": None}},
        {"a": 1, "d": {"e": False}},
        {"a": 1, "f": [None]},
        {"a": 1, "g": None},
    ):
        assert json_reader.check(good, schema) is good
    for bad, line in (
        ([], "an object expected, got a list ([])"),
        ({}, "a is missing"),
        ({"a": True}, "a: a whole number expected, got true or false (True)"),
        ({"a": 1.0}, "a: a whole number expected, got a number (1.0)"),
        ({"a": 1, "b": [1, True]}, "b[1]: a number expected"),
        ({"a": 1, "b": [math.inf]}, "b[0]: a number expected, got a number (inf)"),
        ({"a": 1, "b": {}}, "b: a list expected, got an object"),
        ({"a": 1, "c": {"x": 1}}, "c.x: text or nothing expected, got a whole number (1)"),
        ({"a": 1, "d": {}}, "d.e is missing"),
        ({"a": 1, "d": {"e": None}}, "d.e: true or false expected, got nothing"),
        ({"a": 1, "g": 0}, "g: nothing expected, got a whole number (0)"),
        ({"a": 1, "c": {"k" * 50: 2}}, f"c.{'k' * 40}: text or nothing"),
        ({"a": "x" * 90}, f"got text ({'x' * 40})"),
    ):
        with pytest.raises(ValueError) as error:
            json_reader.check(bad, schema)
        assert line in str(error.value), bad
    with pytest.raises(ValueError, match=r"^y: text expected"):
        json_reader.check({"x": "a", "y": 1}, {str: str})
    assert json_reader.check([1], ([int], str)) == [1]
    with pytest.raises(ValueError, match=r"\[0\]: a whole number expected"):
        json_reader.check(["a"], ([int], str))
    assert json_reader.shown({1}) == "set ({1})" and json_reader.shown(None) == "nothing"


def test_a_file_of_json_is_read_by_a_schema(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    assert json_reader.read(file, {"a": int}) == {"a": 1} and json_reader.read(file, largest=8) == {"a": 1}
    for call, kind, line in (
        (lambda: json_reader.read(file, {"b": int}), DataError, "b is missing"),
        (
            lambda: json_reader.read(file, list, error=CheckpointError),
            CheckpointError,
            "cannot read .*: a list expected",
        ),
        (lambda: json_reader.read(file, largest=7), DataError, "more than 0 MB"),
        (lambda: json_reader.read(tmp_path / "none", error=CheckpointError), CheckpointError, "No such file"),
    ):
        with pytest.raises(kind, match=line):
            call()


# -- files -----------------------------------------------------------------------------------------------------------


def test_text_is_read_in_whatever_parts_a_file_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes("é\r\nb\rc\n".encode())
    for at_once in (1, 3, 1 << 20):
        monkeypatch.setattr(whole_file, "AT_ONCE", at_once)
        assert whole_file.read_whole(file) == "é\nb\nc\n" and whole_file.read_whole(file, newline="") == "é\r\nb\rc\n"
        assert whole_file.read_whole(file, largest=8) == "é\nb\nc\n"
        with pytest.raises(DataError, match="more than 0 MB"):
            whole_file.read_whole(file, largest=7)
        with file.open("rb") as opened:
            assert whole_file.read_bounded(opened, "t", 8) == file.read_bytes()
        with file.open("rb") as opened, pytest.raises(DataError, match="cannot read t: it has more than 0 MB"):
            whole_file.read_bounded(opened, "t", 7)
    assert whole_file.read_whole(file, encoding="latin-1").startswith("Ã©")
    file.write_bytes(b"ab\xff")
    with pytest.raises(DataError, match="must be UTF-8: invalid start byte at byte 2"):
        whole_file.read_whole(file)
    file.write_bytes(b"")
    assert whole_file.read_whole(file, largest=0) == ""
    for path, line in (
        (tmp_path, "Is a directory"),
        (tmp_path / "a\0b", "null"),
        (Path("/dev/zero"), "it is a device"),
    ):
        with pytest.raises(DataError, match=line):
            whole_file.read_whole(path)
    with whole_file.open_file(file, 0) as opened:
        assert opened.read() == b""


def test_what_is_in_the_way_of_a_file_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "b.partial.txt").mkdir()
    for path, line in (
        (tmp_path / "folder", "it is a folder, and a file is wanted"),
        (tmp_path / "b.txt", "is a folder: move it away"),
        (tmp_path / "none" / "x", "No such file"),
        (file / "x", "Not a directory"),
    ):
        with pytest.raises(DataError, match=f"was not written: .*{line}"):
            whole_file.write_whole(path, ["x"])

    def fails(to: Path) -> None:
        to.write_text("half")
        raise RuntimeError("no room.\nmore words")

    with pytest.raises(DataError, match=r"a\.txt was not written: no room$"):
        whole_file.put_whole(file, fails)
    with pytest.raises(DataError, match=r"was not written: ValueError$"):
        whole_file.put_whole(file, lambda to: (_ for _ in ()).throw(ValueError()))
    assert file.read_text() == "old" and not list(tmp_path.glob("a.partial*"))
    whole_file.write_whole(file, ["new\n", "é"])
    assert file.read_bytes() == "new\né".encode() and not list(tmp_path.glob("a.partial*"))
    link = tmp_path / "link"
    link.symlink_to(file)
    whole_file.write_whole(link, ["linked"])
    assert link.is_symlink() and file.read_text() == "linked"
    whole_file.write_whole(Path("/dev/null"), ["gone"])
    with pytest.raises(DataError, match="a device or a pipe"):
        whole_file.put_whole(Path("/dev/null"), fails)


def test_folders_of_ours_lie_where_nothing_is(tmp_path: Path) -> None:
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "file"
    full.mkdir()
    empty.mkdir()
    file.write_text("x")
    (full / "x").write_text("x")
    whole_file.check_readable(full)
    whole_file.check_new_folder(empty, "--out")
    whole_file.check_new_folder(tmp_path / "none", "--out")
    whole_file.check_new_file(tmp_path / "none", "--out")
    whole_file.make_folder(tmp_path / "a" / "b", "--out")
    whole_file.make_folder(tmp_path / "a" / "b", "--out")
    assert (tmp_path / "a" / "b").is_dir()
    for call, line in (
        (lambda: whole_file.check_readable(tmp_path / "none"), "cannot read .*: No such file"),
        (lambda: whole_file.make_folder(file / "x", "--out"), "cannot make .*: Not a directory; choose another --out"),
        (lambda: whole_file.check_new_file(full, "--out"), "exists already: choose another --out or remove it"),
        (lambda: whole_file.check_new_folder(full, "--out"), "is not empty: choose another --out"),
        (lambda: whole_file.check_new_folder(file, "--out"), "is a file, and --out takes a folder"),
        (lambda: whole_file.check_new_folder(Path("/"), "--out"), "takes the name of a folder to make, got '/'"),
        (lambda: whole_file.check_new_folder(tmp_path / ("x" * 300), "--out"), "cannot be --out"),
    ):
        with pytest.raises(DataError, match=line):
            call()
