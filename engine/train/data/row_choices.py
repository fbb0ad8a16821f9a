"""Choices of rows by hand: which a person drops and which they keep, in `choices.jsonl` beside the rows.

The rows' own files are never rewritten for it: whoever reads a data set leaves out what is dropped, and the pipeline
that made the rows brings back what is kept when it runs again. A row is known by its content, so a choice holds for a
row that stands elsewhere by now, and for every copy of it. Knows nothing of why.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import read_whole, write_whole
from likely.engine.text.rows.training_row import TrainingRow

NAME = "choices.jsonl"
SCHEMA = {"row": str, "keep": bool}
DIGITS = 32  # of a row's digest
BACK = ("filter", "deduplicate", "balance")  # stages of a pipeline whose rows can be trained on all the same


def can_come_back(dropped: str) -> bool:
    """Whether a row that was dropped with `STAGE: reason` is back when a person keeps it. What generating drops is no
    row of its kind, and what is evaluated is not trained on."""
    return dropped.partition(": ")[0] in BACK


def beside(source: Path) -> Path:
    """Where the choices of a folder's rows are, or of a file's."""
    return (source if source.is_dir() else source.parent) / NAME


def key(row: TrainingRow) -> str:
    """The name of a row among choices."""
    return row.digest.hex()[:DIGITS]


def read(path: Path) -> dict[str, bool]:
    """Whether a row is kept, by its key; nothing without a file. DataError, with the line, for a damaged one."""
    if not path.exists():
        return {}
    by_row: dict[str, bool] = {}
    for number, line in enumerate(read_whole(path).split("\n"), 1):
        if line.strip():
            try:
                entry = foreign_json.parse(line, SCHEMA)
            except ValueError as error:
                raise DataError(
                    f"{path}:{number}: a choice of a row expected: {error}; mend it, or call a file of yours otherwise"
                ) from None
            by_row[entry["row"]] = entry["keep"]
    return by_row


def choose(path: Path, changes: Mapping[str, bool | None]) -> dict[str, bool]:
    """All choices after some were made, or taken back by None. DataError where they cannot be written: those that were
    there before are there still."""
    by_row = read(path)  # another screen may have written
    for row, keep in changes.items():
        by_row.pop(row, None)
        if keep is not None:
            by_row[row] = keep
    if by_row or path.exists():
        write_whole(path, (json.dumps({"row": row, "keep": keep}) + "\n" for row, keep in by_row.items()))
    return by_row
