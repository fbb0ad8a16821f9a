"""Inline Markdown as it grows: what may still change, and where a text may be cut; lines by their kind."""

import random

import pytest

from likely.app.tui.base.text.highlight import Highlight, LexerState
from likely.app.tui.base.text.inline import Run, inline
from likely.app.tui.base.text.lines import Divider, closes, is_code, line_at, lists
from tests.screen.test_markdown import SIGNS


def test_what_follows_changes_nothing_before_what_is_settled() -> None:
    rng = random.Random(5)
    moved = 0
    for _ in range(150):
        parts = rng.choices([*SIGNS, " ", "x ", " y", "* ", "` "], k=rng.randint(2, 12))
        text = "".join(parts)
        size = rng.randint(1, len(text))
        for growing in (False, True):
            found = inline(text[:size], growing)
            at = found.settled(text[:size], size)
            moved += at > 0
            assert _cut(inline(text, growing=False).runs, at) == _cut(found.runs, at), (text, size)
            rest = inline(text[at:], growing=False).runs
            after = [Run(run.start + at, run.end + at, run.shown, run.face) for run in rest]
            assert [run for run in inline(text, growing=False).runs if run.start >= at] == after or any(
                run.start < at < run.end for run in inline(text, growing=False).runs
            )
    assert moved > 60


def _cut(runs: tuple[Run, ...], at: int) -> list[Run]:
    return [Run(run.start, min(run.end, at), run.shown, run.face) for run in runs if run.start < at]


@pytest.mark.parametrize(
    ("at", "found"),
    [(0, ("ab", 2, True)), (1, ("b", 2, True)), (2, ("", 2, True)), (3, ("", 3, True)), (4, ("c", 5, False))]
)  # fmt: skip
def test_a_line_ends_before_its_break_or_with_the_text(at: int, found: tuple[str, int, bool]) -> None:
    assert line_at("ab\n\nc", at) == found
    assert line_at("\nab", 0) == ("", 0, True) and line_at("", 0) == ("", 0, False)


@pytest.mark.parametrize(
    ("line", "listed", "blank", "after"),
    [
        ("- a", False, False, True), ("1. a", False, True, True), ("12) a", False, False, True),
        ("-a", False, False, False), ("a", True, False, True), ("a", True, True, False), (" a", True, True, True),
        ("\ta", True, True, True), ("", True, True, True), ("", True, False, True), ("", False, False, False),
        (" a", False, True, False),
    ],
)  # fmt: skip
def test_a_list_goes_on_until_a_line_at_the_left_after_a_blank_one(
    line: str, listed: bool, blank: bool, after: bool
) -> None:
    assert lists(line, listed, blank) is after


@pytest.mark.parametrize(
    ("line", "listed", "blank", "code"),
    [
        ("    a", False, True, True), ("\ta", False, True, True), ("     a", False, True, True),
        ("   a", False, True, False), ("    a", True, True, False), ("    a", False, False, False),
        ("     ", False, True, False), ("    ```", False, True, False), ("    # a", False, True, False),
        ("    - a", False, True, False), ("    > a", False, True, True),
    ],
)  # fmt: skip
def test_a_line_is_code_where_it_is_indented_after_a_blank_one(
    line: str, listed: bool, blank: bool, code: bool
) -> None:
    assert is_code(line, listed, blank) is code


@pytest.mark.parametrize(
    ("line", "sign", "closed"),
    [
        ("```", "```", True), ("  ````  ", "```", True), ("``", "```", False), ("```a", "```", False),
        ("~~~", "```", False), ("~~~~", "~~~~", True),
    ],
)  # fmt: skip
def test_a_fence_is_closed_by_as_many_of_its_signs_alone(line: str, sign: str, closed: bool) -> None:
    assert closes(line, sign) is closed


def test_a_text_may_be_divided_after_a_blank_line_outside_of_code() -> None:
    divider = Divider()
    assert divider.ended and not divider.listed
    said = []
    for text in (
        "a",
        "\n",
        "\n",
        "- b\n",
        "\n",
        "c\n",
        "\n``",
        "`x\n\n",
        "y\n",
        "```\n",
        "\n",
        "    code\n",
        "\n  ",
        "\n",
    ):
        divider.push(text)
        said.append((text, divider.ended, divider.listed))
    assert said == [
        ("a", False, False), ("\n", False, False), ("\n", True, False), ("- b\n", False, True), ("\n", True, True),
        ("c\n", False, False), ("\n``", False, False), ("`x\n\n", False, False), ("y\n", False, False),
        ("```\n", False, False), ("\n", True, False), ("    code\n", True, False), ("\n  ", False, False),
        ("\n", True, False),
    ]  # fmt: skip


def test_words_outside_of_the_line_are_not_lit() -> None:
    text = '"""a\nbc\nd"""\n'
    highlight, place = Highlight("python"), LexerState(0)
    for start, end in ((0, 5), (5, 8), (8, 13)):
        found, place = highlight.line(text, place, start, end)
        assert found and all(start <= a < b <= end for a, b, _ in found)
