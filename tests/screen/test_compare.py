"""A comparison: one prompt under several settings, seen side by side, kept, set up and gone on with."""

import re
from pathlib import Path

import numpy as np
import pytest

from likely.app.tui.chat.start import Start
from likely.engine.base.arrays import logprobs
from likely.engine.sampling.transforms import Temperature
from tests.support.diffuser import ScriptedDiffusion
from tests.support.model import BLUE, SKY, ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def compared(screen: Screen, prompt: str = ASK) -> None:
    screen.press("f3")
    screen.say(prompt)


def two_models(screen: Screen, other: str = "other") -> None:
    """Two columns that differ in the model alone, by keys that the screen names; the focus is on the second."""
    screen.press("ctrl+p")
    screen.say("compare models side by side")
    screen.do("Columns", "Column")
    if "C wild" in screen.text:
        screen.do("Column")
        screen.press("minus")
        screen.do("Column")
    screen.do("Set up")
    screen.press("home", "enter")
    screen.do("Set up")
    screen.press("end", "enter")
    screen.say(other)


def read_by(engine: ScriptedEngine, ids: list[int], start: int) -> np.ndarray:
    """log p [n, V] of what follows each place from one on, in float64."""
    (rows,) = (rows for rows in engine.logits_along(ids, start) if rows is not None)
    found: np.ndarray = logprobs(rows.astype(np.float64), np)
    return found


TEXT = "The sky looks blue because air molecules scatter short wavelengths of light by the gases of the atmosphere."


@pytest.mark.slow(2)
@pytest.mark.parametrize("size", [(80, 24), (60, 20), (120, 40), (160, 50)])
def test_which_of_two_models_is_better_and_where_they_differ(tmp_path: Path, size: tuple[int, int]) -> None:
    one, other = ScriptedEngine(scripts=[SKY]), ScriptedEngine("other", [BLUE])
    with Screen(tmp_path, one, other, size=size) as screen:
        two_models(screen)
        screen.do("A given text")
        screen.say(TEXT)
        ids = one.tokenizer.encode(TEXT)
        p, q = (read_by(engine, ids, 0) for engine in (one, other))
        costs = [-np.mean([rows[at, token] for at, token in enumerate(ids[1:])]) / np.log(2) for rows in (p, q)]
        kl = np.sum(np.exp(p) * (p - q), axis=-1) / np.log(2)
        assert all(f" {cost:.2f}  {cost * (len(ids) - 1):.0f} bits" in screen.text for cost in costs)
        assert re.search(rf"A (is )?better (than B )?by {costs[1] - costs[0]:.2f}", screen.text)
        assert f"{kl.mean():.2f}" in screen.text and not screen.kept
        forks = [at + 1 for at in range(len(ids) - 1) if p[at].argmax() != q[at].argmax()]
        for at in forks[:2]:  # each names the token, both favourites and what they have
            screen.do("Next fork")
            assert f"FORK  {at + 1}, after" in screen.text
            assert [f"{100 * np.exp(rows[at - 1].max()):.1f}" in screen.text for rows in (p, q)] == [True, True]
        screen.do("KL(B‖A)")
        back = np.sum(np.exp(q) * (q - p), axis=-1) / np.log(2)
        assert "KL(B‖A)" in screen.text and f"{back.mean():.2f}" in screen.text


def test_a_prompt_goes_to_every_column_and_all_are_kept(screen: Screen) -> None:
    compared(screen)
    assert screen.text.count("sky looks blue") + screen.text.count("light is scattered") == 3
    (talk,) = screen.kept
    assert talk.kind == "compare"
    assert sorted(node.role for node in talk.nodes.values()) == ["assistant"] * 3 + ["user"]
    screen.press("ctrl+q")
    assert screen.left == talk.id


def test_answers_are_as_long_as_those_of_the_chat(tmp_path: Path) -> None:
    with Screen(tmp_path, start=Start(seed=0, max_tokens=4)) as screen:
        compared(screen)
        assert [len(node.steps) for node in screen.kept[0].nodes.values()] == [0, 4, 4, 4]


def test_an_empty_prompt_and_tools_begin_nothing(screen: Screen) -> None:
    compared(screen, "   ")
    assert not screen.kept and screen.text.count("c sets it up") == 3
    screen.say("/tools calculator")
    assert not screen.kept and "tools are for the chat (f2)" in screen.text


def test_another_seed_gives_other_answers_to_the_same_prompt(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[f" answer {n}." for n in range(97)])) as screen:
        compared(screen)
        screen.press("ctrl+r")
        one, other = screen.kept
        seeds = [{node.seed for node in talk.nodes.values() if node.role == "assistant"} for talk in (one, other)]
        assert [len(each) for each in seeds] == [1, 1] and seeds[0] != seeds[1]  # all columns alike, and anew


def test_what_columns_say_has_the_room_that_there_is(screen: Screen) -> None:
    """Hardly any, and that of columns of another comparison, of one more, and of one less."""
    compared(screen)
    for width in range(60, 5, -6):
        screen.resize(width, 20)
    screen.resize(120, 40)
    assert "CROSS-SURPRISAL" in screen.text
    for key, count in (("ctrl+n", 3), ("tab", 3), ("plus", 4), ("escape", 4), ("minus", 3)):
        screen.press(key)
        assert screen.text.count("c sets it up") == count, key


def test_columns_that_are_stopped_keep_what_they_had(screen: Screen) -> None:
    screen.hold(after=9)
    compared(screen)
    screen.press("escape")
    screen.release()
    (talk,) = screen.kept
    drawn = [len(node.steps) for node in talk.nodes.values() if node.role == "assistant"]
    assert drawn == [3, 3, 3] and "because" not in screen.text


@pytest.mark.slow
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
    assert heads == ["A T 0.30 · top-k 40", "B greedy", "C wild"]
    recipes = {node.label: node.steps[0].recipe for node in screen.kept[0].nodes.values() if node.steps}
    assert [*recipes] == [head[2:] for head in heads]
    assert [recipe.greedy for recipe in recipes.values()] == [False, True, False]
    warmth = [[each for each in recipe.transforms if isinstance(each, Temperature)] for recipe in recipes.values()]
    assert warmth == [[Temperature(0.3)], [], [Temperature(1.4)]]


def test_a_column_is_gone_on_with_in_the_chat(screen: Screen) -> None:
    compared(screen)
    screen.press("tab", "enter")
    assert " you" in screen.text and "Why is the sky blue?" in screen.text
    screen.say("and sunsets?")
    assert "and sunsets?" in screen.text and {talk.kind for talk in screen.kept} == {"chat", "compare"}


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_comparison_is_found_among_the_conversations(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        compared(screen)
        (talk,) = screen.kept
        feet = [line for line in screen.lines if "ppl" in line]
    with Screen(tmp_path, resume=talk.id) as screen:
        assert feet and [line for line in screen.lines if "ppl" in line] == feet
        assert screen.text.count("sky looks blue") + screen.text.count("light is scattered") == 3
        assert "CROSS-SURPRISAL" in screen.text
        assert "f3 compare" in screen.text and [kept.id for kept in screen.kept] == [talk.id]


@pytest.mark.slow
def test_settings_are_compared_by_what_is_drawn_from_else_by_the_model_alone(tmp_path: Path) -> None:
    """KL(greedy || balanced) is what its favourite costs by balanced: top-p 0.95, then min-p 0.05, then T 0.8."""
    engine = ScriptedEngine(scripts=[BLUE])
    with Screen(tmp_path, engine) as screen:
        compared(screen)
        ids = next(ids for kind, ids in engine.calls if kind == "generate")
        (answer,) = (node for node in screen.kept[0].nodes.values() if node.label == "greedy")
        drawn = [step.token for step in answer.steps[:-1]]
        bits = []
        for row in np.exp(read_by(engine, [*ids, *drawn], len(ids) - 1)):
            order = np.argsort(-row)
            kept = order[: 1 + np.searchsorted(np.cumsum(row[order]), 0.95)]
            kept = kept[row[kept] >= 0.05 * row.max()]
            bits.append(-np.log2(row.max() ** 1.25 / np.sum(row[kept] ** 1.25)))
        assert (
            re.search(rf"A‖B .* {np.mean(bits):.2f} ", screen.text) and "q: what each column draws from" in screen.text
        )
        screen.do("By p")
        assert re.search(r"A‖B .* 0\.00 ", screen.text) and "p: each column's model alone" in screen.text
        screen.press("=")
        assert "KL(p_A ‖ p_B) = Σ p_A log₂ p_A/p_B = 0.00 bits" in screen.text


@pytest.mark.slow
def test_what_cannot_be_read_by_each_is_said_in_a_line(tmp_path: Path) -> None:
    foreign, masked = ScriptedEngine("foreign", [BLUE, "quite other words"]), ScriptedDiffusion("masked")
    with Screen(tmp_path, ScriptedEngine(scripts=[SKY]), foreign, masked) as screen:
        two_models(screen, "foreign")
        screen.click("One prompt")
        screen.say(ASK)
        assert "B has another tokenizer than A: they have no KL" in screen.text and "CROSS" not in screen.text
        screen.press("tab")
        screen.do("Set up")
        screen.press("end", "enter")
        screen.say("masked")
        assert "B fills masks: it is not read token by token" in screen.text


@pytest.mark.slow
def test_answers_stay_and_are_kept_until_a_text_is_given(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[SKY]), ScriptedEngine("other", [BLUE])) as screen:
        two_models(screen)
        screen.click("One prompt")
        screen.say(ASK)
        (talk,) = screen.kept
        screen.do("A given text")
        screen.press("tab")
        screen.do("By q")
        assert "CROSS-SURPRISAL" in screen.text and "q: what each column draws from" in screen.text
        screen.click("One text")
        screen.say("red")  # of one token, which follows nothing
        assert "THE TEXT COSTS" in screen.text and "not seen which is better" in screen.text
        assert [[*kept.nodes] for kept in screen.kept] == [[*talk.nodes]]


@pytest.mark.slow
def test_who_leaves_while_it_is_read_finds_it_and_a_model_switched_under_it_is_said(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[SKY]), ScriptedEngine("other", [BLUE])) as screen:
        two_models(screen)
        screen.click("One prompt")
        screen.type(ASK)
        screen.burst("enter", "f2", "f3")
        assert "CROSS-SURPRISAL" in screen.text or "⏎ in the prompt" in screen.text or "no answer yet" in screen.text
        screen.press("tab", "tab", "enter")
        strip = [line for line in screen.lines if "KL(A‖B)" in line]
        assert "CROSS-SURPRISAL" in screen.text and strip
        screen.press("f2", "f3")
        assert [line for line in screen.lines if "KL(A‖B)" in line] == strip
        screen.press("f2")
        screen.say("/adapter mine")
        screen.press("f3")
        assert "A was written with no adapter, not with mine 1: ⏎ in the prompt runs it again" in screen.text
        screen.press("f2")
        screen.say("/model other")
        screen.press("f3")
        assert "A was written by scripted, not by other: ⏎ in the prompt runs it again" in screen.text


@pytest.mark.slow
@pytest.mark.parametrize("does", ["Adopt", "Adopt setting"])
def test_the_chat_goes_on_by_the_model_and_setting_of_the_column_that_is_adopted(tmp_path: Path, does: str) -> None:
    one, other = ScriptedEngine(scripts=[SKY]), ScriptedEngine("other", [BLUE])
    with Screen(tmp_path, one, other) as screen:
        two_models(screen)
        if does == "Adopt":
            screen.click("One prompt")
            screen.say(ASK)
            screen.do("Column")
        else:
            screen.do("A given text")
            screen.say(TEXT)
            screen.do("Column")
        screen.do(does)
        assert "│ other" in screen.lines[0]
        screen.say("and sunsets?")
        (talk,) = (talk for talk in screen.kept if talk.kind == "chat")
        assert talk.leaf is not None and talk.leaf.steps[0].recipe.greedy and talk.model == "other"
        assert [kind for kind, _ in other.calls][-1] == "generate"
