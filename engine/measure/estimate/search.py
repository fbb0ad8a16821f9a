"""Cross-validation over a grid of options, and the one-standard-error rule (Breiman et al. 1984, sec. 3.4.3).

Every point of the grid is trained on all folds but one and measured on the one left out. Of the points whose mean loss
is within one standard error of the least, the simplest is chosen. Rows that are the same fall in the same fold.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.options import read_toml, typed, unknown
from likely.engine.base.statistics.estimates import Estimate, mean
from likely.engine.measure.estimate.trial import Trial, TrialDone, TrialResult, run
from likely.engine.text.rows.training_row import TrainingRow, check_map, read_map
from likely.engine.train.data import data
from likely.engine.train.open_run import check_objective
from likely.engine.weights.adapters.config import Config, configure

if TYPE_CHECKING:
    from likely.engine.weights.sources.checkpoint import Checkpoint

# options that can be searched, and whether more of them is simpler: nearer the base
SIMPLER = {
    "decay": True, "l1": True, "l2_sp": True, "kl": True, "dropout": True, "label_smoothing": True,
    "steps": False, "epochs": False, "rank": False, "layers": False, "rate": False,
}  # fmt: skip
BY_FOLDS = {"valid": "leave it out", "patience": "search steps instead"}  # what folds stand in the place of
LARGEST = 1000  # trainings


@dataclass(frozen=True)
class OptionGrid:
    """Values of options to search, in the order of the file, and the folds."""

    values: Mapping[str, tuple[Any, ...]]
    folds: int = 5
    seed: int = 0

    @property
    def points(self) -> list[dict[str, Any]]:
        return [dict(zip(self.values, point, strict=True)) for point in product(*self.values.values())]

    def simplicity(self, point: Mapping[str, Any]) -> float:
        """0 to 1: the mean, over options, of how far the value stands from the most flexible of its kind."""
        places = []
        for name, values in self.values.items():
            order = sorted(values, key=lambda value: _amount(name, value), reverse=not SIMPLER[name])
            places.append(order.index(point[name]) / (len(values) - 1) if len(values) > 1 else 0.0)
        return math.fsum(places) / len(places)


def _amount(name: str, value: float) -> float:
    return math.inf if name == "layers" and value == -1 else value


def read_grid(path: Path) -> OptionGrid:
    """The grid of a TOML file: folds, seed, and under [grid] a list of values for each option.

    ParameterError for keys that there are not, values that no training takes and fewer than two points.
    """
    tables = read_toml(path)
    for name in tables:
        if name not in ("folds", "seed", "grid"):
            raise unknown(name, ("folds", "seed", "grid"))
    folds, seed = (typed(name, tables.get(name, default), int) for name, default in (("folds", 5), ("seed", 0)))
    if folds < 2:
        raise ParameterError(f"folds must be at least 2, got {folds}")
    table = tables.get("grid")
    if not isinstance(table, dict) or not table:
        raise ParameterError(f"{path} has no [grid]: give options with lists of values, such as l1 = [0.0, 0.001]")
    values: dict[str, tuple[Any, ...]] = {}
    for name, candidates in table.items():
        if name not in SIMPLER:
            raise unknown(name, SIMPLER)
        if not isinstance(candidates, list) or not candidates:
            raise ParameterError(f"{name} under [grid] must be a list of values, got {candidates!r}")
        column = tuple(getattr(configure({name: value}), name) for value in candidates)
        if len(set(column)) < len(column):
            raise ParameterError(f"{name} under [grid] has a value twice: {candidates}")
        values[name] = column
    grid = OptionGrid(values, folds, seed)
    if not 2 <= len(grid.points) <= LARGEST // folds:
        raise ParameterError(
            f"{path} makes {len(grid.points)} points of {folds} folds: expected 2 points or more, and {LARGEST} "
            "trainings at most"
        )
    return grid


@dataclass(frozen=True)
class SearchPoint:
    """Values, and the mean over folds of the loss of held-out rows (nats a target) and of how many are right."""

    values: Mapping[str, Any]
    loss: Estimate
    accuracy: Estimate
    failed: str = ""


@dataclass(frozen=True)
class SearchResult:
    """All points; the one with the least loss, and the simplest within one standard error of it."""

    grid: OptionGrid
    points: tuple[SearchPoint, ...]
    best: SearchPoint
    chosen: SearchPoint

    @property
    def limit(self) -> float:
        return self.best.loss.mean + self.best.loss.error

    def path(self, name: str) -> list[SearchPoint]:
        """The points along one option, the others as chosen."""
        others = {key: value for key, value in self.chosen.values.items() if key != name}
        return [point for point in self.points if others.items() <= dict(point.values).items()]


@dataclass(frozen=True)
class SearchPlan:
    """A search that is ready: its trials, and what their journal belongs to."""

    grid: OptionGrid
    config: Config
    rows: tuple[TrainingRow, ...]
    trials: tuple[Trial, ...]
    head: Mapping[str, Any]


def plan(config: Config, grid: OptionGrid, named: Sequence[str] = ()) -> SearchPlan:
    """The trials of a search on the training rows of the options' data; `named` are options that were asked for.

    ParameterError for options that folds stand in the place of, or that the grid searches; DataError for too few rows.
    """
    for name in named:
        if name in BY_FOLDS:
            raise ParameterError(f"{name} is of validation rows, and --search measures on folds: {BY_FOLDS[name]}")
        if name in grid.values:
            raise ParameterError(f"{name} is searched by --search: leave it out, or take it out of [grid]")
    names = read_map(config.map)
    dataset = data.read(config.data, names=names, valid=0, keep_duplicates=config.duplicates)
    check_objective(config, dataset)
    rows = dataset.train
    beside = data.read(config.kl_data, names=names, valid=0) if config.kl_data else None
    check_map(names, dataset.keys | beside.keys if beside else dataset.keys)
    anchors = beside.train if beside else ()
    options = [at(config, point) for point in grid.points]
    fold = folds(rows, grid.folds, grid.seed)
    trials = []
    for point, own in zip(grid.points, options, strict=True):
        for k in range(grid.folds):
            inside = tuple(row for row, place in zip(rows, fold, strict=True) if place != k)
            outside = tuple(row for row, place in zip(rows, fold, strict=True) if place == k)
            trials.append(Trial({**point, "fold": k}, own, inside, outside, anchors))
    fixed = {name: value for name, value in asdict(config).items() if name not in ("out", "data", *grid.values)}
    head = {"data": dataset.fingerprint, "folds": grid.folds, "order of the folds": grid.seed, **fixed}
    return SearchPlan(grid, config, rows, tuple(trials), head)


def at(config: Config, point: Mapping[str, Any]) -> Config:
    """The options at a point of a grid. ParameterError where they do not go together."""
    if {"steps", "epochs"} & set(point):
        config = replace(config, steps=0, epochs=0.0)
    return configure(point, replace(config.unasked(), valid=0.0))


def folds(rows: Sequence[TrainingRow], count: int, seed: int) -> list[int]:
    """The fold of each row, by its content: equal rows in one, and as many different ones in each as can be."""
    kinds = sorted({row.digest for row in rows}, key=lambda digest: sha256(f"{seed}".encode() + digest).digest())
    if len(kinds) < count:
        raise DataError(f"{count} folds need {count} different rows, got {len(kinds)}: lower folds")
    place = {digest: i % count for i, digest in enumerate(kinds)}
    return [place[row.digest] for row in rows]


def search(checkpoint: "Checkpoint", planned: SearchPlan, folder: Path) -> Iterator[TrialDone]:
    """Every trial, whose results `summed` takes; those that the journal in `folder` has are not made again."""
    return run(lambda _: checkpoint, planned.trials, folder, planned.head)


def summed(grid: OptionGrid, results: Sequence[TrialResult]) -> SearchResult:
    """The result of all trials, each named by its point and its fold. DataError where no point could be trained."""
    points = []
    for values in grid.points:
        mine = [result for result in results if values.items() <= dict(result.name).items()]
        failed = next((result.failed for result in mine if result.failed), "")
        loss, accuracy = (
            mean([getattr(result, what).mean for result in mine if not failed]) for what in ("loss", "accuracy")
        )
        points.append(SearchPoint(values, loss, accuracy, failed))
    sound = [point for point in points if not point.failed]
    if not sound:
        raise DataError(f"no point of the grid could be trained: {points[0].failed}; lower --rate")
    best = min(sound, key=lambda point: point.loss.mean)
    limit = best.loss.mean + best.loss.error
    near = [point for point in sound if point.loss.mean <= limit]
    chosen = max(near, key=lambda point: (grid.simplicity(point.values), -point.loss.mean))
    return SearchResult(grid, tuple(points), best, chosen)
