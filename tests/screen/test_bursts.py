"""Random keys in bursts, as they come over a slow line: nothing ends the program, whatever is open when they arrive.

The seed and the last keys are printed; the same seed presses the same keys.
"""

import random
from pathlib import Path

import pytest

from likely.app.tui.base.view_table import VIEWS
from tests.support.model import BLUE, SKY, THOUGHT, ScriptedEngine
from tests.support.screen import Screen

SIZES = ((60, 20), (80, 24), (120, 40), (160, 50))
LETTERS = "abcdefghijklmnopqrstuvwxyzBKNY0123456789 .,<>[]{}=+-/@?"
MOVES = ("up", "down", "left", "right", "home", "end", "pageup", "pagedown", "tab", "shift+tab", "enter", "escape")
COMMANDS = ("backspace", "delete", "ctrl+r", "ctrl+t", "ctrl+g", "ctrl+o", "ctrl+n", "ctrl+f", "ctrl+c", "ctrl+p",
            "ctrl+d", "ctrl+z", "ctrl+j", "shift+left", "shift+right", "f1", "f9")  # fmt: skip
TO_VIEWS = tuple(entry.key for entry in VIEWS.values())  # a view that is new is walked too
TYPED = ("Why is the sky blue?", "/step", "/ban sky", "/allow", "/system Be brief", "/redo 1.2", "/prefill Hello",
         "/export markdown", "/heat rank", "/find sky", "/seed 1", "/title sky", "@")  # fmt: skip


def burst(chance: random.Random) -> list[str]:
    """One to twelve keys; those that act are likelier than letters."""
    keys: list[str] = []
    for _ in range(chance.randint(1, 12)):
        kind = chance.random()
        if kind < 0.25:
            keys.append(chance.choice(LETTERS))
        elif kind < 0.28:
            keys += [*chance.choice(TYPED), "enter"]
        elif kind < 0.75:
            keys.append(chance.choice(MOVES))
        else:
            keys.append(chance.choice(TO_VIEWS if kind > 0.93 else COMMANDS))
    return keys


def walk(folder: Path, size: tuple[int, int], seed: int, most: int) -> int:
    """Press so many keys at random; gives how many were pressed before the program was left by one of them."""
    chance, pressed = random.Random(seed), list[str]()
    model = ScriptedEngine(scripts=[SKY, BLUE, THOUGHT])
    model.plan = chance.choice(["", "", "search", "lost"])
    folder.mkdir()
    try:
        with Screen(folder, model, ScriptedEngine("other"), size=size) as screen:
            while screen.running and len(pressed) < most:
                keys = burst(chance)
                pressed += keys
                if chance.random() < 0.3:
                    screen.hold(after=chance.randint(0, 20))
                screen.burst(*keys)
                if chance.random() < 0.5:
                    screen.release()
                if chance.random() < 0.05:
                    screen.resize(*chance.choice(SIZES))
    except BaseException:
        print(f"seed {seed} at {size[0]}x{size[1]}, the last keys:", *pressed[-40:])
        raise
    return len(pressed)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The palette starts one, in a process of its own."""

    def refused(*args: object, **options: object) -> None:
        raise OSError("no process here")

    monkeypatch.setattr("subprocess.Popen", refused)


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    "keys",
    (
        ("ctrl+p", "down", "enter", "enter"),
        ("ctrl+p", "i", "pageup", "e", "pagedown"),
        ("ctrl+p", "pagedown", "pagedown", "escape", "escape"),
        (*"/export markdown a.md", "enter", *"/export markdown a.md", "enter", "enter", "enter"),
        ("ctrl+o", "enter", "enter", "f3", "f2", "ctrl+o", "escape", "escape"),
    ),
)
def test_a_burst_over_what_opens_leaves_the_chat_as_it_is(screen: Screen, keys: tuple[str, ...]) -> None:
    screen.say("Why is the sky blue?")
    screen.burst(*keys)
    screen.press("escape", "escape", "f2", "escape")
    screen.type("and sunsets?")
    assert "│ and sunsets?" in screen.text and "Rayleigh" in screen.text


def test_a_command_is_the_one_whose_name_was_written_before_enter(screen: Screen) -> None:
    screen.burst("ctrl+p", *"view: compare", "enter", "ctrl+p", *"view: text", "enter", *"Once upon")
    assert "Once upon" in screen.text and "COLUMN" not in screen.text


@pytest.mark.slow
@pytest.mark.parametrize(("size", "seed"), [*zip(SIZES, (1, 4, 5, 1), strict=True)])
def test_a_walk_with_random_keys(tmp_path: Path, size: tuple[int, int], seed: int) -> None:
    assert walk(tmp_path / "a", size, seed, most=125) >= 125


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", SIZES)
def test_ten_thousand_random_keys(tmp_path: Path, size: tuple[int, int]) -> None:
    pressed, seed = 0, random.randrange(10**6)
    while pressed < 10_000:
        pressed += walk(tmp_path / str(pressed), size, seed + pressed, most=500)
