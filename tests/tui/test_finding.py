"""Coming back to a place: search over every branch, bookmarks, and what was put away and brought back."""

from dataclasses import replace

import pytest

from app.tui.chat import places
from app.tui.dialogs.finder import Finder
from app.tui.tokens.layout import TokenPlace
from engine.conversation import Conversation, Fork, Node
from tests.support.model import BLUE, SKY, ScriptedEngine
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"


async def two_answers(stage: Stage) -> None:
    """A question, and two answers to it; the second one is checked out."""
    await stage.ask(ASK)
    stage.chat.talk.new_seed = lambda: 1
    await stage.pilot.press("ctrl+r")
    await stage.until(lambda: stage.ended and stage.texts[-1] == BLUE)


def word(stage: Stage) -> str:
    """The token under the cursor."""
    cursor = stage.chat.pane.view.cursor
    assert cursor is not None
    return stage.chat.pane.view.blocks[cursor.block].tokens[cursor.token].text


@pytest.mark.slow
async def test_words_are_found_on_every_branch(play: Play) -> None:
    async with play() as stage:
        await two_answers(stage)
        await stage.pilot.press("ctrl+f", *"BLUE")
        finder = stage.app.screen
        assert isinstance(finder, Finder)
        assert [(found.who, found.words, found.here) for found in finder.found] == [
            ("user", "blue", True), ("assistant", "Blue", True), ("assistant", "blue", False),
            ("assistant", "blue", False),
        ]  # fmt: skip
        assert "other branch" in stage.picture()
        await stage.pilot.press("down", "down", "down", "enter")
        await stage.until(lambda: stage.texts == [ASK, SKY])
        assert word(stage) == " blue" and stage.chat.pane.view.has_focus
        await stage.pilot.press("slash", *"sky blue", "enter")
        assert stage.chat.pane.view.cursor == TokenPlace(0, 3) and word(stage).strip() == "sky"
        await stage.pilot.press("slash", *"nowhere", "enter", "escape")
        assert stage.chat.pane.view.cursor is not None
        await stage.type("/find gases")
        await stage.pilot.press("enter")
        assert stage.texts == [ASK, BLUE] and word(stage) == " gases"


@pytest.mark.slow
async def test_bookmarks_are_kept_and_lead_back(play: Play) -> None:
    async with play() as stage:
        await two_answers(stage)
        stage.chat.pane.view.focus()
        await stage.pilot.press("K")
        assert "no bookmarks" in stage.chat.hints.news
        stage.chat.pane.view.move_to(TokenPlace(1, 2))
        await stage.pilot.press("k", "left_square_bracket")
        assert stage.texts[1] == SKY
        stage.chat.pane.view.move_to(TokenPlace(0, 2))
        await stage.type("/mark the question")
        id = stage.chat.talk.conversation.id
    async with play(resume=id) as stage:
        stage.chat.pane.view.focus()
        await stage.pilot.press("K")
        assert isinstance(stage.app.screen, Finder)
        picture = stage.picture()
        assert "the question: " in picture and "other branch" in picture and "2 found" in picture
        await stage.pilot.press("down", "enter")
        assert stage.texts[1] == BLUE and stage.chat.pane.view.cursor == TokenPlace(1, 2)
        await stage.pilot.press("k", "K")
        assert len(stage.chat.talk.conversation.marks) == 1
        await stage.pilot.press("enter")
        assert stage.chat.pane.view.cursor == TokenPlace(0, 2)


@pytest.mark.slow
async def test_what_is_put_away_is_out_of_sight_and_comes_back(play: Play) -> None:
    async with play() as stage:
        await two_answers(stage)
        chat = stage.chat
        chat.inspector.tree_pane.focus()
        await stage.pilot.press("delete")
        assert (
            stage.texts == [ASK, SKY]
            and len(chat.inspector.tree_pane.ways) == 1
            and "u brings it back" in chat.hints.news
        )
        chat.pane.view.focus()
        chat.pane.view.move_to(TokenPlace(1, 4))
        await stage.pilot.press("delete")
        assert stage.texts == [ASK]
        await stage.pilot.press("slash", *"light", "escape")
        assert places.search(chat.talk.conversation, "light") == []
        id = chat.talk.conversation.id
    async with play(resume=id) as stage:
        assert stage.texts == [ASK]
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(0, 0))
        await stage.pilot.press("delete")
        assert stage.texts == [] and len(stage.chat.talk.conversation.nodes) == 3
        await stage.pilot.press("u")
        assert stage.texts == [ASK]
        await stage.pilot.press("u")
        assert not stage.chat.talk.conversation.pruned and len(stage.chat.inspector.tree_pane.ways) == 3
        await stage.pilot.press("u")
        assert "nothing is put away" in stage.chat.hints.news


@pytest.mark.parametrize("query", ["a", "ab", "B", "", "  ", "x.", "🙂", "İ", "b x", "absent"])
def test_every_match_is_at_the_unit_that_begins_it(query: str) -> None:
    texts = [" ab", " 🙂", " ", "x.", "", " İ", " a", "b", " ab"]
    step = ScriptedEngine().score([300])[0]
    drawn = tuple(replace(step, text=text, piece=text.encode()) for text in texts)
    talk = Conversation("c").add(Node("u", Fork(), "user", text="ab x. aB"))
    talk = talk.add(Node("a", Fork("u"), "assistant", steps=drawn, finish="eot"))
    talk = talk.add(Node("b", Fork("a", 2), "assistant", steps=drawn[3:], joins=True, finish="eot"))

    def starts(text: str) -> list[int]:
        size = len(query)
        return [i for i in range(len(text)) if query.strip() and text[i : i + size].lower() == query.lower()]

    def unit(texts: list[str], start: int) -> int:
        return next(i for i in range(len(texts)) if start < len("".join(texts[: i + 1])))

    wanted = [("u", start) for start in starts("ab x. aB")]
    for start in starts("".join(texts[:2] + texts[3:])):
        at = unit(texts[:2] + texts[3:], start)
        wanted.append(("a", at) if at < 2 else ("b", at - 2))
    wanted += [("a", at) for start in starts("".join(texts)) if (at := unit(texts, start)) >= 2]
    assert [(found.node, found.unit) for found in places.search(talk, query)] == wanted
