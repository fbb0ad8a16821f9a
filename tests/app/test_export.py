"""Conversations as files: whole as JSON lines, words and figures for readers, messages of others read; rows on disk."""

import json
import math
import sqlite3
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.store import database, export, rescue, stored_rows
from likely.app.store.database import open_database
from likely.app.store.export import free, jsonl, markdown, page, read, table, write
from likely.app.store.rescue import damaged
from likely.app.store.store import Store
from likely.app.store.stored_rows import (
    figures_from,
    figures_row,
    pack,
    pack_pieces,
    step_from,
    step_row,
    unpack,
    unpack_pieces,
)
from likely.engine.base.errors import DataError
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import Snapshot, Temperature
from tests.app import test_store

LN2 = math.log(2)


def step(text: str, bits: float | None = 1.0, **more: Any) -> TokenStep:
    given: dict[str, Any] = {
        "logprob": None if bits is None else -bits * LN2, "logprob_after": -LN2, "entropy": LN2 / 2,
        "entropy_after": 1.0, "rank": 3, "kept": 5, "recipe": SamplingConfig((Temperature(0.5),)), "snapshot": None,
        "removed_by": None,
        "position": 4,
    }  # fmt: skip
    return TokenStep(7, text.encode(), text, **given | more)


def talk(**more: Any) -> Conversation:
    steps = (step(" a<b "), step("\n", 3.0), step("calm", 0.5), step("\x1b", 9.0), step("<eos>", special=True),
             step("first", None))  # fmt: skip
    made = Conversation("c", title="Sky <1>", model="m", system=" be & brief ", seed=3, created=1.0, updated=2.0)
    made = made.add(Node("u", Fork(), "user", text=" why?\n"))
    made = made.add(Node("a", Fork("u"), "assistant", "", steps, finish="eot")).chose("a", test_store.CHOICE)
    return replace(made, **more)


def test_json_lines_hold_everything(tmp_path: Path) -> None:
    whole = replace(
        test_store.talk().mark("a", 3, "here").prune(Fork("a", 2), None), order=("TopK", "TopP"), asked={"max": "9"}
    )
    export.write(whole, "jsonl", tmp_path / "t.jsonl")
    header = json.loads((tmp_path / "t.jsonl").read_text().split("\n")[0])
    assert {"logprob", "entropy", "logprob_after"} <= {name for name, unit in header["units"].items() if unit == "nats"}
    found = export.read(tmp_path / "t.jsonl", "new", 0.0)
    assert (dict(found.marks), found.pruned, found.order) == (dict(whole.marks), whole.pruned, whole.order)
    assert found.asked == whole.asked
    assert (
        found.id == "new"
        and found.title == "Sky"
        and found.system == "Be brief"
        and found.recipe == test_store.talk().recipe
        and found.nodes["a"].prompt == (1, 7)
    )
    assert dict(found.chosen) == dict(test_store.talk().chosen) and list(found.nodes) == list(test_store.talk().nodes)
    for node in test_store.talk().nodes.values():
        for ours, theirs in zip(node.steps, found.nodes[node.id].steps, strict=True):
            assert replace(ours, snapshot=None, removed_by=None) == replace(theirs, snapshot=None, removed_by=None)
            assert ours.snapshot is not None and theirs.snapshot is not None
            assert np.array_equal(ours.snapshot.logits, theirs.snapshot.logits)


def test_readers_have_the_branch_that_is_checked_out_with_its_words_and_their_surprise() -> None:
    text = "".join(markdown(test_store.talk()))
    assert "w0 w1 w77" in text and "w3" not in text
    text = "".join(markdown(talk()))
    for words in ("# Sky <1>\n", "**system**\n\nbe & brief\n", "**you**\n\nwhy?\n", "**m**\n\na<b \ncalm\x1bfirst\n"):
        assert words in text
    head, *rows = [line.rstrip("\n").split("\t") for line in table(talk())]
    found = {json.loads(row[2]): dict(zip(head, row, strict=True)) for row in rows}
    assert [float(found[word]["bits"]) for word in (" a<b ", "\n", "calm", "\x1b")] == [1.0, 3.0, 0.5, 9.0]
    assert found["first"]["bits"] == "" and float(found["\n"]["probability"]) == 0.125
    assert float(found["calm"]["entropy_bits"]) == 0.5 and found["calm"]["drawn_by"] == "T 0.50"
    alone = Conversation("t", kind="text").add(Node("x", Fork(), "text", text=" one "))
    assert "one" in "".join(markdown(alone)) and "<h2>system</h2>" not in "".join(page(talk(system="")))


def test_html_is_whole_tinted_and_safe() -> None:
    evil = replace(test_store.step(1), text="<script>alert(1)</script>\x1b", piece=b"x")
    found = Conversation("c", title="<b>", system="<i>").add(Node("u", Fork(), "user", text="a < b & c"))
    found = found.add(Node("a", Fork("u"), "assistant", steps=(evil, test_store.step(2)), finish="eot"))
    page = "".join(export.page(found))

    class Checker(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.text: list[str] = []
            self.tags: set[str] = set()

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.tags.add(tag)
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

        def handle_data(self, data: str) -> None:
            self.text.append(data)

    checker = Checker()
    checker.feed(page)
    assert checker.open == [] and "script" not in checker.tags
    assert "a < b & c" in "".join(checker.text) and "\x1b" not in page
    assert 'class="h' in page and " bits, rank " in page


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a-b.md"
    names = []
    for _ in range(4):
        found = free(path)
        found.write_text("x")
        names.append(found.name)
    assert names == ["a-b.md", "a-b-2.md", "a-b-3.md", "a-b-4.md"]
    for kind in export.SUFFIX:
        write(talk(), kind, tmp_path / f"t.{kind}")
    assert (tmp_path / "t.markdown").read_text() == "".join(markdown(talk()))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="was not written"):
        export.write(talk(), "markdown", tmp_path / "nowhere" / "t.md")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "t.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="must be UTF-8"):
        export.read(tmp_path / "t.jsonl", "n", 0.0)


def lines(**more: Any) -> list[dict[str, Any]]:
    head, *nodes = [json.loads(line) for line in jsonl(talk())]
    return [head | more, *nodes]


def written(folder: Path, values: Any) -> Path:
    path = folder / "t.jsonl"
    path.write_text("\n".join(json.dumps(value) for value in values) if isinstance(values, list) else values)
    return path


def test_a_conversation_comes_back_from_its_lines(tmp_path: Path) -> None:
    found = read(written(tmp_path, lines()), "n", 9.0)
    assert replace(found, nodes={}, chosen={}) == replace(talk(), id="n", nodes={}, chosen={})
    assert dict(found.nodes) == dict(talk().nodes)
    marked = read(written(tmp_path, lines(marks=[["a", 5, "here"]], order=["TopK"])), "n", 9.0)
    assert dict(marked.marks) == {("a", 5): "here"} and marked.order == ("TopK",)
    left = lines()
    left[2] |= {"finish": "", "figures": {"score": "-inf", "p": 0.5}}
    found = read(written(tmp_path, left), "n", 9.0)
    assert (found.nodes["a"].finish, found.nodes["u"].finish) == ("interrupted", "")
    assert found.nodes["a"].figures == {"score": -math.inf, "p": 0.5}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (lines()[::2], ""),  # a node whose parent is missing
        (lines(version=2), "its version is 2: use the likely that wrote it"),
        (lines(kind="x"), "a conversation of the kind 'x'"),
        (lines(chosen=[["u", None, "zz"]]), "'zz' is checked out and is not there"),
        (lines(marks=[["a", 6, "w"]]), "a bookmark is at 6 of a message of 6"),
        (lines(marks=[["a", -1, "w"]]), "a bookmark is at -1 of a message of 6"), ("", "there is nothing in it"),
        ("\n\n", "there is nothing in it"), ("[]", ""), ('[{"role": "tool", "content": "x"}]', "this one is of 'tool'"),
        ('[{"role": "system", "content": "x"}]', "it has no messages"), ('[{"role": "user"}]', "'content' is missing"),
        ('[{"role": "user", "content": 3}]', "a message's content must be text, got int"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_says_why(values: Any, line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no conversation that can be imported: ") as error:
        read(written(tmp_path, values), "n", 9.0)
    assert line in str(error.value)


def test_messages_of_others_become_a_conversation(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    given = [
        {"role": "system", "content": "one"}, {"role": "developer", "content": "two"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "so"}, {"role": "user", "content": "and"},
    ]  # fmt: skip
    for values, title in (
        (given, "t"),
        ([given], "t"),
        ([{"messages": given, "title": "T"}], "T"),
        ([{"messages": given}], "t"),
    ):
        found = read(written(tmp_path, values), "n", 9.0)
        assert (found.title, found.system, found.created, found.updated) == (title, "one\n\ntwo", 9.0, 9.0)
        assert [(node.role, node.text, node.finish) for node in found.nodes.values()] == [
            ("user", "ab", ""), ("assistant", "so", "eot"), ("user", "and", ""),
        ]  # fmt: skip
        assert [message.text for message in found.messages()] == ["ab", "so", "and"] and len({*found.nodes}) == 3


# -- rows ------------------------------------------------------------------------------------------------------------


def snapshot(k: int = 3) -> Snapshot:
    rng = np.random.default_rng(k)
    return Snapshot(
        50_000, rng.integers(0, 50_000, k).astype("<i4"), rng.normal(size=k).astype("<f4"), 1.25, -0.5, 2.75,
        rng.normal(size=65).astype("<f4"), rng.integers(0, 9, 64).astype("<i4"), rng.normal(size=64).astype("<f4"),
    )  # fmt: skip


@pytest.mark.parametrize("k", [0, 1, 3])
def test_a_snapshot_is_packed_as_it_always_was(k: int) -> None:
    """Twelve more arrays of four bytes a number behind a head of 32 bytes: files of years ago are read so."""
    removed = np.arange(k, dtype=np.int8) - 1
    data = pack(step("x", snapshot=snapshot(k), removed_by=removed))
    assert len(data) == 32 + 4 * (2 * k + 65 + 64 + 64) + k
    assert (
        data[:8] == np.array([50_000, k], "<i4").tobytes()
        and data[8:32] == np.array([1.25, -0.5, 2.75], "<f8").tobytes()
    )
    found, gone = unpack(data)
    assert (found.vocab, found.lse, found.mean, found.variance) == (
        50_000,
        1.25,
        -0.5,
        2.75,
    ) and gone.tolist() == removed.tolist()
    for name in ("ids", "logits", "edges", "counts", "lses"):
        assert np.array_equal(getattr(found, name), getattr(snapshot(k), name)), name
    assert unpack(pack(step("x", snapshot=snapshot(k))))[1].tolist() == [-1] * k
    with pytest.raises(ValueError):
        unpack(data[:-1])


def test_pieces_and_figures_come_back() -> None:
    for pieces in ((), (b"",), (b"a", b"", b"\xff" * 300, b"end")):
        assert unpack_pieces(pack_pieces(pieces)) == pieces
    given = {"score": -math.inf, "p": 0.5, "up": math.inf}
    assert figures_row(given) == {"score": "-inf", "p": 0.5, "up": "inf"} and figures_from(figures_row(given)) == given
    one = step("x", special=True)
    row = step_row(one, 4)
    assert row[-1] == 4 and len(row) == len(stored_rows.STEP.split(", "))
    assert step_from(row, {4: one.recipe}) == one


# -- damage ----------------------------------------------------------------------------------------------------------


def error(code: int | None, words: str = "") -> sqlite3.Error:
    found = sqlite3.OperationalError(words)
    if code is not None:
        found.sqlite_errorcode = code
    return found


def test_only_a_file_that_is_damaged_is_called_so() -> None:
    unread = UnicodeDecodeError("utf-8", b"", 0, 1, "x")
    for found, wanted in (
        (unread, True), (None, False), (ValueError("x"), False), (error(None), False),
        (error(sqlite3.SQLITE_CORRUPT), True),
        (error(sqlite3.SQLITE_CORRUPT | 1 << 8), True), (error(sqlite3.SQLITE_NOTADB), True),
        (error(sqlite3.SQLITE_FULL), False), (error(sqlite3.SQLITE_ERROR, "no such table: x"), True),
        (error(sqlite3.SQLITE_ERROR, "x has no column named y"), True),
        (error(sqlite3.SQLITE_ERROR, "syntax"), False), (error(sqlite3.SQLITE_BUSY, "no such luck"), False),
    ):  # fmt: skip
        assert damaged(found) is wanted, found


def test_what_a_damaged_database_gives_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = Store(path)
    store.save(talk())
    store.remember_vocabulary("m", (b"a",))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM session")
        db.execute("UPDATE step SET i = 9 WHERE i = 2")
    old, notice = open_database(path)
    assert notice == ""
    new = sqlite3.connect(":memory:", isolation_level=None)
    new.executescript(database.SCHEMA)
    assert rescue.copy(old, new, "{}") == 1
    assert new.execute("SELECT id, title, kind, model, recipe, seed, deleted FROM session").fetchall() == [
        ("c", "", "chat", "", "{}", 0, None)
    ]
    assert [row[0] for row in new.execute("SELECT i FROM step ORDER BY i")] == [0, 1], "up to the first that is lost"
    assert sorted(new.execute("SELECT text, node FROM said").fetchall()) == [(" a<b \n", "a"), (" why?\n", "u")]
    assert new.execute("SELECT count(*) FROM vocabulary").fetchone() == (1,)
    created, updated = new.execute("SELECT created, updated FROM session").fetchone()
    assert created == pytest.approx(updated, abs=1) and created > 1e9
    old.close()
