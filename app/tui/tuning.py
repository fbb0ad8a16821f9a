"""The one place where the screen's thread meets a trainer's: a thread for each run, and what comes of it.

The thread opens the run, trains, answers what is asked between two steps, and keeps the model to be looked at when the
run is over. What is asked goes in through the run's `TrainControl`, what happens comes out through a queue; nothing
of mlx crosses. Knows nothing of widgets; the trainer is whatever `Trainer` says.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from queue import Empty, SimpleQueue
from shlex import quote
from threading import Event as Flag
from threading import Thread
from typing import Protocol

from engine.errors import LikelyError
from engine.tune.config import Config
from engine.tune.control import Answer, Ended, Event, Paused, Refused, Request, Saved, Stepped, TrainControl, Validated

Progress = Callable[[str, int, int], None]  # stage, done, total (0: unknown)


@dataclass(frozen=True, slots=True)
class Opening:
    """The run is being made ready."""

    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The run is ready: what it will do, in lines; what it did before; what it is first asked of its data."""

    lines: tuple[str, ...]
    model: str
    folder: str
    steps: int
    past: tuple[Stepped | Validated, ...] = ()
    prompts: tuple[str, ...] = ()  # the beginnings of a few rows, not trained on where there are such
    chat: bool = True  # they go through the chat template, as the rows did
    vocabulary: tuple[bytes, ...] = ()  # piece of each id


@dataclass(frozen=True, slots=True)
class Failed:
    """The run went no further. `trace` is set where it was a bug rather than something to act on."""

    line: str
    trace: str = ""


Report = Opening | Plan | Event | Failed


class Trainer(Protocol):
    """A run; used by one thread only. Everything it gives is plain Python."""

    def open(self, config: Config, resume: bool, progress: Progress) -> Plan: ...
    def train(self, control: TrainControl) -> Iterator[Event]:
        """Train on from where the run is; may be called again after it has ended or raised."""
        ...

    def answer(self, request: Request) -> Answer: ...


class Tuning:
    """A run from the screen's side: its state, its control, and `drain`, which gives what was reported since.

    state: opening | training | paused | stopping | ended | failed.
    """

    def __init__(self, trainer: Callable[[], Trainer], config: Config, *, resume: bool = False) -> None:
        """`trainer` is called in the run's thread: it may import what the screen must not."""
        self.config, self.resume = config, resume
        self.control = TrainControl()
        self.state = "opening"
        self.plan: Plan | None = None
        self.saved = 0  # the step of the last checkpoint
        self.ended: Ended | None = None
        self.failure: Failed | None = None
        self._outbox: SimpleQueue[Report] = SimpleQueue()
        self._wake, self._closed, self._again = Flag(), False, False
        self._thread = Thread(target=self._serve, args=(trainer,), name="trainer", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether there is something that stopping would lose, were it not kept."""
        return self.state in ("training", "paused", "stopping")

    @property
    def unfinished(self) -> bool:
        """Whether the run can go on from where it is: it was stopped, or has failed."""
        stopped = self.ended is not None and self.ended.reason == "stopped"
        return self.plan is not None and (self.state == "failed" or stopped)

    # -- asking, from the screen's thread ----------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Have the model answer after the step that it is in; at once where none is taken."""
        self.control.ask(request)
        self._wake.set()

    def pause(self) -> None:
        """Wait after the step that is being taken, or go on."""
        if self.state == "training":
            self.control.pause()
        elif self.state == "paused":
            self.state = "training"
            self.control.go_on()

    def stop(self) -> None:
        """Finish the step, save, and be over; where a run has failed, save what it had learned until then."""
        self.control.stop()
        if self.state == "opening":
            self._closed = True
        elif self.busy:
            self.state = "stopping"
        elif self.state == "failed" and self.plan is not None:
            self.state, self.failure, self._again = "stopping", None, True
            self._wake.set()

    def go_on(self) -> bool:
        """Train on from where the run is, after it was stopped or has failed; gives whether there is more to do."""
        if not self.unfinished:
            return False
        self.control.stopped = self.control.paused = False
        self.state, self.ended, self.failure = "training", None, None
        self._again = True
        self._wake.set()
        return True

    def close(self) -> None:
        """Stop, and let the model go; the thread ends by itself."""
        self.stop()
        self._closed = True
        self._wake.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the thread's end; gives whether it came. What it reported meanwhile is taken in."""
        self._thread.join(seconds)
        self.drain()
        return not self._thread.is_alive()

    def drain(self) -> list[Report]:
        """What was reported since the last time, oldest first."""
        reports: list[Report] = []
        try:
            while True:
                reports.append(self._outbox.get_nowait())
                self._follow(reports[-1])
        except Empty:
            return reports

    def _follow(self, report: Report) -> None:
        match report:
            case Plan():
                self.plan = report
                self.state = "stopping" if self.control.stopped else "training"
            case Paused() if self.state == "training" and self.control.paused:
                self.state = "paused"
            case Stepped() if self.state == "paused":
                self.state = "training"
            case Saved(step):
                self.saved = step
            case Ended():
                self.state, self.ended = "ended", report
            case Failed():
                self.state, self.failure = "failed", report

    def parting(self) -> tuple[int, list[str]]:
        """What is said when the screen is gone, and the exit code: where the run is, and how to go on."""
        if self.failure is not None:
            lines = [f"Error: {self.failure.line}"]
            return 1, [*lines, f"go on from step {self.saved} with: {self._resume}"] if self.saved else lines
        if self.ended is None or self.plan is None:
            return 0, []
        end, folder = self.ended, self.plan.folder
        if end.reason in ("nan", "diverged"):
            return 1, [f"Error: {end.why}; the weights before it are in {folder}"]
        if end.reason == "stopped":
            return 130, [f"stopped after step {end.step}: {folder}", f"go on with: {self._resume}"]
        return 0, [f"{end.reason} after step {end.step}: {folder}"]

    @property
    def _resume(self) -> str:
        return command(self.config, resume=True)

    # -- the run's thread --------------------------------------------------------------------------------------------

    def _serve(self, make: Callable[[], Trainer]) -> None:
        put = self._outbox.put
        try:
            trainer = make()
            plan = trainer.open(self.config, self.resume, self._progress)
        except _Left:
            return
        except Exception as error:
            put(_failed(error))
            return
        if self._closed:
            return
        put(plan)
        self._train(trainer)
        while not self._closed or self._again:
            self._wake.wait()
            self._wake.clear()
            if self._again:
                self._again = False
                self._train(trainer)
            while not self._closed and (request := self.control.take()) is not None:
                try:
                    put(trainer.answer(request))
                except Exception as error:  # the model is there still
                    put(Refused(self.saved, request, _failed(error).line))

    def _train(self, trainer: Trainer) -> None:
        try:
            for event in trainer.train(self.control):
                self._outbox.put(event)
        except Exception as error:  # what was learned is in memory still: the thread stays, and can go on
            self._outbox.put(_failed(error))

    def _progress(self, stage: str, done: int = 0, total: int = 0) -> None:
        if self._closed:
            raise _Left
        self._outbox.put(Opening(stage, done, total))


class _Left(Exception):
    """The person left while the run was being made ready."""


def _failed(error: Exception) -> Failed:
    if isinstance(error, LikelyError):
        return Failed(str(error))
    return Failed(f"{type(error).__name__}: {error}", traceback.format_exc())


def command(config: Config, *, resume: bool = False) -> str:
    """The command that starts the same run, or goes on with it."""
    words = ["likely tune", quote(config.data)]
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name == "data" or value == f.default:
            continue
        flag = f.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            many: Sequence[object] = value if isinstance(value, tuple) else (value,)
            words += [f"--{flag} {quote(f'{each:g}' if isinstance(each, float) else str(each))}" for each in many]
    return " ".join([*words, *(["--resume"] if resume else [])])
