"""Sampler and tree in the room that there is: what acts and the current leaf stay in view, neither hides the other."""

import threading

import pytest

from app.tui.tokens.layout import TokenPlace
from tests.support.model import ScriptedEngine
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"


async def branches(stage: Stage, count: int) -> None:
    """An answer with so many branches inside of it, the first one checked out."""
    await stage.ask(ASK)
    talk = stage.chat.talk
    for token in range(1, count):
        nodes = len(talk.conversation.nodes)
        talk.branch(TokenPlace(1, 2 * token), talk.transcript.shown[1].steps[0].token)
        stage.chat.begun(True)
        await stage.until(lambda nodes=nodes: stage.ended and len(talk.conversation.nodes) > nodes)
    stage.chat.pane.action_sibling(1)
    await stage.pilot.pause()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(160, 45), (120, 40), (100, 30)])
async def test_what_acts_and_the_current_leaf_are_seen_together(play: Play, size: tuple[int, int]) -> None:
    async with play(size=size) as stage:
        await branches(stage, 12)
        stage.chat.pane.view.focus()
        if size[0] < 110:
            while stage.chat.inspector.face != "sampler":
                await stage.pilot.press("w")
        await stage.until(lambda: "TREE" in stage.picture() and "SAMPLER" in stage.picture())
        picture, tree = stage.picture(), stage.chat.inspector.tree_pane
        assert all(word in picture for word in ("top-p", "min-p", "temperature", "0.80"))
        here = max(i for i, way in enumerate(tree.ways) if way.on)
        assert tree.top <= here < tree.top + tree.size.height - 1 and "◀" in picture
        assert len(tree.ways) > tree.size.height  # there are more than there is room for


@pytest.mark.slow
async def test_where_there_is_no_room_for_two_they_take_turns(play: Play) -> None:
    async with play(size=(70, 24)) as stage:
        await branches(stage, 3)
        stage.chat.pane.view.focus()
        seen = []
        for _ in range(5):
            await stage.pilot.press("w")
            await stage.pilot.pause()
            picture = stage.picture()
            seen.append(("TREE" in picture, "SAMPLER" in picture))
        assert (True, False) in seen and (False, True) in seen and (True, True) not in seen


async def test_a_branch_that_is_being_drawn_says_how_it_begins(play: Play) -> None:
    engine, gate = ScriptedEngine(), threading.Event()
    async with play(engine) as stage:
        await stage.ask(ASK)
        engine.pace = lambda drawn: gate.wait(30) and None if drawn == 8 else None
        stage.chat.talk.new_seed = lambda: 1
        await stage.pilot.press("ctrl+r")
        tree = stage.chat.inspector.tree_pane
        await stage.until(lambda: len(tree.ways) == 3 and tree.ways[2].text.startswith("Blue light"), "its first words")
        assert stage.chat.talk.running and tree.ways[2].on
        gate.set()
        await stage.until(lambda: stage.ended)
