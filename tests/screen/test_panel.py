"""The panel beside a text: a token with what it was drawn from, its entropy, and what stands there instead."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.support.glass import Glass
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def asked(screen: Screen) -> Screen:
    """An answer, and the cursor on its fifth token from the end."""
    screen.say(ASK)
    screen.press("tab", "left", "left", "left", "left")
    return screen


def rows(screen: Screen) -> list[tuple[str, str, str]]:
    """The candidates: name, raw and drawn, as they are read."""
    head = next(at for at, line in enumerate(screen.lines) if "next token" in line)
    found = []
    for line in screen.lines[head + 1 :]:
        words = line.split("▏")[-1].replace("▶", "").replace("┊", "").split()
        if not words or not words[0].startswith(("·", ".")):
            break
        found.append((words[0], words[-2], words[-1]))
    return found


def test_both_shares_of_every_candidate_are_those_of_the_two_distributions(screen: Screen) -> None:
    asked(screen)
    (talk,) = screen.kept
    (steps,) = (node.steps for node in talk.nodes.values() if node.role == "assistant")
    at = int(next(line for line in screen.lines if "TOKEN " in line).split("TOKEN ")[1].split("/")[0]) - 1
    engine = ScriptedEngine()
    read = [*engine.tokenizer.chat([{"role": "user", "content": ASK}]), *(step.token for step in steps[:at])]
    raw = engine.raw(read, steps[at].token).astype(float)
    p = np.exp(raw - raw.max())
    p /= p.sum()
    before = [float(share) for _, share, _ in rows(screen)]
    assert before == pytest.approx(100 * np.sort(p)[::-1][: len(before)], abs=0.06)  # the most likely first
    assert all(after == "cut" or float(after) > 0 for _, _, after in rows(screen))
    assert f"{-math.log2(p[steps[at].token]):.1f} bits" in next(line for line in screen.lines if "TOKEN " in line)
    assert f"ENTROPY  {-(p @ np.log2(p)):.1f} bits" in screen.text


def test_the_menu_says_what_the_panel_says(screen: Screen) -> None:
    asked(screen)
    said = rows(screen)
    screen.press("enter")
    for name, before, after in said[:5]:
        assert any(
            name in line and line.count(before) and line.count(after) for line in screen.lines if "━" not in line
        )


def test_no_part_hides_another_at_any_height(screen: Screen) -> None:
    asked(screen)
    for height in (40, 36, 32):
        screen.resize(120, height)
        heads = [
            at for at, line in enumerate(screen.lines) for name in ("TOKEN ", "ENTROPY", "SAMPLER") if name in line
        ]
        assert heads == sorted(heads) and "next token" in screen.text
        table = next(at for at, line in enumerate(screen.lines) if "next token" in line)
        assert len(rows(screen)) >= 3 and table + len(rows(screen)) < max(heads)


def test_before_a_token_is_drawn_it_says_so_and_then_it_is_the_newest(screen: Screen) -> None:
    assert "nothing drawn yet" in screen.text
    screen.hold(after=7)
    screen.say(ASK)
    screen.wait(1)
    assert "nothing drawn yet" not in screen.text and len(rows(screen)) >= 3


def test_the_nearest_tokens_stand_in_the_place_of_the_candidates_and_go(tmp_path: Path) -> None:
    engine = Glass()
    with Screen(tmp_path, engine) as screen:
        asked(screen)
        said = rows(screen)
        screen.press("v")
        screen.wait(1)
        assert engine.looks[-1].method == "neighbours" and "next token" not in screen.text
        screen.press("v")
        assert rows(screen) == said
