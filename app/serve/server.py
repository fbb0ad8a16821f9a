"""Server: one process with its worker, its routes and its key for watching, behind uvicorn. Opens what it was given."""

import asyncio
import errno
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Executor
from likely.app.serve.api import on_disk
from likely.app.serve.api.exchange import ServerState
from likely.app.serve.api.on_disk import ModelOnDisk
from likely.app.serve.api.transport import Endpoint
from likely.app.serve.bounds import BOUNDS, Bounds
from likely.app.serve.front import Front
from likely.app.serve.guard import Guard
from likely.app.serve.serving_jobs import ServedAdapter, ServingJobs
from likely.app.serve.watch.address import is_loopback, key_file
from likely.engine.base.errors import CheckpointError, ParameterError
from likely.engine.base.files import artifacts
from likely.engine.base.files.home import home
from likely.engine.weights.sources.fetch.progress import disk_errors
from likely.engine.weights.sources.model_info import ModelInfo
from likely.metal.lock import lock

FRESH_S = 10.0  # for which a list of the models that are here is taken as it is
KEPT_SHARE = 16  # the part of this machine's memory that these may take
KEPT = 16  # beginnings of prompts that a model remembers, beside those that are being answered


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Options of a server."""

    models: tuple[str, ...]  # names or paths, the first of which is meant where none is said
    host: str = "127.0.0.1"
    port: int = 8080
    key: str = ""
    adapters: tuple[str, ...] = ()
    memory: int = 0  # bytes of weights; 0: half of the machine's
    only: bool = False  # no other models than these
    bounds: Bounds = BOUNDS
    quiet: bool = False  # no line a request
    activation_bits: int | None = None  # of all models, as `engine.sources.checkpoint.load` has them
    context: int | None = None  # positions that a text may have, of each model that has as many

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise ParameterError("--host is empty: 127.0.0.1 is this machine alone, 0.0.0.0 all of its addresses")
        if not is_loopback(self.host) and not self.key:
            raise ParameterError(
                f"{self.host} can be reached by others: give a key with --api-key, or listen on 127.0.0.1"
            )
        models = _by_name(self.models, served_name, "models")
        for name in _by_name(self.adapters, adapter_name, "adapters"):
            if name in models:
                raise ParameterError(f"a model and an adapter would have one name, {name}: rename a folder")


def served_name(model: str) -> str:
    """The name by which a request says a model."""
    return Path(model).name or Path(model).resolve().name if os.sep in model else model


def adapter_name(folder: str) -> str:
    """The name by which a request says an adapter: the one that it has on the model."""
    return artifacts.called(artifacts.place(folder))


def _by_name(paths: Sequence[str], name: Callable[[str], str], what: str) -> dict[str, str]:
    """Paths by the name that a request may say. ParameterError for a name of two."""
    by_name: dict[str, str] = {}
    for path in paths:
        if (other := by_name.setdefault(name(path), path)) != path:
            raise ParameterError(f"{other} and {path} would be two {what} of one name, {name(path)}: give one of them")
    return by_name


class ServedNames:
    """The names that a request may say, and what each stands for: looked up anew now and then."""

    def __init__(self, options: ServeOptions) -> None:
        self._offered = _by_name(options.models, served_name, "models")
        self._adapters = _by_name(options.adapters, adapter_name, "adapters")
        self._only = options.only
        self._names: tuple[str, ...] = ()
        self._here: dict[str, ModelInfo] = {}
        self._files: list[ModelOnDisk] = []
        self._until = self._read = 0.0

    def names(self) -> Sequence[str]:
        if time.monotonic() > self._until:
            from likely.engine.weights.sources import store

            self._here = {} if self._only else {info.name: info for info in store.list()}
            self._names = tuple(dict.fromkeys([*self._offered, *self._adapters, *self._here]))
            self._until = time.monotonic() + FRESH_S
        return self._names

    def on_disk(self) -> Sequence[ModelOnDisk]:
        """The files behind each name: no more than the name where there are none any longer."""
        names = self.names()
        if self._read != self._until:  # no file is read again before the names are
            self._files, self._read = [self._on_disk(name) for name in names], self._until
        return self._files

    def _on_disk(self, name: str) -> ModelOnDisk:
        from likely.engine.weights.sources import store

        try:
            if name in self._adapters:
                return on_disk.adapter(name, artifacts.place(self._adapters[name]))
            given = self._offered.get(name)
            info = self._here.get(name) if given is None else store.resolve(given)
            return ModelOnDisk(name) if info is None else on_disk.model(name, info)
        except (CheckpointError, OSError):
            return ModelOnDisk(name)

    def stands_for(self, name: str) -> str:
        return self._offered.get(name, name)


def executor(options: ServeOptions, names: ServedNames) -> Callable[[], Executor]:
    """Maker of the worker's executor: everything of mlx is imported in its thread."""

    def make() -> Executor:
        from likely.app.jobs import model_provider
        from likely.engine.base.machine import hardware
        from likely.engine.decode import memory_limits
        from likely.engine.weights.adapters.adapters import read

        def opening(name: str) -> Generator[bool | None, None, model_provider.LoadedModel]:
            nbytes, path = hardware.memory() // KEPT_SHARE, names.stands_for(name)
            bits, context = options.activation_bits, options.context
            return (
                yield from model_provider.opening(
                    name, path, activation_bits=bits, context=context, kept=KEPT, kept_nbytes=nbytes
                )
            )

        def unloaded(name: str) -> r.ModelFacts:
            return model_provider.unloaded(name, names.stands_for(name), options.context)

        adapters = {}
        for name, folder in _by_name(options.adapters, adapter_name, "adapters").items():
            base = read(artifacts.place(folder)).model  # what is wrong with one is said before anybody asks for it
            adapters[name] = ServedAdapter(folder, served_name(base))
        return ServingJobs(opening, unloaded, names.names, options.memory or memory_limits.of_weights(), adapters)

    return make


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens there; ParameterError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ParameterError(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', error)}") from None
        server.listen(256)
        yield server


@contextmanager
def watch_key(port: int) -> Iterator[tuple[str, Path]]:
    """A key for whoever may watch this server, in a file that its user alone can read; gone with the server.

    The server holds a lock on it, which ends even by a kill: what nobody holds is cleared away by the next.
    """
    path, key = key_file(home(), port), secrets.token_urlsafe(32)
    folder = path.parent
    with ExitStack() as open_files:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(os.open(folder, os.O_RDONLY), wait=True):  # nobody clears away what is not locked yet
                path.unlink(missing_ok=True)
                for stale in folder.glob("*.key"):
                    _clear(stale)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                file = open_files.enter_context(_locked(descriptor, wait=True))
                os.write(file, key.encode())
        try:
            yield key, path
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _locked(file: int, *, wait: bool) -> Iterator[int]:
    """The file, locked, and closed in the end; BlockingIOError for one that another holds and is not waited for."""
    try:
        if not lock(file, wait=wait):
            raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it")
        yield file
    finally:
        os.close(file)


def _clear(key: Path) -> None:
    """Remove the key of a server that is gone."""
    try:
        with _locked(os.open(key, os.O_RDONLY | os.O_NONBLOCK), wait=False):
            key.unlink(missing_ok=True)
    except OSError:  # held, gone meanwhile, or not ours to read
        pass


def serve(options: ServeOptions, tell: Callable[[str], None], ready: Callable[[str], None]) -> None:
    """Serve until a signal ends it; `tell` gets a line a request and the traces of faults, `ready` the address once
    it listens."""
    # uvicorn raises the signal again at its end: as an exception it lets the key go, too
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with listening(options.host, options.port) as server:
        port = server.getsockname()[1]
        with watch_key(port) as (key, _):
            asyncio.run(_run(options, server, port, key, tell, ready))


async def _run(
    options: ServeOptions,
    server: socket.socket,
    port: int,
    key: str,
    tell: Callable[[str], None],
    ready: Callable[[str], None],
) -> None:
    names = ServedNames(options)
    front = Front(executor(options, names), options.bounds)
    guard = Guard(options.host, options.key)
    state = ServerState(front, guard, tell, key, options.bounds, options.quiet)
    config = uvicorn.Config(
        Endpoint(state, names.names, names.on_disk).app(),
        http=TimedProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        server_header=False,
        h11_max_incomplete_event_size=16 << 10,
        timeout_graceful_shutdown=2,
        backlog=max(1, most_connections() // 8),  # as many are taken in at once, before there is a look at how many
    )
    front.start()
    try:
        await first(front, [served_name(name) for name in options.models], tell)
        host = f"[{options.host}]" if ":" in options.host else options.host
        ready(f"http://{host}:{port}")
        await uvicorn.Server(config).serve(sockets=[server])
    finally:
        front.close()


async def first(front: Front, names: Sequence[str], tell: Callable[[str], None]) -> None:
    """Load the models before anybody asks, the first last; what is wrong with one, or may be, is said at once."""
    for name in reversed(names):
        async for event in front.events(r.Load(name)):
            if isinstance(event, r.Loaded) and event.facts.warning:
                tell(f"{name}: {event.facts.warning}")


def most_connections() -> int:
    """Connections that there may be: half of the files that a process may open, where those are few."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(BOUNDS.connections, files // 2) if files > 0 else BOUNDS.connections


class TimedProtocol(H11Protocol):
    """A connection that is closed when the head of a request, once begun, does not come in time, or when what waits to
    be read is not taken; and where there are too many, one that says nothing, else the newest: a process that can
    open no more files tries to in vain as fast as it can, and does nothing else."""

    late: asyncio.TimerHandle | None = None
    unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()
        if len(self.connections) > most_connections():
            others = (each for each in self.connections if isinstance(each, TimedProtocol) and each is not self)
            silent = (each for each in others if each.late is not None and not each.transport.is_closing())
            next(silent, self).transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        self._drained()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._drained()
        waits = self.transport.get_write_buffer_size()
        self.unread = self.loop.call_later(BOUNDS.unread_s, self._look, waits)

    def resume_writing(self) -> None:
        self._drained()
        super().resume_writing()

    def _look(self, waited: int) -> None:
        """Cut the connection off unless enough of what waited was taken: nothing is added meanwhile."""
        waits = self.transport.get_write_buffer_size()
        if waited - waits < BOUNDS.unread:
            self.transport.abort()
        else:
            self.unread = self.loop.call_later(BOUNDS.unread_s, self._look, waits)

    def _drained(self) -> None:
        if self.unread is not None:
            self.unread.cancel()
            self.unread = None

    def _expect(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._came()
        elif self.late is None:
            self.late = self.loop.call_later(BOUNDS.head_s, self.transport.close)

    def _came(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None
