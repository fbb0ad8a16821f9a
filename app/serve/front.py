"""Front of the worker for one event loop: admits requests within bounds, and gives each its own stream of events.

What waits does so in the order in which it came. Whoever leaves a stream cancels its request, wherever that is by then.
Knows no protocol and no transport.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from app.serve.asks import AnswerOpened, AnswerRequest, EmbeddingRequest, RequestRefused
from app.serve.bounds import Bounds
from app.worker import Closed, Executor, Failed, Worker
from engine.decode.events import Done, Emitted
from engine.trace.fields import step_object

WATCHED = 4096  # events that one who watches may be behind


class WorkerFault(Exception):
    """A bug in the worker: `trace` has its traceback."""

    def __init__(self, line: str, trace: str) -> None:
        super().__init__(line)
        self.trace = trace


class Front:
    """Requests of one server on their way to its worker and back."""

    def __init__(self, executor: Callable[[], Executor], bounds: Bounds) -> None:
        self.bounds = bounds
        self.worker = Worker(executor, "serving", reported=self._wake)
        self.running = 0
        self.waiting = 0
        self.watchers: set[asyncio.Queue[tuple[int, Any]]] = set()
        self._asked: dict[int, asyncio.Queue[Any]] = {}
        self._free = asyncio.Semaphore(bounds.running)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.worker.start()

    def close(self) -> None:
        self.worker.close()

    @property
    def alive(self) -> bool:
        """Whether the worker's thread runs."""
        return not self.worker.join(0)

    async def watched(self) -> AsyncIterator[dict[str, Any]]:
        """All requests from now on, as they run: what was asked, each token with its figures, how it ended."""
        queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(WATCHED)
        self.watchers.add(queue)
        try:
            while queue in self.watchers or not queue.empty():
                job, event = await queue.get()
                for seen in sights(event):
                    yield {"request": job, **seen}
        finally:
            self.watchers.discard(queue)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """A place among those that run; RequestRefused where too many wait for one already."""
        if self._free.locked() and self.waiting >= self.bounds.waiting:
            line = f"{self.waiting} requests wait already: come back later"
            raise RequestRefused(line, status=429, kind="rate_limit_error")
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()

    async def events(self, request: Any) -> AsyncIterator[Any]:
        """The events of a request. Raises RequestRefused, another LikelyError, or WorkerFault for a bug."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        job = self.worker.submit(request)
        self._asked[job] = queue
        self._tell(job, request)
        over = False
        try:
            while True:
                event = await queue.get()
                if isinstance(event, Failed):
                    raise WorkerFault(event.line, event.trace) if event.error is None else event.error
                if isinstance(event, Closed):
                    over = True
                    return
                yield event
        finally:
            if not over:
                if isinstance(request, AnswerRequest | EmbeddingRequest):
                    request.control.cancel()
                self._tell(job, Closed())
            del self._asked[job]

    def _wake(self) -> None:
        """In the worker's thread: have the loop look."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        for job, event in self.worker.drain():
            if job in self._asked:
                self._asked[job].put_nowait(event)
                self._tell(job, event)

    def _tell(self, job: int, event: Any) -> None:
        """Have those who watch see an event; one that does not keep up loses its sight."""
        for queue in list(self.watchers):
            if queue.full():
                self.watchers.discard(queue)
            else:
                queue.put_nowait((job, event))


def sights(event: Any) -> Iterator[dict[str, Any]]:
    """The lines that one who watches gets for an event, as JSON has them."""
    match event:
        case AnswerRequest():
            transforms = [repr(transform) for transform in event.control.recipe.transforms]
            asked = [*event.prompt.messages, *({"text": part} for part in event.prompt.parts if isinstance(part, str))]
            yield {"asked": asked, "model": event.model, "n": event.n, "seed": event.seed, "transforms": transforms}
        case AnswerOpened(facts, tokens):
            yield {"opened": tokens, "model": facts.name}
        case tuple():
            for each in event:
                if isinstance(each, Emitted):
                    yield {"branch": each.branch, "step": step_object(each.step)}
                elif isinstance(each, Done):
                    yield {"branch": each.branch, "done": each.reason, "text": each.text}
        case Failed(line):
            yield {"failed": line}
        case Closed():
            yield {"closed": True}
