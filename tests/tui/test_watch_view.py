"""The view of a server without one: what it hears is scripted, its worker idle; the list, an open request, its keys."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from textual.widgets import Input

from app.heat import HEATS
from app.tui.dialogs.palette import entries
from app.tui.sampling import Sampling
from app.tui.tokens.layout import TokenPlace
from app.tui.views import watch
from app.tui.views.watch import WatchScreen
from app.tui.widgets.bars import InspectorLine
from app.tui.widgets.caption import Caption
from app.tui.widgets.request_table import RequestTable
from app.watch.address import ServerAddress
from app.watch.client import ServerLost, Sighted, WatchServer
from app.watch.lines import WatchAsked, WatchBegan, WatchOpened
from app.worker import Closed, Failed
from engine.decode.events import Done, Emitted, Forked, Prefilled
from tests.tui.conftest import Play, Stage, assert_screen
from tests.tui.test_watch import ENGINE, STATS, step

PIECES = tuple(ENGINE.tokenizer.pieces)


class Ear:
    """A worker that hears what a test gives it."""

    made: list["Ear"] = []  # noqa: RUF012

    def __init__(self, executor: Any, name: str) -> None:
        self.name, self.asked, self.heard, self.closed, self.started = name, list[Any](), list[Any](), False, False
        Ear.made.append(self)

    def submit(self, request: Any) -> int:
        self.asked.append(request)
        return 0

    def start(self) -> None:
        self.started = True

    def drain(self) -> list[tuple[int, Any]]:
        found, self.heard = self.heard, []
        return [(0, event) for event in found]

    def close(self, wait_s: float) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def ears(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Ear]]:
    monkeypatch.setattr(watch, "Worker", Ear)
    monkeypatch.setattr(watch, "TICK_S", 1e6)  # nothing is heard but by a call
    monkeypatch.setattr(Ear, "made", [])
    monkeypatch.setattr("app.tui.widgets.request_table.time.localtime", time.gmtime)
    yield Ear.made


def chat(number: int, words: str = "Name a bird.", **more: Any) -> list[Sighted]:
    return [Sighted(number, WatchAsked("chat", "m", (("user", words),), 1, **more))]


def opened(number: int) -> list[Sighted]:
    return [Sighted(number, WatchOpened("m", (1, 2, 3), 8192, PIECES, frozenset(ENGINE.tokenizer.eos)))]


def drawn(number: int, *words: str) -> list[Sighted]:
    return [Sighted(number, Emitted(0, step(word))) for word in words]


def ended(number: int) -> list[Sighted]:
    return [Sighted(number, Done(0, "eot", STATS)), Sighted(number, Closed())]


LISTED = [
    WatchBegan("1.2"), *chat(1), *opened(1), *drawn(1, " light", " glow", " stay"), *ended(1), *chat(2,
    "Another, of more words."),
    Sighted(2, Failed("no such model")), Sighted(2, Closed()), *chat(3, "And now?"), *opened(3), *drawn(3, " light"),
    *chat(4, "Last."), Sighted(4, Prefilled(3, 9)),
]  # fmt: skip


async def seated(stage: Stage, *events: Any) -> tuple[WatchScreen, Ear]:
    """The view of a server that has said something."""
    stage.app.server = ServerAddress.read("127.0.0.1:8080", stage.app.home)
    stage.app.go("watch")
    await stage.pilot.pause()
    view, ear = cast(WatchScreen, stage.app.screen), Ear.made[-1]
    await hear(stage, view, *events)
    return view, ear


async def hear(stage: Stage, view: WatchScreen, *events: Any) -> None:
    Ear.made[-1].heard = list(events)
    view._figures_s = -1e9
    view.tick()
    await stage.pilot.pause()


def line(view: WatchScreen) -> list[tuple[str, str]]:
    return [(text, ink) for row in view.query_one("#watch-line", Caption).rows for text, ink in row if text.strip()]


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_pictures(play: Play, size: tuple[int, int]) -> None:
    async with play(size=size) as stage:
        view, _ = await seated(stage, *LISTED)
        await assert_screen(stage, f"watch-list-{size[0]}x{size[1]}.txt", stage.picture)
        await stage.pilot.press("down", "down", "down", "enter", "left")
        await assert_screen(stage, f"watch-open-{size[0]}x{size[1]}.txt", stage.picture)
        assert view.row is view.requests.rows[0]


async def test_a_server_is_looked_for_seen_lost_and_looked_for_again(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        stage.app.go("watch")
        await stage.pilot.pause()
        view = cast(WatchScreen, stage.app.screen)
        assert (
            Ear.made == [] and view.address is None and line(view) == [] and "no server is watched" in stage.picture()
        )
        assert "n         another server's address" in stage.picture() and view.subject().at is None
        first = ServerAddress.read("127.0.0.1:8080", stage.app.home)
        view.watch_server(first)
        (ear,) = Ear.made
        assert (
            ear.started
            and ear.name == "watching"
            and isinstance(ear.asked[0], WatchServer)
            and ear.asked[0].address == first
        )
        assert ear.asked[0].control is view._control and stage.app.server == first
        assert line(view) == [(" looking for http://127.0.0.1:8080…", "alarm")]
        assert "127.0.0.1:8080" in stage.picture() and "nothing was asked yet" not in stage.picture()
        await hear(stage, view, WatchBegan("1.2"))
        assert line(view) == [(" requests of http://127.0.0.1:8080, as they run", "faint")] and view.version == "1.2"
        assert "nothing was asked yet" in stage.picture() and "0 running · 0 in all · likely 1.2" in stage.picture()
        await hear(stage, view, *chat(1), *drawn(1, " light"), *chat(2))
        assert "2 running · 2 in all" in stage.picture()
        await hear(stage, view, *drawn(1, " glow"), ServerLost("it has ended"), *chat(1))
        assert view.version == "" and line(view) == [(" it has ended", "alarm")]
        assert [(row.end, row.tokens) for row in view.requests.rows] == [
            ("out of sight", 2),
            ("out of sight", 0),
            ("", 0),
        ]
        await hear(stage, view, Closed(), WatchBegan("1.3"), Failed("a mistake"))
        assert (view.version, view.news) == ("", "a mistake")
        view._stale, view._figures_s = True, time.monotonic()
        view.tick()
        assert view._stale  # a moment ago it was shown
        control, requests = view._control, view.requests
        view.watch_server(ServerAddress.read("127.0.0.1:9", stage.app.home))
        assert ear.closed and control.stopped.is_set() and view.requests is not requests and len(Ear.made) == 2
        assert view.version == "" and not view._control.stopped.is_set()
        view.on_unmount()
        assert Ear.made[1].closed and view._worker is None
        view.tick()


@pytest.mark.slow
async def test_another_server_is_asked_for_by_its_address(play: Play) -> None:
    async with play(size=(100, 30)) as stage:
        view, _ = await seated(stage, *LISTED)
        field = view.query_one("#watch-address", Input)
        assert not field.display and view.query_one(RequestTable).has_focus
        await stage.pilot.press("n")
        assert field.display and field.has_focus
        await stage.pilot.press("escape")
        assert not field.display and view.query_one(RequestTable).has_focus and stage.app.screen is view
        await stage.pilot.press("n", "enter")
        assert not field.display and len(Ear.made) == 1
        await stage.pilot.press("n")
        field.value = "ftp://x"
        await stage.pilot.press("enter")
        assert field.display and "expected a server's address" in view.hints.news
        field.value = " http://example.org:99   my.key "
        await stage.pilot.press("enter")
        assert not field.display and view.hints.news == "" and len(Ear.made) == 2
        assert view.address == ServerAddress("http", "example.org", 99, Path("my.key"))
        {name: act for name, _, act in entries(view)}["server: Watch…"]()
        assert field.display
        await stage.pilot.press("escape", "escape")
        assert stage.app.screen is stage.chat


class Child:
    """A server that was started from here."""

    def __init__(self, address: str = "", failure: str = "") -> None:
        self.address, self.failure, self.stopped = address, failure, False

    def stop(self) -> None:
        self.stopped = True


async def test_a_server_that_was_started_from_here_is_turned_to_once_and_its_end_is_said(play: Play) -> None:
    async with play(size=(100, 30)) as stage:
        view, _ = await seated(stage, *LISTED)
        child = Child()
        stage.app.child = cast(Any, child)
        view.tick()
        assert len(Ear.made) == 1
        child.address = "http://127.0.0.1:77"
        view.tick()
        assert len(Ear.made) == 2 and view.address is not None and view.address.port == 77
        view.tick()
        assert len(Ear.made) == 2
        child.failure = "the server has ended: no"
        view.tick()
        assert child.stopped and stage.app.child is None and view.hints.news == child.failure


@pytest.mark.slow
async def test_an_open_request_grows_is_walked_in_and_closed(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        view, _ = await seated(stage, *LISTED)
        glance, view_ = view.query_one(InspectorLine), view.view
        assert view.has_class("-listed") and not glance.display and view.formula() is None
        for act in (view.action_heat, view.action_sampler, view.action_panel):
            act()
        await stage.pilot.press("down", "enter")
        row = view.requests.rows[2]
        assert view.row is row and not view.has_class("-listed") and view_.has_focus and view_.following
        assert line(view) == [(" chat · m · 1 token · 0.0/s · drawing", "faint")]
        assert view.look is not None and view.sampling is None and view.formula() is not None
        assert view.inspector.sampler.sampling == Sampling.of(step(" light").recipe)
        await hear(stage, view, *drawn(3, " glow"), *drawn(4, " go"))
        await stage.until(lambda: "TOKEN 2/2  ·glow" in stage.picture(), "the newest token looked at")
        assert " · 2 tok · " in stage.picture()
        assert view_.blocks[1].tokens[-1].text == " glow" and line(view)[0][0].startswith(" chat · m · 2 tokens")
        assert view.subject().at is not None and view.names().piece(step(" glow").token) == b" glow"
        await stage.pilot.press("left")
        assert view_.cursor == TokenPlace(1, 0)
        await hear(stage, view, *drawn(3, " stay"))
        assert view_.cursor == TokenPlace(1, 0) and len(view_.blocks[1].tokens) == 3
        at = view.subject().at
        assert at is not None and at.recipe == step(" light").recipe
        view.inspector.sampler.change(Sampling().preset("wild"))
        await stage.pilot.pause()
        assert view.sampling is not None and view.sampling.preset_name == "wild"
        at = view.subject().at
        assert at is not None and at.recipe == view.sampling.recipe
        heat = row.session.transcript  # type: ignore[union-attr]
        for name in (*HEATS[1:], HEATS[0]):
            await stage.pilot.press("ctrl+t")
            assert heat.heat == name
        view.on_candidates_picked()
        assert "watched, not steered" in view.hints.news
        await stage.pilot.press("right")
        assert view.hints.news == ""
        view.action_panel()
        view.on_token_view_chosen()
        await stage.pilot.pause()
        assert view.inspector.candidates.has_focus
        await stage.pilot.press("escape")
        assert view.row is row and view_.has_focus
        await stage.pilot.press("ctrl+g")
        assert view.inspector.sampler.has_focus
        await stage.pilot.press("escape")
        assert view.row is row and view_.has_focus
        view.action_ask()
        view._close_address()
        assert view_.has_focus
        view.inspector.near = True
        assert view.subject().at is not None and view.inspector.near is False
        await stage.pilot.pause()
        assert view.hints.news == "tokens that lie nearest want m to be loaded here"
        await hear(stage, view, *ended(3))
        assert row.end == "ended" and line(view)[0][0].endswith("ended")
        other = view.requests.rows[0]
        await stage.pilot.press("left")
        assert view_.cursor is not None
        view.open_request(other)
        assert view_.cursor is None and view.row is other and row.session is None
        view.open_request(row)
        await stage.pilot.pause()
        await hear(stage, view, ServerLost("it went"))
        assert line(view)[1] == ("  it went", "alarm")
        await stage.pilot.press("escape")
        assert view.row is None and view.look is None and view.has_class("-listed") and row.session is None
        assert view.query_one(RequestTable).has_focus
        await stage.pilot.press("escape")
        assert stage.app.screen is stage.chat


async def test_what_cannot_be_opened_is_said_and_texts_are_checked_out(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        view, _ = await seated(
            stage, WatchBegan("1.2"), Sighted(1, WatchAsked("chat", "m", (("user", "two"),), 2, late=True)), *opened(1)
        )
        row = view.requests.rows[0]
        await hear(stage, view, Sighted(1, Emitted(0, step(" light"))), Sighted(1, Emitted(1, step(" glow"))))
        view.open_request(row)
        await stage.pilot.pause()
        assert line(view)[0][0].endswith("from its middle on") and view.view.blocks[1].tokens[0].text == " light"
        tree = view.inspector.tree_pane
        assert len(tree.ways) == 3
        tree.picked = 2
        tree.action_choose()
        await stage.pilot.pause()
        assert view.view.blocks[1].tokens[0].text == " glow" and row.run is not None and not row.run.ended
        await hear(
            stage,
            view,
            Sighted(1, Forked(1, 2)),
            Sighted(1, Emitted(2, step(" stay"))),
            Sighted(1, Emitted(1, step(" light"))),
        )
        assert len(tree.ways) == 5
        nothing = WatchAsked("chat", "m", (), 1)
        await hear(stage, view, Sighted(5, nothing))
        view.open_request(view.requests.rows[1])
        assert view.row is row and view.hints.news == "nothing to show"
        row.shut()
        view.row = None
        row.let_go()
        view.open_request(row)
        assert view.row is None and "only so many are kept" in view.hints.news
        await hear(stage, view, *drawn(5, " light"))
        view.open_request(view.requests.rows[1])
        assert view.row is view.requests.rows[1]  # it has tokens, if no words
        view.watch_server(ServerAddress.read("127.0.0.1:9", stage.app.home))
        assert view.row is None and view.has_class("-listed") and not view.query_one(InspectorLine).display
        await hear(
            stage, view, *chat(5), *chat(5), *chat(6), *opened(6), Sighted(6, Failed("it broke")), Sighted(6, Closed())
        )
        view.open_request(view.requests.rows[2])
        assert line(view)[0] == (" chat · m · 0 tokens · 0.0/s · failed · it broke", "alarm")
        assert view._drawn_by(view.row.session).transforms == ()  # type: ignore[union-attr]


async def test_folded_thinking_is_opened_by_a_click(play: Play) -> None:
    async with play(size=(100, 30)) as stage:
        view, _ = await seated(stage, WatchBegan("1.2"), *chat(1), *opened(1))
        thought = [step("<think>"), step(" light"), step("</think>"), step(" glow")]
        await hear(stage, view, *(Sighted(1, Emitted(0, each)) for each in thought), *ended(1))
        view.open_request(view.requests.rows[0])
        block = view.view.blocks[1]
        folded = block.folded
        for now in (not folded, folded):
            view.view.post_message(view.view.FoldToggled(1))
            await stage.pilot.pause()
            assert block.folded is now
        height = view.view.layout_.height
        stage.app.go("chat")
        stage.app.go("watch")
        assert stage.app.screen is view  # it goes on
        await stage.pilot.resize_terminal(60, 20)
        await stage.pilot.pause()
        assert view.view.layout_.height >= height - 3
