"""A run of several branches: drawn live by the tree, kept in the conversation, checked out, read and reopened."""

from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from app import requests as r
from app.store import Store
from app.tui.chat.live_run import LiveRun
from app.worker import Failed
from engine.conversation import Conversation, Fork, Node
from engine.decode.control import RunControl
from engine.decode.events import Emitted, Prefilled
from tests.support.model import PLANS, SKY, Planned, ScriptedEngine
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"


def texts(talk: Conversation) -> dict[str, str]:
    """The whole text of every branch that ends, those that are put away too, and how it ended."""
    talk = replace(talk, pruned=frozenset())
    found = {}
    for node in talk.nodes.values():
        if node.finish and node.role == "assistant":
            message = talk.reveal(node.id, max(len(node) - 1, 0)).messages()[-1]
            found[message.text] = node.finish
    return found


async def search(stage: Stage, plan: str) -> None:
    """Ask, the engine following a plan to its end."""
    stage.chat.talk.strategy = Planned(plan)
    await stage.ask(ASK)


@pytest.mark.slow
async def test_a_search_is_drawn_live_by_the_tree_and_its_branches_stay(play: Play) -> None:
    engine = ScriptedEngine()
    gates = {turn: Event() for turn in (6, 8)}  # before the second fork; after the first branch was given up
    engine.pace = lambda turn: gates[turn].wait(5) and None if turn in gates else None
    async with play(engine) as stage:
        tree = stage.chat.inspector.tree_pane
        stage.chat.talk.strategy = Planned("search")
        await stage.type(ASK)
        await stage.until(lambda: len(tree.ways) == 4, "three branches in the tree")
        assert stage.chat.talk.running and [way.text for way in tree.ways[1:]] == ["…blue", "…red", "…light"]
        assert stage.texts[1] == " The sky looks blue"
        gates[6].set()
        await stage.until(lambda: stage.chat.talk.conversation.pruned, "a branch that was given up")
        await stage.until(lambda: "…light" not in [way.text for way in tree.ways])
        assert [way.text for way in tree.ways[1:3]] == ["…blue", "…red"] and len(tree.ways) == 5
        assert stage.chat.talk.running
        gates[8].set()
        await stage.until(lambda: stage.ended, "the end of every branch")
        ended = {
            " The sky looks blue because": "eot", " The sky looks red because air": "eot",
            " The sky looks red sunlight": "length", " The sky looks light": "pruned",
        }  # fmt: skip
        assert texts(stage.chat.talk.conversation) == ended
        assert stage.texts == [ASK, " The sky looks blue because"]  # what was on the screen stayed there
        assert len(tree.ways) == 5 and not any(way.given_up for way in tree.ways)
        stage.chat.pane.view.focus()
        await stage.pilot.press("u")  # what was given up is put away, and comes back, marked
        await stage.until(lambda: stage.texts[1] == " The sky looks light")
        assert [way.text for way in tree.ways if way.given_up] == ["…light"] and len(tree.ways) == 6
        note = stage.chat.talk.transcript.note(1)
        assert "pruned" in note and "branch 3/3" in note
        table = stage.panel.view
        assert table is not None and table.rows[0].chosen and table.name == "·light"
        stage.chat.save()
        id = stage.chat.resumable()
    async with play(resume=id) as stage:
        assert stage.texts == [ASK, " The sky looks light"]
        assert texts(stage.chat.talk.conversation) == ended
        assert len(stage.chat.inspector.tree_pane.ways) == 6


@pytest.mark.slow
async def test_where_the_branch_in_sight_is_given_up_another_is_followed(play: Play) -> None:
    async with play() as stage:
        await search(stage, "lost")
        assert stage.texts == [ASK, " The sky looks blue"]
        assert texts(stage.chat.talk.conversation)[" The sky glow"] == "pruned"


@pytest.mark.slow
async def test_an_accepted_revision_is_a_new_node_at_a_fork(play: Play) -> None:
    async with play() as stage:
        await search(stage, "revised")
        assert stage.texts == [ASK, " The sky seem blue because air"]
        assert texts(stage.chat.talk.conversation) == {
            " The sky looks blue because": "revised", " The sky seem red because air": "revised",
            " The sky seem blue because air": "eot",
        }  # fmt: skip
        stage.chat.pane.view.focus()
        await stage.pilot.press("left_square_bracket")
        await stage.until(lambda: stage.texts[1] == " The sky seem red because air")


async def test_several_answers_at_once_are_siblings(play: Play) -> None:
    async with play() as stage:
        await search(stage, "several")
        assert texts(stage.chat.talk.conversation) == {" The sky looks": "eot", " Blue light": "eot"}
        assert "branch 1/2" in stage.chat.talk.transcript.note(1)


@pytest.mark.slow
async def test_a_text_keeps_the_branches_of_a_search_too(play: Play) -> None:
    async with play() as stage:
        stage.engine.plan = "search"
        await stage.pilot.press("f4")
        screen = stage.app.views[-1]
        screen.buffer.insert(" light")  # type: ignore[attr-defined]
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: screen.run is None and len(screen.inspector.tree_pane.ways) == 5)  # type: ignore[attr-defined]
        assert screen.buffer.text == " light The sky looks blue because"  # type: ignore[attr-defined]


@pytest.mark.slow
async def test_another_branch_in_the_middle_of_an_answer_loses_no_token(play: Play) -> None:
    engine, gate = ScriptedEngine(), Event()
    async with play(engine) as stage:
        await stage.ask(ASK)
        engine.pace = lambda drawn: gate.wait(5) and None if drawn == 6 else None
        stage.chat.talk.new_seed = lambda: 1
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 6)
        drawn = "".join(step.text for step in stage.shown[1].steps)  # not all of it was saved
        stage.chat.pane.view.focus()
        await stage.pilot.press("left_square_bracket")
        await stage.until(lambda: stage.texts[1] == SKY)
        gate.set()
        assert texts(stage.chat.talk.conversation)[drawn] == "cancelled"


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("every", [1, 2, 5, 99])
def test_how_often_it_is_kept_changes_nothing(plan: str, every: int) -> None:
    """Whenever the conversation is asked for, it is whole, and in the end the branches are the same ones."""
    engine, ids = ScriptedEngine(), iter(range(10**6))
    asked = Conversation("c").add(Node("u", Fork(), "user", text=ASK)).add(Node("a", Fork("u"), "assistant"))

    def played(every: int) -> dict[str, str]:
        talk, run = asked, LiveRun("a", RunControl(), lambda: f"n{next(ids)}")
        prompt = [1, 2, 3]
        events: list[Any] = [r.Began(tuple(prompt)), *engine.generate(prompt, run.control, strategy=Planned(plan))]
        for start in range(0, len(events), every):
            talk, fresh = run.take(talk, events[start : start + every])
            seen = talk.messages()[-1]
            assert seen.last.id == run.node and (not fresh or run.steps[-len(fresh) :] == fresh)
            talk = run.keep(talk)
            assert talk.messages()[-1].text.endswith("".join(step.text for step in run.steps))
        assert run.ended
        return texts(run.close(talk, "never"))

    assert played(every) == played(10**6)


def test_what_was_drawn_stays_where_a_run_fails_or_is_stopped() -> None:
    engine, ids = ScriptedEngine(), iter(range(10**6))
    asked = Conversation("c").add(Node("u", Fork(), "user", text=ASK)).add(Node("a", Fork("u"), "assistant"))
    events = list(engine.generate([1], RunControl(), strategy=Planned("search")))
    for cut in range(len(events)):
        run = LiveRun("a", RunControl(), lambda: f"n{next(ids)}")
        talk, _ = run.take(asked, [r.Began((1,)), *events[:cut], Failed("stopped")])
        assert run.ended
        talk = run.close(talk, "failed")
        drawn = sum(isinstance(event, Emitted) for event in events[:cut])
        assert sum(len(node.steps) for node in talk.nodes.values()) == drawn
        assert all(node.finish for node in talk.nodes.values() if node.role == "assistant")


def test_a_prompt_is_being_read_until_it_is_read() -> None:
    asked = Conversation("c").add(Node("u", Fork(), "user", text=ASK)).add(Node("a", Fork("u"), "assistant"))
    run = LiveRun("a", RunControl(), lambda: "n")
    for done, told in ((3, (3, 5)), (5, None)):
        run.take(asked, [Prefilled(done, 5)])
        assert run.read == told


async def test_the_store_gives_back_every_branch(play: Play) -> None:
    async with play() as stage:
        await search(stage, "search")
        talk = stage.chat.talk.conversation
        path = stage.app.home / "other.db"
        store = Store(path)
        store.save(talk)
        found = store.load(talk.id)
        store.close()
        assert texts(found) == texts(talk) and found.chosen == talk.chosen
        assert [(n.id, n.fork, n.joins, n.finish) for n in found.nodes.values()] == [
            (n.id, n.fork, n.joins, n.finish) for n in talk.nodes.values()
        ]
