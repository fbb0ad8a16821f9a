"""Server around its routes: its names, its key for watching, its socket, and a connection that does not speak."""

import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h11
import pytest
from click.testing import CliRunner
from uvicorn.protocols.http.flow_control import FlowControl

from app.cli import likely as program
from app.serve import server
from app.serve.bounds import BOUNDS, Bounds
from app.serve.server import (
    KEPT,
    KEPT_SHARE,
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
from app.serve.serving_jobs import ServingJobs
from app.watch.address import key_file
from engine.errors import ParameterError


def test_names_are_the_last_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [served_name(name) for name in ("m", "a/m", "/x/m", "./", "org/m-4bit/")] == [
        "m",
        "m",
        "m",
        tmp_path.name,
        "m-4bit",
    ]
    assert adapter_name("a/b/") == "b" and adapter_name(".") == tmp_path.name


def test_names_are_looked_up_anew_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.sources import store

    here, now = ["x", "m"], [100.0]
    monkeypatch.setattr(store, "list", lambda: [SimpleNamespace(name=name) for name in here])
    monkeypatch.setattr(server.time, "monotonic", lambda: now[0])
    names = ServedNames(ServeOptions(("a/m", "n")))
    assert names.names() == ("m", "n", "x")
    assert [names.stands_for(name) for name in ("m", "n", "x")] == ["a/m", "n", "x"]
    here.append("y")
    now[0] = 110.0
    assert names.names() == ("m", "n", "x")
    now[0] = 110.1
    assert names.names() == ("m", "n", "x", "y")
    assert ServedNames(ServeOptions(("m",), only=True)).names() == ("m",)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"a/m and b/m would be two models of one name, m: give one of them"):
        ServeOptions(("a/m", "b/m"))
    with pytest.raises(ParameterError, match="two adapters of one name, x"):
        ServeOptions(("m",), adapters=("a/x", "b/x"))
    assert ServeOptions(("a/m", "a/m")).models == ("a/m", "a/m")
    plain = ServeOptions(("m",))
    assert plain == ServeOptions(("m",), "127.0.0.1", 8080, "", (), 0, False, BOUNDS, False)


def test_the_executor_is_made_of_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import model_provider
    from engine import machine
    from engine.tune import adapters

    made: list[Any] = []
    monkeypatch.setattr(machine, "memory", lambda: 100)
    monkeypatch.setattr(adapters, "read", lambda folder: made.append(folder))
    monkeypatch.setattr(model_provider, "opening", lambda name, path, **more: (name, path, more))
    options = ServeOptions(("a/m",), adapters=(str(tmp_path),), only=True)
    jobs = executor(options, ServedNames(options))()
    assert isinstance(jobs, ServingJobs)
    assert (jobs._budget, jobs._adapters) == (50, {tmp_path.name: str(tmp_path)}) and made == [tmp_path]
    assert jobs._opening("m") == ("m", "a/m", {"kept": KEPT, "kept_nbytes": 100 // KEPT_SHARE})
    rich = ServeOptions(("m",), memory=7, only=True)
    assert cast(Any, executor(rich, ServedNames(rich))())._budget == 7


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


async def test_the_first_model_is_loaded_last() -> None:
    class Loading:
        def __init__(self) -> None:
            self.asked: list[str] = []

        async def events(self, request: Any) -> Any:
            self.asked.append(request.model)
            yield None
            yield None

    front = Loading()
    await first(cast(Any, front), ["a", "b", "c"])
    assert front.asked == ["c", "b", "a"]


class TestLateHead:
    """A connection, its clock in the test's hand."""

    def made(self) -> tuple[TimedProtocol, list[Any]]:
        calls: list[Any] = []

        def later(seconds: float, does: Any, *more: Any) -> Any:
            handle = SimpleNamespace(seconds=seconds, does=does, more=more, cancelled=False)
            handle.cancel = lambda: setattr(handle, "cancelled", True)
            calls.append(handle)
            return handle

        protocol = TimedProtocol.__new__(TimedProtocol)
        state = SimpleNamespace(their_state=h11.IDLE)
        protocol.conn = cast(Any, state)
        protocol.loop = cast(Any, SimpleNamespace(call_later=later))
        protocol.transport = cast(Any, SimpleNamespace(close="close"))
        return protocol, calls

    def test_a_head_has_its_time_from_the_first_on(self) -> None:
        protocol, calls = self.made()
        protocol._expect()
        protocol._expect()
        assert [(call.seconds, call.does) for call in calls] == [(Bounds().head_s, "close")]
        protocol.conn.their_state = h11.SEND_BODY  # type: ignore[misc]
        protocol._expect()
        assert calls[0].cancelled and protocol.late is None
        protocol.conn.their_state = h11.IDLE  # type: ignore[misc]
        protocol._expect()
        assert len(calls) == 2 and not calls[1].cancelled

    def test_what_is_not_read_is_waited_for_as_long_as_some_of_it_goes(self) -> None:
        """The bytes that wait to be read, at each look; the connection is cut where too few of them went."""
        took = BOUNDS.unread
        for waits, cut in (([3 * took, 2 * took, took + 1], True), ([3 * took, 2 * took, took], False), ([9, 9], True)):
            protocol, calls = self.made()
            cuts: list[int] = []
            left = iter(waits)
            protocol.transport = cast(
                Any,
                SimpleNamespace(
                    get_write_buffer_size=lambda left=left: next(left), abort=lambda cuts=cuts: cuts.append(1)
                ),
            )
            protocol.flow = FlowControl(protocol.transport)
            protocol.pause_writing()
            for _ in waits[1:]:
                assert calls[-1].seconds == BOUNDS.unread_s and not cuts
                calls[-1].does(*calls[-1].more)
            assert bool(cuts) == cut
            protocol.resume_writing()
            assert calls[-1].cancelled or cut

    def test_every_turn_of_a_connection_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[str] = []
        base = TimedProtocol.__bases__[0]
        for name in ("connection_made", "data_received", "connection_lost"):
            monkeypatch.setattr(base, name, lambda self, given, name=name: done.append(name))
        protocol, calls = self.made()
        protocol.connection_made(cast(Any, None))
        assert len(calls) == 1
        protocol.conn.their_state = h11.DONE  # type: ignore[misc]
        protocol.data_received(b"")
        assert calls[0].cancelled
        protocol.conn.their_state = h11.IDLE  # type: ignore[misc]
        protocol.data_received(b"")
        protocol.connection_lost(None)
        assert calls[1].cancelled and done == ["connection_made", "data_received", "data_received", "connection_lost"]


def test_what_is_said_at_the_start_and_of_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[ServeOptions] = []

    def serve(options: ServeOptions, tell: Any, ready: Any) -> None:
        served.append(options)
        ready("http://here:1")
        tell("one\ntwo \x1b[31m")

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.delenv("LIKELY_API_KEY", raising=False)
    monkeypatch.setenv("LIKELY_MODEL", "mine")
    result = CliRunner().invoke(program, ["serve"])
    assert result.output == "likely serves mine at http://here:1\none\ntwo ␛[31m\n"
    assert served.pop() == ServeOptions(("mine",), bounds=Bounds(running=16, waiting=64))
    more = ["-M", "a", "-M", "b/c", "--only", "--host", "0.0.0.0", "--port", "0", "--api-key", "k", "-q"]
    more += ["--memory", "1.5", "--running", "128", "--waiting", "0"]
    assert CliRunner().invoke(program, ["serve", *more]).exit_code == 0
    assert served.pop() == ServeOptions(
        ("a", "b/c"), "0.0.0.0", 0, "k", (), 1_500_000_000, True, Bounds(running=128, waiting=0), True
    )
    for wrong in (
        "--port -1",
        "--port 65536",
        "--running 0",
        "--running 129",
        "--waiting -1",
        "--waiting 4097",
        "--memory 0",
    ):
        assert CliRunner().invoke(program, ["serve", *wrong.split()]).exit_code == 2, wrong
    for fine in ("--port 65535", "--running 1", "--waiting 4096", "--memory 0.001"):
        assert CliRunner().invoke(program, ["serve", *fine.split()]).exit_code == 0, fine
    assert served[-1].memory == 1_000_000
    said = CliRunner().invoke(program, ["serve", "--memory", "inf"])
    assert said.exit_code == 2 and "--memory must be a number of GB, got inf" in said.output
    assert os.environ["LIKELY_MODEL"] == "mine"
