"""Sockets between neighbouring ranks: one JSON value a line, and how they come to be.

They meet at the launcher's addresses, before the backend of `mx.distributed` takes those over. The kernel's keepalive
stands for a heartbeat: it needs no lock of this interpreter, so a long load is no death.
"""

import json
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from likely.engine.base.distributed.launch import Launch
from likely.engine.base.errors import ParameterError

MEET_S = 60.0  # for all ranks to come
GONE_S = 6  # without a sign of a machine, after which it counts as gone
SILENT = {"TCP_KEEPIDLE": GONE_S - 4, "TCP_KEEPALIVE": GONE_S - 4, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 4}
RXT_CONNDROPTIME = 0x80  # of macOS's netinet/tcp.h; Python has no name for it


@dataclass(eq=False)
class Link:
    """A socket to a neighbour, one JSON value a line."""

    rank: int
    socket: socket.socket
    rest: bytes = b""
    come: "deque[dict[str, Any]]" = field(default_factory=deque)  # messages that nobody has taken
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: dict[str, Any]) -> None:
        with self._sending, suppress(OSError):  # that it is gone is found by reading
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


def meet(launch: Launch) -> list[Link]:
    """A link to the parent, where there is one, and to each child, when all ranks have theirs.

    ParameterError where they do not all come within MEET_S.
    """
    deadline = time.monotonic() + MEET_S
    links = _connect(launch, deadline)
    for link in links:
        _keep_alive(link.socket)
    # nobody may knock at an address for the backend while someone still listens there for us
    parents = [link for link in links if link.rank == launch.parent]
    children = [link for link in links if link not in parents]
    for child in children:
        child.wait("ready", deadline)
    for parent in parents:
        parent.send({"ready": launch.rank})
        parent.wait("go", deadline)
    for child in children:
        child.send({"go": launch.rank})
    return links


def _keep_alive(link: socket.socket) -> None:
    """Let the kernel end the connection when the other machine is gone."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in SILENT.items():
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    # nothing asks for a sign of life while something that was sent waits to be confirmed
    if sys.platform == "darwin":
        link.setsockopt(socket.IPPROTO_TCP, RXT_CONNDROPTIME, GONE_S)
    else:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * GONE_S)


def _connect(launch: Launch, deadline: float) -> list[Link]:
    """A link to the parent and one to each child."""
    awaited = set(launch.children)
    listener = _listen(launch.addresses[launch.rank], len(awaited)) if awaited else None
    links = []
    try:
        if launch.parent is not None:
            links.append(Link(launch.parent, knock(launch, deadline)))
            links[0].send({"rank": launch.rank, "of": launch.size})
        while listener is not None and awaited:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                link = Link(-1, listener.accept()[0])
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


def knock(launch: Launch, deadline: float) -> socket.socket:
    """A connection to the parent, as soon as it listens."""
    assert launch.parent is not None
    host, port = launch.addresses[launch.parent]
    while True:
        try:
            peer = socket.create_connection((host, port), timeout=max(0.01, deadline - time.monotonic()))
            if peer.getsockname() != peer.getpeername():  # TCP can meet itself at a port where nobody listens
                return peer
            peer.close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise ParameterError(
                    f"rank {launch.parent} was not at {host}:{port} within {MEET_S:.0f} s ({error.strerror or error})"
                ) from error
            time.sleep(0.05)
