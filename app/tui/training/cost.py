"""Forecast of a training that is not begun: its time and memory by a worker of its own, while the form is filled in.

The last one that was asked for counts: one before it stops at the next piece of its work. No widgets, no thread.
"""

from collections.abc import Callable

from likely.app.jobs.jobs import Trainer, TrainingJobs
from likely.app.jobs.requests import Foretell
from likely.app.jobs.worker import Executor, Failed, Worker
from likely.engine.base.errors import Interrupted
from likely.engine.train.control import TrainControl
from likely.engine.weights.adapters.config import Config


class CostForecast:
    """Words on what a run would cost; "" until they are known."""

    def __init__(self, trainer: Callable[[], Trainer], worker: Callable[[Callable[[], Executor], str], Worker]) -> None:
        self._trainer, self._worker = trainer, worker
        self._control = TrainControl()
        self._asked: Worker | None = None
        self.words = ""

    @property
    def pending(self) -> bool:
        return self._asked is not None and not self.words

    def ask(self, config: Config) -> None:
        """Reckon what a run by these options costs, as soon as the forecast before has let its model go."""
        before = self.stop()
        self._control = control = TrainControl()

        def jobs() -> TrainingJobs:
            if before is not None:
                before.join()
            return TrainingJobs(self._trainer())

        self._asked = self._worker(jobs, "forecast")
        self._asked.submit(Foretell(config, control))
        self._asked.start()
        self._asked.finish()

    def stop(self) -> Worker | None:
        """Forget what was asked for; who else wants the model waits for the worker that is given."""
        self._control.stop()
        asked, self._asked, self.words = self._asked, None, ""
        return asked

    def drain(self) -> bool:
        """Take in what was reported; whether there are words now."""
        for _, event in self._asked.drain() if self._asked is not None else ():
            if isinstance(event, tuple):
                self.words = "; ".join(event)
            elif isinstance(event, Failed) and not isinstance(event.error, Interrupted):
                self.words = event.line.replace("--resume goes on with it", "^r goes on with it")
        return bool(self.words)
