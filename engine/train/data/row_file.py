"""`RowFile`: the rows of one file to be looked at, each with what is written beside it: where it came from, its scores.

Of a JSONL file only where its lines begin is read; a row is when it is asked for, and one that is none is an error by
itself. The file is held open, so what is put in its place meanwhile is seen when it is opened again.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import open_file
from likely.engine.text.rows.training_row import TrainingRow, parse
from likely.engine.train.data import data

DROPPED = "dropped.jsonl"  # rows that a pipeline kept aside
LONGEST = 1 << 22  # bytes of a line
CHUNK = 1 << 24


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row as it stands in a file, or why it is none. `source` is words by name; `scores` are finite."""

    where: str
    row: TrainingRow | None = None
    error: str = ""
    source: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    dropped: str = ""  # why the pipeline kept it aside

    @property
    def surprisal(self) -> float | None:
        """Bits a token in the mean, under the model that drew it; None of a row that no model drew."""
        nats = self.scores.get("logprob")
        return None if nats is None else -nats / math.log(2) + 0.0  # no minus before a zero


class RowFile(Sequence[FileRow]):
    """The rows of a JSONL file, by their number from 0."""

    def __init__(self, path: Path, names: Mapping[str, str] | None = None) -> None:
        """DataError where it cannot be read."""
        self.path, self.names = path, names
        try:
            self._file = open_file(path)
            self.stamp = stamp(path)
            self._ends, written = self._read_lines()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
        self._starts = np.concatenate([[0], self._ends[:-1] + 1]) if len(self._ends) else self._ends
        self._lines = np.flatnonzero(written)

    def _read_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each line ends, in bytes: at its newline, the last one at the end of the file; and whether anything but
        blanks is in it."""
        ends, written, at, begun = [], [], 0, False
        while part := self._file.read(CHUNK):
            data = np.frombuffer(part, np.uint8)
            newlines = np.flatnonzero(data == ord("\n"))
            inked = np.logical_or.reduceat(data > ord(" "), np.append(0, newlines[newlines < len(data) - 1] + 1))
            inked[0] |= begun  # what stood of its line in the chunk before
            begun = len(inked) > len(newlines) and bool(inked[-1])
            ends.append(newlines + at)
            written.append(inked[: len(newlines)])
            at += len(part)
        if begun:
            ends.append(np.array([at]))
            written.append(np.array([True]))
        return np.concatenate([np.zeros(0, np.int64), *ends]), np.concatenate([np.zeros(0, bool), *written])

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        line = int(self._lines[at])
        start, end = int(self._starts[line]), int(self._ends[line])
        where = f"{self.path}:{line + 1}"
        if end - start > LONGEST:
            return FileRow(where, error=f"{where}: a row of {(end - start) / 1e6:.0f} MB")
        try:
            read = os.pread(self._file.fileno(), end - start, start)
            return of_value(foreign_json.parse(read.removeprefix(b"\xef\xbb\xbf")), where, self.names)
        except (ValueError, OSError) as error:
            return FileRow(where, error=f"{where}: one JSON object a line expected: {error}")


def stamp(path: Path) -> tuple[int, ...]:
    """Another one when the file is another, or was written to; OSError where it is gone."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def of_value(value: Any, where: str, names: Mapping[str, str] | None = None) -> FileRow:
    """The row in a JSON value, with what else is in it."""
    more = value if isinstance(value, dict) else {}
    source, scores, dropped = more.get("source"), more.get("scores"), more.get("dropped")
    beside: dict[str, Any] = {
        "source": {name: text for name, item in source.items() if (text := _text(item))}
        if isinstance(source, dict) else {},
        "scores": {name: float(x) for name, x in scores.items() if isinstance(x, int | float) and math.isfinite(x)}
        if isinstance(scores, dict) else {},
        "dropped": dropped if isinstance(dropped, str) else "",
    }  # fmt: skip
    try:
        return FileRow(where, parse(value, where, names), **beside)
    except DataError as error:
        return FileRow(where, error=str(error), **beside)


def _text(value: Any) -> str:
    """A value of a source in words."""
    if isinstance(value, dict):
        return " ".join(f"{name}={_text(item)}" for name, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def listed(source: Path) -> list[Path]:
    """The files whose rows are shown for a data set: each part's, and those kept aside; a folder of texts as it is.
    DataError where there are none."""
    if not source.is_dir():
        return [source]
    sources = [file for files in data.files(source).values() for file in files]
    aside = source / DROPPED
    sources += [aside] if aside.exists() else []
    return sources or [source]


def opened(path: Path, names: Mapping[str, str] | None = None) -> Sequence[FileRow]:
    """The rows of a file; DataError where it cannot be read. All but JSONL is read whole."""
    if path.suffix == ".jsonl":
        return RowFile(path, names)
    rows = data.texts(path) if path.is_dir() else data.rows(path, names)
    return [FileRow(row.where, row) for row in rows]
