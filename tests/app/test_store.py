"""Conversations on disk: what is saved comes back, and nothing that goes wrong loses what was there."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Timer

import numpy as np
import pytest

from likely.app.store.store import Store
from likely.engine.base.errors import DataError
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.chat.tools.tool import ToolDistribution
from likely.engine.chat.tools.tool_prompt import CallField, ToolChoice
from likely.engine.decode.loop.events import Done, Emitted, Event, Forked, Pruned, Stats
from likely.engine.sampling.trace.observe import observe
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import Temperature, TopP
from tests.support.everyday import everyday
from tests.support.limits import file_size_limit

LAW = ToolDistribution((("add", 0.25), ("sub", 0.5)), 0.125, 0.0625, 0.0625, 9)
CHOICE = ToolChoice(LAW, 2, (("add", (CallField("a", "3", (3, 4), -0.75),)), ("sub", ())))
RECIPE = SamplingConfig((TopP(0.9), Temperature(0.7)))


def step(i: int, recipe: SamplingConfig = RECIPE) -> TokenStep:
    raw = np.random.default_rng(i).normal(0, 3, 1000).astype(np.float32)
    found = observe(raw, i % 1000, recipe=recipe, position=i)
    return replace(found, piece=f" w{i}".encode(), text=f" w{i}", elapsed_s=i / 10)


def talk(steps: int = 5, finish: str = "eot") -> Conversation:
    talk = Conversation("c", title="Sky", model="m", system="Be brief", recipe=RECIPE, seed=3, created=1.0, updated=2.0)
    talk = talk.add(Node("u", Fork(), "user", text="Why is the sky blue?"))
    talk = talk.add(
        Node("a", Fork("u"), "assistant", "", tuple(map(step, range(steps))), finish=finish, model="m", prompt=(1, 7))
    )
    if finish and steps > 2:
        talk = talk.add(Node("b", Fork("a", 2), "assistant", steps=(step(77),), joins=True, seed=9, finish="stop"))
    return talk


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "sessions.db")


def light(talk: Conversation) -> Conversation:
    """As it is loaded: without snapshots."""
    nodes = {
        node.id: replace(node, steps=tuple(replace(s, snapshot=None, removed_by=None) for s in node.steps))
        for node in talk.nodes.values()
    }
    return replace(talk, nodes=nodes)


def test_what_is_saved_comes_back(store: Store) -> None:
    store.save(talk())
    found = store.load("c")
    assert found == replace(light(talk()), nodes=found.nodes) and dict(found.nodes) == dict(light(talk()).nodes)
    assert [m.text for m in found.messages()] == [m.text for m in talk().messages()]
    snapshot, removed_by = store.snapshot("c", "a", 3)  # type: ignore[misc]
    original = talk().nodes["a"].steps[3]
    assert original.snapshot is not None
    assert snapshot.lse == original.snapshot.lse and np.array_equal(snapshot.logits, original.snapshot.logits)
    assert np.array_equal(removed_by, original.removed_by) and store.snapshot("c", "a", 99) is None
    whole = store.with_snapshots(found).nodes["a"].steps[4].snapshot
    assert whole is not None and np.array_equal(whole.lses, talk().nodes["a"].steps[4].snapshot.lses)  # type: ignore[union-attr]


def test_only_what_is_new_is_written(store: Store) -> None:
    """One more step of a long answer takes a small part of what all the others took."""
    log = store.path.with_name(f"{store.path.name}-wal")
    growing = talk(100, finish="")
    store.save(growing)
    whole = log.stat().st_size
    store.save(growing.extend("a", (step(100),)))
    assert log.stat().st_size - whole < whole / 5
    assert len(store.load("c").nodes["a"].steps) == 101


def test_a_branch_is_reopened_where_it_was_left(store: Store) -> None:
    store.save(talk().choose(Fork("a", 2), None))
    assert store.load("c").messages()[-1].text == " w0 w1 w2 w3 w4"
    store.save(talk())
    assert store.load("c").messages()[-1].text == " w0 w1 w77"


def test_an_answer_cut_off_by_a_crash_is_closed(store: Store) -> None:
    store.save(talk(3, finish=""))
    found = store.load("c")
    assert found.nodes["a"].finish == "interrupted" and len(found.nodes["a"].steps) == 3


def test_search_finds_words_said_and_titles(store: Store) -> None:
    store.save(talk())
    other = replace(talk(), id="d", title="Other", nodes={}, chosen={})
    store.save(other.add(Node("x", Fork(), "user", text="naïve café")))
    assert [s.id for s in store.sessions("blue sky")] == ["c"]
    assert [s.id for s in store.sessions("caf")] == ["d"]
    assert [s.id for s in store.sessions("other")] == ["d"]
    assert store.sessions("w77")[0].excerpt
    assert store.sessions('"; DROP TABLE session; --') == [] and len(store.sessions()) == 2
    assert store.sessions("NEAR( OR * ^") == []


def test_delete_is_undone_until_it_is_swept(store: Store) -> None:
    store.save(talk())
    store.delete("c")
    assert store.sessions() == []
    store.undelete("c")
    assert len(store.sessions()) == 1
    store.delete("c")
    store.sweep(time.time() + 1)
    with pytest.raises(DataError, match="no conversation"):
        store.load("c")
    assert store.snapshot("c", "a", 0) is None and store.sessions("blue") == []


def test_duplicate_and_rename(store: Store) -> None:
    store.save(talk())
    store.duplicate("c", "d")
    store.rename("d", "Twin")
    assert store.load("d").title == "Twin" and store.snapshot("d", "a", 1) is not None
    store.save(talk().chose("a", CHOICE))  # which comes after the end of an answer
    store.duplicate("c", "e")
    assert store.load("d").nodes["a"].prompt == (1, 7)
    assert [store.load(id).nodes["a"].choice for id in "cde"] == [CHOICE, None, CHOICE]
    assert [s.id for s in store.sessions("w77")] and len(store.sessions()) == 3


def test_bookmarks_pruned_ways_and_the_order_come_back_and_are_taken_back(store: Store) -> None:
    marked = replace(
        talk().mark("a", 3, "here").mark("b", 0, "").prune(Fork("a", 2), "b"),
        order=("TopP", "TopK"),
        asked={"max": "9"},
    )
    store.save(marked)
    found = Store(store.path).load("c")
    assert (dict(found.marks), found.pruned, found.order) == (dict(marked.marks), marked.pruned, marked.order)
    assert found.asked == marked.asked
    store.duplicate("c", "d")
    store.save(marked.mark("b", 0, None).restore(Fork("a", 2), "b"))
    found = Store(store.path).load("c")
    assert dict(found.marks) == {("a", 3): "here"} and not found.pruned
    assert len(store.load("d").marks) == 2 and store.load("d").asked == marked.asked
    fresh = Store(store.path)  # one that has never read the conversation takes back what is on disk
    fresh.save(talk())
    assert not store.load("c").marks
    assert store.models("d") == ("m",)


def test_a_database_that_is_removed_while_it_is_open_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "home" / "s.db"
    store, reader = Store(path), Store(path)
    store.save(talk())
    assert len(reader.sessions()) == 1 and not store.notice
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    grown = talk().add(Node("z", Fork("b"), "user", text="after that"))
    store.save(grown)
    assert "was removed" in store.notice
    assert [m.text for m in reader.load("c").messages()] == [m.text for m in grown.messages()]
    assert reader.snapshot("c", "a", 0) is not None  # what is in memory is written again
    store.close()
    reader.close()
    assert "z" in Store(path).load("c").nodes


def test_two_programs_share_a_database(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "s.db"), Store(tmp_path / "s.db")
    one.save(talk())
    theirs = two.load("c").add(Node("two", Fork("b"), "user", text="from the second"))
    ours = one.load("c").add(Node("one", Fork("b"), "user", text="from the first"))
    two.save(theirs)
    one.save(ours)
    assert {"one", "two"} <= set(Store(tmp_path / "s.db").load("c").nodes)


@pytest.mark.slow(4)
def test_a_locked_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = Store(path)
    store.save(talk())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DataError, match="another program"):
        store.save(talk().add(Node("z", Fork("b"), "user", text="more")))
    other.execute("ROLLBACK")
    store.save(talk().add(Node("z", Fork("b"), "user", text="more")))
    assert "z" in store.load("c").nodes and list(tmp_path.glob("*damaged*")) == []


def test_a_new_database_is_waited_for_while_another_program_makes_it(tmp_path: Path) -> None:
    """As one that begins at the same moment in the same new home does."""
    path = tmp_path / "s.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # who reads is let in, and who writes is not, until it is closed
    timer = Timer(0.05, other.close)
    timer.start()
    store = Store(path)
    timer.join()
    store.save(talk())
    assert store.load("c").title == "Sky"


def test_programs_that_begin_at_once_put_one_new_database_in_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    path, programs = tmp_path / "s.db", 4
    path.write_bytes(b"no database " * 1000)
    together = Barrier(programs)

    def begin(number: int) -> str:
        together.wait()
        store = Store(path)
        store.save(replace(talk(), id=str(number)))
        store.close()
        return store.notice

    with ThreadPoolExecutor(programs) as threads:
        notices = list(threads.map(begin, range(programs)))
    (kept,) = tmp_path.glob("s.db.damaged-*")
    assert kept.read_bytes() == b"no database " * 1000 and any(kept.name in notice for notice in notices)
    assert {summary.id for summary in Store(path).sessions()} == {str(number) for number in range(programs)}


def test_a_damaged_database_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 40)
    store = Store(path)
    kept = list(tmp_path.glob("s.db.damaged-*"))
    assert len(kept) == 1 and kept[0].read_bytes().startswith(b"SQLite format 3\x00\x00\x01")
    assert kept[0].name in store.notice
    store.save(talk())
    assert store.load("c").title == "Sky"


def test_another_version_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(DataError, match="another version"):
        Store(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be opened"):
        Store(tmp_path / "file" / "s.db")


def test_a_full_disk_leaves_the_database_as_it_was(store: Store) -> None:
    store.save(talk())
    bigger = talk().add(Node("z", Fork("b"), "user", text="long " * 100_000))
    most = max(file.stat().st_size for file in store.path.parent.iterdir())
    with file_size_limit(most + 8192), pytest.raises(DataError, match="not saved: "):
        store.save(bigger)
    assert "z" not in store.load("c").nodes
    store.save(bigger)
    assert "z" in store.load("c").nodes


def test_the_vocabulary_is_remembered(store: Store) -> None:
    pieces = (b"", b"a", b" the", b"\xff\xfe", "日本".encode())
    store.remember_vocabulary("m", pieces)
    assert store.vocabulary("m") == pieces and store.vocabulary("other") == ()


def test_branches_of_one_run_come_back(store: Store) -> None:
    """Saved while it runs and when it is over: who parted where, who was given up."""
    stats, names = Stats(4, 0, 3, 0.1, 0.1), iter("xyz")
    talk = Conversation("c", recipe=RECIPE, updated=1.0).add(Node("u", Fork(), "user", text="Why?"))
    nodes = {0: "n0", 1: "n1"}
    for branch, node in nodes.items():
        talk = talk.add(Node(node, Fork("u"), "assistant", seed=branch))
    events: list[Event] = [Emitted(branch, step(i)) for i in range(3) for branch in (0, 1)]
    events += [
        Forked(0, 2),
        Emitted(0, step(3)),
        Emitted(2, step(4)),
        Pruned(1),
    ]
    events += [Emitted(2, step(5)), Done(0, "eot", stats), Done(2, "length", stats)]
    for i, event in enumerate(events):
        talk = talk.record(event, nodes, lambda: next(names))
        store.save(replace(talk, updated=2.0 + i))
        found = Store(store.path).load("c") if i % 4 == 0 else store.load("c")
        assert [m.text for m in found.messages()] == [m.text for m in talk.messages()]
        assert found.pruned == talk.pruned and dict(found.children) == dict(talk.children)
    assert dict(found.nodes) == dict(light(talk).nodes) and found.chosen == talk.chosen
    assert found.messages()[-1].text == " w0 w1 w2 w3" and len(found.pruned) == 1
    assert found.check_out("x").messages()[-1].text == " w0 w1 w2 w4 w5"


def several(path: Path, count: int = 24) -> None:
    """A database of so many conversations, all in its one file."""
    store = Store(path)
    for n in range(count):
        store.save(replace(talk(), id=f"c{n}", title=f"Sky {n}"))
    store.close()


def use(store: Store) -> int:
    """Everything a person does with a database; the conversations that are listed."""
    listed = store.sessions()
    for summary in listed:
        try:
            loaded = store.load(summary.id)
        except DataError:
            continue
        for node in loaded.nodes.values():
            store.snapshot(loaded.id, node.id, 0)
    store.sessions("sky")
    store.vocabulary("m")
    store.models()
    store.save(replace(talk(), id="new"))
    assert store.load("new").title == "Sky"
    return len(listed)


@pytest.mark.parametrize("seed", everyday(range(12), 4))
def test_overwritten_pages_cost_what_was_on_them(tmp_path: Path, seed: int) -> None:
    path, random = tmp_path / "s.db", np.random.default_rng(seed)
    several(path)
    data = bytearray(path.read_bytes())
    for page in random.integers(1, len(data) // 4096, 3):
        data[page * 4096 : page * 4096 + 4096] = random.bytes(4096)
    path.write_bytes(data)
    store = Store(path)
    use(store)
    kept = list(tmp_path.glob("s.db.damaged-*"))
    assert len(kept) <= 1 and all(file.name in store.notice for file in kept)
    if kept:
        assert kept[0].read_bytes()[:100] == data[:100]
        assert not damaged_notice_again(path)


def damaged_notice_again(path: Path) -> str:
    """What a second start says."""
    store = Store(path)
    use(store)
    return store.notice


def lose(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def test_a_page_that_is_lost_while_open_is_rescued_for_all_connections(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    several(path)
    with sqlite3.connect(path) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'chosen'").fetchone()[0]
    one, two = Store(path), Store(path)
    lose(path, root)
    one.save(replace(talk(), id="new"))
    assert "25 conv" not in one.notice and "24 conversations were rescued" in one.notice
    assert two.load("new").title == "Sky" and not two.notice
    assert dict(two.load("c7").nodes) == dict(light(talk()).nodes)
    assert len(two.sessions("sky")) == 25


def test_of_two_versions_of_one_thing_the_newest_is_kept(tmp_path: Path) -> None:
    """As an index that is damaged leaves them."""
    path = tmp_path / "s.db"
    several(path, 2)
    with sqlite3.connect(path) as db:
        db.executescript("""
            CREATE TABLE other AS SELECT * FROM session;
            DROP TABLE session;
            CREATE TABLE session AS SELECT * FROM other;
            UPDATE other SET title = 'Newer';
            INSERT INTO session SELECT * FROM other;
            DROP TABLE other""")
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'chosen'").fetchone()[0]
    lose(path, root)
    store = Store(path)
    use(store)
    assert sorted(summary.title for summary in store.sessions()) == ["Newer", "Newer", "Sky"]


def test_what_is_behind_a_lost_page_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    several(path, 100)
    with sqlite3.connect(path) as db:
        try:
            pages = db.execute(
                "SELECT pageno, ncell FROM dbstat WHERE name = 'session' AND pagetype = 'leaf'"
            ).fetchall()
        except sqlite3.OperationalError:
            pytest.skip("needs an sqlite with dbstat")
    page, lost = pages[len(pages) // 2]
    lose(path, page)
    store = Store(path)
    use(store)
    titles = [summary.title for summary in store.sessions() if summary.title.startswith("Sky ")]
    assert len(pages) > 3 and len(titles) == 100 - lost


def test_values_of_other_types_are_listed_as_text(store: Store) -> None:
    store.save(talk())
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE session SET title = CAST(x'ff41' AS TEXT), updated = 'soon', model = x'00ff'")
        db.execute("UPDATE snapshot SET data = x'00'")
    (listed,) = store.sessions()
    assert listed.title == "\ufffdA" and listed.updated == 0 and store.models()
    assert store.snapshot("c", "a", 0) is None
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE session SET title = x'ff41', updated = 9e999")
    assert store.sessions("a")[0].title == "\ufffdA"


def test_a_conversation_whose_own_row_is_lost_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    several(path, 2)
    with sqlite3.connect(path) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'session'").fetchone()[0]
    lose(path, root)
    store = Store(path)
    assert [summary.title for summary in store.sessions()] == ["Why is the sky blue?"] * 2
    assert dict(store.load("c1").nodes) == dict(light(talk()).nodes)
    assert len(store.sessions("sky")) == len(store.sessions("w3")) == 2  # what was asked, and what was answered
