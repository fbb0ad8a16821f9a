"""Tables of requests and of rows, drawn without an app and compared; where keys, clicks and the wheel lead in them."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events

from likely.app.tui.chat.watched import WatchedRequest
from likely.app.tui.training.browser import OpenedRows, RowBrowser
from likely.app.tui.widgets.request_table import RequestTable
from likely.app.tui.widgets.row_table import RowTable, figure, flat, origin, unit
from likely.app.watch.lines import WatchAsked
from likely.engine.tune import choices
from likely.engine.tune.row_file import FileRow
from likely.engine.tune.rows import TrainingRow
from tests.pictures import assert_picture
from tests.tui.drawn import asked, page, paper, posted, stand


def at(y: int) -> events.Click:
    return cast(events.Click, SimpleNamespace(y=y))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likely.app.tui.widgets.request_table.time.localtime", time.gmtime)


# -- requests --------------------------------------------------------------------------------------------------------


def requested(number: int, words: str = "Name a bird.", **more: Any) -> WatchedRequest:
    turns = (("system", "Be brief."), ("user", words)) if words else ()
    row = WatchedRequest.of(number, WatchAsked("chat", "smollm2-135m", turns, 1), 1e9 + 61 * number)
    for name, value in more.items():
        setattr(row, name, value)
    return row


ROWS = [
    requested(0, prompt_tokens=1234, tokens=56789, _speed=87.654, end="ended", model="a-model-with-a-long-name"),
    requested(1, "Zwei\nVögel  und\x07 二十 Wörter " * 30, prompt_tokens=12, tokens=1, model=""),
    requested(2, "", end="failed", why="no such model: nothing"),
    requested(3, prompt_tokens=7),
    replace(requested(4), asked=WatchAsked("embedding", "m", (("text", "a text"),), 0), end="ended", tokens=0),
    requested(5, reading="reading 40 %", prompt_tokens=0),
    requested(6, prompt_tokens=3, tokens=10, _times=[1.0, 3.0]),
]


def test_requests_are_as_they_were_looked_at() -> None:
    with paper():
        rows = []
        for width, height in ((120, 9), (84, 5), (60, 9), (35, 9), (22, 9), (16, 3)):
            table = stand(RequestTable, size=(width, height))
            table.show(ROWS)
            for place in (0, 1, 6) if width == 84 else (6,):
                table.go(place)
                rows += [f"== {width}x{height}, at {place}", *page(table, width, height)]
        table = stand(RequestTable)
        table.show([], ("no server is watched", "", "a line that is longer than there is room for"))
        assert page(table, 24, 9) == [
            "", "[faint]  no server is watched", "[faint]  ", "[faint]  a line that is long…",
        ]  # fmt: skip
        assert page(stand(RequestTable), 24, 9) == [""]
    assert_picture("tui/pictures/pages-requests.txt", rows)


def test_where_columns_have_no_room_the_least_telling_go_first() -> None:
    with paper():
        table = stand(RequestTable)
        table.show(ROWS)
        heads: list[tuple[str, ...]] = []
        for width in range(14, 100):
            head = tuple(page(table, width, 2)[0].removeprefix("[heading]").split())
            if not heads or head != heads[-1]:
                heads.append(head)
            assert width >= 82 or "PROMPT" not in head
            assert ("TOKENS" in head) is (width >= 21) and ("STATE" in head) is (width >= 34)
            assert ("TOK/S" in head) is (width >= 41) and ("TIME" in head) is (width >= 50)
            assert ("MODEL" in head) is (width >= 65) and ("KIND" in head) is (width >= 75)
        assert heads[-1] == ("TIME", "MODEL", "KIND", "PROMPT", "TOKENS", "TOK/S", "STATE", "ASKED") and len(heads) == 8


def test_a_person_stands_on_a_request_or_on_the_newest_whichever_that_is() -> None:
    with paper():
        table = stand(RequestTable, size=(80, 6))
        assert table.at == 0 and table.picked is None
        table.action_open()
        assert not posted(table)
        table.show(ROWS)
        assert table.rows == ROWS[::-1] and asked(table)[0]
        walks: list[tuple[Callable[[], None], int]] = [
            (lambda: table.action_move(-1), 0), (lambda: table.action_move(1), 1), (lambda: table.action_page(1), 5),
            (lambda: table.action_page(1), 6), (lambda: table.action_move(1), 6), (lambda: table.action_page(-1), 2),
            (lambda: table.action_end(True), 6), (lambda: table.action_end(False), 0), (table.on_mouse_scroll_down, 3),
            (table.on_mouse_scroll_down, 6), (table.on_mouse_scroll_up, 3), (table.on_mouse_scroll_up, 0),
            (lambda: table.go(4), 4),
        ]  # fmt: skip
        for walk, place in walks:
            walk()
            assert table.at == place and table.picked is (ROWS[6 - place] if place else None) and asked(table)[0]
        table.action_open()
        assert [message.row for message in cast(list[Any], posted(table))] == [ROWS[2]]
        table.show([*ROWS, requested(7)])  # the one that is picked stays it
        assert table.at == 5 and table.picked is ROWS[2]
        table.show(ROWS[3:])  # it was let go
        assert table.at == 0 and table.picked is None
        low = stand(RequestTable, size=(80, 2))
        low.show(ROWS)
        low.action_page(1)
        assert low.at == 1


def test_a_click_goes_to_a_request_and_on_the_one_where_a_person_stands_opens_it() -> None:
    with paper():
        table = stand(RequestTable, size=(80, 5))
        table.show(ROWS)
        for start, y, place, opened in (
            (0, 0, 0, False), (0, 1, 0, True), (0, 2, 1, False), (4, 1, 2, False), (4, 3, 4, True), (4, 4, 5, False),
            (6, 4, 6, True), (6, 5, 6, False), (2, 0, 2, False),
        ):  # fmt: skip
            table.go(start)
            table.on_click(at(y))
            assert table.at == place, (start, y)
            assert [message.row for message in cast(list[Any], posted(table))] == ([ROWS[6 - place]] if opened else [])
        roomy = stand(RequestTable, size=(80, 12))
        roomy.show(ROWS)
        for y, place in ((8, 0), (7, 6)):
            roomy.on_click(at(y))
            assert roomy.at == place and not posted(roomy)  # below the last there is none


# -- rows of a data set ----------------------------------------------------------------------------------------------


def row(number: int, said: str = "", answer: str = "3", **more: Any) -> FileRow:
    messages = ({"role": "user", "content": said or f"{number}+1="}, {"role": "assistant", "content": answer})
    found = FileRow(
        f"made/train.jsonl:{number}", TrainingRow("chat", "w", messages=messages),
        source={"method": "verified", "parent": f"sums:{number}"},
        scores={"logprob": -number * math.log(2), "tokens": 4.0, "words": number + 0.5, "a long name of one": 1e7},
    )  # fmt: skip
    return replace(found, **more)


DATA = [
    row(1), row(2, "a\nb  c" * 90, "二十 and\x1b[31m"), row(3, dropped="filter: verifier"),
    row(4, row=None, error="one JSON object a line expected", scores={}), row(5, where="hub/data/train:7", source={}),
    row(6, row=TrainingRow("text", "w", text=" a  text \n of its own " * 40)),
    row(7, where="one/of/many", scores={"words": 12.0}),
    row(8, said="kept", dropped="decontaminate"),
]  # fmt: skip


def browser(rows: Sequence[FileRow] = DATA, by: str = "", chosen: dict[int, bool] | None = None) -> RowBrowser:
    found = RowBrowser("")
    kept = {choices.key(cast(TrainingRow, rows[i].row)): keep for i, keep in (chosen or {}).items()}
    found.show(OpenedRows(Path("train.jsonl"), rows, ("bits", "words", "tokens", "a long name of one"), kept))
    found.by = by
    return found


def test_rows_are_as_they_were_looked_at() -> None:
    chosen = {0: False, 1: True, 7: True}
    with paper():
        rows = []
        for width, height, by, here in (
            (130, 9, "", 0), (90, 6, "words", 4), (76, 9, "tokens", 7), (75, 9, "a long name of one", 2),
            (50, 4, "", 3),
            (40, 9, "", 0), (100, 2, "bits", 5),
        ):  # fmt: skip
            shown = browser(by=by, chosen=chosen)
            shown.go(here)
            rows += [f"== {width}x{height}, by {by or 'file'}, at {here}", *page(stand(RowTable, shown), width, height)]
        empty = browser(())
        rows += ["== none", *page(stand(RowTable, empty), 30, 4)]
        empty.why = "there is no\nfile of that name here"
        rows += ["== why", *page(stand(RowTable, empty), 20, 4)]
    assert_picture("tui/pictures/pages-rows.txt", rows)


@pytest.mark.parametrize(
    ("width", "numbers", "source"),
    [(200, 3, 24), (98, 3, 24), (97, 2, 24), (87, 2, 24), (86, 1, 24), (76, 1, 24), (75, 3, 0), (74, 3, 0), (73, 2, 0),
     (63, 2, 0), (62, 1, 0), (40, 1, 0)],
)  # fmt: skip
def test_a_text_keeps_its_room_before_numbers_and_source_have_any(width: int, numbers: int, source: int) -> None:
    with paper():
        table = stand(RowTable, browser())
        names, size = table._columns(width)
        assert (names, size) == (["bits", "words", "tokens"][:numbers], source)
        table.browser.by = "tokens"
        assert table._columns(width)[0] == ["tokens", "bits", "words"][:numbers]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_row_that_is_looked_at_is_seen_in_the_middle_of_a_full_table(count: int) -> None:
    with paper():
        for height in range(1, 12):
            for here in range(count):
                shown = browser(DATA[:count])
                shown.go(here)
                table = stand(RowTable, shown)
                room = max(height - 1, 1)
                top = min(max(here - room // 2, 0), max(count - room, 0))
                lines = page(table, 60, height)
                marked = [i for i, line in enumerate(lines) if "▶" in line]
                assert len(lines) == min(room, count) + 1 or height == 1
                assert height == 1 or (marked == [1 + here - top] and top <= here < top + room)


def test_keys_clicks_and_the_wheel_walk_through_rows() -> None:
    with paper():
        shown = browser()
        table = stand(RowTable, shown, size=(80, 6))
        wheel = cast(Any, None)
        walks: list[tuple[Callable[[], None], int]] = [
            (lambda: table.action_move(-1), 0), (lambda: table.action_move(2), 2), (lambda: table.action_page(1), 6),
            (lambda: table.action_page(-1), 2), (lambda: table.action_end(True), 7), (lambda: table.action_move(1), 7),
            (lambda: table.action_end(False), 0), (lambda: table.on_mouse_scroll_down(wheel), 3),
            (lambda: table.on_mouse_scroll_up(wheel), 0),
        ]  # fmt: skip
        for walk, place in walks:
            walk()
            assert shown.at == place and asked(table)[0]
            assert [type(message).__name__ for message in posted(table)] == ["RowLookedAt"]
        for start, y, place in ((0, 1, 0), (0, 3, 2), (5, 1, 3), (5, 5, 7), (7, 5, 7)):
            shown.go(start)
            table.on_click(at(y))
            assert shown.at == place and len(posted(table)) == 1, (start, y)
        shown.go(5)
        table.on_click(at(0))
        table.on_click(at(6))  # behind the last
        assert shown.at == 5 and not posted(table)
        low = stand(RowTable, browser(), size=(80, 2))
        low.action_page(1)
        assert low.browser.at == 1


def test_a_row_is_said_in_one_line() -> None:
    assert (
        origin(row(3)) == "verified sums:3"
        and origin(row(3, source={"parent": "a"})) == "a"
        and origin(row(4, source={})) == ""
    )
    assert origin(row(3, dropped="filter")) == "filter"
    assert flat(TrainingRow("text", "w", text=" a\n b ")) == "a b"
    assert flat(cast(TrainingRow, row(1).row)) == "1+1= → 3"
    assert (
        flat(TrainingRow("chat", "w", messages=({"role": "user", "content": None}, {"role": "x", "content": 5})))
        == " → 5"
    )
    assert flat(TrainingRow("text", "w", text="x" * 401)) == "x" * 400
    assert unit("bits") == "bits a token" and unit("words") == "words"


@pytest.mark.parametrize(
    ("value", "said"),
    [(3.0, "3"), (-3.0, "-3"), (999_999.0, "999999"), (1e6, "1e+06"), (-1e6, "-1e+06"), (0.5, "0.500"),
    (999.9, "999.900"),
     (1000.5, "1e+03"), (-1000.5, "-1e+03"), (0.0, "0"), (-999.5, "-999.500")],
)  # fmt: skip
def test_a_number_is_said_in_few_cells(value: float, said: str) -> None:
    assert figure(value) == said
