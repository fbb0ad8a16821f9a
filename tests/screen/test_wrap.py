"""Wrapping against a slow reference that sees the whole text at once and knows nothing of tokens."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from likely.app.tui.base import cells
from likely.app.tui.base.wrap import Wrap

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
