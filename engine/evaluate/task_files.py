"""Files of tasks: a JSONL or CSV file whose rows have the keys of a form, or a TOML file that says where rows are and
how to make a form of their columns. No model.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from likely.engine.errors import DataError
from likely.engine.evaluate.tasks import COLUMNS, Row, Task, TaskSettings
from likely.engine.json_reader import LARGEST, parse
from likely.engine.options import read_toml, unknown
from likely.engine.whole_file import open_file

SUFFIXES = (".jsonl", ".csv", ".toml")


def read(path: Path, within: tuple[Path, ...] = ()) -> list[Task]:
    """The tasks of a file: one of rows (.jsonl, .csv, either as .gz), or those that a .toml describes, which may be a
    suite of others; `within` are the suites that it is listed in.

    DataError, one line, for what is missing, malformed or unknown, and for a suite that is in itself.
    """
    if not os.path.exists(path):  # False for a name that is too long for one
        raise DataError(f"there is no file {path}: a task is a .jsonl, .csv or .toml file, or one that is built in")
    if path.suffix == ".toml":
        if path.resolve() in within:
            raise DataError(f"{path}: this suite is listed in itself, by {within[-1]}: leave it out there")
        return _described(path, (*within, path.resolve()))
    return [Task(_name(path), lambda: rows(path), digest(path))]


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name


def rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL or CSV file as they are read; DataError naming the line of a malformed one."""
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind not in (".jsonl", ".csv"):
        raise DataError(f"{path} must be a .jsonl, .csv or .toml file")
    try:
        with open_file(path) as raw:
            packed = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            lines = _lines(io.TextIOWrapper(packed, encoding="utf-8"), path)
            if kind == ".csv":
                for row in csv.DictReader(lines):
                    yield {key: value for key, value in row.items() if key is not None}
                return
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    value = parse(line)
                except ValueError as error:
                    raise DataError(f"{path}:{number}: no JSON ({error})") from None
                if not isinstance(value, dict):
                    raise DataError(f"{path}:{number}: expected an object, got {type(value).__name__}")
                yield value
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise DataError(f"{path} is no CSV: {error}") from None
    except (OSError, EOFError, zlib.error) as error:  # the last two of a damaged .gz
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _lines(file: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """Lines, as they are read; DataError for one without end."""
    number = 0
    while line := file.readline(LARGEST + 1):
        number += 1
        if len(line) > LARGEST:
            raise DataError(f"{path}:{number}: the line has more than {LARGEST / 1e6:,.0f} MB")
        yield line


def digest(*paths: Path) -> str:
    """SHA-256 of files."""
    hasher = hashlib.sha256()
    for path in paths:
        try:
            with open_file(path) as file:
                hasher.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from None
    return hasher.hexdigest()


def _described(path: Path, within: tuple[Path, ...]) -> list[Task]:
    described = read_toml(path)
    if "tasks" in described:
        listed = described.pop("tasks")
        if described or not isinstance(listed, list):
            raise DataError(f"{path}: a suite is a list of files, tasks = [...], and nothing else")
        return [task for name in listed for task in read(path.parent / str(name), within)]
    known = {f.name: f for f in fields(TaskSettings)}
    others = ("name", "data", "examples", "scorer", *COLUMNS)
    for key in described:
        if key not in (*known, *others):
            raise DataError(f"{path}: {unknown(key, (*others, *known))}")
    if not isinstance(described.get("data"), str):
        raise DataError(f"{path}: data must name a .jsonl or .csv file beside it")
    if "scorer" in described:
        described.setdefault("scorers", [described.pop("scorer")])
    data = path.parent / described["data"]
    values = {key: _setting(path, key, described[key], known[key].default) for key in known if key in described}
    examples = path.parent / described["examples"] if isinstance(described.get("examples"), str) else None
    columns = {key: described[key] for key in COLUMNS if key in described}
    for key, value in columns.items():
        if not all(isinstance(item, str) for item in (value if isinstance(value, list) else [value])):
            raise DataError(f"{path}: {key} must be a column or a template such as '{{question}}', got {value!r}")
    settings = TaskSettings(**values)
    stored = digest(data, *([examples] if examples else []))
    described_by = json.dumps([stored, columns, asdict(settings)], sort_keys=True)
    return [
        Task(
            str(described.get("name", path.stem)),
            lambda: rows(data),
            hashlib.sha256(described_by.encode()).hexdigest(),
            settings,
            columns,
            (lambda: rows(examples)) if examples else None,
        )
    ]


def _setting(path: Path, key: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        value = [value] if isinstance(value, str) else value
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    elif type(value) is type(default) and (not isinstance(value, int) or value >= 0):
        return value
    want = {tuple: "a text or a list of them", float: "a number above 0", int: "a whole number", str: "a text"}
    raise DataError(f"{path}: {key} must be {want[type(default)]}, got {value!r}")
