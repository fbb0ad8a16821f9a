"""Requests of a server that is watched: each as a conversation that grows, within a bound on what is kept of all.

A request's events make of it what a run makes of a chat, so the same widgets show it. No widgets and no connection; the
tokens of requests that are over are let go first, their figures stay.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Closed, Failed
from likely.app.serve.watch.client import NumberedEvent
from likely.app.serve.watch.lines import WatchAsked, WatchBegan, WatchOpened
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.chat_session import ChatSession, SessionUpdate
from likely.app.tui.chat.live_run import CANCELLED, FAILED, LiveRun
from likely.engine.chat.conversation import Conversation, Fork, Node
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Prefilled

MOST = 500  # requests that are listed
STEPS = 20_000  # tokens that are kept of all of them, each with its distribution
ENDS = {"eot": "ended", "cancelled": "left"}  # how a request ended, where another word is clearer
UNSEEN = "out of sight"  # the server went while it ran


@dataclass(eq=False)
class WatchedRequest:
    """One request: what it asked for, and what has come of it."""

    number: int
    request: WatchAsked
    began: float  # seconds since the epoch, by this machine's clock
    talk: Conversation
    run: LiveRun | None  # None: its tokens were let go
    session: ChatSession | None = None  # while it is open: what is shown of it
    model: str = ""
    prompt_tokens: int | None = None
    context: int = 0
    tokens: int = 0
    reading: str = ""  # how much of the prompt has been
    end: str = ""  # how it ended, "" while it runs
    why: str = ""  # it failed
    _times: list[float] = field(default_factory=list)  # of the first token and of the last, in the run's seconds
    _reason: str = ""  # how the last of its texts ended
    _speed: float | None = None  # of all of it, as the server has told

    @classmethod
    def of(cls, number: int, request: WatchAsked, now: float) -> "WatchedRequest":
        """A request that has just been heard of."""
        names = map(str, count(1))
        new: Callable[[], str] = lambda: next(names)  # noqa: E731
        talk = Conversation(f"watched {number}", seed=request.seed, created=now, updated=now)
        fork = Fork()
        for role, text in request.turns:
            yours = role != "assistant"
            words = text if role in ("user", "assistant", "text") else f"{role}: {text}"
            node = Node(new(), fork, "user" if yours else "assistant", text=words or " ", finish="" if yours else "eot")
            talk, fork = talk.add(node), Fork(node.id)
        texts = [Node(new(), fork, "assistant", seed=request.seed, label=request.how) for _ in range(request.texts)]
        for node in texts:
            talk = talk.add(node)
        talk = talk.check_out(texts[0].id) if texts else talk
        run = LiveRun(texts[0].id if texts else "", RunControl(), new)
        run.nodes, run.branched = {branch: node.id for branch, node in enumerate(texts)}, len(texts) > 1
        return cls(number, request, now, talk, run, model=request.model)

    @property
    def state(self) -> str:
        """How far it is, in a word or two."""
        if self.end:
            return self.end
        return (
            "drawing" if self.tokens else self.reading or ("reading" if self.prompt_tokens is not None else "waiting")
        )

    @property
    def tokens_per_s(self) -> float:
        """The speed of drawing, in the server's time; the first token belongs to the prompt."""
        if self._speed is not None:
            return self._speed
        spent = self._times[-1] - self._times[0] if self._times else 0.0
        return (self.tokens - 1) / spent if spent > 0 else 0.0

    def take(self, events: Iterable[Any]) -> SessionUpdate:
        """Take in what was heard of it; what that means for who shows it."""
        passed: list[Any] = []
        for event in events:
            match event:
                case WatchOpened(model, ids, context):
                    self.model, self.prompt_tokens, self.context = model, len(ids), context
                    event = r.Began(ids)
                case Emitted(_, step):
                    self.tokens += 1
                    self._times = [*self._times[:1], step.elapsed_s]
                case Prefilled(done, total):
                    self.reading = f"reading {100 * done // max(total, 1)} %"
                case Done(_, reason, stats):
                    self._reason, self._speed = ENDS.get(reason, reason), stats.tokens_per_s or None
                case Failed(line):
                    self._reason, self.why = "failed", line
            passed.append(event)
        heard = self._apply(passed)
        if any(isinstance(event, Closed) for event in passed):
            last = self.close(self._reason or ("left" if self.request.texts else "ended"))
            heard = last if last.reshow else heard
        return heard

    def _apply(self, events: list[Any]) -> SessionUpdate:
        """Put events of the engine into the conversation. Of a run whose beginning was not watched, events that need it
        end the request with the reason in `why`."""
        run = self.run
        if run is None or run.ended:
            return SessionUpdate()
        try:
            if self.session is not None:
                heard = self.session.take(self.number, events)
            else:
                self.talk, heard = run.take(self.talk, events)[0], SessionUpdate()
                self.talk = run.close(self.talk, FAILED) if run.failure is not None else self.talk
        except (KeyError, ValueError, IndexError):
            self.why = "it was begun before it was watched, and parted: its tokens are not all known"
            run.lose(self.session.conversation if self.session is not None else self.talk)
            return self.close("parted")
        self.talk = self.session.conversation if self.session is not None else self.talk
        return heard

    def close(self, end: str) -> SessionUpdate:
        """No more comes of it; `end` is how it ended."""
        self.end = self.end or end
        if self.run is not None and not self.run.ended:
            if self.session is not None and self.session.running:
                self.session.stop()
                self.talk = self.session.conversation
            else:
                self.talk = self.run.close(self.talk, CANCELLED)
            return SessionUpdate(reshow=True, ended=True)
        return SessionUpdate()

    def open(self, clock: Callable[[], float]) -> ChatSession:
        """A session that shows it from now on; nothing can be asked through it."""
        run = self.run
        talk = self.talk if run is None else run.keep(self.talk)
        self.session = session = ChatSession(talk, lambda request: -1, clock=clock)
        if run is not None and not run.ended:
            session.run, session.job = run, self.number
        return session

    def shut(self) -> None:
        """It is not shown any more."""
        if self.session is not None:
            self.talk, self.session = self.session.conversation, None

    def let_go(self) -> int:
        """Forget its tokens; gives how many these were."""
        if self.run is None:
            return 0
        self.run, self.talk = None, Conversation(self.talk.id)
        return self.tokens


class WatchedRequests:
    """All requests of one server that are remembered, the oldest first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.rows: list[WatchedRequest] = []
        self.names: dict[str, Names] = {}  # vocabularies by model
        self.total = 0  # requests that were ever heard of
        self._by_number: dict[int, WatchedRequest] = {}

    def take(self, events: Iterable[WatchBegan | NumberedEvent]) -> dict[WatchedRequest, SessionUpdate]:
        """Take in what was heard; gives the requests that it concerns, in the order of their last."""
        batches: dict[int, list[Any]] = {}
        updates: dict[WatchedRequest, SessionUpdate] = {}
        for sighted in events:
            if isinstance(sighted, WatchBegan):
                self.lost()
                continue
            event = sighted.event
            if isinstance(event, WatchAsked):
                self._add(sighted.request, event)
            elif sighted.request in self._by_number:
                batches.setdefault(sighted.request, []).append(event)
            if isinstance(event, WatchOpened) and event.pieces:
                self.names[event.model] = Names(event.pieces, event.eos)
        for number, batch in batches.items():
            row = self._by_number[number]
            updates[row] = row.take(batch)
            if any(isinstance(event, Closed) for event in batch):
                del self._by_number[number]
        self._trim()
        return updates

    def lost(self) -> None:
        """The server is gone, and with it all that ran there; another one numbers anew."""
        for row in self._by_number.values():
            row.close(UNSEEN)
        self._by_number.clear()

    @property
    def running(self) -> int:
        return len(self._by_number)

    def _add(self, number: int, request: WatchAsked) -> None:
        row = WatchedRequest.of(number, request, self.clock())
        self.rows.append(row)
        self._by_number[number] = row
        self.total += 1

    def _trim(self) -> None:
        """Keep within the bounds: the oldest that are over go first, never the one that is open."""
        idle = [row for row in self.rows if row.session is None and row.end]
        going = [row for row in self.rows if row.session is None and not row.end]
        total = sum(row.tokens for row in self.rows if row.run is not None)
        for row in (*idle, *going):
            if total <= STEPS:
                break
            total -= row.let_go()
        spare = len(self.rows) - MOST
        if spare > 0:
            gone = {id(row) for row in idle[:spare]}
            self.rows = [row for row in self.rows if id(row) not in gone]
