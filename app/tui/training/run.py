"""A training as its screen sees it: a state that follows from the events of its jobs, and what a person does to it.

The jobs run on a worker of their own, so that a step of seconds holds up no token. No widgets, no thread.
"""

from typing import Any

from likely.app.jobs.requests import Train, TrainOn
from likely.app.jobs.worker import Closed, Failed, Worker
from likely.app.results.training_command import going_on
from likely.app.results.training_kind import TrainingConfig, kind_of
from likely.app.results.training_verdict import sentence
from likely.engine.base.errors import Interrupted
from likely.engine.train.control import Ended, Paused, Refused, Request, Saved, Stepped, TrainControl, TrainingPlan
from likely.engine.train.verdict import TrainingVerdict


class Training:
    """A run, from its opening to the last question that is asked of its model.

    state: opening | training | paused | stopping | ended | failed.
    """

    def __init__(self, worker: Worker, config: TrainingConfig, *, resume: bool = False) -> None:
        """`worker` does nothing else, and ends with the run."""
        self.worker, self.config, self.resume = worker, config, resume
        self.kind = kind_of(config)
        self.control = TrainControl()
        self.state = "opening"
        self.plan: TrainingPlan | None = None
        self.saved = 0  # the step of the last checkpoint
        self.step = 0  # the last that was taken
        self.verdict: TrainingVerdict | None = None
        self.ended: Ended | None = None
        self.failure: Failed | None = None
        self._questions: dict[int, Request] = {}  # by job
        worker.submit(Train(config, resume, self.control))
        worker.start()

    @property
    def busy(self) -> bool:
        """Whether there is something that stopping would lose, were it not kept."""
        return self.state in ("training", "paused", "stopping")

    @property
    def brief(self) -> str:
        """Its state and step in two words, for who looks elsewhere; "" once it is over."""
        if self.state == "opening":
            return "training begins"
        return f"{self.state} {self.step:,}/{self.plan.steps:,}" if self.busy and self.plan is not None else ""

    @property
    def again(self) -> str:
        """The command that goes on with it."""
        return going_on(self.kind.verb, self.config.out)

    @property
    def unfinished(self) -> bool:
        """Whether the run can go on from where it is: it was stopped, or has failed."""
        stopped = self.ended is not None and self.ended.reason == "stopped"
        return self.plan is not None and (self.state == "failed" or stopped)

    # -- what a person does ------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Have the model answer after the step that it is in; at once where none is taken."""
        self._questions[self.worker.submit(request)] = request

    def pause(self) -> None:
        """Wait after the step that is being taken, or go on."""
        if self.state not in ("training", "paused"):
            return
        if self.control.paused:
            self.state = "training"
            self.control.go_on()
        else:
            self.control.pause()

    def stop(self) -> None:
        """Finish the step, save, and be over; where a run has failed, save what it had learned until then."""
        self.control.stop()
        if self.state == "opening":
            self.worker.finish()
        elif self.busy:
            self.state = "stopping"
        elif self.state == "failed" and self.plan is not None:
            self.state, self.failure = "stopping", None
            self.worker.submit(TrainOn(self.control))

    def go_on(self) -> bool:
        """Train on from where the run is, after it was stopped or has failed; gives whether there is more to do."""
        if not self.unfinished:
            return False
        self.control.stopped = self.control.paused = False
        self.state, self.ended, self.failure, self.verdict = "training", None, None, None
        self.worker.submit(TrainOn(self.control))
        return True

    def close(self) -> None:
        """Stop, and let the model go; the thread ends by itself."""
        self.stop()
        self.worker.finish()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the run's end; gives whether it came. What was reported meanwhile is taken in."""
        ended = self.worker.join(seconds)
        self.drain()
        return ended

    # -- what the engine reports -------------------------------------------------------------------------------------

    def drain(self) -> list[Any]:
        """The events since the last time, oldest first. A question that fails is `Refused`; the run goes on."""
        events = []
        for job, event in self.worker.drain():
            request = self._questions.get(job)
            if isinstance(event, Closed):
                self._questions.pop(job, None)
                continue
            if isinstance(event, Failed) and request is not None:
                event = Refused(self.saved, request, event.line)
            self._take(event)
            events.append(event)
        return events

    def _take(self, event: Any) -> None:
        if isinstance(event, Stepped):
            self.step = event.step
        match event:
            case TrainingPlan():
                self.plan = event
                self.state = "stopping" if self.control.stopped else "training"
            case Paused() if self.state == "training" and self.control.paused:
                self.state = "paused"
            case Stepped() if self.state == "paused":
                self.state = "training"
            case Saved(step):
                self.saved = step
            case TrainingVerdict():
                self.verdict = event
            case Ended():
                self.state, self.ended = "ended", event
            case Failed():
                self.state, self.failure = "failed", event
                if self.plan is None:
                    self.worker.finish()

    def parting(self) -> tuple[int, list[str]]:
        """The exit code and the lines for when the screen is gone: where the run is, and how to go on."""
        again, failure = self.again, self.failure
        if failure is not None and isinstance(failure.error, Interrupted):
            return 130, [failure.line]
        if failure is not None:
            lines = [f"Error: {failure.line}"]
            return 1, [*lines, f"go on from step {self.saved} with: {again}"] if self.saved else lines
        if self.ended is None or self.plan is None:
            return 130, ["the run was stopped before it began"]  # and is not waited for
        end, folder = self.ended, self.plan.folder
        if end.reason in ("nan", "diverged"):
            return 1, [f"Error: {end.why}; the weights before it are in {folder}"]
        if end.reason == "stopped":
            return 130, [f"stopped after step {end.step}: {folder}", f"go on with: {again}"]
        said = [sentence(self.verdict)] if self.verdict is not None else []
        return 0, [f"{end.reason} after step {end.step}: {folder}", *said]
