"""Wrapping against a slow reference that sees the text at once; whose cells are whose, what hangs, and going back."""

import unicodedata
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from likely.app.tui.base.text import cells
from likely.app.tui.base.text.text_style import CODE, MARKUP
from likely.app.tui.base.text.wrap import NOBODY, CellRow, Span, Wrap

LETTERS = "ab日本é語\u0301 \n\tשﷺ-x"
TEXTS = st.lists(st.text(LETTERS, max_size=9), max_size=14)


def reference(text: str, width: int) -> list[str]:
    """Rows of a text: greedy, words whole where they fit, spaces hanging in the spare column, one cluster at a time."""
    limit, rows, row, word = width - 1, [], "", ""

    def size(text: str) -> int:
        return sum(cells.cell(character) for character in text)

    def flush() -> None:
        nonlocal row, word
        if word and row and size(row) + size(word) > limit:
            rows.append(row)
            row = ""
        while size(word) > limit:
            head = ""
            for cluster, _ in cells.clusters(word):
                if size(head + cluster) > limit and head:
                    break
                head += cluster
            if head == word:
                break
            rows.append(head)
            word = word[len(head) :]
        row, word = row + word, ""

    for character in text:
        if character == "\n":
            flush()
            rows.append(row)
            row = ""
        elif character in " \t":
            flush()
            row += " " * min(1 if character == " " else cells.TAB - size(row) % cells.TAB, width - size(row))
        elif cells.cell(character) == 0:
            if not row and not word:
                word = cells.DOTTED
            if word:
                word += character
            else:
                row += character  # on a space or a wide character
        elif cells.cell(character) == 2:
            flush()
            word = character
            flush()
        else:
            word += character
    flush()
    return [*rows, row]


def shown(wrap: Wrap) -> list[str]:
    return [row.text.rstrip("\n") for row in wrap.rows]


def wrapped(texts: list[str], width: int) -> Wrap:
    wrap = Wrap(width)
    for text in texts:
        wrap.push(text)
    return wrap


@settings(max_examples=300)
@given(TEXTS, st.integers(4, 14))
def test_rows_are_the_reference_and_a_token_is_found_where_it_is_shown(texts: list[str], width: int) -> None:
    """Whatever the tokens: every cell is somebody's once, and what comes changes rows from the dirty one on alone."""
    wrap = Wrap(width)
    for text in texts:
        before = shown(wrap)
        dirty = wrap.push(text)
        assert shown(wrap)[:dirty] == before[:dirty]
    assert shown(wrap) == reference("".join(texts), width)
    for row in wrap.rows:
        assert row.width == sum(span.width for span in row.spans) <= width
        assert cell_len(row.text.replace("\n", " ")) - row.text.count("\n") <= row.width + 1
    assert wrap.firsts == [row.first for row in wrap.rows]
    spans = [(y, span) for y, row in enumerate(wrap.rows) for span in row.spans]
    assert [span.token for _, span in spans] == sorted(span.token for _, span in spans)
    for token in range(len(texts)):
        own = [(y, span) for y, span in spans if span.token == token]
        if own:
            assert list(wrap.rows_of(token)) == sorted({y for y, _ in own})
            y, x = wrap.place(token)
            visible = any(span.width and span.text.strip() for _, span in own)
            assert not visible or wrap.rows[y].at(x) == token


@pytest.mark.slow
@settings(max_examples=500)
@given(st.text(max_size=30))
def test_cleaned_text_is_safe_and_of_one_width(text: str) -> None:
    safe = cells.clean(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in safe if character not in "\n\t")
    line = safe.replace("\n", "").replace("\t", "")
    assert cells.same_width(line)
    assert sum(size for _, size in cells.clusters(line)) == cells.width(line)


def test_escape_sequences_are_shown() -> None:
    assert cells.clean("\x1b[31mred\x07\x9b\u202e") == "␛[31mred␇<009B><202E>"


def test_pieces_have_names() -> None:
    assert [cells.piece_text(piece) for piece in (b" the", b"\n\n", b"\xe2\x82", b"", b"\t", "\u0301".encode())] == [
        "·the", "⏎⏎", "\\xE2\\x82", "∅", "⇥", "◌\u0301",
    ]  # fmt: skip


def test_fitting_and_padding_count_cells() -> None:
    assert cells.fit("日本語", 5) == "日本…"
    assert cells.pad("日本語", 4) == "日… "
    assert cells.pad("ab", 4, right=True) == "  ab"


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
