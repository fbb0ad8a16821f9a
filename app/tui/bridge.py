"""The one place where the screen's thread meets the engine's: a thread, a queue in each direction, and what it does.

One long-lived thread loads, reads, draws and frees, since mlx's streams belong to the thread that made them. Several
runs take turns, a token each. The engine is imported inside the thread: the screen paints first.
Knows nothing of widgets; the engine is whatever `Engine` says.
"""

import gc
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from app.tui import messages as m
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted, Event, Prefilled
from engine.errors import LikelyError
from engine.trace.trace import TokenStep

if TYPE_CHECKING:
    from engine.decode.strategy import Strategy
    from engine.tune.attached import Attached

Progress = Callable[[str, int, int], None]  # stage, done, total (0: unknown)


class Tokenizer(Protocol):
    """What the bridge asks of a tokenizer."""

    def encode(self, text: str, *, bos: bool = False, special: bool = False) -> list[int]: ...
    def chat(self, messages: Sequence[dict[str, str]], *, generation_prompt: bool = True) -> list[int]: ...


class Engine(Protocol):
    """A loaded model to draw from. Everything it gives is plain Python and numpy; used by one thread only."""

    @property
    def facts(self) -> m.ModelFacts: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def cache_nbytes(self) -> int: ...
    def generate(
        self,
        ids: Sequence[int],
        control: RunControl,
        *,
        seed: int = 0,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        strategy: "Strategy | None" = None,
    ) -> Iterator[Event]:
        """Continue `ids`; several of these may be open at once, and are advanced in turn."""
        ...

    def strategy(self, name: str, others: Mapping[str, Any]) -> "Strategy | None":
        """The strategy that `Generate` names; `others` are the loaded models, by name."""
        ...

    def score(self, ids: Sequence[int]) -> Sequence[TokenStep]: ...
    def logits_after(self, ids: Sequence[int]) -> np.ndarray: ...
    def adapt(self, change: str, what: str, weight: float) -> "tuple[Attached, ...]":
        """Change the adapters as `Adapt` says; gives all that are there then."""
        ...

    def close(self) -> None: ...


class ModelProvider(Protocol):
    """Where models come from."""

    def choose(self, prefer: Sequence[str]) -> str:
        """The first of `prefer` that is on this machine, else any model that is; "" where there is none."""
        ...

    def open(self, model: str, progress: Progress) -> Engine: ...
    def offers(self) -> Sequence[m.ModelOffer]: ...


class Bridge:
    """The screen's end: `send` never waits, `drain` gives everything reported since the last time."""

    def __init__(self, shop: Callable[[], ModelProvider]) -> None:
        """`shop` is called in the engine's thread: it may import what the screen must not."""
        self._inbox: SimpleQueue[m.Command] = SimpleQueue()
        self._outbox: SimpleQueue[m.Report] = SimpleQueue()
        self._thread = Thread(target=_serve, args=(shop, self._inbox, self._outbox), name="engine", daemon=True)
        self._work = 0

    def start(self) -> None:
        self._thread.start()

    def number(self) -> int:
        """A number for a new piece of work."""
        self._work += 1
        return self._work

    def send(self, command: m.Command) -> None:
        self._inbox.put(command)

    def drain(self) -> list[m.Report]:
        reports: list[m.Report] = []
        try:
            while True:
                reports.append(self._outbox.get_nowait())
        except Empty:
            return reports

    def close(self, wait_s: float = 2.0) -> None:
        """End the thread; one that is deep inside a model is left to end with the process."""
        self._inbox.put(m.Close())
        if self._thread.is_alive():
            self._thread.join(wait_s)


@dataclass(eq=False)
class _Run:
    """A generation that is under way: its events are taken one at a time, and its own time is counted."""

    command: m.Generate
    events: Iterator[Event]
    engine: Engine
    spent_s: float = 0.0


def _serve(shop: Callable[[], ModelProvider], inbox: "SimpleQueue[m.Command]", outbox: "SimpleQueue[m.Report]") -> None:
    """The engine's thread: between two tokens it looks for commands, and it never waits for the screen."""
    engines: dict[str, Engine] = {}
    runs: list[_Run] = []
    open_shop: list[ModelProvider] = []

    def store() -> ModelProvider:
        if not open_shop:
            open_shop.append(shop())
        return open_shop[0]

    def guarded(work: int, action: Callable[[], None]) -> bool:
        try:
            action()
            return True
        except LikelyError as error:
            outbox.put(m.Failed(work, str(error)))
        except Exception as error:  # a bug must not end the thread: the screen keeps its text and says what happened
            outbox.put(m.Failed(work, f"{type(error).__name__}: {error}", traceback.format_exc()))
        return False

    while True:
        try:
            command = inbox.get(block=not runs)
        except Empty:
            command = None
        if isinstance(command, m.Close):
            for run in runs:
                _close(run.events)
            for engine in engines.values():
                engine.close()
            return
        if command is not None:
            guarded(getattr(command, "work", 0), lambda c=command: _obey(c, store, engines, runs, outbox))  # type: ignore[misc]
            continue
        for run in list(runs):
            if not guarded(run.command.work, lambda r=run: _advance(r, runs, outbox)):  # type: ignore[misc]
                _close(run.events)
                runs.remove(run)


def _obey(
    command: m.Command,
    shop: Callable[[], ModelProvider],
    engines: dict[str, Engine],
    runs: list[_Run],
    outbox: "SimpleQueue[m.Report]",
) -> None:
    match command:
        case m.Load(work, name, prefer, control):
            name = name or shop().choose(prefer)
            if not name:
                outbox.put(m.Offered(work, tuple(shop().offers())))
                return
            engine = engines.get(name)
            if engine is None:

                def progress(stage: str, done: int = 0, total: int = 0) -> None:
                    if control.cancelled:
                        raise LikelyError(f"{name} was not loaded: it was stopped")
                    outbox.put(m.Loading(work, name, stage, done, total))

                engine = shop().open(name, progress)
                engines[engine.facts.name] = engine
                gc.collect()
                gc.freeze()  # the weights' Python objects live until the end: leave them out of every later collection
            outbox.put(m.Ready(work, engine.facts))
        case m.Unload(name):
            gone = engines.pop(name, None)
            for run in [run for run in runs if run.engine is gone]:
                _close(run.events)
                runs.remove(run)
                outbox.put(m.Failed(run.command.work, f"{name} was unloaded"))
            if gone is not None:
                gone.close()
                gc.unfreeze()
                gc.collect()
        case m.Generate():
            engine = _engine(engines, command.model)
            if command.force:
                command.control.force(engine.tokenizer.encode(command.force))
            ids = context_ids(engine.tokenizer, command.context, engine.facts.chat)
            events = engine.generate(
                ids,
                command.control,
                seed=command.seed,
                max_tokens=command.max_tokens,
                stop=command.stop,
                strategy=engine.strategy(command.strategy, engines),
            )
            outbox.put(m.Began(command.work, tuple(ids)))
            runs.append(_Run(command, events, engine))
        case m.Score(work, name, context, contents):
            engine = _engine(engines, name)
            steps = tuple(engine.score(context_ids(engine.tokenizer, context, engine.facts.chat)))
            outbox.put(m.Scored(work, steps, locate([step.piece for step in steps], contents)))
        case m.Exact(work, name, context):
            engine = _engine(engines, name)
            logits = engine.logits_after(context_ids(engine.tokenizer, context, engine.facts.chat))
            logits.flags.writeable = False
            outbox.put(m.ExactLogits(work, logits))
        case m.Count(work, name, text):
            outbox.put(m.Counted(work, tuple(_engine(engines, name).tokenizer.encode(text))))
        case m.Adapt(work, name, change, what, weight):
            outbox.put(m.Adapted(work, name, _engine(engines, name).adapt(change, what, weight)))
        case m.Offer(work):
            outbox.put(m.Offered(work, tuple(shop().offers())))


def _advance(run: _Run, runs: list[_Run], outbox: "SimpleQueue[m.Report]") -> None:
    work, began = run.command.work, perf_counter()
    event = next(run.events, None)
    run.spent_s += perf_counter() - began
    match event:
        case Emitted(_, step):  # with the seconds that were this run's own: several take turns
            outbox.put(m.Drew(work, replace(step, elapsed_s=run.spent_s)))
        case Prefilled(done, total):
            outbox.put(m.Reading(work, done, total))
        case Done(_, reason, stats, text):
            outbox.put(m.Ended(work, reason, stats, text, run.engine.cache_nbytes))
            _close(run.events)
            runs.remove(run)
        case None:
            raise RuntimeError("a run ended without saying why")


def _engine(engines: dict[str, Engine], name: str) -> Engine:
    if name not in engines:
        raise LikelyError(f"{name or 'no model'} is not loaded: choose a model first")
    return engines[name]


def _close(events: Any) -> None:
    if hasattr(events, "close"):
        events.close()


def context_ids(tokenizer: Tokenizer, context: m.Context, chat: bool = True) -> list[int]:
    """The ids of a context. A model without a chat template reads the turns as plain text, one after another."""
    ids: list[int] = []
    if context.turns and chat:
        ids += tokenizer.chat([{"role": role, "content": text} for role, text in context.turns])
    elif context.turns:
        ids += tokenizer.encode("\n\n".join(text for _, text in context.turns) + "\n\n", bos=True)
    elif not context.whole:
        ids += tokenizer.encode("", bos=True)
    for part in context.parts:
        ids += tokenizer.encode(part) if isinstance(part, str) else part
    return ids


def locate(pieces: Sequence[bytes], contents: Sequence[str]) -> tuple[tuple[int, int] | None, ...]:
    """Which tokens cover each text, in order: half-open ranges, None where a template changed or dropped the text.

    A token that straddles the border of a text belongs to it.
    """
    ends = np.cumsum([len(piece) for piece in pieces]) if pieces else np.zeros(0, int)
    whole = b"".join(pieces)
    spans: list[tuple[int, int] | None] = []
    at = 0
    for content in contents:
        wanted = content.strip().encode()
        found = whole.find(wanted, at) if wanted else -1
        if found < 0:
            spans.append(None)
            continue
        at = found + len(wanted)
        first = int(np.searchsorted(ends, found, side="right"))
        last = int(np.searchsorted(ends, at, side="left"))
        spans.append((first, last + 1))
    return tuple(spans)
