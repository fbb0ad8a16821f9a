"""Text mode, the list of conversations, files in and out: by their state."""

from pathlib import Path

import pytest

from likely.app.store import Store
from likely.app.tui.base.context import before
from likely.app.tui.base.layout import TokenPlace
from likely.app.tui.chat import text_document
from likely.app.tui.dialogs.sessions import SessionsDialog
from likely.app.tui.views.text import TextScreen
from likely.engine.conversation import Conversation
from tests.support.model import BLUE, SKY, ScriptedEngine
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"


async def saved(stage: Stage) -> Store:
    """The database, once everything handed over is written."""
    stage.chat.save()
    keeper = stage.app.keeper
    assert keeper is not None and stage.app.store is not None
    done: list[bool] = []
    keeper.do(lambda _: done.append(True))
    await stage.until(lambda: done)
    assert not keeper.trouble
    return stage.app.store


@pytest.mark.slow
async def test_a_conversation_is_reopened_at_its_branch(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        stage.chat.talk.new_seed = lambda: 1
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: stage.ended and stage.texts[-1] == BLUE)
        stage.chat.pane.view.focus()
        await stage.pilot.press("left_square_bracket")
        id = stage.chat.talk.conversation.id
        title = stage.chat.talk.conversation.title
        await stage.pilot.press("ctrl+q")
    assert stage.app.return_value == id and title
    async with play(resume=id) as stage:
        assert stage.texts == [ASK, SKY] and "branch 1/2" in stage.chat.talk.transcript.note(1)
        step = stage.shown[1].steps[3]
        assert step.snapshot is None  # read only when it is looked at
        stage.chat.pane.view.focus()
        await stage.pilot.press("left")
        view = stage.panel.view
        assert view is not None and view.rows and view.rows[0].name.startswith(("·", "."))
        stage.chat.talk.new_seed = lambda: 0
        await stage.ask("and red?")
        assert len(stage.texts) == 4
    async with play(resume="nowhere") as stage:
        assert "no conversation nowhere" in stage.chat.hints.news


@pytest.mark.slow
async def test_sessions_are_searched_renamed_duplicated_deleted(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        first = stage.chat.talk.conversation.id
        await stage.pilot.press("ctrl+n")
        stage.chat.talk.new_seed = lambda: 1
        await stage.ask("Hello , what about sunsets")
        store = await saved(stage)
        await stage.pilot.press("ctrl+o")
        screen = stage.app.screen
        assert isinstance(screen, SessionsDialog) and len(screen.found) == 2
        await stage.pilot.press(*"wavelengths")
        await stage.until(lambda: [summary.id for summary in screen.found] == [first])
        assert "wavelengths" in screen.found[0].found
        await stage.pilot.press("f2")
        await stage.pilot.press("home", *"My ", "enter")
        await stage.until(lambda: screen.found[0].title.startswith("My "))
        await stage.pilot.press("ctrl+d")
        await stage.until(lambda: len(screen.found) == 2)
        await stage.pilot.press("delete")
        await stage.until(lambda: len(screen.found) == 1)
        await stage.pilot.press("ctrl+z")
        await stage.until(lambda: len(screen.found) == 2)
        copy = next(summary for summary in screen.found if summary.id != first)
        assert [m.text for m in store.load(copy.id).messages()] == [ASK, SKY]
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.app.screen is stage.chat)
        assert stage.texts == [ASK, SKY]


@pytest.mark.slow
async def test_the_open_conversation_can_be_deleted_and_brought_back(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        id = stage.chat.talk.conversation.id
        await saved(stage)
        await stage.pilot.press("ctrl+o")
        screen = stage.app.screen
        assert isinstance(screen, SessionsDialog)
        await stage.pilot.press(*"sky", "home", "delete")  # edits the words
        await stage.until(lambda: screen.query_one("#query").value == "ky" and not screen.list.deleted)  # type: ignore[attr-defined]
        await stage.pilot.press("end", "backspace", "backspace", "delete")
        await stage.until(lambda: screen.found == [] and screen.list.deleted == [id])
        assert stage.chat.talk.conversation.id != id and stage.texts == []
        await stage.pilot.press("ctrl+z")
        await stage.until(lambda: [summary.id for summary in screen.found] == [id])
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.texts == [ASK, SKY])


@pytest.mark.slow
async def test_files_go_out_and_come_back(play: Play, tmp_path: Path) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        await saved(stage)
        for kind in ("markdown", "html", "jsonl"):
            await stage.type(f"/export {kind} talk.{kind}")
            assert "exported" in stage.chat.hints.news
        old = stage.chat.talk.conversation.id
        await stage.type("/import talk.jsonl")
        assert stage.chat.talk.conversation.id != old and stage.texts == [ASK, SKY]
        assert stage.shown[1].steps[4].snapshot is not None
        theirs = '[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": " Blue light is scattered"}]'
        (tmp_path / "theirs.json").write_text(theirs)
        await stage.type("/import theirs.json")
        await stage.until(lambda: stage.texts[0] == "Why?", "the imported conversation")
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(1, 2))
        await stage.until(lambda: stage.shown[1].steps, "a written answer that was measured")
        stage.chat.pane.view.move_to(TokenPlace(1, 2))
        nodes = len(stage.chat.talk.conversation.nodes)
        await stage.pilot.press("b")
        await stage.until(lambda: stage.ended and len(stage.chat.talk.conversation.nodes) > nodes)
        assert stage.texts[1].startswith(" Blue light") and stage.chat.talk.conversation.leaf.joins  # type: ignore[union-attr]
        await stage.type("/import absent.jsonl")
        assert "cannot read" in stage.chat.hints.news
        await stage.type("/export html /nowhere/talk.html")
        assert "was not written" in stage.chat.hints.news


@pytest.mark.slow
async def test_a_database_that_cannot_be_used_is_said_and_the_chat_goes_on(play: Play, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "sessions.db").write_bytes(b"not a database at all" * 100)
    async with play() as stage:
        assert "damaged" in stage.chat.hints.news
        assert list(home.glob("sessions.db.damaged-*"))
        await stage.ask(ASK)
        assert stage.texts == [ASK, SKY]


@pytest.mark.slow
async def test_text_is_measured_and_continued_from_anywhere(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("f4")
        screen = stage.app.screen
        assert isinstance(screen, TextScreen)
        screen.new_seed = lambda: 0
        screen.buffer.insert(" The sky looks blue because")
        await stage.until(lambda: screen.measured == screen.buffer.text and screen.next_logits is not None)
        view = screen.inspector.table()
        assert view is not None and view.title == "NEXT" and view.rows
        assert len(screen.steps) == 5 and screen.steps[1].logprob is not None
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: screen.run is None and screen.measured == screen.buffer.text)
        assert screen.buffer.text == SKY
        screen.buffer.move_cursor((0, 8))
        await stage.until(lambda: (screen.inspector.table() or view).title.startswith("TOKEN"))
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: screen.run is None)
        assert screen.buffer.text == SKY and len(screen.talk.nodes) >= 3
        screen.buffer.move_cursor(screen.buffer.document.end)
        screen.buffer.insert(" Hello")
        await stage.pilot.press("escape")
        await stage.until(lambda: stage.app.screen is stage.chat)
        store = await saved(stage)
        found = [summary for summary in store.sessions() if summary.kind == "text"]
        assert text_document.text_of(store.load(found[0].id)) == SKY + " Hello"
        stage.app.open(store.load(found[0].id))
        await stage.until(lambda: isinstance(stage.app.screen, TextScreen))
        assert stage.app.screen.query_one("#buffer").text == SKY + " Hello"  # type: ignore[attr-defined]


@pytest.mark.slow
async def test_sliders_of_a_text_are_typed_and_preset(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("f4", "ctrl+g", "equals_sign")
        await stage.pilot.press("home", "shift+end", "delete", *"1.3", "enter")
        screen = stage.app.screen
        assert isinstance(screen, TextScreen) and screen.sampling.values["temp"] == 1.3
        await stage.pilot.press("p", "enter")
        await stage.until(lambda: screen.sampling.recipe.greedy, "the first preset")


@pytest.mark.slow
async def test_an_order_of_ones_own_is_reopened_whole(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        stage.sampler.focus()
        stage.sampler.picked = "mirostat_tau"  # it is off
        await stage.pilot.press("less_than_sign", "less_than_sign", "less_than_sign")
        order = stage.chat.talk.sampling.order
        id = stage.chat.resumable()
    async with play(resume=id) as stage:
        assert stage.chat.talk.sampling.order == order and stage.chat.talk.sampling.order_name == "own"
        await stage.type("/save-preset mine")
        await stage.type("/order llama.cpp")
        await stage.type("/preset mine")
        assert stage.chat.talk.sampling.order == order


async def test_base_models_say_so(play: Play) -> None:
    async with play(ScriptedEngine(chat=False)) as stage:
        assert "base model" in stage.chat.hints.news


def test_a_manuscript_never_loses_a_text() -> None:
    from hypothesis import given, settings
    from hypothesis import strategies as st

    edits = st.lists(st.text("ab ", max_size=6), min_size=1, max_size=6)

    @settings(max_examples=150, deadline=None)
    @given(edits)
    def check(texts: list[str]) -> None:
        ids = iter(range(10**6))
        talk = Conversation("m", kind="text")
        for text in texts:
            talk, fork = text_document.commit(talk, text, lambda: f"n{next(ids)}")
            parts = before(talk, fork).parts
            assert "".join(part for part in parts if isinstance(part, str)) == text

    check()


@pytest.mark.slow
async def test_a_text_stays_when_it_is_left(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("f4")
        screen = stage.app.screen
        assert isinstance(screen, TextScreen)
        await stage.pilot.press(*"Why is the")
        await stage.pilot.press("f2", "f4")
        assert stage.app.screen is screen and screen.buffer.text == "Why is the" and screen.buffer.place == 10
        await stage.pilot.press("f2", "f4", *" sky")
        await stage.until(lambda: screen.measured == "Why is the sky")
        await stage.pilot.press("ctrl+n")
        assert screen.buffer.text == ""
        await stage.pilot.press("ctrl+o")
        await stage.until(lambda: "Why is the sky" in stage.picture())
        await stage.pilot.press("enter")
        await stage.until(lambda: screen.buffer.text == "Why is the sky")
