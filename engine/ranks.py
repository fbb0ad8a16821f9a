"""The processes that run one thing together: how they meet, what they agree on, and that none outlives another.

A launcher (`mlx.launch`) starts the program once a rank, and what it says in the environment is the only switch. Arrays
go through `mx.distributed`, by the backend that the launcher chose. Beside it the ranks hold each other by sockets, in
a line from rank to rank: plain values go down it (a token, a line of a chat), and it says when a process has ended,
which a collective does not: it waits. The sockets meet at the launcher's addresses before the backend takes those over,
and the kernel's keepalive stands for a heartbeat: it needs no lock of this interpreter, so a long load is no death.

Knows no model. What is to happen when the run ends elsewhere is the caller's (`join`).
"""

import faulthandler
import json
import os
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import ParameterError

T = TypeVar("T")

MEET_S = 60.0  # for all ranks to come
OPEN_S = 20.0  # for the backend, when all are there
KEEPALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPALIVE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 4}  # a machine is gone after 6 s
FAREWELL_S = 10.0  # for the others to be done too


@dataclass(frozen=True, slots=True)
class Launch:
    """What the launcher said: the backend, and where the ranks are (of nccl and jaccl: where rank 0 is)."""

    backend: str
    rank: int
    size: int
    addresses: tuple[tuple[str, int], ...]

    @property
    def parent(self) -> int | None:
        """The rank that this one holds on to: its neighbour in a line, or rank 0 where only that is known."""
        return None if not self.rank else self.rank - 1 if len(self.addresses) > 1 else 0

    @property
    def children(self) -> list[int]:
        """The ranks that hold on to this one."""
        if len(self.addresses) > 1:
            return [self.rank + 1] if self.rank + 1 < self.size else []
        return list(range(1, self.size)) if not self.rank else []


@dataclass(frozen=True, slots=True)
class End:
    """Why a run ends that ended on another rank."""

    rank: int  # where
    line: str
    lost: bool  # its process is gone, and said nothing


def launched() -> Launch | None:
    """What a launcher said in the environment; None for a process alone. ParameterError where it is of no use."""
    env = os.environ
    try:
        rank = int(env.get("MLX_RANK", 0))
        if "MLX_HOSTFILE" in env:
            text = Path(env["MLX_HOSTFILE"]).read_text(encoding="utf-8").strip()
            addresses = tuple(_address(node[0]) for node in json.loads(text or "[]"))
            found = Launch("ring", rank, len(addresses), addresses)
        elif "MLX_IBV_DEVICES" in env:
            size = len(json.loads(Path(env["MLX_IBV_DEVICES"]).read_text(encoding="utf-8")))
            found = Launch("jaccl", rank, size, (_address(env["MLX_JACCL_COORDINATOR"]),))
        elif "NCCL_HOST_IP" in env:
            found = Launch("nccl", rank, int(env["MLX_WORLD_SIZE"]), ((env["NCCL_HOST_IP"], int(env["NCCL_PORT"])),))
        elif int(env.get("OMPI_COMM_WORLD_SIZE", env.get("PMI_SIZE", 1))) > 1:
            raise ParameterError("ranks meet by the addresses of mlx.launch, which mpi has not: use --backend ring")
        else:
            return None
    except (OSError, ValueError, KeyError, LookupError, TypeError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"the launcher's hosts cannot be read ({error}): start with mlx.launch -n 2") from error
    if found.size < 2:
        return None
    if not 0 <= rank < found.size:
        raise ParameterError(f"MLX_RANK must be below the {found.size} hosts of the launcher, got {rank}")
    return found


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


@dataclass(eq=False)
class _Link:
    """A socket to a neighbour, one JSON value a line."""

    rank: int
    socket: socket.socket
    rest: bytes = b""
    come: "deque[dict[str, Any]]" = field(default_factory=deque)  # messages that nobody has taken

    def send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # that it is gone is found by reading
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> bool:
        """Wait for what comes next; False at the end."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            return False
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.come += map(json.loads, lines)
        return bool(data)

    def wait(self, name: str, deadline: float) -> Any:
        """The value of the message that comes next, which is `name`."""
        while not self.come:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            if not self.read():
                raise ParameterError(f"rank {self.rank} ended, or did not come within {MEET_S:.0f} s, while ranks met")
        self.socket.settimeout(None)
        return self.come.popleft()[name]


@dataclass(eq=False)
class Ranks:
    """This process among the others. Rank 0 leads: what it says holds for all."""

    launch: Launch
    _ended: Callable[[End], None]
    _links: list[_Link] = field(default_factory=list)
    _said: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)
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
        """The group of `mx.distributed`, opened by whoever asks first; every rank has to, soon after they met."""
        from metal import mx

        with open(os.devnull, "w") as nowhere:
            # opening holds the interpreter's lock: if a rank died now, nothing in Python could end the wait
            faulthandler.dump_traceback_later(OPEN_S, exit=True, file=nowhere)
            try:
                return mx.distributed.init(strict=True, backend=self.launch.backend)
            except RuntimeError as error:
                raise ParameterError(f"the ranks could not connect over {self.launch.backend}: {error}") from error
            finally:
                faulthandler.cancel_dump_traceback_later()

    def say(self, value: Any) -> Any:
        """Rank 0's value (what JSON can hold) on every rank; every rank calls it, the others with what they have."""
        if not self.leads:
            return self._said.get()
        self._tell({"say": value})
        return value

    def in_turn(self, work: Callable[[], T]) -> T:
        """What `work` gives, done by rank 0 before the others begin: what it fetched, they find."""
        if not self.leads:
            self.say(None)
        done = work()
        if self.leads:
            self.say(None)
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

    def _tell(self, message: dict[str, Any], source: _Link | None = None) -> None:
        for link in self._links:
            if link is not source:
                link.send(message)

    def _note(self, rank: int) -> None:
        self._done.add(rank)
        if len(self._done) == self.size:
            self._all_done.set()

    def _watch(self) -> None:
        """Read what the neighbours send, for as long as the process lives."""
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

    def _take(self, link: _Link) -> None:
        """Pass on what has come, and act on it."""
        while link.come:
            message = link.come.popleft()
            self._tell(message, link)
            self._act(message)

    def _act(self, message: dict[str, Any]) -> None:
        if "say" in message:
            self._said.put(message["say"])
        elif "done" in message:
            self._note(message["done"])
        elif "end" in message:
            self._ended(End(message["rank"], message["end"], message["lost"]))

    def _lost(self, link: _Link) -> None:
        if self._over:
            self._ended(End(self.rank, "", False))
            return
        line = f"rank {link.rank} is gone: its process or its machine has ended, and the run with it"
        self._tell({"end": line, "rank": link.rank, "lost": True}, link)
        self._ended(End(link.rank, line, True))


_joined: Ranks | None = None


def joined() -> Ranks | None:
    """The ranks that this process has met; None if it is alone."""
    return _joined


def join(launch: Launch, ended: Callable[[End], None]) -> Ranks:
    """Meet the other ranks. `ended` is called, in a thread of its own, when the run has ended on one of them.

    ParameterError where they do not all come within MEET_S.
    """
    global _joined
    deadline = time.monotonic() + MEET_S
    links = _meet(launch, deadline)
    for link in links:
        link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                link.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    # nobody may knock at an address for the backend while someone still listens there for us
    parent, children = _parted(launch, links)
    for child in children:
        child.wait("ready", deadline)
    if parent is not None:
        parent.send({"ready": launch.rank})
        parent.wait("go", deadline)
    for child in children:
        child.send({"go": launch.rank})
    met = _joined = Ranks(launch, ended, links)
    threading.Thread(target=met._watch, name="ranks", daemon=True).start()
    return met


def _parted(launch: Launch, links: list[_Link]) -> tuple[_Link | None, list[_Link]]:
    parent = next((link for link in links if link.rank == launch.parent), None)
    return parent, [link for link in links if link is not parent]


def _meet(launch: Launch, deadline: float) -> list[_Link]:
    """A link to the parent and one to each child."""
    awaited = set(launch.children)
    listener = _listen(launch.addresses[launch.rank], len(awaited)) if awaited else None
    links = []
    try:
        if launch.parent is not None:
            links.append(_Link(launch.parent, _knock(launch, deadline)))
            links[0].send({"rank": launch.rank, "of": launch.size})
        while listener is not None and awaited:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                link = _Link(-1, listener.accept()[0])
            except TimeoutError:
                missing = ", ".join(map(str, sorted(awaited)))
                raise ParameterError(f"rank {missing} did not come within {MEET_S:.0f} s: was it started?") from None
            with suppress(ParameterError, ValueError, KeyError, TypeError):  # a stranger
                link.rank = link.wait("rank", min(deadline, time.monotonic() + 5))
            if link.rank in awaited:
                awaited.remove(link.rank)
                links.append(link)
            else:
                link.socket.close()
    finally:
        if listener is not None:
            listener.close()
    return links


def _listen(address: tuple[str, int], backlog: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as mlx's ring, which takes the address over
    try:
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        where = f"{address[0]}:{address[1]}"
        raise ParameterError(f"cannot listen at {where} ({error.strerror}): choose another --starting-port") from error
    return listener


def _knock(launch: Launch, deadline: float) -> socket.socket:
    assert launch.parent is not None
    host, port = launch.addresses[launch.parent]
    while True:
        try:
            return socket.create_connection((host, port), timeout=max(0.01, deadline - time.monotonic()))
        except OSError as error:
            if time.monotonic() > deadline:
                raise ParameterError(
                    f"rank {launch.parent} was not at {host}:{port} within {MEET_S:.0f} s ({error.strerror or error})"
                ) from error
            time.sleep(0.05)
