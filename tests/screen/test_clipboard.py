"""Copying, by the machine's own command or over ssh through the terminal; and what else a terminal is asked."""

import base64
import os
import pty
import termios
from pathlib import Path

import pytest

from likely.app.tui.base.input import clipboard, terminal_codes
from tests.support.model import SKY
from tests.support.screen import Screen

TEXT = "Blau, größer, 青 🙂\nsecond line"


def command(folder: Path, name: str, code: int = 0) -> Path:
    """A command on the search path that keeps what it is given; gives the file it keeps it in."""
    kept = folder / f"{name}.out"
    path = folder / name
    path.write_text(f"#!/bin/sh\necho $LC_ALL > {kept}.locale\n/bin/cat > {kept}\nexit {code}\n")
    path.chmod(0o755)
    return kept


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty search path."""
    found = tmp_path / "bin"
    found.mkdir()
    monkeypatch.setenv("PATH", str(found))
    return found


def osc(text: str) -> str:
    return f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"


def test_a_mac_copies_with_pbcopy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes the text for UTF-8 where the locale says so, as it does not in every terminal."""
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("LC_ALL", "C")
    kept = command(folder, "pbcopy")
    sent: list[str] = []
    assert clipboard.copy(TEXT, sent.append, {}) == "copied with pbcopy"
    assert kept.read_text(encoding="utf-8") == TEXT and not sent
    assert kept.with_name("pbcopy.out.locale").read_text() == "en_US.UTF-8\n"


@pytest.mark.parametrize("environ", [{"SSH_CONNECTION": "a b c d"}, {"SSH_TTY": "/dev/pts/0"}])
def test_over_ssh_the_terminal_copies(folder: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    kept = command(folder, "pbcopy")
    sent: list[str] = []
    assert "through the terminal (OSC 52)" in clipboard.copy(TEXT, sent.append, environ)
    assert sent == [osc(TEXT)] and not kept.exists()  # it would have been the wrong machine's
    sent.clear()
    clipboard.copy(TEXT, sent.append, {**environ, "TMUX": "/tmp/tmux"})
    assert sent == [f"\x1bPtmux;\x1b{osc(TEXT)}\x1b\\"]


def test_a_command_that_fails_or_is_not_there_leaves_it_to_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr("sys.platform", "darwin")
    assert "OSC 52" in clipboard.copy(TEXT, sent.append, {})
    command(folder, "pbcopy", code=1)
    assert "OSC 52" in clipboard.copy(TEXT, sent.append, {}) and sent == [osc(TEXT)] * 2


def test_linux_copies_with_what_its_desktop_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    sent: list[str] = []
    kept = command(folder, "xclip")
    assert "OSC 52" in clipboard.copy(TEXT, sent.append, {}) and not kept.exists()  # no display
    assert clipboard.copy(TEXT, sent.append, {"DISPLAY": ":0"}) == "copied with xclip"
    wayland = command(folder, "wl-copy")
    assert clipboard.copy(TEXT, sent.append, {"DISPLAY": ":0", "WAYLAND_DISPLAY": "w"}) == "copied with wl-copy"
    assert kept.read_text(encoding="utf-8") == wayland.read_text(encoding="utf-8") == TEXT


def test_the_line_says_how_an_answer_was_copied(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    kept = command(folder, "pbcopy")
    for environ, line in (
        ({}, "answer copied with pbcopy"),
        ({"SSH_TTY": "/dev/pts/0"}, "through the terminal (OSC 52)"),
    ):
        with Screen(tmp_path, environ=environ) as screen:
            screen.say("Why is the sky blue?")
            screen.press("tab", "y")
            assert line in screen.lines[-1] and (screen.clipboard or kept.read_text(encoding="utf-8")) == SKY.strip()


@pytest.mark.parametrize(
    ("answer", "light", "typed"),
    [
        (b"\x1b]11;rgb:ffff/ffff/ffff\x1b\\\x1b[?62;22c", True, b""),
        (b"hi\x1b]11;rgb:1c/1c/1c\a\x1b[?6c", False, b"hi"),  # what was typed meanwhile is kept
        (b"\x1b]11;rgba:f/e/d/f\x1b\\\x1b[?1c", True, b""),
        (b"\x1b[?1;2c", None, b""),  # it does not know
    ],
)
def test_a_terminal_is_asked_for_its_ground(answer: bytes, light: bool | None, typed: bytes) -> None:
    terminal, ours = pty.openpty()
    before = termios.tcgetattr(ours)
    os.write(terminal, answer)
    assert terminal_codes.ground(ours, ours, 60.0) == (light, typed) and termios.tcgetattr(ours) == before
    assert terminal_codes.ground(ours, ours, 0.0) == (None, b"")  # one that says nothing
    asked = b""
    while b"\x1b]11;?\x1b\\" not in asked:
        asked += os.read(terminal, 100)
    os.close(terminal), os.close(ours)
