"""Keys: in words, in `keys.toml`, and on a Mac, where the one labelled delete sends backspace and some never come."""

import importlib
import os
import pkgutil
from pathlib import Path

import pytest
from textual.binding import Binding

import likely.app.tui
from likely.app.tui.base import keys
from likely.engine.errors import DataError
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
