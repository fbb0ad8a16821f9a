"""Meta-learning of a start for adapters, from tasks: Reptile (arXiv:1803.02999), first-order MAML (arXiv:1703.03400).

A round draws a task and some of its rows, trains an adapter on them from the start as it is, by the loop of `likely
tune`, and moves the start: Reptile towards where that came to, first-order MAML against the gradient there on other
rows of the task. A start is the arrays of an adapter.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.lock import claimed
from likely.engine.base.files.whole_file import read_whole, refuse_pipe
from likely.engine.base.statistics.estimates import Change, Estimate, compare, mean
from likely.engine.measure.estimate.ladder import RowPool, by_row, fixed, pool, rungs
from likely.engine.measure.estimate.trial import Trial, TrialResult, encoded
from likely.engine.text.rows.values import KINDS
from likely.engine.train.data import row_choices
from likely.engine.train.losses import batch_losses
from likely.engine.train.run.run import TrainingRun, write
from likely.engine.train.taught import ready, teach
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.adapters.stored import write_json
from likely.metal import mx

if TYPE_CHECKING:
    from likely.engine.weights.sources.checkpoint import Checkpoint

MADE_OF = "made_of.json"
Start = dict[str, mx.array]


@dataclass(frozen=True)
class MetaOptions:
    """Options of meta-learning; those of the inner trainings are tune's."""

    method: str = "reptile"
    rounds: int = 100
    rows: int = 10  # of a task that a round trains on, and for MAML as many others
    rate: float = 0.5  # of the first round's move, falling to 0: a share of the way, or of the gradient
    seed: int = 0


@dataclass(frozen=True)
class MetaRound:
    """A round that was made, and how long the way was that its training went (Euclidean, all arrays together)."""

    number: int
    task: str
    way: float


def tasks(folder: Path, held: str, config: Config) -> dict[str, RowPool]:
    """The tasks in a folder: files of rows, or folders that `likely tune` reads. DataError for fewer than two beside
    the one held out, and for two of one name."""
    pools: dict[str, RowPool] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() or (path.suffix in KINDS and path.name != row_choices.NAME):
            if path.stem in pools:
                raise DataError(f"{folder} has two tasks {path.stem!r}: rename one, or move it away")
            pools[path.stem] = pool(replace(config, data=str(path)))
    if held not in pools:
        raise ParameterError(f"{folder} has no task {held!r} to hold out: it has {', '.join(pools) or 'none'}")
    if len(pools) < 3:
        raise DataError(f"{folder} has {len(pools)} tasks: a start takes 2 or more beside the one held out")
    return pools


def learn(
    checkpoint: "Checkpoint",
    some: Mapping[str, RowPool],
    config: Config,
    options: MetaOptions,
    folder: Path,
) -> Iterator[MetaRound]:
    """Rounds; the adapter's directory in `folder` is the start, written after the last.

    DataError for a task with fewer rows than a round takes; LockTaken where another process writes in the folder above.
    """
    needs = options.rows * (2 if options.method == "fomaml" else 1)
    for name, own in some.items():
        if len(own.rows) < needs:
            raise DataError(f"task {name} has {len(own.rows)} rows, and a round of {options.method} takes {needs}")
    random, names = np.random.default_rng(options.seed), sorted(some)
    with claimed(folder.parent, "estimate", "--out"):
        inner = replace(config, out=str(folder / "trial"), eval_every=0, save_every=0, valid=0.0, seed=options.seed)
        start = ready(checkpoint, inner, some[names[0]].rows).run.trained.parameters()
        for number in range(options.rounds):
            task = names[int(random.integers(len(names)))]
            chosen = [some[task].rows[i] for i in random.permutation(len(some[task].rows))[:needs]]
            opened, _ = teach(checkpoint, inner, chosen[: options.rows], begin=partial(_begin_at, start))
            run = opened.run
            here = run.trained.parameters()
            rate = options.rate * (1 - number / options.rounds)
            if options.method == "reptile":
                moved = {name: w + rate * (here[name] - w) for name, w in start.items()}
            else:
                others = encoded(opened, chosen[options.rows :])
                items = others.pairs or others.samples
                sums, slope = batch_losses.gradient(run.model, run.trained, items, run.config)
                moved = {name: w - rate / sums.count * slope[name] for name, w in start.items()}
            way = mx.sqrt(sum((mx.sum(mx.square(here[name] - w)) for name, w in start.items()), mx.array(0.0)))
            mx.eval(moved, way)
            start = moved
            yield MetaRound(number + 1, task, float(way))
        last = ready(checkpoint, replace(inner, out=str(folder)), some[names[0]].rows).run
        last.trained.set(start)
        write(last, folder)


def inner_trials(some: Mapping[str, RowPool], config: Config, options: MetaOptions) -> list[Trial]:
    """Trainings as the rounds make them, for what they cost."""
    rows = next(iter(some.values())).rows[: options.rows]
    return [Trial({"round": number}, config, rows, ()) for number in range(options.rounds)]


def _begin_at(start: Start, run: TrainingRun) -> None:
    run.trained.set(start)


def identity(some: Mapping[str, RowPool], config: Config, options: MetaOptions) -> dict[str, Any]:
    """Identity of a start: the tasks and options that it hangs on."""
    known = {name: task.fingerprint for name, task in some.items()}
    own = {**fixed(config), "model": config.model, "layers": config.layers or -1}
    plain: dict[str, Any] = json.loads(json.dumps({"tasks": known, "by": asdict(options), "options": own}))
    return plain


def is_made(start: Path, made_of: Mapping[str, Any]) -> bool:
    """Whether the start is there, made of these."""
    path = start / MADE_OF
    refuse_pipe(path)
    try:
        return path.exists() and foreign_json.parse(read_whole(path)) == made_of
    except ValueError:  # damaged: it is learned again
        return False


def seal(start: Path, made_of: Mapping[str, Any]) -> None:
    """Write down that the start was made of these."""
    write_json(start / MADE_OF, made_of)


def trials(config: Config, rows: RowPool, amounts: Sequence[int], seeds: int, start: Path) -> list[Trial]:
    """Trainings on the held-out task from the usual start and from the learned one, on the same rows."""
    trainings = []
    for name, at in (("zero", ""), ("learned", str(start))):
        own = replace(config, warm_start=at)
        trainings += [replace(trial, name={**trial.name, "start": name}) for trial in rungs(own, rows, amounts, seeds)]
    return trainings


@dataclass(frozen=True)
class StartComparison:
    """Nats a held-out row after so many rows of the new task, from either start, means over seeds. `change` is learned
    less zero on as many rows, `saved` learned less zero on the most rows, both paired by row."""

    rows: int
    zero: Estimate
    learned: Estimate
    change: Change
    saved: Change


def compared(results: Sequence[TrialResult]) -> list[StartComparison]:
    """The comparison for each amount of rows. DataError where a training failed."""
    lost: dict[tuple[str, int], list[TrialResult]] = {}
    for result in results:
        if result.failed:
            raise DataError(f"a training on the task failed: {result.failed}; lower rate")
        lost.setdefault((result.name["start"], result.name["rows"]), []).append(result)
    amounts = sorted({rows for _, rows in lost})
    losses = {key: by_row(mine) for key, mine in lost.items()}
    most = losses["zero", amounts[-1]]
    return [
        StartComparison(
            rows,
            mean(losses["zero", rows]),
            mean(losses["learned", rows]),
            compare(losses["zero", rows], losses["learned", rows]),
            compare(most, losses["learned", rows]),
        )
        for rows in amounts
    ]
