"""An evaluation spread over ranks: who asks what, and what rank 0 hears."""

from collections.abc import Iterator
from typing import Any

import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.measure.evaluate.tasks.spread import OutOfShare, spread
from likely.engine.measure.evaluate.tasks.tasks import Problem, Result


class Rank:
    """One of several: what rank 0 says and what others have sent by then is given."""

    def __init__(self, rank: int, size: int, told: Any = None, heard: list[list[Any]] | None = None) -> None:
        self.rank, self.size, self.leads = rank, size, rank == 0
        self.told, self.sent, self.batches = told, [], list(heard or [])  # type: ignore[var-annotated]

    def broadcast(self, value: Any) -> Any:
        self.told = value if self.leads else self.told
        return self.told

    def send(self, value: Any) -> None:
        self.sent.append(value)

    def heard(self, *, wait: bool = False) -> Iterator[Any]:
        yield from self.batches.pop(0) if self.batches else []


OUTCOMES = [
    Result(i, "c", {"acc": i / 2}, {"more": i}) if i % 3 else Problem(i, "empty", "w", i == 3) for i in range(8)
]


def ask(done: Any) -> Iterator[Any]:
    return (each for each in OUTCOMES if each.number not in done or isinstance(each, Problem))


def test_a_rank_asks_its_share_of_what_is_not_known() -> None:
    share = OutOfShare(1, 3, {4})
    assert [n for n in range(9) if n not in share] == [1, 7]
    assert [n for n in range(4) if n not in OutOfShare(0, 1, ())] == [0, 1, 2, 3]


@pytest.mark.parametrize("known", [set(), {1, 2, 6}])
def test_each_outcome_comes_to_rank_0_once_from_whoever_has_its_share(known: set[int]) -> None:
    """What the others send goes through what rank 0 hears, in parts of any size."""
    others = [Rank(rank, 3, ["id", sorted(known)]) for rank in (1, 2)]
    assert [list(spread(each, "id", set(), ask)) for each in others] == [[], []]  # type: ignore[arg-type]
    first, second = (each.sent for each in others)
    assert first[-1] is second[-1] is None
    head = Rank(0, 3, heard=[first[:1], [], [*first[1:], *second[:1]], second[1:]])
    found = list(spread(head, "id", known, ask))  # type: ignore[arg-type]
    assert head.told == ["id", sorted(known)] and not head.batches
    wanted = [each for each in OUTCOMES if each.number not in known or isinstance(each, Problem)]
    assert sorted(found, key=lambda each: each.number) == wanted
    with pytest.raises(ParameterError, match="other weights, items or another version than on rank 0"):
        list(spread(Rank(1, 2, ["other", []]), "id", set(), ask))  # type: ignore[arg-type]
