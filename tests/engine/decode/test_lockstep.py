"""Ranks that draw together, with the others' part played by a script."""

from collections import deque
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from typing import Any, cast

import pytest

from likely.engine.base.errors import RanksDiffer
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Emitted, Event, Forked, Pruned, Rated
from likely.engine.decode.loop.sampler import Sampler
from likely.engine.decode.loop.strategy import Steps, Strategy
from likely.engine.decode.sampled.lockstep import Lockstep
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep

NOTHING: Any = None


class Told:
    """Rank 0's part: what it says for each value that this rank has, and then the same."""

    def __init__(self, *values: Any) -> None:
        self.values = deque(values)

    def broadcast(self, value: Any) -> Any:
        return self.values.popleft() if self.values else value


@dataclass(frozen=True)
class Saying(Strategy):
    """Gives these events."""

    events: tuple[Event, ...] = ()
    closed: list[bool] = field(default_factory=list)

    def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
        try:
            yield from self.events
        finally:
            self.closed.append(True)


def drawn(branches: int = 1) -> Saying:
    """0, 1, 2, ... in each branch."""
    return Saying(tuple(
        Emitted(b, TokenStep(i, b"", "", None, None, None, None, None, i, SamplingConfig(), None, None, 0, origin="drawn"))  # noqa: E501
        for i in range(5) for b in range(branches)
    ))  # fmt: skip


def run(
    told: Told, strategy: Strategy, asked: RunControl | None = None, control: RunControl | None = None
) -> Iterator[Event]:
    agreed = Lockstep(cast(Any, told), strategy, asked or RunControl())
    return agreed.steps(NOTHING, NOTHING, control or RunControl(), limit=5)


@pytest.mark.parametrize(
    ("event", "there", "line"),
    [
        (Pruned(3), [2], r"Pruned \[3\] came of the run here and \[2\] on rank 0"),
        (Rated(1, {}), [2], r"Rated \[1\] came"), (Forked(0, 4), [0, 5], r"Forked \[0, 4\] came"),
    ],
)  # fmt: skip
def test_what_becomes_of_branches_is_compared(event: Event, there: list[int], line: str) -> None:
    same = [*astuple(event)][: len(there)]
    assert list(run(Told([*same, False]), Saying((event,)))) == [event]
    with pytest.raises(RanksDiffer, match=line):
        list(run(Told([*there, False]), Saying((event,))))


def test_a_token_that_differs_from_rank_0s_is_an_error() -> None:
    assert tuple(run(Told(), drawn(3))) == drawn(3).events
    strategy = drawn()
    with pytest.raises(RanksDiffer, match="token 1 was drawn here and 7 on rank 0"):
        list(run(Told([0, 0, False], [0, 7, False]), strategy))
    assert strategy.closed
    same, other = [[b, 0, False] for b in range(3)], [[0, 1, False], [1, 8, False]]
    with pytest.raises(RanksDiffer, match="of branch 1: token 1 was drawn here and 8 on rank 0"):
        list(run(Told(*same, *other), drawn(3)))


def test_rank_0_cancels_for_all_and_at_its_step() -> None:
    asked, control = RunControl(), RunControl()
    events = run(Told([0, 0, False], [0, 1, True]), drawn(), asked, control)
    next(events)
    asked.cancel()  # here, by whatever: it counts when rank 0 says so
    assert not control.cancelled
    next(events)
    assert control.cancelled
