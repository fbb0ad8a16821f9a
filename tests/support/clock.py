"""A loop of events whose clock stands still until a test moves it. Knows nothing of screens.

Whatever waits for a time (a timer, a sleep, a time-out) is woken when the clock has come there, in order and at that
very moment, so that a second takes as long as what happens in it.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

GLANCE_S = 0.0005  # real time, between two looks at a thread that is waited for
PATIENCE_S = 30.0  # real time, after which a thread hangs


class AtOnce(ThreadPoolExecutor):
    """Does what a thread would, and is done when it was asked."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class MovedLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, in seconds from 0.

    `busy` says whether a thread has something in hand that was asked of it: the clock stands until it is done. `turn`
    is called before each turn of the loop, as if another thread did something meanwhile.
    """

    def __init__(self, busy: Callable[[], bool], turn: Callable[[], None]) -> None:
        self.now_s = self.until_s = self.waited_s = 0.0
        self.busy, self.turn = busy, turn
        super().__init__(Rest(self))
        self.set_default_executor(AtOnce())

    def time(self) -> float:
        return self.now_s

    def move(self, seconds: float = 0.0) -> None:
        """Do all that there is to do from now until so much later."""
        self.until_s, self.waited_s = self.now_s + seconds, 0.0
        self.run_forever()

    def rest(self, seconds: float | None) -> None:
        """There is nothing to do for so many seconds (None: at all): go there, or no further."""
        if self.busy() and self.waited_s < PATIENCE_S:
            time.sleep(GLANCE_S)
            self.waited_s += GLANCE_S
        elif seconds is not None and self.now_s + seconds <= self.until_s:
            self.now_s += seconds
        else:
            self.now_s = self.until_s
            self.stop()


class Rest(selectors.BaseSelector):
    """The selector of this machine, which a loop asks to wait only where it has nothing to do."""

    def __init__(self, loop: MovedLoop) -> None:
        self._loop, self._real = loop, selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.turn()
        events = self._real.select(0)
        if not events and (timeout is None or timeout > 0):
            self._loop.rest(timeout)
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()
