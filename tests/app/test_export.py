"""Files out and in: nothing is lost in JSON lines, readers get text, others' messages become conversations."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from likely.app import export
from likely.engine.conversation import Conversation, Fork, Node
from likely.engine.errors import DataError
from tests.app.test_store import step, talk

SYSTEM = {"role": "system", "content": "S"}
ANSWER = {"role": "assistant", "content": "A"}


def test_json_lines_hold_everything(tmp_path: Path) -> None:
    whole = replace(talk().mark("a", 3, "here").prune(Fork("a", 2), None), order=("TopK", "TopP"))
    export.write(whole, "jsonl", tmp_path / "t.jsonl")
    found = export.read(tmp_path / "t.jsonl", "new", 0.0)
    assert (dict(found.marks), found.pruned, found.order) == (dict(whole.marks), whole.pruned, whole.order)
    assert found.id == "new" and found.title == "Sky" and found.system == "Be brief" and found.recipe == talk().recipe
    assert dict(found.chosen) == dict(talk().chosen) and list(found.nodes) == list(talk().nodes)
    for node in talk().nodes.values():
        for ours, theirs in zip(node.steps, found.nodes[node.id].steps, strict=True):
            assert replace(ours, snapshot=None, removed_by=None) == replace(theirs, snapshot=None, removed_by=None)
            assert ours.snapshot is not None and theirs.snapshot is not None
            assert np.array_equal(ours.snapshot.logits, theirs.snapshot.logits)


def test_readers_get_the_branch_that_is_checked_out(tmp_path: Path) -> None:
    text = "".join(export.markdown(talk()))
    assert "**you**\n\nWhy is the sky blue?" in text and "w0 w1 w77" in text and "w3" not in text
    assert "Be brief" in text


def test_a_table_has_the_figures_that_are_known_and_blanks_for_others() -> None:
    known, unknown = replace(step(1), entropy=2 * np.log(2)), replace(step(2), entropy=None, logprob=None)
    found = Conversation("c").add(Node("u", Fork(), "user", text="a"))
    found = found.add(Node("a", Fork("u"), "assistant", steps=(known, unknown), finish="eot"))
    rows = [line.rstrip("\n").split("\t") for line in export.table(found)]
    assert [len(row) for row in rows] == [9] * 3
    assert [row[6] for row in rows] == ["entropy_bits", "2.0000", ""] and rows[2][3:5] == ["", ""]


def test_html_is_whole_tinted_and_safe() -> None:
    evil = replace(step(1), text="<script>alert(1)</script>\x1b", piece=b"x")
    found = Conversation("c", title="<b>", system="<i>").add(Node("u", Fork(), "user", text="a < b & c"))
    found = found.add(Node("a", Fork("u"), "assistant", steps=(evil, step(2)), finish="eot"))
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


def test_a_damaged_file_is_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    export.write(talk(), "jsonl", path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2]]))  # a node whose parent is missing
    with pytest.raises(DataError, match="no conversation"):
        export.read(path, "n", 0.0)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="must be UTF-8"):
        export.read(path, "n", 0.0)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="was not written"):
        export.write(talk(), "markdown", tmp_path / "nowhere" / "t.md")
    assert list(tmp_path.iterdir()) == []
