"""The inside view on a host that only notes: what is asked of the engine and when, what is kept, and what is shown."""

import json
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.screen import Screen
from textual.widgets import Input

from app import looks
from app import requests as r
from app.tui.formula import Formula
from app.tui.inside.sheet import Sheet
from app.tui.theme import GLYPHS
from app.tui.views import inside
from app.tui.views.inside import KEYS, InsideScreen, PageCanvas
from app.tui.widgets.bars import TopBar
from app.worker import Failed
from engine.prompt import Prompt
from tests.pictures import assert_picture
from tests.tui import drawn
from tests.tui.pages import NAMES, TEXT
from tests.tui.small_app import HostApp, rows, shown
from tests.tui.test_lens_page import known, part

OPENED = looks.TextOpened(TEXT, 0, 12, 6, 3, 16, 64, False, True)
PROMPT = Prompt(parts=("a text",))


class Noted(InsideScreen):
    """Whatever it is asked to show, what it asks stands in the engine's notes."""

    @property
    def app_(self) -> HostApp:
        return cast(HostApp, self.app)

    def hear(self, *events: Any, ask: int = -1) -> None:
        """An answer to the last that was asked, or to another."""
        self.app_.engine.tell(*events, request=ask)

    @property
    def requests(self) -> list[r.Inside]:
        return list(self.app_.engine.asked)

    @property
    def asked(self) -> list[looks.Look]:
        return [request.look for request in self.requests]


@asynccontextmanager
async def opened(tmp_path: Path, *, size: tuple[int, int] = (80, 24), text: bool = True, after: int = 0) -> Any:
    """The view, on a text that is opened or on none."""
    host = HostApp(tmp_path, NAMES)
    host.looked_into = (PROMPT, after) if text else None
    view = Noted()
    async with shown(view, size, host) as (_, pilot):
        if text:
            assert view.asked == [looks.OpenLook()]
            view.hear(OPENED)
        yield view, host, pilot


def parts(view: Noted) -> None:
    """All of the lens."""
    view.hear(part(0, 24))


# -- the text that is looked into -------------------------------------------------------------------------------------


async def test_a_text_that_is_given_is_opened_and_then_looked_into(tmp_path: Path) -> None:
    async with opened(tmp_path, after=2) as (view, host, _):
        assert view.requests[0].model == "model" and view.requests[0].prompt == PROMPT
        assert host.looked_into is None and view.reading.position == 21
        assert view.asked[1:] == [looks.LensLook(18, 22, False)]  # (80 - 2 - 30 - 7 - 1) // 9 are on the screen
        view.hear(part(18, 22))
        assert view.asked[2:] == []  # the rest comes without another word
        assert not view.requests[1].control.cancelled
        view.hear(part(0, 18))
        view.hear(part(22, 24))
        assert view.asked[2:] == [] and view._flying == {}
        assert view.reading.lenses[False].known.all()


async def test_without_a_text_nothing_is_asked_and_it_says_how_to_get_one(tmp_path: Path) -> None:
    async with opened(tmp_path, text=False) as (view, host, pilot):
        assert view.requests == [] and view.reading is None
        assert "There is no text to look into yet." in "\n".join(rows(host))
        for key in ("left", "k", "e"):
            await pilot.press(key)
        assert view.hints.news == "there is nothing to write yet: it is not all known"
        await pilot.press("x")
        assert view.hints.news == "there is no text yet: n takes one" and view.requests == []
        await pilot.press("n")
        host.screen.query_one(Input).value = "  "
        await pilot.press("enter")
        assert view.reading is None
        await pilot.press("n", "escape")
        await pilot.press("n")
        host.screen.query_one(Input).value = "some words"
        await pilot.press("enter")
        assert view.requests[0].prompt == Prompt(parts=("some words",)) and view.reading.after == 0


async def test_the_conversation_that_is_open_is_looked_into(tmp_path: Path) -> None:
    host = HostApp(tmp_path, NAMES)
    talk = SimpleNamespace(leaf=None, nodes={})
    host.session = SimpleNamespace(conversation=talk)
    async with shown(Noted(), small=host) as (_, _pilot):
        view = cast(Noted, host.screen)
        assert view.reading is None
        view.read(PROMPT, 3)
        first = view.reading
        view._arrive()
        assert view.reading is first and view.reading.after == 3  # what was there stays
        host.looked_into = Prompt(parts=("other",)), 1
        view._arrive()
        assert view.reading is not first and view.reading.after == 1 and host.looked_into is None


async def test_another_text_breaks_off_what_is_asked_and_forgets_the_place(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, _, _pilot):
        view.pages[0].start = 7
        flying = view.requests[-1].control
        assert not flying.cancelled
        view.read(PROMPT)
        assert flying.cancelled and view.pages[0].start == 0 and list(view._flying) == [looks.OpenLook()]
        view.hear(part(0, 24), ask=1)  # of the text before
        assert view.reading.lenses == {} and view.reading.opened is None
        view.leave()
        assert view.requests[-1].control.cancelled and view._flying == {}


async def test_another_model_reads_the_same_words(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, host, _):
        count = len(view.requests)
        view.models_changed()
        assert len(view.requests) == count and view.reading.model == "model"
        host.engine.current = SimpleNamespace(name="other", title="Other")
        view.models_changed()
        assert (view.requests[-1].model, view.requests[-1].prompt, view.asked[-1]) == (
            "other",
            PROMPT,
            looks.OpenLook(),
        )
        assert view.query_one(TopBar).model == "Other"
        view.reading.prompt = Prompt(parts=("x",), whole=True)
        view.hear(OPENED)
        host.engine.current = SimpleNamespace(name="third", title="")
        view.models_changed()
        words = "".join(NAMES.piece(id).decode() for id in TEXT)
        assert view.requests[-1].prompt == Prompt(parts=(words,))  # tokens of another model are no tokens of this one
        host.engine.current = None
        view.models_changed()
        assert view.reading.model == "third" and view.query_one(TopBar).model == "no model"
        count = len(view.requests)
        view.ask()
        assert len(view.requests) == count


async def test_other_adapters_read_it_anew_at_the_same_place(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, _, _pilot):
        view.reading.position = 20
        view.adapters_changed()
        assert view.reading.after == 3 and view.reading.opened is None and view.asked[-1] == looks.OpenLook()
        view.adapters_changed()
        assert view.reading.after == 0
    async with opened(tmp_path, text=False) as (view, _, _pilot):
        view.adapters_changed()
        assert view.requests == []


# -- the engine -------------------------------------------------------------------------------------------------------


async def test_what_is_on_the_screen_is_asked_for_before_the_rest(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, _, pilot):
        assert view.asked[1:] == [looks.LensLook(20, 24, False)]
        await pilot.press("left")
        assert len(view.asked) == 2  # it is on the screen still
        await pilot.press("home")
        assert view.asked[2:] == [looks.LensLook(0, 4, False)]
        assert view.requests[1].control.cancelled and not view.requests[2].control.cancelled
        view.hear(part(20, 24), ask=1)
        assert view.reading.lenses == {}  # of what was broken off nothing is wanted
        view.hear(part(0, 4))
        await pilot.press("right")
        assert len(view.asked) == 3
        await pilot.press("end")
        assert view.asked[3:] == [looks.LensLook(20, 24, False, (0, 1, 2, 3))]
        for start, stop, known_, coming in (
            (0, 4, (), True), (1, 3, (), True), (3, 5, (), False), (3, 5, (4,), True), (20, 24, (), False),
        ):  # fmt: skip
            look = looks.LensLook(start, stop, False, known_)
            assert view._coming(view.reading, looks.LensLook(0, 4), look) is coming


async def test_more_room_and_coming_back_ask_for_what_is_seen_then(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, host, pilot):
        await pilot.resize_terminal(60, 24)
        await pilot.pause()
        assert view.asked[2:] == [looks.LensLook(19, 24, False)]  # without the panel there is room for five
        host.went.clear()
        host.looked_into = Prompt(parts=("other",)), 1
        view.on_screen_resume()
        assert host.went == ["restyle"] and view.asked[3:] == [looks.OpenLook()] and view.reading.after == 1


async def test_what_cannot_be_known_is_not_asked_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, host, _):
        view.hear(Failed("there is no room"))
        assert view.reading.refused == {looks.LensLook(0, 0): "there is no room"} and view._flying == {}
        view.reshow()
        assert len(view.asked) == 2 and "there is no room" in "\n".join(rows(host))
        view.action_show("attention")
        assert view.asked[2:] == [looks.PatternLook(0)]
        view.reshow()
        assert len(view.asked) == 3  # it is under way
        view.hear(Failed("too long"))
        assert view.asked[3:] == [looks.KindsLook()] and list(view._flying) == [looks.KindsLook()]
    async with opened(tmp_path, text=False) as (view, host, _):
        view.read(PROMPT)
        view.hear(Failed("no model reads this"))
        view.reshow()
        assert view.asked == [looks.OpenLook()] and "no model reads this" in "\n".join(rows(host))


async def test_what_costs_much_is_asked_once_the_cursor_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "SETTLE_S", 1000.0)
    async with opened(tmp_path) as (view, _, pilot):
        view.action_show("causes")
        assert view.asked[2:] == [looks.AttributionLook(23)]
        await pilot.press("left")
        assert len(view.asked) == 3 and view._settle is not None and view.reading.position == 22
        first = view._settle
        await pilot.press("left")
        assert view._settle is not first and len(view.asked) == 3
        view.action_show("lens")
        await pilot.press("home")
        assert len(view.asked) == 4  # at once


async def test_nothing_is_asked_behind_another_screen(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, host, pilot):
        count = len(view.requests)
        for _ in range(2):  # what lies below the uppermost may be seen through it
            host.push_screen(Screen())
            await pilot.pause()
        view.page = view.pages[1]
        view.ask()
        assert len(view.requests) == count


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_pages_go_round_and_a_key_of_another_page_does_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, host, pilot):
        names = []
        for key in ("tab", "tab", "shift+tab", "shift+tab", "shift+tab", "c"):
            await pilot.press(key)
            names.append(view.page.NAME)
        assert names == ["attention", "map", "attention", "lens", "tokens", "causes"]
        await pilot.press("k")
        assert view.hints.news == "" and not view.pages[0].by_kl
        view.action_show("lens")
        await pilot.press("k")
        assert view.hints.news == "tinted by KL to the last layer" and view.pages[0].by_kl
        await pilot.press("up")
        assert view.hints.news == ""
        for key, position in (("comma", 15), ("right", 16), ("full_stop", 23), ("home", 0), ("end", 23)):
            await pilot.press(key)
            assert view.reading.position == position
        await pilot.press("escape")
        assert host.went[-1] == "chat"


@pytest.mark.slow
async def test_a_key_that_wants_words_takes_a_line(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, host, pilot):
        view.action_show("map")
        await pilot.press("slash")
        field = host.screen.query_one(Input)
        field.value = "red"
        await pilot.press("enter")
        assert view.page.token == 14 and view.hints.news == "" and view.asked[-1] == looks.NearLook((14,))
        await pilot.press("slash", *"nonsense", "enter")
        assert view.hints.news == "nonsense is not one token of this model"
        await pilot.press("slash", "escape")
        await pilot.press("slash", *"blue")
        view.read(PROMPT)
        await pilot.press("enter")
        assert view.page.token is None  # another text is looked into by now


@pytest.mark.slow
async def test_what_a_page_knows_is_written_to_a_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, host, pilot):
        await pilot.press("e")
        assert view.hints.news == "there is nothing to write yet: it is not all known"
        parts(view)
        (tmp_path / "inside-lens.json").write_text("there")
        await pilot.press("e")
        field = host.screen.query_one(Input)
        assert field.value == str(tmp_path / "inside-lens-2.json")
        await pilot.press("enter")
        assert view.hints.news == f"written: {tmp_path / 'inside-lens-2.json'}"
        written = json.loads((tmp_path / "inside-lens-2.json").read_text())
        assert list(written) == ["ids", "lens"] and written["ids"] == list(TEXT)
        for text, said in (("  ", ""), (str(tmp_path / "a.txt"), "got .txt"), (f" {tmp_path / 'b.csv'} ", "written: ")):
            view.hints.say("")
            await pilot.press("e")
            host.screen.query_one(Input).value = text
            await pilot.press("enter")
            assert said in view.hints.news and view.hints.alarm == (said == "got .txt")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b.csv", "inside-lens-2.json", "inside-lens.json"]
        await pilot.press("e", "escape")


async def test_commands_and_the_formula_are_those_of_the_page(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, _, _pilot):
        assert view.formula() is None
        parts(view)
        found = view.formula()
        assert isinstance(found, Formula) and found.map == "model" and found.note == view.page.SENTENCE
        assert found.parts == view.page.formula(view.reading)
        names = [(name, about) for name, about, _ in view.commands()]
        assert names[0] == ("inside: Another text…", "as it is, without a chat template")
        assert [name for name, _ in names[1:]] == [
            f"inside: {name}" for name in ("Attention", "Map", "Causes", "Tokens")
        ]
        list(view.commands())[2][2]()
        assert view.page.NAME == "map" and view.asked[-1] == looks.NearLook((9,))
    assert len({name for _, _, name, _ in KEYS}) == len(KEYS)


# -- drawing ----------------------------------------------------------------------------------------------------------


async def test_a_page_has_the_room_between_its_names_and_the_keys(tmp_path: Path) -> None:
    for size, room in (((104, 32), (102, 25)), ((99, 32), (97, 27)), ((100, 31), (98, 26)), ((20, 4), (18, 0))):
        async with opened(tmp_path, size=size) as (view, _, _pilot):
            assert view.canvas.size == (size[0], size[1] - 2)
            assert view._room() == room, size


async def test_the_view_looks_as_in_its_pictures(tmp_path: Path) -> None:
    made: list[str] = []
    for size in ((104, 33), (99, 14), (60, 9)):
        async with opened(tmp_path, size=size) as (view, host, _):
            for state in ("known", "closed", "refused", "none", "loading", "no model"):
                at: Any = known(at=9)
                if state in ("closed", "refused"):
                    at.opened = None
                if state == "refused":
                    at.refused[looks.OpenLook()] = "no room for so many words as these are"
                host.engine.current = None if state in ("loading", "no model") else SimpleNamespace(name="m", title="")
                host.engine.loading = "m" if state == "loading" else None
                view.reading = None if state == "none" else at
                sheet = Sheet(*view.canvas.size, drawn.LOOK, GLYPHS)
                view.paint(sheet)
                shown_ = [drawn.inked(line).rstrip() for line in sheet.lines()]
                made += [f"== {state}, {size[0]} x {size[1]}", *(shown_ if state == "known" else shown_[:6])]
    assert_picture("tui/pictures/view-inside.txt", made)


async def test_a_name_of_a_page_is_clicked(tmp_path: Path) -> None:
    async with opened(tmp_path) as (view, _, pilot):
        for x, y, name in (
            (0, 1, "lens"), (8, 1, "attention"), (16, 1, "attention"), (20, 1, "map"), (4, 1, "lens"), (20, 2, "lens"),
            (5, 1, "lens"), (1, 1, "lens"), (17, 1, "lens"), (20, 1, "map"),
        ):  # fmt: skip
            view.on_click(cast(events.Click, SimpleNamespace(screen_x=x, screen_y=y)))
            assert name == view.page.NAME, (x, y)
        await pilot.click(PageCanvas, offset=(9, 0))
        assert view.page.NAME == "attention"


def test_a_canvas_without_room_draws_nothing() -> None:
    with drawn.paper():
        canvas = drawn.stand(PageCanvas)
        seen: list[tuple[int, int]] = []
        assert len(canvas.lines(10, 4)) == 4
        canvas.paint = lambda sheet: seen.append((sheet.width, sheet.height))
        for width, height in ((3, 3), (2, 9), (9, 2), (80, 24)):
            assert len(canvas.lines(width, height)) == height
        assert seen == [(3, 3), (80, 24)]
