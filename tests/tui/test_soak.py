"""Random keys on every screen, at four sizes, with a scripted model: nothing ends the program. Seeds are printed.

A press that takes long has every thread say where it is.
"""

import faulthandler
import random
import sys
import time

import pytest
from textual.events import Paste

from app.tui.views import VIEWS
from tests.support.model import BLUE, SKY, THOUGHT, ScriptedEngine
from tests.tui.conftest import Play

SIZES = ((120, 40), (100, 30), (80, 24), (60, 20))
LETTERS = "abcdefghijklmnopqrstuvwxyzBKNY0123456789 .,<>[]{}=+-/@?"
NAMES = {
    " ": "space", ".": "full_stop", ",": "comma", "<": "less_than_sign", ">": "greater_than_sign",
    "[": "left_square_bracket", "]": "right_square_bracket", "{": "left_curly_bracket", "}": "right_curly_bracket",
    "=": "equals_sign", "+": "plus", "-": "minus", "/": "slash", "@": "at", "?": "question_mark",
}  # fmt: skip
MOVES = ("up", "down", "left", "right", "home", "end", "pageup", "pagedown", "tab", "shift+tab", "enter", "escape")
COMMANDS = ("backspace", "delete", "ctrl+r", "ctrl+t", "ctrl+g", "ctrl+o", "ctrl+n", "ctrl+f", "ctrl+c", "ctrl+p",
            "ctrl+d", "ctrl+z", "ctrl+j", "shift+left", "shift+right", "f1")  # fmt: skip
TO_VIEWS = tuple(entry.key for entry in VIEWS.values())  # a view that is new is walked too
TYPED = ("Why is the sky blue?", "/step", "/ban sky", "/allow", "/system Be brief", "/redo 1.2", "/prefill Hello",
         "/export markdown", "/heat rank", "/find sky", "/seed 1", "/title sky", "@")  # fmt: skip


PATIENCE_S = 30.0  # for a press, after which every thread says where it is


def key(chance: random.Random) -> str:
    """One key; those that act are likelier than letters."""
    kind = chance.random()
    if kind < 0.3:
        letter = chance.choice(LETTERS)
        return NAMES.get(letter, letter)
    if kind < 0.75:
        return chance.choice(MOVES)
    return chance.choice(TO_VIEWS if kind > 0.93 else COMMANDS)


async def walk(play: Play, size: tuple[int, int], seed: int, presses: int) -> int:
    """Press so many keys at random; gives how many were pressed before the program was left by one of them."""
    print(f"seed {seed} at {size[0]}x{size[1]}")
    chance, pressed, slowest = random.Random(seed), [], (0.0, "")
    engine = ScriptedEngine(scripts=[SKY, BLUE, THOUGHT])
    engine.plan = chance.choice(["", "", "search", "lost", "revised"])
    async with play(engine, ScriptedEngine("other"), size=size) as stage:
        app = stage.app
        for _ in range(presses):
            if not app.is_running or app._exit:
                break
            if chance.random() < 0.02:
                app.screen.post_message(Paste(chance.choice(TYPED)))
                if app.focused is not None:
                    app.focused.post_message(Paste(chance.choice(TYPED)))
                pressed.append("paste")
            if chance.random() < 0.005:
                await stage.pilot.resize_terminal(*chance.choice(SIZES))
                pressed.append("resize")
            pressed.append(key(chance))
            faulthandler.dump_traceback_later(PATIENCE_S, file=sys.__stderr__ or sys.stderr)
            began = time.monotonic()
            try:
                await stage.pilot.press(pressed[-1])
            except Exception:
                print("the last keys:", *pressed[-30:])
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()
                slowest = max(slowest, (time.monotonic() - began, pressed[-1]))
        if app._exception is not None:
            print("the last keys:", *pressed[-30:])
    print(f"{len(pressed)} pressed, the slowest {slowest[1]} in {slowest[0]:.1f} s")
    return len(pressed)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_a_walk_with_random_keys(play: Play, size: tuple[int, int]) -> None:
    assert await walk(play, size, seed=7, presses=60) > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", SIZES)
async def test_ten_thousand_random_keys(play: Play, size: tuple[int, int]) -> None:
    pressed, seed = 0, random.randrange(10**6)
    while pressed < 2500:
        pressed += await walk(play, size, seed + pressed, presses=250)
