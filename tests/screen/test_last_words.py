"""What the program says when the screen is gone: how to come back, what is lost, and what becomes of a training."""

import json
import re
from pathlib import Path

import pytest
import textual.constants

from likely.app import tui
from likely.engine.adapters.config import configure
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


@pytest.mark.slow
def test_a_training_under_way_is_waited_for_and_kept(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_model(Path("model"))
    rows = [{"prompt": f"{a} + 1 =", "completion": f" {a + 1}"} for a in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pressed(monkeypatch, "ctrl+q")
    options = {"data": "rows.jsonl", "model": "model", "steps": 10**6, "length": 32, "batch": 1}
    assert tui.tune(configure(options), home=Path("home")) == 130
    said = capfd.readouterr().err
    assert re.search(r"stopped after step \d+: adapter\ngo on with: likely tune rows.jsonl .*--resume\n", said)
    assert Path("adapter/adapters.safetensors").exists()
