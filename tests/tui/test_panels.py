"""Small panels drawn without an app: votes, the welcome, completions, the system line, shifts, a probe's heading."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.geometry import Offset, Size

from likely.app import requests as r
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.tallies import Share, VoteCount
from likely.app.tui.training.probes import ProbeView
from likely.app.tui.widgets.probe_heading import ProbeHeading, ending
from likely.app.tui.widgets.suggestions import Suggestion, Suggestions
from likely.app.tui.widgets.system_line import SystemLine
from likely.app.tui.widgets.top_shifts import TopShifts
from likely.app.tui.widgets.votes import Votes
from likely.app.tui.widgets.welcome import Welcome
from likely.engine.statistics.difference import Difference, Shift
from tests.pictures import assert_picture
from tests.tui.drawn import asked, page, paper, posted, stand

SIZE = Size(80, 24)


def clicked(x: int, y: int) -> events.Click:
    """A click in the content of a widget."""
    found = SimpleNamespace(x=x, y=y, chain=1, get_content_offset=lambda widget: Offset(x, y))
    return cast(events.Click, found)


def outside() -> events.Click:
    """A click on a border."""
    return cast(events.Click, SimpleNamespace(x=0, y=0, chain=1, get_content_offset=lambda widget: None))


# -- votes -----------------------------------------------------------------------------------------------------------


def votes(*counts: int, none: int = 0, sampled: bool = True, paths: int = 30) -> VoteCount:
    names = ("4", "twelve", "二十", "a very long answer indeed", "0", "-1", "99")
    total = max(sum(counts), 1)
    shares = tuple(
        Share(name, n, max(n / total - 0.15, 0.0), min(n / total + 0.2, 1.0))
        for name, n in zip(names, counts, strict=False)
    )
    answers = [name for name, n in zip(names, counts, strict=False) for _ in range(n)]
    return VoteCount(paths, sampled, shares, {str(i): each for i, each in enumerate([*answers, *[None] * none])})


VOTES = {
    "none yet": votes(), "one": votes(3), "four, one path without": votes(6, 3, 2, 1, none=2),
    "five": votes(5, 4, 3, 2, 1), "seven": votes(6, 5, 4, 3, 2, 1, 1),
    "no sample": votes(3, 1, 1, none=1, sampled=False),
}  # fmt: skip


def test_votes_are_as_they_were_looked_at() -> None:
    with paper():
        rows = []
        for name, tally in VOTES.items():
            for width in (48, 24, 17):
                panel = stand(Votes, drawer=name == "one")
                panel.show(tally)
                drawn = page(panel, width, 20)
                assert len(drawn) == Votes.rows(tally) == panel.get_content_height(SIZE, SIZE, width)
                rows += [f"== {name}, {width}", *drawn]
        assert page(stand(Votes), 40, 9) == [] and Votes.rows(None) == 0
    assert_picture("tui/pictures/pages-votes.txt", rows)


def test_a_vote_is_laid_out_anew_where_it_takes_other_rows() -> None:
    with paper():
        panel = stand(Votes)
        for tally, said in (
            (None, (False, False)), (votes(1), (True, True)), (votes(1), (False, False)), (votes(2), (True, False)),
            (votes(2, 1), (True, True)), (votes(2, 1, sampled=False), (True, True)), (None, (True, True)),
        ):  # fmt: skip
            panel.show(tally)
            assert asked(panel) == said and panel.tally == tally


# -- the welcome -----------------------------------------------------------------------------------------------------

KEYS = {"token.alternatives": "enter", "token.step": "s", "chat.sampler": "ctrl+g", "chat.sessions": "ctrl+o"}


@pytest.mark.parametrize("width", [100, 40, 12])
def test_the_welcome_is_as_it_was_looked_at(width: int) -> None:
    with paper(keys_of=lambda action: KEYS.get(action, "f9")):
        welcome, rows = stand(Welcome), []
        for picked in (0, 1):
            rows += [f"== {picked}", *page(welcome, width if width > 12 else 30, 60)]
            welcome.turn()
            assert asked(welcome) == (True, False)
        welcome.turn()
        assert welcome.picked == 0 and len(page(welcome, width if width > 12 else 30, 7)) == 7
        if width == 12:
            narrow = welcome.lines(8, 90)
            assert max(len("".join(s.text for s in line)) for line in narrow) <= 24
            rows += [f"== {len(narrow)} rows"]
    assert_picture(f"tui/pictures/pages-welcome-{width}.txt", rows)


# -- completions -----------------------------------------------------------------------------------------------------

OFFERED = [Suggestion(f"/{i}", "/" + "abcdefghijkl"[: i + 1], "about it " * (i % 3), i % 2 == 0) for i in range(11)]


def test_completions_are_as_they_were_looked_at() -> None:
    with paper():
        rows = []
        for count in (1, 3, 11):
            panel = stand(Suggestions)
            assert panel.picked is None and panel.display is False and panel.lines(40, 8) == []
            panel.offer(OFFERED[:count])
            assert (panel.display, panel.styles.height, asked(panel)[0]) == (True, min(count, 8), True) or count
            for by in (0, 1, 6, 1, 9):
                panel.move(by)
                rows += [f"== {count}, at {panel.index}, from {panel.top}", *page(panel, 36 - by, min(count, 8))]
    assert_picture("tui/pictures/pages-completions.txt", rows)


def test_completions_in_little_room_keep_half_of_it_for_what_they_do() -> None:
    with paper():
        panel = stand(Suggestions)
        panel.offer([Suggestion("/abc", "/abcdefghij", "about it"), Suggestion("/b", "二", "more")])
        assert panel.offered[0].whole and page(panel, 16, 2) == [
            "  [cursor]/abcdef…[faint]  abo…", "  [text]二      [faint]  more",
        ]  # fmt: skip
        assert page(panel, 9, 2) == ["  [cursor]/ab…[faint]  abo…  <3 cut>", "  [text]二  [faint]  more  <3 cut>"]
        assert page(panel, 16, 1) == page(panel, 16, 2)[:1]


def test_completions_are_offered_walked_through_and_taken() -> None:
    with paper():
        panel = stand(Suggestions)
        panel.offer(OFFERED)
        assert panel.display and str(panel.styles.height) == "8" and asked(panel)[0] and panel.picked == OFFERED[0]
        panel.move(-1)
        assert panel.index == 0 and asked(panel)[0]
        panel.move(4)
        panel.offer(tuple(OFFERED))  # the same
        assert panel.index == 4 and panel.top == 0 and panel.picked == OFFERED[4] and asked(panel)[0]
        panel.offer(tuple(OFFERED))
        assert asked(panel) == (False, False)
        for at, top in ((7, 0), (8, 1), (10, 3)):
            panel.move(at - panel.index)
            assert (panel.index, panel.top) == (at, top)
        panel.move(1)
        assert panel.index == 10
        for y, taken in ((0, 3), (7, 10), (8, None), (-3, 0), (-4, None)):
            panel.on_click(clicked(1, y))
            assert [each.suggestion for each in cast(list[Any], posted(panel))] == (
                [] if taken is None else [OFFERED[taken]]
            )
        panel.offer(OFFERED[:3])
        assert (panel.index, str(panel.styles.height), panel.picked) == (0, "3", OFFERED[0])
        panel.offer([])
        assert panel.picked is None and not panel.display


# -- the system line -------------------------------------------------------------------------------------------------

PROMPT = "You are terse.\n\nAnswer in one sentence, and never in two;  say nothing of yourself. 二十 words at most."


class Counted:
    """An engine that counts when it is told to."""

    def __init__(self, name: str | None) -> None:
        self.current = None if name is None else SimpleNamespace(name=name)
        self.asked: list[Any] = []

    def submit(self, request: Any, then: Any) -> None:
        self.asked.append((request, then))


@pytest.mark.parametrize("focus", [False, True])
def test_the_system_line_is_as_it_was_looked_at(focus: bool) -> None:
    engine = Counted("m")
    with paper(engine=engine):
        line, rows = stand(SystemLine, focus=focus), []
        line.show(PROMPT)
        for tokens in (None, 23):
            line.tokens = tokens
            for folded in (True, False):
                line.folded = folded
                for width, height in ((60, 12), (24, 5), (14, 12), (11, 3)):
                    rows += [f"== {tokens} {folded} {width}x{height}", *page(line, width, height)]
                    needed = line.get_content_height(SIZE, SIZE, width)
                    assert needed == (1 if folded else min(len(line.lines(width, 99)), 12))
        line.folded = False
        full = len(line.lines(24, 99))
        assert [len(line.lines(24, height)) for height in (1, 2, 3, full - 1, full, full + 1)] == [
            2,
            2,
            3,
            full - 1,
            full,
            full,
        ]
        assert "…" in page(line, 24, full - 1)[-1] and "…" not in page(line, 24, full)[-1]
    assert_picture(f"tui/pictures/pages-system-{'focused' if focus else 'left'}.txt", rows)


def test_a_system_prompt_is_counted_by_the_current_model_and_shown_anew_only_where_it_is_another() -> None:
    engine = Counted(None)
    with paper(engine=engine):
        line = stand(SystemLine)
        line.show("")
        assert asked(line) == (False, False)
        line.show("Be brief.")  # no model is there yet
        assert asked(line) == (True, True) and line.has_class("-told") and not engine.asked and line.model == ""
        engine.current = SimpleNamespace(name="m")
        line.show("Be brief.")
        assert asked(line) == (True, True) and line.model == "m" and line.tokens is None
        line.show("Be brief.")
        assert asked(line) == (False, False)
        ((request, then),) = engine.asked
        assert request == r.Count("m", "Be brief.")
        then(0, [r.Loaded(cast(Any, None)) if hasattr(r, "Loaded") else object(), r.Tokenized((1, 2, 3))])
        assert line.tokens == 3 and asked(line)[0]
        line.show("Other.")
        assert line.tokens is None
        asked(line)
        then(0, [r.Tokenized((1, 2, 3))])  # of what stood there before
        assert line.tokens is None and not asked(line)[0]
        line.show("")
        assert not line.has_class("-told") and len(engine.asked) == 2


def test_the_system_line_folds_and_asks_to_be_edited() -> None:
    with paper(engine=Counted(None)):
        line = stand(SystemLine)
        line.action_fold()
        assert not line.folded and asked(line) == (True, True)
        line.on_click(clicked(3, 1))
        assert not line.folded and [type(each).__name__ for each in posted(line)] == ["Asked"]
        line.on_click(clicked(3, 0))
        assert line.folded and not posted(line)
        line.on_click(outside())
        assert not line.folded
        line.on_resize()
        line.on_hide()
        assert [type(each).__name__ for each in posted(line)] == ["Grown", "Grown"]


# -- shifts ----------------------------------------------------------------------------------------------------------

NAMES = Names((b" the", b"a", b"\n", " 二十".encode(), b" longwordlongword", b"e", b"f"))


def shifts(*changes: float) -> tuple[Shift, ...]:
    return tuple(
        Shift(token, math.log(0.5 - change / 2), math.log(0.5 + change / 2)) for token, change in enumerate(changes)
    )


def test_risen_and_fallen_tokens_are_as_they_were_looked_at() -> None:
    cases = {
        "none": None, "nothing moved": Difference(("a", "b"), ()),
        "both": Difference(("a", "b"), (), shifts(0.5, 0.25, 0.004, 0.001, 0.0001), shifts(-0.5, -0.123)),
        "fallen alone": Difference(("a", "b"), (), (), shifts(-0.5, -0.123, 0.0)),
        "risen alone": Difference(("a", "b"), (), shifts(0.5, 0.25), ()),
    }  # fmt: skip
    with paper():
        rows = []
        for name, difference in cases.items():
            for width, height in ((60, 9), (43, 3), (42, 9), (16, 4), (6, 3)):
                panel = stand(TopShifts)
                panel.show(difference, NAMES)
                assert asked(panel)[0] is (difference is not None)
                panel.show(difference, Names())
                assert panel.names is (NAMES if difference is not None else TopShifts.names) and not asked(panel)[0]
                drawn = page(panel, width, height)
                assert len(drawn) <= height
                rows += [f"== {name}, {width}x{height}", *drawn]
    assert_picture("tui/pictures/pages-shifts.txt", rows)


# -- a probe's heading -----------------------------------------------------------------------------------------------


def test_a_probes_heading_says_its_place_and_how_old_it_is() -> None:
    views = [
        ProbeView("row 3", "It was\tlate,\nand the rain", 1200, False, None), ProbeView("", "a", None, False, None),
        ProbeView("row 4", "b", 7, True, None), ProbeView("", "b", 7, False, None),
    ]  # fmt: skip
    with paper():
        heading = stand(ProbeHeading)
        assert heading.lines(40, 2) == []
        rows = []
        for view in views:
            heading.show(view)
            assert asked(heading)[0]
            heading.show(ProbeView(*(getattr(view, name) for name in ("what", "before", "step", "pending", "view"))))
            assert not asked(heading)[0]
            rows += [page(heading, width, 2) for width in (40, 18)]
    assert rows == [
        ["[heading]WHAT MOVED[faint]  row 3 · step 1,200", "[text]It was late,⏎and the rain"],
        ["[heading]WHAT MOVED[faint]  row 3…", "[text]…ate,⏎and the rain"],
        ["[heading]WHAT MOVED[faint]  ", "[text]a"],
        ["[heading]WHAT MOVED[faint]  ", "[text]a"],
        ["[heading]WHAT MOVED[faint]  row 4 · measuring…", "[text]b"],
        ["[heading]WHAT MOVED[faint]  row 4…", "[text]b"],
        ["[heading]WHAT MOVED[faint]  step 7", "[text]b"],
        ["[heading]WHAT MOVED[faint]  step 7", "[text]b"],
    ]


@pytest.mark.parametrize(
    ("text", "size", "said"),
    [
        ("one two three", 13, "one two three"), ("one two three", 12, "… two three"), ("one two three", 8, "… three"),
        ("one two three", 6, "…three"), ("one two three", 5, "…hree"), ("ab cdefghij", 9, "…cdefghij"),
        ("ab cdefghij", 10, "… cdefghij"), ("abcdefgh i", 9, "…cdefgh i"), ("aaa bbb c", 8, "… bbb c"),
        ("aaa bbb cc", 9, "… bbb cc"), ("二十二十", 8, "二十二十"), ("二十二十", 7, "…十二十"),
        ("二十二十", 6, "…二十"),
        ("", 4, ""), ("a\n\tb", 4, "a⏎ b"), ("x y", 1, "…"),
        ("a十二", 4, "…二"), ("aaa bb cccc", 8, "…bb cccc"), ("aaa b ccccc", 8, "… ccccc"),
    ],
)  # fmt: skip
def test_the_end_of_a_text_begins_at_a_word_where_enough_is_left(text: str, size: int, said: str) -> None:
    assert ending(text, size) == said
