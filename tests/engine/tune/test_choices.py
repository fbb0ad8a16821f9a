"""Which rows a person keeps: added, taken back, and kept by the row's content."""

from pathlib import Path

import pytest

from likely.engine.rows.training_row import parse
from likely.engine.tune import choices


def test_choices_are_added_taken_back_and_kept_by_the_row_s_content(tmp_path: Path) -> None:
    path = choices.beside(tmp_path)
    assert path == tmp_path / "choices.jsonl" == choices.beside(tmp_path / "rows.jsonl")
    assert choices.choose(path, {"a": None}) == {} and not path.exists()
    assert choices.choose(path, {"a": True, "b": False}) == {"a": True, "b": False} == choices.read(path)
    assert choices.choose(path, {"a": None, "b": True, "c": False}) == {"b": True, "c": False}
    assert path.read_text() == '{"row": "b", "keep": true}\n{"row": "c", "keep": false}\n'
    assert choices.choose(path, {"b": None, "c": None}) == {} and path.read_text() == ""
    path.write_text('{"row": "b", "keep": true}\n\n{"row": 3}\n')
    with pytest.raises(Exception, match=r"choices\.jsonl:3: a choice of a row expected"):
        choices.read(path)
    one, other = (parse({"text": text}, "") for text in ("a", "b"))
    assert choices.key(one) == one.digest.hex()[:32] != choices.key(other) and len(choices.key(one)) == 32
    for dropped in ("filter: short", "balance: x", "deduplicate: y"):
        assert choices.can_come_back(dropped) is True
    for dropped in ("generate: z", "decontaminate: q", ""):
        assert choices.can_come_back(dropped) is False
