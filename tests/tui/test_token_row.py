"""Rows of a transcript as segments, without a widget: headings, folds, and tokens in their tints, cell and ink."""

import re
from typing import Any

from rich.segment import Segment

from app.tui.theme import GLYPHS
from app.tui.tokens.block import MessageBlock, ShownToken
from app.tui.widgets import token_row
from tests.pictures import assert_picture
from tests.tui.drawn import INKS, LOOK, inked


def block(*tokens: ShownToken | str, who: str = "model", width: int = 24, **more: Any) -> MessageBlock:
    made = MessageBlock("key", who, scored=True, **more)
    made.render(bool(more.get("rendered")))
    made.fill([ShownToken(token) if isinstance(token, str) else token for token in tokens])
    made.resize(width)
    return made


def rows(it: MessageBlock, *args: Any, **how: Any) -> list[str]:
    found = []
    for part in range(len(it.parts)):
        for row in it.wrap(part).rows:
            segments = list(token_row.tokens(it, row, LOOK, *args, **how))
            assert all(segment.text for segment in segments)
            plain = [segment for segment in segments if not segment.style]
            assert len(plain) <= len(segments)
            found.append(inked(segments))
    return found


HOT = [ShownToken(f" w{level}", level) for level in range(5)]
THOUGHT = [
    "<think>", "\n", ShownToken(" deep", 3), " thought", "\n", "</think>", "\n\n", " Then", ShownToken(" words", 1),
    ShownToken("<|end|>", special=True),
]  # fmt: skip
MARKED = (
    "# Title\n\nA *slanted* **bold** [link](http://a.b) `code` word\n\n"
    "```python\ndef f(x): return 1  # one\n```\n\n---\n"
)


def words(text: str) -> list[ShownToken]:
    """A token a word or a blank, every third of them surprising."""
    parts = re.findall(r"\n| ?[\w]+| ?[^\w\s]+| ", text)
    return [ShownToken(part, (i % 3 == 0) * (1 + i % 4)) for i, part in enumerate(parts)]


def test_tokens_are_as_they_were_looked_at() -> None:
    given = [
        ShownToken(" my", given=True),
        ShownToken(" own", 2, given=True),
        " its",
        ShownToken("<|im|>", given=True, special=True),
    ]
    smile = [" a", ShownToken("", 2, piece=b"\xf0\x9f"), ShownToken("🙂", 0, piece=b"\x99\x82"), " b"]
    cases: dict[str, tuple[MessageBlock, tuple[Any, ...]]] = {
        "levels": (block(*HOT), ()), "a cursor on a word": (block(*HOT), (2,)), "a mark": (block(*HOT), (-1, 3)),
        "a mark on what is plain": (block(*HOT), (-1, 0)), "both on one": (block(*HOT), (4, 4)),
        "line ends": (block(" a", "\n", ShownToken("\n\n", 2), " b", "\n"), (-1, -1, True)),
        "line ends unseen": (block(" a", "\n", ShownToken("\n\n", 2), " b", "\n"), ()),
        "a cursor on a line end": (block(" a", "\n", " b"), (1,)),
        "a cursor on a blank": (block(" a", "  ", " b"), (1,)),
        "a blank that surprises": (block(" a", ShownToken("  ", 3), ShownToken("\u00a0", 3), " b"), ()),
        "shared": (block(*HOT), (-1, -1, False, [1, 0, 3, 2])),
        "shared, a cursor and a mark": (block(*HOT), (0, 3, False, [1, 0, 3, 2])),
        "thinking": (block(*THOUGHT), ()), "thinking, a cursor": (block(*THOUGHT), (3,)),
        "thinking, folded": (block(*THOUGHT, folded=True), ()),
        "control tokens": (block(*THOUGHT, specials=True), (9,)),
        "a person's words in an answer": (block(*given, edited=True, specials=True), ()),
        "a person's words": (block(*given, who="you", specials=True), ()),
        "a character of two tokens": (block(*smile), (2,)), "a character of two tokens, left": (block(*smile), ()),
        "Markdown": (block(*words(MARKED), rendered=True), ()),
        "Markdown, a cursor": (block(*words(MARKED), rendered=True), (6, 10)),
        "Markdown, raw": (block(*words(MARKED)), ()),
        "Markdown, wide": (block(*words(MARKED), rendered=True, width=60), (-1, -1, True)),
        "nothing": (block(), ()),
    }  # fmt: skip
    assert_picture(
        "tui/pictures/pages-tokens.txt",
        [row for name, (it, how) in cases.items() for row in (f"== {name}", *rows(it, *how))],
    )


def test_neighbours_without_an_ink_are_one_stretch() -> None:
    it = block(" a", " b", ShownToken(" c", 1), " d", " e")
    (row,) = it.wrap(0).rows
    assert [segment.text for segment in token_row.tokens(it, row, LOOK)] == [" ", "a b ", "c", " d e"]


def test_a_heading_has_the_longest_note_that_there_is_room_for() -> None:
    it = block(" a", note="branch 1/2 · 二十 tok · ppl 1.5")
    it.notes = ("二十 tok · ppl 1.5", "二十 tok")
    for width, note in (
        (41, it.note),
        (40, it.note),
        (39, it.notes[0]),
        (27, it.notes[0]),
        (26, it.notes[1]),
        (17, it.notes[1]),
        (16, ""),
    ):
        said, beside = token_row.heading(it, width, LOOK)
        assert said == Segment(" model", LOOK.model) and beside == Segment(f"  {note}" if note else "", LOOK.faint), (
            width
        )
    assert token_row.heading(block(who="you"), 40, LOOK)[0] == Segment(" you", LOOK.you)
    assert token_row.heading(block(who="you"), 40, LOOK)[1].text == ""


def test_folded_thinking_says_how_much_it_is() -> None:
    for it, said in (
        (block(*THOUGHT, folded=True), " ▸ thinking · 6 tokens"), (block(*THOUGHT), " ▾ thinking · 6 tokens"),
        (block(" a"), " ▾ thinking · 0 tokens"),
    ):  # fmt: skip
        (segment,) = token_row.fold(it, LOOK, GLYPHS)
        assert segment.text == said and INKS.of(segment.style) == "faint"
