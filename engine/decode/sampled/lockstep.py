"""`Lockstep`: another strategy on several ranks at once, which all draw the same and stop at the same token.

Every rank draws for itself, from the same logits (`models.parallel`) and by the same hash of (seed, position). What
rank 0 does is said to the others all the same, for every branch: arithmetic that differs between two machines is an
error, not another text.
"""

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likely.engine.base.errors import RanksDiffer
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event, Forked, Pruned, Rated, Waiting
from likely.engine.decode.loop.strategy import Steps, Strategy

if TYPE_CHECKING:
    from likely.engine.base.distributed import Ranks
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Lockstep:
    """The steps of `strategy`; cancelling `outer` on rank 0 cancels the run on every rank after the same step."""

    ranks: "Ranks"
    strategy: Strategy
    outer: RunControl

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        """RanksDiffer where this rank did something else than rank 0."""
        with closing(self.strategy.steps(branches, sampler, control, limit=limit)) as steps:
            over = None
            while True:
                try:
                    event = steps.send(over)
                except StopIteration:
                    return
                if isinstance(event, Waiting):  # a turn for others, who are on this rank alone
                    over = yield event
                    continue
                here = _signature(event)
                *there, cancelled = self.ranks.broadcast([*here, self.outer.cancelled])
                if there != here:
                    raise RanksDiffer(_line(event, here, there))
                if cancelled:
                    control.cancel()
                over = yield event


def _signature(event: Event) -> list[int]:
    """The part of an event that ranks compare: which branches, and the token."""
    match event:
        case Emitted(branch, step):
            return [branch, step.token]
        case Forked(parent, child):
            return [parent, child]
        case Pruned(branch) | Rated(branch):
            return [branch]
    raise TypeError(f"a strategy gives no {type(event).__name__}")


def _line(event: Event, here: list[int], there: list[int]) -> str:
    mend = "their arithmetic differs; use machines of one kind, or --temp 0"
    if isinstance(event, Emitted) and len(there) == 2 and there[0] == here[0]:
        of = f" of branch {event.branch}" if event.branch else ""
        return f"position {event.step.position}{of}: token {here[1]} was drawn here and {there[1]} on rank 0: {mend}"
    return f"{type(event).__name__} {here} came of the run here and {there} on rank 0: {mend}"
