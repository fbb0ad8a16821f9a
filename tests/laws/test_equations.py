"""Equations in the steps of a text: which are found, and whether they hold, against arithmetic by hand and Python's."""

from hypothesis import given
from hypothesis import strategies as st

from likely.engine.measure.reason.steps import equations, units

HOLD = [
    "27 pens are 27 / 3 = 9 groups of three.", "so they cost 9 × 4 = £36.", "£40 − £36 = £4", "10 / 3 = 3.33",
    "10 / 3 ≈ 3", "1,200 + 34 = 1,234", "2 + 3 * 4 = 14 = 15 - 1", "5-3=2", "1. 3 + 4 = 7", "3 x 4 = 12", "-3 + 5 = 2",
    "$5 + $6 = $11.00", "1/3 + 1/3 = 2/3", "0.1 + 0.2 = 0.3", "12 ÷ 4 = 3 kg", "20 - 3 - 4 = 13", "8 / 2 / 2 = 2",
    # a rounded side is as near as the shorter of two
    "10 / 3 ≈ 3.33 ≈ 3.3", "10 / 3 = 3.33 = 3.3", "13 / 4 = 3.25 ≈ 3.2", "7 / 2 ≈ 4", "7 / 2 ≈ 3", "1 / 8 = 0.13",
    "1 / 8 = 0.12", "1 / 8 = 0.1", "1 + 1 = 2.0", "2 + 2 ≈ 8 / 2",
]  # fmt: skip
FAIL = [
    "27 / 3 = 8", "10/3 = 3", "10 / 3 = 3.4", "3 + 4 = 7 * 2 = 14", "3 + 4 = 2 + 6", "20 - 3 - 4 = 21",
    "2 + 3 * 4 = 20", "13 / 4 = 3.25 ≈ 3.1", "10 / 3 ≈ 3.33 ≈ 3.2", "7 / 2 = 4", "1 / 8 = 0.11", "2 + 2 ≈ 9 / 2",
]  # fmt: skip
NONE = [
    "x + 3 + 4 = 9", "(2 + 3) * 4 = 20", "50 % of 20 = 10", "3 / 0 = 1", "2 + 2x = 4", "7 = 7", "2^3 = 8", "1.2.3 = 4",
    f"{'1' * 5000} + 1 = 2", "1 + " * 5000, "",
]  # fmt: skip


def test_equations_are_found_and_worked_out() -> None:
    for text in HOLD + FAIL:
        assert [each.holds for each in equations(text)] == [text in HOLD], text
    assert not any(equations(text) for text in NONE)
    found = equations("4 + 6 = 10. 10 + 3 = 14.\n5+3+0=8 6+7+0=13 1538")
    assert [(each.text, each.holds) for each in found] == [
        ("4 + 6 = 10", True), ("10 + 3 = 14", False), ("5+3+0=8", True), ("6+7+0=13", True),
    ]  # fmt: skip


@given(st.integers(0, 99), st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), min_size=1, max_size=4))
def test_what_python_works_out_holds_and_its_neighbour_does_not(first: int, rest: list[tuple[str, int]]) -> None:
    left = f"{first}" + "".join(f" {sign} {number}" for sign, number in rest)
    value = eval(left)  # of digits and signs that are made here
    assert [each.holds for each in equations(f"So {left} = {value}.")] == [True]
    assert [each.holds for each in equations(f"So {left} = {value + 1}.")] == [False]


def test_steps_are_lines_or_sentences_or_words() -> None:
    assert units("a b\nc.\n") == ["a b\n", "c.\n"] and units("A b. C? d") == ["A b. ", "C? ", "d"]
    assert units("a b") == ["a ", "b"] and units("") == []
