"""Places that are kept: which one a text goes on from, what is let go of, and what keys and values may take."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.engine.decode import pool
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.pool import Pool
from likely.metal import mx
from likely.models.caches.layer_cache import RowSize
from tests.fakes import FakeCache, MarkovModel

TEXT = list(range(100, 180))


class Counting(FakeCache):
    """A cache of a byte for each number of a position, which goes back no further than `far`."""

    far: int | None = None

    @property
    def room(self) -> int:
        return self.length if self.far is None else self.far

    def needs(self, positions: int, row: RowSize, chunk: int) -> int:
        return positions * row.numbers * row.size


class Model(MarkovModel):
    """With heads, so that bytes can be counted."""

    def __init__(self, far: int | None = None) -> None:
        super().__init__(np.zeros((4, 4)))
        self.config = SimpleNamespace(context=4096, kv_heads=2, head_size=8)
        self.dtype, self.arrays, self.far = mx.float16, {"a": mx.zeros(10), "b": mx.zeros(5)}, far

    def make_cache(self, **how: Any) -> Counting:
        cache = Counting()
        cache.far = self.far
        return cache


def made(far: int | None = None, **more: Any) -> Any:
    return Pool(Model(far), **more)  # type: ignore[arg-type]


def visit(of: Any, ids: list[int]) -> Branches:
    """A place that has read a text, in the pool."""
    place: Branches = of.acquire(ids)
    list(place.read(ids[place.length :]))
    return place


def test_a_text_goes_on_from_its_longest_beginning() -> None:
    """Close by it is taken back; far back it is a copy."""
    first = made()
    one = visit(first, [1, 2, 3])
    for ids, left in (([1, 2, 3, 4], [1, 2, 3]), ([1, 2, 7], [1, 2]), ([1, 5, 7], [1])):
        assert first.acquire(ids) is one and one.ids == [left]
    assert first.branches == [one] and first.model.read == 3
    for tokens, copied in ((pool.FORK_ABOVE, False), (pool.FORK_ABOVE + 1, True)):
        kept = made()
        place = visit(kept, TEXT[: tokens + 2])
        again = kept.acquire([*TEXT[:2], 1])
        assert (again is not place) == copied and again.ids == [TEXT[:2]] and again.length == 2
        assert kept.branches == ([place, again] if copied else [again])
        assert place.length == (tokens + 2 if copied else 2)


def test_the_longest_of_several_is_taken_and_stays_the_newest() -> None:
    kept = made()
    places = [visit(kept, TEXT[: 10 + n] + [n] * 40) for n in range(3)]
    assert kept.branches == places
    assert kept.acquire(TEXT[:11] + [1] * 40) is places[1] and kept.branches == [places[0], places[2], places[1]]
    nothing = kept.acquire([7, 7])
    assert nothing not in places and nothing.length == 0 and kept.branches[-1] is nothing
    for more, most in (({}, 4), ({"kept": 2}, 2), ({"kept": 3, "kv_budget": 10**9}, 1)):
        kept = made(**more)
        for n in range(6):
            visit(kept, [n] * 40)
        assert [place.ids[0][0] for place in kept.branches] == list(range(6))[-most:]
    kept = made(kept=9, kept_nbytes=250)
    for i in range(4):
        visit(kept, [i, 1, 2]).cache.nbytes = 100  # type: ignore[misc]
    for left in ([1, 2, 3], [2, 3, 9]):  # the last has not been read when others leave for it
        assert [place.ids[0][0] for place in kept.branches] == left
        visit(kept, [9])


def test_a_place_that_is_leased_or_cannot_go_back_is_left_alone_and_hides_no_other() -> None:
    kept = made()
    place = visit(kept, [1, 2, 3])
    kept.leased.append(place)
    other = kept.acquire([1, 2, 3])
    assert other is not place and other.ids == [[1, 2, 3]] and place.ids == [[1, 2, 3]]
    for ids, same in (([1, 2], True), ([1, 5], False)):
        sliding = made(far=1)
        one = visit(sliding, [1, 2, 3])
        assert (sliding.acquire(ids) is one) == same and one.length == (2 if same else 3)
    kept = made()
    stuck, free = visit(kept, [1, 2, *[8] * 40]), visit(kept, [1, 2, *[9] * 40])
    stuck.cache.far = 0  # type: ignore[attr-defined]
    assert kept.acquire([1, 2, 8, 7]).ids == [[1, 2]] and stuck.length == free.length == 42


def test_a_place_is_found_that_has_read_all_of_a_text() -> None:
    kept = made()
    one, two = visit(kept, [1, 2, 3]), visit(kept, [*[4] * 40, 5])
    for ids, place in (([1, 2], one), ([1, 2, 3], one), ([1, 2, 3, 4], None), ([4] * 40, two), ([2], None), ([], one)):
        assert kept.find(ids) is place
    one.feed([7])  # in flight: it has no name yet
    assert kept.find([1, 2, 3, 7]) is None and kept.find([1, 2, 3]) is one
    kept.forget()
    assert kept.branches == [] and kept.find([1]) is None


def test_a_run_of_several_leaves_the_place_where_it_was_one() -> None:
    kept = made()
    with kept.lease([1, 2], 5) as (place, reach):
        list(kept.read(place, [1, 2]))
        assert kept.leased == [place] and kept.branches == [place]
        place.select([0, 0])
        place.feed([3, 4])
        reach()
        assert kept.find([1, 2]) is place.trunk
    assert kept.leased == [] and kept.branches == [place.trunk] and kept.branches[0].ids == [[1, 2]]
    with pytest.raises(ZeroDivisionError), kept.lease([1, 2], 5) as (again, _):
        assert again is place.trunk
        raise ZeroDivisionError
    assert kept.leased == [] and kept.branches == [again]
