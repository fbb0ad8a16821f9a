"""Cells: what a text becomes before a terminal gets it, and how wide that is."""

import pytest

from likely.app.tui.base.text import cells

FAMILY = "👨\u200d👩\u200d👧"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain words", "plain words"),
        ("é日本", "é日本"),
        ("a\r\nb\rc\n\td", "a\nb␍c\n\td"),
        ("\x00\x1f\x7f\x80\x9f", "␀␟␡<0080><009F>"),
        (FAMILY, "👨👩👧"),  # side by side: terminals do not agree how wide they are together
        ("👍🏻👍🏿", "👍👍"),
        ("🇦🇿", "AZ"),
        ("\ud800\udfff", "��"),
        ("x\u200b\u200c\u200d\u2060\ufeffy\ufe00\ufe0fz\U000e0000\U000e007f\U000e0100\U000e01ef", "xyz"),
        ("a\u2028b\u2029c", "a⏎b⏎c"),
        ("\u1100\u11ff\ua960\ua97f\ud7b0\ud7ff", "◌" * 6),
        ("\u10ff\u1200", "\u10ff\u1200"),  # beside the letters that join
    ],
)
def test_what_terminals_disagree_about_is_taken_apart(text: str, safe: str) -> None:
    assert cells.clean(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [("words", "words"), ("a\tb", "a\tb"), ("\x1b[1m", "␛[1m"), ("a\u202eb", "a␣b"), ("\x01\x85é", "␁␣é")],
)
def test_a_line_that_is_edited_keeps_its_number_of_characters(text: str, safe: str) -> None:
    shown = cells.one_to_one(text)
    assert len(shown) == len(text)
    assert shown == safe


def test_runs_are_line_breaks_tabs_spaces_and_words() -> None:
    text = "a b  \u00a0c\t\td\n\ne,f"
    assert cells.runs(text) == ["a", " ", "b", "  \u00a0", "c", "\t", "\t", "d", "\n", "\n", "e,f"]
    assert cells.runs("") == []


@pytest.mark.parametrize(
    ("word", "size", "parts", "wide"),
    [
        ("", 0, (), False),
        ("abc", 3, (("a", 1), ("b", 1), ("c", 1)), False),
        ("é", 1, (("é", 1),), False),
        ("e\u0301\u0302x", 2, (("e\u0301\u0302", 1), ("x", 1)), False),
        ("\u0301\u0302x", 1, (("\u0301\u0302", 0), ("x", 1)), False),  # a mark that has nothing to stand on
        ("日\u0301本", 4, (("日\u0301", 2), ("本", 2)), True),
        ("a語", 3, (("a", 1), ("語", 2)), True),
        ("👩", 2, (("👩", 2),), True),
    ],
)
def test_clusters_and_their_widths(word: str, size: int, parts: tuple[tuple[str, int], ...], wide: bool) -> None:
    assert cells.width(word) == size
    assert cells.clusters(word) == parts
    assert cells.has_wide(word) is wide
    assert cells.same_width(word)


def test_widths_that_the_terminal_library_measures_otherwise_are_noticed() -> None:
    assert not cells.same_width(FAMILY)


@pytest.mark.parametrize(
    ("text", "fitted"),
    [
        ("abcd", ["", "…", "a…", "ab…", "abcd", "abcd"]),
        ("日本", ["", "…", "…", "日…", "日本", "日本"]),
        ("a日b", ["", "…", "a…", "a…", "a日b", "a日b"]),
        ("e\u0301fgh", ["", "…", "e\u0301…", "e\u0301f…", "e\u0301fgh", "e\u0301fgh"]),
        ("a\nb\tc", ["", "…", "a…", "a⏎…", "a⏎b…", "a⏎b c"]),
        ("", [""] * 6),
    ],
)
def test_a_text_is_cut_to_its_room(text: str, fitted: list[str]) -> None:
    assert [cells.fit(text, size) for size in range(6)] == fitted
    assert [cells.pad(text, size) for size in range(6)] == [
        each + " " * (size - cells.width(each)) for size, each in enumerate(fitted)
    ]
    assert [cells.pad(text, size, right=True) for size in range(6)] == [
        " " * (size - cells.width(each)) + each for size, each in enumerate(fitted)
    ]


def test_a_text_is_cut_with_another_end() -> None:
    assert [cells.fit("abcdef", size, " >") for size in range(7)] == ["", "", " >", "a >", "ab >", "abc >", "abcdef"]


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        (b"", "∅"),
        (b"a", "a"),
        (b" ", "·"),
        (b"   ", "···"),
        (b" a b ", "·a b·"),
        (b"  a  ", "··a··"),
        (b"a ", "a·"),
        (b"\n\n", "⏎⏎"),
        (b" \n", "·⏎"),
        (b"\t", "⇥"),
        ("\u0301".encode(), "◌\u0301"),
        ("a\u0301".encode(), "a\u0301"),
        (b"\xe2\x82", "\\xE2\\x82"),
        (b"a\x7f\x80", "a\x7f\\x80"),
        (b"\x80", "\\x80"),
        (b"\x7f", "␡"),
        ("日".encode(), "日"),
        ("\u200b".encode(), "∅"),
    ],
)
def test_pieces_have_names_that_can_be_seen(piece: bytes, name: str) -> None:
    assert cells.piece_text(piece) == name


@pytest.mark.parametrize("character", ["¢", "߿", "ࠀ", "€", "\uffff", "𐍈", "\U0010ffff"])
def test_a_piece_that_ends_inside_a_character_is_unfinished(character: str) -> None:
    whole = character.encode()
    for before in (b"", b"ab", "é".encode(), "𐍈".encode()):
        for size in range(1, len(whole)):
            assert cells.unfinished(before + whole[:size]), size
        assert not cells.unfinished(before + whole)
        assert not cells.unfinished(before + whole + b"a")


@pytest.mark.parametrize("piece", [b"", b"a", b"\x80", b"\xbf\x80\x80", b"\xf8", b"\xff", b"\xff\x80", b"\xc3a\x80"])
def test_bytes_that_begin_no_character_leave_none_unfinished(piece: bytes) -> None:
    assert not cells.unfinished(piece)
