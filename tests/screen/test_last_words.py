"""What the program says when the screen is gone: how to come back, what is lost, and what becomes of a training."""

import json
import re
from pathlib import Path
from threading import Thread
from time import sleep

import pytest
import textual.constants
from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Key

from likely.app import tui
from likely.engine.weights.adapters.config import configure
from tests.serve.served import write_model


@pytest.fixture(autouse=True)
def headless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(textual.constants, "DRIVER", "textual.drivers.headless_driver:HeadlessDriver")


def pressed(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    """The keys of a person, as soon as the program is there."""
    monkeypatch.setattr(textual.constants, "PRESS", ",".join(keys))


@pytest.mark.slow(2)
def test_it_says_how_to_come_back(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    pressed(monkeypatch, "ctrl+q")
    assert tui.run("nowhere", home=Path("home")) == 0 and not any(capfd.readouterr())
    pressed(monkeypatch, *"Hi", "enter", "ctrl+q")
    assert tui.run("nowhere", home=Path("home")) == 0
    said = re.fullmatch(r"likely chat --resume (\w+)\n", capfd.readouterr().out)
    assert said is not None
    pressed(monkeypatch, "ctrl+q")
    assert tui.run("nowhere", said[1], Path("home")) == 0
    assert capfd.readouterr().out == f"likely chat --resume {said[1]}\n"


def test_it_says_what_is_lost(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    Path("home/sessions.db").mkdir(parents=True)
    pressed(monkeypatch, *"Hi", "enter", "ctrl+q", "ctrl+q")
    assert tui.run("nowhere", home=Path("home")) == 1
    out, err = capfd.readouterr()
    assert not out and re.fullmatch(r"likely: .*sessions\.db.*: what was said is lost\n", err)


class Terminal(HeadlessDriver):
    """Of a person who leaves: at once, or when a step of the training has been taken."""

    steps: Path | None = None

    def start_application_mode(self) -> None:
        super().start_application_mode()
        Thread(target=self.leave, daemon=True).start()

    def leave(self) -> None:
        while self.steps and not (self.steps.exists() and self.steps.read_bytes()):
            sleep(0.01)
        self.send_message(Key("ctrl+q", None))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
def test_a_training_is_waited_for_and_kept(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], at_once: bool
) -> None:
    write_model(Path("model"))
    rows = [{"prompt": f"{a} + 1 =", "completion": f" {a + 1}"} for a in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(textual.constants, "DRIVER", f"{__name__}:Terminal")
    monkeypatch.setattr(Terminal, "steps", None if at_once else Path("adapter/metrics.jsonl").resolve())
    options = {"data": "rows.jsonl", "model": "model", "steps": 10**6, "length": 32, "batch": 1}
    assert tui.tune(configure(options), home=Path("home")) == 130
    said = capfd.readouterr().err
    if at_once and "stopped before it began" in said:  # however far the opening had come
        return
    assert re.search(r"stopped after step \d+: adapter\ngo on with: likely tune --out adapter --resume\n", said)
    assert Path("adapter/adapters.safetensors").exists()
