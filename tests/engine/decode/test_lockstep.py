"""Ranks that draw together, with the others' part played by a script."""

from collections import deque
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from typing import Any, cast

import pytest

from likely.engine.decode.branches import Branches
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Emitted, Event, Forked, Pruned, Rated
from likely.engine.decode.lockstep import Lockstep
from likely.engine.decode.sampler import Sampler
from likely.engine.decode.strategy import Steps, Strategy
from likely.engine.errors import RanksDiffer
from likely.engine.ranks import Ranks
from likely.engine.trace.step import Recipe, TokenStep


class Told:
    """Rank 0's part: what it says for each value that this rank has."""

    def __init__(self, *values: Any) -> None:
        self.values, self.heard = deque(values), []

    def broadcast(self, value: Any) -> Any:
        self.heard.append(value)
        return self.values.popleft() if self.values else value


@dataclass(frozen=True)
class Counting(Strategy):
    """Draws 0, 1, 2, ... in each branch."""

    branches: int = 1
    closed: list[bool] = field(default_factory=list)

    def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
        try:
            for i in range(limit):
                for branch in range(self.branches):
                    yield Emitted(
                        branch,
                        TokenStep(i, b"", "", None, None, None, None, None, i, Recipe(), None, None, 0, origin="drawn"),
                    )
        finally:
            self.closed.append(True)


def run(told: Told, asked: RunControl, control: RunControl, strategy: Counting) -> Iterator[Emitted]:
    agreed = Lockstep(cast(Ranks, told), strategy, asked)
    events = agreed.steps(cast(Branches, None), cast(Sampler, None), control, limit=5)
    return (event for event in events if isinstance(event, Emitted))


@dataclass(frozen=True)
class Saying(Strategy):
    """Gives these events."""

    events: tuple[Event, ...] = ()

    def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
        yield from self.events


@pytest.mark.parametrize(
    ("event", "there", "line"),
    [
        (Pruned(3), [2], r"Pruned \[3\] came of the run here and \[2\] on rank 0"),
        (Rated(1, {}), [2], r"Rated \[1\] came"), (Forked(0, 4), [0, 5], r"Forked \[0, 4\] came"),
    ],
)  # fmt: skip
def test_what_becomes_of_branches_is_compared(event: Event, there: list[int], line: str) -> None:
    def run(there: list[int]) -> list[Event]:
        agreed = Lockstep(cast(Ranks, Told([*there, False])), Saying((event,)), RunControl())
        return list(agreed.steps(cast(Branches, None), cast(Sampler, None), RunControl(), limit=5))

    assert run([*astuple(event)][: len(there)]) == [event]
    with pytest.raises(RanksDiffer, match=line):
        run(there)


def test_what_all_draw_is_drawn() -> None:
    told, control = Told(), RunControl()
    assert [event.step.token for event in run(told, RunControl(), control, Counting())] == [0, 1, 2, 3, 4]
    assert told.heard == [[0, i, False] for i in range(5)] and not control.cancelled


def test_a_token_that_differs_from_rank_0s_is_an_error() -> None:
    strategy = Counting()
    with pytest.raises(RanksDiffer, match="token 1 was drawn here and 7 on rank 0"):
        list(run(Told([0, 0, False], [0, 7, False]), RunControl(), RunControl(), strategy))
    assert strategy.closed


def test_every_branch_is_compared() -> None:
    same, other = [[b, 0, False] for b in range(3)], [[0, 1, False], [1, 8, False]]
    with pytest.raises(RanksDiffer, match="of branch 1: token 1 was drawn here and 8 on rank 0"):
        list(run(Told(*same, *other), RunControl(), RunControl(), Counting(3)))


def test_rank_0_cancels_for_all_and_at_its_step() -> None:
    asked, control = RunControl(), RunControl()
    events = run(Told([0, 0, False], [0, 1, True]), asked, control, Counting())
    next(events)
    asked.cancel()  # here, by whatever: it counts when rank 0 says so
    assert not control.cancelled
    next(events)
    assert control.cancelled
