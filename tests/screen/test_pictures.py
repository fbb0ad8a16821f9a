"""The chat as a person sees it, where it differs by size or by what is asked, beside pictures that were looked at."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pictures import assert_picture
from tests.support.diffuser import ScriptedDiffusion
from tests.support.everyday import everyday
from tests.support.glass import Glass
from tests.support.model import ANSWER, ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def empty(screen: Screen) -> None:
    """Before anything was said."""


def chat(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("tab", "ctrl+home", "down", *["right"] * 8)


def tree(screen: Screen) -> None:
    chat(screen)
    screen.press("2", "escape")
    screen.say("/redo", "Hello , what about sunsets")


def alternatives(screen: Screen) -> None:
    chat(screen)
    screen.press("enter")


def moved(screen: Screen) -> None:
    """Moved in the middle of the answer, which goes on otherwise, and a token looked at that was drawn before."""
    screen.hold(after=20)
    screen.say(ASK)
    screen.press("ctrl+g", *["left"] * 8)
    screen.release()
    screen.press("escape", "tab", "ctrl+home", "down", *["right"] * 8)


def markdown(screen: Screen) -> None:
    screen.say(ASK)
    screen.click("scatters in")


def search(screen: Screen) -> None:
    screen.hold(after=9)
    screen.say("/strategy beam 3", ASK)


def votes(screen: Screen) -> None:
    screen.say("/strategy vote 4", ASK)


def why(screen: Screen) -> None:
    chat(screen)
    screen.press("w")
    screen.wait(1)


def palette(screen: Screen) -> None:
    screen.press("ctrl+p")
    screen.type("several answers")


def canvas(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("tab", *["["] * 8, *["right"] * 12)


def sessions(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("ctrl+n")
    screen.say("and red")
    screen.press("ctrl+o")


def find(screen: Screen) -> None:
    screen.say(ASK, "/redo")
    screen.press("ctrl+f")
    screen.type("light")


def step(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("tab", "s")


def commands(screen: Screen) -> None:
    screen.type("/s")


def engine(scene: Callable[[Screen], None]) -> ScriptedEngine:
    made = (
        Glass()
        if scene is why
        else ScriptedDiffusion()
        if scene is canvas
        else ScriptedEngine(scripts=[ANSWER])
        if scene is markdown
        else None
    )
    made = made or ScriptedEngine()
    made.plans = {"beam 3": "beams", "vote 4": "votes"}
    return made


SCENES: dict[Callable[[Screen], None], tuple[str, ...]] = {
    empty: ("80x24",), chat: ("120x40", "80x24", "60x20"), tree: ("120x40",),
    alternatives: ("80x24",), moved: ("80x24",), markdown: ("120x40",), search: ("120x40",),
    votes: ("80x24",), canvas: ("120x40", "80x24"), sessions: ("80x24",), find: ("60x20",),
    step: ("120x40",), commands: ("80x24",), why: ("160x50", "120x40", "80x24", "60x20"), palette: ("80x24",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("scene", "size"), everyday([(scene, size) for scene, sizes in SCENES.items() for size in sizes], 3)
)
def test_a_screen_is_as_it_was_looked_at(tmp_path: Path, scene: Callable[[Screen], None], size: str) -> None:
    width, height = map(int, size.split("x"))
    with Screen(tmp_path, engine(scene), size=(width, height)) as screen:
        scene(screen)
        assert_picture(f"screen/pictures/{scene.__name__}-{size}.txt", screen.text + "\n")


def test_a_terminal_of_plain_letters_is_drawn_with_them(tmp_path: Path) -> None:
    with Screen(tmp_path, environ={"LIKELY_ASCII": "1"}) as screen:
        tree(screen)
        assert screen.text.isascii() and "sunsets" in screen.text
