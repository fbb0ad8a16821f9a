"""The saver of conversations, its batches one by one as a test gives them: what is written, kept, reported."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

from app.store import Store
from app.tui.chat.auto_saver import AutoSaver, Item
from engine.conversation import Conversation, Fork, Node
from engine.errors import DataError


def talk(id: str, text: str = "x") -> Conversation:
    return Conversation(id).add(Node("u", Fork(), "user", text=text))


def saver(path: Path) -> AutoSaver:
    """One whose thread never begins."""
    with patch("app.tui.chat.auto_saver.Thread.start"):
        return AutoSaver(path)


class Disk:
    """A store that fails for what it is told to."""

    def __init__(self, path: Path) -> None:
        self.saved: list[Conversation] = []
        self.failing: set[str] = set()
        self.notice, self.closed = "", False

    def save(self, talk: Conversation) -> None:
        if talk.id in self.failing:
            raise DataError(f"no room for {talk.id}")
        self.saved.append(talk)

    def taken_notice(self) -> str:
        found, self.notice = self.notice, ""
        return found

    def close(self) -> None:
        self.closed = True


def work(it: AutoSaver, batches: list[list[Item]], store: Any) -> list[tuple[str, str, list[str], bool]]:
    """What is known of it after each batch."""
    seen: list[tuple[str, str, list[str], bool]] = []
    left = iter(batches)

    def batch() -> list[Item]:
        if it._handed:
            seen.append((it.trouble, it.news, sorted(each.id for each in it.unsaved), it.idle))
        found = next(left, [None])
        for item in found:
            if item is not None:
                it._put(item)
        while not it._queue.empty():
            it._queue.get()
        return found

    with patch.object(it, "_batch", batch), patch("app.tui.chat.auto_saver.Store", store):
        it._work()
    return seen


def test_of_several_versions_the_newest_is_written_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    it, disk = saver(tmp_path / "x.db"), Disk(tmp_path)
    one, newer, two, three = talk("one", "a"), talk("one", "b"), talk("two"), talk("three")
    order: list[str] = []

    def fails(store: Store) -> None:
        order.append("fails")
        raise DataError("it failed")

    disk.failing = {"two"}
    told = lambda store: order.append(f"did {len(disk.saved)}")  # noqa: E731
    makes_room = lambda store: disk.failing.clear()  # noqa: E731
    has_news = lambda store: setattr(disk, "notice", "news")  # noqa: E731
    seen = work(it, [[one, told, newer], [two, three], [fails], [makes_room], [has_news]], lambda path: disk)
    assert disk.saved == [newer, three, two] and order == ["did 0", "fails"] and disk.closed
    assert seen == [
        ("", "", [], True), ("no room for two", "", ["two"], True), ("no room for two", "", ["two"], True),
        ("", "", [], True), ("", "news", [], True),
    ]  # fmt: skip
    assert it.report() == "news" and it.report() == "" == it.news
    it.trouble, it.news = "no room", "news"
    assert it.report() == "no room · the conversation stays open" == it.report() and it.news == "news"


def test_a_store_that_cannot_be_opened_is_tried_with_each_batch(tmp_path: Path) -> None:
    it, disk, opened = saver(tmp_path / "x.db"), Disk(tmp_path), list[Path]()

    def store(path: Path) -> Disk:
        opened.append(path)
        if len(opened) < 3:
            raise DataError("it is locked")
        return disk

    one, two, newer = talk("one"), talk("two"), talk("one", "b")
    seen = work(it, [[one], [two, newer], [lambda store: None]], store)
    assert opened == [tmp_path / "x.db"] * 3 and sorted(each.id for each in disk.saved) == ["one", "two"]
    assert newer in disk.saved and one not in disk.saved
    assert seen == [("it is locked", "", ["one"], True), ("it is locked", "", ["one", "two"], True), ("", "", [], True)]
    never = saver(tmp_path / "y.db")
    work(never, [], store)


def test_what_is_handed_over_is_taken_at_once(tmp_path: Path) -> None:
    it = saver(tmp_path / "x.db")
    it.save(Conversation("empty"))
    assert it.idle
    one = talk("one")
    it.save(one)
    do = lambda store: None  # noqa: E731
    it.do(do)
    assert not it.idle and it._batch() == [one, do]
    closed: list[Any] = []
    with patch.object(it._thread, "join", closed.append):
        it.close()
        it.close(0.5)
    assert it._batch() == [None, None] and closed == [5.0, 0.5] and it._thread.daemon


async def test_what_could_not_be_written_is_tried_again_before_it_is_called_lost(tmp_path: Path) -> None:
    full = True

    def save(store: Store, talk: Conversation) -> None:
        if full:
            raise DataError("the disk is full")

    with patch.object(Store, "save", save):
        it = AutoSaver(tmp_path / "x.db")
        it.save(talk("one"))
        await it.tried(5.0)
        await it.tried(5.0)
        assert [each.id for each in it.unsaved] == ["one"] and it.trouble == "the disk is full"
        full = False
        await it.tried(5.0)
        assert not it.unsaved and not it.trouble
        it.close()


def test_a_saver_writes_from_its_own_thread(tmp_path: Path) -> None:
    it = AutoSaver(tmp_path / "x.db")
    it.save(talk("one"))
    it.close()
    store = Store(tmp_path / "x.db")
    assert store.load("one").nodes and it.idle and not it.unsaved
    store.close()
