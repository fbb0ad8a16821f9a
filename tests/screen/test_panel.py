"""The panel beside a text: a token with what it was drawn from, its entropy, and what stands there instead."""

import math
from collections.abc import Sequence
from dataclasses import replace
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


def test_a_token_is_reopened_with_the_shares_that_it_was_drawn_with(tmp_path: Path) -> None:
    """A penalty counts the words of the question too, which are read no more where the answer is only looked at."""
    with Screen(tmp_path) as screen:
        screen.say("/set repetition_penalty 1.3", ASK)
        screen.press("ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, resume=id) as screen:
        step = next(step for node in screen.kept[0].nodes.values() for step in node.steps if step.text == " blue")
        assert step.logprob_after is not None
        screen.click("blue because")
        (line,) = [line for line in screen.lines if "▶ ·blue" in line]
        assert line.split()[-1] == f"{100 * math.exp(step.logprob_after):.2f}"


@pytest.mark.slow
def test_tokens_have_the_names_and_the_model_that_they_were_drawn_with(tmp_path: Path) -> None:
    """Another model, whose ids stand for other words, goes on; and again where the conversation is opened with it."""
    other = ScriptedEngine("other")
    other.facts = replace(other.facts, vocabulary=other.facts.vocabulary[::-1])

    def seen(screen: Screen) -> list[tuple[str, str, str]]:
        screen.click("Rayleigh")
        return rows(screen)

    with Screen(tmp_path, ScriptedEngine(), other) as screen:
        screen.say(ASK)
        said = seen(screen)
        assert len(said) == 3
        screen.press("escape")
        screen.say("/model other")
        assert seen(screen) == said and "model  scripted · T 0.80" in screen.text
        screen.press("enter", "down", "enter")  # another word of it, by the model that there is
        assert "other  T" not in screen.text and said[1][0].replace("·", " ") in screen.kept[0].messages()[-1].text
        screen.press("[", "ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, other, resume=id) as screen:
        assert seen(screen) == said and "model  scripted · T 0.80" in screen.text.replace("branch 1/2 · ", "")


def test_what_is_certain_costs_no_bits(tmp_path: Path) -> None:
    class Certain(ScriptedEngine):
        def raw(self, ids: Sequence[int], favourite: int) -> np.ndarray:
            return np.where(np.arange(len(self.tokenizer.pieces)) == favourite, 200, 0).astype(np.float32)

    with Screen(tmp_path, Certain()) as screen:
        asked(screen)
        assert "  0.0 bits  rank 1" in screen.text and "ENTROPY  0.0 bits" in screen.text


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


@pytest.mark.slow
def test_from_150_columns_on_why_and_the_conversations_stand_beside_the_panel(tmp_path: Path) -> None:
    heads = ("TOKEN ", "SAMPLER", "TREE", "WHY ", "WROTE IT", "CONVERSATIONS")
    with Screen(tmp_path, Glass(), size=(160, 50)) as screen:
        asked(screen).press("w")
        screen.wait(1)
        lines = [line for line in screen.lines if "WHY " in line and "TOKEN " in line]
        assert all(words in screen.text for words in heads) and len(lines) == 1
        screen.resize(120, 50)
        assert [words in screen.text for words in heads] == [False, False, False, True, True, False]
        screen.resize(160, 50)
        screen.press("w", "ctrl+o", "ctrl+o")  # the sheet is shut, then the list
        assert [words in screen.text for words in heads] == [True, True, True, False, False, False]


@pytest.mark.slow(2)
def test_from_150_columns_on_a_vote_and_a_text_show_all_their_parts_at_once(tmp_path: Path) -> None:
    engine = Glass()
    engine.plans = {"vote 4": "votes"}
    with Screen(tmp_path, engine, size=(160, 50)) as screen:
        screen.say("/strategy vote 4", ASK)
        parts = ("VOTES", "4 PATHS", "TOKEN ", "SAMPLER", "TREE", "ENTROPY", "CONVERSATIONS")
        assert [words for words in parts if words not in screen.text] == []
        screen.press("f4")
        screen.type("The sky looks blue because air")
        screen.wait(2)
        parts = ("NEXT", "SURPRISAL", "BITS SO FAR", "CONTINUATION", "ENTROPY", "mirostat tau")
        assert [words for words in parts if words not in screen.text] == []


def test_a_column_of_the_entropy_is_the_mean_of_its_tokens_or_the_highest(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(150, 50)) as screen:
        screen.say(ASK)
        bits = [(step.entropy or 0.0) / math.log(2) for step in screen.kept[0].messages()[1].steps]
        for kind, of in (("mean", np.mean), ("highest", max)):
            head = next(at for at, line in enumerate(screen.lines) if f"0 to 8, {kind} of 2 tok a column" in line)
            rows = [line.ljust(60)[1 : 1 + math.ceil(len(bits) / 2)] for line in screen.lines[head + 1 : head + 5]]
            eighths = [sum(" ▁▂▃▄▅▆▇█".index(row[x]) for row in rows) for x in range(len(rows[0]))]
            assert eighths == [max(round(4 * of(bits[at : at + 2])), 1) for at in range(0, len(bits), 2)]
            screen.click("ENTROPY")


@pytest.mark.slow
def test_the_tree_stays_in_its_pane_however_deep_it_is(screen: Screen) -> None:
    screen.say(ASK)
    for depth in range(13):
        screen.press("tab", "ctrl+home", "down", *["right"] * depth, "2", "escape")
    tree = next(at for at, line in enumerate(screen.lines) if "TREE" in line)
    rows = [line.partition("▏")[2].strip() for line in screen.lines[tree + 1 :] if "/2" in line]
    assert len(rows) >= 5 and all(row.endswith(("1/2", "2/2")) and len(row.split("─ ")[1]) > 8 for row in rows)
    assert any(row.startswith("…") for row in rows)
