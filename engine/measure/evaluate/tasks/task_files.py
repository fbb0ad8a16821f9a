"""Files of tasks: rows that have the keys of a form, or a TOML file that says where rows are and how to make a form of
their columns. No model.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from likely.engine.base.errors import DataError
from likely.engine.base.files.foreign_json import shown
from likely.engine.base.files.whole_file import open_file
from likely.engine.base.options import read_toml, unknown
from likely.engine.measure.evaluate.tasks.tasks import COLUMNS, Row, Task, TaskSettings, is_training
from likely.engine.text.rows import values
from likely.engine.text.rows.training_row import read_row, renamed

SUFFIXES = (*values.KINDS, ".toml")


def read(path: Path, within: tuple[Path, ...] = (), names: Mapping[str, str] = {}) -> list[Task]:
    """The tasks of a file: one of rows, or those that a .toml describes, which may be a suite of others; `within` are
    the suites that it is listed in. `names` maps what a file calls its columns to the keys of a form.

    DataError for what is missing, malformed (of a file of rows all that is, with line and column) or unknown, and for a
    suite that is in itself.
    """
    if not os.path.exists(path):  # False for a name that is too long for one
        raise DataError(f"there is no file {path}: a task is a file of rows, a .toml file, or one that is built in")
    if path.suffix == ".toml":
        if names:
            raise DataError(f"{path}: --map is of files of rows; this file says itself what its columns are")
        if path.resolve() in within:
            raise DataError(f"{path}: this suite is listed in itself, by {within[-1]}: leave it out there")
        return _described(path, (*within, path.resolve()))
    identity = digest(path)
    _check(path, names)
    if names:
        identity += f" {json.dumps(names, sort_keys=True)}"
    return [Task(_name(path), lambda: (renamed(row, names) for row in rows(path)), identity)]


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name


def _check(path: Path, names: Mapping[str, str]) -> None:
    """DataError for all rows that cannot be read, before any is asked. Where the first one that has a form is a row to
    train on, all are read as a training reads them; else what is odd about one is told beside the items."""
    faults, broken, total, learned = list[tuple[str, str]](), list[tuple[str, str]](), 0, None
    for each in values.read(_of_rows(path)):
        total += 1
        whole = not each.fault and isinstance(each.value, dict)
        if whole and learned is None:
            learned = is_training(renamed(each.value, names))
        if whole and learned is False:
            continue
        read_row(each, names, faults)
        broken += [] if whole else faults[-1:]
    values.refuse(path, faults if learned else broken, total)


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file as they are read; DataError, after the last one, for all that are malformed."""
    faults: list[tuple[str, str]] = []
    total = 0
    for each in values.read(_of_rows(path)):
        total += 1
        if each.fault:
            faults.append((each.place(), each.fault))
        elif not isinstance(each.value, dict):
            faults.append((each.place(), f"a JSON object expected, got {shown(each.value)}"))
        else:
            yield each.value
    values.refuse(path, faults, total)


def _of_rows(path: Path) -> Path:
    """The path, of a file of rows; DataError for any other."""
    if values.kind(path) not in values.KINDS:
        raise DataError(f"{path} must be a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    return path


def columns(path: Path) -> frozenset[str]:
    """The columns of a file of rows, by their own names; none of a .toml file."""
    return frozenset() if path.suffix == ".toml" else frozenset(key for row in rows(path) for key in row)


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
        raise DataError(f"{path}: data must name a file of rows beside it, such as a .jsonl or .csv")
    if "scorer" in described:
        described.setdefault("scorers", [described.pop("scorer")])
    data = path.parent / described["data"]
    chosen = {key: _setting(path, key, described[key], known[key].default) for key in known if key in described}
    examples = path.parent / described["examples"] if isinstance(described.get("examples"), str) else None
    columns = {key: described[key] for key in COLUMNS if key in described}
    for key, value in columns.items():
        if not all(isinstance(item, str) for item in (value if isinstance(value, list) else [value])):
            raise DataError(f"{path}: {key} must be a column or a template such as '{{question}}', got {value!r}")
    settings = TaskSettings(**chosen)
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
