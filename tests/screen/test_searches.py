"""Searches and votes in the chat: drawn live by the tree and the best texts, walked, taken, dropped and stopped."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from likely.app.store.store import Store
from tests.support.everyday import everyday
from tests.support.model import ScriptedEngine
from tests.support.screen import Screen

Search = Callable[..., Screen]
ASK = "Why is the sky blue?"
RED, BLUE, SUN = " The sky looks red because air", " The sky looks blue because", " The sky looks red sunlight"


def searching() -> ScriptedEngine:
    """An engine that searches as planned where a beam search of three or a vote of four is asked for."""
    engine = ScriptedEngine()
    engine.plans = {
        "beam 3": "beams", "vote 4": "votes", "vote 3": "worked", "vote": "paths 16", "exact 50": "walk",
        "vote 2": "early",
    }  # fmt: skip
    return engine


def shown(screen: Screen) -> str:
    """The answer that is on the screen, as it was kept."""
    return screen.kept[0].messages()[-1].text


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Search]:
    """Opens a chat, in which a strategy has been asked for."""

    def opened(strategy: str, after: int | None = None, size: tuple[int, int] = (120, 40)) -> Screen:
        screen = Screen(tmp_path, searching(), size=size)
        screen.__enter__()
        screens.append(screen)
        screen.say(f"/strategy {strategy}")
        if after is not None:
            screen.hold(after=after)
        screen.say(ASK)
        return screen

    screens: list[Screen] = []
    yield opened
    for screen in screens:
        screen.__exit__()


def test_a_search_is_drawn_live_with_scores_and_ends_on_its_best(search: Search) -> None:
    screen = search("beam 3", after=9)
    assert "TREE  3 leaves, 1 pruned" in screen.text and "3 BEST  3 growing" in screen.text
    assert "esc Stop" in screen.lines[-1] and "The sky looks blue" in screen.text
    (row,) = [line for line in screen.lines if line.startswith("  2 ")]
    assert row.split("▏")[0].split()[-2:] == ["4", "−1.30"]  # -0.9 nats in bits
    assert "light" not in screen.text.partition("TREE")[2].partition("BEST")[0].replace("log₂", "")
    screen.release()
    assert shown(screen) == RED  # the best of three, not the first on the screen
    assert (
        "beam 3 · 6 tok" in screen.text and "3 BEST" in screen.text and "T 0" not in screen.text.partition("6 tok")[0]
    )
    head = next(at for at, line in enumerate(screen.lines) if "3 BEST" in line)
    scores = [float(line.partition("▏")[0].split()[-1].replace("−", "-")) for line in screen.lines[head + 1 : head + 4]]
    assert scores == sorted(scores, reverse=True) and scores[0] == pytest.approx(-0.5 / math.log(2), abs=0.006)
    assert "red because air" in screen.lines[head + 1]  # the best of all stands first
    talk = screen.kept[0]
    assert sorted(node.figures["score"] for node in talk.nodes.values() if node.finish == "eot") == [-1.2, -0.5]
    screen.click("TREE")
    screen.press("z")
    assert "✕" in screen.text or "…light" in screen.text
    store = Store(screen.home / "sessions.db")
    assert {n.id: n.figures for n in store.load(talk.id).nodes.values()} == {
        n.id: n.figures for n in talk.nodes.values()
    }
    store.close()


def test_texts_of_a_search_are_walked_while_it_goes_on_and_one_is_taken(search: Search) -> None:
    screen = search("beam 3", after=9)
    screen.press("tab", "tab", "up")
    assert "The sky looks red because air" in screen.text and "esc Stop" in screen.lines[-1]
    assert "shared by" in screen.text
    screen.press("down", "down")
    assert shown(screen) == SUN
    screen.press("enter")  # and no other
    assert "esc Stop" not in screen.lines[-1] and shown(screen) == SUN
    screen.release()
    assert shown(screen) == SUN


def test_a_text_that_is_looked_at_goes_on_growing_there_and_space_holds_it(search: Search) -> None:
    screen = search("beam 3", after=6)
    screen.press("tab", "tab", "up", "up")
    assert shown(screen).startswith(" The sky looks ")
    screen.press("space")
    assert "paused" in screen.text
    screen.release()
    assert "esc Stop" in screen.lines[-1]
    screen.press("space")
    assert "esc Stop" not in screen.lines[-1] and shown(screen) in (RED, BLUE, SUN)


def test_texts_are_dropped_while_they_grow_and_once_they_have_ended(search: Search) -> None:
    screen = search("beam 3", after=9)
    screen.press("tab", "tab", "up", "delete")
    screen.release()
    assert "red because air" not in screen.text.partition("BEST")[2] and shown(screen) != RED
    assert "2 BEST" in screen.text
    left = shown(screen)
    screen.press("delete")
    assert shown(screen) != left and "u in the transcript" in screen.lines[-1]
    screen.press("escape", "tab", "u")
    assert shown(screen) == left


@pytest.mark.parametrize("keys", everyday([["escape"], ["escape", "escape"], ["ctrl+n"]], 2))
def test_a_search_that_is_stopped_shows_the_best_it_holds(search: Search, keys: list[str]) -> None:
    screen = search("beam 3", after=9)
    screen.press(*keys)
    screen.release()
    talk = screen.kept[0]
    scores = [
        node.figures["score"] for node in talk.nodes.values() if "score" in node.figures and node.finish != "pruned"
    ]
    assert talk.leaf is not None and talk.leaf.figures["score"] == max(scores)
    assert all(node.finish for node in talk.nodes.values() if node.role == "assistant")
    if keys == ["ctrl+n"]:
        assert "BEST" not in screen.text and "as before: strategy beam 3" in screen.lines[-1]
        assert "strategy        beam 3" in screen.text  # what holds for the next answer, which is found so
    else:
        assert "3 BEST" in screen.text and screen.text.count(" ■ ") >= 3


def test_stopping_lets_a_search_tell_what_it_has_found_and_how_far_it_may_be_from_the_best(search: Search) -> None:
    screen = search("exact 50", after=1)
    screen.press("escape")
    screen.release()
    assert shown(screen) == " The sky looks blue"
    assert f"within {0.5 / math.log(2):.2f} bits of the mode" in screen.text  # -7.5 found, nothing above -7.0


def test_a_vote_shows_its_answers_and_ends_on_one_that_won(search: Search) -> None:
    screen = search("vote 4")
    assert "VOTES  4 of 4" in screen.text and "50.0 %" in screen.text and "1 no answer" in screen.text
    assert shown(screen) in (" It is 4", " I think 4") and "4 PATHS" in screen.text
    head = next(at for at, line in enumerate(screen.lines) if "VOTES" in line)
    rows = [line.rpartition("▏")[2].split() for line in screen.lines[head + 1 : head + 5]]
    ((first, bar, *most), whisker, (second, other, *least), _) = rows
    assert (first, most, second, least) == ("4", ["2", "50.0", "%"], "5", ["1", "25.0", "%"])
    # a bar is as long as its share; Wilson's interval of 2 of 4 at 95 %, in float64
    assert len(bar) == pytest.approx(2 * len(other), abs=1)
    p, z = 0.5, 1.959963984540054
    middle, half = (p + z * z / 8) / (1 + z * z / 4), z / (1 + z * z / 4) * (p * (1 - p) / 4 + z * z / 64) ** 0.5
    assert whisker[-1] == f"{100 * (middle - half):.0f}-{100 * (middle + half):.0f}"
    screen.click("TREE")
    screen.press("down", "down", "down", "down", "delete")
    assert "3 PATHS" in screen.text
    screen.press("escape")
    screen.say("/strategy plain", "Hello , what about sunsets")
    assert "VOTES" not in screen.text


def test_under_110_columns_the_glance_is_at_the_votes(search: Search) -> None:
    screen = search("vote 4", size=(80, 24))
    for size in ((60, 30), (80, 24)):
        screen.resize(*size)
        assert "VOTES  4 of 4" in screen.text and "4 PATHS" in screen.text and "raw %" not in screen.text
    screen.press("tab", "vertical_line")
    assert "raw %" in screen.text and "VOTES" not in screen.text


def test_paths_have_the_verdict_on_their_equations_and_open_into_steps(search: Search) -> None:
    screen = search("vote 3")
    assert "1 of 2 hold" in screen.text and "✓ 3" in screen.text and "✗ 27 / 3 = 8" in screen.text
    screen.press("tab", "tab", "up", "up", "up", "v")
    assert "├─ 2 9 * 4 = 36." in screen.text
    screen.press("v")
    assert "├─ 2 9 * 4 = 36." not in screen.text


def test_a_list_that_is_cut_says_how_many_more_there_are(search: Search) -> None:
    screen = search("vote")
    assert "16 PATHS" in screen.text and " more" in screen.text.partition("16 PATHS")[2]
    screen.press("tab", "tab", "end")
    assert "\n 16 " in screen.text


def test_the_strategy_is_a_row_of_the_sampler_that_opens_a_list(search: Search) -> None:
    screen = search("plain")
    assert "strategy   " not in screen.text  # what is off is folded away
    screen.press("ctrl+g")
    assert "strategy        one by one" in screen.text
    screen.press("s")
    assert "beam" in screen.text and "vote" in screen.text
    screen.press("escape", "escape", "escape")
    screen.say("/strategy beam 3")
    screen.press("ctrl+g", "up", "up", "up", "up", "up", "down", "left")
    assert any(line.rstrip().endswith(" 2") and "beams" in line for line in screen.lines)
    screen.press("left", "left")
    assert "number of beams must be" in screen.text
    screen.press("0")
    assert "strategy        one by one" in screen.text


@pytest.mark.parametrize(
    ("plan", "texts"),
    [
        ("search", {BLUE: "eot", RED: "eot", SUN: "length", " The sky looks light": "pruned"}),
        ("lost", {" The sky looks blue": "eot", " The sky glow": "pruned"}),
        ("several", {" The sky looks": "eot", " Blue light": "eot"}),
    ],
)  # fmt: skip
def test_every_text_of_a_search_is_a_branch_that_is_kept(tmp_path: Path, plan: str, texts: dict[str, str]) -> None:
    engine = ScriptedEngine()
    engine.plan = plan
    with Screen(tmp_path, engine) as screen:
        screen.say(ASK)
        talk = screen.kept[0]
        found, bare = {}, replace(talk, pruned=frozenset())
        for node in talk.nodes.values():
            if node.finish and node.role == "assistant":
                found[bare.reveal(node.id, max(len(node) - 1, 0)).messages()[-1].text] = node.finish
        assert found == texts
        screen.press("tab", "u")
        assert ("pruned" in screen.text) is ("pruned" in texts.values())
