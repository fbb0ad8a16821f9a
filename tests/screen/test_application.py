"""The application: views that are gone to and come back from, models, keys and what is kept when it is left."""

from pathlib import Path

import pytest

from likely.app.tui.base.view_table import VIEWS, by_digit
from likely.engine.base.files import preferences
from tests.support.everyday import everyday
from tests.support.model import BLUE, SKY, ScriptedEngine
from tests.support.screen import Screen


@pytest.mark.parametrize("name", everyday([*by_digit().values()], 4))
def test_a_view_is_gone_to_by_its_key_the_digit_of_that_and_its_name(screen: Screen, name: str) -> None:
    screen.say("Why is the sky blue?")
    screen.press(VIEWS[name].key)
    seen = screen.lines[1:-1]
    screen.press("f2", "tab", "g", VIEWS[name].key[1:])
    assert screen.lines[1:-1] == seen
    screen.press("f2")
    screen.burst("ctrl+p", *f"view: {name}", "enter")
    assert name == "chat" or screen.lines[1:-1] == seen


def test_a_form_stays_as_it_was_left(screen: Screen) -> None:
    screen.press("f5")
    screen.type("rows.jsonl")
    screen.press("f2", "f5")
    assert "rows.jsonl" in screen.text


def test_another_model_answers_and_is_the_one_for_next_time(tmp_path: Path) -> None:
    engines = ScriptedEngine(scripts=[BLUE]), ScriptedEngine("other", [SKY]), ScriptedEngine("other-two")
    with Screen(tmp_path, *engines) as screen:
        screen.say("/model other-t")  # the only one that begins so
        assert "other-two" in screen.lines[0]
        screen.say("/model othe")
        assert "othe is the beginning of several names: other, other-two" in screen.text
        screen.say("/model other")  # not the longer name that is listed
        assert "other " in screen.lines[0] and preferences.chosen(screen.home) == "other"
        screen.say("Why?")
        assert "Rayleigh" in screen.text
        screen.say("/model nowhere")
        assert "there is no model nowhere" in screen.text
        screen.say("/model scripted")
        screen.press("ctrl+r")
        assert "scattered in all directions" in screen.text or "short wavelengths" in screen.text


def test_a_theme_is_picked_from_those_there_are(screen: Screen) -> None:
    screen.say("/theme")
    assert "likely-light" in screen.text and "nord" in screen.text
    screen.say("likely-lig")
    screen.type("still here")
    assert "│ still here" in screen.text


def test_a_picture_of_the_screen_is_a_file_in_likelys_folder(screen: Screen) -> None:
    screen.burst("ctrl+p", *"app: screenshot", "enter")
    (path,) = screen.home.glob("likely-*.svg")
    assert path.read_text().startswith("<svg") and path.name in screen.text


def test_numbers_have_a_formula_and_keys_a_page(screen: Screen) -> None:
    screen.say("Why is the sky blue?")
    screen.burst("ctrl+p", *"formula", "enter")  # where = is a letter
    assert "encode(template(messages))" in screen.text
    screen.press("escape", "f1")
    assert "palette" in screen.text and "keys" in screen.text
    screen.press("end")
    screen.wait(2)
    assert f'"{[*screen.app.key_table()][-1]}"' in screen.text
    screen.press("escape", "ctrl+c")
    assert "nothing is selected · ctrl+q quits" in screen.text


def test_what_is_left_is_the_conversation_to_come_back_to(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.press("ctrl+q")
        assert screen.left == "" and not screen.kept
    with Screen(tmp_path) as screen:
        screen.hold(after=4)
        screen.say("Why is the sky blue?")
        screen.press("ctrl+q")
        (talk,) = screen.kept
        assert screen.left == talk.id
    with Screen(tmp_path, resume=talk.id) as screen:
        assert "The sky looks blue" in screen.text and "because" not in screen.text
