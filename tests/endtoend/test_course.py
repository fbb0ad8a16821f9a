"""The whole course in a real terminal, by its keys, on models that it was not written with. What is answered is
reckoned from the numbers that the screen asks about."""

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from likely.engine.base.files.home import home
from tests.engine.sources.test_mlx_lm_folder import SEED
from tests.engine.tiny import write_folder
from tests.models.oracle import flat, reference
from tests.support import tmux
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.soak, pytest.mark.skipif(tmux.MISSING, reason="tmux is not installed")]

LESSON = 78  # column from which on the lesson stands, of 120
Sum = Callable[[Sequence[float]], float | str]
# a guess, the keys of the task, and the sums of both checks, of all numbers that were asked about by then
COURSE: tuple[tuple[str, tuple[str, ...], tuple[Sum, Sum]], ...] = (
    ("6", ("n", "C-a", "C-k", "THE SKY", "Enter"), (lambda n: n[0] / n[1], lambda _: 4)),
    ("moon", ("g", "a 50", "Enter"), (lambda _: 3, lambda n: f"2^-{n[-1]}")),
    ("France", ("x",), (lambda n: math.exp(n[0] - n[1]), lambda _: 2.75)),
    ("2", ("Right",), (lambda _: math.log2(6), lambda n: math.log2(6) - n[-2])),
    ("no", ("b",), (lambda _: 1 / (1 + math.exp(-1)), lambda _: 1 / (1 + math.exp(-2)))),
    ("no", ("o",), (lambda n: (n[0] / n[1]) ** 2, lambda n: (n[0] / n[1]) ** 0.5)),
    ("no", ("+",), (lambda n: math.prod(n[:3]), lambda n: n[-2] + n[-1])),
    ("no", ("n", "arithmetic", "Down", "Down", "BSpace", "BSpace", "BSpace", "4", "Enter"),
     (lambda n: 1.96 * n[0] / n[1] ** 0.5, lambda _: 800)),
    ("yes", (), (lambda n: math.log2(n[0] / n[1]), lambda _: 1 - math.log2(3) / 2)),
    ("yes", (), (lambda n: n[0] / n[1], lambda _: (0.625 * 0.375 / 8) ** 0.5)),
    ("no", ("Space",), (lambda n: (n[0] + n[1]) / 2, lambda _: 14 - math.log2(2.5))),
    ("yes", ("Right",), (lambda _: 0.4 / 100**0.3, lambda _: 1.2e18)),
)  # fmt: skip


def lesson(screen: str) -> str:
    """The words of the lesson, its lines joined."""
    return " ".join(" ".join(line[LESSON:] for line in screen.splitlines()[1:-1]).split())


def question(screen: str) -> str:
    """The question of the check that is open."""
    open_ = lesson(screen).rpartition("▶ CHECK ")[2]
    return re.split(r" f10 | ⏎ |right: |left out: ", open_)[0].rpartition("✓")[2].strip()


def keyed(terminal: Tmux, *keys: str) -> None:
    """Press keys that are the lesson's: after its own where another part has them."""
    if "f10" in lesson(terminal.screen()):
        terminal.keys("F10")
        terminal.until(lambda screen: "f10" not in lesson(screen), "the lesson has the keys")
    terminal.keys(*keys)


def passed(terminal: Tmux) -> None:
    """Go on without the task, once the view has no more need of the keys."""
    while "▶ CHECK" not in terminal.screen():
        keyed(terminal, "?")
        terminal.until(lambda screen: "▶ CHECK" in screen or "f10" in lesson(screen), "on without the task")


def guessed(terminal: Tmux, dialog: str) -> None:
    """Ask for what a view asks with `g`, until it is ready to."""
    while dialog not in terminal.screen():
        terminal.keys("g")
        time.sleep(0.5)
    terminal.keys("C-a", "C-k")  # of the keys that came while it opened


def walked(terminal: Tmux, model: str, without: Sequence[int]) -> dict[str, dict[str, object]]:
    """What is kept after all chapters were walked with a model, the tasks of some left out."""
    terminal.run(f"./likely learn --model {model}")
    terminal.until(lambda screen: "12 chapters" in screen, "the list")
    terminal.keys("Enter")
    for number, (guess, keys, sums) in enumerate(COURSE, 1):
        terminal.until(lambda s, n=number: re.match(rf"{n} \S", lesson(s)) and "▶ PREDICT" in s, f"chapter {number}")
        terminal.keys(guess, "Enter")
        lacks, waits = number in without, ("it is being measured", "= – +") if keys else ()
        terminal.until(
            lambda s, lacks=lacks, waits=waits: (
                "▶ DO" in s
                and ("; ?" if lacks else "goes on without") in lesson(s)
                and (lacks or not any(each in lesson(s) for each in waits))
            ),
            f"the task of {number}",
        )
        if lacks or not keys:
            passed(terminal)
        else:
            if keys[0] == "g":
                guessed(terminal, "which word, in per cents?")
            for key in keys[keys[0] == "g" :]:
                terminal.keys(key)
        terminal.until(lambda screen: "▶ CHECK" in screen, f"the check of {number}")
        asked: list[float] = []
        for left in sums:
            now = question(terminal.until(question, "a question"))
            asked += [float(each) for each in re.findall(r"\d+(?:\.\d+)?", now)]
            said = "?" if "–" in now else str(left(asked))
            keyed(terminal, said, *(() if said == "?" else ("Enter",)))
            signs = ("right at once", "left out" if said == "?" else f"right: {said}")
            terminal.until(lambda s, signs=signs: any(sign in lesson(s) for sign in signs), f"right: {now} {said}")
        keyed(terminal, "]")
    return json.loads((terminal.folder / "home" / "learned.json").read_text())["likely"][f"{model} 0"]


@pytest.mark.real
@pytest.mark.parametrize("model", ["smollm2", "gemma3"])  # one that answers, and a base model of another family
def test_all_chapters_on_a_real_model(model: str, terminal: Tmux) -> None:
    if not (home() / "models" / model).exists():
        pytest.skip(f"{model} is not here: likely pull {model}")
    kept = walked(terminal, model, ())
    assert [kept[str(n)]["clean"] for n in range(1, 13)] == [2] * 12


def test_all_chapters_on_a_model_that_cannot_be_looked_into(terminal: Tmux, tmp_path: Path) -> None:
    config = SEED | {"max_position_embeddings": 512}
    folder = write_folder(tmp_path / "foreign", config, flat(reference(config).parameters()))
    kept = walked(terminal, str(folder), (1, 3))
    assert [kept[str(n)]["clean"] for n in range(1, 13)] == [1, 2, 1] + [2] * 9
    assert "not to be measured" in str(kept["3"]["truth"])
