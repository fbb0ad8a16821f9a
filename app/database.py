"""The sqlite file behind the store: its tables, its version, and what is done when it is locked or damaged."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import DataError
from engine.trace.fields import FIELDS, Field

VERSION = 1
BUSY_S = 3.0  # how long another program may hold the database before we say so
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS session (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL, system TEXT NOT NULL,
    recipe TEXT NOT NULL, seed INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, deleted REAL);
CREATE TABLE IF NOT EXISTS node (
    session TEXT NOT NULL, id TEXT NOT NULL, parent TEXT NOT NULL, at INTEGER, role TEXT NOT NULL, text TEXT NOT NULL,
    joins INTEGER NOT NULL, seed INTEGER NOT NULL, finish TEXT NOT NULL, label TEXT NOT NULL,
    PRIMARY KEY (session, id));
CREATE TABLE IF NOT EXISTS chosen (
    session TEXT NOT NULL, parent TEXT NOT NULL, at INTEGER, option TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS chosen_fork ON chosen (session, parent, ifnull(at, -1));
CREATE TABLE IF NOT EXISTS recipe (id INTEGER PRIMARY KEY, row TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS step (
    session TEXT NOT NULL, node TEXT NOT NULL, i INTEGER NOT NULL, recipe INTEGER NOT NULL,
    {", ".join(field.column for field in FIELDS)}, PRIMARY KEY (session, node, i)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshot (
    session TEXT NOT NULL, node TEXT NOT NULL, i INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (session, node, i));
CREATE TABLE IF NOT EXISTS pipeline (session TEXT PRIMARY KEY, names TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS mark (
    session TEXT NOT NULL, node TEXT NOT NULL, unit INTEGER NOT NULL, words TEXT NOT NULL,
    PRIMARY KEY (session, node, unit));
CREATE TABLE IF NOT EXISTS rating (
    session TEXT NOT NULL, node TEXT NOT NULL, figures TEXT NOT NULL, PRIMARY KEY (session, node));
CREATE TABLE IF NOT EXISTS pruned (session TEXT NOT NULL, parent TEXT NOT NULL, at INTEGER, option TEXT);
CREATE TABLE IF NOT EXISTS vocabulary (model TEXT PRIMARY KEY, pieces BLOB NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS said USING fts5(text, session UNINDEXED, node UNINDEXED);
"""


def open_database(path: Path) -> tuple[sqlite3.Connection, str]:
    """A connection to the database, made if need be; and a line on what happened to it, or "".

    Raises DataError, one line, where it is locked, cannot be opened, or was written by another version. A damaged file
    is moved aside and kept, and a new one begun.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _connect(path), ""
    except sqlite3.DatabaseError as error:
        if _busy(error):
            raise DataError(f"{path} is locked by another program: close it, or set LIKELY_HOME") from error
        if not path.exists() or isinstance(error, sqlite3.OperationalError):
            raise DataError(f"{path} cannot be opened ({error}): check its folder, or set LIKELY_HOME") from error
        aside = _aside(path)
        return _connect(path), f"the session database was damaged: it is kept as {aside.name}, and a new one was begun"
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}): check its folder, or set LIKELY_HOME") from error


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise DataError(f"{path} was written by another version ({version}): use the likely that wrote it")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(SCHEMA)  # what is there stays as it is
        _widen(db)
        if version == 0:
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("SELECT count(*) FROM session").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _widen(db: sqlite3.Connection) -> None:
    """Give the steps of an older database the columns of fields that came since, with their defaults."""
    if _missing(db):
        with change(db):
            for field in _missing(db):  # another program may have been first
                db.execute(f"ALTER TABLE step ADD COLUMN {field.column}")


def _missing(db: sqlite3.Connection) -> list[Field]:
    there = {row[1] for row in db.execute("PRAGMA table_info(step)")}
    return [field for field in FIELDS if field.name not in there]


@contextmanager
def change(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction. Raises DataError, the database as it was before, where it cannot be written."""
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise DataError(f"not saved: {'another program holds the database' if _busy(error) else error}") from error


def _busy(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _aside(path: Path) -> Path:
    """Move a damaged database out of the way, its log with it; gives the new name."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(aside.with_name(aside.name + suffix))
    return aside
