"""What goes wrong around an open conversation: files that vanish, a full disk and who saves then, a second program."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from likely.app.store.store import Store
from likely.app.tui.chat.auto_saver import AutoSaver
from likely.engine.chat.conversation import Conversation, Fork, Node
from tests.support.model import BLUE, SKY
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def test_a_screenshot_without_a_place_and_a_server_without_a_process_are_a_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object, **options: object) -> None:
        raise OSError(11, "no more processes")

    with Screen(tmp_path) as screen:
        screen.say(ASK)
        screen.wait()
        shutil.rmtree(screen.home)
        screen.home.write_text("a file is where the folder was")
        screen.press("ctrl+p")
        screen.type("screenshot")
        screen.press("enter")
        assert screen.running and "was not written" in " ".join(screen.text.split())
        screen.home.unlink()
        monkeypatch.setattr("subprocess.Popen", refused)
        screen.press("ctrl+p")
        screen.type("server: start")
        screen.press("enter")
        screen.wait()
        assert screen.running and "no process can be started here: no more processes" in screen.text


def test_the_session_file_is_removed_while_it_is_open(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        shutil.rmtree(screen.home)
        screen.say("and red?")
        screen.wait()
        assert "was removed" in screen.lines[-1]
        screen.press("ctrl+o")
        assert sum(" tok " in line and "scripted" in line for line in screen.lines) == 1  # in the new file
        screen.press("escape", "ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, resume=id) as screen:
        assert screen.said == [ASK, SKY, "and red?", BLUE]
        screen.press("tab", "ctrl+home", "down")
        assert "TOKEN 1/67" in screen.text and "raw %" in screen.text


def test_a_page_that_is_lost_is_said_once_in_the_list(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.say(ASK)
    path = tmp_path / "home" / "sessions.db"
    with sqlite3.connect(path) as db:
        pages = db.execute("SELECT rootpage FROM sqlite_master WHERE name IN ('chosen', 'node')").fetchall()
    with Screen(tmp_path) as screen:
        with path.open("r+b") as file:
            for (page,) in pages:
                file.seek((page - 1) * 4096)
                file.write(b"\xff" * 4096)
        screen.press("ctrl+o")
        assert "the session database was damaged" in screen.text and ASK in screen.text
        assert len(list(path.parent.glob("*.damaged-*[0-9]"))) == 1
        screen.press("escape", "ctrl+o")
        assert "damaged" not in screen.text


@pytest.mark.parametrize("wrong", ["a folder", "another version", "no database"])
def test_a_store_that_cannot_be_opened_is_said_and_nothing_is_lost_unasked(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "home" / "sessions.db"
    path.parent.mkdir()
    if wrong == "a folder":
        path.mkdir()
    elif wrong == "another version":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(b"not a database at all" * 100)
    with Screen(tmp_path, size=(240, 40)) as screen:
        if wrong == "no database":  # it is put aside, and a new one is begun
            assert "damaged" in screen.lines[-1] and list(path.parent.glob("sessions.db.damaged-*"))
            screen.say(ASK)
            assert screen.said == [ASK, SKY]
            return
        screen.say(ASK)
        screen.wait()
        assert "sessions.db" in screen.lines[-1] and "the conversation stays open" in screen.lines[-1]
        screen.say("/max 90")
        screen.wait(3)
        assert "at most 90 tokens" in screen.lines[-1]  # what is asked for is answered all the same,
        screen.press("escape")
        screen.wait(3)
        assert "sessions.db" in screen.lines[-1]  # and it is said again
        screen.press("ctrl+q")
        screen.wait(3)
        assert "leave all the same?" in screen.text and "/export PATH" in screen.text
        screen.press("enter")  # stay
        assert screen.running and "leave all the same?" not in screen.text
        path.rename(path.with_name("moved away"))
        screen.press("ctrl+q")
        screen.wait(3)
        assert not screen.running and screen.said == [ASK, SKY]


@pytest.mark.parametrize("keys", [("ctrl+q",), ("down", "enter")], ids=["said again", "chosen"])
def test_who_says_it_twice_leaves_all_the_same(tmp_path: Path, keys: tuple[str, ...]) -> None:
    (tmp_path / "home" / "sessions.db").mkdir(parents=True)
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        screen.press("ctrl+q")
        screen.wait(3)
        assert screen.running and "leave all the same?" in screen.text
        screen.press(*keys)
        assert not screen.running


def test_two_programs_on_one_conversation_keep_each_others_words(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        screen.say(ASK)
        id = screen.kept[0].id
        other = Store(screen.home / "sessions.db")  # as a second program has it open
        theirs = other.load(id)
        assert theirs.leaf is not None
        theirs = theirs.add(Node("theirs", Fork(theirs.leaf.id), "user", text="from the other one"))
        other.save(theirs)
        screen.press("ctrl+r")
        other.save(theirs.mark("theirs", 3, "here"))
        other.close()
        (talk,) = screen.kept
        assert "theirs" in talk.nodes and len(talk.nodes) == 4 and talk.marks == {("theirs", 3): "here"}


@pytest.mark.slow
def test_a_conversation_that_cannot_be_read_is_a_line_and_the_open_one_stays(tmp_path: Path) -> None:
    for size in ((160, 45), (100, 30)):
        with Screen(tmp_path / str(size[0]), size=size) as screen:
            screen.say(ASK)
            screen.press("ctrl+n")
            screen.say("and why red")
            screen.press("ctrl+o")
            with sqlite3.connect(screen.home / "sessions.db") as db:
                db.execute("UPDATE node SET text = x'ff'")
            screen.press("down", "enter")
            assert "cannot be read" in screen.lines[-1] and "and why red" in screen.text and screen.running


def test_a_pipe_is_refused_before_a_screen_waits_for_its_other_end(screen: Screen) -> None:
    os.mkfifo(screen.folder / "pipe.html")
    screen.say(ASK)
    for command in ("/export", "/export markdown", "/import"):
        screen.press("left")  # the line before is gone
        assert "pipe.html is a pipe, and a file is wanted" not in screen.lines[-1]
        assert "pipe.html is a pipe, and a file is wanted" in screen.say(f"{command} pipe.html")


def test_an_export_never_overwrites_unasked(screen: Screen) -> None:
    screen.say(ASK)
    name = f"likely-{screen.kept[0].id}"
    for expected in (f"{name}.md", f"{name}-2.md"):
        screen.say("/export markdown")
        assert (screen.folder / expected).exists() and expected in screen.text.replace("\n", "")
        screen.press("escape")
    mine = screen.folder / "mine.md"
    mine.write_text("mine")
    for keys, kept in ((("enter",), True), (("down", "enter"), False)):
        screen.say("/export markdown mine.md")
        assert "there already" in screen.text
        screen.press(*keys)
        assert (mine.read_text() == "mine") == kept
        screen.press("escape")
    assert ASK in mine.read_text() and ASK in (screen.folder / "mine-2.md").read_text()


def test_what_others_wrote_comes_in_and_is_measured_where_it_is_looked_at(screen: Screen) -> None:
    theirs = '[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": " Blue light is scattered"}]'
    (screen.folder / "theirs.json").write_text(theirs)
    screen.say("/import theirs.json")
    screen.press("tab", "left")
    screen.wait()
    assert "TOKEN 3/4  ·is" in screen.text
    screen.press("b")
    talk = screen.kept[0]
    assert talk.messages()[1].text.startswith(" Blue light") and talk.leaf is not None and talk.leaf.joins
    screen.press("escape")
    for command, line in (
        ("/import absent.jsonl", "cannot read"), ("/export html /nowhere/talk.html", "was not written"),
    ):  # fmt: skip
        assert line in screen.say(command)


def talk(id: str, text: str = "x") -> Conversation:
    return Conversation(id).add(Node("u", Fork(), "user", text=text))


async def test_what_could_not_be_written_is_told_tried_again_and_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.db"
    path.parent.write_text("a file is where the folder should be")
    saver = AutoSaver(path)
    saver.save(talk("one", "a"))
    await saver.tried(30.0)
    assert [each.id for each in saver.unsaved] == ["one"]
    assert saver.report() == f"{saver.trouble} · the conversation stays open" and saver.trouble
    saver.save(newer := talk("one").add(Node("v", Fork("u"), "user", text="more")))
    saver.save(talk("two"))
    path.parent.unlink()
    path.parent.mkdir(exist_ok=True)  # the saver, trying again by itself, may be there first
    await saver.tried(30.0)
    assert not saver.unsaved and not saver.trouble and saver.idle
    saver.close()
    store = Store(path)
    assert store.load("one").nodes.keys() == newer.nodes.keys() and store.load("two").nodes
    store.close()


def test_what_is_done_with_the_store_is_done_in_its_turn_and_an_empty_conversation_is_none(tmp_path: Path) -> None:
    saver, found = AutoSaver(tmp_path / "x.db"), list[str]()
    saver.save(Conversation("empty"))
    assert saver.idle
    saver.save(talk("one"))
    saver.do(lambda store: found.extend(each.id for each in store.sessions()))
    saver.close()
    assert found == ["one"] and saver.report() == ""
