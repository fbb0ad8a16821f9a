"""The chat in a real terminal (tmux) with the real model: ask, stop, branch, move a slider, export, quit, resume.

The first run does without animations, the others with them.
"""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from likely.app.store.store import Store
from likely.engine.base.errors import LikelyError
from likely.engine.chat.conversation import Conversation
from tests.support import tmux
from tests.support.tmux import Tmux

STORY = "Write a long story about a lighthouse keeper, chapter by chapter."  # longer than a busy machine looks away

pytestmark = [
    pytest.mark.usefixtures("smollm2"),
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(tmux.MISSING, reason="tmux is not installed"),
]


def last(folder: Path) -> Conversation:
    """The conversation that was kept last."""
    store = Store(folder / "home" / "sessions.db")
    try:
        return store.load(store.sessions()[0].id)
    finally:
        store.close()


def kept(folder: Path) -> int:
    """Tokens of its answer that are on the disk."""
    try:
        talk = last(folder)
    except (IndexError, LikelyError):
        return 0
    return len(talk.leaf.steps) if talk.leaf is not None else 0


def tokens(screen: str) -> int:
    found = re.search(r"TOKEN (\d+)/(\d+)", screen)
    return int(found[2]) if found else 0


def chosen(screen: str) -> int:
    """The row, from 1, of the candidate that was drawn; 0 if it is not among them."""
    lines = screen.splitlines()
    first = next(index for index, line in enumerate(lines) if "next token" in line) + 1
    return next((index - first + 1 for index, line in enumerate(lines) if index >= first and "▏ ▶" in line), 0)


def test_ask_stop_branch_steer_export_quit_resume(terminal: Tmux) -> None:
    terminal.run("TEXTUAL_ANIMATIONS=none ./likely chat -M smollm2")
    terminal.until(lambda s: re.search(r"│ \S+.* ctx", s), "a loaded model")
    terminal.keys(STORY, "Enter")
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
    terminal.keys("Escape", "/export jsonl out.jsonl", "Enter")  # in one read
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
    terminal.run(f"clear; ./likely chat -M smollm2 --resume {id}")
    terminal.until(lambda s: "branch 2/2" in s and "0.90" in s, "the branch, reopened")
    assert answer[1].split("▏")[0].strip() in terminal.screen()
    terminal.keys("C-q")
    terminal.until(lambda s: "--resume" in s, "the way back again")


def test_a_kill_in_mid_answer_loses_nothing_that_was_kept(terminal: Tmux) -> None:
    terminal.run("./likely chat -M smollm2")
    terminal.until(lambda s: re.search(r"│ \S+.* ctx", s), "a loaded model")
    terminal.keys(STORY, "Enter")
    terminal.until(lambda s: tokens(s) > 5, "an answer that streams")
    seen = tokens(terminal.screen())
    terminal.until(lambda s: kept(terminal.folder) >= seen, "what was on the screen, on the disk")
    assert "esc Stop" in terminal.screen()
    pane = terminal.tmux("list-panes", "-t", "t", "-F", "#{pane_pid}").split()[0]
    children = subprocess.run(["pgrep", "-P", pane], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    # not its "Killed", of which an escape sequence that was cut off may take a letter
    terminal.until(lambda s: re.search(r"^\$( |$)", s, re.MULTILINE), "the shell, over the picture")
    talk = last(terminal.folder)
    assert talk.leaf is not None and talk.leaf.finish == "interrupted"
    assert len(talk.leaf.steps) >= seen
    # the terminal was left as the screen had it: its picture goes first, for it shows what is waited for below
    terminal.keys("stty sane; reset", "C-j")
    terminal.until(lambda s: s.strip() == "$", "a terminal as it was")
    terminal.run(f"./likely chat -M smollm2 --resume {talk.id}")
    # by its tokens: where it begins, with "interrupted", is off the screen of a fast machine
    terminal.until(lambda s: tokens(s) == len(talk.leaf.steps) and "lighthou" in s, "what was saved")
    terminal.keys("C-q")
    terminal.until(lambda s: "--resume" in s, "the way back")
