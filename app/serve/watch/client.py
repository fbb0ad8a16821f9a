"""Client of a server that is watched: its requests as events, in a worker's thread, for as long as somebody looks.

Where the server goes or refuses, one line says why, and it is tried again: a server that begins anew has another key,
which is read anew. Knows nothing of screens.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedIOBase
from threading import Event
from typing import Any

from likely.app.jobs.worker import Tell
from likely.app.serve.watch.address import ServerAddress
from likely.app.serve.watch.lines import FORM, WATCH, WatchBegan, WatchEvent, WatchReader
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json

AGAIN_S = 1.0  # between two tries
CONNECT_S = 5.0
SILENT_S = 30.0  # a server says at least every ten seconds that it is there
LONGEST = 64 << 20  # bytes of a line: a whole vocabulary is one


class WatchControl:
    """Ends a watch, from any thread."""

    def __init__(self) -> None:
        self.stopped = Event()
        self._socket: socket.socket | None = None

    def hold(self, connected: socket.socket) -> None:
        """The connection that is to be broken off at the end."""
        self._socket = connected
        if self.stopped.is_set():
            self.stop()

    def stop(self) -> None:
        self.stopped.set()
        if self._socket is not None:
            with suppress(OSError):  # gone already
                self._socket.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class WatchServer:
    """Watch a server until `control` ends it: yields `WatchBegan`, `NumberedEvent`s, and `ServerLost` on each loss."""

    address: ServerAddress
    control: WatchControl = field(default_factory=WatchControl)


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """An event of a request that the server has numbered."""

    request: int
    event: WatchEvent


@dataclass(frozen=True, slots=True)
class ServerLost:
    """The connection to the server is lost, and why; it will be tried again."""

    line: str


class WatchJobs:
    """The executor of one screen's watch."""

    def execute(self, request: WatchServer, tell: Tell) -> Iterator[WatchBegan | NumberedEvent | ServerLost]:
        address, control = request.address, request.control
        while not control.stopped.is_set():
            line = f"{address} has ended"
            try:
                yield from listen(address, control)
            except DataError as error:
                line = str(error)
            except (OSError, HTTPException) as error:
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                line = f"no server at {address}: {reason}"
            if not control.stopped.is_set():
                yield ServerLost(line)
            control.stopped.wait(AGAIN_S)

    def close(self) -> None:
        pass


def listen(address: ServerAddress, control: WatchControl) -> Iterator[WatchBegan | NumberedEvent]:
    """The events of one connection until the server ends it. DataError for a server that refuses, or is another's;
    OSError and HTTPException where there is none."""
    key = address.read_key()
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = kind(address.host, address.port, timeout=CONNECT_S)
    try:
        connection.connect()
        control.hold(connection.sock)
        connection.sock.settimeout(SILENT_S)
        connection.request("GET", WATCH, headers={"Authorization": f"Bearer {key}", "Accept": "text/event-stream"})
        response = connection.getresponse()
        _check(response, address)
        yield from sighted(response, address)
    finally:
        connection.close()


def sighted(stream: BufferedIOBase, address: ServerAddress) -> Iterator[WatchBegan | NumberedEvent]:
    """Events that the lines of a server's stream tell; DataError for lines that are none."""
    lines = _lines(stream, address)
    form = next(lines, {})
    if form.get("form") != FORM or not isinstance(form.get("likely"), str):
        raise DataError(f"{address} is not a server of this version of likely: its lines cannot be read")
    yield WatchBegan(form["likely"])
    reader = WatchReader()
    for line in lines:
        try:
            number, event = reader.read(line)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, ParameterError, DataError):
            raise DataError(f"{address} tells of a request what cannot be read") from None
        yield NumberedEvent(number, event)


def _check(response: HTTPResponse, address: ServerAddress) -> None:
    """Check that a response is that of a server to be watched; DataError with the reason where it is not."""
    if response.status == 401:
        raise DataError(f"{address} refuses the key of {address.key}")
    if response.status != 200 or not response.headers.get("Content-Type", "").startswith("text/event-stream"):
        raise DataError(f"{address} is not a server of likely, or of one that cannot be watched: {response.status}")


def _lines(response: BufferedIOBase, address: ServerAddress) -> Iterator[dict[str, Any]]:
    """The JSON of each line of a stream, as long as it goes on."""
    while line := response.readline(LONGEST):
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            if len(line) == LONGEST:
                raise DataError(f"{address} writes lines without an end")
            continue
        try:
            event = foreign_json.parse(line[6:])
        except ValueError:
            raise DataError(f"{address} writes lines that cannot be read") from None
        if isinstance(event, dict) and event:  # an empty one is a sign of life
            yield event
