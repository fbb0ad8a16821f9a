"""Which model the screen begins with: the last one, what is here, or an offer; nothing typed meanwhile is lost."""

from pathlib import Path
from signal import SIGTERM, Signals

import pytest

from likely.engine.base.errors import CheckpointError
from likely.engine.base.files import preferences
from likely.engine.weights.adapters.config import Config
from tests.support.everyday import everyday
from tests.support.model import BLUE, SKY, ScriptedEngine, ScriptedShop
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def two() -> tuple[ScriptedEngine, ScriptedEngine]:
    return ScriptedEngine(), ScriptedEngine("other", scripts=[BLUE])


def test_an_offer_can_be_left_and_the_message_waits_for_a_model(tmp_path: Path) -> None:
    with Screen(tmp_path, shop=ScriptedShop(empty=True)) as screen:
        assert "There is no model on this machine yet" in screen.text
        assert all(words in screen.text for words in ("98 MB", "apache-2.0", "to fetch", "⏎ fetches and loads it"))
        assert "too big" not in screen.text and "big-model" not in screen.text
        screen.press("escape")
        assert "no model" in screen.lines[0]
        screen.say(ASK)
        assert "no model" in screen.lines[-1]
        screen.say("/model")
        screen.press("enter")
        assert screen.said == [ASK, SKY]


def test_where_the_model_that_was_chosen_is_gone_the_question_for_another_says_so(tmp_path: Path) -> None:
    preferences.choose("tuned", tmp_path / "home")
    with Screen(tmp_path, shop=ScriptedShop(empty=True)) as screen:
        assert "tuned, which was chosen last, is gone." in screen.text


def test_without_a_network_the_offer_stands_and_says_so(tmp_path: Path) -> None:
    def offline(model: str) -> None:
        raise CheckpointError(f"{model} cannot be fetched: there is no network")

    shop = ScriptedShop(empty=True)
    with Screen(tmp_path, shop=shop) as screen:
        shop.asked = offline
        screen.press("enter")
        assert "there is no network" in screen.lines[-1] and "no model" in screen.lines[0]
        shop.asked = lambda _: None
        screen.say("/model")
        screen.press("enter")
        assert "│ scripted" in screen.lines[0]


def test_a_download_can_be_stopped(tmp_path: Path) -> None:
    shop = ScriptedShop(empty=True)
    with Screen(tmp_path, shop=shop) as screen:
        shop.downloading = True
        screen.press("enter")
        assert "downloading scripted 1 %" in screen.text
        screen.press("f10")  # the course says so too, and is left as ever
        assert "│ scripted" in screen.lines[0] and "downloading scripted 1 %" in screen.lines[0]
        screen.press("f2", "escape")
        assert "was stopped" in screen.lines[-1] and "no model" in screen.lines[0]


@pytest.mark.slow
def test_the_model_that_was_used_last_is_loaded_and_a_resumed_one_its_own(tmp_path: Path) -> None:
    first, other = two()
    with Screen(tmp_path, first, other) as screen:
        screen.say(ASK)
        id = screen.kept[0].id
        screen.press("ctrl+n")
        screen.wait(60)
        screen.say("/model other", ASK)
        assert ("close", []) in first.calls  # one at a time in memory
        assert preferences.chosen(screen.home) == "other"
        assert screen.said == [ASK, BLUE]
    for prefer in ("other", "scripted", "other"):
        preferences.choose(prefer, tmp_path / "home")  # as `likely models --default` does
        with Screen(tmp_path, *two()) as screen:
            assert f"│ {prefer}" in screen.lines[0]
    with Screen(tmp_path, *two(), resume=id) as screen:
        assert "│ scripted" in screen.lines[0]


@pytest.mark.parametrize("last", ["scripted", "third"])
def test_the_model_that_was_asked_for_last_is_the_one_that_answers(tmp_path: Path, last: str) -> None:
    """Also where that is the one there was, while another comes."""
    shop = ScriptedShop(ScriptedEngine(), ScriptedEngine("other"), ScriptedEngine("third"))
    with Screen(tmp_path, shop=shop) as screen:
        shop.downloading = True
        screen.say("/model other")
        assert "downloading other" in screen.text
        screen.say(f"/model {last}")
        shop.downloading = False
        screen.wait()
        assert f"│ {last}" in screen.lines[0]
        screen.say(ASK)
        assert screen.said == [ASK, SKY]


def test_a_model_that_was_removed_while_it_was_open_goes_on_and_its_reload_is_refused(tmp_path: Path) -> None:
    def gone(model: str) -> None:
        raise CheckpointError(f"{model} is not there any more")

    shop = ScriptedShop()
    with Screen(tmp_path, shop=shop) as screen:
        screen.say(ASK)
        shop.asked = gone
        screen.press("ctrl+r")
        assert screen.said == [ASK, BLUE]
        screen.say("/reload")
        assert "not there any more" in screen.lines[-1] and "no model" in screen.lines[0]
        assert BLUE.strip()[:50] in screen.text


def test_a_newcomer_begins_with_enter_and_reads_whole_sentences(screen: Screen) -> None:
    for size in ((120, 40), (80, 24), (60, 20), (44, 20)):
        screen.resize(*size)
        said = " ".join(" ".join(line.partition("▏")[0] for line in screen.lines).split())
        assert "Ask anything. The words that surprised the model are marked, from 2 bits on:" in said
        assert "…" not in said.split("another example")[0].split("bits on")[-1]
    screen.press("down", "enter")
    assert screen.said == ["Write a haiku about rain on a tin roof.", SKY]
    screen.press("enter")  # nothing is said twice by accident
    assert len(screen.said) == 2


@pytest.mark.slow(3)
def test_the_text_page_greets_and_help_names_what_acts_there(tmp_path: Path) -> None:
    acts = {"f4": "continue from the cursor", "f2": "click a token", "f7": "measure models on tasks"}
    with Screen(tmp_path, size=(120, 200)) as screen:
        for key, words in acts.items():
            screen.press(key)
            assert key != "f4" or "every token is measured" in screen.text
            screen.press("f1")
            assert {each: each in screen.text for each in acts.values()} == {
                each: each == words for each in acts.values()
            }
            assert ("/preset" in screen.text) == (key == "f2")
            screen.press("escape")


def test_base_models_say_so(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(chat=False)) as screen:
        assert "base model" in screen.lines[-1]


TURNS = (0, 8, 20, 36)  # of the program's loop, between the first paint and the end of the start


@pytest.mark.parametrize("turns", everyday(TURNS, 3))
def test_what_is_typed_while_it_starts_stands_in_the_prompt(tmp_path: Path, turns: int) -> None:
    with Screen(tmp_path, typed="Why is the sky blue?", turns=turns) as screen:
        assert "│ Why is the sky blue?" in screen.text
        screen.type(" And red?")
        assert "│ Why is the sky blue? And red?" in screen.text


@pytest.mark.parametrize("turns", everyday(TURNS, 3))
def test_a_message_that_is_sent_while_it_starts_is_answered(tmp_path: Path, turns: int) -> None:
    keys = (*"what about  sunsets", *["left"] * 8, "backspace", "enter")
    with Screen(tmp_path, ScriptedEngine(scripts=[BLUE]), typed=keys, turns=turns) as screen:
        assert "scattered in all directions" in screen.text
        assert next(node.text for node in screen.kept[0].nodes.values()) == "what about sunsets"


@pytest.mark.parametrize("turns", everyday((2, 4, 20), 3))
@pytest.mark.parametrize("end", ["ctrl+q", SIGTERM])
def test_it_is_left_while_it_starts(tmp_path: Path, end: str | Signals, turns: int) -> None:
    with Screen(tmp_path, typed=[end], turns=turns) as screen:
        assert not screen.running


def test_what_a_command_opened_has_what_was_typed_meanwhile(tmp_path: Path) -> None:
    run = Config(model="scripted", data="rows.jsonl", out="out")
    with Screen(tmp_path, tune=run, typed="Hello", turns=20) as screen:
        assert "Hello" in screen.text
