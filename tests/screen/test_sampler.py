"""The sampler: sliders moved by keys and by the mouse, while a model draws and afterwards, and what each then says."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from likely.app.tui.chat.start import Start
from likely.engine.trace.step import Recipe
from likely.engine.transforms import Temperature
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def value(screen: Screen, label: str) -> str:
    """What stands behind a slider."""
    return next(line for line in screen.lines if f" {label} " in line and "●" in line).split()[-1]


def to(screen: Screen, label: str) -> None:
    """Walk to a row of the sliders, the topmost being picked at most so many rows above."""
    screen.press(*["up"] * 20)
    rows = [line.partition("▏  ")[2] for line in screen.lines]
    begin = next(y for y, row in enumerate(rows) if row.startswith("SAMPLER")) + 1
    screen.press(*["down"] * next(y for y, row in enumerate(rows[begin:]) if label in row))


def test_a_slider_is_stepped_typed_put_back_and_its_transform_moved(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("ctrl+g")
    assert "←→ Move  0 Off  = Type  < > Order  p Presets" in screen.lines[-1] and value(screen, "temperature") == "0.80"
    screen.press("right", "right")
    assert value(screen, "temperature") == "0.90" and "◆ if moved: T 0.80 → 0.90" in screen.text
    assert "if moved" in screen.text and "keeps 1 of 366" in screen.text
    screen.press("shift+right")
    assert value(screen, "temperature") == "1.40"
    screen.press("0")
    assert value(screen, "temperature") == "1.00"
    screen.press("=")
    screen.press("ctrl+u")
    screen.say("2.5")
    assert value(screen, "temperature") == "2.50"
    for typed, line in (("-9", "must be in (0, 100], got -9.0"), ("warm", "temperature must be a number, got warm")):
        screen.press("=", "ctrl+u")
        screen.say(typed)
        assert line in screen.text and value(screen, "temperature") == "2.50"
    screen.press("<")
    assert "SAMPLER  own order" in screen.text
    screen.press("p")
    assert "greedy" in screen.text and "wild" in screen.text
    screen.press("enter")  # the first preset
    assert "SAMPLER  greedy" in screen.text
    assert screen.kept[0].recipe.greedy


def test_what_is_off_is_unfolded_set_and_folded_away(screen: Screen) -> None:
    screen.press("ctrl+g", *["down"] * 8, "enter")
    assert "▾" in screen.text.partition("SAMPLER")[2] and "top-k" in screen.text and "DRY" in screen.text
    to(screen, "top-k")
    screen.press("right")
    assert value(screen, "top-k") == "1"
    screen.press("0")
    assert value(screen, "top-k") == "off"


def test_a_banned_token_is_lifted_by_a_key(screen: Screen) -> None:
    screen.say("/ban glow", "/bias tint -2.5")
    assert "·glow" in screen.text and "·tint" in screen.text
    screen.press("ctrl+g")
    to(screen, "·glow")
    screen.press("0")
    assert "·glow" not in screen.text.partition("SAMPLER")[2].partition("TREE")[0] and "·tint" in screen.text


def test_a_slider_follows_the_mouse(screen: Screen) -> None:
    screen.press("ctrl+g")
    screen.click("━━━━━━━●──────────    0.80")  # the left end of the temperature's track
    assert value(screen, "temperature") == "greedy"


def tempered(temperature: float) -> Start:
    return Start(Recipe((Temperature(temperature),)), ("Temperature",), seed=0)


@pytest.mark.slow(2)
def test_moved_in_the_middle_of_an_answer_every_token_shows_what_it_was_drawn_from(tmp_path: Path) -> None:
    """Against a softmax in float64 of the engine's raw logits, at the temperature that held for each."""
    engine = ScriptedEngine()
    with Screen(tmp_path, engine, start=tempered(0.8)) as screen:
        screen.hold(after=11)
        screen.say(ASK)
        screen.press("ctrl+g", *["left"] * 8)
        assert value(screen, "temperature") == "0.40" and "T 0.80" in screen.text
        screen.release()
        assert "T 0.80 → 0.40 · 67 tok" in screen.text
        (talk,) = screen.kept
        steps = talk.messages()[-1].steps
        held = [
            transform.temperature
            for step in steps
            for transform in step.recipe.transforms
            if isinstance(transform, Temperature)
        ]
        assert held == [0.8] * 11 + [0.4] * 56
        (prompt,) = [ids for verb, ids in engine.calls if verb == "generate"][:1]
        for at in (0, 10, 11, 66):
            raw = (
                engine.raw([*prompt, *(step.token for step in steps[:at])], steps[at].token).astype(np.float64)
                / held[at]
            )
            p = np.exp(raw - raw.max()) / np.exp(raw - raw.max()).sum()
            assert steps[at].logprob_after == pytest.approx(math.log(p[steps[at].token]), abs=1e-5)
            screen.press("escape", "tab", "ctrl+home", "down", *["right"] * at)
            assert f"TOKEN {at + 1}/67" in screen.text
            row = next(line for line in screen.lines if "▶" in line).split()
            drawn = float(row[-2 if at < 11 else -1])
            assert drawn == pytest.approx(100 * p[steps[at].token], abs=0.006)
            assert ("if moved" in screen.text) is (at < 11)
        screen.press("ctrl+g", *["right"] * 8)  # back: what was drawn by it is not moved any more
        assert value(screen, "temperature") == "0.80" and re.search(r"if moved: T 0.40 → 0.80", screen.text)


def test_a_slider_that_was_walked_while_tokens_came_is_told_by_both_ends(screen: Screen) -> None:
    screen.hold(after=12)
    screen.say(ASK)
    screen.press("ctrl+g")
    for _ in range(8):
        screen.hold(after=1)
        screen.press("left")
    screen.release()
    assert "model  T 0.80 → … → 0.40 · top-p 0.95" in screen.text


@pytest.mark.parametrize(
    "size",
    [pytest.param(size, marks=[pytest.mark.slow] * (size[0] != 100)) for size in ((160, 45), (120, 40), (100, 30))],
    ids=str,
)
def test_sliders_and_the_current_leaf_are_seen_together(tmp_path: Path, size: tuple[int, int]) -> None:
    with Screen(tmp_path, size=size) as screen:
        screen.say(ASK)
        for seed in range(12):
            screen.say(f"/seed {seed}")
        if size[0] < 110:
            screen.press("tab", "vertical_line")
            if "SAMPLER" not in screen.text:
                screen.press("vertical_line")
        assert "TREE  13 leaves" in screen.text and "SAMPLER" in screen.text and "◀" in screen.text
        assert all(word in screen.text for word in ("top-p", "min-p", "temperature", "0.80"))


def test_where_there_is_no_room_for_two_they_take_turns(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(70, 24)) as screen:
        screen.say(ASK, "/redo")
        screen.press("tab")
        seen = set()
        for _ in range(5):
            screen.press("vertical_line")
            seen.add(("TREE" in screen.text, "SAMPLER" in screen.text))
        assert {(True, False), (False, True)} <= seen and (True, True) not in seen
