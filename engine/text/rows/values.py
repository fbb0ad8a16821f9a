"""`RowValue`: what stands in one row of a file, JSONL, JSON, CSV or Parquet, before its form is known.

What is broken is a row that says so, and whoever reads them has all of them told at once (`BrokenRows`). Lines are read
as they are asked for.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.whole_file import ROWS, open_file, read_whole
from likely.engine.base.machine.installation import adding

KINDS = (".jsonl", ".json", ".csv", ".parquet")
DELIMITERS = ",;\t"  # of a CSV file, the usual one first
TOLD = 10  # places of what is broken


@dataclass(frozen=True, slots=True)
class RowValue:
    """A JSON value and its place, or why there is none. `line` is that of a JSONL file, as it is written."""

    where: str  # file:line, or file[number]
    value: Any = None
    fault: str = ""
    column: int = 1  # of the fault
    line: str = ""
    delimiter: str = ""  # of a CSV file

    def place(self, key: str = "") -> str:
        """File, line and column: of the fault, or of a key."""
        column = self.column if self.fault or not key else self.line.find(json.dumps(key, ensure_ascii=False)) + 1
        return f"{self.where}:{max(1, column)}" if self.line else self.where


class BrokenRows(DataError):
    """Rows of a file that cannot be read: how many, and the places of the first of them with what is wrong."""

    def __init__(self, file: Path, faults: Sequence[tuple[str, str]], total: int) -> None:
        """`faults`: place and words of each; `total`: rows of the file."""
        said: dict[str, list[str]] = {}
        for place, words in faults[:TOLD]:
            said.setdefault(words, []).append(place.removeprefix(str(file)).lstrip(": "))
        count = "none of" if len(faults) == total else f"{len(faults):,} of"
        tail = "can be read" if len(faults) == total else "cannot be read"
        self.head = f"{file}: {count} its {total:,} rows {tail}"
        self.faults = [f"{', '.join(places)}: {words}" for words, places in said.items()]
        if len(faults) > TOLD:
            self.faults.append(f"and {len(faults) - TOLD:,} more")
        super().__init__(f"{self.head}: {'; '.join(self.faults)}")

    @property
    def lines(self) -> tuple[str, ...]:
        return self.head, *(f"  {fault}" for fault in self.faults)


def refuse(file: Path, faults: Sequence[tuple[str, str]], total: int) -> None:
    """DataError where there are faults, each a place and words."""
    if len(faults) == 1:
        raise DataError(": ".join(faults[0]))
    if faults:
        raise BrokenRows(file, faults, total)


def kind(file: Path) -> str:
    """How a file's name ends, without .gz."""
    return Path(file.name.removesuffix(".gz")).suffix


def read(file: Path, largest: int = ROWS) -> Iterator[RowValue]:
    """The rows of a file of one of KINDS, as they are read.

    DataError where the file cannot be read at all, and for one of more than `largest` bytes.
    """
    if kind(file) in (".jsonl", ".csv"):
        yield from _of_lines(file, largest)
    elif file.suffix == ".parquet":
        yield from _parquet(file)
    else:
        yield from _json(file, largest)


def delimiter(heading: str) -> str:
    """The mark between the columns of a CSV file, by its first line."""
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([heading], delimiter=mark), ())))


def _of_lines(file: Path, largest: int) -> Iterator[RowValue]:
    try:
        with open_file(file, largest) as raw:
            packed = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
            lines = _lines(io.TextIOWrapper(packed, encoding="utf-8-sig"), file)
            yield from (_csv if kind(file) == ".csv" else _jsonl)(lines, file)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} must be UTF-8: {error.reason} at byte {error.start}") from None
    except (OSError, EOFError, zlib.error) as error:  # the last two of a damaged .gz
        raise DataError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None


def _lines(text: io.TextIOWrapper, file: Path) -> Iterator[str]:
    """Lines, as they are read; DataError for one without end."""
    number, largest = 0, foreign_json.LARGEST
    while line := text.readline(largest + 1):
        number += 1
        if len(line) > largest:
            raise DataError(f"{file}:{number}: the line has more than {largest / 1e6:,.0f} MB")
        yield line


def _jsonl(lines: Iterator[str], file: Path) -> Iterator[RowValue]:
    for number, ended in enumerate(lines, 1):
        if line := ended.rstrip():
            where = f"{file}:{number}"
            try:
                yield RowValue(where, foreign_json.parse(line), line=line)
            except json.JSONDecodeError as error:
                came = line[error.pos : error.pos + 20]
                fault = f"one JSON object a line expected: {error.msg}, got {came!r}"
                yield RowValue(where, fault=fault, column=error.colno, line=line)
            except ValueError as error:
                yield RowValue(where, fault=f"one JSON object a line expected: {error}", line=line)


def _csv(lines: Iterator[str], file: Path) -> Iterator[RowValue]:
    heading = next(lines, "")
    mark = delimiter(heading)
    rows = csv.DictReader(chain([heading], lines), delimiter=mark, strict=True)
    try:
        for row in rows:
            where = f"{file}:{rows.line_num}"
            if None in row or None in row.values():
                yield RowValue(where, fault=f"expected {len(rows.fieldnames or ())} columns as in the first line")
            else:
                yield RowValue(where, {key: _cell(value) for key, value in row.items()}, delimiter=mark)
    except csv.Error as error:
        raise DataError(f"{file}:{rows.line_num}: this is no CSV: {error}") from None


def _cell(value: str) -> Any:
    """A cell; lists of objects, such as messages, come as JSON."""
    if value.startswith("[{"):
        with suppress(ValueError):
            return foreign_json.parse(value)
    return value


def _json(file: Path, largest: int) -> Iterator[RowValue]:
    try:
        text = read_whole(file, encoding="utf-8-sig", largest=largest)
        values = foreign_json.parse(text, list, largest=largest)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}:{error.colno}: a JSON list of objects expected: {error.msg}") from None
    except ValueError as error:
        raise DataError(f"{file}:1:1: a JSON list of objects expected: {error}") from None
    for i, value in enumerate(values):
        yield RowValue(f"{file}[{i}]", value)


def _parquet(file: Path) -> Iterator[RowValue]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError:
        raise DataError(f"{file}: reading Parquet needs pyarrow: {adding('pyarrow')}") from None
    try:
        table = parquet.read_table(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not a Parquet file: {str(error).splitlines()[0]}") from None
    for i, value in enumerate(table.to_pylist()):
        yield RowValue(f"{file}[{i}]", value)
