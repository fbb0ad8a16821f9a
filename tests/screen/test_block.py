"""A message in detail: what is shown of its tokens, and how many rows it is taken for before it is laid out."""

import pytest

from likely.app.tui.base.block import END_MARK, HEADING_ROWS, MessageBlock, Part, ShownToken, words
from likely.app.tui.base.wrap import NOBODY
from tests.screen.test_wrap import shown


def special(text: str, **more: bool) -> ShownToken:
    return ShownToken(text, special=True, **more)


def made(*tokens: str | ShownToken, who: str = "model", width: int = 12, **facts: bool) -> MessageBlock:
    it = MessageBlock("key", who, **facts)
    it.fill([ShownToken(token) if isinstance(token, str) else token for token in tokens])
    it.resize(width)
    return it


def rows(it: MessageBlock) -> list[str]:
    return [row for part in range(len(it.parts)) for row in shown(it.wrap(part))]


THOUGHT = ("<think>", "\n", "hm", "\n", "</think>", "\n\n", " So", " it", " is")


def test_thinking_is_from_its_mark_to_the_end_of_it() -> None:
    it = made(*THOUGHT)
    assert it.thinking == (0, 5) and (it.head_rows, it.fold_rows) == (HEADING_ROWS + 1, 1)
    assert [it.visible(i) for i in range(9)] == [True] * 9
    assert [it.shown(i) for i in range(9)] == list(THOUGHT)
    it.fold(True)
    assert [it.visible(i) for i in range(9)] == [False] * 5 + [True] * 4
    assert [it.shown(i) for i in range(9)] == [""] * 6 + ["So", " it", " is"]  # what follows begins the answer
    assert rows(it) == ["So it is"]
    it.fold(False)
    assert it.shown(2) == "hm" and rows(it)[0] == "<think>"


@pytest.mark.parametrize("size", range(1, len(THOUGHT) + 1))
def test_thinking_grows_with_what_comes(size: int) -> None:
    grown = MessageBlock("key", "model")
    grown.resize(20)
    for token in THOUGHT[:size]:
        grown.extend([ShownToken(token)])
    assert grown.thinking == made(*THOUGHT[:size]).thinking == (0, min(size, 5))


def test_only_a_model_thinks() -> None:
    assert made(*THOUGHT, who="you").thinking is None
    assert made("a", "b").thinking is None and made("a", "b").head_rows == HEADING_ROWS
    assert made("a", " <think> ", "b").thinking == (1, 3)
    refilled = made(*THOUGHT)
    refilled.fill([ShownToken("a")])
    assert refilled.thinking is None


def test_control_tokens_of_thinking_are_hidden_and_the_others_are_shown_on_demand() -> None:
    tokens = ("<think>", special("<x>"), "a", "</think>", special("<y>"), "b", special("<end>"))
    it = made(*tokens, scored=True)
    assert [it.shown(i) for i in range(7)] == ["<think>", "", "a", "</think>", "", "b", END_MARK]
    assert [it.visible(i) for i in range(7)] == [True, False, True, True, False, True, True]
    it.show_specials(True)
    assert [it.shown(i) for i in range(7)] == ["<think>", "", "a", "</think>", "<y>", "b", "<end>"]
    assert [it.visible(i) for i in range(7)] == [True, False, True, True, True, True, True]
    it.show_specials(False)
    assert it.shown(4) == ""


def test_the_end_is_marked_where_the_model_drew_it() -> None:
    end = special("<end>")
    assert made("a", end, scored=True).shown(1) == END_MARK
    assert made("a", end).shown(1) == ""  # words that nobody has looked at
    assert made("a", special("<end>", given=True), scored=True).shown(1) == ""
    assert made("a", end, "b", scored=True).shown(1) == ""


def test_a_reply_begins_with_what_says_something() -> None:
    it = made(" ", "\n", "  a", " b", "\n")
    assert [it.shown(i) for i in range(5)] == ["", "", "a", " b", "\n"]
    assert made(" ", "\n").shown(1) == "" and rows(made(" ", "\n")) == [""]
    grown = MessageBlock("key", "model")
    grown.resize(12)
    for token in (" ", "\n", "  a", " b"):
        grown.extend([ShownToken(token)])
    assert rows(grown) == ["a b"] and grown.shown(3) == " b"


@pytest.mark.parametrize(
    ("text", "width", "estimate"),
    [
        ("", 12, 1), ("a", 12, 1), ("a" * 8, 12, 1), ("a" * 9, 12, 2), ("a" * 16, 12, 2), ("a" * 17, 12, 3),
        ("日" * 4, 12, 1), ("日" * 5, 12, 2), ("a\nb", 12, 2), ("a\n\nb", 12, 3), ("abc", 5, 3), ("abc", 4, 3),
        ("abc", 1, 3), ("abc", 6, 2),
    ],
)  # fmt: skip
def test_estimates_leave_a_ragged_edge(text: str, width: int, estimate: int) -> None:
    it = made(text, width=width)
    assert it.body_rows == estimate and it.laid == 0


def test_a_token_is_shown_as_it_was_written_and_no_other() -> None:
    it = made("**a", "** b", "\n", "\n", "*c", "* d", rendered=True)
    assert it.show_raw(0) is False  # nothing of it is laid out yet
    assert rows(it) == ["**a b", "", "c d"]
    assert it.show_raw(4) is True
    assert rows(it) == ["a b", "", "*c d"] and it.raw == 4
    assert it.show_raw(2) is True and rows(it) == ["a b", "", "c d"]
    assert it.show_raw(3) is False and rows(it) == ["a b", "", "c d"]
    assert it.show_raw(NOBODY) is False and it.raw == NOBODY
    plain = made("**a", "** b")
    assert rows(plain) == ["**a** b"] and plain.show_raw(0) is False
    it.show_raw(0)
    it.render(False)
    assert it.raw == NOBODY and rows(it) == ["**a** b", "", "*c* d"]


def test_a_character_of_several_tokens_is_as_hot_as_the_hottest_of_them() -> None:
    byte = lambda piece, level, text="": ShownToken(text, level, piece=piece)  # noqa: E731
    it = made(
        ShownToken("a", 4),
        byte(b"\xe6", 1),
        byte(b"\x97", 3),
        byte(b"\xa5", 2, "日"),
        ShownToken("b", 0),
        byte(b"c\xe6", 5, "c"),
        byte(b"\x97\xa5d", 1, "日d"),
        byte(b"\xff", 2, "�"),
    )
    assert [list(it.sharers(token)) for token in range(8)] == [[0], [1], [2], [1, 2, 3], [4], [5], [5, 6], [7]]
    assert [it.level(token) for token in range(8)] == [4, 1, 3, 3, 0, 5, 5, 2]
    first = made(byte(b"\xe6", 1), byte(b"\x97\xa5", 0, "日"))
    assert list(first.sharers(1)) == [0, 1] and first.level(1) == 1
    inside = made(byte(b"a\xe6", 1, "a"), byte(b"\x97\xa5", 0, "日"))
    assert list(inside.sharers(1)) == [0, 1] and list(inside.sharers(0)) == [0]


def test_a_persons_words_are_tokens_until_a_model_looks_at_them() -> None:
    text = "  Why  is\n\nit so? "
    assert "".join(token.text for token in words(text)) == text
    assert [token.text for token in words(text)] == ["  Why", "  is", "\n\nit", " so?", " "]
    assert all(token.given and not token.special and not token.level for token in words(text))
    assert words("") == []


def test_nothing_is_a_message_of_one_row() -> None:
    it = MessageBlock("key", "you")
    assert (it.rows, it.body_rows, it.tops) == (HEADING_ROWS + 1, 1, [0])
    assert it.parts == [Part(0, 0, 1)]
    assert shown(it.wrap(0)) == [""] and it.laid == 0
    it.resize(9)
    assert it.width == 9 and it.body_rows == 1
