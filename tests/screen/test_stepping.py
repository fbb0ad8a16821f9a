"""Step mode: every token is the person's to choose; the panel and the footer say what is the case."""

from pathlib import Path

import pytest

from likely.engine.sampling.transforms import Temperature
from tests.support.model import PLANS, SKY, ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def stepping(screen: Screen) -> None:
    """Ask, have it answered, and begin to step behind the answer."""
    screen.say(ASK)
    screen.press("tab", "s")
    assert screen.lines[-1].startswith(" step:") and "NEXT" in screen.text


def origins(screen: Screen) -> list[str]:
    return [step.origin for step in screen.kept[0].messages()[-1].steps]


def test_tokens_are_chosen_one_by_one(screen: Screen) -> None:
    stepping(screen)
    screen.click("Message")
    screen.say("and why red")
    assert screen.lines[-1].startswith(" step:") and len(screen.kept[0].messages()) == 4
    screen.press("down", "enter")
    assert origins(screen) == ["forced"]
    screen.press("space")
    assert len(origins(screen)) == 2 and "NEXT" in screen.text
    screen.press("escape")
    assert "step:" not in screen.lines[-1] and screen.kept[0].leaf.finish == "cancelled"  # type: ignore[union-attr]
    assert [message.text for message in screen.kept[0].messages()[:3]] == [ASK, SKY, "and why red"]
    screen.say("what about sunsets")  # drawn freely again
    assert len(origins(screen)) > 10


def test_step_mode_that_is_left_at_once_leaves_an_answer_as_it_ended(screen: Screen) -> None:
    screen.say(ASK)
    before = screen.kept[0]
    screen.press("tab", "s", "escape")
    assert screen.kept[0].nodes.keys() == before.nodes.keys() and screen.kept[0].leaf.finish == "eot"  # type: ignore[union-attr]
    assert "stopped" not in screen.text and "step:" not in screen.lines[-1]


def test_a_command_that_is_none_leaves_step_mode_as_it_was(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Screen(tmp_path, engine) as screen:
        stepping(screen)
        screen.click("Message")
        screen.say("/ banana")
        assert "there is no command" in screen.lines[-1] and "NEXT" in screen.text
        assert len(screen.kept[0].nodes) == 2 or origins(screen) == ["drawn"] * 67


def test_nothing_is_taken_of_a_list_without_rows(screen: Screen) -> None:
    stepping(screen)
    screen.click("Message")
    screen.say("and why red")
    screen.press("shift+tab", "left", "space", "v")  # the tokens nearest to one of the text: this model tells none
    assert "next token" not in screen.text
    screen.press("space")
    before = origins(screen)
    screen.press("x", "enter")
    assert origins(screen) == before and "banned" not in screen.text


@pytest.mark.parametrize("key", ["delete", "]"])
def test_another_branch_ends_step_mode(screen: Screen, key: str) -> None:
    screen.say(ASK)
    screen.press("ctrl+r", "tab", "s")
    assert "NEXT" in screen.text
    screen.press("escape", "tab", "s", "shift+tab")
    nodes = len(screen.kept[0].nodes)
    screen.click("Why is the sky" if key == "delete" else "Blue light")
    screen.press(key)
    assert "step:" not in screen.lines[-1] and "NEXT" not in screen.text
    screen.press("space")
    assert screen.running and len(screen.kept[0].nodes) == nodes


def test_it_looks_at_one_token_whatever_the_strategy_does(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Screen(tmp_path, engine) as screen:
        screen.say(ASK)
        for engine.plan in ("search", "lost", "several"):
            assert engine.plan in PLANS
            screen.press("tab", "s")
            assert "NEXT" in screen.text
            screen.press("escape")
            assert "NEXT" not in screen.text and SKY.strip()[:50] in screen.text


def test_it_draws_by_the_sampler_whatever_the_strategy(screen: Screen) -> None:
    screen.say(ASK)
    screen.say("/strategy beam 3")
    screen.press("tab", "s")
    screen.click("Message")
    screen.say("and why red")
    screen.press("space", "space")
    steps = screen.kept[0].messages()[-1].steps
    assert len(steps) == 2 and all(Temperature(0.8) in step.recipe.transforms for step in steps)
