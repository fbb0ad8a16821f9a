"""Places that are kept: which one a text goes on from, what is let go of, and what keys and values may take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import pool
from engine.decode.branches import Branches
from engine.errors import CacheError, OutOfMemory
from engine.pool import Pool
from metal import mx
from models.cache import RowSize
from tests.fakes import FakeCache, MarkovModel

TEXT = list(range(100, 180))


class Counting(FakeCache):
    """A cache of a byte for each number of a position, which goes back no further than `far`."""

    far: int | None = None
    asked: list[tuple[int, RowSize, int]]

    @property
    def room(self) -> int:
        return self.length if self.far is None else self.far

    def needs(self, positions: int, row: RowSize, chunk: int) -> int:
        self.asked.append((positions, row, chunk))
        return positions * row.numbers * row.size


class Model(MarkovModel):
    """With heads, so that bytes can be counted."""

    def __init__(self, context: int = 4096, far: int | None = None) -> None:
        super().__init__(np.zeros((4, 4)), context)
        self.config = SimpleNamespace(context=context, kv_heads=2, head_size=8)
        self.dtype, self.arrays = mx.float16, {"a": mx.zeros(10), "b": mx.zeros(5)}
        self.far, self.asked, self.made = far, list[Any](), list[dict[str, Any]]()

    def make_cache(self, **how: Any) -> Counting:
        self.made.append(how)
        cache = Counting()
        cache.far, cache.asked = self.far, self.asked
        return cache


def made(**more: Any) -> Any:
    return Pool(Model(**{k: more.pop(k) for k in ("context", "far") if k in more}), **more)  # type: ignore[arg-type]


def visit(of: Any, ids: list[int]) -> Branches:
    """A place that has read a text, in the pool."""
    place: Branches = of.acquire(ids)
    for _ in place.read(ids[place.length :]):
        pass
    return place


def test_a_text_goes_on_from_its_longest_beginning() -> None:
    first = made()
    one = visit(first, [1, 2, 3])
    assert first.acquire([1, 2, 3, 4]) is one and one.length == 3
    assert first.acquire([1, 2, 7]) is one and one.ids == [[1, 2]]  # close by: it is taken back, and not copied
    assert first.places == [one] and first.model.read == 3
    assert first.acquire([1, 5, 7]) is one and one.ids == [[1]]


def test_what_is_far_back_is_a_copy() -> None:
    for tokens, copied in ((pool.FORK_ABOVE, False), (pool.FORK_ABOVE + 1, True)):
        kept = made()
        place = visit(kept, TEXT[: tokens + 2])
        again = kept.acquire([*TEXT[:2], 1])
        assert (again is not place) == copied and again.ids == [TEXT[:2]] and again.length == 2
        assert kept.places == ([place, again] if copied else [again])
        assert place.length == (tokens + 2 if copied else 2)


def test_the_longest_of_several_is_taken_and_stays_the_newest() -> None:
    kept = made()
    places = [visit(kept, TEXT[: 10 + n] + [n] * 40) for n in range(3)]
    assert kept.places == places
    found = kept.acquire(TEXT[:11] + [1] * 40)
    assert found is places[1] and kept.places == [places[0], places[2], places[1]]
    nothing = kept.acquire([7, 7])
    assert nothing not in places and nothing.length == 0 and kept.places[-1] is nothing


def test_a_place_that_has_read_nothing_serves_any_text() -> None:
    kept = made()
    empty = kept.acquire([1, 2])
    assert kept.acquire([5]) is empty and kept.places == [empty]


def test_no_more_places_are_kept_than_may_be() -> None:
    for more, most in (({}, 4), ({"kept": 2}, 2), ({"kept": 3, "kv_budget": 10**9}, 1)):
        kept = made(**more)
        places = [visit(kept, [n] * 40) for n in range(6)]
        assert kept.places == places[-most:]


def test_a_place_that_is_leased_or_cannot_go_back_is_left_alone() -> None:
    kept = made()
    place = visit(kept, [1, 2, 3])
    kept.leased.append(place)
    other = kept.acquire([1, 2, 3])
    assert other is not place and other.ids == [[1, 2, 3]] and place.ids == [[1, 2, 3]]
    sliding = made(far=1)
    one = visit(sliding, [1, 2, 3])
    assert sliding.acquire([1, 2]) is one
    again = made(far=1)
    one = visit(again, [1, 2, 3])
    assert again.acquire([1, 5]) is not one and one.length == 3


def test_a_place_that_cannot_go_back_hides_no_other() -> None:
    kept = made()
    stuck, free = visit(kept, [1, 2, *[8] * 40]), visit(kept, [1, 2, *[9] * 40])
    stuck.cache.far = 0  # type: ignore[attr-defined]
    assert kept.acquire([1, 2, 8, 7]).ids == [[1, 2]] and stuck.length == free.length == 42


def test_beginnings_are_kept_of_what_is_still_a_place_of_the_pool() -> None:
    told: list[Any] = []
    prefixes: Any = SimpleNamespace(keep=lambda place: told.append(list(place.ids[0])), restore=lambda ids, place: 0)
    kept = made(prefixes=prefixes)
    place = kept.acquire(TEXT[:20])
    assert list(kept.read(place, TEXT[:20])) == [20] and told == [TEXT[:20]]
    kept.forget()
    assert list(kept.read(place, TEXT[:30])) == [10] and len(told) == 1


def test_a_short_beginning_gives_way_to_what_is_kept_of_more() -> None:
    """A segment of 64 tokens: with so many in common the place itself goes on."""
    restored: list[int] = []
    prefixes: Any = SimpleNamespace(keep=lambda place: None, restore=lambda ids, place: restored.append(len(ids)))
    for common, fresh in ((63, True), (64, False)):
        kept = made(prefixes=prefixes)
        place = visit(kept, TEXT[:70])
        restored.clear()
        again = kept.acquire([*TEXT[:common], 1])
        assert (again is not place) == fresh and restored == ([common + 1] if fresh else [])


def test_places_leave_where_they_take_too_many_bytes() -> None:
    kept = made(kept=9, kept_nbytes=250)
    for i in range(4):
        visit(kept, [i, 1, 2]).cache.nbytes = 100  # type: ignore[misc]
    assert [place.ids[0][0] for place in kept.places] == [1, 2, 3], (
        "the last has not been read when others leave for it"
    )
    visit(kept, [9])
    assert [place.ids[0][0] for place in kept.places] == [2, 3, 9]


def test_caches_are_made_as_was_said() -> None:
    kept = made(bits=4)
    kept.acquire([1])
    assert kept.model.made == [{"bits": 4}]


def test_a_place_is_found_that_has_read_all_of_a_text() -> None:
    kept = made()
    one, two = visit(kept, [1, 2, 3]), visit(kept, [*[4] * 40, 5])
    assert kept.find([1, 2]) is one and kept.find([1, 2, 3]) is one and kept.find([1, 2, 3, 4]) is None
    assert kept.find([4] * 40) is two and kept.find([2]) is None and kept.find([]) is one
    one.feed([7])  # in flight: it has no name yet
    assert kept.find([1, 2, 3, 7]) is None and kept.find([1, 2, 3]) is one
    compiled = kept.step
    kept.step = SimpleNamespace(forget=lambda: kept.places.append(one))
    kept.forget()
    assert kept.places == [one]  # what was compiled is dropped too
    kept.step = compiled
    kept.forget()
    assert kept.places == [] and kept.find([1]) is None


def test_bytes_are_those_of_all_caches() -> None:
    kept = made()
    for n, place in enumerate([visit(kept, [1] * 40), visit(kept, [2] * 40)]):
        place.cache.nbytes = 10 + n  # type: ignore[misc]
    assert kept.nbytes == 21


def test_a_run_of_several_leaves_the_place_where_it_was_one() -> None:
    kept = made()
    with kept.lease([1, 2], 5) as (place, reach):
        for _ in kept.read(place, [1, 2]):
            pass
        assert kept.leased == [place] and kept.places == [place]
        place.select([0, 0])
        place.feed([3, 4])
        reach()
        assert kept.find([1, 2]) is place.trunk
    assert kept.leased == [] and kept.places == [place.trunk] and kept.places[0].ids == [[1, 2]]
    with pytest.raises(ZeroDivisionError), kept.lease([1, 2], 5) as (again, _):
        assert again is place.trunk
        raise ZeroDivisionError
    assert kept.leased == [] and kept.places == [again]
    with kept.lease([9] * 3, 5) as (other, _):
        other.select([0, 0])
    assert kept.places == [again, other.trunk]


# -- bytes -----------------------------------------------------------------------------------------------------------


def test_tokens_of_a_budget_are_those_whose_keys_and_values_fit() -> None:
    """A position takes 2 heads of 8 numbers of 2 bytes in this cache: 32."""
    free = made(context=100)
    assert free.token_budget(30, 1) == 70 and free.token_budget(99, 3) == 1 and free.model.asked == []
    tight = made(context=100, kv_budget=32 * 40)
    assert tight.token_budget(30, 1) == 10 and tight.token_budget(39, 1) == 1
    assert tight.token_budget(30, 2) == 5 and tight.token_budget(30, 3) == 3 and tight.token_budget(30, 10) == 1
    assert made(context=35, kv_budget=32 * 40).token_budget(30, 1) == 5
    rows = {(row.numbers, row.size) for _, row, _ in tight.model.asked}
    assert rows == {(16, 2)} and {chunk for _, _, chunk in tight.model.asked} == {512}
    with pytest.raises(OutOfMemory, match=r"30 tokens take 0.00131 MB, the budget is 0.00128 MB"):
        tight.token_budget(30, 11)
    with pytest.raises(OutOfMemory, match="40 tokens take"):
        tight.token_budget(40, 1)
    with pytest.raises(OutOfMemory, match="31 tokens"):
        tight.token_budget(31, 10)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that are to be resident, as they were asked for."""
    found: list[int] = []

    @contextmanager
    def wired(nbytes: int) -> Iterator[Callable[[int], None]]:
        found.append(nbytes)
        yield found.append

    monkeypatch.setattr(pool, "wired", wired)
    monkeypatch.setattr(pool, "device", lambda: SimpleNamespace(working_set=1, memory=0))
    return found


FIXED = pool.SPARE + 4 * 15


def test_what_is_resident_goes_ahead_of_what_is_drawn(asked: list[int]) -> None:
    """Weights, and keys and values a thousand tokens on; asked for again with less than five hundred left."""
    kept = made()
    with kept.lease([1, 2], 1700) as (place, reach):
        for _ in kept.read(place, [1, 2]):
            pass
        assert asked == [FIXED + 32 * (2 + 1000)]
        for drawn, told in ((1, []), (500, []), (501, [2 + 1501]), (1001, []), (1002, [2 + 1700]), (1690, [])):
            before = len(asked)
            place._rows = 2 + drawn
            reach()
            assert asked[before:] == [FIXED + 32 * each for each in told], drawn
        place._rows = 2
    short = made()
    with short.lease([1, 2, 3], 4) as (_, reach):
        reach()
    assert asked[-1] == FIXED + 32 * 7


def test_several_branches_hold_their_prompt_once(asked: list[int]) -> None:
    with made().lease([1, 2, 3], 4, 5):
        pass
    assert asked == [FIXED + 32 * (3 + 5 * 4)]


def test_a_cache_that_does_not_say_what_it_takes_counts_for_nothing(
    asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> int:
        raise CacheError("not ours")

    monkeypatch.setattr(Counting, "needs", none)
    with made().lease([1], 4):
        pass
    assert asked == [FIXED]


def test_where_nothing_is_resident_nothing_is_counted() -> None:
    kept = made()
    with kept.lease([1], 4):
        pass
    assert kept.model.asked == []
