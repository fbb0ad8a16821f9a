"""The view of a server: requests listed as they run and opened token by token, a server that goes, one of its own."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from likely.app.serve.asks import AnswerOpened, AnswerRequest
from likely.app.serve.watch_writer import WatchWriter, began
from likely.app.tui.chat.watched import WatchedRequests
from likely.app.tui.views.watch import WatchScreen
from likely.app.tui.widgets.request_table import RequestTable
from likely.app.watch.address import ServerAddress, key_file
from likely.app.watch.client import Sighted, WatchControl, listen
from likely.app.watch.lines import WatchAsked, WatchReader
from likely.app.worker import Closed, Failed
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Forked, Pruned, Rated, Revised, Stats
from likely.engine.errors import DataError, ParameterError
from likely.engine.prompt import Prompt
from likely.engine.trace.observe import observe
from likely.engine.trace.trace import TokenStep
from tests.support.model import ScriptedEngine
from tests.tui.conftest import Play, Stage

ENGINE = ScriptedEngine()
STATS = Stats(3, 0, 2, 0.1, 0.1)
SIZES = ((120, 40), *(pytest.param(size, marks=pytest.mark.slow) for size in ((80, 24), (60, 20))))


def request(text: str, **more: Any) -> AnswerRequest:
    return AnswerRequest("m", Prompt((("user", text),)), RunControl(), **more)


def opened() -> AnswerOpened:
    return AnswerOpened(ENGINE.facts, 3, ids=(1, 2, 3))


def step(word: str) -> TokenStep:
    """A token with all of its distribution."""
    token = ENGINE.tokenizer.pieces.index(word.encode())
    found = observe(ENGINE.raw((1, 2, 3), token), token, recipe=RunControl().recipe, position=3, origin="drawn")
    return replace(found, piece=word.encode(), text=word)


class Told:
    """A server that tells what it is given; it takes one key, and says of itself what `first` is."""

    def __init__(self, port: int = 0, first: dict[str, Any] | None = None) -> None:
        self.lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.writer, self.numbers, told = WatchWriter(), count(1), self
        first = began() if first is None else first

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = self.headers["Authorization"] == "Bearer sesame" and self.path == "/likely/watch"
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                line = first if allowed else None
                while line is not None:
                    self.wfile.write(f"data: {json.dumps(line)}\n\n".encode())
                    line = told.lines.get()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def tell(self, number: int, *events: Any) -> None:
        for event in events:
            for line in self.writer.lines(number, event):
                self.lines.put(line)

    def end(self) -> None:
        self.lines.put(None)
        self.http.shutdown()
        self.http.server_close()


@contextmanager
def telling(home: Path, **how: Any) -> Iterator[Told]:
    told = Told(**how)
    path = key_file(home, told.port)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("sesame")
    try:
        yield told
    finally:
        told.end()


async def watching(stage: Stage, told: Told) -> WatchScreen:
    stage.app.server = ServerAddress.read(f"127.0.0.1:{told.port}", stage.app.home)
    stage.app.go("watch")
    await stage.pilot.pause()
    stage.pause_s, stage.pauses = 0.03, 100
    view = cast(WatchScreen, stage.app.screen)
    await stage.until(lambda: view.version, "a server")
    return view


def test_what_an_older_server_leaves_out_is_nothing() -> None:
    asked = {"request": 3, "asked": [["user", "a"]], "kind": "chat", "model": "m"}
    assert WatchReader().read(asked) == (3, WatchAsked("chat", "m", (("user", "a"),), 0, 0, "", False))


@pytest.mark.parametrize("count", [1, 5, 9, 30])
def test_a_table_of_requests_is_full_and_shows_where_a_person_stands(count: int) -> None:
    for height in range(2, 14):
        for at in range(count):
            top = RequestTable._top(cast(Any, SimpleNamespace(at=at, rows=range(count))), height)
            assert top <= at < top + height - 1 and 0 <= top <= max(count - (height - 1), 0)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_requests_are_listed_as_they_run_and_opened_with_their_tokens(
    play: Play, size: tuple[int, int], tmp_path: Path
) -> None:
    async with play(size=size) as stage:
        with telling(stage.app.home) as told:
            view = await watching(stage, told)
            told.tell(1, request("Name a bird."), opened(), (Emitted(0, step(" light")),))
            told.tell(2, request("Another."), Failed("no such model"), Closed())
            await stage.until(lambda: "drawing" in stage.picture() and "failed" in stage.picture())
            assert "Name a" in stage.picture() and "no such" in stage.picture()
            await stage.pilot.press("down", "enter")
            await stage.until(lambda: "light" in stage.picture())
            told.tell(1, (Emitted(0, step(" glow")),))  # while it is looked at
            await stage.until(lambda: "light glow" in stage.picture())
            table = view.inspector.table()
            assert table is not None and table.rows and table.name == "·glow"
            chosen = next(row for row in table.rows if row.chosen)
            assert chosen.before == pytest.approx(np.exp(cast(float, view.row.run.steps[-1].logprob)))  # type: ignore[union-attr]
            stage.app.go("chat")  # it goes on while another view is looked at
            told.tell(1, (Emitted(0, step(" stay")), Done(0, "eot", STATS)), Closed())
            await stage.until(lambda: view.row is not None and view.row.end == "ended")
            stage.app.go("watch")
            await stage.until(lambda: "light glow stay" in stage.picture() and "ended" in stage.picture())
            await stage.pilot.press("escape")
            await stage.until(lambda: "ASKED" in stage.picture())
            assert view.row is None and [row.tokens for row in view.requests.rows] == [3, 0]


@pytest.mark.slow
async def test_a_server_that_goes_is_one_line_and_is_found_again(play: Play) -> None:
    async with play(size=(80, 24)) as stage:
        with telling(stage.app.home) as told:
            view = await watching(stage, told)
            told.tell(1, request("Name a bird."), opened(), (Emitted(0, step(" light")),))
            await stage.until(lambda: "drawing" in stage.picture())
        await stage.until(lambda: view.news and "out of sight" in stage.picture())
        with telling(stage.app.home, port=told.port) as again:
            await stage.until(lambda: view.version)
            again.tell(1, request("And now?"), opened())
            await stage.until(lambda: "And now?" in stage.picture())
            assert [row.end for row in view.requests.rows] == ["out of sight", ""]


def test_servers_that_cannot_be_watched_are_refused_in_a_line(tmp_path: Path) -> None:
    def refused(address: ServerAddress) -> str:
        with pytest.raises(DataError) as error:
            list(listen(address, WatchControl()))
        return str(error.value)

    for url in ("ftp://x", "http://", "127.0.0.1:port", "127.0.0.1:0", "http://127.0.0.1:1/v1"):
        with pytest.raises(ParameterError, match="expected a server's address"):
            ServerAddress.read(url, tmp_path)
    with pytest.raises(ParameterError, match="--server-key"):  # this user's key goes to no other machine
        ServerAddress.read("http://example.org:8080", tmp_path)
    with telling(tmp_path) as told:
        url = f"127.0.0.1:{told.port}"
        assert "no key" in refused(ServerAddress.read(url, tmp_path / "elsewhere"))
        (tmp_path / "wrong").write_text("open")
        assert "refuses the key" in refused(ServerAddress.read(url, tmp_path, str(tmp_path / "wrong")))
        told.lines.put({"request": 1, "event": "emitted"})
        assert "cannot be read" in refused(ServerAddress.read(url, tmp_path))
    for first in ({"request": 1, "asked": []}, {"likely": "9.9", "form": 99}):
        with telling(tmp_path, first=first) as told:
            told.lines.put(None)
            assert "this version" in refused(ServerAddress.read(f"127.0.0.1:{told.port}", tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # nothing listens there a moment later
        port = silent.getsockname()[1]
    key_file(tmp_path, port).write_text("sesame")
    with pytest.raises(ConnectionRefusedError):
        next(listen(ServerAddress.read(f"127.0.0.1:{port}", tmp_path), WatchControl()))


def test_lines_read_back_are_the_events() -> None:
    writer, reader = WatchWriter(), WatchReader()
    events = (
        Emitted(0, step(" light")), Forked(0, 1), Rated(1, {"score": -float("inf")}), Revised(0, 3, step(" glow")),
        Pruned(1), Done(0, "eot", STATS, "x"),
    )  # fmt: skip
    for event in events:
        (line,) = writer.lines(7, event)
        number, found = reader.read(json.loads(json.dumps(line)))
        assert number == 7 and type(found) is type(event)
        if isinstance(event, Emitted | Revised):
            assert repr(found.step) == repr(event.step)  # type: ignore[union-attr]
        else:
            assert found == event


def test_of_many_requests_the_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likely.app.tui.chat.watched.MOST", 40)
    monkeypatch.setattr("likely.app.tui.chat.watched.STEPS", 100)
    requests = WatchedRequests(lambda: 0.0)
    asked, text = WatchAsked("chat", "m", (("user", "x"),), 1), [Emitted(0, step(" light"))] * 5
    for number in range(120):
        requests.take([Sighted(number, event) for event in (asked, *text, Done(0, "length", STATS), Closed())])
        requests.rows[0].open(lambda: 0.0)  # it is looked at
    first, rows = requests.rows[0], requests.rows
    assert first.number == 0 and first.run is not None
    assert requests.total == 120 and len(rows) == 40 and [row.number for row in rows[1:]] == [*range(81, 120)]
    assert sum(row.tokens for row in rows if row.run is not None) == 100 and rows[-1].run is not None
    assert all(row.tokens == 5 and row.end == "length" for row in rows)
