"""Server around its routes: its names, its key, its socket, a connection that does not speak; and one as a child."""

import asyncio
import errno
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from click.testing import CliRunner
from uvicorn.server import ServerState

from likely.app.cli import likely as program
from likely.app.jobs.requests import Load, Loaded, ModelFacts
from likely.app.serve.bounds import BOUNDS
from likely.app.serve.requests import DescribeModel, ListModels
from likely.app.serve.server import (
    ServedNames,
    ServeOptions,
    TimedProtocol,
    adapter_name,
    executor,
    first,
    listening,
    served_name,
    watch_key,
)
from likely.app.serve.watch.address import ServerAddress, key_file
from likely.app.serve.watch.child_server import ChildServer
from likely.app.serve.watch.client import WatchControl, listen
from likely.app.serve.watch.lines import WatchBegan
from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.base.files import preferences
from tests.engine import tiny
from tests.engine.test_native import CONFIG, needs_rounding
from tests.processes import ROOT
from tests.serve.scripted import FACTS
from tests.serve.served import write_model


def test_names_are_the_last_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("m", "a/m", "/x/m", "./", "org/m-4bit/")
    assert [served_name(name) for name in names] == ["m", "m", "m", tmp_path.name, "m-4bit"]
    assert adapter_name("a/b/") == "b" and adapter_name(".") == tmp_path.name


def test_names_are_looked_up_anew_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is put into the store while it serves is one of them ten seconds later."""
    now = [100.0]
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    (tmp_path / "mine").mkdir()
    preferences.add_folder(tmp_path / "mine")
    write_model(tmp_path / "mine" / "x")
    names = ServedNames(ServeOptions(("a/m", "n")))
    assert set(names.names()) >= {"m", "n", "x"} and "y" not in names.names()
    assert [names.stands_for(name) for name in ("m", "n", "x")] == ["a/m", "n", "x"]
    write_model(tmp_path / "mine" / "y")
    now[0] = 110.0
    assert "y" not in names.names()
    now[0] = 110.1
    assert set(names.names()) >= {"m", "n", "x", "y"} and names.names()[:2] == ("m", "n")
    assert ServedNames(ServeOptions(("m",), only=True)).names() == ("m",)


def test_models_are_listed_as_their_files_are(tmp_path: Path) -> None:
    """Bytes of all files, the time of the newest, a digest of the weights; of a model that is gone, its name."""
    path, lost = write_model(tmp_path / "m"), write_model(tmp_path / "lost")
    (tmp_path / "style").mkdir()
    (tmp_path / "style" / "adapters.safetensors").write_bytes(b"12345")
    for file in path.iterdir():
        os.utime(file, (9, 1000))
    os.utime(path / "config.json", (9, 2000.5))
    names = ServedNames(ServeOptions((str(path), str(lost)), adapters=(str(tmp_path / "style"),), only=True))
    shutil.rmtree(lost)
    model, gone, adapter = names.on_disk()
    assert (model.name, model.modified, model.written) == ("m", 2000.5, "1970-01-01T00:33:20.500000Z")
    assert model.nbytes == sum(file.stat().st_size for file in path.iterdir())
    assert len(model.digest) == 64 and (model.family, model.format) == ("llama", "safetensors")
    assert (adapter.name, adapter.nbytes) == ("style", 5) and len(adapter.digest) == 64
    assert (gone.name, gone.nbytes) == ("lost", 0)


def test_a_model_is_described_by_its_files_as_when_it_is_loaded(tmp_path: Path) -> None:
    options = ServeOptions((str(write_model(tmp_path / "m")),), only=True, context=99)
    jobs = executor(options, ServedNames(options))()
    described = next(event for event in jobs.execute(DescribeModel("m"), print) if isinstance(event, ModelFacts))
    assert described.context == 99 and not [models for models in jobs.execute(ListModels(), print) if models]
    loaded = next(event.facts for event in jobs.execute(Load("m"), print) if isinstance(event, Loaded))
    assert described == replace(loaded, vocabulary=(), title="", bounded=False)
    jobs.close()


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"a/m and b/m would be two models of one name, m: give one of them"):
        ServeOptions(("a/m", "b/m"))
    with pytest.raises(ParameterError, match="two adapters of one name, x"):
        ServeOptions(("m",), adapters=("a/x", "b/x"))
    assert ServeOptions(("a/m", "a/m")).models == ("a/m", "a/m")
    plain = ServeOptions(("m",))
    assert plain == ServeOptions(("m",), "127.0.0.1", 8080, "", (), 0, False, BOUNDS, False)


@pytest.mark.parametrize(("memory", "kept"), [(1, ["one"]), (1 << 40, ["two", "one"])])
def test_models_are_those_that_were_given_within_the_bytes_that_were_given(
    tmp_path: Path, memory: int, kept: list[str]
) -> None:
    paths = tuple(str(write_model(tmp_path / name)) for name in ("one", "two"))
    options = ServeOptions(paths, memory=memory, only=True)
    jobs = executor(options, ServedNames(options))()
    for name in ("one", "two", "one"):
        assert any(isinstance(event, Loaded) for event in jobs.execute(Load(name), lambda event: None))
    assert [tuple(facts.name for facts, _ in models) for models in jobs.execute(ListModels(), lambda event: None)] == [
        tuple(kept)
    ]
    jobs.close()


def test_a_bound_on_the_context_is_of_what_is_served(tmp_path: Path) -> None:
    options = ServeOptions((str(write_model(tmp_path / "six")),), only=True, context=12)
    jobs = executor(options, ServedNames(options))()
    (facts,) = (event.facts for event in jobs.execute(Load("six"), lambda event: None) if isinstance(event, Loaded))
    assert (facts.context, facts.bounded) == (12, True)
    jobs.close()


@needs_rounding
def test_activations_are_rounded_of_what_is_served_and_who_cannot_is_told(tmp_path: Path) -> None:
    four = tiny.write_gguf(tmp_path / "four.gguf", "llama", CONFIG, tiny.weights(CONFIG), "Q4_1")
    options = ServeOptions((str(four), str(write_model(tmp_path / "six"))), only=True, activation_bits=8)
    jobs = executor(options, ServedNames(options))()
    (facts,) = (
        event.facts for event in jobs.execute(Load("four.gguf"), lambda event: None) if isinstance(event, Loaded)
    )
    assert (facts.title, facts.activation_bits) == ("four · 8-bit activations", 8)
    with pytest.raises(CheckpointError, match=r"weights that stay packed, and .*six runs by the graph"):
        list(jobs.execute(Load("six"), lambda event: None))
    jobs.close()


def test_a_socket_listens_or_says_why_not() -> None:
    with listening("127.0.0.1", 0) as one:
        port = one.getsockname()[1]
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) and one.family == socket.AF_INET
        with socket.create_connection(("127.0.0.1", port), 1):
            pass
        with pytest.raises(ParameterError, match=rf"cannot listen on 127.0.0.1:{port}: "), listening("127.0.0.1", port):
            pass
    assert one.fileno() == -1
    with pytest.raises(ParameterError, match=r"cannot listen on 127\.0\.0\.1:70000: "), listening("127.0.0.1", 70_000):
        pass
    if socket.has_ipv6:
        try:
            with listening("::1", 0) as six:
                assert six.family == socket.AF_INET6
        except ParameterError:
            pass  # a machine without it


def test_a_key_is_its_user_s_and_goes_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))
    folder = tmp_path / "servers"
    with watch_key(81) as (key, path):
        assert path == key_file(tmp_path, 81) and path.read_text() == key and len(key) == 43
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "82.key").write_text("of one that was killed")
        (folder / "note.txt").write_text("not a key")
        with watch_key(83) as (other, _):
            assert other != key
            assert sorted(file.name for file in folder.iterdir()) == ["81.key", "83.key", "note.txt"]
        assert path.exists()
    assert [file.name for file in folder.iterdir()] == ["note.txt"]


async def test_the_first_model_is_loaded_last_and_one_that_leaves_little_memory_is_told() -> None:
    class Loading:
        def __init__(self) -> None:
            self.asked: list[str] = []

        async def events(self, request: Any) -> Any:
            self.asked.append(request.model)
            yield None
            yield Loaded(replace(FACTS, warning="slow beyond 9 tokens" if request.model == "b" else ""))

    front, lines = Loading(), list[str]()
    await first(cast(Any, front), ["a", "b", "c"], lines.append)
    assert front.asked == ["c", "b", "a"] and lines == ["b: slow beyond 9 tokens"]


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"


class Connection(asyncio.Transport):
    """A connection whose other end is the test, and the loop's clock."""

    def __init__(self, waits: Sequence[int] = (), state: ServerState | None = None) -> None:
        super().__init__({"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 8080)})
        self.waits, self.calls, self.end = iter(waits), list[Any](), ""
        loop: Any = SimpleNamespace(call_later=self.call_later, create_task=self.task, time=lambda: 0.0)
        config = uvicorn.Config(lambda *_: None, lifespan="off", log_level="critical")  # type: ignore[arg-type]
        config.load()
        self.protocol = TimedProtocol(config, state or ServerState(), {}, loop)
        self.protocol.connection_made(self)

    def task(self, work: Any) -> Any:
        work.close()
        return asyncio.Future(loop=asyncio.new_event_loop())

    def call_later(self, seconds: float, does: Any, *more: Any) -> Any:
        handle = SimpleNamespace(seconds=seconds, does=does, more=more, live=True)
        handle.cancel = lambda: setattr(handle, "live", False)
        self.calls.append(handle)
        return handle

    def due(self, seconds: float) -> list[Any]:
        """What is to be done after so many seconds from now on."""
        return [call for call in self.calls if call.live and call.seconds == seconds]

    def close(self) -> None:
        self.end = "closed"

    def abort(self) -> None:
        self.end = "cut"

    def is_closing(self) -> bool:
        return bool(self.end)

    def pause_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return next(self.waits)


def test_where_connections_are_too_many_one_that_says_nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (8, 8))  # half of these files
    state = ServerState()
    busy = [Connection(state=state) for _ in range(3)]
    for each in busy:
        each.protocol.data_received(HEAD)
    silent, new = Connection(state=state), Connection(state=state)
    assert (silent.end, new.end) == ("cut", "") and not any(each.end for each in busy)
    silent.protocol.connection_lost(None)
    new.protocol.data_received(HEAD)
    assert Connection(state=state).end == "cut", "all others are at work"


def test_a_head_has_its_time_from_the_first_on_and_a_body_has_another() -> None:
    late = Connection()
    late.protocol.data_received(b"POST /v1/chat/completions HTTP/1.1\r\n")
    (call,) = late.due(BOUNDS.head_s)
    call.does(*call.more)
    assert late.end == "closed"
    came = Connection()
    came.protocol.data_received(HEAD)
    assert not came.due(BOUNDS.head_s)
    left = Connection()
    left.protocol.connection_lost(None)
    assert not left.due(BOUNDS.head_s)


def test_what_is_not_read_is_waited_for_as_long_as_some_of_it_goes() -> None:
    """The bytes that wait to be read, at each look; the connection is cut where too few of them went."""
    took = BOUNDS.unread
    for waits, cut in (([3 * took, 2 * took, took + 1], True), ([3 * took, 2 * took, took], False), ([9, 9], True)):
        connection = Connection(waits)
        connection.protocol.data_received(HEAD)
        connection.protocol.pause_writing()
        for _ in waits[1:]:
            (call,) = connection.due(BOUNDS.unread_s)
            assert not connection.end
            call.live = False
            call.does(*call.more)
        assert (connection.end == "cut") == cut
        connection.protocol.resume_writing()
        assert not connection.due(BOUNDS.unread_s)


@pytest.mark.parametrize(
    "wrong",
    ["--port -1", "--port 65536", "--running 0", "--running 129", "--waiting -1", "--waiting 4097", "--memory 0",
     "--memory inf", "--memory nan"],
)  # fmt: skip
def test_options_that_cannot_be_honoured_are_refused(wrong: str) -> None:
    said = CliRunner().invoke(program, ["serve", *wrong.split()])
    assert said.exit_code == 2 and wrong.split()[0] in said.output


def until(holds: Callable[[], object]) -> None:
    while not holds():
        time.sleep(0.05)


PARENT = """
import sys, time
from pathlib import Path
from likely.app.serve.watch.child_server import ChildServer

child = ChildServer(sys.argv[1], Path(sys.argv[2]))
while not (child.address or child.failure):
    time.sleep(0.05)
print(child.address or child.failure, flush=True)
time.sleep(600)
"""


def reached(address: str, home: Path) -> bool:
    watching = listen(ServerAddress.read(address, home), WatchControl())
    try:
        return isinstance(next(watching), WatchBegan)
    except OSError:
        return False
    finally:
        watching.close()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_child_serves_and_ends_with_its_parent(tmp_path: Path, killed: bool) -> None:
    model = str(write_model(tmp_path / "tiny"))
    if killed:
        words = [sys.executable, "-c", PARENT, model, str(tmp_path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
            assert parent.stdout is not None
            address = parent.stdout.readline().strip()
            assert reached(address, tmp_path)
            parent.kill()
        until(lambda: not reached(address, tmp_path))
    else:
        child = ChildServer(model, tmp_path)
        until(lambda: child.address or child.failure)
        assert not child.failure and child.alive and reached(child.address, tmp_path)
        child.stop()
        until(lambda: not child.alive)
        assert not child.failure
    until(lambda: not list((tmp_path / "servers").iterdir()))  # its key went with it


@pytest.mark.slow
def test_a_child_that_cannot_serve_says_why(tmp_path: Path) -> None:
    missing = ChildServer(str(tmp_path / "nothing"), tmp_path)
    until(lambda: missing.failure)
    assert "nothing" in missing.failure
    missing.stop()


def test_a_child_that_no_process_can_be_made_for_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    child = ChildServer("tiny", tmp_path)
    assert child.failure == "no process can be started here: Resource temporarily unavailable" and not child.alive
    child.stop()
    assert not child.failure
