"""The course on the screen: nothing before a guess, the real views beside their lesson, and progress that is kept."""

import json
from pathlib import Path

import pytest

from tests.support.model import ScriptedEngine
from tests.support.screen import Screen


def test_a_chapter_with_a_picture_of_its_own(screen: Screen) -> None:
    screen.press("f10")
    assert "12 chapters" in screen.text and "text as tokens" in screen.text
    screen.press(*["down"] * 5, "enter")
    assert "ONE AT A TIME" not in screen.text and "My favourite colour is" in screen.text and "= – bits" in screen.text
    screen.press("enter")
    assert "guess first" in screen.text
    screen.type("no")
    screen.press("enter")
    screen.wait()
    assert "ONE AT A TIME" in screen.text and "45.4 → 83.9 % ✗" in screen.text and "p² squares" in screen.text
    screen.press("o")
    screen.wait()
    assert "top-p first keeps 2, T first 1" in screen.text and "·shine is how many times" in screen.text
    screen.press("f10")
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
    assert "1 of 2 right at once" in screen.text


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_a_lesson_stands_beside_the_real_view(tmp_path: Path, size: tuple[int, int]) -> None:
    models = ScriptedEngine("one"), ScriptedEngine("two")
    with Screen(tmp_path, *models, size=size) as screen:
        screen.press("f10", "down", "enter")
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
        assert "P D C" in screen.text
        kept = json.loads((screen.home / "learned.json").read_text())["likely"]
        assert kept["one 0"]["2"]["guess"] == "moon" and kept["one 0"]["2"]["checked"] == 1
