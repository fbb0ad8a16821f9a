"""Work beside a worker's thread, in a thread of its own: what takes long in one piece and touches no mlx.

To read a long text into tokens, to render a template, to compile a grammar and to read a file are calls that cannot be
cut in pieces: while they last, the worker's thread takes turns with other jobs. Who leaves before the end is not waited
for: the thread goes on until it is done, so what is asked of it has to be bounded by what it is given; the
program's own end waits for two seconds.
"""

import atexit
from collections.abc import Callable, Generator
from threading import Event, Semaphore, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

PATIENCE_S = 0.02  # for which a job waits where it is: nearly everything is done by then
LEAVING_S = 2.0  # for which the end of the program waits

T = TypeVar("T")

_at_work: "set[Future[Any]]" = set()


class Future(Generic[T]):
    """A result, or what was raised in its place, to come from another thread.

    The library's has more, and imports `logging` and half a dozen other modules into the start of every verb.
    """

    def __init__(self) -> None:
        self._there = Event()
        self._result: T | None = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._there.is_set()

    def wait(self, seconds: float) -> None:
        """Until it is there, and no longer than that."""
        self._there.wait(seconds)

    def result(self) -> T:
        """The result, waited for."""
        self._there.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def take(self, work: Callable[[], T]) -> None:
        """Be the result of `work`."""
        try:
            self._result = work()
        except BaseException as error:  # a panic of a library in another language is none of Exception's
            self._error = error
        self._there.set()


def begun(work: Callable[[], T], after: Callable[[], object] = lambda: None) -> Future[T]:
    """The result of `work`, or what it raises, to come from a thread of its own, which does `after` in the end."""
    future: Future[T] = Future()
    _at_work.add(future)

    def run() -> None:
        future.take(work)
        _at_work.discard(future)
        after()

    Thread(target=run, name="beside", daemon=True).start()
    return future


@atexit.register
def _wait_at_the_end() -> None:
    """A library in another language panics, in many lines, where the interpreter ends below it."""
    end = monotonic() + LEAVING_S
    for future in list(_at_work):
        future.wait(max(end - monotonic(), 0))


def awaited(future: Future[T]) -> Generator[None, None, T]:
    """The result, as a part of a job, which waits (None) until it is there."""
    future.wait(PATIENCE_S)
    while not future.done():
        yield None
    return future.result()


class Helper:
    """At most so many threads at once; who asks beyond that waits for one."""

    def __init__(self, threads: int = 2) -> None:
        self._free = Semaphore(threads)

    def do(self, work: Callable[[], T]) -> Generator[None, None, T]:
        """The result of `work`, or what it raises; None is given for as long as it is waited for."""
        while not self._free.acquire(blocking=False):
            yield None
        try:
            future = begun(work, self._free.release)
        except BaseException:
            self._free.release()
            raise
        return (yield from awaited(future))
