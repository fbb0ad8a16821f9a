"""The tokens page from scripted data: how it looks at several sizes, and what it asks for."""

from collections.abc import Iterator

from app import looks
from app.tui.chat.candidates import LN2, Names
from app.tui.inside.reading import Reading
from app.tui.inside.tokens_page import TokensPage, word
from tests.pictures import assert_picture
from tests.tui.pages import NAMES, TEXT, Scene, reading

MERGES = (
    tuple(bytes([c]) for c in b" walks"), (b" w", b"a", b"l", b"k", b"s"), (b" w", b"al", b"k", b"s"),
    (b" w", b"alk", b"s"), (b" walk", b"s"), (b" walks",),
)  # fmt: skip
WAYS = (((29,), -2.0, False), ((28, 35), -2.5, True), ((1, 2, 35), -9.0, False), ((22, 22, 22, 22), -250.0, False))


def known(at: int, span: tuple[int, int], found: looks.Spelled | None = None) -> Reading:
    made = reading()
    made.position = at
    made.take(looks.SpellingsLook(*span), found or looks.Spelled(b" walks", MERGES, WAYS, -1.5, False))
    return made


def scenes() -> Iterator[Scene]:
    page = TokensPage()
    yield Scene("wide", page, known(7, (7, 8)), (100, 20))
    yield Scene("wide, low", page, known(11, (10, 14)), (104, 7))
    yield Scene("not wide", page, known(12, (10, 14)), (99, 19))
    yield Scene("room for a part", page, known(13, (10, 14)), (40, 8))
    complete = looks.Spelled(b"x", MERGES[-2:], WAYS[1:3], -1.5, True)
    yield Scene("all ways", page, known(22, (22, 23), complete), (50, 14))
    refused = looks.Spelled(b"", (), (), 0.0, False, "this tokenizer cuts by rules that are not known")
    yield Scene("no ways", page, known(22, (22, 23), refused), (50, 14))
    yield Scene("no ways, wide", page, known(22, (22, 23), refused), (100, 9))
    yield Scene("not known", page, reading(), (60, 10))
    at = reading()
    at.refused[looks.SpellingsLook(23, 24)] = "there is no tokenizer"
    yield Scene("refused", page, at, (60, 10))
    at = reading()
    at.position = 0
    yield Scene("the first token", page, at, (60, 10))
    at = reading(first=5)
    at.position = 12
    yield Scene("text before what is looked at", page, at, (60, 10))


def test_the_tokens_look_as_in_their_pictures() -> None:
    assert_picture("tui/pictures/page-tokens.txt", (scene.text() for scene in scenes()))


def test_a_word_begins_where_no_letter_does() -> None:
    for pieces, first, spans in [
        ((" a", "b", "c", " d", "e"), 0, [(0, 3)] * 3 + [(3, 5)] * 2),
        (("a", "b", ",", ".", "e"), 0, [(0, 2)] * 2 + [(2, 3), (3, 5), (3, 5)]),
        ((" a", "日", "\x7f", "7", ""), 0, [(0, 2)] * 2 + [(2, 4)] * 2 + [(4, 5)]),
        ((" a", "b", "c", "d", " e"), 2, [(0, 4), (1, 4), (2, 4), (2, 4), (4, 5)]),
    ]:
        at = reading(tuple(range(len(pieces))), first=first)
        at.names = Names(tuple(piece.encode() for piece in pieces))
        for position, span in enumerate(spans):
            at.position = position
            assert word(at) == span, position


def test_a_word_is_asked_for_once_unless_it_stands_first() -> None:
    page, at = TokensPage(), reading()
    assert page.wants(at, 80, 24) == looks.SpellingsLook(23, 24)
    assert page.found(at) is None and page.export(at) is None and page.formula(at) == ()
    at.refused[looks.SpellingsLook(23, 24)] = "no"
    assert page.wants(at, 80, 24) is None
    at.position = 12
    assert page.asked(at) == page.wants(at, 80, 24) == looks.SpellingsLook(10, 14)
    at.position = 0
    assert page.asked(at) is None and page.wants(at, 80, 24) is None and page.found(at) is None
    page.move(at, 1, 1)
    assert at.position == 1 and page.asked(at) == looks.SpellingsLook(1, 2)
    assert page.wants(known(7, (7, 8)), 80, 24) is None


def test_what_is_shown_is_what_is_written() -> None:
    ways = [{"ids": list(ids), "logprob": logprob, "own": own} for ids, logprob, own in WAYS]
    written = {"spellings": ways, "logprob": -1.5, "complete": False}
    assert TokensPage().export(known(7, (7, 8))) == ("spellings", written)
    assert TokensPage().export(known(7, (7, 8), looks.Spelled(b"", (), (), 0.0, False, "no"))) is None


def test_the_formula_is_the_sum_over_all_ways_and_the_share_of_the_own() -> None:
    page = TokensPage()
    for complete, sign in ((False, "≥"), (True, "=")):
        at = known(7, (7, 8), looks.Spelled(b" walks", MERGES, WAYS, -3 * LN2, complete))
        assert page.formula(at) == (
            (f"p(text | x<i) {sign} Σ p(tokens | x<i) over 4 = ", False), ("2^-3.00", True),
            ("   its own ", False), ("65.67 %", True),  # e ** -2.5 * 8
        )  # fmt: skip
    assert page.formula(known(7, (7, 8), looks.Spelled(b"", MERGES, WAYS[:1], -1.5, True))) == ()
    assert page.formula(reading()) == () and NAMES.name(TEXT[7]) == "·lived"
