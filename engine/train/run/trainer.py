"""Training loop: steps, validations and checkpoints, as events. Prints nothing; can be stopped after any step.

What a step does depends on the seed, the data and the step's number alone, so a run that was killed goes on from its
last checkpoint to the same weights, bit for bit on one machine.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from likely.engine.base.errors import DataError
from likely.engine.base.files.lock import claimed
from likely.engine.base.machine.hardware import peak_memory
from likely.engine.base.numerics import damaged
from likely.engine.train.control import Ended, Event, Paused, Saved, Stepped, TrainControl, Validated
from likely.engine.train.data import answer_verdicts, batches
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.rewards.figures import HeldOut, Rewarded, Rollout
from likely.engine.train.rewards.reward_history import RewardCourse, RewardWarning
from likely.engine.train.run import (
    contrast,
    first_draw,
    rehearsal,
    rewording,
    rollouts,
    state,
    step,
)
from likely.engine.train.run import (
    optimizers as optimisers,
)
from likely.engine.train.run import (
    pass_at_k as passed,
)
from likely.engine.train.run.metrics import Metrics, read
from likely.engine.train.run.run import Set, TrainingRun, prepare, save, settle, stand_alone, write
from likely.engine.train.run.state import Counters
from likely.engine.train.run.validation import evaluate, validate
from likely.engine.weights.adapters.lora import Adapter
from likely.metal import mx
from likely.models.native_path.native import renew
from likely.models.native_path.reading import reusing

SMOOTH = 10  # steps that the running mean of the loss looks back over, at most a tenth of the run's
NOISE = 50  # steps that the noise scale looks back over
FAILED = ("nan", "diverged")
NAMED = 4  # rows of a batch that an error names
GLANCE_S = 0.05  # between two looks at the control of a run that waits


def train(run: TrainingRun, control: TrainControl | None = None) -> Iterator[Event]:
    """Train to the end, to a stop, or to a failure that keeps the last good weights; always ends with `Ended`.

    `Stepped` after every step; `Validated`, `Saved` and `Paused` between. The model may be used while the iterator
    waits for its next event, by the thread that iterates. Closing the iterator abandons what was learned since the last
    `Saved`. DataError where a checkpoint cannot be written; the one before stays. LockTaken, before anything is
    written, where another process trains in the folder, and DataError where one has since the run was prepared.
    """
    with alone(run, "tune"):
        yield from steps(run, control)


@contextmanager
def alone(run: TrainingRun, verb: str) -> Iterator[None]:
    """Be the only one that writes in a run's folder, which is as it was when the run was prepared."""
    if not run.leads:
        yield
        return
    with claimed(run.folder, verb, "--out"):
        if state.stamp(run.folder) != run.stamp:
            raise DataError(f"{run.folder} was written by another run meanwhile: --resume goes on with that")
        yield


def steps(run: TrainingRun, control: TrainControl | None = None) -> Iterator[Event]:
    """The events of a run's training, by one that is alone in its folder."""
    control = control or TrainControl()
    c, counters, metrics = run.config, run.counters, Metrics(run)
    order = batches.stream(
        run.rows.train, size=c.batch, length=c.length, packing=c.packing, seed=c.seed, skip=counters.batch,
        first=run.planned,
    )  # fmt: skip
    per_epoch = run.per_epoch
    end = Ended("done", run.steps)
    with closing(metrics), answer_verdicts.opened(run.verdicts, run.folder):
        alike = None
        try:
            alike = _begin(run, control)
        except _Stopped:
            control.stop()
        settle(run)
        stand_alone(run)
        course = RewardCourse()
        if alike is not None:
            yield from _warned(RewardWarning(0, "verdicts", alike, alike), course, metrics)
        for past in read(run.folder) if c.goal.drawn and counters.step else ():
            if isinstance(past, Rewarded | HeldOut | RewardWarning):
                course.take(past)
        with reusing(run.model):
            if c.goal.drawn and c.eval_every and not counters.step:  # what it begins at, and what the base says
                yield from _checked(run, control, metrics, course)
            while counters.step < run.steps:
                yield from _held(run, control)
                if control.stopped:
                    end = Ended("stopped", counters.step)
                    break
                drawn = [next(order) for _ in range(c.accumulate)]
                stepped = _step(run, [indices for _, indices in drawn], per_epoch, control)
                if isinstance(stepped, Ended):
                    end = stepped
                    break
                metrics.write(stepped)
                yield stepped
                if run.rewarded is not None:
                    yield from _told(run.rewarded, course, metrics, run.drawn)
                t, last = stepped.step, stepped.step == run.steps
                due = not c.goal.drawn if last else c.eval_every and t % c.eval_every == 0
                if due:
                    yield from _checked(run, control, metrics, course)
                    if c.patience and counters.waited >= c.patience:
                        end = Ended("patience", t, f"best at step {counters.best_step}")
                        break
                if not last and c.save_every and t % c.save_every == 0:
                    yield save(run)
        yield save(run, ended=end.reason != "stopped") if end.reason not in FAILED else _go_back(run)
        renew(run.base)
        if c.goal.drawn and c.verdict and end.reason == "done":  # last, as it may take long and all is saved by now
            yield from _checked(run, control, metrics, course)
    yield end if end.reason != "done" else replace(end, step=counters.step)


def _checked(run: TrainingRun, control: TrainControl, metrics: Metrics, course: RewardCourse) -> Iterator[Event]:
    """The look at rows that are not trained on, where there are such."""
    if run.config.goal.drawn:
        if (looked := passed.look(run, control)) is not None:
            yield from _told(looked, course, metrics)
    elif run.rows.valid:
        checked = validate(run)
        metrics.write(checked)
        yield checked


def _told(
    event: Rewarded | HeldOut, course: RewardCourse, metrics: Metrics, drawn: Sequence[Rollout] = ()
) -> Iterator[Event]:
    """An event of rewards, and the warnings that it is the first to show; all of it is written."""
    metrics.write(event, drawn)
    yield event
    for warning in course.take(event):
        yield from _warned(warning, course, metrics)


def _warned(warning: RewardWarning, course: RewardCourse, metrics: Metrics) -> Iterator[RewardWarning]:
    course.take(warning)
    metrics.write(warning)
    yield warning


class _Stopped(Exception):
    """The control has stopped a run that asks the base."""


def _begin(run: TrainingRun, control: TrainControl) -> float | None:
    """Ask the base what a run needs of it before its first step, or before it goes on; gives the verdict of a verifier
    that has only one."""

    if run.counters.step >= run.steps:  # there is nothing left to do
        return None

    def told(stage: str, number: int, count: int) -> None:
        if control.stopped:
            raise _Stopped
        control.tell(stage, number, count)

    if run.config.init == "contrast" or run.config.rehearsal > 0:
        rehearsal.begin(run)
    if run.config.init == "contrast" and not run.counters.step:
        contrast.begin(run, told)
    alike = None
    if run.config.goal.drawn and not run.counters.step:
        alike = rollouts.probe(run)
        first_draw.check(run, told)
    if run.config.rehearsal > 0 and not run.rehearsed:
        run.rehearsed = rehearsal.rehearsed(run, told)
    if run.config.reword > 0 and run.rewording is None:
        run.rewording = rewording.begin(run)
    control.stage = ""
    return alike


def _go_back(run: TrainingRun) -> Saved:
    """Keep the adapter of the step with the least running loss; what `resume` goes on from stays the last checkpoint.

    Whole weights have no second copy: theirs are kept as they are only where there is no checkpoint.
    """
    if run.good is None:
        return Saved(run.saved, run.folder) if (run.folder / state.FILE).exists() else save(run)
    run.saved, parameters = run.good
    run.counters.step = run.saved
    run.trained.set(parameters)
    write(run, run.folder)
    return Saved(run.counters.step, run.folder)


def _held(run: TrainingRun, control: TrainControl) -> Iterator[Paused]:
    """Wait as long as the control says so."""
    if control.waiting:
        yield Paused(run.counters.step)
    while control.waiting:
        time.sleep(GLANCE_S)


def _step(run: TrainingRun, drawn: Sequence[Sequence[int]], per_epoch: int, control: TrainControl) -> Stepped | Ended:
    """Take a step, or say why it was not taken: the weights are those before it then."""
    began = time.perf_counter()
    c, counters = run.config, run.counters
    t = counters.step + 1
    sums, gradients = step.accumulated(run, drawn, t, control)
    count = max(1.0, sums[1])
    gradients = {name: g / count for name, g in gradients.items()}
    step.regularise(run, gradients)
    size = optimisers.norm(gradients)
    mx.eval(gradients, size)
    loss, norm = sums[0] / count, float(size)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        if not counters.step and math.isnan(loss):  # nothing was trained yet: it is the model
            texts = (run.rows.train[i].ids for indices in drawn for i in indices)
            raise damaged(run.name or "the model", run.base, *texts)
        return Ended(
            "nan", counters.step, f"loss {loss:.4g}, gradient {norm:.4g} at step {t}, rows {_where(run, drawn)}"
        )
    share = 1 / min(t, SMOOTH, max(2, run.steps // 10))
    smooth = (1 - share) * (counters.smooth or 0.0) + share * loss
    if counters.step >= 10 and counters.lowest is not None and smooth > 1.5 * counters.lowest + 1.5:
        rise = f"from {counters.lowest:.3f} to {smooth:.3f} by step {t}"
        return Ended("diverged", counters.step, f"the loss rose {rise}, rows {_where(run, drawn)}: lower --rate")
    noise = _noise_scale(counters, sums, norm)
    rate = step.update(run, gradients, norm, t)
    for again in range(1, c.reuse):
        step.update(run, *step.once_more(run, count), t, again)
    seconds = time.perf_counter() - began
    if (drew := run.rewarded) is not None:
        run.rewarded = replace(drew, updated_s=seconds - drew.drawn_s - drew.verified_s)
    counters.step, counters.batch = t, counters.batch + c.accumulate
    counters.tokens += int(sums[4])
    counters.smooth = smooth
    if counters.lowest is None or smooth <= counters.lowest:
        counters.lowest = smooth
        run.good = (t, run.trained.parameters()) if isinstance(run.trained, Adapter) else None
    counters.elapsed_s += seconds
    return Stepped(
        t, run.steps, counters.batch / per_epoch, loss, smooth, rate, norm, counters.tokens, sums[4] / seconds,
        sums[2] / count, sums[3] / count, _peak(run), counters.elapsed_s, noise,
    )  # fmt: skip


def _peak(run: TrainingRun) -> int:
    """The most bytes so far: of mlx, or of the process where steps are taken beside mlx."""
    return peak_memory() if run.native else mx.get_peak_memory()


def _noise_scale(counters: Counters, sums: Sequence[float], norm: float) -> float | None:
    """The gradient's noise scale tr(Sigma) / |G|^2 in trained tokens: a batch of so many is as much noise as signal.

    By the norms of the step's gradient and of its batches' (arXiv:1812.06162, appendix A.1), whose unbiased estimates
    of both are averaged over steps before they are divided. None for steps of one batch.
    """
    if sums[6] < 2:
        return None
    large, small = sums[4], sums[4] / sums[6]
    mean = sums[5] / sums[6]  # |g|^2 of one batch
    signal = (large * norm**2 - small * mean) / (large - small)
    noise = (mean - norm**2) / (1 / small - 1 / large)
    share = max(1 / (counters.step + 1), 1 / NOISE)
    counters.signal += share * (signal - counters.signal)
    counters.noise += share * (noise - counters.noise)
    return counters.noise / counters.signal if min(counters.signal, counters.noise) > 0 else None


def _where(run: TrainingRun, drawn: Sequence[Sequence[int]]) -> str:
    items = [run.rows.train[i] for indices in drawn for i in indices]
    named = list(dict.fromkeys(item.where if isinstance(item, TrainingSample) else item.chosen.where for item in items))
    return ", ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")


__all__ = [
    "Ended",
    "Event",
    "Paused",
    "Saved",
    "Set",
    "Stepped",
    "TrainControl",
    "TrainingRun",
    "Validated",
    "alone",
    "evaluate",
    "prepare",
    "save",
    "settle",
    "steps",
    "train",
    "validate",
]  # fmt: skip
