"""A run's journal: what was begun goes on after a kill, and nothing of what cannot be written stays."""

import json
from pathlib import Path

import pytest

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.journal import Journal, opened
from tests.support.limits import file_size_limit


def test_a_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a" / "j"
    first = Journal(path, {"of": 1})
    first.add({"n": 1})
    first.add({"n": 2})
    first.close()
    assert path.read_text() == '{"of": 1}\n{"n": 1}\n{"n": 2}\n' and first.entries == [{"n": 1}, {"n": 2}]
    with path.open("a") as file:
        file.write('{"n": 3}')  # cut before its line ended
    again = Journal(path, {"of": 1}, {"n": int})
    assert again.entries == [{"n": 1}, {"n": 2}] and path.read_text().endswith('{"n": 2}\n')
    again.add({"n": 4})
    again.close()
    with opened(path, {"of": 1}) as third:
        assert third.entries == [{"n": 1}, {"n": 2}, {"n": 4}]
    for head, line in (
        ({"of": 2}, "belongs to a run with another of: choose"),
        ({"of": 1, "by": 3}, "another by:"),
        ({"if": 1}, "another if, of:"),
    ):
        with pytest.raises(DataError, match=line):
            Journal(path, head)
    for text, schema in (('{"of": 1}\n{]\n', dict), ('{"of": 1}\n{"n": "x"}\n', {"n": int}), ("[]\n", dict)):
        path.write_text(text)
        with pytest.raises(DataError, match="is damaged: move it away"):
            Journal(path, {"of": 1}, schema)
    for nothing in ('{"of"', '{"of": 2}\n'):  # cut, or of a run that did none of its jobs
        path.write_text(nothing)
        with opened(path, {"of": 1}) as fresh:
            assert fresh.entries == [] and path.read_text() == '{"of": 1}\n'
    with pytest.raises(DataError, match=r"cannot open .*: Is a directory"):
        Journal(tmp_path, {})
    memory = Journal(None, {"of": 1})
    memory.add({"n": 1})
    memory.close()
    assert memory.entries == [{"n": 1}] and foreign_json.parse(json.dumps(memory.entries)) == [{"n": 1}]


def test_an_entry_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", {})
    journal.add({"n": 1})
    for room in (9, 12):  # none, and for a part of the line
        with file_size_limit(room), pytest.raises(DataError, match=r"cannot write .*: File too large; make room"):
            journal.add({"n": 2222})
    assert journal.entries == [{"n": 1}] and (tmp_path / "j").read_text() == '{}\n{"n": 1}\n'
    journal.add({"n": 3})
    journal.close()
    assert (tmp_path / "j").read_text() == '{}\n{"n": 1}\n{"n": 3}\n'
