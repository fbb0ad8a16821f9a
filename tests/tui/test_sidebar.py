"""Conversations beside what is open: a sidebar on wide terminals, the same list in a dialog elsewhere."""

import pytest
from textual.widgets import Input, OptionList

from likely.app.tui.dialogs.sessions import SessionsDialog
from likely.app.tui.widgets.sessions import SessionList
from likely.engine.errors import DataError
from tests.tui.conftest import Play, Stage

WIDE = (160, 45)
FIRST, SECOND, THIRD = "Why is the sky blue?", "what about sunsets", "and why red"


def sidebar(stage: Stage) -> SessionList:
    return stage.app.screen.query_one(".sidebar", SessionList)


def titles(stage: Stage) -> list[str]:
    return [summary.title for summary in sidebar(stage).found]


async def three(stage: Stage) -> None:
    """Three conversations, the last one open, and the sidebar beside it."""
    for words in (FIRST, SECOND, THIRD):
        await stage.pilot.press("ctrl+n")
        await stage.ask(words)
    store = stage.app.store
    assert store is not None
    await stage.until(lambda: len(store.sessions()) == 3, "three that are kept")
    await stage.pilot.press("ctrl+o")
    await stage.until(lambda: len(sidebar(stage).found) == 3 and sidebar(stage).has_focus_within, "a sidebar")


@pytest.mark.slow
async def test_the_sidebar_stays_open_and_opens_what_is_picked(play: Play) -> None:
    async with play(size=WIDE) as stage:
        await three(stage)
        bar, chat = sidebar(stage), stage.chat
        assert bar.region.width == 35 and chat.pane.region.x == 35 and chat.top.region.width == 160
        assert bar.picked == chat.talk.conversation.id and "TODAY" in stage.picture()
        while bar.picked != next(s.id for s in bar.found if s.title == FIRST):
            await stage.pilot.press("down" if titles(stage).index(FIRST) else "up")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.texts[:1] == [FIRST] and chat.composer.has_focus, "another conversation")
        assert sidebar(stage) is bar and bar.display  # it stays
        await stage.pilot.press("ctrl+n")
        await stage.ask("Hello")
        await stage.until(lambda: len(bar.found) == 4, "the list follows what is kept")
        await stage.pilot.press("ctrl+o")  # the focus goes there first, then it closes
        await stage.until(lambda: bar.has_focus_within)
        await stage.pilot.press("escape")
        await stage.until(lambda: chat.composer.has_focus)
        await stage.pilot.press("ctrl+o")
        await stage.until(lambda: bar.has_focus_within)
        await stage.pilot.press("ctrl+o")
        await stage.until(lambda: not chat.query(".sidebar"))
        assert chat.pane.region.x == 0


@pytest.mark.slow
async def test_search_kinds_rename_and_putting_away_with_undo(play: Play) -> None:
    async with play(size=WIDE) as stage:
        await three(stage)
        bar = sidebar(stage)
        await stage.pilot.press("slash", *"sunsets")
        assert titles(stage) == [SECOND] and bar.query_one(Input).value == "sunsets"
        await stage.pilot.press("down", "r")
        await stage.pilot.press("end", *" again", "enter")
        await stage.until(lambda: titles(stage) == [f"{SECOND} again"])
        bar.query_one(Input).value = ""
        await stage.until(lambda: len(bar.found) == 3)
        open_id = stage.chat.talk.conversation.id
        bar.query_one(OptionList).highlighted = next(
            i for i, option in enumerate(bar.query_one(OptionList).options) if option.id == open_id
        )
        await stage.pilot.press("delete")  # of the open one: an empty one takes its place
        await stage.until(lambda: len(bar.found) == 2)
        assert stage.chat.talk.conversation.id != open_id and not stage.shown and "u brings it back" in stage.picture()
        await stage.pilot.press("u")
        await stage.until(lambda: len(bar.found) == 3 and THIRD in titles(stage))
        await stage.pilot.press("right", "right")  # comparisons: there are none
        assert not bar.found and "nothing found" in stage.picture()
        await stage.pilot.press("left")
        assert len(bar.found) == 3


@pytest.mark.slow
async def test_it_stands_in_every_view_and_hides_where_there_is_no_room(play: Play) -> None:
    async with play(size=WIDE) as stage:
        await three(stage)
        for key in ("f3", "f4", "f5"):
            await stage.pilot.press(key)
            await stage.until(lambda: sidebar(stage).display and len(sidebar(stage).found) == 3, key)
        picked = next(s.id for s in sidebar(stage).found if s.title == SECOND)
        sidebar(stage).post_message(SessionList.SessionPicked(picked))
        await stage.until(lambda: stage.app.screen is stage.chat and stage.texts[0] == SECOND)
        await stage.pilot.resize_terminal(120, 40)
        await stage.until(lambda: not sidebar(stage).display)
        await stage.pilot.press("ctrl+o")
        await stage.until(lambda: isinstance(stage.app.screen, SessionsDialog))
        await stage.pilot.press("escape")
        await stage.pilot.resize_terminal(*WIDE)
        await stage.until(lambda: sidebar(stage).display)


@pytest.mark.parametrize("size", [WIDE, (100, 30)])
async def test_a_conversation_that_cannot_be_read_is_a_line(
    play: Play, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with play(size=size) as stage:
        await stage.ask(FIRST)
        await stage.pilot.press("ctrl+o")
        there = lambda: [each for each in stage.app.screen.query(SessionList) if each.found]  # noqa: E731
        await stage.until(there)

        def damaged(session: str) -> None:
            raise DataError(f"conversation {session} cannot be read: it is damaged")

        monkeypatch.setattr(stage.app.store, "load", damaged)
        await stage.pilot.press("down", "enter")
        await stage.until(lambda: "cannot be read" in stage.chat.hints.news)
        assert stage.texts[0] == FIRST
