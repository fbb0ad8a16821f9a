"""Scores of rows by a model as it is: what each costs, and whether greedy decoding gives it. Nats.

One pass over a row says both: its answer is drawn greedily exactly where every token of it is the likeliest after those
before it. Knows neither trainings nor what rows are compared for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from likely.engine.train.data import batches
from likely.engine.train.data.samples import Pair, RewardedAnswer, TrainingSample
from likely.engine.train.losses import batch_losses
from likely.engine.train.losses.batch_losses import Trained
from likely.engine.weights.adapters.config import Config
from likely.models import Transformer


class RowScore(NamedTuple):
    """Losses of a row's targets: their sum, the sum of their squares, how many. `right`: each is the likeliest token,
    so that greedy decoding gives the row; of a pair, that it is ranked as wanted."""

    total: float
    square: float
    targets: int
    right: bool


def row_scores(
    model: Transformer, trained: Trained | None, items: Sequence[TrainingSample | Pair], config: Config
) -> tuple[RowScore, ...]:
    """The scores of samples, or of pairs, whose loss is the objective's; `trained` is asked for by pairs alone."""
    pairs = [item for item in items if isinstance(item, Pair)]
    if pairs:
        assert trained is not None
        sums = [batch_losses.value(model, trained, [pair], config) for pair in pairs]
        return tuple(RowScore(float(s.lost), float(s.lost) ** 2, 1, float(s.right) > 0) for s in sums)
    by_row = target_losses(model, batch_losses.samples_of(items), config)
    return tuple(RowScore(float(lost.sum()), float(lost @ lost), len(lost), right) for lost, right in by_row)


def answer_losses(model: Transformer, answers: Sequence[RewardedAnswer]) -> list[np.ndarray]:
    """-log p of each token of answers to one problem, nats; the prompt is read once."""
    batch = batch_losses.row_of(model, answers)
    lost, _ = batch_losses.constant(model, batch)
    return np.split(np.asarray(lost, np.float64), np.cumsum(batch.counts)[:-1])


def target_losses(model: Transformer, items: Sequence[TrainingSample], config: Config) -> list[tuple[np.ndarray, bool]]:
    """-log p of each target of the samples, nats, and whether all of a sample's are the likeliest."""
    by_sample = {}
    for indices in batches.plan(items, size=config.batch, length=config.length, packing=True, seed=0, epoch=0):
        batch = batch_losses.row_of(model, [items[i] for i in indices])
        lost, wrong = batch_losses.constant(model, batch)
        ends = np.cumsum(batch.counts)[:-1]
        columns = (np.split(np.asarray(array, np.float64), ends) for array in (lost, wrong))
        for i, own, missed in zip(indices, *columns, strict=True):
            by_sample[i] = own, not missed.any()
    return [by_sample[i] for i in range(len(items))]
