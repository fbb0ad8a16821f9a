"""The course on the screen: nothing before a guess, the real views beside their lesson, and progress that is kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.glass import Glass
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

COURSE = Path(__file__).parents[1] / "data/course"  # on views that no chapter of the program's stands on


def test_a_chapter_with_a_picture_of_its_own(screen: Screen) -> None:
    screen.press("f10")
    assert "12 chapters" in screen.text and "text as tokens" in screen.text
    screen.press(*["down"] * 5, "enter")
    assert "ONE AT A TIME" not in screen.text and "My favourite colour is" in screen.text and "= – bits" in screen.text
    screen.press("enter")
    assert "guess first" in screen.text and "⏎ Show  ? Skip" in screen.lines[-1]
    screen.type("no")
    screen.press("enter")
    screen.wait()
    assert "ONE AT A TIME" in screen.text and "45.4 → 83.9 % ✗" in screen.text and "p² squares" in screen.text
    screen.press("o")
    screen.wait()
    assert "top-p first keeps 2, T first 1" in screen.text and "·shine is how many times" in screen.text
    screen.press("f10")
    assert "⏎ Mark  ? Hint" in screen.lines[-1]
    screen.type("9")
    screen.press("enter")
    assert "not 9: see the steps" in screen.text and "(45.4 / 13.2)²" in screen.text
    screen.press("backspace")
    screen.type("45.4^2/13.2^2")
    screen.press("enter")
    assert "right: 45.4^2/13.2^2 is 11.8" in screen.text and "at T 2?" in screen.text
    screen.press("escape")  # in the middle
    assert "12 chapters" in screen.text and "GUESSES  right 0 of 1" in screen.text
    screen.press("enter")
    assert "at T 2?" in screen.text
    screen.type("√3.44")
    screen.press("enter")
    assert "1 of 2 right at once" in screen.text and "H 0.00" in screen.text
    screen.press("escape", "r")  # once more from its beginning
    assert "▶ PREDICT" in screen.text and "ONE AT A TIME" not in screen.text


@pytest.mark.slow(2)
@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_a_lesson_stands_beside_the_real_view(tmp_path: Path, size: tuple[int, int]) -> None:
    models = ScriptedEngine("one"), ScriptedEngine("two")
    with Screen(tmp_path, *models, size=size, course=COURSE) as screen:
        screen.press("down", "enter")
        screen.type("moon")
        screen.press("enter")
        screen.wait()
        assert " text " in screen.lines[0] and "next token" in screen.text and "predicted" in screen.text
        screen.type(" and")
        screen.wait()
        assert "12.5 %" in screen.text  # done: the check is open, and the keys are still the text's
        screen.type(" blue")
        assert "moon and blue" in screen.text
        screen.press("f10", "?")
        assert "one eighth" in screen.text
        screen.type("3 bits")
        screen.press("enter")
        assert "as a share of one" in screen.text and "right: 3 bits" in screen.text
        screen.press("f2")  # away by the view's own way, and back
        assert "share of one" not in screen.text and "Message" in screen.text
        screen.press("f10")
        assert "as a share of one" in screen.text and "moon and blue" in screen.text
        screen.say("2^-1")
        assert "see the steps" in screen.text
        screen.press("escape")
        assert "predict · do · check" in screen.text
        screen.press("p")  # the last page, also as a file, and as it is printed
        assert "ONE OBJECT" in screen.text or size[1] < 34
        assert "predicted 0 of 1 · reckoned by hand 1 of 1 at once" in screen.text
        files = {"me.md": "| 2 | next token |", "me.svg": "</svg>", "me.html": "@media print", "me": "must end"}
        for name, words in files.items():
            screen.press("e", "ctrl+a", "ctrl+k")
            line = screen.say(str(tmp_path / name))
            text = (tmp_path / name).read_text() if "." in name else line
            assert words in text and ("bits; ppl 2^(" in text or name == "me"), name
        screen.press("i")
        assert "A chapter that stands on the view tune." in screen.text
        screen.press("escape", "up", "enter")  # a script has nothing inside: said, and gone on without
        screen.say("11")
        screen.wait()
        told = " ".join(" ".join(line.rpartition("▏")[2] for line in screen.lines).split())
        assert "one is a script" in told and "goes on without" in told
        assert "; n takes another text; ?" in told
        screen.press("f10", "?")
        assert "In how many ways" not in screen.text and "characters are a token" in " ".join(screen.text.split())
        screen.say("4")
        assert "the view has not measured that yet" in " ".join(screen.text.split())
        screen.press("?")
        told = " ".join(screen.text.split())
        assert "left out" in told and "In how many ways" in told
        screen.press("f2")
        screen.say("/model two")
        screen.wait()
        screen.press("f10")
        assert "two reads now" in " ".join(screen.text.split()) and "▶" in screen.text and "Guess first" in screen.text
        screen.burst("?", "]", *"moon", "enter")  # as fast as it goes
        screen.wait()
        assert "you moon" in " ".join(screen.text.split()) and " text " in screen.lines[0]
        screen.press("escape")  # the view's own way out
        assert "predict · do · check" in screen.text
        kept = json.loads((screen.home / "learned.json").read_text())[str(COURSE)]
        assert kept["one 0"]["2"]["guess"] == "moon" and kept["one 0"]["2"]["checked"] == 1


TASKS = {  # of a chapter whose view is a full-screen one: a guess, the keys of its task, what is seen then
    2: ("moon", ("t", *" and on", "enter", "g", *"the 50", "enter"), "12.5 % is one eighth"),
    1: ("6", ("n", "ctrl+a", "ctrl+k", *"The sky", "enter"), "7 characters in"),
    3: ("no", ("h", "up", "left", "right", "x"), "e^z over"),
    4: ("log2(6)", ("l", "down", "space", "left", "right"), "−log₂ 1/6 = log₂ 6."),
    5: ("no", ("left", "b"), "p = ½, ½; r = 1, 0"),
    7: ("no", ("s", "space", "v", "-", "+"), "p of a text is the product"),
    8: ("no", ("n", *"arithmetic", "down", "down", *["backspace"] * 3, "6", "enter"), "after 6 items"),
    9: ("yes", ("q", "left", "q"), "−log₂ q less −log₂ p is"),
    10: ("yes", ("v", "n", *"last-letters", "down", "down", *"6", "enter", "v"), "over 8, 0."),
    11: ("no", ("a", "up", "right", "left", "space", "up"), "left 9.88. The mean of the two"),
    12: ("yes", ("right",), "nats at C = 6 N D = 2.0e+14"),
}


@pytest.mark.parametrize("number", [pytest.param(n, marks=pytest.mark.slow(8 if n == 12 else 2)) for n in TASKS])
def test_a_task_is_one_thing_on_the_real_view(tmp_path: Path, number: int) -> None:
    walk(tmp_path, number, *TASKS[number])


OWN = {  # the same of chapters of one's own, by their number
    3: ("sky", ("g", "enter"), "1 words: what did"),
    4: ("no", ("enter",), "1 answer: how many tokens?"),
    5: ("2", ("enter",), "columns of"),
    6: ("0", (*"rows.jsonl", "enter"), "steps: how many?"),
}


@pytest.mark.slow(2)
@pytest.mark.parametrize("number", OWN)
def test_a_chapter_of_ones_own_stands_beside_any_view(tmp_path: Path, number: int) -> None:
    walk(tmp_path, number, *OWN[number], course=COURSE)


def walk(folder: Path, number: int, guess: str, keys: Sequence[str], seen: str, course: Path | None = None) -> None:
    """Guess in a chapter, and do its task: the check is open then, and asks for what the view has measured."""
    with Screen(folder, Glass() if number in (1, 3) else ScriptedEngine(), size=(160, 50), course=course) as screen:
        screen.press("f10", *["down"] * (number - 1), "enter")
        screen.say(guess)
        screen.wait(3)
        assert "▶ DO" in screen.text, screen.text
        screen.press("f10", "enter")  # the lesson has the keys, whatever the view does with them
        assert "not done yet" in screen.text
        screen.press("f10")
        screen.press(*keys)
        screen.wait(3)
        assert "▶ CHECK" in screen.text, screen.text
        screen.press("f10", "?")
        assert seen in " ".join(screen.text.split()), screen.text


@pytest.mark.slow(1)
def test_what_was_measured_is_there_when_one_comes_back(screen: Screen) -> None:
    screen.press("f10", *["down"] * 8, "enter")
    screen.say("yes")
    screen.wait()
    screen.hold()
    screen.press("q")
    assert "q stops it; it goes on while" in screen.text
    screen.press("f2")  # away in the midst of it
    assert "Message" in screen.text
    screen.release()
    screen.wait()
    screen.press("f10")
    screen.wait()
    assert "WHAT IT COSTS" in screen.text and "▶ CHECK" in screen.text
    screen.press("escape", "up", "enter", "escape", "down", "enter")  # another chapter, and this one again
    assert "WHAT IT COSTS" in screen.text and "1 of" not in screen.text
    screen.press("escape", "r")
    screen.say("yes")
    screen.wait()
    assert "q measures copies" in screen.text and "▶ DO" in screen.text


@pytest.mark.slow(1)
@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_a_persons_guess_stands_beside_the_models(tmp_path: Path, size: tuple[int, int]) -> None:
    engine = ScriptedEngine(context=40)
    ids, size_of_v = engine.tokenizer.encode(" Blue light is scattered in all directions"), len(engine.facts.vocabulary)

    def cost(at: int) -> float:
        logits = engine.logits_after(ids[:at]).astype(np.float64)
        return float(np.log2(np.exp(logits - logits[ids[at]]).sum()))

    with Screen(tmp_path, engine, size=size, course=COURSE) as screen:
        screen.press("down", "down", "enter")
        screen.say("blue")
        screen.wait()
        assert "SUM" in screen.text and "scattered" not in screen.text
        screen.press("g", "escape", "g")
        screen.say("scattered 20 light 90")
        assert "at most, got 110" in screen.text and "scattered 20 light 90" in screen.text
        screen.say("scattered 20, light 30 %")
        screen.wait()
        assert f"·scattered: you 2.3 bits, the model {cost(3):.1f}" in screen.text and "yours 2.32" in screen.text
        assert "“ Blue light is scattered ___”" in screen.text and " in ___" not in screen.text
        screen.burst("g", *"red 50", "enter")
        screen.wait()
        told = f"·in: you {np.log2((size_of_v - 1) / 0.5):.1f} bits, the model {cost(4):.1f}"
        assert told in screen.text and f"over {size_of_v - 1} tokens" in screen.text
        assert ("SUM" in screen.text) is (size[1] == 40)
        screen.press("g", "enter")  # nothing is named: all are even
        screen.wait()
        assert f"·all: you {np.log2(size_of_v):.1f} bits" in screen.text
        mean = np.log2([5, (size_of_v - 1) / 0.5, size_of_v]).mean(), np.mean([cost(at) for at in (3, 4, 5)])
        assert f"yours {mean[0]:.2f}, its {mean[1]:.2f}" in screen.text
        screen.press("g")
        screen.say("blue 100")
        assert f"·directions: you ∞ bits, the model {cost(6):.1f}" in screen.text and "begins again" in screen.text
        screen.press("g")
        screen.wait()
        assert "“ Blue light is ___”" in screen.text and "scattered" not in screen.text
        screen.press("t", "ctrl+a", "ctrl+k")
        screen.say(" The sky")
        screen.wait()
        text = engine.tokenizer.encode(" The sky")
        logits = engine.raw(text[:1], text[1]).astype(np.float64)
        assert f"{np.log2(np.exp(logits - logits[text[1]]).sum()):.1f} bits" in screen.text
        screen.press("t")
        screen.say(" sky" * 50)
        screen.wait()
        assert "50 tokens and this model reads at most 40" in screen.text and "SUM" in screen.text


@pytest.mark.slow(2)
def test_a_training_that_ends_in_the_midst_of_its_chapter_is_asked_about_all_the_same(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine("one"), size=(160, 50), course=COURSE) as screen:
        screen.press("f10", *["down"] * 5, "enter")
        screen.say("0")
        screen.wait()
        screen.hold(after=7)
        screen.press(*"rows.jsonl", "enter")
        screen.wait()
        assert "7 steps: how many?" in screen.text
        screen.release()
        screen.wait(3)
        assert "done after step 40" in screen.text and "40 steps: how many?" in screen.text  # what it came to
        screen.press("f10")
        screen.say("40")
        assert "1 of 1 right at once" in screen.text
    assert json.loads((screen.home / "learned.json").read_text())[str(COURSE)]["one 0"]["6"]["checked"] == 1
