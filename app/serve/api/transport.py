"""Transport: routes over HTTP, each the way from a body through a wire format and the front, and back.

A response begins with its request's first event, so that what is wrong with a request is a status, not a broken stream.
A client that goes away ends the work for it. Knows the protocols only by the functions that read and write them.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from likely.app.jobs import requests as r
from likely.app.serve.api import messages_api, ollama, openai_fields, openai_requests, openai_responses, responses_api
from likely.app.serve.api.exchange import Handler, Lines, LoggedResponse, Reply, ServedExchange, ServerState
from likely.app.serve.api.on_disk import ModelOnDisk
from likely.app.serve.api.openapi import description
from likely.app.serve.api.reading import AnswerReader, TextDelta
from likely.app.serve.requests import (
    AnswerOpened,
    AnswerRequest,
    DescribeModel,
    Embedded,
    EmbeddingRequest,
    ListModels,
    RequestRefused,
)
from likely.app.serve.watch.lines import WATCH
from likely.engine.sampling.trace.step import TokenStep
from likely.metal import malloc

Json = dict[str, Any]
T = TypeVar("T")
DONE = "data: [DONE]\n\n"
SHORT = 4096  # bytes of a body that is read at once
ECHOED = 64  # tokens of a prompt in one line of a stream
SIDE_BY_SIDE = 8  # prompts of one request that are drawn at once


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The routes of a server; `names` are the models that may be asked for, `on_disk` what lies behind them."""

    state: ServerState
    names: Callable[[], Sequence[str]]
    on_disk: Callable[[], Sequence[ModelOnDisk]]

    def app(self) -> Starlette:
        """The ASGI application."""
        posts = {
            "/v1/chat/completions": self.chat,
            "/v1/completions": self.completions,
            "/v1/embeddings": self.embeddings,
            "/v1/responses": self.responses,
            "/v1/messages": self.messages,
            "/v1/messages/count_tokens": self.message_tokens,
            "/api/chat": self.ollama_chat,
            "/api/generate": self.ollama_generate,
            "/api/show": self.ollama_show,
            "/api/embed": self.ollama_embed,
            "/api/embeddings": self.ollama_embedding,
        }
        gets = {
            "/": self.greeting,
            "/v1/models": self.models,
            "/health": self.health,
            "/metrics": self.measured,
            "/openapi.json": self.openapi,
            "/api/tags": self.ollama_tags,
            "/api/ps": self.ollama_ps,
            "/api/version": self.ollama_version,
            WATCH: self.watch,
        }
        routes = [Route(path, self._route(does, path), methods=["POST"]) for path, does in posts.items()]
        routes += [Route(path, self._route(does, path), methods=["GET"]) for path, does in gets.items()]
        routes.append(Route("/v1/models/{name:path}", self._model, methods=["GET"]))
        app = Starlette(routes=routes, exception_handlers={HTTPException: self._unknown})
        app.router.redirect_slashes = False  # it would answer whoever asks
        return app

    # -- the way there and back --------------------------------------------------------------------------------------

    def _route(self, does: Handler, path: str) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return LoggedResponse(self.state, does, path)

        return handle

    async def _model(self, request: Request) -> Response:
        if not (name := request.path_params["name"]):
            return self._unknown(request, HTTPException(404))

        async def does(body: bytes, exchange: ServedExchange) -> Reply:
            return await self.model(name)

        return LoggedResponse(self.state, does, "/v1/models/{name}")

    def _unknown(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        line = f"there is no {request.method} {request.url.path[:80]} here: GET /openapi.json lists all there is"
        return LoggedResponse(
            self.state, RequestRefused(line, status=error.status_code, headers=error.headers), "other"
        )

    async def _opened(
        self, request: AnswerRequest, exchange: ServedExchange
    ) -> tuple[AnswerOpened, AsyncIterator[Any]]:
        """The first event of a request, and the others."""
        events = self.state.front.events(request)
        async for event in events:
            assert isinstance(event, AnswerOpened)
            exchange.model = event.facts.name
            exchange.prompt_tokens += event.prompt_tokens
            self.state.ignore(exchange.route, (*request.ignored, *event.ignored))
            return event, events
        raise RequestRefused("the request ended before it began", status=503, kind="server_error")

    async def _whole(
        self, request: AnswerRequest, exchange: ServedExchange
    ) -> tuple[AnswerOpened, AnswerReader, tuple[Any, ...]]:
        """A whole answer: its beginning, its texts, and the steps of its prompt where they were asked for."""
        opened, events = await self._opened(request, exchange)
        reader = self._reader(request, opened, exchange)
        steps: tuple[Any, ...] = ()
        async for event in events:
            if isinstance(event, r.Scored):
                steps = event.steps
                continue
            for grown in reader.read(event):
                self._first(exchange, grown)
        return opened, reader, steps

    @staticmethod
    def _reader(request: AnswerRequest, opened: AnswerOpened, exchange: ServedExchange) -> AnswerReader:
        n = 1 if request.strategy.SEARCHES else request.drawn
        shown = request.shown
        figures = shown.logprobs is not None or shown.steps or shown.snapshot
        reader = AnswerReader(
            n,
            opened=opened.opened,
            thinking=opened.thinking,
            calls=opened.calls if request.tools else None,
            tools=request.tools,
            figures=figures,
        )
        exchange.readers.append(reader)
        return reader

    @staticmethod
    def _first(exchange: ServedExchange, grown: TextDelta) -> None:
        if exchange.first_s is None and grown.steps:
            exchange.first_s = time.perf_counter() - exchange.began

    async def _read(self, body: bytes, exchange: ServedExchange, read: Callable[[], T]) -> T:
        """The request in a body, which has a slot among those that run. A long body waits for that as it came, and is
        read while the loop serves others."""
        if len(body) > SHORT:
            await exchange.slot.enter_async_context(self.state.front.admitted())
            return await self.state.aside(read)
        request = read()
        brief = any(getattr(part, "brief", False) for part in (request if isinstance(request, tuple) else (request,)))
        await exchange.slot.enter_async_context(self.state.front.admitted(brief))
        return request

    async def _lines(self, request: AnswerRequest, parts: Iterator[Json], *, named: bool = False) -> list[str]:
        """The lines of a stream for news of a text, `named` events or not; with figures they are made while the loop
        serves others."""
        shown, written = request.shown, _named_sse if named else _sse
        if shown.logprobs is None and not shown.steps and not shown.snapshot:
            return [written(part) for part in parts]
        return await self.state.aside(lambda: [written(part) for part in parts])

    # -- OpenAI ------------------------------------------------------------------------------------------------------

    async def chat(self, body: bytes, exchange: ServedExchange) -> Reply:
        request = await self._read(
            body, exchange, lambda: openai_requests.chat(openai_requests.read(body, openai_fields.CHAT))
        )
        return await self._chat(request, exchange)

    async def _chat(self, request: AnswerRequest, exchange: ServedExchange) -> Reply:
        if request.shown.stream:
            opened, events = await self._opened(request, exchange)
            return Lines(self._chat_stream(request, opened, events, exchange))
        opened, reader, _ = await self._whole(request, exchange)
        head = _head("chatcmpl", opened)
        return lambda: openai_responses.chat_response(request, opened, reader, head, opened.facts.vocabulary)

    async def _chat_stream(
        self, request: AnswerRequest, opened: AnswerOpened, events: AsyncIterator[Any], exchange: ServedExchange
    ) -> AsyncIterator[str]:
        head, reader, pieces = (
            _head("chatcmpl", opened),
            self._reader(request, opened, exchange),
            opened.facts.vocabulary,
        )

        def chunks(event: Any) -> Iterator[Json]:
            for grown in reader.read(event):
                self._first(exchange, grown)
                text = reader.texts[grown.number]
                calls = openai_responses.message(request, text)[1] if grown.reason else []
                cut = text.of("said") if grown.reason and request.called and not calls else ""
                delta = replace(grown, reason="") if calls else grown  # what was held back comes before them
                if (chunk := openai_responses.chat_chunk(request, delta, head, pieces, cut)) is not None:
                    yield chunk
                if calls:
                    yield openai_responses.calls_chunk(grown.number, calls, head)

        if request.shown.usage:
            head["usage"] = None  # of all but the last chunk
        for number in range(request.drawn):
            yield _sse(openai_responses.opening_chunk(head, number))
        async for event in events:
            for line in await self._lines(request, chunks(event)):
                yield line
        if request.shown.usage:
            usage = openai_responses.usage(opened.prompt_tokens, reader)
            yield _sse({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        yield DONE

    async def completions(self, body: bytes, exchange: ServedExchange) -> Reply:
        requests = await self._read(
            body, exchange, lambda: openai_requests.completions(openai_requests.read(body, openai_fields.COMPLETION))
        )
        if requests[0].shown.stream:
            opened, events = await self._opened(requests[0], exchange)
            return Lines(self._text_stream(requests, opened, events, exchange))
        answers: list[tuple[AnswerOpened, AnswerReader, tuple[Any, ...]]] = []
        for start in range(0, len(requests), SIDE_BY_SIDE):
            answers += await _together(
                [self._whole(request, exchange) for request in requests[start : start + SIDE_BY_SIDE]]
            )

        def choices() -> list[Json]:
            rows: list[Json] = []
            for request, (opened, reader, steps) in zip(requests, answers, strict=True):
                rows += openai_responses.text_choices(request, reader, steps, opened.facts.vocabulary, len(rows))
            return rows

        usages = [openai_responses.usage(opened.prompt_tokens, reader) for opened, reader, _ in answers]
        total = {name: sum(u[name] for u in usages) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        head = {**_head("cmpl", answers[0][0]), "object": "text_completion"}
        return lambda: {**head, "choices": choices(), "usage": total}

    async def _text_stream(
        self,
        requests: Sequence[AnswerRequest],
        opened: AnswerOpened,
        events: AsyncIterator[Any],
        exchange: ServedExchange,
    ) -> AsyncIterator[str]:
        head, pieces, total = _head("cmpl", opened), opened.facts.vocabulary, [0, 0]
        if requests[0].shown.usage:
            head["usage"] = None  # of all but the last chunk
        for number, request in enumerate(requests):
            if number:
                opened, events = await self._opened(request, exchange)
            reader, first = self._reader(request, opened, exchange), number * request.n
            at = dict.fromkeys(range(request.n), 0)

            def chunk(request: AnswerRequest, grown: TextDelta, first: int, at: dict[int, int]) -> Iterator[Json]:
                offset = at[grown.number]
                at[grown.number] += sum(len(step.text) for step in grown.steps)
                written = openai_responses.text_chunk(request, grown, first, head, pieces, offset)
                yield from [] if written is None else [written]

            async for event in events:
                if isinstance(event, r.Scored):
                    for grown in _echoed(request, event.steps):
                        for line in await self._lines(request, chunk(request, grown, first, at)):
                            yield line
                    continue
                for grown in reader.read(event):
                    self._first(exchange, grown)
                    for line in await self._lines(request, chunk(request, grown, first, at)):
                        yield line
            total = [total[0] + opened.prompt_tokens, total[1] + reader.tokens]
        if requests[0].shown.usage:
            usage = {"prompt_tokens": total[0], "completion_tokens": total[1], "total_tokens": sum(total)}
            yield _sse({**head, "object": "text_completion", "choices": [], "usage": usage})
        yield DONE

    async def embeddings(self, body: bytes, exchange: ServedExchange) -> Reply:
        def read() -> tuple[Json, EmbeddingRequest]:
            fields = openai_requests.read(body, openai_fields.EMBEDDING)
            return fields, openai_requests.embeddings(fields)

        fields, request = await self._read(body, exchange, read)
        embedded = await self._embedded(request, exchange)
        as_base64, name = fields.get("encoding_format") == "base64", request.model or self.names()[0]
        return lambda: openai_responses.embeddings(embedded, name, as_base64)

    async def _embedded(self, request: EmbeddingRequest, exchange: ServedExchange) -> Embedded:
        async for event in self.state.front.events(request):
            if isinstance(event, Embedded):
                exchange.prompt_tokens = event.tokens
                return event
        raise RequestRefused("the request ended before it was answered", status=503, kind="server_error")

    async def responses(self, body: bytes, exchange: ServedExchange) -> Reply:
        request = await self._read(body, exchange, lambda: responses_api.read(body))
        return await self._told(request, exchange, responses_api)

    async def _told(self, request: AnswerRequest, exchange: ServedExchange, wire: ModuleType) -> Reply:
        """An answer in a wire format whose streams have named events."""
        opened, events = await self._opened(request, exchange)
        head, reader = wire.head(opened), self._reader(request, opened, exchange)

        def parts(writer: Any, event: Any) -> Iterator[Json]:
            for grown in reader.read(event):
                self._first(exchange, grown)
                yield from writer.grown(grown)

        async def lines() -> AsyncIterator[str]:
            writer = wire.writer(request, opened, head)
            for line in writer.begin():
                yield _named_sse(line)
            async for event in events:
                for text in await self._lines(request, parts(writer, event), named=True):
                    yield text
            whole = wire.response
            for text in await self.state.aside(
                lambda: [_named_sse(line) for line in writer.end(whole(request, opened, reader, head))]
            ):
                yield text

        if request.shown.stream:
            return Lines(lines())
        async for event in events:
            for grown in reader.read(event):
                self._first(exchange, grown)
        return lambda: wire.response(request, opened, reader, head)

    # -- Anthropic ---------------------------------------------------------------------------------------------------

    async def messages(self, body: bytes, exchange: ServedExchange) -> Reply:
        request = await self._read(body, exchange, lambda: messages_api.read(body))
        return await self._told(request, exchange, messages_api)

    async def message_tokens(self, body: bytes, exchange: ServedExchange) -> Reply:
        request = await self._read(body, exchange, lambda: messages_api.count(body))
        opened, events = await self._opened(request, exchange)
        async for _ in events:
            pass
        exchange.prompt_tokens = 0  # none of them was read
        return {"input_tokens": opened.prompt_tokens}

    # -- Ollama ------------------------------------------------------------------------------------------------------

    async def ollama_chat(self, body: bytes, exchange: ServedExchange) -> Reply:
        request = await self._read(body, exchange, lambda: ollama.chat(body))
        return await self._ollama(
            request, exchange, ollama.chat_line, {"message": {"role": "assistant", "content": ""}}
        )

    async def ollama_generate(self, body: bytes, exchange: ServedExchange) -> Reply:
        request = await self._read(body, exchange, lambda: ollama.generate(body))
        return await self._ollama(request, exchange, ollama.generate_line, {"response": ""})

    async def _ollama(
        self, request: AnswerRequest | r.Load, exchange: ServedExchange, line: ollama.Line, nothing: Json
    ) -> Reply:
        if isinstance(request, r.Load):
            return ollama.loaded(await self._loaded(request), nothing)
        opened, events = await self._opened(request, exchange)
        reader = self._reader(request, opened, exchange)

        async def lines() -> AsyncIterator[str]:
            steps: list[TokenStep] = []  # that no line has told yet
            async for event in events:
                for grown in reader.read(event):
                    self._first(exchange, grown)
                    steps += grown.steps
                    if any(text for _, text in grown.parts) or grown.reason:
                        ended = (reader.ended[-1], exchange.began) if grown.reason else (None, None)
                        told = line(opened, grown.parts, *ended) | ollama.logprobs(request, opened, steps)
                        yield json.dumps(told) + "\n"
                        steps = []

        if request.shown.stream:
            return Lines(lines(), "application/x-ndjson")
        async for event in events:
            for grown in reader.read(event):
                self._first(exchange, grown)
        text = reader.ended[-1]
        told = ollama.logprobs(request, opened, text.steps)
        return line(opened, tuple(text.parts), text, exchange.began) | told

    async def ollama_show(self, body: bytes, exchange: ServedExchange) -> Reply:
        name = await self._read(body, exchange, lambda: ollama.shown_name(body))
        facts = await self._described(name)
        return ollama.shown(facts, (await self._on_disk()).get(facts.name) or ollama.gone(facts))

    async def _on_disk(self) -> dict[str, ModelOnDisk]:
        return {model.name: model for model in await asyncio.to_thread(self.on_disk)}

    async def _described(self, name: str) -> r.ModelFacts:
        async for event in self.state.front.events(DescribeModel(name)):
            if isinstance(event, r.ModelFacts):
                return event
        raise RequestRefused("the request ended before it was answered", status=503, kind="server_error")

    async def _loaded(self, request: r.Load) -> r.ModelFacts:
        async for event in self.state.front.events(request):
            if isinstance(event, r.Loaded):
                return event.facts
        raise RequestRefused("the request ended before it was answered", status=503, kind="server_error")

    async def ollama_tags(self, body: bytes, exchange: ServedExchange) -> Reply:
        return ollama.tags((await self._on_disk()).values())

    async def ollama_embed(self, body: bytes, exchange: ServedExchange) -> Reply:
        request = await self._read(body, exchange, lambda: ollama.embed(body))
        embedded = await self._embedded(request, exchange)
        return lambda: ollama.embedded(request, embedded, exchange.began)

    async def ollama_embedding(self, body: bytes, exchange: ServedExchange) -> Reply:
        request = await self._read(body, exchange, lambda: ollama.embed_prompt(body))
        return ollama.embedding(await self._embedded(request, exchange))

    async def ollama_ps(self, body: bytes, exchange: ServedExchange) -> Reply:
        async for models in self.state.front.events(ListModels()):
            return ollama.running(models, await self._on_disk())
        raise RequestRefused("the request ended before it was answered", status=503, kind="server_error")

    async def ollama_version(self, body: bytes, exchange: ServedExchange) -> Reply:
        return {"version": "0.6.4"}  # of the protocol that is spoken: clients ask for at least some

    # -- the rest ----------------------------------------------------------------------------------------------------

    async def models(self, body: bytes, exchange: ServedExchange) -> Reply:
        data = [openai_responses.model(model) for model in (await self._on_disk()).values()]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"], "has_more": False} if data else {}
        return {"object": "list", "data": data, **ends}

    async def model(self, name: str) -> Reply:
        if (model := (models := await self._on_disk()).get(name)) is None:
            line = f"there is no model {name[:80]!r} here: {', '.join(models)}"
            raise RequestRefused(line, "model", 404, "model_not_found")
        return openai_responses.model(model)

    async def greeting(self, body: bytes, exchange: ServedExchange) -> Reply:
        """For a browser, and for Ollama's clients, which look here whether there is a server."""
        return "likely is running; GET /openapi.json lists all there is\n"

    async def health(self, body: bytes, exchange: ServedExchange) -> Reply:
        alive = self.state.front.alive
        exchange.status = 200 if alive else 503
        return {"status": "ok" if alive else "the engine has ended"}

    async def measured(self, body: bytes, exchange: ServedExchange) -> Reply:
        front, heap = self.state.front, malloc.in_use()
        gauges = {"requests_running": front.running, "requests_waiting": front.waiting}
        gauges |= {"python_blocks": sys.getallocatedblocks()} | ({} if heap is None else {"heap_bytes_in_use": heap})
        return self.state.metrics.text(gauges)

    async def openapi(self, body: bytes, exchange: ServedExchange) -> Reply:
        return description()

    async def watch(self, body: bytes, exchange: ServedExchange) -> Reply:
        return Lines(_watched(self.state.front.watched()))


def _head(kind: str, opened: AnswerOpened) -> Json:
    return {"id": openai_responses.identity(kind), "created": int(time.time()), "model": opened.facts.name}


def _sse(part: Json) -> str:
    return f"data: {json.dumps(part)}\n\n"


def _named_sse(part: Json) -> str:
    return f"event: {part['type']}\ndata: {json.dumps(part)}\n\n"


async def _watched(parts: AsyncIterator[Json]) -> AsyncIterator[str]:
    async for part in parts:
        yield _sse(part)
    yield DONE


def _echoed(request: AnswerRequest, steps: Sequence[Any]) -> Iterator[TextDelta]:
    """An echo as news of each text, a part at a time."""
    for number in range(request.n):
        for low in range(0, max(len(steps), 1), ECHOED):
            part = tuple(steps[low : low + ECHOED])
            over = not request.max_tokens and low + ECHOED >= len(steps)
            yield TextDelta(number, (("said", "".join(s.text for s in part)),), part, "length" if over else "")


async def _together(work: "Sequence[Any]") -> list[Any]:
    """The results of all; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
