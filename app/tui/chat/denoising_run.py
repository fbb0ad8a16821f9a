"""A run of a diffusion model under way: its canvas fills in place, and its tokens are told when it ends.

It stands where a run that draws from left to right does (`LiveRun`), and never branches. No widgets.
"""

from collections.abc import Callable, Iterable
from typing import Any

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Failed
from likely.app.tui.chat.denoising import Denoising
from likely.app.tui.chat.live_run import CANCELLED, FAILED, LiveRun
from likely.engine.chat.conversation import Conversation
from likely.engine.decode.loop.control import RunControl
from likely.engine.sampling.trace.step import TokenStep
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasking


class DenoisingRun(LiveRun):
    """A run that fills the canvas of one node."""

    GROWS = False

    def __init__(
        self,
        node: str,
        control: RunControl,
        new_id: Callable[[], str],
        facts: r.ModelFacts,
        how: Unmasking,
        seed: int,
        denoising: Denoising | None = None,
    ) -> None:
        """`denoising` is the canvas that it goes on with, as a person has left it; None for a new one."""
        super().__init__(node, control, new_id)
        self.facts, self.how, self.seed, self.denoising = facts, how, seed, denoising
        self._finish = ""

    def take(self, talk: Conversation, events: Iterable[Any]) -> tuple[Conversation, list[TokenStep]]:
        """Take in events of the run's job: nothing is appended to what is on the screen."""
        assert self.facts.mask is not None
        self.turned, self.news = False, ""
        for event in events:
            match event:
                case r.CanvasLaid(ids, first):
                    self.ids = ids[:first]
                    talk = talk.began(self.node, self.ids)
                    if self.denoising is None:
                        self.denoising = Denoising.of(event, self.facts.mask, self.how, self.facts.name, self.seed)
                    else:
                        self.denoising.go_on(self.how, self.seed)
                case DenoisingStep() if self.denoising is not None:
                    self.denoising.add(event)
                case r.FillEnded(cancelled):
                    self._finish, self.ended = CANCELLED if cancelled else "length", True
                    if self.denoising is not None:
                        self.denoising.planned *= cancelled  # by now it is known how many there are
                case Failed():
                    self.failure, self.ended = event, True
        return talk, []

    def keep(self, talk: Conversation) -> Conversation:
        """The conversation as it is: the answer's tokens come out of order, and are told at its end."""
        return talk

    def close(self, talk: Conversation, finish: str) -> Conversation:
        """With what stands on the canvas; `finish` is how it ends where it has not."""
        steps: tuple[TokenStep, ...] = ()
        if self.denoising is not None:
            steps = self.denoising.token_steps(self.facts.vocabulary, self.control.recipe)
            if self._finish == "length" and steps and steps[-1].token in self.facts.eos:
                self._finish = "eot"
        finish = FAILED if self.failure is not None else self._finish or finish or CANCELLED
        self.nodes, self.ended = {}, True
        traces = self.denoising.traces(self.facts, finish) if self.denoising is not None else ()
        return talk.extend(self.node, steps, finish, denoising=traces)
