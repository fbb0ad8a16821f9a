"""Tool servers at work: started, asked what they offer, and called, each within bounds of time and size.

They are talked to in a thread of their own, by `mcp`; what comes out is plain data. A fault of a server is one line,
and no fault ends anything but the call: one that had started and has gone is started again when it is next wanted. Its
files, network and processes are its own: nothing here confines it. Knows no model, and not whether a person has agreed.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from likely.app.tools.specs import ServerSpec
from likely.app.words.heat import CONTROL, sanitize_line
from likely.engine.base.errors import LikelyError, ParameterError
from likely.engine.base.machine.installation import adding
from likely.engine.chat.tools.tool import Tool, ToolCall, ToolResult

if TYPE_CHECKING:
    from mcp import Client

START_S = 20.0  # for a server to say what it offers
CALL_S = 60.0
LONGEST = 1 << 16  # characters of a result
TOOLS, SCHEMA, WORDS = 128, 20_000, 4_000  # tools of a server; characters of a schema, and of a description
LEAVING_S = 4.0
PATIENCE_S = 0.05

T = TypeVar("T")


class ToolError(LikelyError):
    """A server that cannot be started, does not answer or is gone."""


class ToolServers:
    """Servers that run from `open` to `close`, or as a context. `faults` are lines: why one does not. `changed`: one
    has said that its list of tools is another than when it was last asked."""

    def __init__(self, specs: Sequence[ServerSpec], *, start_s: float = START_S, call_s: float = CALL_S) -> None:
        """ParameterError without the extra."""
        try:
            import mcp  # noqa: F401
        except ImportError:
            raise ParameterError(f"tools need a package that is not installed: {adding('mcp')}") from None
        self.specs = {spec.name: spec for spec in specs}
        self.call_s = call_s
        self.faults: dict[str, str] = {}
        self.changed = False
        self._news: list[str] = []
        self._servers = {spec.name: _Server(spec, start_s, self._news.append, self._change) for spec in specs}
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="tools", daemon=True)

    def __enter__(self) -> "ToolServers":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> "ToolServers":
        """Begin: the servers are started side by side, and nobody waits for them yet."""
        self._thread.start()
        for server in self._servers.values():
            asyncio.run_coroutine_threadsafe(server.run(), self._loop)
        return self

    def close(self) -> None:
        """End them all."""

        async def end() -> None:
            await asyncio.gather(*(server.end() for server in self._servers.values()), return_exceptions=True)

        if self._thread.is_alive():
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(end(), self._loop).result(START_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE_S * 20)

    def news(self) -> list[str]:
        """Lines of what has happened to the servers since this was asked last."""
        found = [*self._news]
        del self._news[: len(found)]
        return found

    def _change(self) -> None:
        self.changed = True

    def listing(self) -> Generator[None, None, tuple[Tool, ...]]:
        """The tools that there are now, in pieces; None while it is waited for them. Of two with one name both have
        their server's before it. What a server has changed since it was last asked is in it."""

        async def ask() -> dict[str, list[Tool] | str]:
            found = await asyncio.gather(*(server.tools() for server in self._servers.values()), return_exceptions=True)
            return {name: _line(each) if isinstance(each, BaseException) else each
                    for name, each in zip(self._servers, found, strict=True)}  # fmt: skip

        self.changed = False
        found = yield from self._awaited(ask())
        self.faults = {name: each for name, each in found.items() if isinstance(each, str)}
        offered = [tool for each in found.values() if not isinstance(each, str) for tool in each]
        count = Counter(tool.name for tool in offered)
        named = [replace(t, name=f"{_name(t.server)}__{t.name}") if count[t.name] > 1 else t for t in offered]
        return tuple({tool.name: tool for tool in named}.values())

    def calling(self, tool: Tool, call: ToolCall) -> Generator[None, None, ToolResult]:
        """The result of a call, in pieces; None while it is waited for. Closing it takes the call back. A server that
        hangs, is gone or breaks the protocol gives an error as the result, which a model can read, too."""

        async def ask() -> ToolResult:
            return await self._servers[tool.server].call(tool.own, call.arguments, self.call_s)

        try:
            return (yield from self._awaited(ask()))
        except Exception as error:
            return ToolResult(f"{tool.name} gave no result: {_line(error)}", is_error=True)

    def _awaited(self, work: Coroutine[Any, Any, T]) -> Generator[None, None, T]:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not wait([future], PATIENCE_S).done:
                yield None
            return future.result()
        except CancelledError:
            raise ToolError("the call was taken back") from None
        finally:
            future.cancel()


class _Server:
    """One server, within the thread of all: its client lives in one task, as its scopes of cancelling want."""

    def __init__(
        self, spec: ServerSpec, start_s: float, tell: Callable[[str], None], change: Callable[[], None]
    ) -> None:
        self._spec, self._start_s, self._tell, self._change = spec, start_s, tell, change
        self._ready: asyncio.Future[Client] | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._gone = asyncio.Event()
        self._began = asyncio.Event()
        self._again = asyncio.Lock()
        self._transport: Any = None
        self._served = False  # it has started once

    async def run(self) -> None:
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        self._ready, self._task = asyncio.get_running_loop().create_future(), asyncio.current_task()
        self._began.set()
        try:
            if self._spec.url:
                import httpx2

                http = httpx2.AsyncClient(headers=dict(self._spec.headers), timeout=httpx2.Timeout(CALL_S))
                transport: Any = streamable_http_client(self._spec.url, http_client=http)
            else:
                from likely.app.tools.stdio import StdioTransport

                transport = self._transport = StdioTransport(self._spec)
            found = Client(transport, cache=None, message_handler=self._heard)
            async with asyncio.timeout(self._start_s) as bound, found as client:
                bound.reschedule(None)
                self._ready.set_result(client)
                self._served = True
                await self._over.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(ToolError(self._why(error)))
        finally:
            self._gone.set()

    async def _heard(self, message: Any) -> None:
        if getattr(message, "method", "") == "notifications/tools/list_changed":
            self._change()

    async def end(self) -> None:
        await self._began.wait()
        async with self._again:  # it is not started again meanwhile
            self._over.set()
        assert self._ready is not None and self._task is not None
        if not self._ready.done():
            self._ready.set_exception(ToolError("it was ended"))
            self._task.cancel()  # it waits for the server's first word
        with suppress(Exception):
            self._ready.exception()
        await asyncio.wait_for(self._gone.wait(), LEAVING_S)

    async def tools(self) -> list[Tool]:
        """The tools that it offers now. ToolError where it does not say."""
        client, found = await self._client(), list[Tool]()
        try:
            async with asyncio.timeout(self._start_s):
                cursor: str | None = None
                while len(found) < TOOLS:
                    page = await client.list_tools(cursor=cursor)
                    found += [tool for each in page.tools if (tool := self._tool(each)) is not None]
                    if not (cursor := page.next_cursor):
                        break
        except Exception as error:
            raise ToolError(self._why(error)) from None
        return found[:TOOLS]

    async def call(self, name: str, arguments: Mapping[str, Any], seconds: float) -> ToolResult:
        """ToolError where there is no result."""
        client = await self._client()
        try:
            async with asyncio.timeout(seconds):
                answer = await client.call_tool(name, dict(arguments))
        except TimeoutError:
            raise ToolError(f"it did not answer within {seconds:g} s") from None
        except Exception as error:
            raise ToolError(self._why(error)) from None
        blocks = [_words(block) for block in answer.content]
        if not blocks and answer.structured_content is not None:
            blocks = [json.dumps(answer.structured_content, ensure_ascii=False)]
        text = CONTROL.sub("", "\n".join(blocks).replace("\r\n", "\n"))
        return ToolResult(text[:LONGEST], bool(answer.is_error), max(0, len(text) - LONGEST))

    async def _client(self) -> "Client":
        """Its client; of a server that had started and has gone, after it was started again."""
        await self._began.wait()
        async with self._again:
            if self._served and self._dead and not self._over.is_set():
                why, how = self._why(None), "connected to" if self._spec.url else "started"
                self._over.set()
                await asyncio.wait_for(self._gone.wait(), LEAVING_S)
                self._over, self._gone, self._began = asyncio.Event(), asyncio.Event(), asyncio.Event()
                self._task = asyncio.create_task(self.run())
                await self._began.wait()
                self._tell(f"the tool server {self._spec.name} had ended ({why}): it is {how} again")
        assert self._ready is not None
        client = await asyncio.shield(self._ready)
        if self._dead:
            raise ToolError(self._why(None))
        return client

    @property
    def _dead(self) -> bool:
        """Whether nobody is there to talk to any more."""
        return self._gone.is_set() or bool(self._transport is not None and self._transport.fault)

    def _why(self, error: BaseException | None) -> str:
        if self._transport is not None and self._transport.fault:
            return str(self._transport.fault)
        if isinstance(error, TimeoutError):
            return f"it did not answer within {self._start_s:g} s"
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return str(error) or type(error).__name__ if error is not None else "it is gone"

    def _tool(self, each: Any) -> Tool | None:
        """A tool as its server lists it; None for one whose schema is out of all bounds."""
        if len(json.dumps(each.input_schema)) > SCHEMA:
            return None
        words = CONTROL.sub("", each.description or "")[:WORDS]
        return Tool(self._spec.name, _name(each.name), words, each.input_schema, each.name)


def _name(text: str) -> str:
    """A name that every template and reader takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:64] or "_"


def _words(block: Any) -> str:
    """A part of a result as a model of texts reads it."""
    match block.type:
        case "text":
            return str(block.text)
        case "resource":
            return str(getattr(block.resource, "text", None) or f"[{block.resource.uri}: no text]")
        case "resource_link":
            return f"[{block.name}: {block.uri}]"
    return f"[{block.type}, {block.mime_type}, {len(block.data) * 3 // 4} bytes: not read, only text is]"


def _line(error: BaseException) -> str:
    return sanitize_line(str(error) or type(error).__name__)[:300]
