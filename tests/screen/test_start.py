"""From the first paint on nothing that is typed is lost, whatever the program still has to do, and it can be left."""

from pathlib import Path
from signal import SIGTERM, Signals

import pytest

from likely.engine.adapters.config import Config
from tests.support.model import BLUE, ScriptedEngine
from tests.support.screen import Screen

TURNS = (0, 8, 20, 36)  # of the program's loop, between the first paint and the end of the start


@pytest.mark.parametrize("turns", TURNS)
def test_what_is_typed_while_it_starts_stands_in_the_prompt(tmp_path: Path, turns: int) -> None:
    with Screen(tmp_path, typed="Why is the sky blue?", turns=turns) as screen:
        assert "│ Why is the sky blue?" in screen.text
        screen.type(" And red?")
        assert "│ Why is the sky blue? And red?" in screen.text


@pytest.mark.parametrize("turns", TURNS)
def test_a_message_that_is_sent_while_it_starts_is_answered(tmp_path: Path, turns: int) -> None:
    keys = (*"what about  sunsets", *["left"] * 8, "backspace", "enter")
    with Screen(tmp_path, ScriptedEngine(scripts=[BLUE]), typed=keys, turns=turns) as screen:
        assert "scattered in all directions" in screen.text
        assert next(node.text for node in screen.kept[0].nodes.values()) == "what about sunsets"


@pytest.mark.parametrize("turns", (2, 4, 20))
@pytest.mark.parametrize("end", ["ctrl+q", SIGTERM])
def test_it_is_left_while_it_starts(tmp_path: Path, end: str | Signals, turns: int) -> None:
    with Screen(tmp_path, typed=[end], turns=turns) as screen:
        assert not screen.running


def test_what_a_command_opened_has_what_was_typed_meanwhile(tmp_path: Path) -> None:
    run = Config(model="scripted", data="rows.jsonl", out="out")
    with Screen(tmp_path, tune=run, typed="Hello", turns=20) as screen:
        assert "Hello" in screen.text
