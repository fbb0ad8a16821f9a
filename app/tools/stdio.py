"""Transport to a tool server that is a process here: messages as lines on its standard input and output.

`mcp` has one, too, which reads a line of any length and gives the process six variables of ours; this one has a bound
for what a server may write, gives it PATH, HOME and what its configuration names, and knows its last words.
"""

import asyncio
import os
import signal
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types.jsonrpc import jsonrpc_message_adapter

from likely.app.tools.specs import ServerSpec

LINE = 1 << 22  # bytes of one message
FLOOD = 1 << 24  # bytes without a message from us
GRACE_S = 1.0  # to leave by itself once its input has ended, and again once it is told to
PASSED_ON = ("PATH", "HOME")


class StdioTransport:
    """An asynchronous context: the process runs in it, in a process group of its own."""

    def __init__(self, spec: ServerSpec) -> None:
        self._spec = spec
        self._fault, self._closing = "", False
        self._words: deque[str] = deque(maxlen=8)
        self._unasked = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process | None = None

    @property
    def fault(self) -> str:
        """Why there is nobody to talk to any more, "" while there is."""
        if self._fault or self._closing or self._process is None or self._process.returncode is None:
            return self._fault
        code, words = self._process.returncode, next((line for line in reversed(self._words) if line.strip()), "")
        how = f"{signal.Signals(-code).name} ended it" if code < 0 else f"it left with status {code}"
        return f"{how}{words and ': ' + words[:200]}"

    async def __aenter__(self) -> Any:
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | dict(self._spec.env)
        pipe = asyncio.subprocess.PIPE
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._spec.command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, limit=LINE, start_new_session=True
            )
        except OSError as error:
            self._fault = f"cannot start {self._spec.command[0]}: {error.strerror}"
            raise
        self._ours, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, self._theirs = anyio.create_memory_object_stream[SessionMessage](0)
        self._streams = (self._ours, read, write, self._theirs)
        jobs = (self._read(self._process), self._write(self._process), self._listen(self._process))
        self._tasks = [asyncio.create_task(job) for job in jobs]
        return read, write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            assert self._process is not None
            self._fault, self._closing = self.fault, True
            if self._process.stdin is not None:
                self._process.stdin.close()
            for number in (None, signal.SIGTERM, signal.SIGKILL):
                if number is not None:
                    self._kill(number)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), GRACE_S)
                    break
            self._kill(signal.SIGKILL)  # whoever it has started
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for stream in self._streams:
                stream.close()

    def _kill(self, number: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with self._ours:
                while True:
                    try:
                        line = await process.stdout.readline()
                    except ValueError:
                        return self._end(f"it wrote a line of more than {LINE >> 20} MB")
                    if not line:
                        with suppress(TimeoutError):
                            await asyncio.wait_for(process.wait(), GRACE_S)
                        await asyncio.wait(self._tasks[2:], timeout=GRACE_S)  # its last words
                        self._fault = self.fault or ("" if self._closing else "it closed its output")
                        return None
                    self._unasked += len(line)
                    if self._unasked > FLOOD:
                        return self._end(f"it wrote more than {FLOOD >> 20} MB that nobody asked for")
                    try:
                        message = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
                    except (ValueError, RecursionError):
                        continue  # a banner, a stray print: servers do that
                    await self._ours.send(message)

    def _end(self, fault: str) -> None:
        self._fault = fault
        self._kill(signal.SIGKILL)

    async def _write(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        with suppress(OSError):
            async for message in self._theirs:
                self._unasked = 0
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last lines that it complains in."""
        assert process.stderr is not None
        rest = b""
        while chunk := await process.stderr.read(1 << 14):
            *lines, rest = (rest + chunk)[-LINE:].split(b"\n")
            self._words.extend(line.decode(errors="replace") for line in lines[-8:])
            rest = rest[-1000:]
        self._words.append(rest.decode(errors="replace"))
