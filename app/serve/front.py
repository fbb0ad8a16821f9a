"""Front of the worker for one event loop: admits requests within bounds, and gives each its own stream of events.

What waits does so in the order in which it came, but for little work, which has some slots of its own. Whoever leaves
a stream cancels its request, wherever that is by then. Knows no protocol and no transport.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from likely.app.jobs.worker import Closed, Executor, Failed, Worker
from likely.app.serve.bounds import Bounds
from likely.app.serve.requests import AnswerOpened, AnswerRequest, EmbeddingRequest, RequestRefused
from likely.app.serve.watch_writer import WatchWriter, began

WATCHED = 4096  # events that one who watches may be behind
PULSE_S = 10.0  # after which one who watches is told that there is nothing to tell


class WorkerFault(Exception):
    """A bug in the worker: `trace` has its traceback. `restarted`: none of this request's, which may come again."""

    def __init__(self, line: str, trace: str, restarted: bool = False) -> None:
        super().__init__(line)
        self.trace, self.restarted = trace, restarted


class LateReader:
    """The events of one request that nobody has taken yet, and how many they are."""

    def __init__(self) -> None:
        self.behind = 0
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, event: Any) -> None:
        self.behind += len(event) if isinstance(event, tuple) else 1
        self._queue.put_nowait(event)

    async def get(self) -> Any:
        event = await self._queue.get()
        self.behind -= len(event) if isinstance(event, tuple) else 1
        return event


class Slots:
    """Slots of those that run: `running` for all, and `brief` more for little work. Who waits is let in as it came."""

    def __init__(self, running: int, brief: int) -> None:
        self._most, self._beside = running, brief
        self._used = {False: 0, True: 0}  # by those that are brief, and by others
        self._line: list[tuple[bool, asyncio.Future[None]]] = []

    @property
    def running(self) -> int:
        return sum(self._used.values())

    @property
    def waiting(self) -> int:
        return len(self._line)

    def free(self, brief: bool) -> bool:
        """Whether one more request may run."""
        long, short = self._used[False] + (not brief), self._used[True] + brief
        return long + max(0, short - self._beside) <= self._most

    async def take(self, brief: bool) -> None:
        """Have a slot, when there is one: a brief one waits for those that are brief alone, or are before it."""
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((brief, slot))
        self._let_in()
        try:
            await slot
        except asyncio.CancelledError:
            if (brief, slot) in self._line:
                self._line.remove((brief, slot))
            else:
                self.leave(brief)
            raise

    def leave(self, brief: bool) -> None:
        self._used[brief] -= 1
        self._let_in()

    def _let_in(self) -> None:
        for brief, slot in list(self._line):
            if self.free(brief):
                self._line.remove((brief, slot))
                self._used[brief] += 1
                slot.set_result(None)


class Front:
    """Hands a server's requests to its worker, and the events of each back to whoever awaits them."""

    def __init__(self, executor: Callable[[], Executor], bounds: Bounds) -> None:
        self.bounds = bounds
        self.worker = Worker(executor, "serving", reported=self._wake, rests=_give_back)
        self.slots = Slots(bounds.running, bounds.brief)
        self.watchers: set[asyncio.Queue[tuple[int, Any]]] = set()
        self._readers: dict[int, LateReader] = {}
        self._known: dict[int, list[Any]] = {}  # the requests that go on, and how their answers were opened
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.worker.start()

    def close(self) -> None:
        self.worker.close()

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return self.slots.running

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""
        return self.slots.waiting

    @property
    def alive(self) -> bool:
        """Whether the worker's thread runs."""
        return not self.worker.join(0)

    async def watched(self) -> AsyncIterator[dict[str, Any]]:
        """All requests as they run, as `watch_lines` has them: those that do already, without their tokens so far,
        and every other from its beginning. Ends for one that does not keep up."""
        queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(WATCHED)
        writer = WatchWriter()
        running = [(job, event) for job, known in self._known.items() for event in known]
        self.watchers.add(queue)
        try:
            yield began()
            for job, event in running:
                for line in writer.lines(job, event, late=True):
                    yield line
            while queue in self.watchers or not queue.empty():
                try:
                    async with asyncio.timeout(PULSE_S):
                        job, event = await queue.get()
                except TimeoutError:
                    yield {}
                    continue
                for line in writer.lines(job, event):
                    yield line
        finally:
            self.watchers.discard(queue)

    @asynccontextmanager
    async def admitted(self, brief: bool = False) -> AsyncIterator[None]:
        """A slot among those that run; RequestRefused where too many wait for one already."""
        if not self.slots.free(brief) and self.waiting >= self.bounds.waiting:
            line = f"{self.waiting} requests wait already: come back later"
            raise RequestRefused(line, status=429, kind="rate_limit_error")
        await self.slots.take(brief)
        try:
            yield
        finally:
            self.slots.leave(brief)

    async def events(self, request: Any) -> AsyncIterator[Any]:
        """The events of a request. Raises RequestRefused, another LikelyError, or WorkerFault for a bug.

        Whoever leaves, or takes so little that too many wait, ends the work for it.
        """
        brief = isinstance(request, AnswerRequest | EmbeddingRequest) and request.brief
        job = self.worker.submit(request, brief=brief)
        self._readers[job] = reader = LateReader()
        self._known[job] = [request]
        self._tell(job, request)
        try:
            while True:
                event = await reader.get()
                if isinstance(event, Failed):
                    fault = WorkerFault(event.line, event.trace, event.restarted)
                    raise fault if event.error is None else event.error
                if isinstance(event, Closed):
                    return
                yield event
        finally:
            self._readers.pop(job, None)
            if job in self._known:  # it goes on
                self.worker.stop(job)
                self._over(job)

    def _wake(self) -> None:
        """In the worker's thread: have the loop look."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        for job, event in self.worker.drain():
            if job in self._readers:
                self._readers[job].put(event)
                if self._readers[job].behind > self.bounds.behind:
                    self.worker.stop(job)
                    line = f"this response was not read: more than {self.bounds.behind:,} tokens waited"
                    self._readers.pop(job).put(Failed(line, error=RequestRefused(line, status=408)))
                if isinstance(event, AnswerOpened):
                    self._known[job].append(event)
                if isinstance(event, Closed):
                    self._over(job)
                else:
                    self._tell(job, event)

    def _over(self, job: int) -> None:
        """Nothing more comes of a job, and those who watch are told so: once."""
        del self._known[job]
        self._tell(job, Closed())

    def _tell(self, job: int, event: Any) -> None:
        """Have those who watch see an event; one that does not keep up loses its sight."""
        for queue in list(self.watchers):
            if queue.full():
                self.watchers.discard(queue)
            else:
                queue.put_nowait((job, event))


def _give_back() -> None:
    from likely.metal import memory  # in the worker's thread: the loop's has no need of it

    gc.collect()  # what requests left in circles holds arrays and grammars
    memory.rest()
