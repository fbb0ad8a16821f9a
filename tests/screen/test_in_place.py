"""The system prompt and messages, edited in the place where they stand."""

from pathlib import Path

import pytest

from likely.engine.base.errors import CheckpointError
from tests.support.everyday import everyday
from tests.support.model import BLUE, SKY, ScriptedEngine, ScriptedShop
from tests.support.screen import Screen

ASK = "Why is the sky blue?"
EMPTIED = ["ctrl+u", "backspace"] * 9  # row by row


def edit_answer(screen: Screen, text: str, key: str = "enter") -> None:
    """Put other words in the place of the newest answer."""
    screen.press("tab", "left", "e", *EMPTIED)
    screen.paste(text)
    screen.press(key)


def test_the_system_prompt_is_a_line_that_opens_and_is_edited_in_place(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Screen(tmp_path, engine) as screen:
        assert "system" not in screen.lines[1]
        screen.say("/system", "Be brief")
        assert screen.lines[1].startswith(" ▸ system  Be brief") and " tok ▏" in screen.lines[1]
        screen.press("escape")
        screen.say(ASK)
        brief = engine.tokenizer.encode("Be brief")
        read = next(ids for kind, ids in engine.calls if kind == "generate")
        assert f" {len(brief)} tok" in screen.lines[1]
        assert any(read[at : at + len(brief)] == brief for at in range(len(read)))
        screen.click("▸ system")
        assert screen.lines[1].startswith(" ▾ system") and screen.lines[2].startswith("   Be brief")
        screen.press("z")
        assert screen.lines[1].startswith(" ▸ system  Be brief")
        screen.press("z")
        screen.click("Be brief")
        assert "│ Be brief" in screen.lines[2]  # where it stands
        screen.say(" please")
        assert screen.kept[0].system == "Be brief please" and "from the next answer on" in screen.lines[-1]


def test_escape_leaves_the_system_prompt_and_an_empty_one_goes(screen: Screen) -> None:
    screen.say("/system You are a tutor.")
    screen.press("escape")
    screen.say(ASK)
    screen.click("▸ system")
    screen.press("e")
    screen.type("xyz")
    screen.press("escape")
    assert screen.kept[0].system == "You are a tutor." and "xyz" not in screen.text
    screen.click("▾ system")
    screen.press("e", "end", "ctrl+u", "enter")
    assert screen.kept[0].system == "" and "system" not in screen.lines[1]


@pytest.mark.parametrize(
    ("written", "drawn"),
    everyday([(SKY + " So", 66), (" The sky looks", 3), (" The sky looks red because air", 3), ("Blue", 0)], 2),
)
def test_an_edited_answer_keeps_its_tokens_up_to_there_and_is_measured_from_there_on(
    screen: Screen, written: str, drawn: int
) -> None:
    screen.say(ASK, "and why red")
    screen.press("tab", "ctrl+home", "down")
    before = screen.kept[0].messages()[1].steps
    screen.press("e", *EMPTIED)
    screen.paste(written)
    screen.press("enter")
    talk = screen.kept[0]
    assert screen.said == [ASK, written] and talk.leaf is not None and talk.leaf.finish == "edited"
    steps = talk.messages()[1].steps
    assert list(steps[:drawn]) == list(before[:drawn]) and {step.origin for step in steps[drawn:]} <= {"given"}
    assert steps[-1].text == written[-len(steps[-1].text) :] and all(step.logprob is not None for step in steps)
    screen.press("]")  # what followed is on the branch that was left
    assert screen.said == [ASK, SKY, "and why red", BLUE]
    screen.press("]", "escape")
    screen.say("and why")  # the conversation goes on after what was written
    assert screen.said[:3] == [ASK, written, "and why"] and len(screen.said) == 4


def test_tab_keeps_an_edit_and_has_the_model_go_on_from_its_very_tokens(tmp_path: Path) -> None:
    engine = ScriptedEngine()
    with Screen(tmp_path, engine) as screen:
        screen.say(ASK)
        edit_answer(screen, " The sky looks red", "tab")
        steps = screen.kept[0].messages()[1].steps
        assert [step.origin for step in steps[:5]] == ["drawn"] * 3 + ["given", "drawn"]
        asked = next(ids for kind, ids in reversed(engine.calls) if kind == "generate")
        assert asked[-4:] == [step.token for step in steps[:4]]


@pytest.mark.slow
def test_without_a_model_the_words_stand_as_written_and_are_measured_later(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        id = screen.kept[0].id
    with Screen(tmp_path, shop=ScriptedShop(empty=True), resume=id) as screen:
        screen.press("escape")
        edit_answer(screen, " The sky looks red")
        assert screen.said == [ASK, " The sky looks red"] and not screen.kept[0].messages()[1].steps
        screen.press("escape")
        screen.say("/model scripted")
        screen.press("tab", "left")
        screen.wait()
        assert "4 tok · ppl" in screen.text and "TOKEN 3/4  ·looks" in screen.text


def test_nothing_in_the_place_of_an_answer_is_refused_and_escape_changes_nothing(screen: Screen) -> None:
    screen.say(ASK)
    nodes = screen.kept[0].nodes.keys()
    edit_answer(screen, "  ")
    assert "a message has words" in screen.lines[-1]
    screen.press("escape", "tab", "left", "e", "enter")  # as it was
    assert screen.kept[0].nodes.keys() == nodes and screen.said == [ASK, SKY]


def test_editing_while_the_answer_comes_ends_it(screen: Screen) -> None:
    screen.hold(after=6)
    screen.say(ASK)
    edit_answer(screen, " The sky is")
    screen.release()
    assert screen.said == [ASK, " The sky is"] and len(screen.kept[0].nodes) == 3
    assert "esc Stop" not in screen.lines[-1]


def test_an_edit_that_is_being_measured_when_another_conversation_opens_is_kept_as_words(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("tab", "left", "e", *EMPTIED)
    screen.paste(" The sky looks red")
    screen.burst("enter", "ctrl+n")
    assert screen.said == [ASK, " The sky looks red"] and "Ask anything" in screen.text


@pytest.mark.slow(4)
@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20), (30, 8)], ids=str)
def test_an_editor_fits_every_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    with Screen(tmp_path, size=size) as screen:
        screen.say(ASK, "and why red")
        screen.press("tab", "left", "e")
        for width, height in (size, (100, 30)):
            screen.resize(width, height)
            screen.type("qz")
            assert "qz" in screen.text and max(map(len, screen.lines)) <= width
        screen.press("enter")
        assert screen.said[3] == BLUE + "qzqz"


def test_who_edits_a_word_that_is_looked_at_sees_the_new_answer(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("tab", "ctrl+home")
    screen.wait()
    assert "TOKEN 1/" in screen.text
    screen.press("e")
    screen.say(" Say why")
    screen.wait()
    assert "branch 2/2" in screen.text and "looking…" not in screen.text and "rank" in screen.lines[2]


def test_a_word_that_is_looked_at_is_measured_when_a_model_comes(tmp_path: Path) -> None:
    def gone(model: str) -> None:
        raise CheckpointError(f"{model} is not there any more")

    shop = ScriptedShop(ScriptedEngine(), ScriptedEngine("other"))
    with Screen(tmp_path, shop=shop) as screen:
        shop.asked = gone
        screen.say(ASK, "/reload")
        screen.press("tab", "ctrl+home")
        assert "needs the model" in screen.lines[2]
        shop.asked = lambda _: None
        screen.press("shift+tab")
        screen.say("/model other")
        screen.wait()
        assert "looking…" not in screen.lines[2] and "bits  rank" in screen.lines[2]
