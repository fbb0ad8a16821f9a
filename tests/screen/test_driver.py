"""The driver of screen tests keeps what it promises, so that a test that fails speaks of the program."""

from pathlib import Path

from tests.support.model import ScriptedEngine
from tests.support.screen import Screen


def test_keys_go_in_and_what_they_do_comes_out(screen: Screen) -> None:
    screen.type("Why is the sky blue?")
    assert "│ Why is the sky blue?" in screen.text and not screen.kept
    screen.press("enter")
    assert "Rayleigh" in screen.text
    (talk,) = screen.kept
    assert [node.role for node in talk.nodes.values()] == ["user", "assistant"]
    screen.press("ctrl+q")
    assert not screen.running and screen.left == talk.id


def test_a_run_is_held_after_so_many_tokens(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[" one two three four five six"]), size=(80, 24)) as screen:
        screen.hold(after=3)
        screen.say("count")
        assert "one two three" in screen.text and "four" not in screen.text
        screen.release()
        assert "one two three four five six" in screen.text


def test_the_clock_moves_only_as_it_is_told(screen: Screen) -> None:
    screen.type("/say")
    screen.press("escape", "enter")
    said = screen.text
    assert screen.text == said
    screen.wait(3600)
    assert screen.running


def test_what_is_copied_written_and_clicked(screen: Screen) -> None:
    screen.say("Why is the sky blue?")
    screen.say("/copy")
    assert screen.clipboard.startswith("The sky looks blue") and "copied" in screen.text
    screen.say("/export markdown talk.md")
    assert "Rayleigh" in (screen.folder / "talk.md").read_text()
    screen.click("f3 compare")
    assert "COLUMN" in screen.text.upper()
    screen.resize(60, 20)
    assert len(screen.lines) == 20 and max(map(len, screen.lines)) <= 60
