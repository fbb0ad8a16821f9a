"""Work beside a worker's thread, in a thread of its own: what takes long in one piece and touches no mlx.

To read a long text into tokens, to render a template, to compile a grammar and to read a file are calls that cannot be
cut in pieces: while they last, the worker's thread takes turns with other jobs. Who leaves before the end is not waited
for: the thread goes on until it is done, so what is asked of it has to be bounded by what it is given; the
program's own end waits for two seconds.
"""

import atexit
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from threading import Semaphore, Thread
from typing import Any, TypeVar

PATIENCE_S = 0.02  # for which a job waits where it is: nearly everything is done by then
LEAVING_S = 2.0  # for which the end of the program waits

T = TypeVar("T")

_at_work: "set[Future[Any]]" = set()


def begun(work: Callable[[], T]) -> "Future[T]":
    """The result of `work`, or what it raises, to come from a thread of its own."""
    future: Future[T] = Future()
    _at_work.add(future)
    future.add_done_callback(_at_work.discard)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # a panic of a library in another language is none of Exception's
            future.set_exception(error)
        else:
            future.set_result(result)

    Thread(target=run, name="beside", daemon=True).start()
    return future


@atexit.register
def _wait_at_the_end() -> None:
    """A library in another language panics, in many lines, where the interpreter ends below it."""
    wait(list(_at_work), LEAVING_S)


def awaited(future: "Future[T]") -> Generator[None, None, T]:
    """The result, as a part of a job, which waits (None) until it is there."""
    wait([future], PATIENCE_S)
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
            future = begun(work)
        except BaseException:
            self._free.release()
            raise
        future.add_done_callback(lambda _: self._free.release())
        return (yield from awaited(future))
