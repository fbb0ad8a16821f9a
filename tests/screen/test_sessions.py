"""Conversations that are kept: found, opened, named, duplicated, put away and brought back, in dialog and sidebar."""

from pathlib import Path

import pytest

from likely.app.tui.widgets.lists.conversations import ago
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def three(screen: Screen) -> Screen:
    """Conversations that begin with these words, each a minute younger."""
    for text in ("first of all", "what about sunsets", "and red\x1b[31m"):
        screen.say(text)
        screen.press("ctrl+n")
        screen.wait(60)
    return screen


def test_conversations_are_listed_found_and_opened(screen: Screen) -> None:
    three(screen).press("ctrl+o")
    rows = [line for line in screen.lines if " tok   " in line and "scripted" in line]
    assert [row.split("  ")[-1].split("─")[0].strip() for row in rows] and "first of all" in screen.text
    assert "1m" in screen.text and "3m" in screen.text and "and red" in screen.text and "\x1b" not in screen.text
    screen.type("sunsets")
    assert "first of all" not in screen.text and "what about sunsets" in screen.text
    screen.press("enter")
    assert (
        screen.text.count("what about sunsets") >= 1 and "TOKEN" in screen.text and "conversations" not in screen.text
    )
    screen.press("ctrl+o")
    screen.type("scattered")  # of what was answered
    assert "scattered" in screen.text
    screen.type("xyz")
    assert "nothing found" in screen.text
    screen.press("escape")
    assert "conversations" not in screen.text


def test_a_conversation_is_named_duplicated_put_away_and_brought_back(screen: Screen) -> None:
    three(screen).press("ctrl+o", "ctrl+r", "end", *["backspace"] * 40)
    screen.say("renamed")
    assert "renamed" in {talk.title for talk in screen.kept} and "renamed" in screen.text
    screen.press("ctrl+d")
    assert len(screen.kept) == 4
    screen.press("delete")
    assert len(screen.kept) == 3 and "^z brings it back" in screen.text
    screen.press("ctrl+z")
    assert len(screen.kept) == 4 and {len(talk.nodes) for talk in screen.kept} == {2}


@pytest.mark.slow(2)
def test_the_list_beside_the_chat_follows_what_is_kept_and_stays_in_every_view(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(160, 45)) as screen:
        three(screen).press("ctrl+o", "down", "up", "up", "enter")
        assert all(words in screen.text for words in ("CONVERSATIONS  3", "TODAY", "chat · 67 tok", "TREE"))
        assert "^r Redo" in screen.lines[-1]  # it stays, and the chat has the keys
        screen.press("ctrl+n")
        screen.say("Hello")
        screen.wait()
        assert "CONVERSATIONS  4" in screen.text
        for key in ("f3", "f4", "f5"):
            screen.press(key)
            assert "CONVERSATIONS  4" in screen.text and "first of all" in screen.text
        screen.click("what about sunsets")
        assert "Message" in screen.text and "Blue light is scattered" in screen.text
        screen.resize(120, 40)
        assert "CONVERSATIONS" not in screen.text
        screen.press("ctrl+o")  # a dialog there
        assert "⏎ open · ^r rename" in screen.text
        screen.press("escape")
        screen.resize(160, 45)
        assert "CONVERSATIONS  4" in screen.text and "^o finds" in screen.text
        screen.press("ctrl+o")  # the keys go there first, then it closes
        assert "CONVERSATIONS" in screen.text and "^o closes" in screen.text
        screen.press("ctrl+o")
        assert "CONVERSATIONS" not in screen.text


@pytest.mark.slow
@pytest.mark.parametrize("size", [(60, 20), (160, 50)])
def test_beside_the_chat_or_over_it_the_same_keys_do_the_same(tmp_path: Path, size: tuple[int, int]) -> None:
    with Screen(tmp_path, size=size) as screen:
        three(screen).press("ctrl+o")
        screen.type("sunsets")
        assert "what about sunsets" in screen.text and "first of all" not in screen.text
        screen.press("ctrl+r", "end")
        screen.say(" again")
        assert sum(talk.title == "what about sunsets again" for talk in screen.kept) == 1
        screen.press("ctrl+u", "down", "right", "right")  # comparisons: there are none
        assert "nothing found" in screen.text
        screen.press("left", "r", "end")
        screen.say("!")
        assert sum(talk.title.endswith("!") for talk in screen.kept) == 1 and "first of all" in screen.text
        screen.press("d")
        assert len(screen.kept) == 4
        screen.press("delete", "backspace")
        assert len(screen.kept) == 2 and "^z brings it back" in screen.text
        screen.press("u", "ctrl+z")
        assert len(screen.kept) == 4
        screen.press("ctrl+o")
        assert "^o closes" not in screen.text
        screen.type("written")
        assert "│ written" in screen.text


def test_in_the_words_of_a_search_delete_edits_them(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("ctrl+o")
    screen.type("xsky")
    assert "nothing found" in screen.text
    screen.press("home", "delete", "end", "y", "backspace")
    assert len(screen.kept) == 1 and ASK in screen.text
    screen.press("backspace", "backspace", "backspace", "delete")  # the one that is open
    assert not screen.kept
    screen.press("ctrl+z", "escape")
    assert len(screen.kept) == 1 and screen.running


def test_two_programs_see_what_the_other_keeps(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        with Screen(tmp_path) as other:
            other.say("from the other program")
        screen.press("ctrl+o")
        assert "from the other program" in screen.text and ASK in screen.text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "now"), (59, "now"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86_399, "23h"), (86_400, "1d"), (604_799, "6d"),
     (604_800, "1w"), (86_400 * 365 - 1, "52w"), (86_400 * 365, "1y"), (86_400 * 800, "2y"), (-5, "now")],
)  # fmt: skip
def test_an_age_is_said_in_one_unit(seconds: float, said: str) -> None:
    assert ago(seconds) == said
