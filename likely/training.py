"""Training from Python: rows in, events as it learns, an adapter's folder in the end."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from likely.engine.train.control import Answer, Ended, Event, Stepped, TrainControl, TrainingPlan, Validated
from likely.notebook import curve

if TYPE_CHECKING:
    from likely.language_model import Model


REDRAWN_S = 0.5  # between two looks of a notebook's curve


def tune(model: "Model | str", rows: str | Path | Sequence[Mapping[str, Any]], **options: Any) -> "TrainingRun":
    """Train an adapter for a model (one that is loaded stays as it is) on rows: a file or folder as `likely tune` takes
    it, or dicts, which are kept in a file beside the adapter.

    `options` are those of `likely tune` (`steps`, `rank`, `rate`, `out`, ...); `out`, the adapter's folder, is a new
    one under the temporary folder if left out. Nothing is trained until the run is iterated. Raises ParameterError
    for an option that there is not, DataError for rows that are none, OutOfMemory for a step that does not fit.
    """
    return TrainingRun(model, rows, options)


class TrainingRun:
    """`for event in run` trains and gives its events (`Stepped`, `Validated`, `Saved`, `Ended`); in a notebook a curve
    is drawn again meanwhile. `stop()` ends it after a step, saved; `adapter` is its folder, for `Model.adapt`."""

    def __init__(
        self, model: "Model | str", rows: str | Path | Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> None:
        from likely.engine.train.assess.report import refuse_if_too_large
        from likely.engine.train.open_run import open_run
        from likely.engine.weights.adapters.config import configure
        from likely.engine.weights.sources.checkpoint import load
        from likely.engine.weights.sources.fetch.progress import silent

        self.adapter = Path(options.get("out") or Path(tempfile.mkdtemp(prefix="likely-")) / "adapter")
        if not isinstance(rows, str | Path):
            self.adapter.parent.mkdir(parents=True, exist_ok=True)
            written = self.adapter.with_name(f"{self.adapter.name}-rows.jsonl")
            written.write_text("".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows), "utf-8")
            rows = written
        name = model if isinstance(model, str) else str(model.session.info.path)
        config = configure({**options, "model": name, "data": str(rows), "out": str(self.adapter)})
        held = None if isinstance(model, str) or config.kind == "full" else model.twin()
        self._opened = open_run(config, silent, load=load if held is None else lambda name, progress: held)
        refuse_if_too_large(self._opened.plan, self._opened.run.config)
        self.control, self.events = TrainControl(), list[Event]()

    @property
    def plan(self) -> TrainingPlan:
        """What will be done, how long it should take and in how much memory."""
        return self._opened.plan

    @property
    def ended(self) -> Ended | None:
        """How it ended; None while it has not."""
        return next((event for event in reversed(self.events) if isinstance(event, Ended)), None)

    def stop(self) -> None:
        """End after the step that is being taken; what was learned is saved."""
        self.control.stop()

    def __iter__(self) -> Iterator[Event | Answer]:
        from likely.engine.train.run.trainer import train

        if self.ended is not None:
            return
        page, drawn = _displayed(self), 0.0
        for event in train(self._opened.run, self.control):
            self.events.append(event)
            if page is not None and (isinstance(event, Ended) or monotonic() - drawn > REDRAWN_S):
                page.update(self)
                drawn = monotonic()
            yield event

    def __repr__(self) -> str:
        return self._caption()

    def _repr_html_(self) -> str:
        steps = [(float(e.step), e.smooth) for e in self.events if isinstance(e, Stepped)]
        held = [(float(e.step), e.loss) for e in self.events if isinstance(e, Validated)]
        return curve(steps, held, self._caption())

    def _caption(self) -> str:
        last = next((e for e in reversed(self.events) if isinstance(e, Stepped)), None)
        if last is None:
            return f"{self.plan.steps} steps over {self.plan.samples} rows, not begun: for event in run: ..."
        state = "running" if self.ended is None else self.ended.reason
        return f"step {last.step} of {last.steps} · loss {last.smooth:.3f} nats · {state} · {self.adapter.name}"


def _displayed(run: TrainingRun) -> Any:
    """The handle on a run that is shown in a notebook's cell; None where there is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display(run, display_id=True)
