"""A comparison: one prompt under several settings, seen side by side, kept, set up and gone on with."""

from pathlib import Path

import pytest

from likely.engine.transforms import Temperature
from tests.support.model import BLUE, SKY, ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def compared(screen: Screen, prompt: str = ASK) -> None:
    screen.press("f3")
    screen.say(prompt)


def test_a_prompt_goes_to_every_column_and_all_are_kept(screen: Screen) -> None:
    compared(screen)
    assert screen.text.count("sky looks blue") + screen.text.count("light is scattered") == 3
    (talk,) = screen.kept
    assert talk.kind == "compare"
    assert sorted(node.role for node in talk.nodes.values()) == ["assistant"] * 3 + ["user"]
    screen.press("ctrl+q")
    assert screen.left == talk.id


def test_an_empty_prompt_begins_nothing(screen: Screen) -> None:
    compared(screen, "   ")
    assert not screen.kept and screen.text.count("c sets it up") == 3


def test_another_seed_gives_other_answers_to_the_same_prompt(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[f" answer {n}." for n in range(97)])) as screen:
        compared(screen)
        screen.press("ctrl+r")
        one, other = screen.kept
        seeds = [{node.seed for node in talk.nodes.values() if node.role == "assistant"} for talk in (one, other)]
        assert [len(each) for each in seeds] == [1, 1] and seeds[0] != seeds[1]  # all columns alike, and anew


def test_columns_that_are_stopped_keep_what_they_had(screen: Screen) -> None:
    screen.hold(after=9)
    compared(screen)
    screen.press("escape")
    screen.release()
    (talk,) = screen.kept
    drawn = [len(node.steps) for node in talk.nodes.values() if node.role == "assistant"]
    assert drawn == [3, 3, 3] and "because" not in screen.text


def test_it_begins_with_what_was_said_last(screen: Screen) -> None:
    for said in ("Why is the sky blue?", "and why red?"):
        screen.say(said)
    screen.press("f3")
    assert "│ and why red?" in screen.text and "Why is the sky" not in screen.text
    screen.press("enter")
    (talk,) = (talk for talk in screen.kept if talk.kind == "compare")
    assert [node.text for node in talk.nodes.values() if node.role == "user"] == ["and why red?"]


def test_a_token_of_the_column_with_the_focus_is_looked_at(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[" red blue"])) as screen:
        compared(screen)
        screen.press("tab", "left", "left")
        (line,) = (line for line in screen.lines if "rank" in line)
        assert "·red" in line or "·blue" in line
        screen.press("end")
        assert "<|im_end|>" in "".join(line for line in screen.lines if "rank" in line)


@pytest.mark.slow
def test_a_column_draws_as_it_was_set_up_and_says_so(screen: Screen) -> None:
    screen.press("f3", "tab", "c")
    screen.click("parameters…")
    screen.say("temp 0.3 top_k 40")
    assert "T 0.3" in screen.text and "top-k 40" in screen.text
    screen.press("tab", "c")
    screen.click("greedy")
    screen.click("One prompt")
    screen.say(ASK)
    heads = [" ".join(head.split()) for head in screen.lines[1].split("▏")]
    assert heads == ["T 0.30 · top-k 40", "greedy", "wild"]
    recipes = {node.label: node.steps[0].recipe for node in screen.kept[0].nodes.values() if node.steps}
    assert list(recipes) == heads and [recipe.greedy for recipe in recipes.values()] == [False, True, False]
    warmth = [[each for each in recipe.transforms if isinstance(each, Temperature)] for recipe in recipes.values()]
    assert warmth == [[Temperature(0.3)], [], [Temperature(1.4)]]


def test_a_column_is_gone_on_with_in_the_chat(screen: Screen) -> None:
    compared(screen)
    screen.press("tab", "enter")
    assert " you" in screen.text and "Why is the sky blue?" in screen.text
    screen.say("and sunsets?")
    assert "and sunsets?" in screen.text and {talk.kind for talk in screen.kept} == {"chat", "compare"}


def test_a_column_is_added_set_up_and_taken_away(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[BLUE]), ScriptedEngine("other", [SKY]), size=(160, 50)) as screen:
        screen.press("f3", "tab")
        before = screen.text.count("c sets it up")
        screen.press("plus")
        assert screen.text.count("c sets it up") == before + 1
        screen.press("c")
        assert "temperature" in screen.text and "model" in screen.text
        screen.press("escape", "minus")
        assert screen.text.count("c sets it up") == before


def test_another_model_answers_beside_and_stays_as_long_as_it_is_compared(tmp_path: Path) -> None:
    one, other = ScriptedEngine(scripts=[BLUE]), ScriptedEngine("other", [SKY])
    with Screen(tmp_path, one, other) as screen:
        screen.press("f3", "tab", "tab", "c", "end")
        screen.click("another model")
        screen.press("tab")
        screen.say("other")
        screen.click("One prompt for")
        screen.say("Why is the sky blue?")
        assert "Blue light is scattered" in screen.text and "looks blue because" in screen.text
        assert "other · balanced" in screen.text and "differs at" in screen.text
        (asked,), (asked_too,) = ([ids for kind, ids in each.calls if kind == "generate"][:1] for each in (one, other))
        assert asked == asked_too and ("close", []) not in other.calls  # the same prompt, token by token
        screen.press("f2")
        screen.wait()
        assert ("close", []) in other.calls


def test_a_comparison_is_found_among_the_conversations(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        compared(screen)
        (talk,) = screen.kept
    with Screen(tmp_path, resume=talk.id) as screen:
        assert screen.text.count("sky looks blue") + screen.text.count("light is scattered") == 3
        assert "2 compare" in screen.text and [kept.id for kept in screen.kept] == [talk.id]
