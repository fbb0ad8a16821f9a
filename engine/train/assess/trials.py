"""Trial of a remedy: a few steps of a run from its start at a higher rate, where it has hardly begun to learn.

The run's own adapter is put aside for as long, and nothing is written that stays. A higher rank is not tried: of a run
that has hardly begun, four times the rank moves as much as three times the rate, and costs more (benchmarks/log). Knows
nothing of how it is said.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from likely.engine.train.data.samples import Pair, TrainingSample
from likely.engine.train.losses import batch_losses
from likely.engine.train.losses.row_scores import target_losses
from likely.engine.train.run import trainer
from likely.engine.train.run.run import TrainingRun
from likely.engine.train.run.state import Counters
from likely.engine.train.verdict import Remedy
from likely.engine.weights.adapters import lora
from likely.engine.weights.adapters.config import FASTER
from likely.engine.weights.adapters.sites import trainable
from likely.models.native_path.native import renew

STEPS = 30
SHARE = 3  # a trial takes at most one of so many parts of the steps that the training took


def possible(run: TrainingRun, steps: int) -> bool:
    """Whether a training of so many steps leaves time for one, and has a start to go back to."""
    c = run.config
    plain = isinstance(run.trained, lora.Adapter) and c.init == "zero" and not c.warm_start and c.objective == "sft"
    return plain and run.group is None and steps >= SHARE * STEPS


def tried(run: TrainingRun, items: Sequence[TrainingSample | Pair]) -> Iterator[Remedy | None]:
    """None after each step, then the trial. The run is as it was, also where the iterator is closed before its end."""
    assert isinstance(run.trained, lora.Adapter)
    c, own, sites = run.config, run.trained.parameters(), [f.site for f in run.trained.factors.values()]
    start = lora.create(sites, rank=c.rank, scale=c.multiplier, kind=c.kind, seed=c.seed, init=c.init)
    config = replace(c, rate=FASTER * c.rate, steps=STEPS, epochs=0.0, eval_every=0, save_every=0, tensorboard=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            other = replace(
                run, config=config, steps=STEPS, folder=Path(folder), optimiser={}, counters=Counters(), saved=0,
                stamp=None, good=None, made_as="", rows=replace(run.rows, valid=()),
            )  # fmt: skip
            run.trained.set(start.parameters())
            for _ in trainer.steps(other):
                yield None
            found = target_losses(trainable(run.model), batch_losses.samples_of(items), c)
        lost = np.concatenate([losses for losses, _ in found])
        yield Remedy(config.rate, other.counters.step, float(lost.mean()))
    finally:
        run.trained.set(own)
        renew(run.base)
