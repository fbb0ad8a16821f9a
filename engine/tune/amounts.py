"""Amounts of a training: batch and passes chosen from the data, where nothing is asked for.

A batch that holds a small data set whole makes one step of it, and one step teaches nothing. So a small data set is
trained in small batches, and as often as makes a floor of steps.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from likely.engine.adapters.config import BATCH, FLOOR, Config
from likely.engine.tune import batches
from likely.engine.tune.batches import Item

BATCHES = 16  # of a pass over few samples, at least


def per_epoch(config: Config, items: Sequence[Item]) -> int:
    """Batches in a pass over the data."""
    c = config
    return len(batches.plan(items, size=c.batch, length=c.length, packing=c.packing, seed=c.seed, epoch=0))


def steps_of(config: Config, items: Sequence[Item]) -> int:
    """Steps in all, by the options."""
    return config.steps or max(1, math.ceil(config.epochs * per_epoch(config, items) / config.accumulate))


def chosen(config: Config, items: Sequence[Item]) -> tuple[Config, str]:
    """The options with batch and epochs where they were 0, and a line that says which and why; "" for none."""
    config_chosen: Config = config
    few = batches.lengths(items).sum() < FLOOR * config.accumulate * BATCH * config.length
    if not config.batch:
        if few:
            size = min(BATCH, max(1, len(items) // BATCHES))
            config_chosen = replace(config_chosen, batch=size, packing=False)
        else:
            config_chosen = replace(config_chosen, batch=BATCH)
    if not (config.steps or config.epochs):
        passes = math.ceil(FLOOR * config.accumulate / per_epoch(config_chosen, items))
        config_chosen = replace(config_chosen, epochs=float(max(1, passes)))
    if config_chosen == config or not few:
        return config_chosen, ""
    parts = []
    if not config.batch:
        parts.append(f"batches of {config_chosen.batch}")
    if config_chosen.epochs != config.epochs:
        parts.append(f"{config_chosen.epochs:g} passes")
    steps, an_epoch = steps_of(config_chosen, items), per_epoch(config_chosen, items)
    return config_chosen, (
        f"{' and '.join(parts)}: {len(items):,} samples make {an_epoch:,} batches, so {steps:,} steps; "
        f"fewer than {FLOOR} teach little (--batch, --epochs or --steps say otherwise)"
    )
