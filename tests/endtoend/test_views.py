"""Every view in a real terminal, small and, in the soak, large: one task done in it, left while it works, found done.

One program on a tiny random model goes through all views, as a person does who tries the keys in order.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.serve.served import write_model
from tests.support import tmux
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.slow(30), pytest.mark.skipif(tmux.MISSING, reason="tmux is not installed")]


LARGE = pytest.param((120, 40), marks=pytest.mark.soak)


@pytest.fixture(params=[(80, 24), LARGE], ids=["80x24", "120x40"])
def terminal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tmux]:
    """A folder with a model, rows to train on and a table of runs, and `./likely` in it."""
    write_model(tmp_path / "model")
    rows = [{"prompt": f"{a} + 1 =", "completion": f" {a + 1}"} for a in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = [(n, d) for n in (1e5, 3e5, 1e6) for d in (1e6, 4e6, 1.6e7)]
    losses = [f"{n},{d},{1.7 + 400 / n**0.34 + 410 / d**0.28}" for n, d in sizes]
    (tmp_path / "runs.csv").write_text("\n".join(["parameters,tokens,loss", *losses, ""]))
    given = f"LIKELY_HOME={tmp_path}/home PYTHONPATH={ROOT} OPENBLAS_NUM_THREADS=1 COLORTERM=truecolor"
    command = f"{given} {sys.executable} -m likely.app chat -M {tmp_path}/model --max-tokens 400"
    (tmp_path / "likely").write_text(f"#!/bin/sh\nexec env -u NO_COLOR -u COLUMNS -u LINES {command}\n")
    (tmp_path / "likely").chmod(0o755)
    found = Tmux(tmp_path, *request.param)
    yield found
    found.close()


def test_a_task_in_every_view(terminal: Tmux) -> None:
    terminal.run("./likely; echo it ended with $?")
    terminal.until(lambda s: " ctx" in s and "Message" in s, "a chat with a model")
    terminal.keys("How are you?", "Enter")
    terminal.until(lambda s: "esc Stop" in s or "ppl" in s, "an answer that comes")  # a random model's may be short
    terminal.keys("F3")  # left while it answers
    terminal.until(lambda s: "balanced" in s and "Column" in s, "columns")
    terminal.keys("Enter")  # the prompt that was sent is asked of each of them
    terminal.until(lambda s: "tok/s" in s, "columns that come")
    terminal.keys("F4")
    terminal.until(lambda s: "Any text" in s, "an empty text")
    terminal.keys("2 and 3 and 5")
    terminal.until(lambda s: re.search(r"13 tok|13/2048|ppl", s), "a text that is measured")
    terminal.keys("C-r", "F5")
    terminal.until(lambda s: "fine-tune" in s and "rank" in s, "the form of a training")
    terminal.keys("rows.jsonl", "Enter")
    terminal.until(lambda s: "step" in s, "a training under way")
    terminal.keys("F6")
    terminal.until(lambda s: "lens" in s and "LAYER" in s, "the lens")
    terminal.keys("Left", "Up")
    terminal.keys("F7")
    terminal.until(lambda s: "nothing was measured yet" in s, "no evaluation")
    terminal.keys("n")
    terminal.until(lambda s: "items" in s and "tasks" in s, "the form of an evaluation")
    terminal.keys("arithmetic", "Down", "Down", "6", "Enter")
    terminal.until(lambda s: "arithmetic" in s and "evaluations" in s, "an evaluation")
    terminal.keys("C-p", "view: ladders", "Enter")
    terminal.until(lambda s: "no table is open" in s, "no ladder")
    terminal.keys("n")
    terminal.keys("runs.csv", "Enter")
    terminal.until(lambda s: "9 runs" in s or "alpha" in s or "α" in s, "the law of a table")
    terminal.keys("C-p", "view: watch", "Enter")
    terminal.until(lambda s: "no server is watched" in s, "no server")
    terminal.keys("C-p")
    terminal.until(lambda s: "search for commands" in s, "the palette")
    terminal.keys("server: start")
    terminal.until(lambda s: "serve this model" in s, "the command")
    terminal.keys("Enter")
    terminal.until(lambda s: "nothing was asked yet" in s, "a server of its own")

    terminal.keys("F7")  # what was left, found done
    terminal.until(lambda s: re.search(r"arithmetic\S* +6\b", s), "the six items")
    terminal.keys("F5")
    terminal.until(lambda s: "done after step" in s, "the training, done")
    terminal.keys("F4")
    terminal.until(lambda s: "2 and 3 and 5" in s, "the text")
    terminal.keys("F3")
    terminal.until(lambda s: "differs at" in s or "400 tok" in s, "the columns")
    terminal.keys("F2")
    terminal.until(lambda s: "esc Stop" not in s and "How are you?" in s, "the answer, ended")
    terminal.keys("C-q")
    screen = terminal.until(lambda s: re.search(r"it ended with \d", s), "the end")
    assert "it ended with 0" in screen and "Traceback" not in screen and "likely chat --resume" in screen
    assert (terminal.folder / "adapter" / "adapters.safetensors").exists()
