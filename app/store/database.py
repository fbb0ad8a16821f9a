"""The sqlite file behind the store: its tables, its version, and what is done when it is locked or damaged."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from likely.app.store import rescue
from likely.engine.base.errors import DataError
from likely.engine.base.files.lock import locked, silent
from likely.engine.sampling.trace.fields import FIELDS, Field
from likely.engine.sampling.trace.file import recipe_row
from likely.engine.sampling.trace.step import SamplingConfig

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
CREATE TABLE IF NOT EXISTS asked (session TEXT PRIMARY KEY, settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS mark (
    session TEXT NOT NULL, node TEXT NOT NULL, unit INTEGER NOT NULL, words TEXT NOT NULL,
    PRIMARY KEY (session, node, unit));
CREATE TABLE IF NOT EXISTS rating (
    session TEXT NOT NULL, node TEXT NOT NULL, figures TEXT NOT NULL, PRIMARY KEY (session, node));
CREATE TABLE IF NOT EXISTS run (
    session TEXT NOT NULL, node TEXT NOT NULL, model TEXT NOT NULL, prompt BLOB NOT NULL, denoising BLOB,
    PRIMARY KEY (session, node));
CREATE TABLE IF NOT EXISTS reason (
    session TEXT NOT NULL, node TEXT NOT NULL, unit INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (session, node, unit));
CREATE TABLE IF NOT EXISTS choice (
    session TEXT NOT NULL, node TEXT NOT NULL, row TEXT NOT NULL, PRIMARY KEY (session, node));
CREATE TABLE IF NOT EXISTS pruned (session TEXT NOT NULL, parent TEXT NOT NULL, at INTEGER, option TEXT);
CREATE TABLE IF NOT EXISTS vocabulary (model TEXT PRIMARY KEY, pieces BLOB NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS said USING fts5(text, session UNINDEXED, node UNINDEXED);
"""


def open_database(path: Path) -> tuple[sqlite3.Connection, str]:
    """A connection to the database, made if need be; and a line on what happened to it, or "".

    Raises DataError, one line, where it is locked, cannot be opened, or was written by another version. A damaged file
    is moved aside and kept, and what can be read of it stands in the new one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        inode = _inode(path)
        return _connect(path), ""
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if rescue.damaged(error) and inode is not None and path.exists():
            return renew(path, inode)
        if _busy(error):
            raise DataError(f"{path} is locked by another program: close it, or set LIKELY_HOME") from error
        raise DataError(f"{path} cannot be opened ({error}): check its folder, or set LIKELY_HOME") from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}): check its folder, or set LIKELY_HOME") from error


def renew(path: Path, inode: int) -> tuple[sqlite3.Connection, str]:
    """A new database in the place of a damaged one, which is the file of this inode; and a line that says so.

    One program at a time: the second one takes the database of the first. Raises DataError where none can be written.
    """
    try:
        with locked(path.with_name(f".{path.name}.lock"), "mend the sessions", wait=silent):
            outcome = _renewed(path) if _inode(path) == inode else "another program has begun a new one"
    except (OSError, sqlite3.Error, DataError) as error:
        raise DataError(f"{path} is damaged, and no new one can be written ({error}): move it away") from error
    return _connect(path), f"the session database was damaged: {outcome}"


def _renewed(path: Path) -> str:
    """Replace a damaged database by a new one, with what can be read of it; what became of both, in words.

    The damaged one is moved only when the new one is whole.
    """
    fresh = path.with_name(f"{path.name}.rescued-{os.getpid()}")
    try:
        count = _rescue(path, fresh)
        aside = _aside(path)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    read = {0: "nothing in it could be read", 1: "1 conversation was rescued"}.get(
        count, f"{count} conversations were rescued"
    )
    return f"{read}, it is kept as {aside.name}, and a new one was begun"


def _inode(path: Path) -> int | None:
    """Which file has that name now: a database that was replaced is another one."""
    return path.stat().st_ino if path.exists() else None


def _rescue(path: Path, fresh: Path) -> int:
    """Write what can be read of a damaged database into another file; how many conversations."""
    for suffix in ("", "-wal", "-shm"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    with closing(_connect(fresh)) as new, closing(_reader(path)) as old:
        return rescue.copy(old, new, json.dumps(recipe_row(SamplingConfig())))


def _reader(path: Path) -> sqlite3.Connection:
    """A connection to whatever is there; a damaged letter costs no conversation."""
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda data: data.decode("utf-8", "replace")
    return db


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to a database of this version, its tables made if need be."""
    db = _reader(path)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise DataError(f"{path} was written by another version ({version}): use the likely that wrote it")
        write_ahead(db)
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


def write_ahead(db: sqlite3.Connection) -> None:
    """Give a database a write-ahead log, if it has none, that no power cut damages (docs/decisions/mac.md).

    Another program that does so, too, is waited for here: sqlite says at once that it is locked, since both have read
    it and each would wait for the other.
    """
    db.execute("PRAGMA checkpoint_fullfsync = ON")
    until = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not _busy(error) or time.monotonic() > until:
                raise
        time.sleep(0.005)


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


def _busy(error: Exception) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _aside(path: Path) -> Path:
    """Keep a damaged database under another name, its log with it, which is given.

    Its own name stays, too, until another file takes it: a program that found none would begin a database of its own.
    """
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        os.link(path, aside)
    except OSError:  # a disk without a second name for a file
        path.rename(aside)
    for suffix in ("-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(aside.with_name(aside.name + suffix))
    return aside
