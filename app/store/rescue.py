"""Copies of the rows that a damaged database can still give. Knows tables and rows, not what they mean to the program.

A page that cannot be read takes its rows with it: reading comes from the newest row, then from the oldest, and goes on
behind what cannot be read in steps that double. The steps of an answer are kept up to the first that is lost, as a
text has no holes.
"""

import sqlite3
import time
from collections.abc import Iterator
from typing import Any

BY_NUMBER = (
    "session", "node", "chosen", "recipe", "snapshot", "pipeline", "asked", "reason", "mark", "rating", "run", "choice",
    "pruned", "vocabulary",
)  # fmt: skip
LAST = 1 << 62  # no row of ours has a greater number
MOST_S = 4.0  # seconds that are spent on the places that cannot be read


def damaged(error: BaseException | None) -> bool:
    """Whether an error says that the file itself is damaged, its tables' own description included, and not that it is
    busy, full or of another version."""
    if isinstance(error, UnicodeDecodeError):  # in the words of an error about the description
        return True
    code = getattr(error, "sqlite_errorcode", None) or 0
    lacks = code == sqlite3.SQLITE_ERROR and ("no such " in str(error) or "has no column" in str(error))
    return lacks or code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def copy(old: sqlite3.Connection, new: sqlite3.Connection, recipe: str) -> int:
    """Write what can be read of `old` into the empty tables of `new`; how many conversations that is.

    One whose own row is lost gets `recipe`, and no title.
    """
    until = time.monotonic() + MOST_S
    list(_some(old, "PRAGMA writable_schema = ON"))  # a table that is described wrongly hides no other
    new.execute("BEGIN")
    for table in BY_NUMBER:
        names = _columns(old, new, table)
        into = f"INSERT OR IGNORE INTO {table} (rowid, {', '.join(names)}) VALUES ({','.join('?' * (len(names) + 1))})"
        for row in _rows(old, table, names, until):
            _insert(new, into, row)
    names = _columns(old, new, "step")
    into = f"INSERT OR IGNORE INTO step ({', '.join(names)}) VALUES ({','.join('?' * len(names))})"
    at = names.index("i") if "i" in names else 0
    for key in new.execute("SELECT session, id FROM node").fetchall():
        for i, row in enumerate(
            _some(old, f"SELECT {', '.join(names)} FROM step WHERE session=? AND node=? ORDER BY i", key)
        ):
            if row[at] != i or not _insert(new, into, row):
                break
    new.execute(
        "INSERT INTO session SELECT session, '', 'chat', '', '', ?, 0, ?, ?, NULL FROM node"
        " WHERE session NOT IN (SELECT id FROM session) GROUP BY session",
        (recipe, time.time(), time.time()),
    )
    new.execute(
        "INSERT INTO said (text, session, node) SELECT CASE WHEN text != '' THEN text ELSE ifnull((SELECT"
        " group_concat(text, '') FROM (SELECT text FROM step WHERE step.session = node.session AND step.node = node.id"
        " AND NOT special ORDER BY i)), '') END, session, id FROM node"
    )
    new.execute("COMMIT")
    return int(new.execute("SELECT count(*) FROM session WHERE deleted IS NULL").fetchone()[0])


def _columns(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> list[str]:
    """The columns that both tables have; all of the new one where the old one's cannot be read."""
    ours = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
    theirs = {row[1] for row in _some(old, f"PRAGMA table_info({table})")}
    return [name for name in ours if name in theirs] or ours


def _rows(db: sqlite3.Connection, table: str, names: list[str], until: float) -> Iterator[tuple[Any, ...]]:
    """Rows of a table, each with its number before it; of two versions of one thing the newest comes first."""
    query = f"SELECT rowid, {', '.join(names)} FROM {table} WHERE rowid > ? AND rowid < ? ORDER BY rowid"
    low, high, down, jump = -1, LAST, " DESC", 0  # between which rows have not been read
    while low + 1 < high and time.monotonic() < until:
        before = low
        try:
            for row in db.execute(query + down, (low, high)):
                yield row
                low, high = (low, row[0]) if down else (row[0], high)
            return
        except (sqlite3.Error, UnicodeDecodeError):
            for row in _some(db, f"{query}{down} LIMIT 1", (low, high)):  # Python reads ahead, and had lost this one
                yield row
                low, high = (low, row[0]) if down else (row[0], high)
            if not down:
                jump = 1 if low > before else max(1, 2 * jump)
                low += jump
            down = ""


def _some(db: sqlite3.Connection, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield rows until one cannot be read."""
    try:
        yield from db.execute(query, values)
    except (sqlite3.Error, UnicodeDecodeError):
        return


def _insert(db: sqlite3.Connection, into: str, row: tuple[Any, ...]) -> bool:
    """Write a row; one whose values its table refuses is left out."""
    try:
        db.execute(into, row)
    except (sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError):
        return False
    return True
