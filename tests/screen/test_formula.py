"""The formula of what is on the screen: the map of p, and the values that are shown there, on a small screen too."""

import math
from pathlib import Path

import pytest

from likely.app.tui.base.text.formula import MAPS
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def shown(screen: Screen, *keys: str) -> str:
    """The sheet of the formula, on one line, closed again; from the palette where `=` is a letter."""
    before = screen.lines[:-1]
    screen.burst(*keys or ("ctrl+p", *"formula", "enter"))
    text = " ".join(" ".join(line.strip("│ ") for line in screen.lines).split())
    assert " → ".join(MAPS) in text and screen.lines[:-1] != before
    screen.press("=")
    assert screen.lines[:-1] == before
    return text


def test_of_a_prompt_a_token_and_its_draw(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(60, 20)) as screen:
        screen.say(ASK)
        assert "n = 76 of 8,192" in shown(screen)
        screen.press("tab", "left", "left")
        step = screen.kept[0].messages()[-1].steps[64]
        assert step.logprob is not None and step.entropy is not None
        found = shown(screen, "=")
        assert f"= {100 * math.exp(step.logprob):.2f} %" in found
        assert f"−log₂ p = {-step.logprob / math.log(2):.2f} bits" in found
        assert f"H(p) = {step.entropy / math.log(2):.2f} bits" in found
        screen.press("=", "?")  # the key that the sheet names
        assert "xᵢ  token i of its text, counted from 1" in screen.text
        screen.press("end")
        screen.wait(2)
        assert "H  entropy: −Σ p log₂ p over all tokens" in screen.text
        screen.press("?", "escape", "ctrl+g")
        p = f"p(x₆₅ = ·there) = {100 * math.exp(step.logprob):.2f} %"
        assert f"q(x₆₅ = ·there) = f(p)(·there) = 100.00 % {p}" in shown(screen)


@pytest.mark.slow
def test_of_a_text_and_of_columns(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(80, 24)) as screen:
        screen.press("f4")
        screen.burst("ctrl+p", *"formula", "enter")
        assert "no number here yet" in screen.lines[-1]
        screen.type(" The sky looks blue")
        screen.wait(2)
        found = shown(screen)
        assert "2^−" in found and "ppl = p^(−1/n) = " in found
        screen.press("f3")
        screen.say(ASK)
        screen.wait(2)
        assert "bits" in shown(screen)
