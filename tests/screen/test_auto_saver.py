"""The saver of conversations: of several versions the newest is written, and what could not be is tried again."""

from pathlib import Path

from likely.app.store import Store
from likely.app.tui.chat.auto_saver import AutoSaver
from likely.engine.conversation import Conversation, Fork, Node


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
