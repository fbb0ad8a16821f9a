"""Ladders of trainings over bases, layers, amounts of rows and seeds, all measured on the same held-out rows.

The rows of a seed are nested: a larger amount begins with the smaller one's. Losses are summed over a row, so that
bases with other tokens can be compared where all of them see the same rows whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.statistics.estimates import Change, Estimate, compare, mean
from likely.engine.measure.estimate.trial import Trial, TrialResult
from likely.engine.text.rows.training_row import TrainingRow, check_map, read_map
from likely.engine.train.data import data
from likely.engine.train.open_run import check_objective
from likely.engine.weights.adapters.config import Config

if TYPE_CHECKING:
    from likely.engine.weights.sources.checkpoint import Checkpoint

SIZES = 5  # amounts of rows where none are named, each twice the one before
VARIED = ("model", "layers", "seed", "out", "data", "valid")  # options that rungs differ in, or that are in the rows


@dataclass(frozen=True)
class RowPool:
    """Rows to learn from, rows that are held out, and what both are known by."""

    rows: tuple[TrainingRow, ...]
    held: tuple[TrainingRow, ...]
    fingerprint: str


def pool(config: Config) -> RowPool:
    """The rows of the options' data; held out are those of a test file, else of a validation file, else a share."""
    names = read_map(config.map)
    dataset = data.read(config.data, names=names, valid=config.valid, keep_duplicates=config.duplicates)
    check_map(names, dataset.keys)
    check_objective(config, dataset)
    held = dataset.test or dataset.valid
    if len(held) < 2:
        raise DataError(f"{config.data} leaves {len(held)} rows to measure on: give a test file, or a larger share")
    tested = sha256(b"".join(row.digest for row in dataset.test)).hexdigest()
    return RowPool(dataset.train, held, f"{dataset.fingerprint} {tested}")


def sizes(wanted: Sequence[int], there: int) -> list[int]:
    """Amounts of rows, ascending; those that are halves of all where none are asked for."""
    amounts = sorted(set(wanted)) or sorted({there >> i for i in range(SIZES)} - {0})
    if amounts[-1] > there or amounts[0] < 0:
        raise ParameterError(f"sizes must be 0 to the {there} rows that there are to train on, got {wanted}")
    return amounts


def rungs(
    config: Config, rows: RowPool, amounts: Sequence[int], seeds: int, *,
    models: Sequence[str] = (), layers: Sequence[int] = (),
) -> list[Trial]:  # fmt: skip
    """A trial of every base, layers, amount and seed; of no rows, the base as it is, one."""
    trials = []
    for model in models or (config.model,):
        for depth in layers or (config.layers or -1,):
            for amount in amounts:
                for seed in range(seeds if amount else 1):
                    order = np.random.default_rng([seed, len(rows.rows)]).permutation(len(rows.rows))[:amount]
                    own = replace(config, model=model, layers=depth, seed=seed, valid=0.0).checked()
                    name = {"model": model, "layers": depth, "rows": amount, "seed": seed}
                    trials.append(Trial(name, own, tuple(rows.rows[i] for i in order), rows.held))
    return trials


def fixed(config: Config) -> dict[str, Any]:
    """The options that all rungs have in common."""
    return {name: value for name, value in asdict(config).items() if name not in VARIED}


def head(config: Config, rows: RowPool) -> dict[str, Any]:
    """Head of a journal of rungs: what they hang on beside their names."""
    return {"data": rows.fingerprint, **fixed(config)}


@dataclass(frozen=True)
class LadderRung:
    """Trainings that differ in their seed alone: nats a held-out row and how many rows are right, means over seeds; and
    what was gained over no training, paired by row."""

    model: str
    layers: int
    rows: int
    seeds: int
    nats: Estimate
    accuracy: Estimate
    gain: Change | None
    failed: str = ""


def table(results: Sequence[TrialResult]) -> Iterator[LadderRung]:
    """Rungs in the order of their trials."""
    groups: dict[tuple[str, int, int], list[TrialResult]] = {}
    for result in results:
        groups.setdefault((result.name["model"], result.name["layers"], result.name["rows"]), []).append(result)
    for (model, layers, rows), mine in groups.items():
        sound = [result for result in mine if not result.failed]
        failed = next((result.failed for result in mine if result.failed), "")
        if not sound:
            yield LadderRung(model, layers, rows, 0, mean([]), mean([]), None, failed)
            continue
        lost = by_row(sound)
        right = np.mean([[row.right for row in result.rows] for result in sound], 0).tolist()
        base = groups.get((model, layers, 0))
        before = by_row(base) if base and rows else []
        gain = compare(lost, before) if before and not np.isnan([*lost, *before]).any() else None
        yield LadderRung(model, layers, rows, len(sound), mean(lost), mean(right), gain, failed)


def by_row(results: Sequence[TrialResult]) -> list[float]:
    """The loss of each held-out row, nats, mean over trainings."""
    means: list[float] = np.mean([[row.total for row in result.rows] for result in results], 0).tolist()
    return means


class Bases:
    """Checkpoints by name, the last one kept: rungs of one base come one after another."""

    def __init__(self, load: "Callable[[str], Checkpoint]") -> None:
        self._load = load
        self._name = ""
        self._checkpoint: Checkpoint | None = None

    def of(self, trial: Trial) -> "Checkpoint":
        if self._checkpoint is None or self._name != trial.config.model:
            self._checkpoint = None  # before the next is there
            self._checkpoint, self._name = self._load(trial.config.model), trial.config.model
        return self._checkpoint
