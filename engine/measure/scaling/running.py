"""The running of a ladder: one run after another, on one machine or on several that share its folder, none twice.

A run is claimed by a lock on its file, which the system lets go when its process ends, however it does; whoever comes
later takes it up where it was left. What a run gave is a file of its own, and the table is gathered from all of them.
Who trains is an argument: a `ScalingRunTrainer`.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.lock import LockTaken, locked, silent
from likely.engine.base.files.whole_file import make_folder, write_whole
from likely.engine.measure.scaling.cost import SpeedProbe
from likely.engine.measure.scaling.plan import ScalingRun, SweepPlan, is_path
from likely.engine.train.control import TrainControl

TABLE, TABLE_LOCK = "runs.csv", "table.lock"
RUNS = "runs"  # the folder of claims, results and the runs' own folders


@dataclass(frozen=True, slots=True)
class ScalingRunResult:
    """Outcome of a run: its validation loss in nats a token with 95 %, None where it diverged."""

    run: str
    parameters: int
    embedding: int
    tokens: int
    unique: int
    loss: float | None
    low: float | None
    high: float | None
    seconds: float
    seed: int
    machine: str


NUMBER = (float, None)
SCHEMA = {
    **dict.fromkeys(("run", "machine"), str),
    **dict.fromkeys(("parameters", "embedding", "tokens", "unique", "seed"), int),
    **dict.fromkeys(("loss", "low", "high"), NUMBER),
    "seconds": float,
}


@dataclass(frozen=True, slots=True)
class SizeFacts:
    """A size as its trainer makes it, and the tokens that its text has."""

    parameters: int
    unique: int


@dataclass(frozen=True, slots=True)
class ScalingRunStarted:
    """A run begins, or goes on; `number` from 1."""

    rung: ScalingRun
    number: int
    runs: int


@dataclass(frozen=True, slots=True)
class ScalingRunProgress:
    """How far a run is."""

    rung: ScalingRun
    tokens: int
    loss: float


@dataclass(frozen=True, slots=True)
class ScalingRunEnded:
    """Outcome of a run, and whether it was there already."""

    rung: ScalingRun
    result: ScalingRunResult
    before: bool = False


@dataclass(frozen=True, slots=True)
class ScalingRunElsewhere:
    """Another process has claimed it."""

    rung: ScalingRun


LadderEvent = ScalingRunStarted | ScalingRunProgress | ScalingRunEnded | ScalingRunElsewhere


class ScalingRunTrainer(Protocol):
    """Who trains the runs of a ladder."""

    def facts(self, size: str) -> SizeFacts:
        """A size, looked at without training it."""

    def probe(self, size: str) -> SpeedProbe:
        """A short training of it, timed."""

    def train(
        self, rung: ScalingRun, folder: Path, control: TrainControl
    ) -> Iterator[ScalingRunProgress | ScalingRunResult]:
        """Train a run, or go on with what is in its folder; the last that comes is what it gave, if it ended."""


def run(
    plan: SweepPlan, rungs: Sequence[ScalingRun], trainer: ScalingRunTrainer, control: TrainControl | None = None
) -> Iterator[LadderEvent]:
    """Every run of the plan that nobody has claimed and that is not done; the table is there after each.

    A control that stops ends it after a step, which is kept.

    DataError where the plan's folder cannot be used, or has runs of other options.
    """
    control = control or TrainControl()
    home = plan.out / RUNS
    _begin(plan, home)
    for number, rung in enumerate(rungs, 1):
        if control.stopped:
            return
        try:
            with locked(home / f"{rung.name}.lock", "scale"):
                file = home / f"{rung.name}.json"
                if file.exists():
                    yield ScalingRunEnded(rung, _read(file), before=True)
                    continue
                yield ScalingRunStarted(rung, number, len(rungs))
                for event in trainer.train(rung, home / rung.name, control):
                    if isinstance(event, ScalingRunProgress):
                        yield event
                        continue
                    write_whole(file, [json.dumps(asdict(event), allow_nan=False)])
                    gather(plan.out)
                    yield ScalingRunEnded(rung, event)
        except LockTaken:
            yield ScalingRunElsewhere(rung)


def _begin(plan: SweepPlan, home: Path) -> None:
    """The folder, and in it what all its runs have in common."""
    # where text and tokenizer are may differ between machines; the corpus knows whether they are the same
    common = {key: setting for key, setting in plan.training.items() if not is_path(key, setting)}
    options = json.loads(json.dumps(common, default=str))
    path = home / "training.json"
    make_folder(home, "out")
    with locked(home / TABLE_LOCK, "scale", wait=silent):
        if not path.exists():
            write_whole(path, [json.dumps(options)])
        before = foreign_json.read(path)
        if other := sorted(key for key in before.keys() | options.keys() if before.get(key) != options.get(key)):
            raise DataError(f"{plan.out} has runs with another training.{other[0]}: choose another out")


def results(folder: Path) -> list[ScalingRunResult]:
    """Outcomes so far, the cheapest first. DataError for a file that is none of ours."""
    rung_results = [_read(path) for path in (folder / RUNS).glob("*-*-*.json")]
    return sorted(rung_results, key=lambda rung: (rung.parameters * rung.tokens, rung.run))


def _read(path: Path) -> ScalingRunResult:
    values = foreign_json.read(path, SCHEMA)
    return ScalingRunResult(**{field.name: values[field.name] for field in fields(ScalingRunResult)})


def gather(folder: Path) -> None:
    """Write the table of all outcomes: a line each. One at a time, so that the last writer has seen them all."""
    with locked(folder / RUNS / TABLE_LOCK, "scale", wait=silent):
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(ScalingRunResult)], lineterminator="\n")
        writer.writeheader()
        for result in results(folder):
            writer.writerow({name: "nan" if value is None else value for name, value in asdict(result).items()})
        write_whole(folder / TABLE, [text.getvalue()])
