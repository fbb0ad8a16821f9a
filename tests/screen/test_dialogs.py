"""What is asked for over a view: another model, adapters and their weights, another token; what each key gives."""

import re
from pathlib import Path

import pytest

from likely.app.jobs.requests import ModelOffer
from tests.support.model import ScriptedEngine, ScriptedShop
from tests.support.screen import Screen


def test_models_are_listed_those_that_are_here_first_and_one_is_loaded(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(), ScriptedEngine("other")) as screen:
        screen.say("/model")
        listed = [line for line in screen.lines if " MB " in line or " GB " in line]
        assert ["● scripted" in listed[0], "other" in listed[1], "too big" in listed[2]] == [True] * 3
        assert "scripted · llama Q4_1 · ⏎ loads it · ^s by date · esc" in screen.text
        screen.press("down")
        assert "other · llama Q4_1 · ⏎ loads it" in screen.text
        screen.press("escape")
        assert "│ scripted" in screen.lines[0]
        screen.say("/model")
        screen.burst(*"OTH", "down")
        assert [" other " in line for line in screen.lines if " MB " in line] == [True]
        screen.press("enter")
        assert "│ other" in screen.lines[0]


@pytest.mark.parametrize("size", [(120, 40), (60, 20)])
def test_models_that_fit_come_first_the_largest_or_the_newest(tmp_path: Path, size: tuple[int, int]) -> None:
    shop, day = ScriptedShop(), 86_400.0
    shop.offers = lambda: [  # type: ignore[method-assign]
        ModelOffer("huge", 50_000_000_000, "mit", True, False, date=900 * day),
        ModelOffer("small", 10_000_000, "mit", True, True, date=800 * day),
        ModelOffer("far", 9_000_000_000, "mit", False, True),
        ModelOffer("large", 4_000_000_000, "mit", True, True, date=700 * day),
    ]
    with Screen(tmp_path, shop=shop, size=size) as screen:
        screen.say("/model")
        for order in ("large scripted small far huge", "small large scripted far huge"):
            assert re.findall(r"(\w+) +[\d.]+ [MG]B .*(?:here|to fetch|too big)", screen.text) == order.split()
            screen.press("ctrl+s")
        assert "11 Mar 72" in screen.text and "^s by date" in screen.text


def test_what_is_typed_on_a_row_is_taken_and_refused_by_its_name_where_it_is_not_there(screen: Screen) -> None:
    screen.say("/model")
    screen.burst(*"owner/name", "enter")
    assert "there is no model owner/name" in screen.text and "│ scripted" in screen.lines[0]


def test_adapters_are_weighed_switched_and_taken_off(screen: Screen) -> None:
    screen.say("/adapter mine")
    screen.say("/adapter yours 0.5")
    screen.say("/adapters")

    def weights() -> list[float]:
        return [float(each) for each in re.findall(r"(?:mine|yours) .*[━─●]+ +(-?[\d.]+)", screen.text)]

    assert weights() == [1, 0.5] and "adapters on scripted" in screen.text
    screen.press("right", "right")
    assert weights() == [1.2, 0.5]
    screen.press("left", "down", "o")  # the second alone
    assert weights() == [0, 0.5]
    screen.press("space")
    assert weights()[1] == 0
    screen.press("delete")
    assert len(weights()) == 1
    screen.press("escape")
    screen.say("/adapter nothing")
    assert "is not an adapter's directory" in screen.text


@pytest.mark.slow
def test_another_token_is_taken_banned_or_written(screen: Screen) -> None:
    screen.say("Why is the sky blue?")
    screen.press("tab", "ctrl+home", "down", "down", "enter")
    assert "enter branch · / type your own · x ban · esc" in screen.text
    screen.press("escape")
    assert "type your own" not in screen.text
    (talk,) = screen.kept
    before = len(talk.nodes)
    screen.press("enter", "2")
    (talk,) = screen.kept
    assert len(talk.nodes) > before  # a branch, and what was there is kept
    screen.press("enter", "slash")
    screen.say(" Hello")
    assert "Hello" in screen.text
