"""Conversations in an sqlite database, so written that a crash loses no more than what was not yet handed over.

Nodes are only ever added and tokens only ever appended, so saving writes what is new, and two programs on one database
do not disturb each other. What a token's distribution was (its snapshot) is read when it is looked at, so a long
conversation opens at once. Knows nothing of the screen.
"""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from engine.conversation import Conversation, Fork, Node
from engine.errors import DataError
from engine.trace import BINS, Recipe, Snapshot, Step
from engine.tracefile import recipe_from_row, recipe_row

VERSION = 1
BUSY_S = 3.0  # how long another program may hold the database before we say so
SCHEMA = """
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
    session TEXT NOT NULL, node TEXT NOT NULL, i INTEGER NOT NULL, token INTEGER NOT NULL, piece BLOB NOT NULL,
    text TEXT NOT NULL, logprob REAL, logprob_after REAL, entropy REAL, entropy_after REAL, rank INTEGER,
    kept INTEGER NOT NULL, recipe INTEGER NOT NULL, position INTEGER NOT NULL, origin TEXT NOT NULL,
    special INTEGER NOT NULL, elapsed_s REAL NOT NULL, PRIMARY KEY (session, node, i)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshot (
    session TEXT NOT NULL, node TEXT NOT NULL, i INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (session, node, i));
CREATE TABLE IF NOT EXISTS vocabulary (model TEXT PRIMARY KEY, pieces BLOB NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS said USING fts5(text, session UNINDEXED, node UNINDEXED);
"""
_STEP = (
    "token, piece, text, logprob, logprob_after, entropy, entropy_after, rank, kept, recipe, position, origin, special,"
    " elapsed_s"
)


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation in a list. `found` is where a search matched."""

    id: str
    title: str
    kind: str
    model: str
    created: float
    updated: float
    tokens: int
    found: str = ""


class Store:
    """The database. Used by one thread; several programs may have it open.

    Raises DataError, one line, where it is locked, damaged, or of another version. A damaged file is moved aside and
    kept; `notice` then says where.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice = ""
        self._written: dict[tuple[str, str], tuple[int, str]] = {}  # (session, node) -> tokens and finish on disk
        self._recipes: dict[Recipe, int] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if _busy(error):
                raise DataError(f"{path} is locked by another program: close it, or set LIKELY_HOME") from error
            if not path.exists() or isinstance(error, sqlite3.OperationalError):
                raise DataError(f"{path} cannot be opened ({error}): check its folder, or set LIKELY_HOME") from error
            aside = _aside(path)
            self.notice = f"the session database was damaged: it is kept as {aside.name}, and a new one was begun"
            self._db = self._open()
        except OSError as error:
            raise DataError(
                f"{path} cannot be opened ({error.strerror}): check its folder, or set LIKELY_HOME"
            ) from error

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise DataError(f"{self.path} was written by another version ({version}): use the likely that wrote it")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            if version == 0:
                db.executescript(SCHEMA)
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("SELECT count(*) FROM session").fetchone()
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction. Raises DataError, the database as it was before, where it cannot be written."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise DataError(f"not saved: {'another program holds the database' if _busy(error) else error}") from error

    # -- writing ----------------------------------------------------------------------------------------------------

    def save(self, talk: Conversation) -> None:
        """Write what is new in a conversation. One that was deleted meanwhile stays deleted."""
        written = dict(self._written)
        with self._change() as db:
            db.execute(
                "INSERT INTO session VALUES (?,?,?,?,?,?,?,?,?,NULL)"
                " ON CONFLICT (id) DO UPDATE SET title=excluded.title, model=excluded.model,"
                " system=excluded.system, recipe=excluded.recipe, seed=excluded.seed,"
                " updated=excluded.updated",
                (
                    talk.id,
                    talk.title,
                    talk.kind,
                    talk.model,
                    talk.system,
                    json.dumps(recipe_row(talk.recipe)),
                    talk.seed,
                    talk.created,
                    talk.updated,
                ),
            )
            for node in talk.nodes.values():
                self._save_node(db, talk.id, node, written)
            db.executemany(
                "INSERT INTO chosen VALUES (?,?,?,?) ON CONFLICT (session, parent, ifnull(at, -1))"
                " DO UPDATE SET option=excluded.option",
                [(talk.id, fork.node, fork.at, option) for fork, option in talk.chosen.items()],
            )
        self._written = written

    def _save_node(
        self, db: sqlite3.Connection, session: str, node: Node, written: dict[tuple[str, str], tuple[int, str]]
    ) -> None:
        key = (session, node.id)
        done, finish = written.get(key, (-1, ""))
        if done == len(node.steps) and finish == node.finish:
            return
        if done < 0:
            db.execute(
                "INSERT INTO node VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                (
                    *(session, node.id, node.fork.node, node.fork.at, node.role),
                    *(node.text, node.joins, node.seed, node.finish, node.label),
                ),
            )
            done = db.execute("SELECT count(*) FROM step WHERE session=? AND node=?", key).fetchone()[0]
        fresh = list(enumerate(node.steps))[done:]
        db.executemany(
            f"INSERT OR REPLACE INTO step (session, node, i, {_STEP}) VALUES ({','.join('?' * 17)})",
            [(*key, i, *_step_row(step, self._recipe_id(db, step.recipe))) for i, step in fresh],
        )
        db.executemany(
            "INSERT OR REPLACE INTO snapshot VALUES (?,?,?,?)",
            [(*key, i, pack(step)) for i, step in fresh if step.snapshot is not None],
        )
        if node.finish or not node.drawn:
            db.execute("UPDATE node SET finish=? WHERE session=? AND id=?", (node.finish, *key))
            db.execute("DELETE FROM said WHERE session=? AND node=?", key)
            text = node.text or "".join(step.text for step in node.steps if not step.special)
            db.execute("INSERT INTO said (text, session, node) VALUES (?,?,?)", (text, *key))
        written[key] = (len(node.steps), node.finish)

    def _recipe_id(self, db: sqlite3.Connection, recipe: Recipe) -> int:
        if recipe not in self._recipes:
            row = json.dumps(recipe_row(recipe))
            db.execute("INSERT INTO recipe (row) VALUES (?) ON CONFLICT DO NOTHING", (row,))
            self._recipes[recipe] = db.execute("SELECT id FROM recipe WHERE row=?", (row,)).fetchone()[0]
        return self._recipes[recipe]

    def delete(self, session: str) -> None:
        """Put a conversation away; `undelete` brings it back until `sweep`."""
        with self._change() as db:
            db.execute("UPDATE session SET deleted=? WHERE id=?", (time.time(), session))

    def undelete(self, session: str) -> None:
        with self._change() as db:
            db.execute("UPDATE session SET deleted=NULL WHERE id=?", (session,))

    def sweep(self, before: float) -> None:
        """Remove for good what was deleted before a time (seconds since the epoch)."""
        with self._change() as db:
            gone = [row[0] for row in db.execute("SELECT id FROM session WHERE deleted < ?", (before,))]
            for table in ("node", "chosen", "step", "snapshot", "said"):
                db.executemany(f"DELETE FROM {table} WHERE session=?", [(id,) for id in gone])
            db.executemany("DELETE FROM session WHERE id=?", [(id,) for id in gone])

    def rename(self, session: str, title: str) -> None:
        with self._change() as db:
            db.execute("UPDATE session SET title=? WHERE id=?", (title, session))

    def duplicate(self, session: str, id: str) -> None:
        """A copy of a conversation under a new id, snapshots included."""
        with self._change() as db:
            for table, columns in (
                ("session", "title || ' (copy)', kind, model, system, recipe, seed, created, updated, NULL"),
                ("node", "id, parent, at, role, text, joins, seed, finish, label"),
                ("chosen", "parent, at, option"),
                ("step", f"node, i, {_STEP}"),
                ("snapshot", "node, i, data"),
            ):
                name = "id" if table == "session" else "session"
                db.execute(f"INSERT INTO {table} SELECT ?, {columns} FROM {table} WHERE {name}=?", (id, session))
            db.execute("INSERT INTO said SELECT text, ?, node FROM said WHERE session=?", (id, session))

    def remember_vocabulary(self, model: str, pieces: Sequence[bytes]) -> None:
        """Keep what a model's ids stand for, so that its candidates have names without it."""
        lengths = np.array([len(piece) for piece in pieces], np.uint16).tobytes()
        data = zlib.compress(len(pieces).to_bytes(4, "little") + lengths + b"".join(pieces), 1)
        with self._change() as db:
            db.execute("INSERT OR REPLACE INTO vocabulary VALUES (?,?)", (model, data))

    # -- reading ----------------------------------------------------------------------------------------------------

    def load(self, session: str) -> Conversation:
        """A conversation without its snapshots. Raises DataError where there is none, or it is damaged."""
        try:
            return self._load(session)
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"conversation {session} cannot be read: {error}") from error

    def _load(self, session: str) -> Conversation:
        row = self._db.execute(
            "SELECT id, title, kind, model, system, recipe, seed, created, updated FROM session WHERE id=?", (session,)
        ).fetchone()
        if row is None:
            raise DataError(f"there is no conversation {session}: `likely chat` and ctrl+o list those there are")
        recipes = {id: recipe_from_row(json.loads(text)) for id, text in self._db.execute("SELECT id, row FROM recipe")}
        steps: dict[str, list[Step]] = {}
        for node, *values in self._db.execute(
            f"SELECT node, {_STEP} FROM step WHERE session=? ORDER BY node, i", (session,)
        ):
            steps.setdefault(node, []).append(_step(values, recipes))
        nodes: dict[str, Node] = {}
        for id, parent, at, role, text, joins, seed, finish, label in self._db.execute(
            "SELECT id, parent, at, role, text, joins, seed, finish, label FROM node WHERE session=? ORDER BY rowid",
            (session,),
        ):
            drawn = tuple(steps.get(id, ()))
            # a node that was being drawn when the program ended is closed: what was saved of it stays
            finish = finish or ("interrupted" if drawn or not text else "")
            nodes[id] = Node(id, Fork(parent, at), role, text, drawn, bool(joins), seed, finish, label)
            self._written[session, id] = (len(drawn), finish)
        chosen = {
            Fork(parent, at): option
            for parent, at, option in self._db.execute(
                "SELECT parent, at, option FROM chosen WHERE session=?", (session,)
            )
        }
        id, title, kind, model, system, recipe, seed, created, updated = row
        return Conversation(
            id, title, kind, model, system, recipe_from_row(json.loads(recipe)), seed,
            MappingProxyType(nodes), MappingProxyType(chosen), created, updated,
        )  # fmt: skip

    def snapshot(self, session: str, node: str, i: int) -> tuple[Snapshot, np.ndarray] | None:
        """What the model said before a node's token, and what was cut; None where it was not kept."""
        row = self._db.execute(
            "SELECT data FROM snapshot WHERE session=? AND node=? AND i=?", (session, node, i)
        ).fetchone()
        return None if row is None else unpack(row[0])

    def with_snapshots(self, talk: Conversation) -> Conversation:
        """A conversation with every snapshot that is on disk, for a file."""
        nodes = {
            node.id: replace(node, steps=tuple(self._whole(talk.id, node.id, i, s) for i, s in enumerate(node.steps)))
            for node in talk.nodes.values()
        }
        return replace(talk, nodes=MappingProxyType(nodes))

    def _whole(self, session: str, node: str, i: int, step: Step) -> Step:
        if step.snapshot is not None:
            return step
        found = self.snapshot(session, node, i)
        return step if found is None else replace(step, snapshot=found[0], cut=found[1])

    def sessions(self, query: str = "", limit: int = 200) -> list[Summary]:
        """Conversations, newest first; with a query, those in which all of its words are said or are in the title."""
        found: dict[str, str] = {}
        if query.strip():
            words = " ".join('"' + word.replace('"', '""') + '"*' for word in query.split())
            try:
                for session, text in self._db.execute(
                    "SELECT session, snippet(said, 0, '', '', '…', 12) FROM said WHERE said MATCH ? ORDER BY rank",
                    (words,),
                ):
                    found.setdefault(session, " ".join(text.split()))
            except sqlite3.OperationalError:
                pass
        rows = self._db.execute(
            "SELECT id, title, kind, model, created, updated,"
            " (SELECT count(*) FROM step WHERE step.session = session.id) FROM session WHERE deleted IS NULL"
            " ORDER BY updated DESC"
        )
        kept = [
            Summary(id, title, kind, model, created, updated, tokens, found.get(id, ""))
            for id, title, kind, model, created, updated, tokens in rows
            if not query.strip() or id in found or all(w.lower() in title.lower() for w in query.split())
        ]
        return kept[:limit]

    def vocabulary(self, model: str) -> tuple[bytes, ...]:
        """The pieces of a model that was used before; none where it was not."""
        row = self._db.execute("SELECT pieces FROM vocabulary WHERE model=?", (model,)).fetchone()
        if row is None:
            return ()
        data = zlib.decompress(row[0])
        count = int.from_bytes(data[:4], "little")
        ends = np.cumsum(np.frombuffer(data, np.uint16, count, 4), dtype=np.int64)
        joined = data[4 + 2 * count :]
        starts = [0, *ends[:-1].tolist()]
        return tuple(joined[start:end] for start, end in zip(starts, ends.tolist(), strict=True))


_ARRAYS: Mapping[str, Any] = {"ids": "<i4", "logits": "<f4", "edges": "<f4", "counts": "<i4", "lses": "<f4"}


def pack(step: Step) -> bytes:
    """A step's snapshot and cut as bytes."""
    snapshot = step.snapshot
    assert snapshot is not None
    cut = np.full(len(snapshot.ids), -1, np.int8) if step.cut is None else step.cut
    head = np.array([snapshot.vocab, len(snapshot.ids)], "<i4").tobytes()
    head += np.array([snapshot.lse, snapshot.mean, snapshot.variance], "<f8").tobytes()
    arrays = b"".join(np.asarray(getattr(snapshot, name), kind).tobytes() for name, kind in _ARRAYS.items())
    return head + arrays + np.asarray(cut, np.int8).tobytes()


def unpack(data: bytes) -> tuple[Snapshot, np.ndarray]:
    """What `pack` made; ValueError where it is damaged."""
    vocab, k = (int(value) for value in np.frombuffer(data, "<i4", 2))
    lse, mean, variance = (float(value) for value in np.frombuffer(data, "<f8", 3, 8))
    at, arrays = 32, {}
    for name, kind in _ARRAYS.items():
        count = k if name in ("ids", "logits") else BINS + (name == "edges")
        arrays[name] = np.frombuffer(data, kind, count, at)
        at += 4 * count
    return Snapshot(vocab=vocab, lse=lse, mean=mean, variance=variance, **arrays), np.frombuffer(data, np.int8, k, at)


def _step_row(step: Step, recipe: int) -> tuple[Any, ...]:
    return (
        step.token, step.piece, step.text, step.logprob, step.logprob_after, step.entropy, step.entropy_after,
        step.rank, step.kept, recipe, step.position, step.origin, step.special, step.elapsed_s,
    )  # fmt: skip


def _step(values: Sequence[Any], recipes: Mapping[int, Recipe]) -> Step:
    (token, piece, text, logprob, logprob_after, entropy, entropy_after, rank, kept, recipe, position, origin) = values[
        :12
    ]
    special, elapsed_s = values[12:]
    return Step(
        token, piece, text, logprob, logprob_after, entropy, entropy_after, rank, kept, recipes[recipe], None, None,
        position, origin, bool(special), elapsed_s,
    )  # fmt: skip


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
