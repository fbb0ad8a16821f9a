"""Ranks linked by sockets: this process among the others, from their meeting to their common end."""

import faulthandler
import os
import queue
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from likely.engine.base import distributed
from likely.engine.base.distributed import Ranks, T
from likely.engine.base.distributed.launch import Launch
from likely.engine.base.distributed.link import Link, meet
from likely.engine.base.errors import ParameterError

OPEN_S = 20.0  # for the backend, when all are there
FAREWELL_S = 10.0  # for the others to be done too


@dataclass(frozen=True, slots=True)
class End:
    """Why a run ends that ended on another rank."""

    rank: int  # where
    line: str
    lost: bool  # its process is gone, and said nothing


@dataclass(eq=False)
class LinkedRanks(Ranks):
    """The ranks of this run, each linked to its neighbours."""

    launch: Launch
    _ended: Callable[[End], None]
    _links: list[Link] = field(default_factory=list)
    _said: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
    _heard: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)  # on rank 0, from the others
    _done: set[int] = field(default_factory=set)
    _all_done: threading.Event = field(default_factory=threading.Event)
    _over: bool = False  # ended here

    @property
    def rank(self) -> int:
        return self.launch.rank

    @property
    def size(self) -> int:
        return self.launch.size

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @cached_property
    def group(self) -> Any:
        from likely.metal import mx

        with open(os.devnull, "w") as nowhere:
            # opening holds the interpreter's lock: if a rank died now, nothing in Python could end the wait
            faulthandler.dump_traceback_later(OPEN_S, exit=True, file=nowhere)
            try:
                return mx.distributed.init(strict=True, backend=self.launch.backend)
            except RuntimeError as error:
                raise ParameterError(f"the ranks could not connect over {self.launch.backend}: {error}") from error
            finally:
                faulthandler.cancel_dump_traceback_later()

    def broadcast(self, value: Any) -> Any:
        if not self.leads:
            return self._said.get()
        self._tell({"value": value})
        return value

    def send(self, value: Any) -> None:
        self._tell({"heard": value})

    def heard(self, *, wait: bool = False) -> Iterator[Any]:
        if wait:
            yield self._heard.get()
        with suppress(queue.Empty):
            while True:
                yield self._heard.get_nowait()

    def gather(self, value: Any) -> list[Any]:
        if not self.leads:
            self.send([self.rank, value])
            return list(self.broadcast(None))
        found = {0: value}
        while len(found) < self.size:
            found |= dict(self.heard(wait=True))
        return list(self.broadcast([found[rank] for rank in range(self.size)]))

    def in_turn(self, work: Callable[[], T]) -> T:
        if not self.leads:
            self.broadcast(None)
        done = work()
        if self.leads:
            self.broadcast(None)
        return done

    def finish(self) -> None:
        """Wait until all ranks have come to their end, so that none takes another's leaving for a death."""
        self._note(self.rank)
        self._tell({"done": self.rank})
        self._all_done.wait(FAREWELL_S)

    def end(self, line: str) -> None:
        """Tell the others that the run ends here, and why; that they leave then is no news."""
        self._over = True
        self._tell({"end": line, "rank": self.rank, "lost": False})

    def _tell(self, message: dict[str, Any], source: Link | None = None) -> None:
        for link in self._links:
            if link is not source:
                link.send(message)

    def _note(self, rank: int) -> None:
        self._done.add(rank)
        if len(self._done) == self.size:
            self._all_done.set()

    def watch(self) -> None:
        """Hear the neighbours, in a thread of its own, for as long as the process lives."""
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for link in self._links:
                selector.register(link.socket, selectors.EVENT_READ, link)
                self._take(link)
            while True:
                for key, _ in selector.select():
                    link = key.data
                    there = link.read()
                    self._take(link)
                    if not there:
                        selector.unregister(link.socket)
                        if not self._all_done.is_set() and link.rank not in self._done:
                            self._lost(link)

    def _take(self, link: Link) -> None:
        """Pass on what has come, and act on it."""
        while link.come:
            message = link.come.popleft()
            self._tell(message, link)
            self._act(message)

    def _act(self, message: dict[str, Any]) -> None:
        if "value" in message:
            self._said.put(message["value"])
        elif "heard" in message:
            if self.leads:
                self._heard.put(message["heard"])
        elif "done" in message:
            self._note(message["done"])
        elif "end" in message:
            self._ended(End(message["rank"], message["end"], message["lost"]))

    def _lost(self, link: Link) -> None:
        if self._over:
            self._ended(End(self.rank, "", False))
            return
        line = f"rank {link.rank} is gone: its process or its machine has ended, and the run with it"
        self._tell({"end": line, "rank": link.rank, "lost": True}, link)
        self._ended(End(link.rank, line, True))


def join(launch: Launch, ended: Callable[[End], None]) -> LinkedRanks:
    """Meet the other ranks. `ended` is called, in a thread of its own, when the run has ended on one of them.

    ParameterError where they do not all come in time.
    """
    met = distributed._joined = LinkedRanks(launch, ended, meet(launch))
    met.watch()
    return met
