"""Watching a server without one: its address and key, its lines, the connection, and a server as a child process."""

import base64
import io
import json
import socket
import subprocess
from collections.abc import Iterator
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from app.rows import figures_row
from app.watch import child_server, client
from app.watch.address import MOST, ServerAddress, is_loopback, key_file
from app.watch.child_server import ChildServer
from app.watch.client import ServerLost, Sighted, WatchControl, WatchJobs, WatchServer, listen, sighted
from app.watch.lines import WatchAsked, WatchBegan, WatchOpened, WatchReader
from app.worker import Closed, Failed
from engine.decode.events import Done, Emitted, Forked, Prefilled, Pruned, Rated, Stats
from engine.errors import DataError, ParameterError
from engine.trace.file import recipe_row, step_row
from engine.trace.trace import Recipe, TokenStep
from engine.transforms import Temperature

# -- address ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True),
        ("128.0.0.1", False),
        ("example.org", False), ("", False), ("localhost.org", False), ("::2", False), ("0.0.0.0", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_this_machine(host: str, own: bool) -> None:
    assert is_loopback(host) is own


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "said"),
    [
        ("127.0.0.1:8080", "http", "127.0.0.1", 8080, "http://127.0.0.1:8080"), ("localhost", "http", "localhost", 80, "http://localhost:80"),
        ("https://localhost", "https", "localhost", 443, "https://localhost:443"),
        ("https://localhost:1/", "https", "localhost", 1, "https://localhost:1"),
        ("[::1]:9", "http", "::1", 9, "http://[::1]:9"), ("HTTP://LOCALHOST:9", "http", "localhost", 9, "http://localhost:9"),
    ],
)  # fmt: skip
def test_an_address_is_read_from_a_url(tmp_path: Path, url: str, scheme: str, host: str, port: int, said: str) -> None:
    found = ServerAddress.read(url, tmp_path)
    assert found == ServerAddress(scheme, host, port, tmp_path / "servers" / f"{port}.key") and str(found) == said
    assert found.key == key_file(tmp_path, port)


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
    with pytest.raises(DataError, match=r"no key for watching http://h:1: .*: No such file"):
        address.read_key()
    for data, key in ((b" sesame \n", "sesame"), (b"x" * (MOST + 9), "x" * MOST)):
        address.key.write_bytes(data)
        assert address.read_key() == key
    for data, why in ((b"", "holds none"), (b" \n", "holds none"), (b"a\x07b", "holds none"), (b"\xff", "not a key")):
        address.key.write_bytes(data)
        with pytest.raises(DataError, match=why):
            address.read_key()


# -- lines -----------------------------------------------------------------------------------------------------------


def step(token: int = 5, recipe: Recipe = Recipe()) -> TokenStep:  # noqa: B008
    return TokenStep(token, b" a", " a", -1.5, None, 2.0, None, 3, 7, recipe, None, None, 4)


def test_lines_are_read_into_what_they_tell() -> None:
    read = WatchReader().read
    asked = {"request": 3, "asked": [["user", "a"], ["assistant", 5]], "kind": "chat", "model": "m"}
    assert read(asked) == (3, WatchAsked("chat", "m", (("user", "a"), ("assistant", "5"))))
    more = {"texts": 4, "seed": 9, "how": "beam 4", "late": True}
    assert read({**asked, **more}) == (
        3,
        WatchAsked("chat", "m", (("user", "a"), ("assistant", "5")), 4, 9, "beam 4", True),
    )
    opened = {"request": 0, "opened": [1, "2"], "model": "m", "context": "512"}
    assert read(opened) == (0, WatchOpened("m", (1, 2), 512))
    pieces = [base64.b64encode(piece).decode() for piece in (b" a", b"\xff")]
    assert read({**opened, "pieces": pieces, "eos": [7, 7]}) == (
        0,
        WatchOpened("m", (1, 2), 512, (b" a", b"\xff"), frozenset({7})),
    )
    assert read({"request": 1, "failed": "no model"}) == (1, Failed("no model"))
    assert read({"request": 1, "closed": True}) == (1, Closed())
    for event, line in (
        (Forked(0, 2), {"parent": 0, "child": 2}), (Prefilled(3, 9), {"done": 3, "total": 9}),
        (Pruned(4), {"branch": 4}),
        (Rated(1, {"score": -np.inf}), {"branch": 1, "figures": figures_row({"score": -np.inf})}),
    ):  # fmt: skip
        assert read({"request": 2, "event": type(event).__name__.lower(), **line}) == (2, event)
    stats = {"prompt_tokens": 3, "cached_tokens": 0, "generated_tokens": 2, "prefill_s": 0.5, "decode_s": 0.25}
    names = list(Stats.__dataclass_fields__)
    row = {"branch": 0, "reason": "eot", "stats": dict(zip(names, stats.values(), strict=False)), "text": "x"}
    assert read({"request": 2, "event": "done", **row}) == (
        2,
        Done(0, "eot", Stats(*list(stats.values())[: len(names)]), "x"),
    )


def test_a_recipe_is_told_once_a_request_and_forgotten_with_it() -> None:
    reader, warm = WatchReader(), Recipe((Temperature(0.5),))
    line = {"request": 1, "event": "emitted", "branch": 0}
    for request, recipe in ((1, Recipe()), (1, warm), (2, warm)):
        seen = [Recipe(), warm] if request == 1 else [warm]
        told = {**line, "request": request, "step": step_row(step(), seen.index(recipe)), "recipe": recipe_row(recipe)}
        number, event = reader.read(json.loads(json.dumps(told)))
        assert (
            number == request and isinstance(event, Emitted) and event.step.recipe == recipe and event.step.token == 5
        )
    _, event = reader.read({**line, "step": step_row(step(6), 1)})
    assert isinstance(event, Emitted) and event.step.recipe == warm and event.step.token == 6
    reader.read({"request": 1, "closed": True})
    with pytest.raises((IndexError, KeyError, ValueError, DataError)):
        reader.read({**line, "step": step_row(step(), 1)})
    _, event = reader.read({**line, "request": 2, "step": step_row(step(), 0)})
    assert isinstance(event, Emitted) and event.step.recipe == warm


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
    assert list(sighted(told, ADDRESS)) == [WatchBegan("1.0"), Sighted(1, Closed()), Sighted(2, Failed("x"))]


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
        (stream(HEAD, raw=b"x" * 64), "writes lines without an end"),
    ],
)  # fmt: skip
def test_lines_that_are_none_of_a_servers_are_refused(
    monkeypatch: pytest.MonkeyPatch, told: io.BytesIO, said: str
) -> None:
    monkeypatch.setattr(client, "LONGEST", 64)
    with pytest.raises(DataError, match=f"http://h:8 {said}"):
        list(sighted(told, ADDRESS))


def test_a_line_as_long_as_may_be_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LONGEST", 64)
    comment = b":" * 62 + b"\n"
    assert list(sighted(stream(HEAD, raw=comment), ADDRESS)) == [WatchBegan("1.0")]


class Wire:
    """A connection that answers as it is told."""

    made: list["Wire"] = []  # noqa: RUF012
    status, kind, body = 200, "text/event-stream; charset=utf-8", b""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.host, self.port, self.timeout, self.closed = host, port, timeout, False
        self.sock = SimpleNamespace(
            settimeout=lambda s: setattr(self, "silent", s), shutdown=lambda how: setattr(self, "cut", how)
        )
        self.silent, self.cut, self.asked = 0.0, -1, cast(Any, None)
        Wire.made.append(self)

    def connect(self) -> None:
        pass

    def request(self, *args: Any, **how: Any) -> None:
        self.asked = args, how

    def getresponse(self) -> Any:
        body = io.BytesIO(self.body)
        return SimpleNamespace(status=self.status, headers={"Content-Type": self.kind}, readline=body.readline)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Wire]]:
    monkeypatch.setattr(client, "HTTPConnection", Wire)
    monkeypatch.setattr(client, "HTTPSConnection", type("Safe", (Wire,), {}))
    monkeypatch.setattr(Wire, "made", [])
    monkeypatch.setattr(Wire, "status", 200)
    yield Wire


def address(tmp_path: Path, scheme: str = "http") -> ServerAddress:
    (tmp_path / "key").write_text("sesame")
    return ServerAddress(scheme, "h", 8, tmp_path / "key")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_asks_with_the_key_and_is_closed(
    tmp_path: Path, wire: type[Wire], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setattr(Wire, "body", stream(HEAD).getvalue())
    control = WatchControl()
    assert list(listen(address(tmp_path, scheme), control)) == [WatchBegan("1.0")]
    (made,) = wire.made
    assert type(made).__name__ == {"http": "Wire", "https": "Safe"}[scheme]
    assert (made.host, made.port, made.closed) == ("h", 8, True) and made.silent > 20 and 0 < made.timeout <= 10
    (verb, path), how = made.asked
    assert (verb, path) == ("GET", "/likely/watch")
    assert how["headers"] == {"Authorization": "Bearer sesame", "Accept": "text/event-stream"}
    assert made.cut == -1
    control.stop()
    assert made.cut == socket.SHUT_RDWR


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, "text/event-stream", "refuses the key of"),
        (404, "text/event-stream", "is not a server of likely.*: 404"),
        (200, "text/html", "is not a server of likely.*: 200"),
        (201, "text/event-stream", "is not a server of likely.*: 201"),
    ],
)  # fmt: skip
def test_a_server_that_refuses_is_said(
    tmp_path: Path, wire: type[Wire], monkeypatch: pytest.MonkeyPatch, status: int, kind: str, said: str
) -> None:
    monkeypatch.setattr(Wire, "status", status)
    monkeypatch.setattr(Wire, "kind", kind)
    with pytest.raises(DataError, match=said):
        list(listen(address(tmp_path), WatchControl()))
    assert wire.made[0].closed


def test_a_control_ends_a_connection_also_one_that_comes_later() -> None:
    cut: list[int] = []
    connected = cast(socket.socket, SimpleNamespace(shutdown=cut.append))
    control = WatchControl()
    control.stop()
    assert control.stopped.is_set() and not cut
    control.hold(connected)
    assert cut == [socket.SHUT_RDWR]
    other = WatchControl()
    other.hold(connected)
    assert len(cut) == 1 and not other.stopped.is_set()

    def gone(how: int) -> None:
        raise OSError("gone")

    other.hold(cast(socket.socket, SimpleNamespace(shutdown=gone)))
    other.stop()
    assert other.stopped.is_set()


def test_a_watch_goes_on_over_every_end_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    control = WatchControl()
    control.stopped = cast(Event, SimpleNamespace(done=False, is_set=lambda: control.stopped.done, wait=waited.append))  # type: ignore[attr-defined]
    ends: list[Any] = [
        None, DataError("it refuses"), ConnectionRefusedError(111, "Connection refused"), HTTPException("odd"),
        IncompleteRead(b""),
        OSError(), "stop",
    ]  # fmt: skip
    told = iter(ends)

    def once(given: ServerAddress, its: WatchControl) -> Iterator[WatchBegan]:
        assert (given, its) == (ADDRESS, control)
        end = next(told)
        yield WatchBegan(str(type(end).__name__))
        if isinstance(end, Exception):
            raise end
        if end == "stop":
            cast(Any, control.stopped).done = True

    monkeypatch.setattr(client, "listen", once)
    events = list(WatchJobs().execute(WatchServer(ADDRESS, control), lambda event: None))
    lost = [event.line for event in events if isinstance(event, ServerLost)]
    assert lost == [
        "http://h:8 has ended", "it refuses", "no server at http://h:8: Connection refused",
        "no server at http://h:8: odd",
        f"no server at http://h:8: {IncompleteRead(b'')}", "no server at http://h:8: OSError",
    ]  # fmt: skip
    assert len(events) == 13 and waited == [client.AGAIN_S] * 7
    assert (
        isinstance(WatchServer(ADDRESS).control, WatchControl)
        and WatchServer(ADDRESS).control is not WatchServer(ADDRESS).control
    )


# -- a server as a child ---------------------------------------------------------------------------------------------


class Child:
    """A process that writes what it is told to, and ends when it is."""

    made: list["Child"] = []  # noqa: RUF012
    lines: tuple[str, ...] = ()

    def __init__(self, words: list[str], **how: Any) -> None:
        self.words, self.how, self.returncode, self.terminated = words, how, cast(int | None, None), 0
        self.stdin = SimpleNamespace(closed=False, close=self._close)
        self.stderr = iter(self.lines)
        Child.made.append(self)

    def _close(self) -> None:
        self.stdin.closed = True

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.terminated += 1


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> type[Child]:
    monkeypatch.setattr(child_server.subprocess, "Popen", Child)
    monkeypatch.setattr(Child, "made", [])
    return Child


def test_a_child_serves_one_model_and_says_where(
    tmp_path: Path, child: type[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Child, "lines", ("loading\n", "serving m at http://127.0.0.1:4000 \n", "again at http://other:1\n", "\n")
    )
    server = ChildServer("hub/m", tmp_path)
    server._reader.join(5)
    (made,) = child.made
    assert made.words[-7:] == ["app.serve.tied", "-M", "hub/m", "--only", "--port", "0", "--quiet"]
    assert made.how["env"]["LIKELY_HOME"] == str(tmp_path)
    assert made.how["start_new_session"] is True and made.how["text"] is True and made.how["errors"] == "replace"
    assert (made.how["stdin"], made.how["stdout"], made.how["stderr"]) == (
        subprocess.PIPE,
        subprocess.DEVNULL,
        subprocess.PIPE,
    )
    assert server._reader.daemon and server.model == "hub/m"
    assert server.address == "http://127.0.0.1:4000" and server.alive and server.failure == "" and not server.stopped
    made.returncode = 3
    assert not server.alive and server.failure == "the server has ended: again at http://other:1"
    server.stop()
    assert server.failure == "" and server.stopped and made.terminated == 0 and made.stdin.closed


@pytest.mark.parametrize(
    ("lines", "said"),
    [((), "1"), (("Error: no such model\n", "  \n"), "no such model"), (("x" * 500 + "\n",), "x" * 400)],
)  # fmt: skip
def test_a_child_that_ends_says_why(
    tmp_path: Path, child: type[Child], monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(Child, "lines", lines)
    server = ChildServer("m", tmp_path)
    (made,) = child.made
    made.returncode = 1
    assert server.failure == f"the server has ended: {said}" and server.address == ""


def test_a_child_that_runs_is_told_to_end(tmp_path: Path, child: type[Child]) -> None:
    server = ChildServer("m", tmp_path)
    (made,) = child.made
    server.stop()
    server.stop()
    assert made.stdin.closed and made.terminated == 2
    made.stdin = cast(Any, None)
    server.stop()
