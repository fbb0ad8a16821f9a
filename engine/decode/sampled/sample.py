"""`Sample`: ancestral sampling, one forward pass a token. With a greedy recipe, the most likely token instead.

The next step is queued before the current one is looked at, so that collecting what the model said happens in the
shadow of the computation. All branches go one token down in one pass; one that is over leaves it.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Waiting
from likely.engine.decode.loop.strategy import Steps, Strategy

if TYPE_CHECKING:
    from likely.engine.decode.loop.branches import Branches
    from likely.engine.decode.loop.sampler import Draw, Sampler

WARY = 8  # tokens drawn the longer way after one that the kernel could not draw


@dataclass(frozen=True, slots=True)
class Sample(Strategy):
    """Draw each token from the model's distribution after the transforms of the control's recipe."""

    NAME: ClassVar[str] = "sample"
    TITLE: ClassVar[str] = "one by one"
    ABOUT: ClassVar[str] = "a pass of the model for each"

    @property
    def words(self) -> str:
        return ""

    def steps(self, branches: "Branches", sampler: "Sampler", control: RunControl, *, limit: int) -> Steps:
        """At most `limit` tokens of each branch; one that the control forces is forced on all."""
        wary = 0

        def queue(draws: "Sequence[Draw]") -> "Generator[Waiting, bool | None, tuple[Sampler, list[Draw]] | None]":
            """Feed the tokens, and draw those behind them where that needs nothing of the host."""
            yield from branches.descend([d.token for d in draws])
            ahead = sampler.ahead(draws, control)
            if ahead is None:
                branches.queue()
                return None
            following = ahead.draw(branches, control.take_forced(), kernel=not wary, flying=[d.token for d in draws])
            ahead.queue(following)
            return ahead, following

        draws = sampler.draw(branches, control.take_forced())
        try:
            for n in range(1, limit + 1):
                # what a host has just read is still in its caches; what is in flight is looked at behind the next pass
                known = sampler.observe(draws, branches.ids) if draws[0].known else None
                queued = (yield from queue(draws)) if n < limit else None
                wary = max(0, wary - 1)
                if any(d.spilled for d in draws):
                    if queued is not None and queued[1][0].origin == "forced":
                        control.put_back(int(queued[1][0].token))
                    branches.rewind(len(branches.ids[0]))
                    wary = WARY
                    draws = sampler.redraw(draws)
                    queued = (yield from queue(draws)) if n < limit else None
                steps = known or sampler.observe(draws, branches.ids)
                if n < limit:
                    branches.settle([step.token for step in steps])
                kept = []
                for row, (number, step) in enumerate(zip(branches.numbers, steps, strict=True)):
                    if not (yield Emitted(number, step)):
                        kept.append(row)
                if n == limit or not kept:
                    return
                if len(kept) < len(steps):
                    branches.select(kept)
                    sampler, draws = sampler.select(kept), [draws[row] for row in kept]
                    if queued is not None:
                        queued = queued[0].select(kept), [queued[1][row] for row in kept]
                if queued is None:
                    sampler = sampler.advance(draws).follow(control, branches.ids)
                    queued = sampler, sampler.draw(branches, control.take_forced(), kernel=not wary)
                sampler, draws = queued
        finally:
            branches.rewind(len(branches.ids[0]))
