"""What a person takes for granted: counts that are right, keys that stop, what is typed where one is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from likely.app.tui.base.sampling import Sampling
from likely.app.tui.chat.start import Start
from likely.engine.chat.conversation import Conversation
from likely.engine.decode.loop.events import Event, Reloaded
from likely.engine.sampling.trace.step import SamplingConfig
from tests.support.model import BLUE, SKY, ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def counted(screen: Screen) -> int:
    """The context that the top line says is taken."""
    return int(screen.lines[0].partition("/8192 ctx")[0].split()[-1])


def taken(screen: Screen) -> int:
    """The context that is taken: what the model read, and every token since."""
    return screen.kept[0].messages()[-1].steps[-1].position + 1


def test_the_context_is_counted_after_escape_branch_and_continue(screen: Screen) -> None:
    assert counted(screen) == 0
    screen.hold(after=5)
    screen.say(ASK)
    screen.press("escape")
    assert counted(screen) == taken(screen) > 5 and screen.kept[0].title == ASK  # as soon as it begins
    screen.release()
    screen.say("/continue")
    whole = counted(screen)
    assert whole == taken(screen) > 20
    screen.hold(after=5)
    screen.say("and red?")
    screen.press("escape")
    assert counted(screen) == taken(screen) > whole + 5
    screen.release()
    screen.say("/continue")
    assert counted(screen) == taken(screen)
    screen.press("tab", "left", "left", "b")
    assert counted(screen) == taken(screen)
    screen.press("escape", "ctrl+n")
    assert counted(screen) == 0


def test_ctrl_c_stops_an_answer_and_says_so_and_copies_what_is_selected(screen: Screen) -> None:
    screen.hold(after=4)
    screen.say(ASK)
    screen.press("ctrl+c")
    assert "stopped" in screen.lines[-1] and len(screen.kept[0].messages()[1].steps) == 4
    screen.press("tab")
    assert "stopped" not in screen.lines[-1]  # it does not stick
    screen.press("ctrl+c")
    assert "nothing is selected" in screen.lines[-1]
    screen.press("escape")
    screen.type("blue sky")
    screen.press("home", "shift+end", "ctrl+c")
    assert screen.clipboard == "blue sky"


def test_a_model_that_was_loaded_again_is_said(tmp_path: Path) -> None:
    class Reloading(ScriptedEngine):
        def generate(self, *args: Any, **options: Any) -> Iterator[Event]:
            for number, event in enumerate(super().generate(*args, **options)):
                if number == 3:
                    yield Reloaded("no numbers in float16: loaded again in float32")
                yield event

    with Screen(tmp_path, Reloading()) as screen:
        screen.say(ASK)
        assert "loaded again in float32" in screen.lines[-1] and screen.kept[0].messages()[1].text == SKY


def test_words_typed_in_step_mode_stay_in_it(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("tab", "s", "shift+tab", "ctrl+home", "down", "right", "right", "enter", "slash")
    screen.say(" Hello sky")
    assert screen.lines[-1].startswith(" step:") and "NEXT" in screen.text
    assert screen.kept[0].messages()[1].text == " The sky Hello sky"
    screen.press("escape")
    assert "step:" not in screen.lines[-1] and screen.kept[0].leaf.finish == "cancelled"  # type: ignore[union-attr]


def test_the_command_lines_settings_hold_in_every_chat(tmp_path: Path) -> None:
    """In the first conversation, in a new one, and over those of a conversation that is resumed."""
    start = Start(Sampling().with_value("temp", 0.3).recipe, system="Be brief.", seed=7, max_tokens=9)
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        id = screen.kept[0].id
    with Screen(tmp_path, ScriptedEngine(scripts=[BLUE]), start=start, resume=id) as screen:
        for seed in (7, 8):
            screen.say(ASK)
            talk = screen.kept[0]
            assert talk.leaf is not None and talk.leaf.seed == seed and talk.leaf.finish == "length"
            assert talk.system == "Be brief." and "T 0.30" in screen.text and len(talk.leaf.steps) == 9
            screen.press("ctrl+n")
    old = Conversation("a", recipe=SamplingConfig(), system="Be long.")
    assert Start(seed=1).of(old) == old


@pytest.mark.parametrize(
    ("terminal", "told"),
    [({}, "9;likely: "), ({"VTE_VERSION": "7600"}, "777;notify;likely;"), ({"TERM": "foot"}, "777;notify;likely;")],
)
def test_the_end_of_a_long_answer_is_told_to_who_looks_elsewhere(
    tmp_path: Path, terminal: dict[str, str], told: str
) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[BLUE]), environ=terminal) as screen:
        for seconds, away in ((11, False), (8, True), (11, True)):
            screen.hold(after=2)
            screen.say("a; b", "and red")  # the second waits for the first
            if away:
                screen.terminal.look_away()
            screen.wait(seconds)
            assert not screen.terminal.notices
            screen.release()
        assert screen.terminal.notices == ["bell", f"{told}a, b: ended after 12 s"]


def test_an_order_of_ones_own_is_reopened_whole_and_kept_as_a_preset(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        screen.press("ctrl+g", "<", "<")
        assert "own order" in screen.text
        order = screen.kept[0].order
        screen.press("ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, resume=id) as screen:
        assert "own order" in screen.text and screen.kept[0].order == order
        screen.say("/save-preset mine", "/order llama.cpp")
        assert "llama.cpp order" in screen.text
        screen.say("/preset mine")
        assert "own order" in screen.text and screen.kept[0].order == order
