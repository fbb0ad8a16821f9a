"""Tools of a chat: the servers that run, what they offer, what a person has allowed, and the calls of the last answer.

No widgets: the chat view asks the person and the engine.
"""

import atexit
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from likely.app.tools import specs
from likely.app.tools.consent import Consents
from likely.app.tools.servers import ToolServers
from likely.app.tui.base.answer_settings import AnswerSettings
from likely.engine.base.concurrency.background_thread import Future, begun
from likely.engine.base.concurrency.resumable import whole
from likely.engine.chat.tools.call_format import JSON
from likely.engine.chat.tools.tool import Tool, ToolCall, ToolResult
from likely.engine.chat.tools.use import CallsRead, ToolUse
from likely.engine.decode.prompt import Prompt
from likely.engine.measure.answer_form import AnswerForm


@dataclass
class CalledAnswer:
    """An answer that called: its node, what was read of it, and the results so far."""

    node: str
    read: CallsRead
    results: list[ToolResult] = field(default_factory=list)

    @property
    def next(self) -> ToolCall | None:
        """The call that has no result yet."""
        calls = self.read.answer.calls
        return calls[len(self.results)] if len(self.results) < len(calls) else None


class ToolBench:
    """Servers by what a person named; they run until `close`."""

    def __init__(self, named: Sequence[str], home: Path) -> None:
        """Raises what `specs.read` raises, and ParameterError without the extra."""
        self.servers = ToolServers(specs.read(named, home)).open()
        self.consents = Consents(home)
        self.tools: tuple[Tool, ...] = ()
        self.called: CalledAnswer | None = None
        self.reads = False  # whether an answer's calls are being read
        self.lists = False  # whether the servers are being asked what they offer
        atexit.register(self.servers.close)
        self._back = Event()  # a call is to be taken back

    def listed(self) -> Future[tuple[Tool, ...]]:
        """The tools that there are, to come."""
        return begun(lambda: whole(self.servers.listing()))

    def tool(self, call: ToolCall) -> Tool | None:
        return next((tool for tool in self.tools if tool.name == call.name), None)

    def key(self, tool: Tool) -> str:
        return self.servers.specs[tool.server].key(tool)

    def where(self, tool: Tool) -> str:
        return self.servers.specs[tool.server].where

    def result(self, tool: Tool, call: ToolCall) -> Future[ToolResult]:
        """The result of a call, to come."""
        self._back.clear()

        def wait() -> ToolResult:
            waiting = self.servers.calling(tool, call)
            while not self._back.is_set():
                try:
                    next(waiting)
                except StopIteration as end:
                    found: ToolResult = end.value
                    return found
            waiting.close()
            return ToolResult("the call was taken back", is_error=True)

        return begun(wait)

    def take_back(self) -> bool:
        """Take back what is under way, and forget the calls; gives whether there was something."""
        was, self.called, self.reads = self.called is not None or self.reads, None, False
        self._back.set()
        return was

    def close(self) -> None:
        """End the servers, in a thread: some take their time."""
        self.take_back()
        atexit.unregister(self.servers.close)
        begun(self.servers.close)


def offering(
    tools: Sequence[Tool], calls: bool, prompt: Prompt, asked: AnswerSettings
) -> tuple[Prompt, AnswerSettings]:
    """A prompt that is told of the tools, and settings that bind the answer where the template has no `calls`."""
    use = ToolUse(tuple(tools), JSON if calls else None)
    bound = asked if calls else replace(asked, form=AnswerForm("json-schema", "tools", use.grammar))
    return use.told(prompt), bound
