"""Evaluations in an sqlite database: every item's result as it comes, and all that is needed to measure it again.

What was measured of one task by one model under one protocol is one evaluation, whatever was stopped in between: a
second run does what is left. A disk that is full costs what would be kept, not the answer. Knows nothing of models and
the screen.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from likely.app.store.database import BUSY_S, change, write_ahead
from likely.engine.base.errors import DataError
from likely.engine.base.files.foreign_json import check, parse
from likely.engine.measure.evaluate.figures.figures import Tally
from likely.engine.measure.evaluate.tasks.tasks import Problem, Result

VERSION = 1
ASKED = {"protocol?": dict}
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


Cell = tuple[str, str]  # task, model


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One task by one model. `asked` is what the score depends on: protocol, identities, versions.

    Behind `place` stands what is of one run of it, and not kept.
    """

    task: str
    model: str
    asked: Mapping[str, Any]
    command: Sequence[str] = ()  # that began it
    place: Mapping[str, Any] = field(default_factory=dict)  # where its items are (`app.task_sources`)
    protocol: Mapping[str, Any] = field(default_factory=dict)  # what of `asked` items of this form depend on
    below: int | None = None  # items of lower numbers alone
    known: int = 0  # items from before
    total: int = 0  # items there are; 0 where that is not known

    @property
    def cell(self) -> Cell:
        return self.task, self.model

    @property
    def id(self) -> str:
        """Equal for what would give the same scores."""
        return hashlib.sha256(json.dumps([self.task, dict(self.asked)], sort_keys=True).encode()).hexdigest()[:32]


class Evaluations:
    """The database; where it cannot be opened or written, one in memory that begins with what can be read of it."""

    def __init__(self, path: Path, tell: Callable[[str], None] = lambda line: None) -> None:
        """`tell` is called once, with a line, if results are not kept from there on."""
        self.path, self._tell, self.kept = path, tell, True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _opened(str(path))
        except (sqlite3.Error, OSError, DataError) as error:
            self._db = _in_memory(path)
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.kept = False
        cause = error.__cause__ or error
        reason = cause.strerror if isinstance(cause, OSError) else cause
        self._tell(f"results are not kept in {self.path} ({reason}): mend that, or set LIKELY_HOME")

    def _write(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """A transaction, all of it or nothing; in memory from the first on that the disk refuses."""
        try:
            with change(self._db) as db:
                work(db)
        except DataError as error:
            if not self.kept:
                raise
            self._db = _in_memory(self.path, self._db)
            self._give_up(error)
            self._write(work)

    def _read(self, query: str, values: Sequence[object] = ()) -> Iterator[Any]:
        """Rows as they are read; DataError where they cannot be."""
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            raise DataError(f"{self.path} cannot be read ({error}): move it away, or set LIKELY_HOME") from error

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """Errors of a damaged file, in one line."""
        try:
            yield
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.path} is damaged ({error}): move it away, and measure again") from error

    def begin(self, evaluation: Evaluation, *, fresh: bool = False) -> set[int]:
        """Begin an evaluation, or go on with it: the numbers of the items that it has; `fresh` forgets them."""
        now = time.time()

        def write(db: sqlite3.Connection) -> None:
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
                place = json.dumps(dict(evaluation.place))
                db.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (evaluation.id, place))

        self._write(write)
        rows = self._read("SELECT number FROM result WHERE evaluation = ?", (evaluation.id,))
        return {number for (number,) in rows}

    def keep(self, evaluation: Evaluation, rows: Sequence[Result], problems: Sequence[Problem] = ()) -> None:
        """Add results, all or none of them."""
        id = evaluation.id

        def write(db: sqlite3.Connection) -> None:
            db.executemany(
                "INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?)",
                [(id, r.number, r.cluster, json.dumps(dict(r.values)), json.dumps(dict(r.detail))) for r in rows],
            )
            db.executemany(
                "INSERT OR REPLACE INTO problem VALUES (?, ?, ?, ?, ?)",
                [(id, p.number, p.kind, p.words, p.scored) for p in problems],
            )
            db.execute("UPDATE evaluation SET updated = ? WHERE id = ?", (time.time(), id))

        self._write(write)

    def rows(self, evaluation: Evaluation) -> Iterator[Result]:
        """Its results by number, as they are read."""
        with self._checking():
            read = self._read(
                "SELECT number, cluster, measures, detail FROM result WHERE evaluation = ? AND number < ? "
                "ORDER BY number",
                (evaluation.id, _below(evaluation)),
            )
            for number, cluster, measures, detail in read:
                check({"number": number, "cluster": cluster}, {"number": int, "cluster": (str, None)})
                values = parse(measures, dict)
                if not all(type(value) in (int, float) for value in values.values()):
                    raise ValueError(f"item {number} has a measure that is no number")
                yield Result(number, cluster, values, parse(detail, dict))

    def common(self, first: Evaluation, second: Evaluation) -> Iterator[tuple[Result, Result]]:
        """The items that both have, by number; windows that are not of as many bytes are not the same."""
        others = self.rows(second)
        other = next(others, None)
        for row in self.rows(first):
            while other is not None and other.number < row.number:
                other = next(others, None)
            if other is None or other.number != row.number:
                continue
            if row.values.get("bytes") == other.values.get("bytes"):
                yield row, other

    def problems(self, evaluation: Evaluation) -> list[Problem]:
        with self._checking():
            read = self._read(
                "SELECT number, kind, words, scored FROM problem WHERE evaluation = ? AND number < ? ORDER BY number",
                (evaluation.id, _below(evaluation)),
            )
            return [
                Problem(check(number, int), check(kind, str), check(words, str), bool(scored))
                for number, kind, words, scored in read
            ]

    def tally(self, evaluation: Evaluation) -> Tally:
        """Its numbers."""
        tally = Tally()
        for row in self.rows(evaluation):
            tally.add(row.number, row.cluster, row.values)
        return tally

    def all(self, tasks: Sequence[str] = ()) -> list[Evaluation]:
        """Every evaluation that has come to a row, of these tasks alone if any are named, the latest first."""
        with self._checking():
            read = self._read(
                "SELECT task, model, asked, command, said FROM evaluation LEFT JOIN place ON place.evaluation = id "
                "WHERE EXISTS (SELECT 1 FROM result WHERE result.evaluation = id) "
                "OR EXISTS (SELECT 1 FROM problem WHERE problem.evaluation = id) "
                "ORDER BY updated DESC"
            )
            evaluations = [
                Evaluation(
                    check(task, str),
                    check(model, str),
                    parse(asked, ASKED),
                    parse(command, [str]),
                    parse(place or "{}", dict),
                )
                for task, model, asked, command, place in read
            ]
        return [evaluation for evaluation in evaluations if not tasks or evaluation.task in tasks]

    def latest(self, tasks: Sequence[str] = (), models: Sequence[str] = ()) -> list[Evaluation]:
        """The latest of each task and model, as far as they can be set side by side: of the same items, asked alike."""
        newest: dict[tuple[str, str], Evaluation] = {}
        alike: dict[str, tuple[object, ...]] = {}
        for evaluation in self.all(tasks):
            if models and evaluation.model not in models:
                continue
            if alike.setdefault(evaluation.task, _items(evaluation)) == _items(evaluation):
                newest.setdefault((evaluation.task, evaluation.model), evaluation)
        return list(newest.values())


def _opened(place: str) -> sqlite3.Connection:
    """A connection to a database of this version, its tables made if need be; DataError for another version's."""
    db = sqlite3.connect(place, timeout=BUSY_S, isolation_level=None)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise DataError(f"it was written by another version, {version}")
        write_ahead(db)
        db.execute("PRAGMA fullfsync = ON")
        db.executescript(SCHEMA)
        db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.close()
        raise
    return db


def _in_memory(path: Path, before: sqlite3.Connection | None = None) -> sqlite3.Connection:
    """A database in memory, with what stands in one that is there, if that is whole and of this version; `before` is a
    connection to that, which is closed."""
    with suppress(sqlite3.Error, OSError, DataError):
        place = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"  # which needs no file beside it
        with closing(before or sqlite3.connect(place, uri=True)) as source:
            copy = sqlite3.connect(":memory:", isolation_level=None)
            source.backup(copy)
        state = [copy.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "quick_check(1)")]
        if state == [VERSION, "ok"]:
            return copy
    return _opened(":memory:")


def _items(evaluation: Evaluation) -> tuple[object, ...]:
    """Equal for evaluations whose items can be compared."""
    protocol = {**evaluation.asked.get("protocol", {}), "unconditional": None}
    return evaluation.asked.get("source"), sorted(protocol.items(), key=lambda item: item[0])


def _below(evaluation: Evaluation) -> int:
    return (1 << 62) if evaluation.below is None else evaluation.below


def asked_of(protocol: Any, **identity: Any) -> dict[str, Any]:
    """The protocol that a score depends on, for `Evaluation.asked`."""
    fields = asdict(protocol)
    if not fields.get("draws"):  # of diffusion models alone: what was measured before there were any is known still
        fields.pop("draws", None)
    return {"protocol": fields, **identity}
