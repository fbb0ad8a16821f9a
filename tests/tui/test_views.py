"""The contract of a full-screen view: a new one is a file and a line of the table."""

import sys
from pathlib import Path

import pytest

from likely.app.tui.base.view_table import VIEWS, ViewEntry
from likely.app.tui.views import palette, slash
from likely.app.tui.views.view import View
from tests.tui.conftest import Play

CLOCK = '''
"""A view that tells the time."""

from textual.binding import Binding

from likely.app.tui.views.view import View
from likely.app.tui.widgets.bars import Hints, TopBar

LEFT = []


class ClockScreen(View):
    NAME = "clock"
    BINDINGS = [Binding("w", "wind", "Wind", id="clock.wind", tooltip="wind it up")]
    wound = 0

    def compose(self):
        yield TopBar(self.NAME)
        yield Hints()

    def on_mount(self):
        self.models_changed()

    def models_changed(self):
        self.top.show(self.host.engine.current.name if self.host.engine.current else "", ())

    def action_wind(self):
        self.wound += 1

    def leave(self):
        LEFT.append(self.wound)

    def commands(self):
        yield "clock: Wind", "once more", self.action_wind
'''


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One file and one line; gives what the view does when it is told to leave."""
    (tmp_path / "clock_view.py").write_text(CLOCK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "clock_view", raising=False)
    monkeypatch.setitem(VIEWS, "clock", ViewEntry("f12", "clock_view:ClockScreen", "the time", "what time it is"))
    left: list[int] = vars(VIEWS["clock"].load())["on_mount"].__globals__["LEFT"]
    return left


@pytest.mark.slow
async def test_a_view_is_a_file_and_a_line(play: Play, clock: list[int]) -> None:
    async with play() as stage:
        last = str(len(VIEWS))
        assert f" {last} clock " in stage.picture()  # the tabs
        names = {name for name, _, _ in palette.entries(stage.app.screen)}
        assert "view: Clock" in names and "clock: Wind" not in names
        assert (
            "/clock" in [each.text for each in slash.suggest(stage.chat, "/cl")]
            and "what time it is" in slash.help_text()
        )
        await stage.pilot.press("f1")  # help
        text = str(stage.app.screen.query_one("VerticalScroll Static").render())
        assert "the time" in text and '"clock.wind" = "w"' in text and '"app.clock" = "f12"' in text
        await stage.pilot.press("escape", "f12")  # the key
        view = stage.app.screen
        assert isinstance(view, View) and view.NAME == "clock" and view.top.model == "scripted"
        await stage.pilot.press("w")
        names = {name for name, _, _ in palette.entries(view)}
        assert "clock: Wind" in names and "view: Chat" in names and "view: Clock" not in names
        await stage.pilot.press("f1")
        assert "wind it up" in str(stage.app.screen.query_one("VerticalScroll Static").render())
        await stage.pilot.press("escape", "f2")
        assert stage.app.screen is stage.chat and clock == [1]
        await stage.ask("Why is the sky blue?")
        stage.chat.pane.view.focus()
        await stage.pilot.press("g")
        assert f"{last} clock" in stage.chat.hints.news
        await stage.pilot.press(last)  # goto
        assert isinstance(stage.app.screen, View) and stage.app.screen.NAME == "clock"
        await stage.pilot.press("f2")
        await stage.type("/clock")  # the command
        assert isinstance(stage.app.screen, View) and stage.app.screen.NAME == "clock"
        await stage.pilot.press("w", "w", "ctrl+q")
    assert clock == [1, 0, 2]


async def test_its_keys_can_be_others(play: Play, clock: list[int], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "keys.toml").write_text('"app.clock" = "f11"\n"clock.wind" = "x"\n')
    async with play() as stage:
        assert not stage.app.store_news
        await stage.pilot.press("f11", "x", "f2")
        assert clock == [1]


@pytest.mark.parametrize("name", VIEWS)
def test_what_the_table_says_of_a_view_is_so(name: str) -> None:
    entry = VIEWS[name]
    kind = entry.load()
    assert issubclass(kind, View) and name == kind.NAME
    ids = {getattr(binding, "id", "") for binding in kind.BINDINGS}
    assert f"{name}.keys" in ids  # help, everywhere
    assert len({each.key for each in VIEWS.values()}) == len(VIEWS)


@pytest.mark.slow
async def test_every_view_is_left_while_it_generates_and_comes_back(play: Play) -> None:
    """From each to some others, every pair of which is met in some order, in the middle of an answer: nothing raises,
    and the chat keeps what was drawn."""
    names = list(VIEWS)
    async with play() as stage:
        for at, start in enumerate(names):
            for end in (names[(at + far) % len(names)] for far in range(len(names) // 2 + 1)):
                stage.app.go("chat")
                await stage.pilot.pause()
                nodes = len(stage.chat.talk.conversation.nodes)
                await stage.type("Why is the sky blue?")
                await stage.until(lambda nodes=nodes: len(stage.chat.talk.conversation.nodes) > nodes)  # type: ignore[misc]
                stage.app.go(start)
                await stage.pilot.pause()
                if start in ("compare", "text"):
                    await stage.pilot.press(*"Hello", "enter" if start == "compare" else "ctrl+r")
                await stage.pilot.pause(0.03)
                stage.app.go(end)
                await stage.pilot.pause(0.03)
                assert isinstance(stage.app.screen, View) and end == stage.app.screen.NAME
                stage.chat.talk.stop()
        assert all(node.finish for node in stage.chat.talk.conversation.nodes.values() if node.role == "assistant")
