"""Scoreboard: models side by side over tasks, each figure with its interval and what comparing it with the first says.

Plain data and what keeps it while items come. No model, no mlx.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from likely.app.store.evaluations import Cell, Evaluation, Evaluations
from likely.engine.base.statistics.estimates import Change, Estimate, holm
from likely.engine.base.statistics.measures import measure
from likely.engine.measure.evaluate.figures.figures import ComparedMeasure, Tally, changed

SHOWN = 60  # evaluations, the latest
ROOM = 0.08  # of a range, on either side


@dataclass(frozen=True, slots=True)
class Score:
    """One measure of one task by one model."""

    evaluation: Evaluation
    measure: str
    estimate: Estimate
    subgroup: str = ""  # of the items, or of their tokens; "": all

    @property
    def name(self) -> str:
        return f"{self.measure} {self.subgroup}".rstrip()

    @property
    def smaller_is_better(self) -> bool:
        return measure(self.measure).better == "lower"


@dataclass(frozen=True, slots=True)
class Scoreboard:
    """Tasks and models in the order in which they came; `compared` is each model against the first, after Holm's
    correction over all of them. `live` is what is being measured. A score is of the task's first
    measure, of documents bits a byte."""

    tasks: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    scores: Mapping[Cell, Score] = field(default_factory=dict)
    compared: Mapping[Cell, ComparedMeasure] = field(default_factory=dict)
    live: Cell | None = None
    left_s: float | None = None  # until the live one is done, as far as can be told
    left_out: int = 0  # stored evaluations that are not shown
    unkept: str = ""  # why results are not kept, where they are not


class ScoreKeeper:
    """Tallies of a scoreboard's cells, and the figures that did not change since they were last asked for."""

    def __init__(self) -> None:
        self.evaluations: dict[Cell, Evaluation] = {}
        self.tallies: dict[Cell, Tally] = {}
        self.left_out = 0
        self._scores: dict[Cell, tuple[int, Score]] = {}
        self._changes: dict[Cell, tuple[tuple[object, ...], Change, int]] = {}

    def read(self, store: Evaluations) -> None:
        """Take in earlier measurements: the latest of each task and model."""
        evaluations = store.latest()
        self.left_out = max(0, len(evaluations) - SHOWN)
        for evaluation in reversed(evaluations[:SHOWN]):
            self.begin(evaluation, store.tally(evaluation))

    def begin(self, evaluation: Evaluation, tally: Tally) -> None:
        """A cell, in the place of one of the same task and model."""
        cell = evaluation.cell
        self.evaluations[cell], self.tallies[cell] = evaluation, tally
        self._scores.pop(cell, None)
        self._changes.clear()

    def board(self, live: Cell | None = None, left_s: float | None = None) -> Scoreboard:
        tasks = tuple(dict.fromkeys(task for task, _ in self.tallies))
        models = tuple(dict.fromkeys(model for _, model in self.tallies))
        scores = {cell: self._score(cell) for cell in self.tallies if self.tallies[cell].numbers}
        return Scoreboard(tasks, models, scores, self._compared(tasks, models), live, left_s, self.left_out)

    def _score(self, cell: Cell) -> Score:
        tally = self.tallies[cell]
        known = self._scores.get(cell)
        if known is None or known[0] != len(tally.numbers):
            name = tally.headline
            known = len(tally.numbers), Score(self.evaluations[cell], name, tally.estimate(name))
            self._scores[cell] = known
        return known[1]

    def _compared(self, tasks: Sequence[str], models: Sequence[str]) -> dict[Cell, ComparedMeasure]:
        comparisons: dict[Cell, tuple[str, str, Change, int]] = {}
        for task in tasks:
            here = [model for model in models if (task, model) in self.tallies]
            for other in here[1:]:
                first, second = self.tallies[task, here[0]], self.tallies[task, other]
                if not first.numbers or first.first not in second.values:
                    continue
                state = len(first.numbers), len(second.numbers), here[0]
                known = self._changes.get((task, other))
                if known is None or known[0] != state:
                    known = self._changes[task, other] = (state, *changed(first, second, first.first))
                if known[2]:
                    comparisons[task, other] = first.first, here[0], known[1], known[2]
        corrected = holm([change.p for _, _, change, _ in comparisons.values()])
        return {
            cell: ComparedMeasure(cell[0], name, (base, cell[1]), change, p, n)
            for (cell, (name, base, change, n)), p in zip(comparisons.items(), corrected, strict=True)
        }


def left_s(total: int, done: int, before: int, elapsed_s: float) -> float | None:
    """Seconds until all items are done, at the pace of those since `before`; None where `total` is not known (0)."""
    return (total - done) * elapsed_s / max(1, done - before) if total else None


def half(estimate: Estimate) -> float:
    """Half of the 95 % interval; infinite for one item."""
    low, high = estimate.interval
    return (high - low) / 2 if math.isfinite(high - low) else math.inf


def scale(estimates: Iterable[Estimate]) -> tuple[float, float]:
    """The range that shows every interval, with some room beside."""
    ends = [x for estimate in estimates for x in (*estimate.interval, estimate.mean) if math.isfinite(x)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = (high - low or 1.0) * ROOM
    return low - room, high + room
