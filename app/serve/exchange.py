"""Exchange: one request and its response over ASGI, whatever is between them, with its log line and its figures.

A client that goes away ends the work for it. What is wrong with a request is a status where nothing was sent yet, else
the stream's last line. Knows no protocol but how OpenAI's says an error.
"""

import asyncio
import json
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.serve import openai_responses
from app.serve.asks import RequestRefused
from app.serve.bounds import BOUNDS, Bounds
from app.serve.front import Front, WorkerFault
from app.serve.guard import Guard, headers_of, read_body
from app.serve.metrics import ServerMetrics
from engine.errors import LikelyError

WATCH = "/likely/watch"


@dataclass
class ServerState:
    """All that the exchanges of one server have in common."""

    front: Front
    guard: Guard
    tell: Callable[[str], None] = lambda line: None
    watch_key: str = ""  # with which its own user may look at all requests
    bounds: Bounds = BOUNDS
    quiet: bool = False
    metrics: ServerMetrics = field(default_factory=ServerMetrics)


@dataclass
class ServedExchange:
    """One request on its way: what its log line says."""

    began: float
    route: str
    status: int = 0
    model: str = ""
    prompt_tokens: int = 0
    tokens: int = 0
    reused: int = 0
    first_s: float | None = None
    refused: str = ""

    def line(self, now: float) -> str:
        words = [self.route, str(self.status or "gone"), f"{now - self.began:.3f} s"]
        words += [f"model={self.model}"] if self.model else []
        if self.prompt_tokens:
            words += [f"prompt={self.prompt_tokens} reused={self.reused} tokens={self.tokens}"]
        words += [] if self.first_s is None else [f"first={self.first_s:.3f} s"]
        return " ".join([*words, *([f"({self.refused})"] if self.refused else [])])


@dataclass
class Lines:
    """A response that is written line by line: server-sent events, or JSON a line."""

    lines: AsyncIterator[str]
    kind: str = "text/event-stream"


Answered = dict[str, Any] | str | Lines
Handler = Callable[[bytes, ServedExchange], Awaitable[Answered]]
Scope = MutableMapping[str, Any]
ASGI = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Exchanged(Response):
    """A response that is made while the client is there, with one line in the log."""

    def __init__(self, state: ServerState, does: Handler, path: str) -> None:
        self.state, self.does, self.path = state, does, path

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        seen = ServedExchange(time.perf_counter(), self.path)
        sent = False

        async def told(message: Any) -> None:
            nonlocal sent
            sent = True
            await send(message)

        async def work() -> None:
            try:
                headers = headers_of(scope)
                if self.path == WATCH and not (self.state.watch_key and Guard.holds(headers, self.state.watch_key)):
                    raise RequestRefused("watching wants the server's own key", status=401, kind="authentication_error")
                body = await read_body(receive, headers, self.state.bounds) if scope["method"] == "POST" else b""
                gone = asyncio.ensure_future(_gone(receive))
                try:
                    await _unless(gone, self._answer(body, scope, receive, told, seen))
                finally:
                    gone.cancel()
            except RequestRefused as error:
                await self._refuse(error, scope, receive, told, seen, sent)
            except LikelyError as error:
                await self._refuse(RequestRefused(str(error)), scope, receive, told, seen, sent)
            except Exception as error:  # a bug ends its own request alone, and is told
                self.state.tell(error.trace if isinstance(error, WorkerFault) else traceback.format_exc())
                fault = RequestRefused(f"a fault of this server: {error}", status=500, kind="server_error")
                await self._refuse(fault, scope, receive, told, seen, sent)

        try:
            await work()
        finally:
            now = time.perf_counter()
            metrics = self.state.metrics
            metrics.requests[self.path, seen.status or 499] += 1
            metrics.tokens["prompt"] += seen.prompt_tokens
            metrics.tokens["reused"] += seen.reused
            metrics.tokens["completion"] += seen.tokens
            metrics.whole_s.add(now - seen.began)
            if seen.first_s is not None:
                metrics.first_s.add(seen.first_s)
            if not self.state.quiet and self.path not in ("/health", "/metrics"):
                self.state.tell(seen.line(now))

    async def _answer(self, body: bytes, scope: Scope, receive: Any, send: Any, seen: ServedExchange) -> None:
        async def whole() -> None:
            answered = await self.does(body, seen)
            seen.status = seen.status or 200
            if isinstance(answered, Lines):
                start = {"type": "http.response.start", "status": 200, "headers": _headers(answered.kind)}
                await send(start)
                async for line in answered.lines:
                    await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            elif isinstance(answered, str):
                await PlainTextResponse(answered, seen.status)(scope, receive, send)
            else:
                await JSONResponse(answered, seen.status)(scope, receive, send)

        if scope["method"] != "POST" or self.path == "/api/show":
            await whole()
            return
        async with self.state.front.admitted():
            await whole()

    async def _refuse(
        self, error: RequestRefused, scope: Scope, receive: Any, send: Any, seen: ServedExchange, sent: bool
    ) -> None:
        seen.status, seen.refused = error.status, error.field or error.kind
        body = openai_responses.refusal(error)
        if sent:  # in the middle of a stream
            await send({"type": "http.response.body", "body": f"data: {json.dumps(body)}\n\n".encode()})
            return
        await refused(error)(scope, receive, send)


def refused(error: RequestRefused) -> Response:
    """The response to a request that is not served."""
    more = {429: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(error.status, {})
    return JSONResponse(openai_responses.refusal(error), error.status, headers=more)


def guarded(app: ASGI, guard: Guard) -> ASGI:
    """The application behind its guard."""

    async def at_door(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                headers = headers_of(scope)
                keyed = scope["path"] not in ("/health", WATCH)  # nothing is to be known there, or another key is
                (guard if keyed else Guard(guard.host)).check(headers)
            except RequestRefused as error:
                await refused(error)(scope, receive, send)
                return
        await app(scope, receive, send)

    return at_door


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
