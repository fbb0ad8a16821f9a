"""Exchange: one request and its response over ASGI, whatever is between them, with its log line and its figures.

A client that goes away ends the work for it. What is wrong with a request is a status where nothing was sent yet, else
the stream's last line. Knows no protocol but how each says an error.
"""

import asyncio
import json
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.responses import JSONResponse, PlainTextResponse, Response

from likely.app.serve.api import messages_api, ollama, openai_responses
from likely.app.serve.api.metrics import ServerMetrics
from likely.app.serve.api.reading import AnswerReader
from likely.app.serve.bounds import Bounds
from likely.app.serve.front import Front, WorkerFault
from likely.app.serve.guard import Guard, headers_of, read_body
from likely.app.serve.requests import RequestRefused, refused
from likely.app.serve.watch.lines import WATCH
from likely.app.words.heat import sanitize_line
from likely.engine.base.errors import LikelyError

SSE = "text/event-stream"
PART = 64 << 10  # bytes of a body that are sent at once
DEEP = 5  # levels of a body that are taken apart: its choices, and their tokens

T = TypeVar("T")


@dataclass
class ServerState:
    """All that the exchanges of one server have in common."""

    front: Front
    guard: Guard
    tell: Callable[[str], None]
    watch_key: str  # with which its own user may look at all requests
    bounds: Bounds
    quiet: bool
    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    ignored: set[str] = field(default_factory=set)  # fields that the log has named
    _makers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "maker"))

    async def aside(self, make: Callable[[], T]) -> T:
        """The result of `make`, while the loop serves others; two at once at most: what is made may be large."""
        return await asyncio.get_running_loop().run_in_executor(self._makers, make)

    def ignore(self, route: str, fields: Iterable[str]) -> None:
        """Name fields of a request that change nothing in the log, each once."""
        new = [name for name in dict.fromkeys(fields) if name not in self.ignored]
        self.ignored.update(new)
        if new and not self.quiet:
            self.tell(f"{route} {', '.join(new)}: changes no answer here and is passed over (said once)")


@dataclass
class ServedExchange:
    """One HTTP request under way: its times, counts and outcome, for the log line and the metrics."""

    began: float
    route: str
    status: int = 0
    model: str = ""
    prompt_tokens: int = 0
    readers: list[AnswerReader] = field(default_factory=list)  # of what is drawn for it
    first_s: float | None = None
    refused: str = ""
    stream: str = ""  # the kind of the lines that have begun
    slot: AsyncExitStack = field(default_factory=AsyncExitStack)  # among those that run, until the response is over

    @property
    def tokens(self) -> int:
        return sum(reader.tokens for reader in self.readers)

    @property
    def reused(self) -> int:
        return sum(reader.reused for reader in self.readers)

    def line(self, now: float) -> str:
        words = [self.route, str(self.status or "gone"), f"{now - self.began:.3f} s"]
        words += [f"model={self.model}"] if self.model else []
        if self.prompt_tokens:
            words += [f"prompt={self.prompt_tokens} reused={self.reused} tokens={self.tokens}"]
        words += [] if self.first_s is None else [f"first={self.first_s:.3f} s"]
        return sanitize_line(
            " ".join([*words, *([f"({self.refused})"] if self.refused else [])])
        )  # who asks chose words


@dataclass
class Lines:
    """A response that is written line by line: server-sent events, or JSON a line."""

    lines: AsyncIterator[str]
    kind: str = SSE


Reply = dict[str, Any] | str | Lines | Callable[[], dict[str, Any]]  # the last makes one that may be large
Handler = Callable[[bytes, ServedExchange], Awaitable[Reply]]
Scope = MutableMapping[str, Any]


class LoggedResponse(Response):
    """A response that is made while the client is there, with one line in the log.

    Every request comes by here, so that none is let in unseen.
    """

    def __init__(self, state: ServerState, does: Handler | RequestRefused, path: str) -> None:
        """`does` makes the answer from a body, or is why there is none; `path` is a route, "other" for none."""
        self.state, self.does, self.path = state, does, path

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        exchange = ServedExchange(time.perf_counter(), self.path)
        sent = False

        async def told(message: Any) -> None:
            nonlocal sent
            sent = True
            await send(message)

        async def work() -> None:
            try:
                headers = headers_of(scope)
                self._let_in(headers)
                if isinstance(self.does, RequestRefused):
                    raise self.does
                body = await read_body(receive, headers, self.state.bounds) if scope["method"] == "POST" else b""
                gone = asyncio.ensure_future(_gone(receive))
                try:
                    await _unless(gone, self._answer(self.does, body, scope, receive, told, exchange))
                finally:
                    gone.cancel()
            except LikelyError as error:
                await self._refuse(refused(error), scope, receive, told, exchange, sent)
            except asyncio.CancelledError:
                ends = RequestRefused("the server is ending", status=503, kind="server_error")
                await self._refuse(ends, scope, receive, told, exchange, sent)
                raise
            except Exception as error:  # a bug ends its own request alone, and is told
                self.state.tell(error.trace if isinstance(error, WorkerFault) else traceback.format_exc())
                status = 503 if isinstance(error, WorkerFault) and error.restarted else 500
                fault = RequestRefused(f"a fault of this server: {error}", status=status, kind="server_error")
                await self._refuse(fault, scope, receive, told, exchange, sent)

        try:
            await work()
        finally:
            now = time.perf_counter()
            metrics = self.state.metrics
            metrics.requests[self.path, exchange.status or 499] += 1
            metrics.tokens["prompt"] += exchange.prompt_tokens
            metrics.tokens["reused"] += exchange.reused
            metrics.tokens["completion"] += exchange.tokens
            metrics.whole_s.add(now - exchange.began)
            if exchange.first_s is not None:
                metrics.first_s.add(exchange.first_s)
            if not self.state.quiet and self.path not in ("/", "/health", "/metrics"):
                self.state.tell(exchange.line(now))

    def _let_in(self, headers: dict[str, str]) -> None:
        """Check that the client may use this route; RequestRefused where it may not."""
        guard, watch_key = self.state.guard, self.state.watch_key
        if self.path in ("/", "/health", WATCH):  # nothing is to be known there, or another key is
            guard = Guard(guard.host)
        guard.check(headers)
        if self.path == WATCH and not (watch_key and Guard.holds(headers, watch_key)):
            raise RequestRefused("watching wants the server's own key", status=401, kind="authentication_error")

    async def _answer(
        self, does: Handler, body: bytes, scope: Scope, receive: Any, send: Any, exchange: ServedExchange
    ) -> None:
        async def whole() -> None:
            answered = await does(body, exchange)
            exchange.status = exchange.status or 200
            if isinstance(answered, Lines):
                exchange.stream = answered.kind
                start = {"type": "http.response.start", "status": 200, "headers": _headers(answered.kind)}
                await send(start)
                async for line in answered.lines:
                    await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            elif callable(answered):
                build = answered
                parts = await self.state.aside(lambda: list(encoded(build())))
                length = str(sum(map(len, parts))).encode()
                start_headers = [(b"content-length", length), (b"content-type", b"application/json")]
                await send({"type": "http.response.start", "status": exchange.status, "headers": start_headers})
                while parts:
                    await send({"type": "http.response.body", "body": parts.pop(0), "more_body": bool(parts)})
            elif isinstance(answered, str):
                await PlainTextResponse(answered, exchange.status)(scope, receive, send)
            else:
                await JSONResponse(answered, exchange.status)(scope, receive, send)

        async with exchange.slot:
            await whole()

    async def _refuse(
        self, error: RequestRefused, scope: Scope, receive: Any, send: Any, exchange: ServedExchange, sent: bool
    ) -> None:
        exchange.status, exchange.refused = error.status, error.field or error.kind
        path = scope.get("path", self.path)
        wire = ollama if path.startswith("/api/") else openai_responses
        wire = messages_api if path.startswith("/v1/messages") else wire
        body = wire.refusal(error)
        if sent:  # in the middle of a stream
            event = "event: error\n" if wire is messages_api else ""
            line = f"{event}data: {json.dumps(body)}\n\n" if exchange.stream == SSE else f"{json.dumps(body)}\n"
            await send({"type": "http.response.body", "body": line.encode()})
            return
        await JSONResponse(body, error.status, headers=error.headers)(scope, receive, send)


def encoded(body: Any) -> Iterator[bytes]:
    """A body as JSON, in parts: to encode it at once would hold every thread for as long as that lasts."""
    held, size = list[str](), 0
    for text in _texts(body, DEEP):
        held.append(text)
        size += len(text)
        if size >= PART:
            yield "".join(held).encode()
            held, size = [], 0
    yield "".join(held).encode()


def _texts(value: Any, deep: int) -> Iterator[str]:
    if deep and isinstance(value, dict) and value:
        for i, (name, item) in enumerate(value.items()):
            yield f"{',' if i else '{'}{json.dumps(name, ensure_ascii=False)}:"
            yield from _texts(item, deep - 1)
        yield "}"
    elif deep and isinstance(value, list) and value and (value[0] is None or isinstance(value[0], dict | list)):
        for i, item in enumerate(value):
            yield "," if i else "["
            yield from _texts(item, deep - 1)
        yield "]"
    else:
        yield json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _headers(kind: str) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", f"{kind}; charset=utf-8".encode()), (b"cache-control", b"no-cache")]


async def _gone(receive: Any) -> None:
    """Until the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless(gone: "asyncio.Future[None]", work: Awaitable[None]) -> None:
    """Do some work, and give it up as soon as `gone` is there."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()
