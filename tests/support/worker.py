"""A worker without a thread: what it was asked for is done when somebody looks (`drain`), all of it or so many tokens;
and one with a thread, whose reports are waited for without a clock.

It keeps to the protocol of `app.worker.Worker`: jobs in the order they came, an event each by turns, what goes wrong is
the event `Failed`, and `Closed` is the last of every job.
"""

import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.worker import WORKED, Closed, Executor, Failed, Worker
from likely.engine.base.errors import LikelyError
from likely.engine.decode.loop.events import Emitted
from likely.engine.inside.why import Omission
from likely.engine.sampling.trace.unmasking import DenoisingStep
from likely.engine.train.control import Stepped

TURNS = 500  # between two looks: there are streams without an end
Held = r.Generate | r.Train | r.TrainOn | r.Evaluate  # requests that take long, and that a person can stop

LONG = (calls.fill, calls.look, calls.price, calls.widths)


def _long(request: Any) -> bool:
    return isinstance(request, Held) or (isinstance(request, r.Call) and request.function in LONG)


@dataclass
class Pace:
    """How many tokens, passes, steps and left-out words all workers of a screen may still make: None for all."""

    left: int | None = None

    def holds(self, request: Any) -> bool:
        """Whether a request waits; what a person has stopped does not."""
        if self.left is None or self.left > 0 or not _long(request):
            return False
        args = request.args if isinstance(request, r.Call) else (request.control,)
        control = next((each for each in args if hasattr(each, "cancelled") or hasattr(each, "stopped")), None)
        return not (getattr(control, "cancelled", False) or getattr(control, "stopped", False))

    def spend(self, event: Any) -> None:
        if self.left is not None and isinstance(event, Emitted | DenoisingStep | Stepped | Omission):
            self.left -= 1


class HeardWorker(Worker):
    """In its own thread; a test sleeps until there is something to hear."""

    def __init__(self, executor: Callable[[], Executor], name: str = "engine") -> None:
        self._news = threading.Event()
        super().__init__(executor, name, reported=self._news.set)

    def wait(self) -> None:
        """Sleep until something was reported since the last time."""
        self._news.wait()
        self._news.clear()

    def until(self, over: Callable[[list[tuple[int, Any]]], object]) -> list[tuple[int, Any]]:
        """All that is reported from now on, to where `over` says of it that it is enough."""
        seen: list[tuple[int, Any]] = []
        while not over(seen):
            self.wait()
            seen += self.drain()
        return seen


class TurnedWorker(Worker):
    """What is asked of an executor, done in the thread of whoever looks."""

    def __init__(self, executor: Callable[[], Executor], pace: Pace) -> None:
        super().__init__(executor)
        self.pace = pace
        self._make = executor
        self._executor: Executor | None = None
        self._jobs: dict[int, tuple[Any, Iterator[Any]]] = {}
        self._reports: list[tuple[int, Any]] = []
        self._last = 0
        self._started = self._ended = False

    # -- the protocol ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._started = True

    def submit(self, request: Any, *, brief: bool = False) -> int:
        self._last += 1
        self._jobs[self._last] = request, self._events(self._last, request)
        return self._last

    def stop(self, job: int) -> None:
        if self._jobs.pop(job, None) is not None:
            self._reports.append((job, Closed()))

    def drain(self) -> list[tuple[int, Any]]:
        self.work()
        events, self._reports = self._reports, []
        return events

    def finish(self) -> None:
        self._ended = True

    def close(self, wait_s: float = 2.0) -> None:
        self._jobs.clear()
        self._reports.clear()
        self._ended = True
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    def join(self, seconds: float | None = None) -> bool:
        self.work()
        return not self._jobs

    # -- turns -------------------------------------------------------------------------------------------------------

    def work(self) -> bool:
        """Take turns as long as there is something to do; gives whether there was."""
        worked = False
        for _ in range(TURNS if self._started else 0):
            jobs = [job for job, (request, _) in self._jobs.items() if not self.pace.holds(request)]
            came = [self._once(job) for job in jobs if not self.pace.holds(self._jobs[job][0])]
            if not any(came):
                break
            worked = True
        return worked

    def _once(self, job: int) -> bool:
        """One event of a job; gives whether there was one."""
        event = next(self._jobs[job][1], Closed())
        if event is not None and event is not WORKED:
            self._reports.append((job, event))
            self.pace.spend(event)
        if isinstance(event, Closed):
            del self._jobs[job]
        return event is not None

    def _events(self, job: int, request: Any) -> Iterator[Any]:
        try:
            if self._executor is None:
                self._executor = self._make()
            yield from self._executor.execute(request, lambda event: self._reports.append((job, event)))
        except LikelyError as error:
            yield Failed(str(error), error=error)
        except Exception as error:
            yield Failed(f"{type(error).__name__}: {error}", traceback.format_exc())
