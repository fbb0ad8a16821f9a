"""The running of a ladder: one run after another, on one machine or on several that share its folder, none twice.

A run is claimed by a lock on its file, which the system lets go when its process ends, however it does; whoever comes
later takes it up where it was left. What a run gave is a file of its own, and the table is gathered from all of them.
Who trains is an argument: a `RungTrainer`.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

from likely.engine import json_reader
from likely.engine.errors import DataError
from likely.engine.lock import LockTaken, locked, silent
from likely.engine.scaling.cost import SpeedProbe
from likely.engine.scaling.plan import LadderPlan, Rung, is_path
from likely.engine.tune.control import TrainControl
from likely.engine.whole_file import make_folder, write_whole

TABLE, TABLE_LOCK = "runs.csv", "table.lock"
RUNS = "runs"  # the folder of claims, results and the runs' own folders


@dataclass(frozen=True, slots=True)
class RungResult:
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
class RungBegan:
    """A run begins, or goes on; `number` from 1."""

    rung: Rung
    number: int
    runs: int


@dataclass(frozen=True, slots=True)
class RungMoved:
    """How far a run is."""

    rung: Rung
    tokens: int
    loss: float


@dataclass(frozen=True, slots=True)
class RungEnded:
    """Outcome of a run, and whether it was there already."""

    rung: Rung
    result: RungResult
    before: bool = False


@dataclass(frozen=True, slots=True)
class RungElsewhere:
    """Another process has claimed it."""

    rung: Rung


LadderEvent = RungBegan | RungMoved | RungEnded | RungElsewhere


class RungTrainer(Protocol):
    """Who trains the runs of a ladder."""

    def facts(self, size: str) -> SizeFacts:
        """A size, looked at without training it."""

    def probe(self, size: str) -> SpeedProbe:
        """A short training of it, timed."""

    def train(self, rung: Rung, folder: Path, control: TrainControl) -> Iterator[RungMoved | RungResult]:
        """Train a run, or go on with what is in its folder; the last that comes is what it gave, if it ended."""


def run(
    plan: LadderPlan, rungs: Sequence[Rung], trainer: RungTrainer, control: TrainControl | None = None
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
                    yield RungEnded(rung, _read(file), before=True)
                    continue
                yield RungBegan(rung, number, len(rungs))
                for event in trainer.train(rung, home / rung.name, control):
                    if isinstance(event, RungMoved):
                        yield event
                        continue
                    write_whole(file, [json.dumps(asdict(event), allow_nan=False)])
                    gather(plan.out)
                    yield RungEnded(rung, event)
        except LockTaken:
            yield RungElsewhere(rung)


def _begin(plan: LadderPlan, home: Path) -> None:
    """The folder, and in it what all its runs have in common."""
    # where text and tokenizer are may differ between machines; the corpus knows whether they are the same
    common = {key: setting for key, setting in plan.training.items() if not is_path(key, setting)}
    options = json.loads(json.dumps(common, default=str))
    path = home / "training.json"
    make_folder(home, "out")
    with locked(home / TABLE_LOCK, "scale", wait=silent):
        if not path.exists():
            write_whole(path, [json.dumps(options)])
        before = json_reader.read(path)
        if other := sorted(key for key in before.keys() | options.keys() if before.get(key) != options.get(key)):
            raise DataError(f"{plan.out} has runs with another training.{other[0]}: choose another out")


def results(folder: Path) -> list[RungResult]:
    """Outcomes so far, the cheapest first. DataError for a file that is none of ours."""
    rung_results = [_read(path) for path in (folder / RUNS).glob("*-*-*.json")]
    return sorted(rung_results, key=lambda rung: (rung.parameters * rung.tokens, rung.run))


def _read(path: Path) -> RungResult:
    values = json_reader.read(path, SCHEMA)
    return RungResult(**{field.name: values[field.name] for field in fields(RungResult)})


def gather(folder: Path) -> None:
    """Write the table of all outcomes: a line each. One at a time, so that the last writer has seen them all."""
    with locked(folder / RUNS / TABLE_LOCK, "scale", wait=silent):
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(RungResult)], lineterminator="\n")
        writer.writeheader()
        for result in results(folder):
            writer.writerow({name: "nan" if value is None else value for name, value in asdict(result).items()})
        write_whole(folder / TABLE, [text.getvalue()])
