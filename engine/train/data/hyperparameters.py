"""Amounts of a training: batch, passes and rate chosen from the data, where nothing is asked for.

A batch that holds a small data set whole makes one step of it, and one step teaches nothing. So a small data set is
trained in small batches, often and fast; a large one once and slowly. What stands here was measured (benchmarks/log,
"few rows by default").
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from likely.engine.train.data import batches
from likely.engine.train.data.batches import Item
from likely.engine.train.data.samples import TrainingSample
from likely.engine.weights.adapters.config import BATCH, FLOOR, PULL, RANK, RATE, REWORD, Config

BATCHES = 16  # of a pass over few samples, at least
PASSES, OF_ROWS = 8, 60  # so many passes over so many rows, and over n times as many by the root of n fewer
ROW = 64  # tokens that count as a row, where samples are longer
MORE = 2.0  # times the passes, and rate of as many steps, where questions are said otherwise each time
# where a training rehearses, share of the layers, from above, and times the rank: fewer layers cost less. A third is
# too few for sums; where questions are said otherwise, it keeps them as well at twice the rank
UPPER = {False: (0.6, 2), True: (1 / 3, 4)}
SHORT = 20  # steps, fewer than which move no answer
FAST = 1e-3  # rate of an adapter that takes FLOOR steps; of more it falls with their root, down to RATE


def per_epoch(config: Config, items: Sequence[Item]) -> int:
    """Batches in a pass over the data."""
    c = config
    return len(batches.plan(items, size=c.batch, length=c.length, packing=c.packing, seed=c.seed, epoch=0))


def steps_of(config: Config, items: Sequence[Item]) -> int:
    """Steps in all, by the options."""
    return config.steps or max(1, math.ceil(config.epochs * per_epoch(config, items) / config.accumulate))


def _whole(item: Item) -> bool:
    """Whether all of a sample is learned, as of a text without a question: fast, it is learned by heart alone."""
    return isinstance(item, TrainingSample) and all(item.trained[1:])


def chosen(config: Config, items: Sequence[Item], *, layers: int = 0, rewords: bool = False) -> tuple[Config, str]:
    """The options with what was left to the data, and a line that says which and why; "" for data that are not few.
    `layers`: of a model whose base can be asked questions before the first step; 0 where it cannot. `rewords`: the
    rows' questions are told apart by words that can be said otherwise (`wordings`)."""
    c = config
    tokens = int(batches.lengths(items).sum())
    few = tokens < FLOOR * c.accumulate * BATCH * c.length
    quick = few and c.kind != "full" and c.objective == "sft"
    if c.goal.drawn:
        c = replace(c, batch=c.batch or BATCH, packing=False, steps=c.steps or (0 if c.epochs else FLOOR))
    if not c.batch:
        size = min(BATCH, max(1, len(items) // BATCHES)) if few else BATCH
        c = replace(c, batch=size, packing=c.packing and not few)
    if c.reword < 0 and quick and layers and rewords and not 0 < c.steps < SHORT:
        c = replace(c, reword=REWORD)
    more = MORE if c.reword > 0 else 1.0
    if not (c.steps or c.epochs):
        rows = max(len(items), tokens / ROW)
        passes = more * PASSES * math.sqrt(OF_ROWS / rows) if quick else 1.0
        c = replace(c, epochs=float(math.ceil(max(1.0, passes, FLOOR * c.accumulate / per_epoch(c, items)))))
    rehearses = quick and layers and steps_of(c, items) >= SHORT and (c.rehearsal > 0 or (c.rehearsal < 0 and not c.kl))
    if c.rehearsal < 0 and rehearses:
        c = replace(c, rehearsal=PULL)
    upper, ranks = UPPER[c.reword > 0] if rehearses else (0.0, 1)
    if not c.layers:
        c = replace(c, layers=math.ceil(upper * layers) or -1)
    if not c.rank and c.kind != "full":
        c = replace(c, rank=ranks * RANK)
    if not c.rate:
        steps = max(FLOOR, steps_of(c, items))
        fast = FAST * more * (2 if c.init == "contrast" else 1)  # B alone moves
        soon = quick and not all(_whole(item) for item in items)
        c = replace(c, rate=float(f"{max(RATE, fast * math.sqrt(FLOOR / steps)):.1g}") if soon else RATE)
    if c.goal.drawn and not (config.steps or config.epochs):
        said = f"{c.steps} steps of {c.batch * c.accumulate} problems, {c.answers} answers to each"
        return c, f"{said}: by then the reward has risen, or does not rise (--resume --steps goes on)"
    if not few or c.goal.drawn:
        return c, ""
    parts = [
        *([] if config.batch else [f"batches of {c.batch}"]),
        *([] if config.steps or config.epochs else [f"{c.epochs:g} passes"]),
        *([] if config.rate or c.rate == RATE else [f"rate {c.rate:g}"]),
        *([] if config.layers or c.layers < 0 else [f"layers {c.layers}"]),
        *([] if config.rank or c.rank == RANK else [f"rank {c.rank}"]),
        *([] if config.rehearsal == c.rehearsal else [f"rehearsal {c.rehearsal:g}"]),
        *([] if config.reword == c.reword else [f"reword {c.reword:g}"]),
    ]
    if not parts:
        return c, ""
    steps, an_epoch = steps_of(c, items), per_epoch(c, items)
    said = f"{len(items):,} samples make {an_epoch:,} batches"
    if not config.steps:
        said += f", so {steps:,} steps; few rows are learned in many passes" + " and fast" * quick
    return c, f"{', '.join(parts)}: {said} (the options of these names say otherwise)"
