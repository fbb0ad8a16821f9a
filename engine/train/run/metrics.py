"""Metrics of a run, written: a line of JSON for each step and validation, and TensorBoard's events if wanted.

A run that goes on from a checkpoint forgets the lines after it, so that each step stands there once.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files.foreign_json import check, parse
from likely.engine.base.files.whole_file import read_whole, refuse_pipe
from likely.engine.base.machine.installation import adding
from likely.engine.train.control import Stepped, Validated
from likely.engine.train.rewards.figures import HeldOut, Rewarded, Rollout, held_out
from likely.engine.train.rewards.reward_history import RewardWarning
from likely.engine.train.run.run import TrainingRun
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.adapters.stored import write_whole

FILE = "metrics.jsonl"
ROLLOUTS = "rollouts.jsonl"  # of rewards: each answer that was drawn, with its step
KINDS: dict[str, Any] = {
    "stepped": Stepped, "validated": Validated, "rewarded": Rewarded, "rewardwarning": RewardWarning,
}  # fmt: skip
LISTS: dict[object, object] = {  # how JSON has them
    tuple[float, ...]: [float], tuple[int, int, int]: [int], float | None: (float, None),
}  # fmt: skip
HELD_OUT = {"step": int, "answers": int, "before": [int], "now": [int]}  # what all of a `HeldOut` follows from
SCHEMAS = {
    kind: {f.name + ("" if f.default is MISSING else "?"): LISTS.get(f.type, f.type) for f in fields(kind)}
    for kind in KINDS.values()
}


Recorded = Stepped | Validated | Rewarded | HeldOut | RewardWarning


class Metrics:
    """Where a run's events are written; of several processes only the first writes."""

    def __init__(self, run: TrainingRun) -> None:
        """ParameterError where TensorBoard is asked for and not installed, DataError where nothing can be written."""
        self.path: Path | None = None
        self.board: Any = None
        if run.leads:
            try:  # before the first step, not after it
                run.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"cannot write to {run.folder}: {error.strerror}; choose another --out") from error
            self.path = run.folder / FILE
            self.board = _board(run.folder, run.counters.step) if run.config.tensorboard else None
            for path in (self.path, run.folder / ROLLOUTS):
                _trim(path, run.counters.step)

    def write(self, event: Recorded, drawn: Sequence[Rollout] = ()) -> None:
        """Write an event, and answers that were drawn in its step. DataError where the disk is full."""
        if self.path is None:
            return
        known = {name: getattr(event, name) for name in HELD_OUT} if isinstance(event, HeldOut) else asdict(event)
        line = {"event": type(event).__name__.lower(), **known}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)  # somebody has removed it: what was learned is kept
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if drawn:
                with open(self.path.with_name(ROLLOUTS), "a", encoding="utf-8") as file:
                    file.writelines(json.dumps({"step": event.step, **asdict(one)}) + "\n" for one in drawn)
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}") from error
        if self.board is not None:
            for name, value in line.items():
                if name != "step" and isinstance(value, int | float):
                    self.board.add_scalar(f"{line['event']}/{name}", value, event.step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def read(folder: Path) -> list[Recorded]:
    """The events of the run in `folder` so far, oldest first: what a chart of a resumed run begins with."""
    events: list[Recorded] = []
    for line in _lines(folder / FILE):
        name = str(line.pop("event", ""))
        with suppress(ValueError, TypeError, IndexError):  # another version's, or damaged: a chart lacks a point
            if name == "heldout":
                events.append(held_out(**check(line, HELD_OUT)))
            elif (kind := KINDS.get(name)) is not None:
                known = check(line, SCHEMAS[kind])
                events.append(kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in known.items()}))
    return events


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    refuse_pipe(path)
    entries = []
    for line in read_whole(path).split("\n"):
        with suppress(ValueError):  # a kill in the middle of a line
            entries.append(parse(line, {"step": int}))
    return entries


def _trim(path: Path, step: int) -> None:
    """Forget what was recorded after the step that the run goes on from."""
    if path.exists():
        text = "".join(json.dumps(line) + "\n" for line in _lines(path) if line.get("step", step + 1) <= step)
        write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def check_board(config: Config) -> None:
    """ParameterError where TensorBoard's events are wanted and no package here writes them."""
    if config.tensorboard and not any(find_spec(name) for name in ("tensorboardX", "tensorboard")):
        raise ParameterError(f"tensorboard needs a writer: {adding('tensorboardX')}")


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, of whichever package is there; what it holds past `step` is hidden by it."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # type: ignore[import-not-found]
    except ImportError:
        try:
            from tensorboardX import SummaryWriter  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError:
            raise ParameterError(f"tensorboard needs a writer: {adding('tensorboardX')}") from None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
