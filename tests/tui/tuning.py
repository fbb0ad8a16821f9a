"""The tune screen with a scripted trainer, for tests of the chat's that pass by it."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from textual.widgets import Label

from likely.app.tui.training.run import Training
from likely.app.tui.views.inside import InsideScreen
from likely.app.tui.views.tune import TuneScreen
from likely.app.tui.widgets.gauge import Gauge
from likely.engine.adapters.config import Config, configure
from likely.engine.prompt import Prompt
from tests.support.trainer import ScriptedTrainer
from tests.tui.conftest import Play, Stage

ROWS = configure({"data": "rows.jsonl", "steps": 40})


class Held:
    """Holds a scripted trainer before a step, until it is let go."""

    def __init__(self, trainer: ScriptedTrainer, *steps: int) -> None:
        self.gates = {step: threading.Event() for step in steps}
        trainer.pace = self._hold

    def _hold(self, step: int) -> None:
        if step in self.gates:
            self.gates[step].wait(30)

    def go(self, step: int) -> None:
        self.gates[step].set()


def screen(stage: Stage) -> TuneScreen:
    found = stage.app.screen
    assert isinstance(found, TuneScreen)
    return found


def words(stage: Stage) -> str:
    standing = screen(stage).query_one(Gauge).standing
    return " | ".join([standing.words, *standing.facts])


def run_of(stage: Stage) -> Training:
    training = screen(stage).training
    assert training is not None
    return training


def form_line(stage: Stage) -> str:
    """What the form says is wrong."""
    return str(screen(stage).query_one("#form-line", Label).visual)


async def to_the_run(stage: Stage) -> None:
    """The focus from the field to the run: its keys act. Nothing where the run could not begin."""
    await stage.until(lambda: screen(stage).prompt.has_focus or screen(stage).has_class("-form"), "a field to write in")
    if screen(stage).has_class("-form"):
        return
    await stage.pilot.press("escape")
    await stage.until(lambda: screen(stage).gauge.has_focus)


@asynccontextmanager
async def running(play: Play, trainer: ScriptedTrainer, config: Config = ROWS, **how: Any) -> AsyncIterator[Stage]:
    """A run that was started with the program, at its first step or where the trainer holds."""
    async with play(trainer=trainer, tune=config, **{"size": (100, 30), **how}) as stage:
        await stage.until(lambda: isinstance(stage.app.screen, TuneScreen), "the tune screen")
        await to_the_run(stage)
        yield stage


async def state(stage: Stage, *wanted: str) -> None:
    await stage.until(lambda: (it := screen(stage).training) is not None and it.state in wanted, f"state {wanted}")


async def reach(stage: Stage, step: int) -> None:
    await stage.until(lambda: screen(stage).course.step >= step, f"step {step}")


async def opened(stage: Stage, text: str = "Why is the sky blue?") -> InsideScreen:
    """The view, on a text."""
    stage.app.looked_into = Prompt(parts=(text,)), 0
    stage.app.go("inside")
    view = stage.app.screen
    assert isinstance(view, InsideScreen)
    await known(stage, view)
    return view


async def known(stage: Stage, view: InsideScreen) -> None:
    """Wait until the page that is shown has all it wants."""

    def settled() -> bool:
        at = view.reading
        return at is not None and at.opened is not None and view.page.wants(at, 100, 30) is None

    await stage.until(settled, "a page that has all it wants")
