"""Greedy continuation of a text: the most likely token after the text, then after that, and so on, a few of them.

It is the model's first guess, not the likeliest text of this length: that would be a search.
"""

from collections.abc import Callable
from typing import Any

from likely.app.jobs import requests as r
from likely.app.tui.chat.candidates import LN2
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.prompt import Prompt
from likely.engine.sampling.trace.step import SamplingConfig

LONGEST = 24  # tokens


class GreedyContinuation:
    """Asked for one text at a time: the newest. `text` and its `bits` are what has come of it."""

    def __init__(self) -> None:
        self.after = ""  # the text that it follows
        self.text, self.bits = "", 0.0
        self.whole = False  # the model ends there
        self._control: RunControl | None = None

    def ask(
        self,
        text: str,
        model: str,
        submit: Callable[[r.ModelRequest, Callable[[int, list[Any]], None]], int],
        heard: Callable[[], None],
    ) -> None:
        """Have `text` continued; `heard` is called when there is more of it."""
        self.stop()
        self.after = text
        control = self._control = RunControl(SamplingConfig(greedy=True))

        def grown(job: int, events: list[Any]) -> None:
            if control is not self._control:  # another text was asked for meanwhile
                return
            for event in events:
                match event:
                    case Emitted(_, step):
                        self.text += "" if step.special else step.text
                        self.bits -= (step.logprob or 0.0) / LN2
                    case Done(_, reason):
                        self.whole = reason in ("eot", "stop")
            heard()

        submit(r.Generate(model, Prompt(parts=(text,)), control, max_tokens=LONGEST), grown)

    def stop(self) -> None:
        """Break off and forget the continuation: the model is needed elsewhere, or the text has changed."""
        if self._control is not None:
            self._control.cancel()
        self._control, self.after, self.text, self.bits, self.whole = None, "", "", 0.0, False
