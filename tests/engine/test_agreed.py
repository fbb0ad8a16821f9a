"""Ranks that draw together, with the others' part played by a script."""

from collections import deque
from collections.abc import Generator
from typing import Any, cast

import pytest

from engine.decode.control import RunControl
from engine.decode.cursor import Cursor
from engine.decode.lockstep import Lockstep
from engine.errors import RanksDiffer
from engine.ranks.together import Ranks
from engine.trace.trace import Recipe, TokenStep
from engine.transforms import Vocabulary


class Said:
    """Rank 0's part: what it says for each value that this rank has."""

    def __init__(self, *values: Any) -> None:
        self.values, self.heard = deque(values), []

    def say(self, value: Any) -> Any:
        self.heard.append(value)
        return self.values.popleft() if self.values else value


class Counting:
    """Draws 0, 1, 2, ..."""

    closed = False

    def steps(
        self, cursor: Cursor, control: RunControl, *, seed: int, limit: int, vocabulary: Vocabulary | None = None
    ) -> Generator[TokenStep, None, None]:
        try:
            for i in range(limit):
                yield TokenStep(i, b"", "", None, None, None, None, None, i, Recipe(), None, None, 0, origin="drawn")
        finally:
            self.closed = True


def steps(said: Said, asked: RunControl, control: RunControl, strategy: Counting) -> Generator[TokenStep, None, None]:
    agreed = Lockstep(cast(Ranks, said), strategy, asked)
    return agreed.steps(cast(Cursor, None), control, seed=0, limit=5)


def test_what_all_draw_is_drawn() -> None:
    said, control = Said(), RunControl()
    assert [step.token for step in steps(said, RunControl(), control, Counting())] == [0, 1, 2, 3, 4]
    assert said.heard == [[i, False] for i in range(5)] and not control.cancelled


def test_a_token_that_differs_from_rank_0s_is_an_error() -> None:
    strategy = Counting()
    with pytest.raises(RanksDiffer, match="token 1 was drawn here and 7 on rank 0"):
        list(steps(Said([0, False], [7, False]), RunControl(), RunControl(), strategy))
    assert strategy.closed


def test_rank_0_cancels_for_all_and_at_its_step() -> None:
    asked, control = RunControl(), RunControl()
    run = steps(Said([0, False], [1, True]), asked, control, Counting())
    next(run)
    asked.cancel()  # here, by whatever: it counts when rank 0 says so
    assert not control.cancelled
    next(run)
    assert control.cancelled
