"""Evaluations in an sqlite database: every item's result as it comes, and all that is needed to measure it again.

What was measured of one task by one model under one protocol is one evaluation, whatever was stopped in between: a
second run does what is left. Knows nothing of models and the screen.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.database import BUSY_S, change
from engine.errors import DataError
from engine.evaluate.figures import Tally
from engine.evaluate.tasks import Problem

VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS evaluation (
    id TEXT PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, asked TEXT NOT NULL, command TEXT NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL);
CREATE TABLE IF NOT EXISTS result (
    evaluation TEXT NOT NULL, number INTEGER NOT NULL, cluster TEXT, measures TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (evaluation, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS place (evaluation TEXT PRIMARY KEY, said TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS problem (
    evaluation TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, words TEXT NOT NULL, scored INTEGER NOT NULL,
    PRIMARY KEY (evaluation, number, kind)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One task by one model. `asked` is what the score depends on: protocol, identities, versions."""

    task: str
    model: str
    asked: Mapping[str, Any]
    command: Sequence[str] = ()  # that began it
    place: Mapping[str, Any] = field(default_factory=dict)  # where its items are (`app.task_sources`)

    @property
    def id(self) -> str:
        """Equal for what would give the same scores."""
        return hashlib.sha256(json.dumps([self.task, dict(self.asked)], sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Row:
    """One item's result."""

    number: int
    cluster: str | None
    measures: Mapping[str, float]
    detail: Mapping[str, Any]


class Evaluations:
    """The database. DataError, one line, where it cannot be opened or written, or is another version's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise DataError(f"{path} was written by another version ({version}): use the likely that wrote it")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(SCHEMA)
            self._db.execute(f"PRAGMA user_version = {VERSION}")
        except (sqlite3.Error, OSError) as error:
            raise DataError(f"{path} cannot be opened ({error}): move it away, or set LIKELY_HOME") from error

    def close(self) -> None:
        self._db.close()

    def begin(self, evaluation: Evaluation, *, fresh: bool = False) -> set[int]:
        """Begin an evaluation, or go on with it: the numbers of the items that it has; `fresh` forgets them."""
        now = time.time()
        with change(self._db) as db:
            if fresh:
                for table in ("result", "problem"):
                    db.execute(f"DELETE FROM {table} WHERE evaluation = ?", (evaluation.id,))
            db.execute(
                "INSERT INTO evaluation VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET updated = ?, model = ?",
                (evaluation.id, evaluation.task, evaluation.model, json.dumps(dict(evaluation.asked)),
                 json.dumps(list(evaluation.command)), now, now, now, evaluation.model),
            )  # fmt: skip
            if evaluation.place:
                said = json.dumps(dict(evaluation.place))
                db.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (evaluation.id, said))
        rows = self._db.execute("SELECT number FROM result WHERE evaluation = ?", (evaluation.id,))
        return {number for (number,) in rows}

    def keep(self, evaluation: Evaluation, rows: Sequence[Row], problems: Sequence[Problem] = ()) -> None:
        """Add results, all or none of them."""
        id = evaluation.id
        with change(self._db) as db:
            db.executemany(
                "INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?)",
                [(id, r.number, r.cluster, json.dumps(dict(r.measures)), json.dumps(dict(r.detail))) for r in rows],
            )
            db.executemany(
                "INSERT OR REPLACE INTO problem VALUES (?, ?, ?, ?, ?)",
                [(id, p.number, p.kind, p.words, p.scored) for p in problems],
            )
            db.execute("UPDATE evaluation SET updated = ? WHERE id = ?", (time.time(), id))

    def rows(self, evaluation: Evaluation, below: int | None = None) -> Iterator[Row]:
        """Its results by number, as they are read; `below`: those of lower numbers alone."""
        found = self._db.execute(
            "SELECT number, cluster, measures, detail FROM result WHERE evaluation = ? AND number < ? ORDER BY number",
            (evaluation.id, _below(below)),
        )
        return (Row(number, cluster, json.loads(measures), json.loads(d)) for number, cluster, measures, d in found)

    def common(self, first: Evaluation, second: Evaluation, below: int | None = None) -> Iterator[tuple[Row, Row]]:
        """The items that both have, by number."""
        others = self.rows(second, below)
        other = next(others, None)
        for row in self.rows(first, below):
            while other is not None and other.number < row.number:
                other = next(others, None)
            if other is not None and other.number == row.number:
                yield row, other

    def problems(self, evaluation: Evaluation, below: int | None = None) -> list[Problem]:
        found = self._db.execute(
            "SELECT number, kind, words, scored FROM problem WHERE evaluation = ? AND number < ? ORDER BY number",
            (evaluation.id, _below(below)),
        )
        return [Problem(number, kind, words, bool(scored)) for number, kind, words, scored in found]

    def tally(self, evaluation: Evaluation, below: int | None = None) -> Tally:
        """Its numbers."""
        tally = Tally()
        for row in self.rows(evaluation, below):
            tally.add(row.number, row.cluster, row.measures)
        return tally

    def all(self, tasks: Sequence[str] = ()) -> list[Evaluation]:
        """Every evaluation, of these tasks alone if any are named, the latest first."""
        found = self._db.execute(
            "SELECT task, model, asked, command, said FROM evaluation LEFT JOIN place ON place.evaluation = id "
            "ORDER BY updated DESC"
        ).fetchall()
        made = [
            Evaluation(task, model, json.loads(asked), json.loads(command), json.loads(place or "{}"))
            for task, model, asked, command, place in found
        ]
        return [each for each in made if not tasks or each.task in tasks]

    def latest(self, tasks: Sequence[str] = (), models: Sequence[str] = ()) -> list[Evaluation]:
        """The latest of each task and model, as far as they can be set side by side: of the same items, asked alike."""
        found: dict[tuple[str, str], Evaluation] = {}
        alike: dict[str, tuple[object, ...]] = {}
        for each in self.all(tasks):
            if models and each.model not in models:
                continue
            if alike.setdefault(each.task, _items(each)) == _items(each):
                found.setdefault((each.task, each.model), each)
        return list(found.values())


def _items(evaluation: Evaluation) -> tuple[object, ...]:
    """Equal for evaluations whose items can be compared."""
    protocol = {**evaluation.asked.get("protocol", {}), "unconditional": None}
    return evaluation.asked.get("source"), sorted(protocol.items(), key=lambda item: item[0])


def _below(number: int | None) -> int:
    return (1 << 62) if number is None else number


def asked_of(protocol: Any, **identity: Any) -> dict[str, Any]:
    """The protocol that a score depends on, for `Evaluation.asked`."""
    return {"protocol": asdict(protocol), **identity}
