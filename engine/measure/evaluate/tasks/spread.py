"""Spread of an evaluation over ranks: each asks its share of the items, and rank 0 hears of all of them as they come.

Every rank has the whole model and the same items; what is asked of one item depends on no other, so that the results
are those of one process, but for rounding where texts are read side by side with others.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from likely.engine.base.errors import ParameterError
from likely.engine.measure.evaluate.tasks.tasks import Outcome, Problem, Result

if TYPE_CHECKING:
    from likely.engine.base.distributed import Ranks


@dataclass(frozen=True, slots=True)
class OutOfShare(Container[int]):
    """Numbers of items that a rank does not ask: those of others, and those that are known."""

    rank: int
    size: int
    known: Container[int]

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        return number % self.size != self.rank or number in self.known


def spread(
    ranks: "Ranks", asked: str, known: set[int], ask: Callable[[Container[int]], Iterator[Outcome]]
) -> Iterator[Outcome]:
    """On rank 0 everyone's outcomes, in any order; on the others none. Every rank calls it.

    `ask`: the outcomes of items that are not in its argument. `asked` is all that a score depends on; ParameterError on
    a rank where that is not as on rank 0. `known` is rank 0's.
    """
    of_leader, done = ranks.broadcast([asked, sorted(known)])
    if of_leader != asked:
        raise ParameterError("other weights, items or another version than on rank 0: make them equal")
    outcomes = ask(OutOfShare(ranks.rank, ranks.size, frozenset(done)))
    mine = (outcome for outcome in outcomes if outcome.number % ranks.size == ranks.rank)
    if not ranks.leads:
        for outcome in mine:
            ranks.send([isinstance(outcome, Problem), asdict(outcome)])
        ranks.send(None)
        return
    at_work = ranks.size - 1
    for own in mine:
        yield own
        for message in ranks.heard():
            at_work -= message is None
            yield from _outcome(message)
    while at_work:
        for message in ranks.heard(wait=True):
            at_work -= message is None
            yield from _outcome(message)


def _outcome(message: list[object] | None) -> Iterator[Outcome]:
    if message is not None:
        problem, values = message
        yield (Problem if problem else Result)(**values)  # type: ignore[arg-type]
