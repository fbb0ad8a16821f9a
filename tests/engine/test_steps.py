"""Equations in the steps of a text: which are found, and whether they hold, against arithmetic by hand."""

from random import Random

from likely.engine.reason.steps import equations, units

HOLD = [
    "27 pens are 27 / 3 = 9 groups of three.", "so they cost 9 × 4 = £36.", "£40 − £36 = £4", "10 / 3 = 3.33",
    "10 / 3 ≈ 3", "1,200 + 34 = 1,234", "2 + 3 * 4 = 14 = 15 - 1", "5-3=2", "1. 3 + 4 = 7", "3 x 4 = 12", "-3 + 5 = 2",
    "$5 + $6 = $11.00", "1/3 + 1/3 = 2/3", "0.1 + 0.2 = 0.3", "12 ÷ 4 = 3 kg", "20 - 3 - 4 = 13", "8 / 2 / 2 = 2",
]  # fmt: skip
FAIL = [
    "27 / 3 = 8", "10/3 = 3", "10 / 3 = 3.4", "3 + 4 = 7 * 2 = 14", "3 + 4 = 2 + 6", "20 - 3 - 4 = 21",
    "2 + 3 * 4 = 20",
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


def test_what_python_works_out_holds_and_its_neighbour_does_not() -> None:
    random = Random(0)
    for _ in range(300):
        left = str(random.randint(0, 99))
        for _ in range(random.randint(1, 4)):
            left += f" {random.choice('+-*')} {random.randint(0, 99)}"
        value = eval(left)  # of digits and signs that are made here
        assert [each.holds for each in equations(f"So {left} = {value}.")] == [True], left
        assert [each.holds for each in equations(f"So {left} = {value + 1}.")] == [False], left


def test_a_rounded_side_is_as_near_as_the_shorter_of_two() -> None:
    for text, holds in (
        ("10 / 3 ≈ 3.33 ≈ 3.3", True), ("10 / 3 = 3.33 = 3.3", True), ("13 / 4 = 3.25 ≈ 3.2", True),
        ("13 / 4 = 3.25 ≈ 3.1", False), ("10 / 3 ≈ 3.33 ≈ 3.2", False), ("7 / 2 ≈ 4", True), ("7 / 2 ≈ 3", True),
        ("7 / 2 = 4", False), ("1 / 8 = 0.13", True), ("1 / 8 = 0.12", True), ("1 / 8 = 0.1", True),
        ("1 / 8 = 0.11", False), ("1 + 1 = 2.0", True), ("2 + 2 ≈ 8 / 2", True), ("2 + 2 ≈ 9 / 2", False),
    ):  # fmt: skip
        assert [each.holds for each in equations(text)] == [holds], text


def test_steps_are_lines_or_sentences_or_words() -> None:
    assert units("a b\nc.\n") == ["a b\n", "c.\n"] and units("A b. C d.") == ["A b. ", "C d."]
    assert units("a b") == ["a ", "b"] and units("") == []
