"""Surprisal by the word, drawn without an app, the rows that measures of a text take, and how it would go on."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.geometry import Offset

from likely.app.tui.chat.greedy_continuation import GreedyContinuation
from likely.app.tui.chat.word_surprisals import WordSurprisal
from likely.app.tui.widgets.caption import Caption
from likely.app.tui.widgets.chart import Chart, Mark
from likely.app.tui.widgets.text_measures import TextMeasures
from likely.app.tui.widgets.word_strip import WordStrip
from likely.engine.trace.step import Recipe, TokenStep
from tests.pictures import assert_picture
from tests.tui.drawn import asked, page, paper, posted, stand

BITS = (None, 0.0, 0.5, 2.0, 4.0, 9.5, 6.0, 8.0, 1.25, 3.0)
TEXT = "The sky\nlooks extraordinarily-blue-today because 二十 molecules of air scatter"


def words(text: str = TEXT, bits: Sequence[float | None] = BITS) -> list[WordSurprisal]:
    found, at = [], 0
    for i, each in enumerate(text.split(" ")):
        found.append(WordSurprisal(f" {each}", at, at + len(each) + 1, i, i + 1, bits[i % len(bits)]))
        at += len(each) + 1
    return found


def click(x: int, y: int) -> events.Click:
    return cast(events.Click, SimpleNamespace(get_content_offset=lambda widget: Offset(x, y)))


CASES: dict[str, tuple[list[WordSurprisal], int | None, int, int]] = {
    "one line, four rows of bars": (words(), None, 90, 6),
    "one line, more room than it takes": (words(), 3, 90, 12),
    "two lines": (words(), 4, 50, 9),
    "the first word": (words(), 0, 50, 9),
    "the last word": (words(), 8, 50, 7),
    "three lines": (words(), None, 34, 10),
    "no room for the words: columns of four": (words(), 5, 40, 5),
    "columns of three, a gap": (words(), 5, 27, 4),
    "columns of two": (words(), None, 20, 4),
    "columns of one": (words("a b c d e f g h i j k l"), 2, 12, 4),
    "several words a column": (words("a b c d e f g h i j k l m n o p q r s t u v w x y"), 13, 12, 4),
    "one row of columns": (words(), None, 30, 2),
    "no room": (words(), None, 30, 1),
    "nothing": ([], None, 30, 8),
    "nothing measured": (words("a b c", (None,)), 1, 30, 8),
    "words that fill their lines": (words("abcde fgh ijk lmnop"), 1, 9, 8),
    "a word as wide as the screen": (words("abcdefgh ij"), 1, 9, 5),
    "a word wider than the screen": (words("abcdefghijklmn ij"), 1, 9, 5),
    "one, surprising": (words("word", (16.0,)), 0, 30, 8),
    "a word of blanks": (words("a  b", (1.0, 2.0, 3.0)), 1, 30, 4),
}


def test_words_and_their_bits_are_as_they_were_looked_at() -> None:
    with paper():
        rows = []
        for name, (said, at, width, height) in CASES.items():
            strip = stand(WordStrip)
            strip.show(said, at)
            rows += [f"== {name}, {width}x{height}", *page(strip, width, height)]
    assert_picture("tui/pictures/pages-words.txt", rows)


def test_a_click_on_a_word_or_its_bar_points_to_it_and_one_beside_to_none() -> None:
    """As a map of the cells: which word a click on each points to."""
    rows = []
    with paper():
        for name, (said, at, width, height) in CASES.items():
            strip = stand(WordStrip)
            strip.show(said, at)
            page(strip, width, height)
            rows.append(f"== {name}")
            for y in range(height + 1):
                row = ""
                for x in range(width + 2):
                    strip.on_click(click(x, y))
                    found = [said.index(message.word) for message in cast(list[Any], posted(strip))]
                    row += "." if not found else "0123456789abcdefghijklmnopq"[found[0]]
                rows.append(row)
            strip.on_click(cast(events.Click, SimpleNamespace(get_content_offset=lambda widget: None)))
            assert not posted(strip)
    assert_picture("tui/pictures/pages-word-clicks.txt", rows)


def test_a_strip_is_drawn_anew_where_words_or_the_cursor_are_others_and_full_at_eight_bits_or_the_most() -> None:
    with paper():
        strip = stand(WordStrip)
        for said, at, anew, top in (
            (words(), None, True, 9.5), (words(), None, False, 9.5), (words(), 1, True, 9.5),
            (words("a b", (1.0, None)), 1, True, 8.0), ([], None, True, 8.0),
        ):  # fmt: skip
            strip.show(said, at)
            assert asked(strip)[0] is anew and strip._top == top


@pytest.mark.parametrize(
    ("width", "most", "rows"),
    [
        (90, 20, 7), (90, 7, 7), (90, 6, 6), (90, 3, 3), (90, 2, 2), (50, 20, 13), (50, 13, 13), (50, 12, 11),
        (50, 5, 5), (50, 4, 4), (34, 20, 19), (34, 9, 7), (34, 6, 6), (34, 7, 7), (27, 8, 6), (27, 5, 5),
    ],
)  # fmt: skip
def test_a_strip_fills_whole_lines_of_words_or_six_rows_of_columns(width: int, most: int, rows: int) -> None:
    with paper():
        strip = stand(WordStrip)
        strip.show(words(), None)
        assert strip.rows(width, most) == rows
        assert len(strip.lines(width, rows)) == rows


# -- measures --------------------------------------------------------------------------------------------------------


class Parts(TextMeasures):
    """Its parts without an app: their rows are seen by their styles."""

    def hold(self, said: list[WordSurprisal]) -> "Parts":
        self.strip, self.sum, self.continuation = stand(WordStrip), stand(Chart), stand(Caption)
        self.strip.show(said, None)
        self._rows = (0, 0, 0, 0)
        return self


def measures(said: list[WordSurprisal], size: tuple[int, int] = (50, 20)) -> Parts:
    return stand(Parts, size=size).hold(said)


def test_measures_take_the_rows_that_a_text_leaves() -> None:
    rows = []
    with paper():
        for width, height in ((80, 24), (50, 29), (50, 30), (30, 60)):
            it = measures(words())
            for text in range(height + 3):
                before = it._rows
                seen = it.fit(width, height, text)
                strip, curve, said, gap = it._rows
                assert seen is (strip > 0) and (not text or it.display is seen or it._rows == before)
                assert strip + curve + said + gap * (1 + (curve > 0)) <= max(
                    height - text - 2, height // 5 * (height >= 30)
                )
                for part, size in ((it.strip, strip), (it.sum, curve), (it.continuation, said)):
                    if text:
                        assert part.display is (size > 0) and str(part.styles.height) == str(size)
                        assert part.styles.margin.bottom == (0 if part is it.continuation else gap)
                        assert part.styles.margin.top == part.styles.margin.left == part.styles.margin.right == 0
                rows.append(
                    f"{width}x{height}, a text of {text}: words {strip} sum {curve} continuation {said} gap {gap}"
                )
    assert_picture("tui/pictures/pages-measures.txt", rows)


@pytest.mark.parametrize(
    ("rows", "text", "whole", "said"),
    [
        (1, "", False, ["[heading]CONTINUATION"]),
        (3, "", True, ["[heading]CONTINUATION[faint]  none: the text ends here"]),
        (1, " and\nso on", False, ["[heading]CONTINUATION[text]  and⏎so on"]),
        (2, " and so on", True, ["…", "[text]and so on"]),
        (2, " and so on", False, ["…", "[text]and so on…"]),
        (2, " and so on, for as long as there is", True, ["…", "[text]and so on, for as…"]),
        (3, " and so on, for as long as there is", True, ["…", "[text]and so on, for as", "[text]long as there is"]),
        (3, " and so on, for as long as there is", False, ["…", "[text]and so on, for as", "[text]long as there is…"]),
        (
            3, " and so on, for as long as there is a text here", True,
            ["…", "[text]and so on, for as", "[text]long as there is a…"],
        ),
        (3, "\n\n  and\n\nb", True, ["…", "[text]and", "[text]b"]),
        (3, "\n", True, ["…"]), (3, "\n", False, ["…"]),
    ],
)  # fmt: skip
def test_how_a_text_would_go_on_takes_the_rows_there_are(rows: int, text: str, whole: bool, said: list[str]) -> None:
    on = GreedyContinuation()
    on.text, on.whole, on.bits = text, whole, 2.5
    head = "[heading]CONTINUATION[text]  2.5 bits[faint]  each time the most likely token"
    with paper():
        it = measures([], size=(21, 20))
        it._rows = (0, 0, rows, 0)
        it.show([], None, on)
        assert page(it.continuation, 80, rows) == [head if row == "…" else row for row in said]
        narrow = measures([], size=(4, 20))
        narrow._rows = (0, 0, 3, 0)
        narrow.show([], None, on)
        assert all(len(row) <= len("[text]") + 9 for row in page(narrow.continuation, 80, 3)[1:])


def test_measures_of_a_text_show_its_words_sum_and_continuation() -> None:
    steps = [
        TokenStep(i, b"", f" {w}", lp, None, None, None, None, 0, Recipe(), None, None, i)
        for i, (w, lp) in enumerate(
            zip(["The", "sky", "is", "blue"], (None, -0.6931471805599453, -1.3862943611198906, 0.0), strict=True)
        )
    ]
    on = GreedyContinuation()
    with paper():
        it = measures([])
        for at, heading, marks, word in (
            (None, "BITS SO FAR  3.0  predicted 3 of 4 tokens", [], None),
            (0, "BITS SO FAR  3.0  predicted 3 of 4 tokens · 0.0 before the cursor", [Mark(0, 0.0, 0.0, 0.0)], 0),
            (3, "BITS SO FAR  3.0  predicted 3 of 4 tokens · 3.0 before the cursor", [Mark(3, 3.0, 3.0, 3.0)], 3),
            (4, "BITS SO FAR  3.0  predicted 3 of 4 tokens · 3.0 before the cursor", [Mark(4, 3.0, 3.0, 3.0)], None),
            (5, "BITS SO FAR  3.0  predicted 3 of 4 tokens", [], None),
        ):
            it.show(steps, at, on)
            picture = it.sum.picture
            assert "".join(text for text, _ in picture.heading) == heading and list(picture.marks) == marks
            assert (picture.right, picture.floor, picture.along) == (4, 0.0, "token") and it.strip.at == word
            (curve,) = picture.curves
            assert list(curve.xs) == [0, 1, 2, 3, 4] and list(curve.ys) == pytest.approx([0, 0, 1, 3, 3])
            assert asked(it.sum)[0]
            it.show(steps, at, on)
            assert not asked(it.sum)[0]
        it.show([], None, on)
        assert it.sum.picture.right == 1 and not it.strip.words
