"""Sleep is held off by a child that ends when the work does, and when this process is killed."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from likely.app.jobs import local_trainer
from likely.app.results import awake
from likely.engine.train.control import TrainControl
from likely.engine.weights.adapters.config import configure
from likely.engine.weights.sources.fetch.progress import silent
from tests.cli.conftest import Likely
from tests.processes import ROOT


def on_a_mac(monkeypatch: pytest.MonkeyPatch, caffeinate: Path) -> None:
    """With this program for its caffeinate."""
    plain = subprocess.Popen

    def started(command: Any, *args: Any, **more: Any) -> "subprocess.Popen[bytes]":
        return plain([caffeinate, *command[1:]] if command[0] == "/usr/bin/caffeinate" else command, *args, **more)

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(sys, "platform", "darwin")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Mac whose caffeinate writes down when it begins and when what it runs has ended."""
    log, program = tmp_path / "log", tmp_path / "caffeinate"
    program.write_text(f'#!/bin/sh\necho "begins $1" >> {log}\ncat\necho ends >> {log}\n')
    program.chmod(0o755)
    on_a_mac(monkeypatch, program)
    return log


def test_sleep_is_held_off_while_the_block_runs(log: Path) -> None:
    with pytest.raises(ValueError, match="x"), awake.kept_awake():
        raise ValueError("x")
    assert log.read_text() == "begins -i\nends\n"
    assert "caffeinate" in awake.words()


KILLED = """
import os, signal, subprocess, sys
from likely.app.results import awake
plain = subprocess.Popen
subprocess.Popen = lambda command, stdin, **_: plain(["sh", "-c", "cat; echo let go >&2"], stdin=stdin)
sys.platform = "darwin"
with awake.kept_awake():
    print("on", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_a_process_that_is_killed() -> None:
    """The child holds the pipe of standard error open until it ends: this returns only then."""
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "on\n" and done.stderr == "let go\n"


@pytest.mark.parametrize("platform", ["darwin", "linux"])
def test_without_a_caffeinate_the_work_is_done_all_the_same(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_mac(monkeypatch, Path("/nowhere/caffeinate"))
    monkeypatch.setattr(sys, "platform", platform)
    assert bool(awake.words()) == (platform == "darwin")
    with awake.kept_awake():
        pass


@pytest.fixture
def training(plain: Path, tmp_path: Path) -> dict[str, Any]:
    """One step of one."""
    rows = [{"prompt": f"tag {i}", "completion": f"<{i}>"} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"model": str(plain), "length": 64, "steps": 1, "out": str(tmp_path / "adapter")}


@pytest.mark.slow
def test_a_training_holds_off_sleep_and_says_so(
    likely: Likely, training: dict[str, Any], tmp_path: Path, log: Path
) -> None:
    words = ("tune", tmp_path / "rows.jsonl", *(f"--{name}={value}" for name, value in training.items()))
    assert "sleep is held off until it ends (caffeinate)" in likely(*words, "--dry-run")[1]
    assert not log.exists()  # nothing is done yet
    code, _, err = likely(*words)
    assert code == 0 and "sleep is held off until it ends (caffeinate)" in err
    assert log.read_text() == "begins -i\nends\n"


@pytest.mark.slow
def test_a_training_on_the_screen_holds_off_sleep(training: dict[str, Any], tmp_path: Path, log: Path) -> None:
    it = local_trainer.LocalTrainer()
    told = it.open(configure({"data": str(tmp_path / "rows.jsonl"), **training}), False, silent)
    assert any("sleep is held off" in line for line in told.lines)
    events = it.train(TrainControl())
    next(events)
    while not (log.exists() and log.read_text()):  # it starts when it can
        time.sleep(0.01)
    assert log.read_text() == "begins -i\n"
    for _ in events:
        pass
    assert log.read_text() == "begins -i\nends\n"
