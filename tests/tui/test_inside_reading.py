"""What is known of a text that is looked into: it comes in parts, and of some of it only the last is kept."""

import numpy as np
import pytest

from app import looks
from app.tui.chat.candidates import LN2, Names
from app.tui.inside.page import Page, fold, missing, shown_layers, text_rows, told
from app.tui.inside.reading import LensTable, Reading, wrapped
from app.tui.inside.sheet import Sheet
from app.tui.theme import GLYPHS
from engine.prompt import Prompt
from tests.tui.pages import LOOKS, NAMES, TEXT, described, reading


def part(start: int, n: int, k: int = 2, layers: int = 2) -> looks.LensPart:
    """Numbers that say where they belong: layer and position."""
    at = 10 * np.arange(layers + 1)[:, None] + np.arange(start, start + n)
    best = at[..., None] + 100 * np.arange(k)
    return looks.LensPart(start, at, at / 100, LN2 * at, at + 1, best, best / 1000)


def test_the_lens_comes_in_parts() -> None:
    table = LensTable(2, 4)
    assert [a.shape for a in (table.known, table.top, table.rank, table.p, table.kl)] == [(4,), *[(3, 4)] * 4]
    assert not table.known.any()
    table.take(part(7, 2), first=5)
    assert table.known.tolist() == [False, False, True, True]
    assert table.top.tolist() == [[0, 0, 7, 8], [0, 0, 17, 18], [0, 0, 27, 28]]
    assert table.rank[1].tolist() == [0, 0, 18, 19] and table.kl[1] == pytest.approx([0, 0, 17, 18])
    assert table.p[2] == pytest.approx([0, 0, 0.27, 0.28])
    table.take(part(5, 1), first=5)
    assert table.known.tolist() == [True, False, True, True] and table.top[1].tolist() == [15, 0, 17, 18]
    assert table.best.shape == table.shares.shape == (3, 4, 2)
    assert table.best[1].tolist() == [[15, 115], [0, 0], [17, 117], [18, 118]]
    assert table.shares[2, 3] == pytest.approx([0.028, 0.128])


def test_decided_is_the_layer_from_which_the_answer_stays() -> None:
    table = LensTable(3, 4)
    table.top[:] = np.array([[1, 2, 3, 9], [1, 5, 3, 9], [1, 2, 5, 7], [1, 2, 3, 9]])
    assert table.decided().tolist() == [0, 2, 3, 3]


def test_a_text_is_opened_once_at_its_end_or_before_what_stands_after_it() -> None:
    at = Reading("m", Prompt(), NAMES)
    assert (at.ids, at.first, at.position, at.extent, at.after) == ((), 0, 0, "0 tokens", 0)
    assert not at.has(looks.OpenLook())
    at.move(3)
    assert at.position == 0
    at.take(looks.LensLook(0, 0), part(0, 2))
    assert not at.lenses  # of a text that is not opened nothing is known
    opened = looks.TextOpened(TEXT, 4, 2, 2, 1, 8, 64, False, False)
    at.after = 3
    at.take(looks.OpenLook(), opened)
    assert (at.ids, at.first, at.position, at.extent) == (TEXT, 4, 20, "20 of 24 tokens")
    assert at.has(looks.OpenLook())
    at.take(looks.OpenLook(), looks.TextOpened((1, 2), 0, 2, 2, 1, 8, 64, False, False))
    assert at.opened is opened and at.position == 20
    late = Reading("m", Prompt(), NAMES, after=22)
    late.take(looks.OpenLook(), opened)
    assert late.position == 4 and reading().extent == "24 tokens" and reading().position == 23


def test_the_cursor_stays_in_what_is_looked_at() -> None:
    at = reading(first=4)
    for by, position in ((-1, 22), (9, 23), (-18, 5), (-9, 4), (-1, 4), (1, 5)):
        at.move(by)
        assert at.position == position


def test_each_lens_has_its_table_and_only_one_pattern_is_kept() -> None:
    at = reading(first=4, layers=2)
    plain, tuned = looks.LensLook(0, 0), looks.LensLook(0, 0, True)
    at.take(plain, part(4, 19))
    at.take(tuned, part(4, 20))
    assert at.lenses[False].known.tolist() == [True] * 19 + [False] and at.lenses[False].top[1, 2] == 16
    assert not at.has(plain) and at.has(looks.LensLook(3, 9, True)) and not reading().has(plain)
    assert not at.has(looks.PatternLook(1))
    for layer in (1, 3):
        at.take(looks.PatternLook(layer), looks.Pattern(layer, np.zeros((2, 20, 24))))
    assert at.has(looks.PatternLook(3)) and not at.has(looks.PatternLook(1)) and not at.answers


def test_the_last_answers_are_kept() -> None:
    at = reading()
    asked = [looks.AblationLook(0, 0, head) for head in range(66)]
    for head, look in enumerate(asked):
        assert not at.has(look)
        at.take(look, looks.Ablated(head, 0.0, 0.0))
    assert list(at.answers) == asked[2:] and not at.has(asked[1]) and at.has(asked[2])
    assert at.answers[asked[5]] == looks.Ablated(5, 0.0, 0.0)


def test_tokens_have_names_and_stand_in_running_text() -> None:
    at = reading()
    at.names = Names((b"a", b" b", b"\n", b"\t", b"", b"\xe6", "日".encode(), b"\x1b", b"b", b" a"))
    at.opened = looks.TextOpened(tuple(range(8)), 0, 2, 2, 1, 8, 64, False, False)
    assert [at.running(i) for i in range(8)] == ["a", " b", "⏎", " ", "∅", "�", "日", "␛"]
    assert [at.name_at(i) for i in (-1, 0, 1, 7, 8)] == ["", "a", "·b", "␛", ""]
    assert at.name(99) == "#99" and at.name(1) == "·b"
    assert [at.token(text) for text in ("a", "b", " b ", " a", "c", "")] == [9, 1, 1, 9, None, 4]


def test_running_tokens_break_between_rows() -> None:
    for texts, width, rows in [
        ([], 4, [[]]),
        (["ab", "cd", "e"], 4, [[0, 1], [2]]),
        (["ab", "cde"], 4, [[0], [1]]),
        (["abcdefg", "h"], 4, [[0], [1]]),
        (["日", "本", "a"], 4, [[0, 1], [2]]),
        (["a", "bcdef", "gh"], 4, [[0], [1], [2]]),
        (["", "a"], 0, [[0], [1]]),
    ]:
        assert wrapped(texts, width) == rows


def test_the_rows_around_the_cursor_are_shown() -> None:
    for at, most, first in [
        (0, 1, 0),
        (0, 2, 0),
        (8, 2, 0),
        (9, 2, 1),
        (9, 3, 1),
        (15, 3, 2),
        (23, 2, 4),
        (23, 3, 3),
        (23, 9, 0),
    ]:
        found = reading()
        found.position = at
        rows = [[0, 1, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11, 12, 13, 14], [15, 16, 17, 18], [19, 20, 21], [22, 23]]
        assert text_rows(found, 18, 99) == rows
        assert text_rows(found, 18, most) == rows[first : first + most]


def test_rows_begin_with_what_is_looked_at() -> None:
    at = reading(first=20)
    assert text_rows(at, 99, 3) == [[20, 21, 22, 23]]
    at.position = 3
    assert text_rows(at, 4, 1) == [[20]]  # a cursor that is nowhere is at the first row


def test_a_sentence_is_folded_between_words() -> None:
    for text, width, rows in [
        ("one two three", 7, ["one two", "three"]),
        ("one two three", 6, ["one", "two", "three"]),
        ("one  two", 99, ["one two"]),
        ("enormous a", 3, ["enormous", "a"]),
        ("日本 語", 7, ["日本 語"]),
        ("日本 語", 6, ["日本", "語"]),
        ("", 5, [""]),
    ]:
        assert fold(text, width) == rows


def test_what_is_not_known_says_why_or_that_it_comes() -> None:
    at, asked = reading(), looks.KindsLook()
    for why, words, picture in (
        ("", "", "\n it is being\n computed…\n\n--\n\n.fffffffffff\n.fffffffff\n"),
        ("", "soon", "\n soon…\n\n\n--\n\n.fffff\n\n"),
        ("there is no room", "soon", "\n there is no\n room\n\n--\n\n.!!!!!!!!!!!\n.!!!!\n"),
    ):
        at.refused = {asked: why} if why else {}
        sheet = Sheet(13, 4, LOOKS["true"], GLYPHS)
        told(sheet.part(1, 0, 12, 4), 1, at, asked, *([words] if words else []))
        assert described(sheet) == picture
        assert missing(at, asked) == (not why)
    at.take(looks.KindsLook(), looks.Kinds({}))
    assert not missing(at, asked)


def test_layers_that_are_left_out_are_evenly_apart() -> None:
    for count, rows, found in [
        (5, 5, [0, 1, 2, 3, 4]),
        (5, 4, [0, 2, 3, 4]),
        (13, 9, [0, 2, 4, 6, 8, 9, 10, 11, 12]),
        (22, 9, [0, 5, 10, 15, 17, 18, 19, 20, 21]),
        (13, 6, [0, 3, 6, 9, 11, 12]),
        (13, 5, [0, 3, 6, 9, 12]),
        (33, 9, [0, 5, 10, 15, 20, 25, 30, 31, 32]),
        (100, 6, [0, 50, 96, 97, 98, 99]),
        (13, 1, [12]),
        (13, 2, [0, 12]),
        (400, 3, [0, 199, 399]),
    ]:
        assert shown_layers(count, rows) == found


def test_a_page_that_says_nothing_of_its_own_shows_the_extent() -> None:
    page, at = Page(), reading()
    assert page.wants(at, 80, 24) is None and page.formula(at) == () and page.export(at) is None
    assert page.facts(at) == ("24 tokens", "12 layers") and page.facts(Reading("m", Prompt(), NAMES)) == ()
    page.move(at, -3, 1)
    page.restart()
    assert at.position == 20 and not page.SETTLES
    with pytest.raises(NotImplementedError):
        page.draw(at, Sheet(2, 2, LOOKS["true"], GLYPHS))
