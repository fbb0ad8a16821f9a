"""Held-out problems after learning from rewards: pass@1..k of base and policy, by answers drawn with the same seeds."""

from collections.abc import Iterator

from likely.engine.rewards.figures import HeldOut, held_out
from likely.engine.tune import rollouts
from likely.engine.tune.control import Ended, Event, TrainControl
from likely.engine.tune.run import TrainingRun
from likely.engine.tune.samples import TrainingSample
from likely.engine.tune.validation import drawn

PROBLEMS = 64  # that are looked at, at most
HELD = 1 << 30  # in the place of a step in the key of what is drawn: no step comes so far


def compared(events: Iterator[Event], run: TrainingRun, control: TrainControl) -> Iterator[Event]:
    """The events of a training; before its end, where it learned from rewards and came to one, the `HeldOut`.

    None without held-out problems, or where `control` stops it: all is saved by then.
    """
    for event in events:
        well = isinstance(event, Ended) and event.reason in ("done", "patience")
        if well and run.config.goal.drawn and run.config.verdict and (found := _held_out(run, control)) is not None:
            yield found
        yield event


def _held_out(run: TrainingRun, control: TrainControl) -> HeldOut | None:
    rows = drawn(run.rows.test, PROBLEMS) or drawn(run.rows.valid, PROBLEMS)
    before, now = list[int](), list[int]()
    for i, row in enumerate(rows):
        if control.stopped:
            return None
        assert isinstance(row, TrainingSample)
        each = rollouts.problem(run, row)
        for side, base in ((before, True), (now, False)):
            answers = rollouts.draw(run, each, run.config.eval_answers, (HELD, i), base=base)
            side.append(sum(one.right for one in answers))
    return held_out(before, now, run.config.eval_answers) if rows else None
