"""A scripted server that is watched: what it tells is written as a server's lines are, and read as a client reads them.

No socket: the connection is tested in tests/serve/test_watching.py.
"""

import json
from collections import deque
from collections.abc import Iterator
from typing import Any

from likely.app.serve.requests import AnswerOpened, AnswerRequest
from likely.app.serve.watch.client import NumberedEvent, ServerLost, WatchServer
from likely.app.serve.watch.lines import WatchBegan, WatchReader
from likely.app.serve.watch_writer import WatchWriter
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Stats
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import TokenStep
from tests.support.model import ScriptedEngine


class ScriptedServer:
    """Tells of requests by their numbers; it is listened to from the beginning."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine("served")
        self._outbox: deque[Any] = deque()
        self.control = RunControl()  # whose recipe the tokens are drawn by
        self._drawn = 0
        self.begin()

    def begin(self) -> None:
        """It listens, and numbers anew."""
        self._writer, self._reader = WatchWriter(), WatchReader()
        self._outbox.append(WatchBegan("9.9"))

    def lose(self, line: str) -> None:
        """It is gone."""
        self._outbox.append(ServerLost(line))

    def tell(self, number: int, *events: Any, late: bool = False) -> None:
        for event in events:
            for line in self._writer.lines(number, event, late=late):
                self._outbox.append(NumberedEvent(*self._reader.read(json.loads(json.dumps(line)))))

    def step(self, word: str) -> TokenStep:
        """A token with all of its distribution, a hundredth of a second after the last."""
        self._drawn += 1
        token = self.engine.tokenizer.ids[word.encode()]
        return self.engine.step((1, 2, 3), token, token, self.control, 0, "drawn", self._drawn)

    def says(self, number: int, *words: str, branch: int = 0) -> None:
        self.tell(number, *(Emitted(branch, self.step(word)) for word in words))

    def asked(self, number: int, text: str, **more: Any) -> None:
        """A request comes in, and is opened."""
        self.tell(number, AnswerRequest("served", Prompt((("user", text),)), RunControl(), **more), self.opened)

    @property
    def opened(self) -> AnswerOpened:
        return AnswerOpened(self.engine.facts, 3, ids=(1, 2, 3))

    @staticmethod
    def done(reason: str = "eot", branch: int = 0, tokens: int = 2, seconds: float = 0.5) -> Done:
        return Done(branch, reason, Stats(3, 0, tokens, 0.1, seconds))

    # -- an executor -------------------------------------------------------------------------------------------------

    def execute(self, request: WatchServer, tell: Any) -> Iterator[Any]:
        while not request.control.stopped.is_set():
            yield self._outbox.popleft() if self._outbox else None

    def close(self) -> None: ...
