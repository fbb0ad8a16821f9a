"""Watching a server without one: its address and key, its lines, the connection, and a server as a child process."""

import base64
import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.app.jobs.worker import Closed, Failed
from likely.app.serve.watch.address import MOST, ServerAddress, is_loopback, key_file
from likely.app.serve.watch.client import (
    AGAIN_S,
    LONGEST,
    NumberedEvent,
    ServerLost,
    WatchControl,
    WatchJobs,
    WatchServer,
    listen,
    sighted,
)
from likely.app.serve.watch.lines import WatchAsked, WatchBegan, WatchOpened, WatchReader
from likely.app.serve.watch_writer import WatchWriter
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.decode.loop.events import Done, Emitted, Forked, Prefilled, Pruned, Rated, Stats
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import Temperature
from tests.processes import free_ports

# -- address ---------------------------------------------------------------------------------------------------------


def test_only_this_machine_is_this_machine() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(map(is_loopback, ("128.0.0.1", "example.org", "", "localhost.org", "::2", "0.0.0.0")))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"), ("localhost", "http://localhost:80"),
        ("https://localhost", "https://localhost:443"), ("https://localhost:1/", "https://localhost:1"),
        ("[::1]:9", "http://[::1]:9"), ("HTTP://LOCALHOST:9", "http://localhost:9"),
    ],
)  # fmt: skip
def test_an_address_is_read_from_a_url(tmp_path: Path, url: str, said: str) -> None:
    found = ServerAddress.read(url, tmp_path)
    assert str(found) == said == f"{found.scheme}://{said.split('/')[-1].rpartition(':')[0]}:{found.port}"
    assert found.key == key_file(tmp_path, found.port) == tmp_path / "servers" / f"{found.port}.key"


@pytest.mark.parametrize(
    "url",
    ["ftp://localhost", "http://", "localhost:x", "localhost:0", "http://localhost/v1", "http://localhost?a=1", "",
    ":80", "localhost:70000"],
)  # fmt: skip
def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ParameterError, match="expected a server's address"):
        ServerAddress.read(url, tmp_path)


def test_another_machine_wants_its_own_key(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"example\.org is another machine"):
        ServerAddress.read("example.org:9", tmp_path)
    assert ServerAddress.read("example.org:9", tmp_path, "~/a.key").key == Path("~/a.key").expanduser()
    assert ServerAddress.read("localhost:9", tmp_path, "b.key").key == Path("b.key")


def test_a_key_is_read_as_it_is_now_and_what_is_none_is_said(tmp_path: Path) -> None:
    address = ServerAddress("http", "h", 1, tmp_path / "key")
    with pytest.raises(
        DataError, match=r"no key for watching http://h:1, as there is no .*: no likely serve of yours runs there"
    ):
        address.read_key()
    for data, key in ((b" sesame \n", "sesame"), (b"x" * (MOST + 9), "x" * MOST)):
        address.key.write_bytes(data)
        assert address.read_key() == key
    for data, why in ((b"", "holds none"), (b" \n", "holds none"), (b"a\x07b", "holds none"), (b"\xff", "not a key")):
        address.key.write_bytes(data)
        with pytest.raises(DataError, match=why):
            address.read_key()
    address.key.unlink()
    os.mkfifo(address.key)
    with pytest.raises(DataError, match="is a pipe"):
        address.read_key()


# -- lines -----------------------------------------------------------------------------------------------------------


def step(token: int = 5, recipe: SamplingConfig = SamplingConfig()) -> TokenStep:  # noqa: B008
    return TokenStep(token, b" a", " a", -1.5, None, 2.0, None, 3, 7, recipe, None, None, 4)


def test_what_is_written_of_a_request_is_read_back() -> None:
    """Through JSON; a recipe is told once a request, and forgotten with it."""
    warm = SamplingConfig((Temperature(0.5),))
    stats = Stats(3, 0, 2, 0.5, 0.25)
    told = [
        Prefilled(3, 9), Emitted(0, step()), Emitted(0, step(6, warm)), Emitted(0, step(7, warm)), Forked(0, 2),
        Rated(1, {"score": -np.inf}), Pruned(4), Done(0, "eot", stats, "x"), Failed("no model"), Closed(),
    ]  # fmt: skip
    writer, reader = WatchWriter(), WatchReader()
    for request in (1, 2):
        for event in told:
            written = [json.loads(json.dumps(line)) for line in writer.lines(request, event)]
            assert [reader.read(line) for line in written] == [(request, event)], event
    asked = {"request": 3, "asked": [["user", "a"], ["assistant", 5]], "kind": "chat", "model": "m"}
    turns = (("user", "a"), ("assistant", "5"))
    assert reader.read(asked) == (3, WatchAsked("chat", "m", turns))
    more = {"texts": 4, "seed": 9, "how": "beam 4", "late": True}
    assert reader.read({**asked, **more}) == (3, WatchAsked("chat", "m", turns, 4, 9, "beam 4", True))
    opened = {"request": 0, "opened": [1, "2"], "model": "m", "context": "512"}
    pieces = [base64.b64encode(piece).decode() for piece in (b" a", b"\xff")]
    assert reader.read({**opened, "pieces": pieces, "eos": [7, 7]}) == (
        0, WatchOpened("m", (1, 2), 512, (b" a", b"\xff"), frozenset({7})),
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [{}, {"request": "1", "closed": True}, {"request": True, "closed": True}, {"request": 1},
    {"request": 1, "event": "x"},
     {"request": 1, "event": "forked", "parent": 1}, {"request": 1, "asked": 5, "kind": "a", "model": "m"}],
)  # fmt: skip
def test_what_is_no_line_is_an_error(line: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        WatchReader().read(line)


# -- the client ------------------------------------------------------------------------------------------------------

ADDRESS = ServerAddress("http", "h", 8, Path("k"))
HEAD = {"likely": "1.0", "form": 1}


def stream(*lines: Any, raw: bytes = b"") -> io.BytesIO:
    return io.BytesIO(b"".join(f"data: {json.dumps(line)}\n\n".encode() for line in lines) + raw)


def test_a_stream_is_its_versions_events_and_signs_of_life_are_passed_over() -> None:
    told = stream(
        HEAD,
        {},
        {"request": 1, "closed": True},
        5,
        {"request": 2, "failed": "x"},
        raw=b": a comment\n\ndata: [DONE]\n\n",
    )
    assert list(sighted(told, ADDRESS)) == [
        WatchBegan("1.0"),
        NumberedEvent(1, Closed()),
        NumberedEvent(2, Failed("x")),
    ]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (stream(), "is not a server of this version"),
        (stream({"likely": "1.0", "form": 2}), "is not a server of this version"),
        (stream({"likely": 1, "form": 1}), "is not a server of this version"),
        (stream({"form": 1}), "is not a server of this version"),
        (stream(HEAD, {"request": 1}), "tells of a request what cannot be read"),
        (stream(HEAD, {"request": 1, "opened": [], "model": "m", "context": "x"}),
        "tells of a request what cannot be read"),
        (stream(HEAD, raw=b"data: {nothing\n\n"), "writes lines that cannot be read"),
    ],
)  # fmt: skip
def test_lines_that_are_none_of_a_servers_are_refused(told: io.BytesIO, said: str) -> None:
    with pytest.raises(DataError, match=f"http://h:8 {said}"):
        list(sighted(told, ADDRESS))


@pytest.mark.parametrize(("size", "fine"), [(LONGEST - 2, True), (LONGEST, False)])
def test_a_line_is_as_long_as_may_be(size: int, fine: bool) -> None:
    told = stream(HEAD, raw=b":" * size + b"\n")
    if fine:
        assert list(sighted(told, ADDRESS)) == [WatchBegan("1.0")]
    else:
        with pytest.raises(DataError, match="writes lines without an end"):
            list(sighted(told, ADDRESS))


Heard = list[tuple[str, str, str]]  # a request's line, its key and what it accepts


@contextmanager
def serving(status: int = 200, kind: str = "text/event-stream; charset=utf-8", body: bytes = b"") -> Iterator[Any]:
    """A server on this machine that answers so; `heard` are the requests that came."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append((self.requestline, self.headers["Authorization"], self.headers["Accept"]))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    heard: Heard = []
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield SimpleNamespace(port=server.server_port, heard=heard)
        finally:
            server.shutdown()
            thread.join()


def address(tmp_path: Path, port: int, scheme: str = "http") -> ServerAddress:
    (tmp_path / "key").write_text("sesame")
    return ServerAddress(scheme, "127.0.0.1", port, tmp_path / "key")


def test_a_connection_asks_with_the_key(tmp_path: Path) -> None:
    with serving(body=stream(HEAD).getvalue()) as server:
        assert list(listen(address(tmp_path, server.port), WatchControl())) == [WatchBegan("1.0")]
        assert server.heard == [("GET /likely/watch HTTP/1.1", "Bearer sesame", "text/event-stream")]
        with pytest.raises(OSError, match=r"SSL|ssl"):  # which this one does not speak
            list(listen(address(tmp_path, server.port, "https"), WatchControl()))


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, "text/event-stream", "refuses the key of"), (404, "text/event-stream", "is not .* likely.*: 404"),
        (200, "text/html", "is not a server of likely.*: 200"), (201, "text/event-stream", "is not .* likely.*: 201"),
    ],
)  # fmt: skip
def test_a_server_that_refuses_is_said(tmp_path: Path, status: int, kind: str, said: str) -> None:
    with serving(status, kind) as server, pytest.raises(DataError, match=said):
        list(listen(address(tmp_path, server.port), WatchControl()))


def test_a_control_ends_a_connection_also_one_that_comes_later() -> None:
    before, after = WatchControl(), WatchControl()
    after.stop()
    for control in (before, after):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            control.hold(ours)
            if control is before:
                assert not control.stopped.is_set()
                control.stop()
            assert control.stopped.is_set() and theirs.recv(1) == b""
        control.stop()  # the connection is gone by now


def test_a_watch_goes_on_over_every_end_until_it_is_stopped(tmp_path: Path) -> None:
    """No server, one that refuses, one that ends, and none again: each time it is tried anew, by the test's clock."""
    control, ends = WatchControl(), ExitStack()
    (port,) = free_ports(1)
    lines = [f"no server at http://127.0.0.1:{port}: Connection refused", "refuses the key", "has ended", "refused"]
    places = iter([{"status": 401}, {"body": stream(HEAD).getvalue()}, None])
    now = [address(tmp_path, port)]

    class Tries(Event):
        def wait(self, timeout: float | None = None) -> bool:
            """What there is at the next try."""
            assert timeout == AGAIN_S
            ends.close()
            if (how := next(places, "none")) == "none":
                self.set()
            elif how is not None:
                now[0] = address(tmp_path, ends.enter_context(serving(**how)).port)  # type: ignore[arg-type]
            return True

    control.stopped = Tries()
    seen = []
    while not control.stopped.is_set():
        for event in WatchJobs().execute(WatchServer(now[0], control), lambda event: None):
            seen.append(event)
            if isinstance(event, ServerLost):
                break
        control.stopped.wait(AGAIN_S)
    lost = [event.line for event in seen if isinstance(event, ServerLost)]
    assert len(lost) == 4 and all(want in line for want, line in zip(lines, lost, strict=True)), lost
    assert [event for event in seen if isinstance(event, WatchBegan)] == [WatchBegan("1.0")]
