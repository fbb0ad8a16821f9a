"""The loss on rows that are not trained on, with an error bar, and the best weights so far kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from likely.engine.base.statistics.estimates import Estimate, ratio
from likely.engine.train.control import Validated
from likely.engine.train.data import batches
from likely.engine.train.data.samples import Pair, TrainingSample
from likely.engine.train.losses import batch_losses
from likely.engine.train.losses.batch_losses import Trained
from likely.engine.train.run.run import TrainingRun, write
from likely.engine.weights.adapters.config import Config
from likely.metal import mx
from likely.models import Transformer

Row = TypeVar("Row")


@dataclass(frozen=True)
class RowLosses:
    """Losses on rows, nats: the mean a target with its standard error clustered by row, and their sum.

    Of masked diffusion they are a bound, by one draw a row. `right` is the share of pairs ranked as wanted,
    `by_position` as `Validated` has it, empty for pairs and for bounds.
    """

    estimate: Estimate
    right: float
    nats: float
    by_position: tuple[float, ...]


def validate(run: TrainingRun) -> Validated:
    """The loss on the validation rows; keeps the weights if they are the best so far."""
    counters = run.counters
    measured = evaluate(run.model, run.trained, run.rows.valid, run.config)
    estimate = measured.estimate
    best = counters.best is None or estimate.mean < counters.best
    if best:
        counters.best, counters.best_step, counters.waited = estimate.mean, counters.step, 0
        write(run, run.folder / "best")
    else:
        counters.waited += 1
    if run.valid_bytes is None:
        run.valid_bytes = _bytes(run)
    bits = measured.nats / math.log(2) / run.valid_bytes if run.valid_bytes else None
    low, high = estimate.interval if math.isfinite(estimate.error) else (None, None)
    return Validated(
        counters.step, estimate.mean, low, high, best, measured.right, bits, measured.by_position
    )  # fmt: skip


def evaluate(
    model: Transformer, trained: Trained | None, items: Sequence[TrainingSample | Pair], config: Config
) -> RowLosses:
    """The losses of rows that are `drawn`. `trained` is asked for by preferences alone."""
    items = drawn(items, config.eval_rows)
    rows: list[tuple[float, int]] = []
    sums, counts = np.zeros(64), np.zeros(64)
    right = 0.0
    for indices in batches.plan(items, size=config.batch, length=config.length, packing=True, seed=0, epoch=0):
        part = [items[i] for i in indices]
        if config.goal.of_pairs is None:
            batch = batch_losses.batch_of(model, part, config, indices)
            lost = batch_losses.weighed(batch_losses.constant(model, batch)[0], batch)
            by_row = batch_losses.by_sample(lost, batch)
            mx.eval(lost, by_row)
            rows += zip(by_row.tolist(), batch.counts, strict=True)  # type: ignore[arg-type]
            if batch.weights is not None:
                continue
            octave = _octaves(batch)
            sums += np.bincount(octave, np.asarray(lost, np.float64), 64)
            counts += np.bincount(octave, minlength=64)
        else:
            assert trained is not None
            for item in part:
                pair_sums = batch_losses.value(model, trained, [item], config)
                right += float(pair_sums.right)
                rows.append((float(pair_sums.lost), 1))
    known = counts > 0
    by_position = tuple((sums[known] / counts[known]).tolist())
    return RowLosses(ratio(rows), right / len(items), float(sum(row[0] for row in rows)), by_position)


def drawn(items: Sequence[Row], most: int) -> Sequence[Row]:
    """At most so many of the rows (0: all), in their order, from everywhere: those whose numbers have the least hash.

    The hash is the fraction of number / golden ratio, by which the rows between two that are drawn are of two or three
    numbers alone (Knuth, The Art of Computer Programming 6.4): the first ones would be of one file of many.
    """
    if not most or most >= len(items):
        return items
    hashes = np.arange(len(items), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # modulo 2^64
    return [items[i] for i in np.sort(np.argpartition(hashes, most)[:most]).tolist()]


def _octaves(batch: batches.Batch) -> np.ndarray:
    """For each target of a batch, the binary digits of how many targets of its row stand before it."""
    before = np.concatenate([np.arange(count) for count in batch.counts])
    digits: np.ndarray = np.frexp(before)[1]
    return digits


def _bytes(run: TrainingRun) -> int | None:
    """Bytes of text that the validation rows' targets spell; tokens that steer the model spell none.

    Not of a row's first, which is the last of the piece before or is no target: so a bound stays one.
    """
    if run.session is None or run.config.goal.of_pairs is not None:
        return None
    tokenizer, items = run.session.tokenizer, run.rows.valid
    items = drawn(items, run.config.eval_rows)
    sizes = [0 if tokenizer.is_special(t) else len(tokenizer.piece(t)) for t in range(tokenizer.vocab_size)]
    flags = (zip(s.ids[1:], s.trained[1:], strict=True) for s in batch_losses.samples_of(items))
    targets = (t for pairs in flags for t, trained in pairs if trained)
    return sum(sizes[token] for token in targets if token < len(sizes))
