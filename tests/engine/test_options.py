"""Options of a verb: how a value is read, which ranges hold, and what is refused by name."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from likely.engine.errors import DataError, ParameterError
from likely.engine.options import changes, check_needs, check_ranges, option, read_toml, typed, unknown


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
