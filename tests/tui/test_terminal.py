"""The chat in a real terminal (tmux) with the real model: ask, stop, branch, move a slider, export, quit, resume.

The first run does without animations, the others with them.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.sources.model_info import ModelInfo

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


class Terminal:
    """A tmux pane of 120x40 on a server of its own."""

    def __init__(self, folder: Path) -> None:
        self.socket = f"likely-{os.getpid()}-{folder.name}"
        self.folder = folder
        self.tmux("new-session", "-d", "-s", "t", "-x", "120", "-y", "40", "-c", str(folder), "env PS1='$ ' sh")

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", "-L", self.socket, *arguments], capture_output=True, text=True, check=False)
        return done.stdout

    def run(self, command: str) -> None:
        self.keys(command, "Enter")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "t", *keys)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-t", "t", "-p")

    def until(self, condition: Callable[[str], object], what: str) -> str:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            screen = self.screen()
            if condition(screen):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"never seen: {what}\n{self.screen()}")

    def close(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def terminal(tmp_path: Path, smollm2: ModelInfo) -> Iterator[Terminal]:
    found = Terminal(tmp_path)
    home, path = tmp_path / "home", str(smollm2.path)
    code = f"import sys; from pathlib import Path; from app.tui import run; " \
        f"sys.exit(run({path!r}, sys.argv[1] if sys.argv[1:] else None, Path({str(home)!r})))"  # fmt: skip
    start = tmp_path / "start.py"
    start.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code.replace('; ', chr(10))}\n")
    env = "OPENBLAS_NUM_THREADS=1 TERM=xterm-256color COLORTERM=truecolor"
    (tmp_path / "likely").write_text(
        f'#!/bin/sh\nexec env -u COLUMNS -u LINES -u NO_COLOR {env} {sys.executable} {start} "$@"\n'
    )
    (tmp_path / "likely").chmod(0o755)
    yield found
    found.close()


def tokens(screen: str) -> int:
    found = re.search(r"TOKEN (\d+)/(\d+)", screen)
    return int(found[2]) if found else 0


def chosen(screen: str) -> int:
    """The row, from 1, of the candidate that was drawn; 0 if it is not among them."""
    lines = screen.splitlines()
    first = next(index for index, line in enumerate(lines) if "TOKEN" in line) + 1
    return next((index - first + 1 for index, line in enumerate(lines) if index >= first and "▏ ▶" in line), 0)


def test_ask_stop_branch_steer_export_quit_resume(terminal: Terminal) -> None:
    terminal.run("TEXTUAL_ANIMATIONS=none ./likely")
    terminal.until(lambda s: re.search(r"│ \S+.* ctx", s), "a loaded model")
    terminal.keys("Why is the sky blue?", "Enter")
    terminal.until(lambda s: tokens(s) > 12 and "esc Stop" in s, "an answer that streams")
    terminal.keys("Escape")
    screen = terminal.until(lambda s: "stopped" in s, "an answer that was stopped")
    count = tokens(screen)
    terminal.keys("Tab")
    terminal.keys("Left", "Left", "Left", "Left")
    terminal.until(lambda s: f"TOKEN {count - 4}/{count}" in s or f"TOKEN {count - 5}/{count}" in s, "a moved cursor")
    terminal.keys("2" if chosen(terminal.screen()) == 3 else "3")
    terminal.until(lambda s: "branch 2/2" in s, "a branch")
    terminal.keys("Escape")
    terminal.until(lambda s: "esc Stop" not in s and "2 leaves" in s, "a branch that has ended")
    terminal.keys("C-g")
    terminal.until(lambda s: "←→ Move" in s, "the sliders")
    terminal.keys("Right", "Right")
    terminal.until(lambda s: re.search(r"temperature .* 0\.90", s), "a temperature of 0.90")
    terminal.keys("Escape")
    terminal.until(lambda s: "^r Redo" in s, "the prompt")
    terminal.keys("/export jsonl out.jsonl", "Enter")
    # the whole path is said: in the line of hints, or over the screen where it is longer than that
    terminal.until(lambda s: re.search(r"exported (to|jsonl)", s) and str(terminal.folder)[:40] in s, "an export")
    if "exported jsonl" in terminal.screen():
        terminal.keys("Escape")
        terminal.until(lambda s: "exported jsonl" not in s, "the chat")
    assert (terminal.folder / "out.jsonl").read_text().count("\n") == 4  # a header and three nodes
    answer = [line for line in terminal.screen().splitlines() if line.strip()][4:6]
    terminal.keys("C-q")
    screen = terminal.until(lambda s: "likely chat --resume" in s, "the way back")
    id = re.search(r"--resume (\w+)", screen)[1]  # type: ignore[index]
    terminal.run(f"clear; ./likely {id}")
    terminal.until(lambda s: "branch 2/2" in s and "0.90" in s, "the branch, reopened")
    assert answer[1].split("▏")[0].strip() in terminal.screen()
    terminal.keys("C-q")
    terminal.until(lambda s: "--resume" in s, "the way back again")


def test_a_kill_in_mid_answer_loses_at_most_the_last_second(terminal: Terminal) -> None:
    terminal.run("./likely")
    terminal.until(lambda s: re.search(r"│ \S+.* ctx", s), "a loaded model")
    terminal.keys("Write a long story about a lighthouse keeper, chapter by chapter.", "Enter")
    terminal.until(lambda s: tokens(s) > 5, "an answer that streams")
    seen, then = tokens(terminal.screen()), time.monotonic()
    later = terminal.until(lambda s: time.monotonic() - then > 3 and tokens(s) > seen, "an answer that goes on")
    assert "esc Stop" in later
    pane = terminal.tmux("list-panes", "-t", "t", "-F", "#{pane_pid}").split()[0]
    children = subprocess.run(["pgrep", "-P", pane], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    terminal.until(lambda s: "Killed" in s or s.rstrip().endswith("$"), "the end of the program")
    from app.store import Store

    store = Store(terminal.folder / "home" / "sessions.db")
    talk = store.load(store.sessions()[0].id)
    store.close()
    assert talk.leaf is not None and talk.leaf.finish == "interrupted"
    assert len(talk.leaf.steps) >= seen  # what was on the screen three seconds before
    # the terminal was left as the screen had it; one line, for reset throws away what is typed meanwhile
    terminal.keys(f"stty sane; reset; ./likely {talk.id}", "C-j")
    # by its tokens: where it begins, with "interrupted", is off the screen of a fast machine
    terminal.until(lambda s: tokens(s) == len(talk.leaf.steps) and "lighthou" in s, "what was saved")
    terminal.keys("C-q")
    terminal.until(lambda s: "--resume" in s, "the way back")
