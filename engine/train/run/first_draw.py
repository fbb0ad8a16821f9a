"""First draw of a training by rewards: answers to some of its problems, which tell whether it would teach anything."""

from collections.abc import Callable, Sequence

from likely.engine.base.errors import DataError
from likely.engine.train.data.batches import share
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.rewards.figures import Rollout
from likely.engine.train.rewards.futility import unfit
from likely.engine.train.run import rollouts
from likely.engine.train.run.run import TrainingRun
from likely.engine.train.run.validation import drawn

FIRST = (1 << 30) + 1  # in the place of a step in the key of what is drawn: no step comes so far


def count(run: TrainingRun) -> int:
    """How many problems are drawn before the first step; none by a run that draws fewer in all, or goes on."""
    c = run.config
    return 0 if run.counters.step or run.steps * c.batch * c.accumulate < c.look_first else c.look_first


def check(run: TrainingRun, told: Callable[[str, int, int], None]) -> None:
    """DataError where answers to some problems promise nothing (`unfit`). Over ranks each draws its share."""
    if not (n := count(run)):
        return
    rows = drawn(run.rows.train, n)
    problems = [rollouts.problem(run, row) for row in rows if isinstance(row, TrainingSample)]
    problems = [problems[i % len(problems)] for i in range(n)]
    own, mine = list[Sequence[Rollout]](), share(range(n), *run.place)
    for k, i in enumerate(mine):
        told("drawing answers first", k, len(mine))
        own.append(rollouts.draw(run, problems[i], run.config.answers, (FIRST, i)))
    if why := unfit(rollouts.everyones(run, problems, own)):
        raise DataError(f"{why}; --look-first 0 goes on without having looked")
