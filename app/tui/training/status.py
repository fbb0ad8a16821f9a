"""Where a training stands, in words: what it does, how much is done, what it costs; at its end where it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.training_plan import duration
from app.tui.theme import Glyphs
from app.tui.training.history import TrainingHistory
from app.tui.tuning import Tuning, command

ENDS = {"done": "done", "patience": "stopped: validation no longer gets better", "stopped": "stopped"}


@dataclass(frozen=True, slots=True)
class RunStatus:
    """`words` (the state), the `share` that is done, `tail` (what is left), and facts, the most wanted first."""

    words: str = ""
    share: float | None = None
    tail: str = ""
    facts: Sequence[str] = ()
    alarm: bool = False


def standing(tuning: Tuning, course: TrainingHistory, stage: str, glyphs: Glyphs) -> RunStatus:
    """Where a run stands; `stage` is what is being done while it is opened."""
    if tuning.plan is None:
        return RunStatus(f"{stage}…")
    if tuning.failure is not None:
        return RunStatus(f"▲ {tuning.failure.line}", facts=_kept(tuning, course), alarm=True)
    steps = course.last.steps if course.last is not None else tuning.plan.steps
    share = course.step / max(steps, 1)
    if tuning.ended is not None:
        return _over(tuning, course, share)
    doing = {
        "paused": f"{glyphs.held} paused · ",
        "stopping": f"{glyphs.live} finishing this step, then saving · ",
        "training": f"{glyphs.held} pausing after this step · " if tuning.control.paused else f"{glyphs.live} ",
    }
    left = f"{duration(course.left_s)} left" if course.left_s is not None else ""
    return RunStatus(f"{doing[tuning.state]}step {course.step:,}/{steps:,}", share, left, course.facts())


def _over(tuning: Tuning, course: TrainingHistory, share: float) -> RunStatus:
    end = tuning.ended
    assert end is not None and tuning.plan is not None
    if end.reason in ("nan", "diverged"):
        before = f"the weights before it, of step {end.step:,}, are kept in {tuning.plan.folder}"
        return RunStatus(f"▲ {end.why or end.reason}", facts=(before,), alarm=True)
    best = f", best {course.best.loss:.3f} at {course.best.step:,}" if course.best is not None else ""
    took = duration(course.last.elapsed_s) if course.last is not None else ""
    line = f"∎ {ENDS.get(end.reason, end.reason)} after step {end.step:,}{best}"
    return RunStatus(line, share if tuning.unfinished else None, took, _kept(tuning, course))


def _kept(tuning: Tuning, course: TrainingHistory) -> list[str]:
    """Where the run is, and how to go on."""
    assert tuning.plan is not None
    folder = tuning.plan.folder
    if tuning.failure is not None:
        here = f"{folder} is at step {tuning.saved:,}" if tuning.saved else "nothing is saved yet"
        return ["nothing is lost", f"c goes on from step {course.step:,}", "s saves", here]
    if tuning.unfinished:
        return [f"kept in {folder}", command(tuning.config, resume=True)]
    return [f"kept in {folder}", f"likely diff {tuning.config.model} {folder} TEXT"]
