"""Conversations in an sqlite database, so written that a crash loses no more than what was not yet handed over.

Nodes are only ever added and tokens only ever appended, so saving writes what is new, and two programs on one database
do not disturb each other. What a token's distribution was (its snapshot) is read when it is looked at, so a long
conversation opens at once. Knows nothing of the screen.
"""

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from likely.app.store.database import change, open_database, renew
from likely.app.store.rescue import damaged
from likely.app.store.stored_rows import (
    STEP,
    choice_row,
    figures_from,
    figures_row,
    pack,
    pack_denoising,
    pack_pieces,
    pack_prompt,
    pack_reasons,
    read_choice,
    step_from,
    step_row,
    unpack,
    unpack_denoising,
    unpack_pieces,
    unpack_prompt,
    unpack_reasons,
)
from likely.engine.base.errors import DataError
from likely.engine.base.files.foreign_json import parse
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.chat.tools.tool_prompt import ToolChoice
from likely.engine.inside.why import Reason
from likely.engine.sampling.trace.file import recipe_from_row, recipe_row
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import Snapshot


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation in a list. `excerpt` is where a search matched."""

    id: str
    title: str
    kind: str
    model: str
    created: float
    updated: float
    tokens: int
    excerpt: str = ""
    leaves: int = 1


P = ParamSpec("P")
R = TypeVar("R")
Row = tuple[Any, ...]
Written = tuple[int, str, ToolChoice | None]  # a node's tokens, its end, its choice of a tool
_TIME = "max(0, min(4e9, ifnull(CAST({} AS REAL), 0)))"  # whatever a damaged row holds
_MENDING = Lock()
OF_ONE = (  # tables of a conversation's rows
    "node", "chosen", "step", "snapshot", "pipeline", "asked", "reason", "mark", "pruned", "rating", "run",
    "choice",
)  # fmt: skip
_HOLES = ",".join("?" * len(STEP.split()))


def _mended(method: "Callable[Concatenate[Store, P], R]") -> "Callable[Concatenate[Store, P], R]":
    """A method that is called again on the database that was rescued, if the file turns out to be damaged."""

    @wraps(method)
    def call(store: "Store", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(store, *args, **kwargs)
        except (sqlite3.Error, UnicodeDecodeError, DataError) as error:
            if not damaged(error) and not damaged(error.__cause__):
                if isinstance(error, DataError):
                    raise
                raise DataError(f"{store.path} cannot be read: {error}") from error
        store.mend()
        return method(store, *args, **kwargs)

    return call


class Store:
    """The database. Used by one thread; several programs may have it open.

    Raises DataError, one line, where it is locked or of another version. One that turns out to be damaged, at once or
    later, is renewed with what can be read of it. `notice` says where the damaged file is kept,
    and that the file was removed under it: then a new one is begun, with all that is saved from then on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notice = ""
        self._written: dict[tuple[str, str], Written] = {}  # what is on disk, by session and node
        self._sides: dict[str, tuple[set[Row], set[Row]]] = {}  # session -> marks and pruned ways on disk
        self._recipes: dict[SamplingConfig, int] = {}
        self._reasons: dict[str, Mapping[tuple[str, int], tuple[Reason, ...]]] = {}  # on disk, by session
        self._open()

    def _open(self) -> None:
        self._connection, notice = open_database(self.path)
        self.notice = notice or self.notice
        self._inode = self.path.stat().st_ino

    def mend(self) -> None:
        """Put a new database in the place of a damaged one, unless another connection of this program already has."""
        with _MENDING:
            if self.path.exists() and self.path.stat().st_ino == self._inode:
                self._connection.close()
                self._forget()
                self._connection, self.notice = renew(self.path, self._inode)
                self._inode = self.path.stat().st_ino

    def _forget(self) -> None:
        for known in (self._written, self._sides, self._recipes, self._reasons):
            known.clear()

    def taken_notice(self) -> str:
        """A line about what happened to the database, "" for none; each is given once."""
        notice, self.notice = self.notice, ""
        return notice

    @property
    def _db(self) -> sqlite3.Connection:
        """The connection, opened anew where the file has been replaced."""
        try:
            there = self.path.stat().st_ino == self._inode
        except OSError:
            there = False
        if not there:
            self._connection.close()
            self._forget()
            if not self.path.exists():  # else another connection has renewed it, and says so
                self.notice = "the session database was removed: a new one was begun, with what is open"
            self._open()
        return self._connection

    def close(self) -> None:
        self._connection.close()

    # -- writing ----------------------------------------------------------------------------------------------------

    @_mended
    def save(self, talk: Conversation) -> None:
        """Write what is new in a conversation. One that was deleted meanwhile stays deleted."""
        with change(self._db) as db:
            written = dict(self._written)
            db.execute(
                "INSERT INTO session VALUES (?,?,?,?,?,?,?,?,?,NULL)"
                " ON CONFLICT (id) DO UPDATE SET title=excluded.title, model=excluded.model,"
                " system=excluded.system, recipe=excluded.recipe, seed=excluded.seed,"
                " updated=excluded.updated",
                (
                    *(talk.id, talk.title, talk.kind, talk.model, talk.system, json.dumps(recipe_row(talk.recipe))),
                    *(talk.seed, talk.created, talk.updated),
                ),
            )
            db.execute("INSERT OR REPLACE INTO pipeline VALUES (?,?)", (talk.id, json.dumps(talk.order)))
            db.execute("INSERT OR REPLACE INTO asked VALUES (?,?)", (talk.id, json.dumps(dict(talk.asked))))
            for node in talk.nodes.values():
                self._save_node(db, talk.id, node, written)
            db.executemany(
                "INSERT INTO chosen VALUES (?,?,?,?) ON CONFLICT (session, parent, ifnull(at, -1))"
                " DO UPDATE SET option=excluded.option",
                [(talk.id, fork.node, fork.at, option) for fork, option in talk.chosen.items()],
            )
            sides, known = self._save_sides(db, talk), self._reasons.get(talk.id, {})
            fresh = [(key, found) for key, found in talk.reasons.items() if known.get(key) is not found]
            rows = [(talk.id, *key, pack_reasons(found)) for key, found in fresh]
            db.executemany("INSERT OR REPLACE INTO reason VALUES (?,?,?,?)", rows)
        self._written, self._reasons[talk.id] = written, talk.reasons
        self._sides[talk.id] = sides

    def _save_sides(self, db: sqlite3.Connection, talk: Conversation) -> tuple[set[Row], set[Row]]:
        """Write the changes of bookmarks and pruned branches alone, so that those of another program stay."""
        marks: set[Row] = {(talk.id, node, unit, words) for (node, unit), words in talk.marks.items()}
        pruned: set[Row] = {(talk.id, fork.node, fork.at, option) for fork, option in talk.pruned}
        had_marks, had_pruned = self._sides.get(talk.id) or self._read_sides(talk.id)
        db.executemany("DELETE FROM mark WHERE session=? AND node=? AND unit=?", [row[:3] for row in had_marks - marks])
        db.executemany("INSERT OR REPLACE INTO mark VALUES (?,?,?,?)", list(marks - had_marks))
        db.executemany(
            "DELETE FROM pruned WHERE session=? AND parent=? AND at IS ? AND option IS ?", list(had_pruned - pruned)
        )
        db.executemany("INSERT INTO pruned VALUES (?,?,?,?)", list(pruned - had_pruned))
        return marks, pruned

    def _read_sides(self, session: str) -> tuple[set[Row], set[Row]]:
        marks = self._db.execute("SELECT session, node, unit, words FROM mark WHERE session=?", (session,))
        pruned = self._db.execute("SELECT session, parent, at, option FROM pruned WHERE session=?", (session,))
        return set(marks), set(pruned)

    def _save_node(
        self, db: sqlite3.Connection, session: str, node: Node, written: dict[tuple[str, str], Written]
    ) -> None:
        if node.joins and node.fork.at is None and node.drawn and not node.steps and not node.finish:
            return  # what goes on with an answer may come to nothing, and would say that it was interrupted
        key, state = (session, node.id), (len(node.steps), node.finish, node.choice)
        if written.get(key) == state:
            return
        done = written[key][0] if key in written else -1
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
            f"INSERT OR REPLACE INTO step (session, node, i, {STEP}) VALUES (?,?,?,{_HOLES})",
            [(*key, i, *step_row(step, self._recipe_id(db, step.recipe))) for i, step in fresh],
        )
        db.executemany(
            "INSERT OR REPLACE INTO snapshot VALUES (?,?,?,?)",
            [(*key, i, pack(step)) for i, step in fresh if step.snapshot is not None],
        )
        if done <= 0 and node.model:
            denoising = pack_denoising(node.denoising) if node.denoising else None
            run = (*key, node.model, pack_prompt(node.prompt), denoising)
            db.execute("INSERT OR REPLACE INTO run VALUES (?,?,?,?,?)", run)
        if node.figures:
            figures = json.dumps(figures_row(node.figures))
            db.execute("INSERT OR REPLACE INTO rating VALUES (?,?,?)", (*key, figures))
        if node.finish or not node.drawn:
            db.execute("UPDATE node SET finish=? WHERE session=? AND id=?", (node.finish, *key))
            db.execute("DELETE FROM said WHERE session=? AND node=?", key)
            text = node.text or "".join(step.text for step in node.steps if not step.special)
            db.execute("INSERT INTO said (text, session, node) VALUES (?,?,?)", (text, *key))
        if node.choice is not None:
            db.execute("INSERT OR REPLACE INTO choice VALUES (?,?,?)", (*key, json.dumps(choice_row(node.choice))))
        written[key] = state

    def _recipe_id(self, db: sqlite3.Connection, recipe: SamplingConfig) -> int:
        if recipe not in self._recipes:
            row = json.dumps(recipe_row(recipe))
            db.execute("INSERT INTO recipe (row) VALUES (?) ON CONFLICT DO NOTHING", (row,))
            self._recipes[recipe] = db.execute("SELECT id FROM recipe WHERE row=?", (row,)).fetchone()[0]
        return self._recipes[recipe]

    @_mended
    def delete(self, session: str) -> None:
        """Put a conversation away; `undelete` brings it back until `sweep`."""
        with change(self._db) as db:
            db.execute("UPDATE session SET deleted=? WHERE id=?", (time.time(), session))

    @_mended
    def undelete(self, session: str) -> None:
        with change(self._db) as db:
            db.execute("UPDATE session SET deleted=NULL WHERE id=?", (session,))

    @_mended
    def sweep(self, before: float) -> None:
        """Remove for good what was deleted before a time (seconds since the epoch)."""
        with change(self._db) as db:
            gone = [row[0] for row in db.execute("SELECT id FROM session WHERE deleted < ?", (before,))]
            for table in (*OF_ONE, "said"):
                db.executemany(f"DELETE FROM {table} WHERE session=?", [(id,) for id in gone])
            db.executemany("DELETE FROM session WHERE id=?", [(id,) for id in gone])

    @_mended
    def rename(self, session: str, title: str) -> None:
        with change(self._db) as db:
            db.execute("UPDATE session SET title=? WHERE id=?", (title, session))

    @_mended
    def duplicate(self, session: str, id: str) -> None:
        """A copy of a conversation under a new id, snapshots included."""
        with change(self._db) as db:
            for table, columns in (
                ("session", "title || ' (copy)', kind, model, system, recipe, seed, created, updated, NULL"),
                ("node", "id, parent, at, role, text, joins, seed, finish, label"),
                ("chosen", "parent, at, option"),
                ("step", f"node, i, {STEP}"),
                ("snapshot", "node, i, data"),
                ("pipeline", "names"),
                ("asked", "settings"),
                ("mark", "node, unit, words"),
                ("reason", "node, unit, data"),
                ("pruned", "parent, at, option"),
                ("rating", "node, figures"),
                ("run", "node, model, prompt, denoising"),
                ("choice", "node, row"),
            ):
                name = "id" if table == "session" else "session"
                into = f"{table} (session, {columns})" if table == "step" else table  # whose columns were added to
                db.execute(f"INSERT INTO {into} SELECT ?, {columns} FROM {table} WHERE {name}=?", (id, session))
            db.execute("INSERT INTO said SELECT text, ?, node FROM said WHERE session=?", (id, session))

    @_mended
    def remember_vocabulary(self, model: str, pieces: Sequence[bytes]) -> None:
        """Keep what a model's ids stand for, so that its candidates have names without it."""
        with change(self._db) as db:
            db.execute("INSERT OR REPLACE INTO vocabulary VALUES (?,?)", (model, pack_pieces(pieces)))

    # -- reading ----------------------------------------------------------------------------------------------------

    @_mended
    def load(self, session: str) -> Conversation:
        """A conversation without its snapshots. Raises DataError where there is none, or it is damaged."""
        try:
            return self._load(session)
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            if damaged(error):
                raise
            raise DataError(f"conversation {session} cannot be read: {error}") from error

    def _load(self, session: str) -> Conversation:
        row = self._db.execute(
            "SELECT id, title, kind, model, system, recipe, seed, created, updated FROM session WHERE id=?", (session,)
        ).fetchone()
        if row is None:
            raise DataError(f"there is no conversation {session}: `likely chat` and ctrl+o list those there are")
        recipes = self._read_recipes()
        steps: dict[str, list[TokenStep]] = {}
        for node, *values in self._db.execute(
            f"SELECT node, {STEP} FROM step WHERE session=? ORDER BY node, i", (session,)
        ):
            steps.setdefault(node, []).append(step_from(values, recipes))
        rated = dict(self._db.execute("SELECT node, figures FROM rating WHERE session=?", (session,)))
        runs = self._db.execute("SELECT node, model, prompt FROM run WHERE session=?", (session,))
        known = {node: (str(model), unpack_prompt(prompt)) for node, model, prompt in runs}
        choices = dict(self._db.execute("SELECT node, row FROM choice WHERE session=?", (session,)))
        nodes: dict[str, Node] = {}
        for id, parent, at, role, text, joins, seed, finish, label in self._db.execute(
            "SELECT id, parent, at, role, text, joins, seed, finish, label FROM node WHERE session=? ORDER BY rowid",
            (session,),
        ):
            if not all(isinstance(words, str) for words in (id, role, text, finish, label)):
                raise TypeError(f"message {id} is not text")
            drawn = tuple(steps.get(id, ()))
            # a node that was being drawn when the program ended is closed: what was saved of it stays
            finish = finish or ("interrupted" if drawn or not text else "")
            figures = figures_from(parse(rated.get(id, "{}")))
            nodes[id] = Node(
                id, Fork(parent, at), role, text, drawn, bool(joins), seed, finish, label, figures,
                *known.get(id, ("", ())),
            )  # fmt: skip
            if id in choices:
                nodes[id] = replace(nodes[id], choice=read_choice(choices[id]))
            self._written[session, id] = (len(drawn), finish, nodes[id].choice)
        chosen = {
            Fork(parent, at): option
            for parent, at, option in self._db.execute(
                "SELECT parent, at, option FROM chosen WHERE session=?", (session,)
            )
        }
        pipeline = self._db.execute("SELECT names FROM pipeline WHERE session=?", (session,)).fetchone()
        asked = self._db.execute("SELECT settings FROM asked WHERE session=?", (session,)).fetchone()
        marks, pruned = self._sides[session] = self._read_sides(session)
        kept = self._db.execute("SELECT node, unit, data FROM reason WHERE session=?", (session,))
        reasons = {(node, unit): unpack_reasons(data) for node, unit, data in kept}
        self._reasons[session] = reasons
        id, title, kind, model, system, recipe, seed, created, updated = row
        return Conversation(
            id, title, kind, model, system, recipe_from_row(parse(recipe)), seed,
            MappingProxyType(nodes), MappingProxyType(chosen), created, updated,
            order=tuple(parse(pipeline[0])) if pipeline is not None else (),
            asked=MappingProxyType({str(k): str(v) for k, v in parse(asked[0]).items()} if asked is not None else {}),
            marks=MappingProxyType({(node, unit): words for _, node, unit, words in marks}),
            pruned=frozenset((Fork(parent, at), option) for _, parent, at, option in pruned),
            reasons=MappingProxyType(reasons),
        )  # fmt: skip

    def _read_recipes(self) -> dict[int, SamplingConfig]:
        """The recipes by row id; a damaged one is left out, with the conversations that were drawn with it."""
        recipes: dict[int, SamplingConfig] = {}
        for id, text in self._db.execute("SELECT id, row FROM recipe"):
            with suppress(ValueError, KeyError, TypeError, AttributeError, DataError):
                recipes[id] = recipe_from_row(parse(text))
        return recipes

    @_mended
    def snapshot(self, session: str, node: str, i: int) -> tuple[Snapshot, np.ndarray] | None:
        """The snapshot before a node's token, and what removed each candidate; None where it was not kept."""
        row = self._db.execute(
            "SELECT data FROM snapshot WHERE session=? AND node=? AND i=?", (session, node, i)
        ).fetchone()
        try:
            return None if row is None else unpack(row[0])
        except (ValueError, TypeError):  # damaged: as if it had not been kept
            return None

    @_mended
    def denoising(self, session: str, node: str) -> tuple[Trace, ...]:
        """The runs that filled a node by diffusion; none where they were not kept."""
        row = self._db.execute(
            "SELECT denoising FROM run WHERE session=? AND node=? AND denoising NOTNULL", (session, node)
        ).fetchone()
        return () if row is None else unpack_denoising(row[0], f"{session} {node}")

    def with_snapshots(self, talk: Conversation) -> Conversation:
        """A conversation with every snapshot and run of diffusion that is on disk, for a file."""
        nodes = {
            node.id: replace(
                node,
                steps=tuple(self._whole(talk.id, node.id, i, s) for i, s in enumerate(node.steps)),
                denoising=node.denoising or self.denoising(talk.id, node.id),
            )
            for node in talk.nodes.values()
        }
        return replace(talk, nodes=MappingProxyType(nodes))

    def _whole(self, session: str, node: str, i: int, step: TokenStep) -> TokenStep:
        if step.snapshot is not None:
            return step
        stored = self.snapshot(session, node, i)
        return step if stored is None else replace(step, snapshot=stored[0], removed_by=stored[1])

    @_mended
    def version(self) -> int:
        """A number that is another one once somebody else has written to the database; DataError if it is not there."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    @_mended
    def sessions(self, query: str = "", limit: int = 200) -> list[Summary]:
        """Conversations, newest first; with a query, those in which all of its words are said or are in the title."""
        excerpts: dict[str, str] = {}
        if query.strip():
            words = " ".join('"' + word.replace('"', '""') + '"*' for word in query.split())
            try:
                for session, text in self._db.execute(
                    "SELECT session, snippet(said, 0, '', '', '…', 12) FROM said WHERE said MATCH ? ORDER BY rank",
                    (words,),
                ):
                    excerpts.setdefault(session, " ".join(str(text or "").split()))  # none where a row is damaged
            except sqlite3.OperationalError as error:
                if damaged(error):
                    raise
        rows = self._db.execute(
            "SELECT CAST(id AS TEXT), CAST(CASE WHEN title != '' THEN title ELSE ifnull((SELECT substr(text, 1, 60)"
            " FROM node WHERE node.session = session.id AND parent = '' ORDER BY node.rowid LIMIT 1), '') END AS TEXT),"
            f" CAST(kind AS TEXT), CAST(model AS TEXT), {_TIME.format('created')}, {_TIME.format('updated')},"
            " (SELECT count(*) FROM step WHERE step.session = session.id),"
            # a node ends a branch where nothing follows all of it
            " (SELECT count(*) - count(DISTINCT CASE WHEN at IS NULL AND parent != '' THEN parent END) FROM node"
            " WHERE node.session = session.id)"
            # of those that are listed alone: the list is read again each time that something was saved
            " FROM (SELECT * FROM session WHERE deleted IS NULL AND id IS NOT NULL ORDER BY updated DESC LIMIT ?)"
            " AS session ORDER BY updated DESC",
            (-1 if query.strip() else limit,),
        )
        summaries = [
            Summary(id, title, kind, model, created, updated, tokens, excerpts.get(id, ""), leaves)
            for id, title, kind, model, created, updated, tokens, leaves in rows
            if not query.strip() or id in excerpts or all(w.lower() in title.lower() for w in query.split())
        ]
        return summaries[:limit]

    @_mended
    def vocabulary(self, model: str) -> tuple[bytes, ...]:
        """The pieces of a model that was used before; none where it was not."""
        row = self._db.execute("SELECT pieces FROM vocabulary WHERE model=?", (model,)).fetchone()
        try:
            return () if row is None else unpack_pieces(row[0])
        except (ValueError, TypeError, IndexError, zlib.error):
            return ()

    @_mended
    def models(self, session: str = "") -> tuple[str, ...]:
        """The models that conversations were held with: that of `session` first, then the newest."""
        rows = self._db.execute(
            "SELECT model FROM session WHERE deleted IS NULL AND model != ''"
            " ORDER BY id = ? DESC, updated DESC LIMIT 50",
            (session,),
        )
        return tuple(dict.fromkeys(str(model) for (model,) in rows))
