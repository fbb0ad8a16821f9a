"""Sleep is held off by a child that ends when the work does, and when this process is killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from likely.app import awake

ROOT = Path(__file__).parents[2]


@pytest.fixture
def caffeinate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Mac whose caffeinate writes down when it begins and when what it runs has ended."""
    log, program = tmp_path / "log", tmp_path / "caffeinate"
    program.write_text(f'#!/bin/sh\necho "begins $1" >> {log}\nshift\n"$@"\necho ends >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setattr(awake, "HOLD", (str(program), "-i", "cat"))
    monkeypatch.setattr("sys.platform", "darwin")
    return log


def test_sleep_is_held_off_while_the_block_runs(caffeinate: Path) -> None:
    with pytest.raises(ValueError, match="x"), awake.kept_awake():
        raise ValueError("x")
    assert caffeinate.read_text() == "begins -i\nends\n"
    assert "caffeinate" in awake.words()


KILLED = """
import os, signal, sys
from likely.app import awake
sys.platform = "darwin"
awake.HOLD = ("sh", "-c", "cat; echo let go >&2")
awake.subprocess.DEVNULL = None  # the child's words are wanted here
with awake.kept_awake():
    print("on", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_a_process_that_is_killed() -> None:
    """The child holds the pipe of standard error open until it ends: this returns only then."""
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == "on\n" and done.stderr == "let go\n"


def test_without_a_caffeinate_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "HOLD", ("/nowhere/caffeinate",))
    monkeypatch.setattr("sys.platform", "darwin")
    with awake.kept_awake():
        pass


def test_elsewhere_nothing_is_started_and_nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(awake, "HOLD", ("/nowhere/caffeinate",))
    assert awake.words() == ""
    with awake.kept_awake():
        pass
