"""Jobs of an evaluation worker: a run of models over tasks with its scoreboard as it grows, and a look into one task.

The evaluator comes from outside: nothing here imports mlx.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Tell
from likely.app.results.disagreements import detail
from likely.app.results.report import write
from likely.app.results.scoreboard import Scoreboard, ScoreKeeper, left_s
from likely.app.store.evaluations import Cell, Evaluation, Evaluations
from likely.engine.base.errors import DataError, LikelyError
from likely.engine.measure.evaluate.tasks.tasks import Problem

BOARD_S = 0.4  # between two boards

Progress = Callable[[str, int, int], None]  # a stage, what is done, of how much


class RunEvaluator(Protocol):
    """A source of outcomes; used by one thread only."""

    def run(self, request: r.Evaluate, store: Evaluations, progress: Progress) -> Generator[Any]:
        """An `Evaluation` before each task by each model, then its outcomes. Closing it keeps what came."""
        ...


class EvaluationJobs:
    """The executor of one screen's evaluations. The database belongs to this thread."""

    def __init__(self, evaluator: Callable[[], RunEvaluator], path: Path) -> None:
        """`evaluator` is called when something is first measured."""
        self._make, self.path = evaluator, path
        self._store: Evaluations | None = None
        self._unkept = ""
        self.scores = ScoreKeeper()

    @property
    def store(self) -> Evaluations:
        if self._store is None:
            self._store = Evaluations(self.path, self._told)
        return self._store

    def _told(self, line: str) -> None:
        self._unkept = line

    def _board(self, live: Cell | None = None, left_s: float | None = None) -> Scoreboard:
        return replace(self.scores.board(live, left_s), unkept=self._unkept)

    def execute(self, request: r.Evaluate | r.Examine | r.Recall | r.Report, tell: Tell) -> Iterator[Any]:
        match request:
            case r.Recall():
                self.scores = ScoreKeeper()
                self.scores.read(self.store)
                yield self._board()
            case r.Examine(task, models):
                cells = [(task, model) for model in models]
                for cell in cells:
                    if cell not in self.scores.tallies:
                        raise LikelyError(f"{cell[0]} was not measured with {cell[1]}")
                there = [cell for cell in cells if self.scores.tallies[cell].numbers]
                if there:
                    yield detail(
                        self.store,
                        [self.scores.evaluations[cell] for cell in there],
                        [self.scores.tallies[cell] for cell in there],
                    )
            case r.Report(path):
                if not self.scores.evaluations:
                    raise DataError("nothing was measured yet: there is nothing to report")
                write(path, self.store, list(self.scores.evaluations.values()))
                yield r.Reported(path)
            case r.Evaluate():
                yield from self._evaluate(request, tell)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _evaluate(self, request: r.Evaluate, tell: Tell) -> Iterator[Any]:
        control = request.control

        def progress(stage: str, done: int = 0, total: int = 0) -> None:
            if control.cancelled:
                raise LikelyError("stopped before anything was measured")
            tell(r.Progressed("", stage, done, total))

        self.scores = ScoreKeeper()
        live: Cell | None = None
        shown = began = monotonic()
        known = total = 0
        with closing(self._make().run(request, self.store, progress)) as events:
            for event in events:
                if isinstance(event, Evaluation):
                    live = event.cell
                    self.scores.begin(event, self.store.tally(event))
                    known, total, began = len(self.scores.tallies[live].numbers), event.total, monotonic()
                    yield self._board(live)
                else:
                    if not isinstance(event, Problem) and live is not None:
                        self.scores.tallies[live].add(event.number, event.cluster, event.values)
                    yield event  # whoever asks something has a turn
                if live is not None and monotonic() - shown >= BOARD_S:
                    shown, done = monotonic(), len(self.scores.tallies[live].numbers)
                    seconds = left_s(total, done, known, shown - began)
                    yield self._board(live, seconds)
                while control.paused:
                    yield None
                if control.cancelled:
                    break
        yield self._board()
