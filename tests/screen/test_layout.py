"""A message and the transcript laid out in parts, beside the same laid out whole; and how much is laid out at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likely.app.tui.base.text.block import END_MARK, HEADING_ROWS, MessageBlock, Part, ShownToken, words
from likely.app.tui.base.text.layout import HEAD, BlockLayout, Spot, TokenPlace
from likely.app.tui.base.text.wrap import NOBODY, Wrap
from likely.engine.sampling.thinking import FAMILIES
from tests.screen.test_wrap import shown

TEXTS = st.lists(
    st.sampled_from(["ab", " cd", "\n", ".\n\n", " ", "é日", "x" * 30, "\t", "", "a\nb"]), max_size=12
).map(lambda texts: texts * 17)  # of several parts
WHO = st.sampled_from(["you", "model"])


def block(texts: list[str], who: str = "model", width: int = 12) -> MessageBlock:
    made = MessageBlock("key", who, scored=True)
    made.fill([ShownToken(text, special=text == "<|im_end|>") for text in texts])
    made.resize(width)
    return made


def rows_of(it: MessageBlock) -> list[str]:
    """The rows of all parts."""
    return [row for part in range(len(it.parts)) for row in shown(it.wrap(part))]


def whole(it: MessageBlock) -> list[str]:
    """The rows of the same tokens in one wrap."""
    wrap = Wrap(it.width)
    for token in range(len(it.tokens)):
        wrap.push(it.shown(token))
    return shown(wrap)


@pytest.mark.slow
@settings(max_examples=60)
@given(TEXTS, st.integers(4, 14), st.randoms(use_true_random=False))
def test_parts_in_any_order_are_the_rows_of_the_whole(texts, width, random) -> None:  # type: ignore[no-untyped-def]
    it = block([*texts, "<|im_end|>"], width=width)
    order = list(range(len(it.parts)))
    random.shuffle(order)
    for part in order:
        it.wrap(part)
    assert rows_of(it) == whole(it)
    assert it.body_rows == len(whole(it)) and it.laid == len(it.tokens)
    for part, top in enumerate(it.tops):
        assert it.part_at(top) == part == it.part_of(it.parts[part].first)


@pytest.mark.slow
@settings(max_examples=60)
@given(TEXTS, TEXTS, st.integers(4, 14))
def test_a_stream_gives_the_same_parts(before, after, width) -> None:  # type: ignore[no-untyped-def]
    grown, at_once = block(before, width=width), block(before + after, width=width)
    grown.wrap(len(grown.parts) - 1)
    old = rows_of(grown)
    dirty = min((grown.extend([ShownToken(text)]) for text in after), default=len(old))
    assert rows_of(grown) == whole(at_once) and rows_of(grown)[:dirty] == old[:dirty]
    assert [(part.first, part.end) for part in grown.parts] == [(part.first, part.end) for part in at_once.parts]
    assert grown.body_rows == len(whole(at_once))


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, WHO), min_size=1, max_size=6), st.integers(4, 14), st.data())
def test_what_is_seen_stays_while_more_is_laid_out(messages, width, data) -> None:  # type: ignore[no-untyped-def]
    layout, reference = BlockLayout(width), BlockLayout(width)
    layout.replace([block(texts, who, width) for texts, who in messages])
    reference.replace([block(texts, who, width) for texts, who in messages])
    reference.reveal(0, 0, 10**6)
    everything = [reference.spot(y) for y in range(reference.height)]
    for _ in range(data.draw(st.integers(1, 8))):
        y = data.draw(st.integers(0, layout.height - 1))
        layout.scroll = y
        layout.scroll = layout.reveal(y, 5, 10)
        here = layout.spot(layout.scroll)
        assert here is not None
        window = [layout.spot(y) for y in range(max(layout.scroll - 5, 0), min(layout.scroll + 10, layout.height))]
        at = everything.index(window[0])
        assert window == everything[at : at + len(window)]  # as if all were laid out
        assert all(
            spot == layout.spot(layout.y(spot)) and Spot.numbered(spot.number) == spot for spot in window if spot
        )
        other = data.draw(st.integers(0, len(layout.blocks) - 1))
        if layout.blocks[other].tokens:
            place = TokenPlace(other, data.draw(st.integers(0, len(layout.blocks[other].tokens) - 1)))
            x, y = layout.cell_of(place)
            assert (x, layout.spot(y)) == (reference.cell_of(place)[0], reference.spot(reference.cell_of(place)[1]))
            assert layout.spot(layout.scroll) == here  # laying out elsewhere has not moved what is seen
            assert layout.step(place, 1) == reference.step(place, 1)
            assert layout.rise(place, 3) == reference.rise(place, 3)
            assert layout.rise(place, -3) == reference.rise(place, -3)
            rows = [reference.cell_of(reference.rise(place, by))[1] for by in (-1, 1)]
            assert rows[0] <= reference.cell_of(place)[1] <= rows[1]
            assert layout.edges(place) == reference.edges(place)
            assert layout.spot(layout.scroll) == here
    assert layout.ends() == reference.ends()
    assert list(layout.spots(-2, layout.height + 4)) == [layout.spot(y) for y in range(-2, layout.height + 2)]
    layout.reveal_between(everything[0], everything[-1])  # type: ignore[arg-type]
    assert layout.height == reference.height


def test_spots_are_numbered_in_reading_order() -> None:
    spots = [Spot(0, HEAD, 1), Spot(0, 0, 0), Spot(0, 0, 7), Spot(0, 1, 0), Spot(1, HEAD, 0), Spot(1, 0, 0)]
    assert sorted(spot.number for spot in spots) == [spot.number for spot in spots]


def test_after_another_width_the_same_token_is_seen_first() -> None:
    layout = BlockLayout(40)
    layout.replace([block([f" word{i}" + (".\n" if i % 9 == 8 else "") for i in range(400)], width=40)])
    layout.scroll = layout.reveal(37, 10, 20)
    first = layout.first_seen()
    layout.resize(23)
    assert first is not None and layout.cell_of(first)[1] == layout.scroll


def test_a_step_back_from_a_blocks_first_token_is_to_the_last_of_the_block_before() -> None:
    layout = BlockLayout()
    layout.blocks[:] = [block(["ab", " cd", "é"]), block([]), block(["x", "y"])]
    assert layout.step(TokenPlace(2, 0), -1) == TokenPlace(0, 2)
    assert layout.step(TokenPlace(0, 2), 1) == TokenPlace(2, 0)
    assert layout.step(TokenPlace(0, 0), -1) == TokenPlace(0, 0)


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


@pytest.mark.parametrize(
    "words",
    [
        ("<|channel>", "thought", "\n", "hm", "<channel|>", "So"),  # Gemma 4
        ("<|channel|>", "analysis", "<|message|>", "hm", "<|end|>", "<|start|>", "assistant", "<|channel|>", "final",
         "<|message|>", "So"),  # gpt-oss
        ("hm", "</think>", "\n\n", "So"),  # the template has opened it
    ],
)  # fmt: skip
def test_channels_are_folded_and_opened_with_their_marks(words: tuple[str, ...]) -> None:
    tokens = [special(word) if word.startswith("<") else word for word in words]
    it = made(*tokens, width=120, opened=words[0] == "hm")
    it.fold(True)
    assert rows(it) == ["So"]
    it.fold(False)
    assert [it.shown(i) for i in range(len(words))] == list(words)


HARMONY = ("<|end|>", "<|start|>", "assistant", "<|channel|>")
SAID = {  # with marks around it; and how a call begins, which is none
    "gpt-oss": (
        ("<|channel|>", "analysis", "<|message|>", "hm", *HARMONY, "commentary", "<|message|>", "So", *HARMONY, "final",
         "<|message|>"), ""),
    "call": (
        ("<|channel|>", "commentary", "<|message|>", "So", *HARMONY, "commentary", " to", "=functions.f"),
        "commentary to=functions.f"),
    "hunyuan": (
        ("<think>", "\n", "hm", "\n", "</think>", "\n", "<", "answer", ">", "\n", "So", "\n", "</", "answer", ">"), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_marks_around_what_is_said_are_hidden_as_control_tokens_are(name: str) -> None:
    pieces, call = SAID[name]
    tokens = [special(piece) if piece.startswith("<|") else ShownToken(piece) for piece in pieces]
    apart = next(family for family in FAMILIES if family.around and bool(family.over) is (name != "hunyuan")).apart
    grown, filled = (MessageBlock("key", "model", folded=True, apart=apart) for _ in range(2))
    filled.fill(tokens)
    for it in (grown, filled):
        it.resize(120)
    for token in tokens:
        rows(grown)
        grown.extend([token])
    assert rows(grown) == rows(filled) == [f"So{call}"]
    filled.show_specials(True)
    assert len("".join(rows(filled))) > len(f"So{call}")


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
