"""Bounds on the likelihoods of canvases: what was measured, what is being measured, and how that is broken off.

No widgets; knows nothing of how a bound is found.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Failed
from likely.engine.decode.loop.control import RunControl

Submit = Callable[[r.Call, Callable[[int, list[Any]], None]], object]


class LikelihoodBounds:
    """Bounds by whatever tells canvases apart; `changed` is called with a line on each news, "" but for a failure."""

    def __init__(self, changed: Callable[[str], object]) -> None:
        self.known: dict[Hashable, r.Bounding | r.Bounded] = {}
        self._changed = changed
        self._controls: dict[Hashable, RunControl] = {}  # of those under way

    def ask(self, submit: Submit, key: Hashable, model: str, ids: Sequence[int], free: Sequence[int]) -> None:
        """Have one measured, unless it is known or under way."""
        if key in self.known:
            return
        control = self._controls[key] = RunControl()
        self.known[key] = r.Bounding(0)

        def heard(job: int, events: list[Any]) -> None:
            line = ""
            for event in [] if control.cancelled else events:
                match event:
                    case r.Bounding():
                        self.known[key] = event
                    case r.Bounded():
                        self.known[key] = event
                        del self._controls[key]
                    case Failed():
                        line = event.line
                        del self.known[key], self._controls[key]
            self._changed(line)

        submit(call(calls.bound, model, tuple(ids), tuple(free), control), heard)

    def stop(self) -> bool:
        """Break off those under way; gives whether there were any."""
        stopped = bool(self._controls)
        for key, control in self._controls.items():
            control.cancel()
            del self.known[key]
        self._controls.clear()
        return stopped
