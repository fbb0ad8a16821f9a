"""An evaluation spread over ranks: who asks what, and what rank 0 hears."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from likely.engine.errors import ParameterError
from likely.engine.evaluate.evaluation import Result
from likely.engine.evaluate.spread import OutOfShare, spread
from likely.engine.evaluate.tasks import Problem


class Rank:
    """One of several, with what rank 0 says and hears."""

    def __init__(self, rank: int, size: int, told: Any = None, heard: list[list[Any]] | None = None) -> None:
        self.rank, self.size, self.leads = rank, size, rank == 0
        self.told, self.sent, self.said = told, [], []  # type: ignore[var-annotated]
        self.batches, self.waits = list(heard or []), []  # type: ignore[var-annotated]

    def broadcast(self, value: Any) -> Any:
        self.said.append(value)
        return value if self.leads else self.told

    def send(self, value: Any) -> None:
        self.sent.append(value)

    def heard(self, *, wait: bool = False) -> Iterator[Any]:
        self.waits.append(wait)
        yield from self.batches.pop(0) if self.batches else []


OUTCOMES = [
    Result(i, "c", {"acc": i / 2}, {"more": i}) if i % 3 else Problem(i, "empty", "w", i == 3) for i in range(8)
]


def asking(seen: list[Any]) -> Any:
    def ask(done: Any) -> Iterator[Any]:
        seen.append(done)
        return (each for each in OUTCOMES if each.number not in done or isinstance(each, Problem))

    return ask


def test_a_rank_asks_its_share_of_what_is_not_known() -> None:
    share = OutOfShare(1, 3, {4})
    assert [n for n in range(9) if n not in share] == [1, 7]
    assert [n for n in range(4) if n not in OutOfShare(0, 1, ())] == [0, 1, 2, 3]


def test_another_rank_sends_what_it_found_and_then_that_it_is_done() -> None:
    ranks, seen = Rank(1, 2, ["id", [5]]), []  # type: ignore[var-annotated]
    assert list(spread(ranks, "id", set(), asking(seen))) == []  # type: ignore[arg-type]
    assert seen == [OutOfShare(1, 2, frozenset({5}))]
    assert ranks.sent == [
        [False, asdict(OUTCOMES[1])], [True, asdict(OUTCOMES[3])], [False, asdict(OUTCOMES[7])], None
    ]  # fmt: skip
    with pytest.raises(ParameterError, match="other weights, items or another version than on rank 0"):
        list(spread(Rank(1, 2, ["other", []]), "id", set(), asking([])))  # type: ignore[arg-type]


def test_rank_0_yields_its_own_and_hears_all_others() -> None:
    def sent(number: int) -> Any:
        return [isinstance(OUTCOMES[number], Problem), asdict(OUTCOMES[number])]

    ranks = Rank(0, 3, heard=[[sent(1)], [], [None, sent(4)], [sent(5)], [sent(7), None]])
    found = list(spread(ranks, "id", {2}, asking(seen := [])))  # type: ignore[arg-type, var-annotated]
    assert ranks.said == [["id", [2]]] and seen == [OutOfShare(0, 3, frozenset({2}))]
    assert found == [OUTCOMES[n] for n in (0, 1, 3, 6, 4, 5, 7)]  # after each of its own what was sent by then
    assert ranks.waits == [False, False, False, True, True] and not ranks.batches and not ranks.sent
    alone = Rank(0, 1)
    assert list(spread(alone, "id", set(), asking([]))) == OUTCOMES and alone.waits == [False] * 8  # type: ignore[arg-type]
