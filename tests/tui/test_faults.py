"""What goes wrong around an open conversation: files that vanish, a full disk, a second program."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from likely.app.heat import CONTROL
from likely.app.store import Store
from likely.app.tui.chat.auto_saver import AutoSaver
from likely.app.worker import Failed
from likely.engine.conversation import Fork, Node
from tests.support.model import BLUE, SKY
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"


async def kept(stage: Stage) -> AutoSaver:
    """The keeper, once everything handed over was written, or could not be."""
    stage.chat.save()
    keeper, done = stage.app.keeper, []
    assert keeper is not None
    keeper.do(lambda _: done.append(True))
    await stage.until(lambda: done or keeper.trouble)
    return keeper


async def test_no_text_moves_the_terminal(play: Play) -> None:
    """A widget that holds what a file is called, and does not know that names may be evil."""
    evil = "a\x1b]52;c;QQ==\x07b\x9b2J\u202ec"
    async with play() as stage:
        await stage.app.screen.mount(Static(evil, markup=False))
        await stage.until(lambda: "QQ==" in stage.picture())
        assert not CONTROL.search(stage.picture().replace("\n", ""))


@pytest.mark.slow
async def test_the_session_file_is_removed_while_it_is_open(play: Play, tmp_path: Path) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        await kept(stage)
        shutil.rmtree(tmp_path / "home")
        await stage.ask("and red?")
        await kept(stage)
        stage.chat.tick()
        assert "was removed" in stage.chat.hints.news
        await stage.pilot.press("ctrl+o")  # the screen's own connection finds the new file
        assert len(stage.app.screen.found) == 1  # type: ignore[attr-defined]
        await stage.pilot.press("escape")
        id = stage.chat.resumable()
    async with play(resume=id) as stage:
        assert stage.texts == [ASK, SKY, "and red?", SKY]
        assert stage.app.store is not None
        assert stage.app.store.snapshot(id, stage.shown[1].message.last.id, 0) is not None


@pytest.mark.slow
async def test_a_page_that_is_lost_is_said_once_in_the_list(play: Play, tmp_path: Path) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        await kept(stage)
        assert stage.app.keeper is not None and stage.app.store is not None
        path = stage.app.store.path
    with sqlite3.connect(path) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'chosen'").fetchone()[0]
        node = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'node'").fetchone()[0]
    async with play() as stage:
        with path.open("r+b") as file:
            for page in (root, node):
                file.seek((page - 1) * 4096)
                file.write(b"\xff" * 4096)
        await stage.pilot.press("ctrl+o")
        said = str(stage.app.screen.query_one("#sessions-keys").render())
        assert "the session database was damaged" in said and len(list(path.parent.glob("*.damaged-*[0-9]"))) == 1
        assert len(stage.app.screen.found) == 1  # type: ignore[attr-defined]
        await stage.pilot.press("escape", "ctrl+o")
        assert "damaged" not in str(stage.app.screen.query_one("#sessions-keys").render())


@pytest.mark.slow
async def test_a_full_disk_is_said_and_what_could_not_be_saved_is_saved_later(play: Play, tmp_path: Path) -> None:
    def limit(pages: int) -> None:
        keeper = stage.app.keeper
        assert keeper is not None
        keeper.do(lambda store: store._db.execute(f"PRAGMA max_page_count = {pages}").fetchone())  # type: ignore[arg-type,return-value]

    async with play() as stage:
        await stage.ask(ASK)
        await kept(stage)
        limit(1)  # sqlite makes it as many as there are
        await stage.ask("and red?" + " more" * 4000)
        keeper = stage.app.keeper
        assert keeper is not None
        await stage.until(lambda: keeper.trouble)
        stage.chat.tick()
        news = stage.chat.hints.news
        assert "disk is full" in news and "the conversation stays open" in news
        assert len(stage.texts) == 4 and stage.texts[3] == SKY
        limit(1_000_000)  # and what waits is written with whatever comes next
        await stage.until(lambda: not keeper.trouble)
        id = stage.chat.resumable()
    assert len(Store(tmp_path / "home" / "sessions.db").load(id).messages()) == 4


@pytest.mark.slow
async def test_who_leaves_is_asked_before_what_cannot_be_saved_is_lost(play: Play, tmp_path: Path) -> None:
    async with play() as stage:
        keeper = await kept(stage)
        keeper.do(lambda store: store._db.execute("PRAGMA max_page_count = 1").fetchone())  # type: ignore[arg-type,return-value]
        await stage.ask(ASK + " more" * 4000)
        await stage.until(lambda: keeper.unsaved)
        await stage.pilot.press("ctrl+q")
        await stage.until(lambda: "leave all the same?" in stage.picture())
        assert "disk is full" in stage.picture() and "/export PATH" in stage.picture()
        await stage.pilot.press("enter")  # stay
        await stage.pilot.pause()
        assert stage.app.is_running and stage.app.screen is stage.chat
        await stage.pilot.press("ctrl+q")
        await stage.until(lambda: "leave all the same?" in stage.picture())
        await stage.pilot.press("escape")
        keeper.do(lambda store: store._db.execute("PRAGMA max_page_count = 1000000").fetchone())  # type: ignore[arg-type,return-value]
        await stage.until(lambda: not keeper.unsaved)
        await stage.pilot.press("ctrl+q")
        await stage.until(lambda: stage.app._exit)
        id = stage.app.return_value
    assert len(Store(tmp_path / "home" / "sessions.db").load(str(id)).messages()) == 2


@pytest.mark.parametrize("words", [("ctrl+q",), ("down", "enter")], ids=["said again", "chosen"])
async def test_who_says_it_twice_leaves_all_the_same(play: Play, words: tuple[str, ...]) -> None:
    async with play() as stage:
        keeper = await kept(stage)
        keeper.do(lambda store: store._db.execute("PRAGMA max_page_count = 1").fetchone())  # type: ignore[arg-type,return-value]
        await stage.ask(ASK + " more" * 4000)
        await stage.until(lambda: keeper.unsaved)
        await stage.pilot.press("ctrl+q")
        await stage.until(lambda: "leave all the same?" in stage.picture())
        await stage.pilot.press(*words)
        await stage.until(lambda: stage.app._exit)
    assert len(keeper.unsaved) == 1


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["a folder", "another version"])
async def test_a_store_that_cannot_be_opened_is_as_a_full_disk(play: Play, tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "home" / "sessions.db"
    if wrong == "a folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True)
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
    async with play() as stage:
        await stage.ask(ASK)
        keeper = await kept(stage)
        await stage.until(lambda: keeper.unsaved)
        stage.chat.tick()
        assert "sessions.db" in stage.chat.hints.news and "the conversation stays open" in stage.chat.hints.news
        await stage.pilot.press("ctrl+q")
        await stage.until(lambda: "leave all the same?" in stage.picture())
        await stage.pilot.press("enter")  # stay
        path.rename(path.with_name("moved away"))
        await kept(stage)
        await stage.until(lambda: not keeper.unsaved)
        await stage.pilot.press("ctrl+o")  # and what was saved can be found, as ever
        assert len(stage.app.screen.found) == 1  # type: ignore[attr-defined]
        await stage.pilot.press("escape")
        await stage.pilot.press("ctrl+q")
        await stage.until(lambda: stage.app._exit)
        id = stage.app.return_value
    assert len(Store(path).load(str(id)).messages()) == 2


@pytest.mark.slow
async def test_two_programs_on_one_database_keep_each_others_words(play: Play, tmp_path: Path) -> None:
    async with play() as one:
        await one.ask(ASK)
        await kept(one)
        id = one.chat.resumable()
        other = Store(tmp_path / "home" / "sessions.db")  # as a second program has it open
        theirs = other.load(id)
        leaf = theirs.leaf
        assert leaf is not None
        theirs = theirs.add(Node("theirs", Fork(leaf.id), "user", text="from the other one"))
        other.save(theirs)
        one.chat.talk.new_seed = lambda: 1
        await one.pilot.press("ctrl+r")
        await one.until(lambda: one.ended and one.texts[-1] == BLUE)
        await kept(one)
        other.save(theirs.mark("theirs", 3, "here"))
        other.close()
    async with play(resume=id) as two:
        nodes = two.chat.talk.conversation.nodes
        assert "theirs" in nodes and len(nodes) == 4
        assert two.chat.talk.conversation.marks == {("theirs", 3): "here"}


async def test_what_comes_while_the_screens_are_taken_apart_is_left(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report between the last frame and the end found a chat without its panel, once in a thousand times."""
    handled: list[Any] = []
    async with play() as stage:
        await stage.ask(ASK)
        stage.app.engine.handlers[99] = lambda job, events: handled.extend(events)
        monkeypatch.setattr(stage.app.engine.worker, "drain", lambda: [(99, Failed("late"))])
    stage.app.drain()
    assert not handled
