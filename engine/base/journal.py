"""`Journal`: what a run has done, a line of JSON a job, appended and made durable before the next job begins.

A job is in it whole or not at all: a line that was cut by a kill or a full disk is taken off when the file is opened
again, and the job is done again, with the same seed and so the same rows. Knows nothing of what a job is, and leaves it
to whoever opens it to be alone in its folder (`lock`).
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from likely.engine.base import distributed
from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import refuse_pipe
from likely.metal import durable


class Journal:
    """An append-only file of entries; the first line says what they belong to. Without a path, entries in memory."""

    def __init__(self, path: Path | None, head: Mapping[str, Any], schema: foreign_json.Schema = dict) -> None:
        """Open it, or begin it. DataError where it belongs to something else, is damaged in its middle or has entries
        that are not by the schema, or cannot be written."""
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._file: IO[bytes] | None = None
        if path is not None:
            try:
                self._open(path, head, schema)
            except BaseException:
                self.close()
                raise

    def add(self, entry: Mapping[str, Any]) -> None:
        """One entry more, on the disk when this returns. DataError where that cannot be: nothing of it stays."""
        self._write(entry)
        self.entries.append(dict(entry))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open(self, path: Path, head: Mapping[str, Any], schema: foreign_json.Schema) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            refuse_pipe(path)
            # not buffered: what a write has taken is in the file, and one that failed leaves nothing to be tried again
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
            self._file.seek(0)
            whole, newline, torn = self._file.read().rpartition(b"\n")
            if torn:
                self._file.truncate(len(whole) + len(newline))
        except OSError as error:
            raise DataError(f"cannot open {path}: {error.strerror}") from None
        try:
            lines = whole.split(b"\n") if whole else []
            read = [foreign_json.parse(line, schema if number else dict) for number, line in enumerate(lines)]
        except ValueError:
            raise DataError(f"{path} is damaged: move it away, and the run begins anew") from None
        if len(read) == 1 and read[0] != dict(head):  # of a run that came to nothing
            self._file.truncate(0)
            read = []
        if read and read[0] != dict(head):
            other = ", ".join(sorted(key for key in {*head, *read[0]} if head.get(key) != read[0].get(key)))
            raise DataError(f"{path} belongs to a run with another {other}: choose another out")
        self.entries = read[1:]
        if not read:
            self._write(head)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        data, start = json.dumps(entry).encode() + b"\n", self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            durable.sync(self._file.fileno())
        except OSError as error:
            self._file.truncate(start)
            raise DataError(
                f"cannot write {self.path}: {error.strerror}; make room, and the same command goes on from there"
            ) from None


@contextmanager
def opened(path: Path, head: Mapping[str, Any], schema: foreign_json.Schema = dict) -> Iterator[Journal]:
    """The journal; over ranks it is rank 0's, and the others have its entries without a file."""
    together = distributed.joined()
    journal = Journal(path if together is None or together.leads else None, head, schema)
    try:
        if together is not None:
            journal.entries = together.broadcast(journal.entries)
        yield journal
    finally:
        journal.close()
