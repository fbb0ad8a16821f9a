"""The keys of a Mac: the one labelled delete sends backspace, and Terminal.app keeps some for itself."""

import importlib
import pkgutil

import pytest
from textual.binding import Binding

import likely.app.tui
from likely.app.tui.base import keys
from likely.app.tui.base.layout import TokenPlace
from likely.app.tui.dialogs.sessions import SessionsDialog
from tests.tui.conftest import Play
from tests.tui.test_chat import ASK

KEPT = {"pageup", "pagedown", "home", "end", "ctrl+home", "ctrl+end", "delete", *(f"f{n}" for n in range(1, 21))}


def bindings() -> list[tuple[str, Binding]]:
    """Every binding of a class of ours, and where it stands."""
    found = []
    for module in pkgutil.walk_packages(likely.app.tui.__path__, "likely.app.tui."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and value.__module__ == module.name:
                own = [b for b in vars(value).get("BINDINGS", ()) if isinstance(b, Binding)]
                found += [(f"{module.name}.{name}", binding) for binding in own]
    return found


def test_nothing_is_on_a_key_alone_that_terminal_app_keeps() -> None:
    by_action: dict[tuple[str, str], set[str]] = {}
    for where, binding in bindings():
        by_action.setdefault((where, binding.action), set()).update(binding.key.split(","))
    assert len(by_action) > 60
    alone = {place: sorted(pressed) for place, pressed in by_action.items() if pressed <= KEPT}
    assert alone == {}


def test_backspace_does_what_delete_does() -> None:
    by_action: dict[tuple[str, str], set[str]] = {}
    for where, binding in bindings():
        by_action.setdefault((where, binding.action), set()).update(binding.key.split(","))
    deleting = [pressed for pressed in by_action.values() if "delete" in pressed]
    assert len(deleting) >= 4 and all("backspace" in pressed for pressed in deleting)


@pytest.mark.slow
async def test_what_is_put_away_by_backspace_is_out_of_sight(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        view = stage.chat.pane.view
        view.focus()
        view.move_to(TokenPlace(0, 0))
        await stage.pilot.press("backspace")
        assert stage.texts == []
        await stage.pilot.press("u")
        assert stage.texts[0] == ASK


@pytest.mark.slow
async def test_the_other_keys_of_a_page_a_row_and_the_ends(play: Play) -> None:
    async with play(size=(80, 24)) as stage:
        await stage.ask(ASK)
        view = stage.chat.pane.view
        view.focus()
        for kept, other in (("home", "0"), ("ctrl+home", "less_than_sign"), ("pageup", "comma")):
            places = []
            for key in (kept, other):
                view.move_to(TokenPlace(1, 5))
                await stage.pilot.press(key)
                places.append(view.cursor)
            assert places[0] == places[1]
        await stage.pilot.press("greater_than_sign")
        assert view.cursor is None  # it follows the newest


@pytest.mark.slow
async def test_backspace_deletes_a_conversation_in_the_list_and_a_letter_in_the_search(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        await stage.pilot.press("ctrl+n")
        await stage.ask(ASK)
        await stage.pilot.press("ctrl+o")
        screen = stage.app.screen
        assert isinstance(screen, SessionsDialog)
        await stage.until(lambda: len(screen.found) == 2)
        await stage.pilot.press("x", "backspace", "backspace")
        await stage.until(lambda: len(screen.found) == 2)
        await stage.pilot.press("down", "backspace")
        await stage.until(lambda: len(screen.found) == 1)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["ctrl+underscore", "ctrl+slash"])
async def test_help_opens_without_a_function_key_and_names_what_a_mac_keeps(
    play: Play, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(keys, "MAC", True)
    assert keys.help_key() == "^/"
    async with play(size=(100, 200)) as stage:
        await stage.pilot.press(key)
        picture = stage.picture()
        assert "Terminal.app keeps some keys for itself" in picture and "labelled delete" in picture
        await stage.pilot.press(key)
        assert stage.app.screen is stage.chat
