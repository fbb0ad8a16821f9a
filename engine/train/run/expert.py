"""Expert iteration beside a training by rewards: as many answers drawn, as many tokens learned, the same problems.

Each round draws answers by what the last one came to, keeps the different right ones of all rounds, and learns them by
likelihood from the start (STaR, arXiv:2203.14465). It needs no gradient of a reward, so it is what rewards must beat.
The run's own adapter is put aside for as long, and nothing of it stays.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.train.control import TrainControl
from likely.engine.train.data import answer_verdicts, hyperparameters
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.rewards.figures import ExpertIteration, HeldOut, held_out
from likely.engine.train.run import pass_at_k, rollouts, trainer
from likely.engine.train.run.run import Set, TrainingRun
from likely.engine.train.run.state import Counters
from likely.engine.weights.adapters import lora
from likely.engine.weights.adapters.config import DEFAULTS, OF_OBJECTIVES, Config
from likely.models.native_path.native import renew

EXPERT = 1 << 29  # in the place of a step in the key of what is drawn: no step comes so far


def compared(run: TrainingRun, policy: HeldOut, control: TrainControl) -> ExpertIteration | None:
    """Expert iteration at a run's own cost, and what it and the policy that was looked at say on held-out problems.

    None where the control stops it. The run is as it was.
    """
    assert isinstance(run.trained, lora.Adapter)
    c, own = run.config, run.trained.parameters()
    try:
        with answer_verdicts.opened(run.verdicts, run.folder):
            kept, drawn, tokens = iterated(run, run.trained, control)
            problems = pass_at_k.problems(run)
            right = list[int]()
            for i, each in enumerate(problems):
                control.tell("expert iteration: held-out problems", i, len(problems))
                if control.stopped:
                    return None
                right.append(sum(one.right for one in pass_at_k.answers(run, each, i)))
    finally:
        control.stage = ""
        run.trained.set(own)
        renew(run.base)
    sides = (held_out(of, now, c.eval_answers) for of, now in ((policy.before, right), (right, policy.now)))
    return ExpertIteration(c.expert, drawn, kept, tokens, *sides)


def iterated(run: TrainingRun, trained: lora.Adapter, control: TrainControl) -> tuple[int, int, int]:
    """Leave the adapter at what the rounds come to; how many different right answers they kept, how many were drawn,
    and how many tokens were learned."""
    c, rows = run.config, [row for row in run.rows.train if isinstance(row, TrainingSample)]
    sites = [f.site for f in trained.factors.values()]
    start = trained.start or lora.create(
        sites, rank=c.rank, scale=c.multiplier, kind=c.kind, seed=c.seed, init=c.init
    ).parameters()  # fmt: skip
    order = np.random.default_rng([c.seed, EXPERT]).permutation(len(rows)).tolist()
    each = max(1, run.counters.batch * c.batch // c.expert)  # problems of a round
    kept, drawn, tokens = dict[tuple[int, ...], TrainingSample](), 0, 0
    trained.set(start)
    for number in range(c.expert):
        for n in range(each):
            control.tell(f"expert iteration, round {number + 1} of {c.expert}: drawing", n, each)
            if control.stopped:
                break
            i = order[(number * each + n) % len(order)]
            problem = rollouts.problem(run, rows[i])
            for one in rollouts.draw(run, problem, c.answers, (EXPERT, number, n)):
                drawn += 1
                if one.right:
                    said = problem.with_(one.ids)
                    kept.setdefault(said.ids, TrainingSample(said.ids, said.trained, said.where))
        trained.set(start)
        if kept and not control.stopped:
            control.tell(f"expert iteration, round {number + 1} of {c.expert}: learning", 0, 0)
            tokens += _learned(run, [*kept.values()], run.counters.tokens * c.reuse // c.expert, control)
    return len(kept), drawn, tokens


def _learned(run: TrainingRun, rows: Sequence[TrainingSample], tokens: int, control: TrainControl) -> int:
    """Learn rows by likelihood until so many tokens have been trained, about; how many it were."""
    plain: dict[str, Any] = {
        name: DEFAULTS[name] for name in (*OF_OBJECTIVES, "expert", "rate", "batch", "packing", "epochs", "steps")
    }
    config: Config = replace(
        run.config, **plain, objective="sft", eval_every=0, save_every=0, tensorboard=False, verdict=False, test=""
    ).unasked()  # fmt: skip
    batched = hyperparameters.chosen(replace(config, steps=1), rows)[0]
    passes = tokens / sum(row.targets for row in rows)
    config = replace(config, steps=max(1, round(passes * hyperparameters.per_epoch(batched, rows))))
    config = hyperparameters.chosen(config, rows)[0]
    with tempfile.TemporaryDirectory() as folder:
        other = replace(
            run, config=config, steps=config.steps, folder=Path(folder), optimiser={}, counters=Counters(), saved=0,
            stamp=None, good=None, made_as="", rows=Set(rows), rewarded=None, drawn=(), answered=[],
        )  # fmt: skip
        for _ in trainer.steps(other, control):
            pass
    return other.counters.tokens
