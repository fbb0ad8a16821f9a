"""Places in the tree by scripted models: what one says, where it goes back to, and several of them, against tables."""

import numpy as np
import pytest

from likely.engine.base.errors import ContextOverflow
from likely.engine.decode.loop.branches import Branches
from likely.engine.decode.loop.events import Forked, Pruned
from likely.metal import mx
from tests.fakes import FakeCache, MarkovModel, random_table
from tests.support.decoding import at

TABLE = random_table(3, 1.0)


def same(found: mx.array, want: object) -> None:
    np.testing.assert_allclose(np.array(found), TABLE[np.array(want)], rtol=1e-6)


def test_no_more_is_read_than_there_are_positions() -> None:
    place = at(MarkovModel(TABLE, context=5), [1, 2, 3])
    with pytest.raises(ContextOverflow, match="the text has 6 tokens and this model reads at most 5"):
        list(place.read([4, 5, 6]))
    assert place.length == 3 and list(place.read([4, 5])) == [2]


def test_logits_of_every_position_can_be_had_again() -> None:
    place, ids = at(MarkovModel(TABLE), [5, 6, 7]), [5, 6, 7, 8, 9]
    list(place.read([8, 9]))
    for start, end in ((0, 5), (0, 1), (2, 4), (4, 5), (3, 5), (1, 3)):
        same(place.logits_at(start, end)[0], ids[start:end])
    same(place.logits()[0], 9)
    place.feed([[1, 2]])
    same(place.last_logits(2)[0], [1, 2])


def test_going_back_forgets_what_stood_behind() -> None:
    place = at(MarkovModel(TABLE), [5, 6, 7])
    for token in (8, 9):
        place.feed([token])
        place.settle([token])
    for length in (5, 6, 4, 2, 2, 0):
        place.rewind(length)
        kept = min(length, 5)
        assert place.length == place.cache.length == kept and place.ids == [[5, 6, 7, 8, 9][:kept]]
        if kept:
            same(place.logits()[0], place.ids[0][-1])
            same(place.logits_at(0, kept)[0], place.ids[0])
    assert place.straight


def test_what_was_read_in_one_go_is_straight() -> None:
    place = Branches(MarkovModel(TABLE), FakeCache())  # type: ignore[arg-type]
    assert place.straight
    list(place.read([1, 2, 3]))
    place.rewind(3)
    assert place.straight and place.fork().straight
    place.rewind(2)
    assert not place.straight and not place.fork().straight
    place.rewind(0)
    list(place.read([1]))
    assert place.straight
    place.feed([4])
    assert not place.straight


def test_branches_keep_their_numbers_and_new_ones_have_new() -> None:
    place = at(MarkovModel(TABLE), [1, 2])
    place.select([0])
    assert place.numbers == [0] and place.trunk is None
    assert list(place.part([0, 0, 0])) == [Forked(0, 1), Forked(0, 2)] and place.numbers == [0, 1, 2]
    trunk = place.trunk
    assert trunk is not None and trunk.ids == [[1, 2]] and len(trunk) == 1 and len(place) == 3
    place.feed([3, 4, 5])
    place.settle([3, 4, 5])
    same(place.logits(), [3, 4, 5])
    assert list(place.part([2, 1, 1])) == [Forked(1, 3), Pruned(0)] and place.numbers == [2, 1, 3]
    assert place.ids == [[1, 2, 5], [1, 2, 4], [1, 2, 4]] and place.trunk is trunk
    same(place.logits(), [5, 4, 4])
    same(place.logits_at(0, 3), place.ids)
    assert place.name() == 4 and place.name() == 5
    place.feed([[6, 7], [8, 9], [10, 11]])
    same(place.last_logits(1)[:, 0], [7, 9, 11])
    mixed = place.fork()
    mixed.feed([7, mx.array(8), 9])
    same(mixed.logits(), [7, 8, 9])
    twin = place.fork()
    assert twin.numbers == [2, 1, 3] and twin.name() == 6 and place.name() == 6 and twin.ids == place.ids
    place.select([0])
    assert twin.ids[1] == [1, 2, 4] and list(place.part([0, 0])) == [Forked(2, 7)]
