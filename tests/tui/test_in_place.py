"""The system prompt and messages, edited in the place where they stand."""

import threading

import pytest

from likely.app.tui.base.layout import TokenPlace
from likely.app.tui.chat.transcript import EDITED
from likely.app.tui.widgets.place_editor import PlaceEditor
from likely.app.tui.widgets.system_line import SystemLine
from tests.support.model import SKY, ScriptedEngine
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"
BRIEF = "You are a physics tutor. Be brief."


def editor(stage: Stage) -> PlaceEditor:
    return stage.chat.query_one(PlaceEditor)


async def edit(stage: Stage, block: int, token: int = 0) -> PlaceEditor:
    """Begin to edit a message of the transcript."""
    stage.chat.pane.view.focus()
    stage.chat.pane.view.move_to(TokenPlace(block, token))
    await stage.pilot.press("e")
    await stage.until(lambda: stage.chat.query(PlaceEditor) and editor(stage).has_focus, "an editor")
    await stage.pilot.pause()
    return editor(stage)


@pytest.mark.slow
async def test_the_system_prompt_is_a_line_that_opens_and_is_edited_in_place(play: Play) -> None:
    async with play() as stage:
        line = stage.chat.query_one(SystemLine)
        assert not line.display
        await stage.type("/system")
        await stage.until(lambda: stage.chat.query(PlaceEditor) and editor(stage).has_focus)
        await stage.pilot.press(*"Be brief", "enter")
        await stage.until(lambda: line.display and line.tokens is not None, "a line with its tokens")
        assert stage.picture().splitlines()[1].startswith(" ▸ system  Be brief") and f"{line.tokens} tok" in (
            stage.picture()
        )
        await stage.ask(ASK)
        assert stage.engine.tokenizer.encode("Be brief")[-1] in stage.engine.calls[-1][1]
        # it opens with z, and e edits it where it stands
        line.focus()
        await stage.pilot.press("z")
        assert " ▾ system" in stage.picture() and line.size.height == 2
        await stage.pilot.press("e")
        await stage.until(lambda: stage.chat.query(PlaceEditor) and editor(stage).has_focus)
        await stage.pilot.pause()
        assert editor(stage).region.y == line.region.y and editor(stage).text == "Be brief"
        await stage.pilot.press(*" please", "enter")
        assert stage.chat.talk.conversation.system == "Be brief please" and "from the next answer on" in (
            stage.chat.hints.news
        )
        await stage.pilot.press("ctrl+o")  # it is part of the session
        await stage.until(lambda: stage.app.store is not None and stage.app.store.sessions())
        store = stage.app.store
        assert store is not None and store.load(stage.chat.talk.conversation.id).system == "Be brief please"


@pytest.mark.slow
async def test_escape_leaves_the_system_prompt_and_an_empty_one_goes(play: Play) -> None:
    async with play() as stage:
        await stage.type(f"/system {BRIEF}")
        line = stage.chat.query_one(SystemLine)
        await stage.until(lambda: line.display)
        await stage.pilot.click(SystemLine)
        assert not line.folded
        await stage.pilot.pause()
        await stage.pilot.click(SystemLine, offset=(8, 1))  # a click on the text edits
        await stage.until(lambda: stage.chat.query(PlaceEditor) and editor(stage).has_focus)
        await stage.pilot.press(*"xyz", "escape")
        await stage.until(lambda: not stage.chat.query(PlaceEditor))
        assert stage.chat.talk.conversation.system == BRIEF
        line.focus()
        await stage.pilot.press("e")
        await stage.until(lambda: stage.chat.query(PlaceEditor) and editor(stage).has_focus)
        editor(stage).text = ""
        await stage.pilot.press("enter")
        await stage.until(lambda: not line.display)
        assert stage.chat.talk.conversation.system == ""


@pytest.mark.slow
async def test_an_edited_answer_keeps_its_tokens_up_to_there_and_is_measured_from_there_on(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        drawn = list(stage.shown[1].steps)
        await stage.ask("and why red")
        box = await edit(stage, 1, 3)
        assert box.text == SKY and box.region.y == stage.chat.pane.view.region.y + 4  # over the answer
        box.take(" The sky looks red because air is blue")
        await stage.pilot.press("enter")
        await stage.until(lambda: len(stage.shown) == 2 and stage.texts[1].endswith("air is blue"), "a branch")
        steps = stage.shown[1].steps
        assert steps[:3] == drawn[:3] and steps[3].text == " red"
        assert [step.origin for step in steps[:5]] == ["drawn"] * 3 + ["given"] * 2
        assert all(step.logprob is not None and step.snapshot is not None for step in steps[3:])
        assert stage.chat.talk.conversation.leaf.finish == EDITED  # type: ignore[union-attr]
        assert "edited" in stage.picture() and not stage.chat.query(PlaceEditor)
        # what followed is on the branch that was left
        await stage.pilot.press("right_square_bracket")
        await stage.until(lambda: len(stage.shown) == 4)
        assert stage.texts[1] == SKY
        # given tokens are told apart from drawn ones of the same tint
        await stage.pilot.press("right_square_bracket")
        await stage.until(lambda: len(stage.shown) == 2)
        assert [token.given for token in stage.shown[1].block.tokens[:5]] == [False] * 3 + [True] * 2
        assert "\x1b[3" in stage.painted()  # italic


@pytest.mark.slow
async def test_tab_keeps_an_edit_and_has_the_model_go_on_from_its_very_tokens(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        box = await edit(stage, 1)
        box.take(" The sky looks red")
        await stage.pilot.press("tab")
        await stage.until(lambda: stage.ended and len(stage.chat.talk.conversation.nodes) == 4, "an answer")
        steps = stage.shown[1].steps
        assert [step.origin for step in steps[:5]] == ["drawn"] * 3 + ["given", "drawn"]
        asked = next(ids for kind, ids in reversed(stage.engine.calls) if kind == "generate")
        assert asked[-4:] == [step.token for step in steps[:4]]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "kept"), [(SKY + " So", -1), (" The sky looks", 3), ("Blue", 0)])
async def test_an_answer_grows_shrinks_or_is_another(play: Play, text: str, kept: int) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        drawn = [step for step in stage.shown[1].steps if not step.special]
        (await edit(stage, 1)).take(text)
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.texts[1] == text, "the words as they were written")
        own = [step for step in stage.shown[1].steps if step.origin == "drawn"]
        assert own == (drawn if kept < 0 else drawn[:kept])
        await stage.ask("and why")  # the conversation goes on after it
        assert stage.texts[1] == text and len(stage.shown) == 4


@pytest.mark.slow
async def test_without_a_model_the_words_stand_as_written_and_are_measured_later(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        stage.chat.talk.facts = None
        (await edit(stage, 1)).take(" The sky looks red")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.texts[1] == " The sky looks red")
        assert not stage.shown[1].steps and stage.chat.talk.conversation.leaf.text  # type: ignore[union-attr]
        stage.chat.talk.facts = stage.app.engine.current
        stage.chat.pane.view.move_to(TokenPlace(1, 0))
        await stage.until(lambda: stage.shown[1].steps, "its words measured")


@pytest.mark.slow
async def test_nothing_in_the_place_of_an_answer_is_refused_and_escape_changes_nothing(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        nodes = dict(stage.chat.talk.conversation.nodes)
        box = await edit(stage, 1)
        box.take("  ")
        await stage.pilot.press("enter")
        assert "a message has words" in stage.chat.hints.news and box.is_attached
        await stage.pilot.press("escape")
        await stage.until(lambda: not stage.chat.query(PlaceEditor))
        await edit(stage, 1)
        await stage.pilot.press("enter")  # as it was
        await stage.until(lambda: not stage.chat.query(PlaceEditor))
        assert dict(stage.chat.talk.conversation.nodes) == nodes


@pytest.mark.slow
async def test_editing_while_the_answer_comes_ends_it(play: Play) -> None:
    engine = ScriptedEngine()
    gate = threading.Event()
    engine.pace = lambda drawn: gate.wait(30) and None if drawn == 6 else None
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 6)
        box = await edit(stage, 1, 0)
        box.take(" The sky is")
        await stage.pilot.press("enter")
        gate.set()
        await stage.until(lambda: not stage.chat.talk.running and stage.texts[1] == " The sky is")
        assert len(stage.chat.talk.conversation.nodes) == 3


async def test_an_edit_that_is_being_measured_when_another_conversation_opens_is_kept_as_words(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        talk, send = stage.chat.talk, stage.chat.talk.send
        talk.send = lambda request: -7  # the answer never comes
        talk.edit(1, " The sky looks red")
        assert talk.rewriting and stage.texts[1] == SKY
        talk.send = send
        await stage.pilot.press("ctrl+n")
        assert not stage.shown and talk.conversation.messages()[1].text == " The sky looks red"
        store = stage.app.store
        assert store is not None
        kept = lambda: store.load(talk.conversation.id).messages()[1].text == " The sky looks red"  # noqa: E731
        await stage.until(kept, "it on the disk")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20), (30, 8)])
async def test_an_editor_fits_every_screen(play: Play, size: tuple[int, int]) -> None:
    async with play(size=size) as stage:
        await stage.ask(ASK)
        await stage.ask("and why red")
        box = await edit(stage, 3)
        left = stage.chat.pane.region
        assert left.contains_region(box.region) and box.region.height >= min(3, left.height)
        await stage.pilot.resize_terminal(100, 30)
        await stage.pilot.pause()
        assert stage.chat.pane.region.contains_region(box.region)
