"""A model taught by rows, beside the model itself: for those who compare trainings.

One call trains one twin of a checkpoint to its end, by the loop of `likely tune`. Knows nothing of what is compared.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from likely.engine.base.errors import DataError
from likely.engine.text.rows.training_row import TrainingRow
from likely.engine.train.data import batches, data
from likely.engine.train.open_run import Tuning, assemble
from likely.engine.train.run.run import TrainingRun
from likely.engine.train.run.trainer import FAILED, Ended, train
from likely.engine.weights.adapters.config import Config

if TYPE_CHECKING:
    from likely.engine.weights.sources.checkpoint import Checkpoint


class TrainingFailed(DataError):
    """A training that diverged or came to NaN."""


def teach(
    checkpoint: "Checkpoint",
    config: Config,
    rows: Sequence[TrainingRow],
    *,
    anchors: Sequence[TrainingRow] = (),
    tokens: int = 0,
    begin: Callable[[TrainingRun], None] | None = None,
) -> tuple[Tuning, int]:
    """A second model over the checkpoint's arrays, trained on all of the rows, and how many tokens it read.

    It reads about `tokens`, or takes the options' steps; `begin` is given the run before its first one. What was
    trained is kept in `config.out`, in the place of what was there. Raises TrainingFailed.
    """
    opened = ready(checkpoint, config, rows, anchors)
    run = opened.run
    a_step = run.config.accumulate * int(batches.lengths(run.rows.train).sum()) / run.per_epoch  # of a step, the mean
    if tokens:
        run.steps = max(1, round(tokens / a_step))
        run.config = replace(run.config, steps=run.steps)
    if begin is not None:
        begin(run)
    *_, end = train(run)
    if isinstance(end, Ended) and end.reason in FAILED:
        raise TrainingFailed(f"the training on {len(rows)} rows failed: {end.why}")
    return opened, round(a_step * run.counters.step)


def ready(
    checkpoint: "Checkpoint", config: Config, rows: Sequence[TrainingRow], anchors: Sequence[TrainingRow] = ()
) -> Tuning:
    """A second model over the checkpoint's arrays and its training on all of the rows, before the first step."""
    shutil.rmtree(config.out, ignore_errors=True)  # what an earlier call left
    config = replace(config.unasked(), length=min(config.length, checkpoint.model.config.context))
    dataset = data.Data(tuple(rows), (), (), {}, 0, 0, False)
    return assemble(checkpoint.twin(), config, dataset, tuple(anchors))
