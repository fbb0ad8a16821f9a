"""Rows of tokens in detail: which cells are whose, where a word may be broken, what hangs, and going back."""

from itertools import accumulate

import pytest

from likely.app.tui.base import cells
from likely.app.tui.base.face import CODE, MARKUP
from likely.app.tui.base.wrap import NOBODY, CellRow, Span, Wrap
from tests.screen.test_wrap import shown, wrapped

TOLD = {
    "words of several tokens": ["It", " is", " bl", "ue", ".\n", "\n", "So", " it", " seems"],
    "wide characters": ["日本", "語a", "b日", "xyz", "日", "abc", " d"],
    "marks": ["e", "\u0301", " ", "\u0301", "\n", "\u0301a", "日", "\u0301b", "\u0302", "c"],
    "tabs": ["a\tb", "\t", "abc\t\tx", "\n\t", "y"],
    "a word longer than a row": ["ab cdefghij", "klm", "nopq r", "s"],
    "spaces that hang": ["abcdef", "   ", "    ", " ", "b", " ", "\n", "  c ", "\n"],
    "spaces that do not break": ["a\u00a0b", "\u00a0", "cd\u00a0\u00a0", "ef"],
    "joined emoji and flags": ["👨\u200d👩\u200d👧", "x", "🇦🇿", "👍🏽y", "\ufe0f"],
    "spaces beyond the last column": ["abcdef ", " \t ", " ", "x", " "],
    "empty tokens": ["", "a", "", "", "\n", "", "b", "\u200b"],
    "a break in a full row": ["abcdef", "\n", "abcdefg", "\n", "abcde  ", "\n", "x"],
}


def told(wrap: Wrap) -> list[str]:
    """Every row: its text with the token of each character below, then what each column is taken for."""
    lines = []
    for y, row in enumerate(wrap.rows):
        text = row.text.replace("\n", "⏎")
        owners = "".join(("." if s.token == NOBODY else f"{s.token % 10}") * len(s.text) for s in row.spans)
        under = "".join("." if found is None else f"{found % 10}" for found in map(row.at, range(-1, row.width + 2)))
        facts = f"first {row.first} width {row.width}" + " broken" * row.broken
        facts += f" word {row.word}" + f" lead {row.lead}" * bool(row.lead) + f" fill {row.fill}" * bool(row.fill)
        lines += [f"  |{text}|", f"  |{owners}| {y}: {facts}, at {under}"]
        lines += [f"  faces {[s.face for s in row.spans]}"] * any(s.face for s in row.spans)
    places = (f"{token} {wrap.place(token)} {list(wrap.rows_of(token))}" for token in range(wrap.count + 1))
    return [*lines, f"  places: {'; '.join(places)}", f"  firsts: {wrap.firsts}, next {wrap.count}"]


HANG = (Span(NOBODY, "│ ", 2, MARKUP),)


def test_after_going_back_the_same_rows_come_again() -> None:
    texts = [text for texts in TOLD.values() for text in texts]
    for width in (2, 7, 20):
        for size in range(0, len(texts), 7):
            wrap = wrapped(texts[:size], width)
            mark, before = wrap.mark(), told(wrap)
            rows = wrap.rows[-1:]
            assert (mark.rows, mark.first) == (len(wrap.rows), rows[0].first)
            wrap.hang, wrap.fill = HANG, CODE
            wrap.put(size, "abcd efgh ij\nkl")
            grown = wrap.rows[mark.rows - 1 :]
            assert wrap.back(mark) == grown and told(wrap) == before
            wrap.hang, wrap.fill = (), 0
            for text in texts[size : size + 9]:
                wrap.push(text)
            assert told(wrap) == told(wrapped(texts[: size + 9], width))


def test_a_row_in_a_margin_keeps_it_after_going_back() -> None:
    wrap = Wrap(10, first=2)
    wrap.fill = CODE
    wrap.lead(4, HANG)  # tokens that show nothing stand before it
    assert wrap.firsts == [4] == [wrap.rows[0].first]
    mark, before = wrap.mark(), told(wrap)
    wrap.put(2, "abc defghij kl")
    wrap.back(mark)
    assert told(wrap) == before
    assert (wrap.rows[0].lead, wrap.rows[0].fill, wrap.rows[0].width, wrap.rows[0].word) == (1, CODE, 2, 1)


def test_a_closed_wrap_ends_with_its_last_line_break() -> None:
    wrap = wrapped(["ab", "\n"], 10)
    assert (shown(wrap), wrap.firsts) == (["ab", ""], [0, 2])
    wrap.close()
    assert (shown(wrap), wrap.firsts) == (["ab"], [0])


def test_what_is_said_between_two_characters_is_without_margin_and_line_break() -> None:
    row = CellRow(0)
    row.spans = [Span(NOBODY, "│ ", 2), Span(0, "abc", 3), Span(NOBODY, "  ", 2), Span(1, "de\n", 3)]
    text = row.text
    assert text == "│ abc  de\n"
    bare = [character if character in "abcde" else "" for character in text]
    for start in range(len(text) + 1):
        assert row.own_text(start) == "".join(bare[start:])
        for end in range(start, len(text) + 1):
            assert row.own_text(start, end) == "".join(bare[start:end])
    assert row.own_text() == "abcde" and row.drawn == (row.spans, 0)


def test_columns_are_taken_for_the_next_token_in_a_margin_and_the_last_beyond_the_end() -> None:
    row = CellRow(0)
    assert [row.at(x) for x in (-1, 0, 5)] == [None] * 3
    row.spans = [Span(NOBODY, "  ", 2), Span(4, "日", 2), Span(NOBODY, " ", 1), Span(7, "x", 1)]
    assert [row.at(x) for x in range(8)] == [4, 4, 4, 4, 4, 7, 7, 7]
    row.spans.append(Span(NOBODY, "  ", 2))
    assert [row.at(x) for x in range(5, 9)] == [7, 7, 7, 7]


@pytest.mark.parametrize(("width", "limit"), [(-3, 1), (0, 1), (1, 1), (2, 1), (3, 2), (80, 79)])
def test_one_column_is_kept_for_what_hangs(width: int, limit: int) -> None:
    wrap = Wrap(width)
    wrap.push("a" * 200)
    assert [row.width for row in wrap.rows] == [limit] * (200 // limit) + [200 % limit] * bool(200 % limit)
    wrap = Wrap(width)
    wrap.push("a" * limit + "       \n")
    assert wrap.rows[0].width == max(width, 2)


def test_tabs_go_to_the_next_fourth_column() -> None:
    for at in range(9):
        wrap = Wrap(80)
        wrap.push("x" * at + "\ty")
        assert wrap.rows[0].text.index("y") == next(stop for stop in accumulate([cells.TAB] * 9) if stop > at)
