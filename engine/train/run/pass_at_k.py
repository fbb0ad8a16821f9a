"""Held-out problems while rewards are learned: pass@1..k of base and policy, by answers drawn with the same seeds."""

from collections.abc import Sequence

from likely.engine.base.files.artifacts import BEST
from likely.engine.train.control import TrainControl
from likely.engine.train.data.answer_verdicts import RewardProblem
from likely.engine.train.data.batches import share
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.rewards.figures import AnsweredProblem, HeldOut, Rollout, held_out
from likely.engine.train.run import rollouts
from likely.engine.train.run.run import TrainingRun, write
from likely.engine.train.run.validation import drawn

PROBLEMS = 64  # that are looked at, at most
HELD = 1 << 30  # in the place of a step in the key of what is drawn: no step comes so far


def look(run: TrainingRun, control: TrainControl) -> HeldOut | None:
    """Base and policy on the held-out problems; keeps the weights if they are the best so far by pass@1.

    None without such problems, and where `control` stops it. What the base says is drawn once a run. Over ranks each
    draws its share.
    """
    asked = problems(run)
    c, counters, now = run.config, run.counters, list[Sequence[Rollout]]()
    mine = share(range(len(asked)), *run.place)
    for n, i in enumerate(mine):
        control.tell("answering held-out problems", n, len(mine))
        if control.stopped:
            break
        if n == len(run.held):
            run.held.append(tuple(answers(run, asked[i], i, base=True)))
        new = run.held[n] if not counters.step else answers(run, asked[i], i)
        now.append(new)
    control.stage = ""
    missing = [()] * (len(mine) - len(now))  # where it was stopped
    sides = (rollouts.everyones(run, asked, [*side, *missing]) for side in (run.held[: len(now)], now))
    told = [(tuple(before), tuple(after)) for before, after in zip(*sides, strict=True)]
    if not all(after for _, after in told) or not asked:
        return None
    seen = [AnsweredProblem(each.prompt, each.answer, *both) for each, both in zip(asked, told, strict=True)]
    were, are = ([_right(of.before) for of in seen], [_right(of.now) for of in seen])
    found = held_out(were, are, c.eval_answers, counters.step, seen)
    missed = 1 - found.passed[0].policy.mean
    if counters.best is None or missed < counters.best:
        counters.best, counters.best_step, counters.waited = missed, counters.step, 0
        if counters.step:
            write(run, run.folder / BEST)
    else:
        counters.waited += 1
    return found


def problems(run: TrainingRun) -> list[RewardProblem]:
    """The held-out problems of a run."""
    rows = drawn(run.rows.test, PROBLEMS) or drawn(run.rows.valid, PROBLEMS)
    return [rollouts.problem(run, row) for row in rows if isinstance(row, TrainingSample)]


def answers(run: TrainingRun, problem: RewardProblem, i: int, *, base: bool = False) -> list[Rollout]:
    """Answers to the i-th of them, by the model as it is now or as before training: with the same seeds always."""
    return rollouts.draw(run, problem, run.config.eval_answers, (HELD, i), base=base)


def _right(answers: tuple[Rollout, ...]) -> int:
    return sum(one.right for one in answers)
