"""Trials: trainings on some rows, each measured on rows held out; and their journal, so that none is done twice.

A trial is a function of its options, its rows and its seed. Losses in nats. Knows nothing of why trials are made.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from likely.engine.base import journal
from likely.engine.base.errors import DataError
from likely.engine.base.files.lock import claimed
from likely.engine.base.statistics.estimates import Estimate, ratio, share
from likely.engine.text.rows.training_row import TrainingRow
from likely.engine.train.data import samples
from likely.engine.train.losses.row_scores import RowScore, row_scores
from likely.engine.train.open_run import Tuning
from likely.engine.train.taught import TrainingFailed, ready, teach
from likely.engine.weights.adapters.config import Config

if TYPE_CHECKING:
    from likely.engine.weights.sources.checkpoint import Checkpoint

FILE = "trials.jsonl"
TRAINED = ".trial"  # what a trial trains, while it does; no folder of a person's, for it is deleted
ENTRY = {"name": dict, "rows": [list], "steps": int, "seconds": float, "failed": str}  # of the journal
Name = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A training to come: its name among others, its options, what it is trained on and what it is measured on."""

    name: Name
    config: Config
    rows: Sequence[TrainingRow]
    held: Sequence[TrainingRow]
    anchors: Sequence[TrainingRow] = ()


@dataclass(frozen=True)
class TrialResult:
    """Outcome of a trial: each row that was held out; no rows, and the reason, where its training failed."""

    name: Name
    rows: tuple[RowScore, ...]
    steps: int
    seconds: float
    failed: str = ""

    @property
    def loss(self) -> Estimate:
        """Nats a target, clustered by row."""
        return ratio([(row.total, row.targets) for row in self.rows])

    @property
    def accuracy(self) -> Estimate:
        return share([float(row.right) for row in self.rows])


@dataclass(frozen=True)
class TrialDone:
    """A trial's result; `left_s` is what those to come should take, by the mean of those that were made now."""

    result: TrialResult
    done: int
    total: int
    left_s: float


def run(
    checkpoint: "Callable[[Trial], Checkpoint]", trials: Sequence[Trial], folder: Path, head: Mapping[str, Any]
) -> Iterator[TrialDone]:
    """The trials in their order, from the journal in `folder` where they were made already; `head` is what they hang
    on beside their names.

    A training that fails is a result too. DataError for the journal of other trials.
    """
    spent, finished = 0.0, 0
    with _journal(folder, head) as record:
        if not all(_is_score(row) for entry in record.entries for row in entry["rows"]):
            raise DataError(f"{folder / FILE} is damaged: move it away, and the run begins anew")
        known = {_key(entry["name"]): {name: entry[name] for name in ENTRY} for entry in record.entries}
        missing = sum(_key(trial.name) not in known for trial in trials)
        for number, trial in enumerate(trials, 1):
            if (entry := known.get(_key(trial.name))) is not None:
                result = TrialResult(**entry | {"rows": tuple(RowScore(*row) for row in entry["rows"])})
            else:
                result = one(checkpoint(trial), trial, folder / TRAINED)
                record.add(asdict(result))
                spent, finished = spent + result.seconds, finished + 1
            yield TrialDone(result, number, len(trials), spent / finished * (missing - finished) if finished else 0.0)


def _is_score(row: list[Any]) -> bool:
    numbers = len(row) == len(RowScore._fields) and all(isinstance(number, int | float) for number in row)  # NaN too
    return numbers and isinstance(row[-1], bool)


def remaining(trials: Sequence[Trial], folder: Path, head: Mapping[str, Any]) -> list[Trial]:
    """The trials that the journal in `folder` does not have; DataError where `run` would refuse it."""
    if not (folder / FILE).exists():
        return list(trials)
    with _journal(folder, head) as record:
        known = {_key(entry["name"]) for entry in record.entries}
    return [trial for trial in trials if _key(trial.name) not in known]


@contextmanager
def _journal(folder: Path, head: Mapping[str, Any]) -> Iterator[journal.Journal]:
    with (
        claimed(folder, "estimate", "--out"),
        journal.opened(folder / FILE, json.loads(json.dumps(head)), ENTRY) as record,
    ):
        yield record


def one(checkpoint: "Checkpoint", trial: Trial, folder: Path) -> TrialResult:
    """Train and measure; the folder is for the time of it. Of no rows, the base is measured."""
    began = time.perf_counter()
    config = replace(trial.config, out=str(folder), eval_every=0, save_every=0)
    try:
        if trial.rows:
            opened, _ = teach(checkpoint, config, trial.rows, anchors=trial.anchors)
        else:
            opened = ready(checkpoint, config, trial.held)  # nothing is trained: it is the base
        scores, failed, steps = measured(opened, trial.held), "", opened.run.counters.step
    except TrainingFailed as error:
        scores, failed, steps = (), str(error), 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return TrialResult(trial.name, scores, steps, time.perf_counter() - began, failed)


def measured(opened: Tuning, rows: Sequence[TrainingRow]) -> tuple[RowScore, ...]:
    """The rows by a model as it is now; of pairs the loss is the objective's."""
    prepared = encoded(opened, rows)
    run = opened.run
    return row_scores(run.model, run.trained, prepared.pairs or prepared.samples, run.config)


def encoded(opened: Tuning, rows: Sequence[TrainingRow]) -> samples.Samples:
    """The rows as the training has its own."""
    c = opened.run.config
    return samples.prepare(rows, opened.checkpoint.tokenizer, length=c.length, loss=c.loss, too_long=c.too_long)


def _key(name: Name) -> str:
    return json.dumps(dict(name), sort_keys=True)


def cost(checkpoint: "Callable[[Trial], Checkpoint]", trials: Sequence[Trial]) -> float:
    """Seconds that the trials should take on this machine: their steps by the report on the first training of each
    options and amount of rows; and what is beside the steps as measured on the first trial, made with one step."""
    seconds: dict[tuple[Config, int], float] = {}
    beside: dict[bool, float] = {}  # by whether anything is measured after the training
    total = 0.0
    with TemporaryDirectory() as folder:
        for trial in trials:
            key, held = (replace(trial.config, seed=0), len(trial.rows)), bool(trial.held)
            if trial.rows and key not in seconds:
                config = replace(trial.config, out=f"{folder}/trial", warm_start="")  # which may not be there yet
                opened = ready(checkpoint(trial), config, trial.rows, trial.anchors)
                seconds[key] = opened.plan.seconds
                if held not in beside:
                    step = seconds[key] / opened.run.steps
                    beside[held] = max(0.0, _of_one_step(checkpoint(trial), replace(trial, config=config)) - step)
            total += seconds.get(key, 0.0)
    return total + sum(beside.get(bool(trial.held), 0.0) for trial in trials)


def _of_one_step(checkpoint: "Checkpoint", trial: Trial) -> float:
    """Seconds of a trial that takes one step."""
    config = replace(trial.config, steps=1, epochs=0.0, eval_every=0, save_every=0, patience=0)
    began = time.perf_counter()
    try:
        opened, _ = teach(checkpoint, config, trial.rows, anchors=trial.anchors)
        if trial.held:
            measured(opened, trial.held)
    except TrainingFailed:  # the trial will say it
        pass
    return time.perf_counter() - began
