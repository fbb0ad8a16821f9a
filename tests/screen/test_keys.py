"""Keys: in words, in `keys.toml`, on a Mac; and at random in bursts, by a seed that is printed: nothing ends it."""

import importlib
import os
import pkgutil
import random
import select
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding
from textual.events import Key, Paste

import likely.app.tui
from likely.app.tui.base import keys
from likely.app.tui.base.input.key_parser import KeyParser
from likely.app.tui.base.input.terminal import EndOfReading
from likely.app.tui.base.view_table import VIEWS
from likely.engine.base.errors import DataError
from tests.support.model import BLUE, SKY, THOUGHT, ScriptedEngine
from tests.support.screen import Screen

KEPT = {"pageup", "pagedown", "home", "end", "ctrl+home", "ctrl+end", "delete", *(f"f{n}" for n in range(1, 21))}


@pytest.fixture(scope="module")
def pressed() -> dict[tuple[str, str], set[str]]:
    """The keys of every action of a class of ours."""
    found: dict[tuple[str, str], set[str]] = {}
    for module in pkgutil.walk_packages(likely.app.tui.__path__, "likely.app.tui."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and value.__module__ == module.name:
                for binding in vars(value).get("BINDINGS", ()):
                    if isinstance(binding, Binding):
                        found.setdefault((f"{module.name}.{name}", binding.action), set()).update(
                            binding.key.split(",")
                        )
    return found


def test_nothing_is_on_a_key_alone_that_terminal_app_keeps(pressed: dict[tuple[str, str], set[str]]) -> None:
    assert len(pressed) > 60 and {at: sorted(each) for at, each in pressed.items() if each <= KEPT} == {}


def test_what_deletes_does_so_by_backspace_too(pressed: dict[tuple[str, str], set[str]]) -> None:
    deleting = [each for each in pressed.values() if "delete" in each]
    assert len(deleting) >= 4 and all("backspace" in each for each in deleting)


@pytest.mark.slow(2)
@pytest.mark.parametrize("key", ["ctrl+underscore", "ctrl+slash"])
def test_help_opens_without_a_function_key_and_names_what_a_mac_keeps(tmp_path: Path, key: str) -> None:
    with Screen(tmp_path, size=(100, 200), mac=True) as screen:
        assert "^/ Keys" in screen.lines[-1]
        screen.press(key)
        assert "Terminal.app keeps some keys for itself" in screen.text and "labelled delete" in screen.text
        screen.press(key)
        assert "Terminal.app" not in screen.text and "Message" in screen.text
        screen.press("f4")
        assert "^/ Keys" in screen.lines[-1]


def test_keys_in_words() -> None:
    said = {
        "ctrl+r": "^r", "up": "↑", "f1,ctrl+underscore,ctrl+slash": "f1 ^/", "comma": ",", "x,y,z": "x y",
        "shift+left": "shift+left", "escape": "esc",
    }  # fmt: skip
    assert {key: keys.pretty(key) for key in said} == said


@pytest.mark.parametrize(
    ("read", "keys"),
    [
        ("\x1bq", "escape q"),
        ("\x1b2", "escape 2"),
        ("\x1b|q\x1b|q", "escape q escape q"),  # | is between two reads
        ("\x1b\x1bq\x1b[Aq", "escape escape q up q"),
        ("\x1b\x10", "escape ctrl+p"),
        ("\x1bé", "escape é"),
        ("\x1b[|A\x1b[1;3Cx\x1bOP", "up alt+right x f1"),
        ("\x1bb\x1bf", "ctrl+left ctrl+right"),  # as terminals send a word to the left and to the right
        ("\x1b[2|00~a\x1b|[201~\x1bq", "(a) escape q"),
    ],
)
def test_escape_and_the_next_key_are_two_keys_however_late_they_are_read(read: str, keys: str) -> None:
    parser = KeyParser()
    events = [event for part in read.split("|") for event in parser.feed(part)]
    told = [f"({e.text})" if isinstance(e, Paste) else e.key for e in events if isinstance(e, Key | Paste)]
    assert " ".join(told) == keys


def test_two_threads_may_look_at_once_whether_the_terminal_is_gone() -> None:
    """The one that reads keys, and the program, which then ends the reading."""
    ours, its = os.openpty()
    told: list[bool] = []
    reading = EndOfReading(its, lambda: told.append(True))
    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            assert not any(threads.map(lambda _: any(reading.is_set() for _ in range(30_000)), range(2)))
    finally:
        sys.setswitchinterval(switched)
        os.close(ours)
    assert reading.is_set() and reading.is_set() and told == [True]
    os.close(its)


class MacPoll:
    """macOS's poll: it looks at no file of which none of these is asked (xnu, bsd/kern/sys_generic.c)."""

    def __init__(self, poll: Callable[[], Any] = select.poll) -> None:
        self._poll = poll()
        self.poll = self._poll.poll

    def register(self, file: int, events: int) -> None:
        if events & (select.POLLIN | select.POLLPRI | select.POLLHUP):
            self._poll.register(file, events)


def test_a_terminal_that_is_gone_is_seen_on_a_mac_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("select.poll", MacPoll)
    ours, its = os.openpty()
    reading = EndOfReading(its, lambda: None)
    os.write(ours, b"x")
    assert not reading.is_set()
    os.close(ours)
    assert reading.is_set()
    os.close(its)


def test_keys_are_remapped_and_a_mistake_is_named(tmp_path: Path) -> None:
    path, known = tmp_path / "keys.toml", {"chat.redo": "ctrl+r", "app.quit": "ctrl+q"}
    assert keys.load(path, known) == {}
    path.write_text('"app.quit" = "ctrl+x"\n[chat]\nredo = "ctrl+y"\n')
    assert keys.load(path, known) == {"app.quit": "ctrl+x", "chat.redo": "ctrl+y"}
    for text, line in (
        ("chat.rego = 'x'", "did you mean chat.redo?"), ("zzz = 'x'", "F1 lists them"),
        ("chat.redo = 3", "wants keys as text"), ("chat.redo = ''", "got ''"), ("=", "keys.toml"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(DataError, match=line):
            keys.load(path, known)
    path.unlink()
    os.mkfifo(path)  # nobody is at its other end
    with pytest.raises(DataError, match="is a pipe"):
        keys.load(path, known)


SIZES = ((60, 20), (80, 24), (120, 40), (160, 50))
LETTERS = "abcdefghijklmnopqrstuvwxyzBKNY0123456789 .,<>[]{}=+-/@?"
MOVES = ("up", "down", "left", "right", "home", "end", "pageup", "pagedown", "tab", "shift+tab", "enter", "escape")
COMMANDS = ("backspace", "delete", "ctrl+r", "ctrl+t", "ctrl+g", "ctrl+o", "ctrl+n", "ctrl+f", "ctrl+c", "ctrl+p",
            "ctrl+d", "ctrl+z", "ctrl+j", "shift+left", "shift+right", "f1")  # fmt: skip
TO_VIEWS = tuple(entry.key for entry in VIEWS.values() if entry.key)  # a view that is new is walked too
TYPED = ("Why is the sky blue?", "/step", "/ban sky", "/allow", "/system Be brief", "/redo 1.2", "/prefill Hello",
         "/export markdown", "/heat rank", "/find sky", "/seed 1", "/title sky", "/ladders", "/watch", "@")  # fmt: skip


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
                if screen.running and len(pressed) % 5 == 0 and getattr(screen.app.screen, "NAME", "") == "chat":
                    screen.wait(1)  # the list of conversations looks that often whether there are others
                    seen = screen.text  # as it was written, piece by piece
                    screen.resize(*screen.terminal.size)
                    assert screen.text == seen
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


@pytest.mark.slow
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
