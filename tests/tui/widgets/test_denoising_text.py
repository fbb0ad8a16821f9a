"""The text of a canvas drawn alone: masks, words, what was taken back, and which rows are seen."""

import math

import pytest

from likely.app.requests import Laid
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.denoising import LN2, Denoising
from likely.app.tui.widgets.denoising_text import DenoisingLegend, DenoisingText, bits, open_style, revised_style
from tests.tui.widgets.canvases import NAMES, canvas
from tests.tui.widgets.drawing import LOOK, Pictures, beside, click

HEAD = ("scripted-mdlm", "by entropy", "16 steps")
SAID = [("user", "Why is the sky blue, and is it so in every place?"), ("assistant", "It is."), ("user", "Why?")]


def text(step: int, cursor: int, *, said: list[tuple[str, str]] | None = None, steps: int = 8) -> DenoisingText:
    found = DenoisingText()
    found.show(SAID if said is None else said, HEAD, canvas(steps), NAMES, step, cursor)
    return found


def test_the_canvas_after_every_step_below_what_was_said(pictures: Pictures) -> None:
    for step in range(9):
        pictures.draw(text(step, 3, said=[]), 46, 8, f"after step {step}")
    for cursor in (2, 5, 7, 8, 11, 14):
        pictures.draw(text(5, cursor, said=[]), 46, 8, f"at position {cursor}")
    pictures.draw(text(2, 7), 40, 20, "a conversation")
    pictures.compare("denoising-text")


def test_what_does_not_fit_is_scrolled_to_the_cursor(pictures: Pictures) -> None:
    for height in (14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 3, 2, 1):
        pictures.draw(text(7, 3), 22, height, "at the beginning")
        pictures.draw(text(7, 13), 22, height, "at the end")
    pictures.compare("denoising-text-scrolled")


def test_without_a_canvas_there_is_what_was_said_or_a_welcome(pictures: Pictures) -> None:
    it = DenoisingText()
    for width, height in ((60, 12), (30, 12), (3, 3)):
        pictures.draw(it, width, height, "nothing")
    it.show(SAID, HEAD, None, NAMES, 0, 0)
    for height in (20, 9, 7, 6, 2):
        pictures.draw(it, 40, height, "said")
        assert it.beside(1) is None
    it.show([], HEAD, canvas(1), NAMES, 1, 3)
    pictures.sweep(it, range(4, 50), 3, slice(1), "the heading")
    pictures.compare("denoising-text-said")


def test_rows_up_and_down_skip_what_has_no_words(pictures: Pictures) -> None:
    it = text(8, 3, said=[])
    pictures.draw(it, 22, 10)
    # The 空色 looks blue / because air scatters / long-winded-word / more than light / than∎
    for cursor, by, found in (
        *((3, 1, 6), (5, 1, 8), (6, -1, 2), (3, -1, None), (9, 1, 10), (12, 1, 14)),
        *((11, -1, 9), (13, 1, None), (14, -1, 10)),
    ):
        it.cursor = cursor
        assert it.beside(by) == found, cursor
    it.cursor = 40
    assert it.beside(1) is None
    apart = Denoising(Laid((0, 1, 0), 0, frozenset()), 9)
    it.show([], HEAD, apart, Names((b"one", b"\n\n\n")), 0, 0)
    assert pictures.draw(it, 22, 10).splitlines()[2::2] == ["| one|", "| |", "| |", "| one|"]
    assert it.beside(1) == 2 and it.beside(-1) is None
    it.cursor = 2
    assert it.beside(-1) == 0 and it.beside(1) is None


def test_a_click_points_at_the_position_under_it(pictures: Pictures) -> None:
    it = text(8, 3, said=[])
    pictures.draw(it, 22, 10)
    for x, y, position in (
        (1, 1, 2),
        (3, 1, 2),
        (5, 1, 3),
        (8, 1, 3),
        (10, 1, 4),
        (1, 2, 6),
        (9, 2, 7),
        (21, 3, 9),
        (21, 4, 12),
    ):
        it.on_click(click(x, y))
        (said,) = pictures.said
        assert isinstance(said, DenoisingText.PositionPointed) and said.position == position, (x, y)
        pictures.said.clear()
    for event in (click(1, 0), click(1, 6), click(1, 9), beside()):
        it.on_click(event)
    it = text(8, 13)
    pictures.draw(it, 22, 3)
    it.on_click(click(3, 0))
    assert [each.position for each in pictures.said if isinstance(each, DenoisingText.PositionPointed)] == [9]
    nothing = DenoisingText()
    pictures.draw(nothing, 22, 10)
    nothing.on_click(click(1, 1))
    assert len(pictures.said) == 1


def test_the_legend_says_what_shades_are_and_what_was_taken_back(pictures: Pictures) -> None:
    it = DenoisingLegend()
    pictures.draw(it, 60, 6, "none")
    for step in (0, 3, 4, 5, 8):
        it.show(canvas(8), NAMES, step)
        for width, height in ((80, 6), (60, 4), (59, 4), (59, 3), (40, 5), (12, 5)):
            pictures.draw(it, width, height, f"after step {step}")
    pictures.sweep(it, range(30, 80), 5, slice(0, 4, 3))
    pictures.compare("denoising-legend")
    pictures.redraws()
    it.show(None, NAMES, 0)
    text(0, 3)
    assert pictures.redraws() == 2


def test_a_mask_is_as_dark_as_a_word_of_its_entropy() -> None:
    styles = [open_style(LOOK, None if b is None else b * LN2) for b in (None, 0.0, 1.99, 2.01, 3.99, 4.01, 6.01, 8.01)]
    assert styles == [LOOK.faint] * 3 + [LOOK.heat[level] for level in (1, 1, 2, 3, 4)]
    assert revised_style(LOOK).reverse and revised_style(LOOK).underline and revised_style(LOOK).bold


@pytest.mark.parametrize("nats, found", [(LN2, 1.0), (-1e-9, 0.0), (math.inf, math.inf)])
def test_bits_have_no_sign_at_none(nats: float, found: float) -> None:
    assert bits(nats) == found and math.copysign(1, bits(nats)) == 1
