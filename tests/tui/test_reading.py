"""Reading an answer as Markdown, and step mode: the panel and the footer say what is the case."""

import pytest

from app.tui.tokens.layout import TokenPlace
from app.tui.widgets.candidates import Candidates
from tests.support.model import SKY
from tests.tui.conftest import Play

ASK = "Why is the sky blue?"


@pytest.mark.parametrize("moves", [(), ("end",), ("m", "end"), ("m", "m"), ("pageup", "end"), ("m", "home", "end")])
async def test_after_reading_the_newest_token_is_looked_at(play: Play, moves: tuple[str, ...]) -> None:
    async with play(size=(120, 40)) as stage:
        await stage.ask(ASK)
        stage.chat.pane.view.focus()
        await stage.pilot.press("m", *moves)
        await stage.pilot.pause()
        assert "nothing drawn yet" not in stage.picture()
        last = len(stage.shown[1].steps)
        place = stage.chat.pane.place
        assert place is not None and place.block == 1  # not a message of the person's
        assert stage.panel.view is not None and stage.panel.view.title.startswith(f"TOKEN {last}/{last}")


@pytest.mark.slow
async def test_a_command_that_is_none_leaves_step_mode_as_it_was(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        stage.chat.pane.view.focus()
        talk = stage.chat.talk
        await stage.pilot.press("s")
        await stage.until(lambda: talk.peek is not None and not talk.running)
        nodes, calls = len(talk.conversation.nodes), len(stage.engine.calls)
        stage.chat.composer.focus()
        await stage.pilot.press(*"/ banana", "enter")
        await stage.pilot.pause()
        assert talk.stepping and talk.peek is not None and not talk.running
        assert len(talk.conversation.nodes) == nodes and len(stage.engine.calls) == calls
        assert "there is no command" in stage.chat.hints.news


@pytest.mark.slow
async def test_a_message_in_step_mode_is_answered_step_by_step_and_escape_tells_that_it_is_over(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        stage.chat.pane.view.focus()
        talk = stage.chat.talk
        await stage.pilot.press("s")
        await stage.until(lambda: talk.peek is not None and not talk.running)
        await stage.type("and why red")
        await stage.until(lambda: len(stage.shown) == 4 and talk.peek is not None and not talk.running)
        assert talk.stepping and stage.chat.hints.news.startswith("step:") and not stage.shown[3].steps
        for count in (1, 2):
            stage.panel.focus()
            await stage.pilot.press("space")
            await stage.until(lambda count=count: len(stage.shown[3].steps) == count and not talk.running)
        await stage.pilot.press("escape")
        assert not talk.stepping and not stage.chat.hints.news
        await stage.ask("what about sunsets")  # drawn freely again
        assert stage.texts[-1] == SKY


@pytest.mark.slow
@pytest.mark.parametrize("key", ["delete", "right_square_bracket"])
async def test_another_branch_ends_step_mode(play: Play, key: str) -> None:
    """The token that could come next at the end of one branch is not picked at the end of another."""
    async with play() as stage:
        await stage.ask(ASK)
        talk, view = stage.chat.talk, stage.chat.pane.view
        talk.new_seed = lambda: 1
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: stage.ended and len(talk.conversation.nodes) == 3)
        view.focus()
        await stage.pilot.press("s")
        await stage.until(lambda: talk.peek is not None and not talk.running)
        view.focus()
        view.move_to(TokenPlace(0 if key == "delete" else 1, 0))
        await stage.pilot.press(key)
        await stage.pilot.pause()
        nodes = len(talk.conversation.nodes)
        assert not talk.stepping and talk.peek is None and "step:" not in stage.chat.hints.news
        stage.chat.on_candidates_picked(Candidates.Picked(300, "branch"))  # as by a key that was faster
        talk.pick(None)
        await stage.pilot.pause()
        assert stage.app._exception is None and len(talk.conversation.nodes) >= nodes
