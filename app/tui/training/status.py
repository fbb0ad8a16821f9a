"""Where a training stands, in words: what it does, how much is done, what it costs; at its end where it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from likely.app.results.training_command import command
from likely.app.results.training_kind import look_at
from likely.app.results.training_plan import duration
from likely.app.results.training_verdict import lines, sentence
from likely.app.tui.base.theme import Glyphs
from likely.app.tui.training.history import TrainingHistory
from likely.app.tui.training.run import Training
from likely.app.words.units import bits

ENDS = {"done": "done", "patience": "stopped: validation no longer gets better", "stopped": "stopped"}


@dataclass(frozen=True, slots=True)
class RunStatus:
    """`words` (the state), the `share` that is done, `tail` (what is left), and facts, the most wanted first."""

    words: str = ""
    share: float | None = None
    tail: str = ""
    facts: Sequence[str] = ()
    alarm: bool = False


def standing(training: Training, course: TrainingHistory, stage: str, glyphs: Glyphs, waited: float = 0.0) -> RunStatus:
    """Where a run stands; `stage` is what is being done while it is opened, `waited` the seconds since it was."""
    if training.plan is None:
        return RunStatus(f"{stage}…")
    if training.failure is not None:
        return RunStatus(f"▲ {training.failure.line}", facts=_ending(training, course), alarm=True)
    steps = course.last.steps if course.last is not None else training.plan.steps
    share = course.step / max(steps, 1)
    if training.ended is not None:
        return _over(training, course, share)
    doing = {
        "paused": f"{glyphs.held} paused · ",
        "stopping": f"{glyphs.live} finishing this step, then saving · ",
        "training": f"{glyphs.held} pausing after this step · " if training.control.paused else f"{glyphs.live} ",
    }
    held = f"{glyphs.held} pausing after this · " if training.control.paused else f"{glyphs.live} "
    rest = f"{duration(course.left_s)} left" if course.left_s is not None and course.step < steps else ""
    if course.last is None and training.state == "training":  # a step may take long: what it is, and since when
        since = f" · {duration(waited)}" if waited >= 1 else ""
        done, count = training.control.reading
        stage = training.control.stage
        read = f" · {done:,} of {count:,}{'' if stage else ' tokens'}" if count else ""
        return RunStatus(
            f"{held}{stage or 'the first step'}{since}{read}",
            share,
            "" if stage else f"of {steps:,}",
            training.plan.pace,
        )
    if (stage := training.control.stage) and training.state == "training":
        done, count = training.control.reading
        through = f" · {done:,} of {count:,}" if count else ""
        return RunStatus(f"{held}{stage}{through}", share, rest, course.facts())
    if course.step >= steps and training.state == "training":
        return RunStatus(f"{glyphs.live} looking at what it has learned", None, "", course.facts())
    return RunStatus(f"{doing[training.state]}step {course.step:,}/{steps:,}", share, rest, course.facts())


def _over(training: Training, course: TrainingHistory, share: float) -> RunStatus:
    end = training.ended
    assert end is not None and training.plan is not None
    if end.reason in ("nan", "diverged"):
        before = f"the weights before it, of step {end.step:,}, are kept in {training.plan.folder}"
        return RunStatus(f"▲ {end.why or end.reason}", facts=(before,), alarm=True)
    best = f", best {bits(course.best.loss):.3f} bits at {course.best.step:,}" if course.best is not None else ""
    took = duration(course.last.elapsed_s) if course.last is not None else ""
    line = f"∎ {ENDS.get(end.reason, end.reason)} after step {end.step:,}{best}"
    return RunStatus(line, share if training.unfinished else None, took, _ending(training, course))


def _ending(training: Training, course: TrainingHistory) -> list[str]:
    """Facts of an ended run: its folder, and the command that goes on from there."""
    assert training.plan is not None
    folder = training.plan.folder
    if training.failure is not None:
        here = f"{folder} is at step {training.saved:,}" if training.saved else "nothing is saved yet"
        return ["nothing is lost", f"c goes on from step {course.step:,}", "s saves", here]
    if training.unfinished:
        return [f"kept in {folder}", training.again]
    learned = [sentence(training.verdict)] if training.verdict is not None else []
    if course.rewards is not None:
        learned = course.rewards.outcome()
    return [*learned, f"kept in {folder}", look_at(training.config, folder)]


def told(training: Training, course: TrainingHistory) -> list[str]:
    """All that is known of a run: why it failed, what it has learned, its plan, the command that goes on."""
    found = [] if training.verdict is None else [*lines(training.verdict), sentence(training.verdict), ""]
    if course.rewards is not None and (figures := course.rewards.lines()):
        found = [*figures, ""]
    if training.failure is not None:
        found = [training.failure.line, "", *found]
    plan = training.plan.lines if training.plan is not None else ()
    return [*found, *plan, "", training.again if training.resume else command(training.config)]
