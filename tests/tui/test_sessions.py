"""Conversations that are kept, in a sidebar and in a dialog: their rows, what keys do, a store that fails."""

from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.geometry import Size
from textual.widgets import Input, Label, OptionList

from app.store import Summary
from app.tui.dialogs.overlays import Ask
from app.tui.widgets.sessions import ALL, KindRow, SessionList, ago
from engine.errors import DataError
from tests.tui.drawn import INKS, LOOK, alone, asked, page, paper, stand

NOW = datetime(2026, 3, 18, 12, 0).timestamp()  # a Wednesday


def summary(id: str, title: str = "", days: float = 0.0, **more: Any) -> Summary:
    how = {"kind": "chat", "model": "hub/smollm2.gguf", "tokens": 1234, "found": "", "leaves": 1, **more}
    return Summary(id, title, created=0.0, updated=NOW - days * 86_400, **how)


FOUND = [
    summary("a", "Why is the sky blue?", 0.1),
    summary("b", "\x1b[31mred\nlines 二十", 0.5, leaves=3), summary("c", "", 0.4, tokens=7),
    summary("d", "yesterday's", 1.4, found="the words\nthat were found"),
    summary("e", "of last week", 6.4, kind="compare"),
    summary("f", "older " * 20, 6.6), summary("g", "a text", 400, kind="text", model=""),
]  # fmt: skip


def plain(rows: Any) -> list[str]:
    """A row of the list with its inks."""
    if isinstance(rows, str):
        return rows.split("\n")
    text, marks = rows.plain, {0: f"[{INKS.of(rows.style)}]"} if rows.style else {}
    for span in rows.spans:
        marks[span.start] = f"[{INKS.of(span.style)}]"
    return "".join(marks.get(i, "") + character for i, character in enumerate(text)).split("\n")


def listed(width: int, screen: int = 100, current: str = "b", sidebar: bool = True) -> SessionList:
    classes = "sidebar" if sidebar else None
    found = stand(
        SessionList, lambda: current, named=lambda title: None, removed=lambda: None, classes=classes, size=(width, 30)
    )
    type(found).screen = SimpleNamespace(size=Size(screen, 40))  # type: ignore[assignment,misc]
    return found


def test_a_sidebar_has_two_rows_a_conversation_under_its_day() -> None:
    with paper(clock=lambda: NOW):
        it = listed(35)
        it.found = FOUND
        options = list(it._options())
        assert [option.id for option in options] == [None, "a", "b", "c", None, "d", None, "e", None, "f", "g"]
        assert [option.disabled for option in options] == [option.id is None for option in options]
        heads = [plain(option.prompt) for option in options if option.id is None]
        assert heads == [["[heading]", f" {day}"] for day in ("TODAY", "YESTERDAY", "LAST WEEK", "BEFORE")]
        assert [plain(option.prompt) for option in options if option.id is not None] == [
            ["[chosen] [text]Why is the sky blue?            ", "[chosen] [faint]chat · 1,234 tok           09:36"],
            ["[chosen]▎[text]␛[31mred⏎lines 二十             ", "[chosen]▎[faint]chat · 3 leaves            00:00"],
            ["[chosen] [text]untitled                        ", "[chosen] [faint]chat · 7 tok               02:24"],
            [
                "[chosen] [text]yesterday's                     ",
                "[chosen] [faint]chat · 1,234 tok           02:24[faint]",
                " the words⏎that were found",
            ],
            ["[chosen] [text]of last week                    ", "[chosen] [faint]compare · 1,234 tok       Thu 12"],
            ["[chosen] [text]older older older older older o…", "[chosen] [faint]chat · 1,234 tok          11 Mar"],
            ["[chosen] [text]a text                          ", "[chosen] [faint]text · 1,234 tok          11 Feb"],
        ]  # fmt: skip
        assert [len(plain(listed(width)._rows(FOUND[0]))[0]) for width in (8, 15, 16)] == [27, 27, 28]


def test_a_dialog_has_a_row_a_conversation_with_model_tokens_and_age() -> None:
    with paper(clock=lambda: NOW):
        it = listed(80, sidebar=False)
        assert [each for summary in FOUND for each in it._line(summary).split("\n")] == [
            "  Why is the sky blue?                            smollm2         1234 tok    2h",
            "● ␛[31mred⏎lines 二十                             smollm2         1234 tok   12h",
            "  untitled                                        smollm2            7 tok    9h",
            "  yesterday's                                     smollm2         1234 tok    1d",
            "    the words⏎that were found",
            "  of last week                                    compare         1234 tok    6d",
            "  older older older older older older older old…  smollm2         1234 tok    6d",
            "  a text                                          text            1234 tok    1y",
        ]
        for screen, width in ((88, 80), (90, 80), (60, 52), (30, 44), (38, 44), (20, 44)):
            line = listed(80, screen, sidebar=False)._line(FOUND[5])
            assert len(line) == width, screen
        found = listed(80, 60, sidebar=False)._line(summary("x", "t", found="word " * 30)).split("\n")[1]
        assert len(found) == 52 and found.endswith("…")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "now"), (59, "now"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86_399, "23h"), (86_400, "1d"), (604_799, "6d"),
     (604_800, "1w"), (86_400 * 365 - 1, "52w"), (86_400 * 365, "1y"), (86_400 * 800, "2y"), (-5, "now")],
)  # fmt: skip
def test_an_age_is_said_in_one_unit(seconds: float, said: str) -> None:
    assert ago(seconds) == said


def test_kinds_turn_and_are_found_where_they_stand() -> None:
    with paper():
        row = stand(KindRow)
        kinds = row.kinds
        assert kinds[0] == ALL and {"chat", "text", "compare"} <= set(kinds)
        (line,) = page(row, 60, 1)
        assert line.startswith(f" [row]{ALL}[]  [faint]chat[]  ")
        text = "".join(segment.text for segment in row.lines(60, 1)[0])
        for x in range(-1, len(text) + 2):
            assert row.at(x) == ("" if not 0 <= x < len(text) or text[x] == " " else next(
                kind for kind in kinds if text.index(kind) <= x < text.index(kind) + len(kind)
            ))  # fmt: skip
        for by, kind in ((1, kinds[1]), (-2, kinds[-1]), (1, kinds[0])):
            row.turn(by)
            assert row.kind == kind and asked(row)[0]


class Kept:
    """A store of conversations in memory; what is done to it is told in words."""

    def __init__(self) -> None:
        self.found, self.done, self.number = list(FOUND), list[tuple[str, ...]](), 0
        self.fail: str | None = None
        self.notice = ""
        self.queries: list[str] = []

    def version(self) -> int:
        if self.fail is not None:
            raise DataError(self.fail)
        return self.number

    def sessions(self, query: str = "") -> list[Summary]:
        self.queries.append(query)
        if self.fail is not None:
            raise DataError(self.fail)
        return [each for each in self.found if query in each.title]

    def taken_notice(self) -> str:
        said, self.notice = self.notice, ""
        return said

    def __getattr__(self, name: str) -> Callable[..., None]:
        def do(*args: str) -> None:
            if self.fail is not None:
                raise DataError(self.fail)
            self.done.append((name, *args))

        return do


class Listing:
    """The list in an app: what it says below, and which conversation is picked."""

    def __init__(self, sidebar: bool = True) -> None:
        self.store, self.current = Kept(), "b"
        self.named: list[str] = []
        self.removed = 0
        self.list = SessionList(
            lambda: self.current, named=self.named.append, removed=self._removed, classes="sidebar" if sidebar else None
        )
        self.host: dict[str, Any] = {
            "store": self.store, "clock": lambda: NOW, "keys_of": lambda action, default="": "ctrl+o",
        }  # fmt: skip

    def _removed(self) -> None:
        self.removed += 1

    @property
    def line(self) -> str:
        return str(self.list.query_one("#sessions-keys", Label).visual)

    @property
    def options(self) -> OptionList:
        return self.list.query_one("#list", OptionList)


async def test_a_list_follows_the_store_and_keeps_what_is_picked() -> None:
    it = Listing()
    it.store.notice = "the database was rescued"
    async with alone(it.list, (35, 40), **it.host) as (app, pilot):
        assert it.list.narrow and it.list.query_one(KindRow).display and it.list.picked == "b"
        assert it.line == "the database was rescued" and it.options.highlighted == 2
        head = it.list._heading()
        assert plain(head) == [f"[heading]CONVERSATIONS[faint]  7{' ' * 8}[accent]^o[faint] closes"]
        asked_for = len(it.store.queries)
        it.list.follow()
        assert len(it.store.queries) == asked_for  # nothing has changed
        it.store.number = 1
        it.store.found = FOUND[2:]
        it.list.follow()
        assert len(it.store.queries) == asked_for + 1 and it.list.picked == "d" and it.options.highlighted == 3
        it.current = "e"
        it.list.follow()
        assert len(it.store.queries) == asked_for + 2 and it.list.picked == "d"
        it.list.display = False
        it.store.number = 2
        it.list.follow()
        assert len(it.store.queries) == asked_for + 2
        it.list.display = True
        it.store.fail = "the database is damaged"
        it.list.follow()
        assert it.line == "the database is damaged" and len(it.list.found) == 5
        it.list.search()
        assert it.line == "the database is damaged" and len(it.list.found) == 5
        it.store.fail = None
        it.store.found = []
        it.list._news = ""
        it.list.search()
        assert it.line == "nothing found · esc" and it.list.picked is None
        for act in (it.list.action_rename, it.list.action_duplicate, it.list.action_remove, it.list.action_undo):
            act()
        it.list.on_input_submitted(cast(Any, SimpleNamespace(stop=lambda: None)))
        await pilot.pause()
        assert not it.store.done and not app.took(SessionList.SessionPicked) and len(app.screen_stack) == 1
        it.store.found = FOUND
        it.list.search()
        assert it.line == "r rename · del put away · / find" and it.list.picked == "e"
        it.options.highlighted = 10
        it.store.found = FOUND[:2]
        it.list.search()
        assert it.list.picked == "b"
        it.store.found = FOUND[:1]
        it.list.search()
        assert it.list.picked == "a"


async def test_kinds_narrow_a_sidebar() -> None:
    it = Listing()
    async with alone(it.list, (35, 40), **it.host) as (_, pilot):
        it.list.action_kind(1)
        assert it.list.query_one(KindRow).kind == "chat" and [s.id for s in it.list.found] == ["a", "b", "c", "d", "f"]
        it.list.action_kind(-1)
        assert len(it.list.found) == 7
        row = it.list.query_one(KindRow)
        x = 1
        for kind in row.kinds:
            it.list.on_click(cast(events.Click, SimpleNamespace(widget=row, x=x)))
            assert row.kind == kind and {s.kind for s in it.list.found} <= (
                {kind} if kind != ALL else {"chat", "text", "compare"}
            )
            x += len(kind) + 2
        it.list.on_click(cast(events.Click, SimpleNamespace(widget=row, x=0)))
        it.list.on_click(cast(events.Click, SimpleNamespace(widget=it.options, x=1)))
        assert row.kind == row.kinds[-1]
        await pilot.press("slash")
        assert it.list.query_one("#query").has_focus
        await pilot.press("down")
        assert it.options.has_focus
        await pilot.press("slash")
        assert it.list.query_one("#query").has_focus


@pytest.mark.parametrize("sidebar", [True, False])
async def test_what_a_person_does_to_a_conversation_is_done_to_the_store(sidebar: bool) -> None:
    it = Listing(sidebar)
    async with alone(it.list, (80, 40), **it.host) as (app, pilot):
        query = it.list.query_one("#query", Input)
        assert it.list.query_one(KindRow).display is sidebar and it.list.picked == "b"
        assert query.placeholder == ("find in titles and text" if sidebar else "search in everything that was said")
        if not sidebar:
            assert it.line == "⏎ open · ^r rename · ^d duplicate · del delete · ^z undo · esc"
            it.list.action_kind(1)
            assert it.list.query_one(KindRow).kind == ALL
        it.list.action_duplicate()
        ((name, id, new),) = it.store.done
        assert (name, id, len(new)) == ("duplicate", "b", 8)
        it.store.done.clear()
        await pilot.pause()
        it.list.action_rename()
        await pilot.pause()
        ask = cast(Ask, app.screen)
        assert (ask.title_, ask.value) == ("name", FOUND[1].title)
        ask.dismiss("new\n name")
        await pilot.pause()
        assert it.store.done == [("rename", "b", "new⏎ name")] and it.named == ["new\n name"]
        it.store.done.clear()
        it.options.highlighted = it.options.get_option_index("d")
        it.list.action_rename()
        await pilot.pause()
        cast(Ask, app.screen).dismiss("x" * 80)
        await pilot.pause()
        assert it.store.done == [("rename", "d", "x" * 59 + "…")] and len(it.named) == 1
        it.list.action_rename()
        await pilot.pause()
        cast(Ask, app.screen).dismiss("")
        await pilot.pause()
        assert len(it.store.done) == 1
        it.store.done.clear()
        it.list.action_remove()
        assert it.store.done == [("delete", "d")] and not it.removed and it.list.deleted == ["d"]
        assert it.line == ("put away · u brings it back" if sidebar else "deleted · ^z brings it back")
        it.options.highlighted = it.options.get_option_index("b")
        it.list.action_remove()
        assert it.removed == 1 and it.store.done[-1] == ("delete", "b")
        it.list.action_undo()
        it.list.action_undo()
        it.list.action_undo()
        assert it.store.done[2:] == [("undelete", "b"), ("undelete", "d")] and it.list.deleted == []
        it.store.fail = "it cannot be written"
        it.list.action_duplicate()
        assert it.line == "it cannot be written"
        it.store.fail = None
        query.focus()
        await pilot.pause()
        query.value, it.store.done = "older", []
        await pilot.pause()
        assert [each.id for each in it.list.found] == ["f"] and it.store.queries[-1] == "older"
        query.cursor_position = 1
        it.list.action_remove()
        assert query.value == "oder" and not it.store.done
        await pilot.pause()
        query.value = "older"
        await pilot.pause()
        query.cursor_position = 5
        it.list.action_remove()
        assert it.store.done == [("delete", "f")]
        app.took()
        await pilot.press("enter")
        (picked,) = app.took(SessionList.SessionPicked)
        assert picked.session == "f"
        it.options.focus()
        await pilot.press("enter")
        (picked,) = app.took(SessionList.SessionPicked)
        assert picked.session == "f"
        await pilot.press("escape")
        assert len(app.took(SessionList.Abandoned)) == 1
        assert LOOK is app.look
