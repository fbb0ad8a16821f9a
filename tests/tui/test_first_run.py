"""Which model the screen begins with: what was used last, what is here, or, on an empty machine, an offer."""

from pathlib import Path

import pytest

from likely.app.tui.dialogs.models import FIRST, Models
from likely.app.tui.widgets.welcome import EXAMPLES
from likely.engine import preferences
from likely.engine.errors import CheckpointError
from tests.support.model import BLUE, SKY, ScriptedEngine
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"


async def offered(stage: Stage) -> Models:
    """The offer, once it is there."""
    await stage.until(lambda: isinstance(stage.app.screen, Models), "an offer")
    screen = stage.app.screen
    assert isinstance(screen, Models)
    return screen


@pytest.mark.slow
async def test_an_empty_machine_is_offered_what_fits_and_the_message_waits(play: Play) -> None:
    async with play(empty=True, loaded=False) as stage:
        await offered(stage)
        picture = stage.picture()
        assert FIRST in picture and "98 MB" in picture and "apache-2.0" in picture and "to fetch" in picture
        assert "too big" not in picture and "fetches and loads it" in picture
        await stage.pilot.press("escape")
        await stage.until(lambda: stage.app.screen is stage.chat)
        assert "no model" in stage.picture()
        await stage.type(ASK)
        assert stage.chat.talk.waiting is not None and "no model" in stage.chat.hints.news
        stage.app.choose_model()
        screen = await offered(stage)
        await stage.until(lambda: screen.offers)
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.ended, "the answer to what waited")
        assert stage.texts == [ASK, SKY]


@pytest.mark.slow
async def test_without_a_network_the_offer_stands_and_says_so(play: Play) -> None:
    def offline(model: str) -> None:
        raise CheckpointError(f"{model} cannot be fetched: there is no network")

    async with play(empty=True, loaded=False) as stage:
        await offered(stage)
        stage.shop.asked = offline
        await stage.pilot.press("enter")
        await stage.until(lambda: "there is no network" in stage.chat.hints.news)
        assert stage.app.engine.loading is None and stage.app.engine.current is None
        stage.shop.asked = lambda _: None
        stage.app.choose_model()
        await offered(stage)
        await stage.until(lambda: "to fetch" in stage.picture())
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.app.engine.current is not None)


@pytest.mark.slow
async def test_a_download_can_be_stopped(play: Play) -> None:
    async with play(empty=True, loaded=False) as stage:
        await offered(stage)
        stage.shop.downloading = True
        await stage.pilot.press("enter")
        await stage.until(lambda: "downloading scripted 1 %" in stage.chat.hints.news, "a download")
        await stage.pilot.press("escape")
        await stage.until(lambda: "was stopped" in stage.chat.hints.news)
        assert stage.app.engine.loading is None and stage.app.engine.current is None


@pytest.mark.slow(3)
async def test_the_model_that_was_used_last_is_loaded_and_a_resumed_one_its_own(play: Play) -> None:
    def engines() -> tuple[ScriptedEngine, ScriptedEngine]:
        return ScriptedEngine(), ScriptedEngine("other", scripts=[BLUE])

    async with play(*engines()) as stage:
        assert stage.app.engine.current is not None and stage.app.engine.current.name == "scripted"
        await stage.ask(ASK)
        first = stage.chat.resumable()
        stage.app.clock = lambda: 2e9
        await stage.pilot.press("ctrl+n")
        await stage.type("/model other")
        await stage.until(lambda: stage.app.engine.current is not None and stage.app.engine.current.name == "other")
        assert (
            list(stage.app.engine.models) == ["other"] and ("close", []) in stage.engine.calls
        )  # one at a time in memory
        await stage.ask(ASK)
        assert stage.texts == [ASK, BLUE]
    async with play(*engines()) as stage:
        assert stage.app.engine.current is not None and stage.app.engine.current.name == "other"
    async with play(*engines(), resume=first) as stage:
        assert stage.app.engine.current is not None and stage.app.engine.current.name == "scripted"


@pytest.mark.slow
async def test_a_model_that_was_removed_while_it_was_open_goes_on_and_its_reload_is_refused(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)

        def gone(model: str) -> None:
            raise CheckpointError(f"{model} is not there any more")

        stage.shop.asked = gone
        stage.chat.talk.new_seed = lambda: 1
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: stage.ended and stage.texts[-1] == BLUE)
        await stage.type("/reload")
        await stage.until(lambda: "not there any more" in stage.chat.hints.news)
        assert stage.texts == [ASK, BLUE] and "no model" in stage.picture()


@pytest.mark.slow
async def test_the_model_in_use_is_the_one_that_every_verb_uses_where_none_is_named(play: Play, tmp_path: Path) -> None:
    def engines() -> tuple[ScriptedEngine, ScriptedEngine]:
        return ScriptedEngine(), ScriptedEngine("other", scripts=[BLUE])

    home = tmp_path / "home"
    async with play(*engines()) as stage:
        await stage.ask(ASK)
        assert preferences.chosen(home) == "scripted"
    preferences.choose("other", home)  # as `likely models --default other` does
    async with play(*engines()) as stage:
        assert stage.app.engine.current is not None and stage.app.engine.current.name == "other"


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20), (44, 20)])
async def test_a_newcomer_begins_with_enter_and_reads_whole_sentences(play: Play, size: tuple[int, int]) -> None:
    async with play(size=size) as stage:
        said = " ".join(stage.picture().split())
        assert EXAMPLES[0].split()[0] in said and "…" not in said.split("another example")[0].split("bits on")[-1]
        await stage.pilot.press("down")
        assert stage.chat.pane.example == EXAMPLES[1]
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.ended)
        assert stage.texts == [EXAMPLES[1], SKY]
        await stage.pilot.press("enter")  # nothing is said twice by accident
        assert len(stage.shown) == 2 and not stage.chat.talk.running


@pytest.mark.slow
async def test_the_text_page_greets_and_help_names_what_acts_there(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("f4")
        assert "every token is measured" in stage.picture()
        await stage.pilot.press("f1")
        text = str(stage.app.screen.query_one("VerticalScroll Static").render())
        assert "continue from the cursor" in text and "/preset" not in text and "click a token" not in text
        await stage.pilot.press("escape", "f2", "f1")
        text = str(stage.app.screen.query_one("VerticalScroll Static").render())
        assert "/preset" in text and "click a token" in text
        await stage.pilot.press("escape", "f7", "f1")
        text = str(stage.app.screen.query_one("VerticalScroll Static").render())
        assert "measure models on tasks" in text and "the model on the right" in text and "/preset" not in text
