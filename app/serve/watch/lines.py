"""Lines that a server tells one who watches it, read into events; `app.serve.watch_writer` writes them.

Each is JSON and names its request by a number. The events of the engine come whole, snapshots included, so that whoever
watches can replay a token's distribution as that of a run of their own. Knows no transport.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from likely.app.jobs.worker import Closed, Failed
from likely.app.store.stored_rows import figures_from
from likely.engine.decode.loop.events import Done, Emitted, Forked, Prefilled, Pruned, Rated, Stats
from likely.engine.sampling.trace.file import recipe_from_row, step_from_row
from likely.engine.sampling.trace.step import SamplingConfig

WATCH = "/likely/watch"
FORM = 1  # of these lines: who reads another one cannot
EVENTS = {kind.__name__.lower(): kind for kind in (Emitted, Forked, Prefilled, Pruned, Rated, Done)}


@dataclass(frozen=True, slots=True)
class WatchBegan:
    """A server is watched: its version of likely."""

    version: str


@dataclass(frozen=True, slots=True)
class WatchAsked:
    """Beginning of a request. `turns` are roles and words; so many `texts` are drawn. `late`: it ran already."""

    kind: str  # chat | text | embedding
    model: str
    turns: tuple[tuple[str, str], ...]
    texts: int = 0
    seed: int = 0
    how: str = ""  # the strategy, where it is not the plain one
    late: bool = False


@dataclass(frozen=True, slots=True)
class WatchOpened:
    """A request is being answered: by which model, after which ids. The pieces of its vocabulary come once."""

    model: str
    ids: tuple[int, ...]
    context: int
    pieces: tuple[bytes, ...] = ()
    eos: frozenset[int] = frozenset()


WatchEvent = WatchAsked | WatchOpened | Emitted | Forked | Prefilled | Pruned | Rated | Done | Failed | Closed


class WatchReader:
    """Reads the lines of one connection. KeyError, TypeError or ValueError for what is none of them."""

    def __init__(self) -> None:
        self._recipes: dict[int, list[SamplingConfig]] = {}

    def read(self, line: Mapping[str, Any]) -> tuple[int, WatchEvent]:
        """The request's number and the event."""
        request = line["request"]
        if type(request) is not int:
            raise TypeError(f"a request's number is {request!r}")
        if "asked" in line:
            turns = tuple((str(role), str(text)) for role, text in line["asked"])
            more = {name: line[name] for name in ("texts", "seed", "how", "late") if name in line}
            return request, WatchAsked(str(line["kind"]), str(line["model"]), turns, **more)
        if "opened" in line:
            pieces = tuple(base64.b64decode(piece) for piece in line.get("pieces", ()))
            eos, ids = frozenset(line.get("eos", ())), tuple(map(int, line["opened"]))
            return request, WatchOpened(str(line["model"]), ids, int(line["context"]), pieces, eos)
        if "failed" in line:
            return request, Failed(str(line["failed"]))
        if "closed" in line:
            self._recipes.pop(request, None)
            return request, Closed()
        return request, self._event(request, line)

    def _event(self, request: int, line: Mapping[str, Any]) -> Any:
        kind = EVENTS[line["event"]]
        row = {field.name: line[field.name] for field in fields(kind)}
        if "step" in row:
            recipes = self._recipes.setdefault(request, [])
            if "recipe" in line:
                recipes.append(recipe_from_row(line["recipe"]))
            row["step"] = step_from_row(row["step"], recipes)
        if "stats" in row:
            row["stats"] = Stats(**row["stats"])
        if "figures" in row:
            row["figures"] = figures_from(row["figures"])
        return kind(**row)
