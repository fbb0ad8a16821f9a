"""A worker: one long-lived thread that takes turns between jobs, each an iterator of engine events.

A request goes in and is given a job's id; the job's events come out under that id, and `Closed` after the last of them.
mlx's streams and random state belong to the thread that made them, so all that is done with a model is done by jobs of
one worker, and only plain data crosses. A job that arrives has its first turn at once, so that what was asked in order
begins in order; then each has a turn, which is one event, or `WORKED` where there is nothing to tell of it yet. Those
that are brief have theirs between every few of the others, so that little work does not wait for much. A turn is a
piece of work of at most some 100 ms: docs/decisions/worker.md has what is cut and how. Whatever a job dies of is its
event `Failed`, and the thread goes on; should the thread itself die, all that wait are told so, and it begins anew with
the executor that it had. Knows nothing of models and screens: an executor makes the job of a request, and imports what
it needs for that.
"""

import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal, Protocol, TypeVar

from likely.engine.base.errors import LikelyError, out_of_memory

GLANCE_S = 0.05  # between two turns of jobs that all wait
REST_S = 1.0  # without a job, after which the thread rests
SWITCH_S = 0.0005  # for which a thread that computes waits at most for one that holds the interpreter; Python has 5 ms
STRIDE = 4  # turns of other jobs between two of one that is brief
WORKED = object()  # an event that nobody is told of: the turn did a piece of the job's work

T = TypeVar("T")
Tell = Callable[[Any], None]  # reports an event from inside a turn


@dataclass(frozen=True, slots=True)
class Failed:
    """A job did not succeed. `trace` is set where it was a bug rather than something to act on, `error` else.

    `restarted`: it was not the job that failed but the worker, which has begun anew: what was asked can be asked again.
    """

    line: str
    trace: str = ""
    error: LikelyError | None = field(default=None, compare=False)
    restarted: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing more comes of a job: sent once for each, however it ended."""


def worked(pieces: Generator[Any, None, T]) -> Generator[object, None, T]:
    """Run a computation in pieces as a part of a job: a turn for each piece, without an event. Returns its result. A
    piece that is None waited."""
    with closing(pieces):
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                result: T = end.value
                return result
            yield None if piece is None else WORKED


class Executor(Protocol):
    """The maker of jobs; lives in the worker's thread."""

    def execute(self, request: Any, tell: Tell) -> Iterator[Any]:
        """The events of the job that does `request`; None for a turn in which it waits (it is paused), and `WORKED` for
        one that has nothing to tell.

        `tell` reports an event in the middle of a turn, for what calls back rather than yields.
        """
        ...

    def close(self) -> None:
        """Free everything: the thread ends."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """The events of a request that are still to come, and whether they are little work."""

    events: Generator[Any]
    brief: bool


class Worker:
    """The outer end of a worker: `submit` never waits, `drain` gives all that was reported since the last time."""

    def __init__(
        self,
        executor: Callable[[], Executor],
        name: str = "engine",
        *,
        reported: Callable[[], None] = lambda: None,
        rests: Callable[[], None] = lambda: None,
    ) -> None:
        """`executor` is called in the thread, at the first request: it may import what the caller must not.

        `reported` is called there whenever there is something more to `drain`, for who does not look by themselves;
        `rests`, when there has been no job for a while since the last one.
        """
        self._make, self._reported, self._rests = executor, reported, rests
        self._executor: Executor | None = None
        self._inbox: SimpleQueue[tuple[int, Any, bool] | int | Literal["finish", "close"]] = SimpleQueue()
        self._outbox: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self._thread = Thread(target=self._serve, name=name, daemon=True)
        self._last = 0
        self._finishing, self._ending = False, 0

    def start(self) -> None:
        """Begin with what was submitted, and go on with what will be."""
        sys.setswitchinterval(SWITCH_S)
        self._thread.start()

    def submit(self, request: Any, *, brief: bool = False) -> int:
        """Have a request done; gives the id of its job.

        One that is brief has a turn after at most `STRIDE` turns of those that are not, however many they are; these
        have theirs after as many turns of each brief one as there are strides in a round of them.
        """
        self._last += 1
        self._inbox.put((self._last, request, brief))
        return self._last

    def stop(self, job: int) -> None:
        """End a job where it is, wherever that is; nothing but `Closed` comes of it any more."""
        self._inbox.put(job)

    def drain(self) -> list[tuple[int, Any]]:
        """Reports since the last time, oldest first: a job's id and its event."""
        reported: list[tuple[int, Any]] = []
        try:
            while True:
                reported.append(self._outbox.get_nowait())
        except Empty:
            return reported

    def finish(self) -> None:
        """End the thread by itself as soon as every job is over."""
        self._inbox.put("finish")

    def close(self, wait_s: float = 2.0) -> None:
        """End the jobs and the thread; one that is deep inside a model is left to end with the process."""
        self._inbox.put("close")
        self.join(wait_s)

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the thread's end; gives whether it came."""
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        jobs: dict[int, Job] = {}
        while True:
            try:
                self._take_turns(jobs)
                break
            except BaseException as error:  # whatever it is, nobody is to wait for ever
                line = f"the {self._thread.name} worker failed and was started again ({_named(error)}): ask once more"
                failed = Failed(line, traceback.format_exc(), restarted=True)
                while jobs:
                    number, job = jobs.popitem()
                    self._ending = number
                    with suppress(BaseException):
                        job.events.close()
                    for event in (failed, Closed()):
                        with suppress(BaseException):
                            self._report(number, event)
        for self._ending, job in jobs.items():
            with suppress(BaseException):
                job.events.close()
        if self._executor is not None:
            self._executor.close()
            self._executor = None  # and what it holds of a model

    def _take_turns(self, jobs: dict[int, Job]) -> None:
        """Take turns until the end is asked for; `jobs` are those that go on."""
        wait: float | None = 0.0  # for a request: for ever where there is no job, not at all where one is at work
        while jobs or not self._finishing:
            if not self._hear(jobs, wait):
                return
            idle, worked = not jobs, False
            for number in _round(jobs):
                worked |= number in jobs and self._turn(jobs, number)
                if not self._hear(jobs):
                    return
            if idle and wait:
                self._rests()
            wait = (0 if worked else GLANCE_S) if jobs else None if idle else REST_S

    def _hear(self, jobs: dict[int, Job], wait: float | None = 0.0) -> bool:
        """Take in requests, stops and the end from the inbox; gives whether to go on."""
        while True:
            try:
                arrived = self._inbox.get(wait != 0, wait)
            except Empty:
                return True
            match arrived:
                case "close":
                    return False
                case "finish":
                    self._finishing = True
                case int(number):
                    self._end(jobs, number)
                case number, request, brief:
                    jobs[number] = Job(self._run(number, request), brief)
                    self._turn(jobs, number)
            wait = 0

    def _run(self, job: int, request: Any) -> Generator[Any]:
        """A job's events, with what went wrong as the last."""
        try:
            if self._executor is None:
                self._executor = self._make()
            yield from self._executor.execute(request, lambda event: self._report(job, event))
        except LikelyError as error:
            yield Failed(str(error), error=error)
        except BaseException as error:  # of a library in another language, too: whoever listens says what happened
            if job == self._ending:
                raise
            if (full := out_of_memory(error)) is not None:
                yield Failed(str(full), error=full)
            else:
                yield Failed(_named(error), traceback.format_exc())

    def _turn(self, jobs: dict[int, Job], job: int) -> bool:
        """One event of a job; gives whether there was one."""
        event = next(jobs[job].events, Closed())
        if event is not None and event is not WORKED:
            self._report(job, event)
        if isinstance(event, Closed):
            del jobs[job]
        return event is not None

    def _end(self, jobs: dict[int, Job], job: int) -> None:
        """End a job from outside, if it is not over."""
        if job in jobs:
            self._ending = job
            try:
                jobs.pop(job).events.close()
            except BaseException as error:
                self._report(job, Failed(_named(error), traceback.format_exc()))
            self._report(job, Closed())

    def _report(self, job: int, event: Any) -> None:
        self._outbox.put((job, event))
        self._reported()


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _round(jobs: dict[int, Job]) -> list[int]:
    """The turns of a round: one of each job, and of those that are brief one in every stride of the others."""
    brief = [number for number, job in jobs.items() if job.brief]
    others = [number for number, job in jobs.items() if not job.brief]
    if not brief or not others:
        return brief or others
    strides = range(0, len(others), STRIDE)
    return [number for start in strides for number in (*brief, *others[start : start + STRIDE])]
