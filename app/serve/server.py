"""Server: one process with its worker, its routes and its key for watching, behind uvicorn. Opens what it was given."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from app.serve.bounds import BOUNDS, Bounds
from app.serve.exchange import ServerState
from app.serve.front import Front
from app.serve.guard import Guard, is_loopback
from app.serve.serving_jobs import ServingJobs
from app.serve.transport import Endpoint
from app.worker import Executor
from engine.errors import ParameterError
from engine.home import home

FRESH_S = 10.0  # for which a list of the models that are here is taken as it is
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

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.key:
            raise ParameterError(
                f"{self.host} can be reached by others: give a key with --api-key, or listen on 127.0.0.1"
            )


class ServedNames:
    """The names that a request may say, and what each stands for: looked up anew now and then."""

    def __init__(self, options: ServeOptions) -> None:
        self._given = {Path(name).name if os.sep in name else name: name for name in options.models}
        self._only = options.only
        self._names: tuple[str, ...] = ()
        self._until = 0.0

    def names(self) -> Sequence[str]:
        if time.monotonic() > self._until:
            here: Sequence[str] = ()
            if not self._only:
                from engine.sources import store

                here = [info.name for info in store.list()]
            self._names = tuple(dict.fromkeys([*self._given, *here]))
            self._until = time.monotonic() + FRESH_S
        return self._names

    def stands_for(self, name: str) -> str:
        return self._given.get(name, name)


def executor(options: ServeOptions, names: ServedNames) -> Callable[[], Executor]:
    """Maker of the worker's executor: everything of mlx is imported in its thread."""

    def make() -> Executor:
        from app.model_provider import LoadedModel
        from engine import machine
        from engine.sources.checkpoint import load

        def opened(name: str) -> LoadedModel:
            return LoadedModel(name, load(names.stands_for(name)), kept=KEPT)

        adapters = {Path(folder).resolve().name: folder for folder in options.adapters}
        return ServingJobs(opened, names.names, options.memory or machine.memory() // 2, adapters)

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
    """A key for whoever may watch this server, in a file that its user alone can read; gone with the server."""
    folder = home() / "servers"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{port}.key"
    path.unlink(missing_ok=True)
    key = secrets.token_urlsafe(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key)
    try:
        yield key, path
    finally:
        path.unlink(missing_ok=True)


def serve(options: ServeOptions, tell: Callable[[str], None], ready: Callable[[str], None]) -> None:
    """Serve until a signal ends it; `tell` gets a line a request and the traces of faults, `ready` the address once
    it listens."""
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
        Endpoint(state, names.names).app(),
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        server_header=False,
        h11_max_incomplete_event_size=16 << 10,
        timeout_graceful_shutdown=2,
    )
    front.start()
    try:
        await first(front)
        host = f"[{options.host}]" if ":" in options.host else options.host
        ready(f"http://{host}:{port}")
        await uvicorn.Server(config).serve(sockets=[server])
    finally:
        front.close()


async def first(front: Front) -> None:
    """Load the first model before anybody asks; what is wrong with it is said at once."""
    from app import requests as r

    async for _ in front.events(r.Load("")):
        pass
