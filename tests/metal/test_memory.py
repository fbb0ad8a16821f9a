"""Memory that stays resident, and how much may lie dead; with a fake device."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from likely.metal import memory
from tests.metal.conftest import GIB

MIB = 1 << 20


class Wired:
    """What the device was told to keep resident, and the limits at which somebody waited for it; it begins at 7."""

    def __init__(self) -> None:
        self.limits, self.waited = [7], list[int]()

    def __call__(self, limit: int) -> int:
        self.limits.append(limit)
        return self.limits[-2]


@pytest.fixture
def wired(chip: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Wired]:
    """On a Mac that recommends 12 GiB."""
    chip("Apple M4")
    found = Wired()
    monkeypatch.setattr("mlx.core.set_wired_limit", found)
    monkeypatch.setattr("mlx.core.synchronize", lambda: found.waited.append(found.limits[-1]))
    yield found


def test_memory_is_wired_while_it_is_used(wired: Wired) -> None:
    with pytest.raises(ValueError, match="inside"), memory.wired(5 * GIB):
        assert wired.limits[-1] == 5 * GIB
        raise ValueError("inside")
    assert wired.limits[-1] == 7
    with memory.wired(50 * GIB):
        assert wired.limits[-1] == 12 * GIB  # no more than the chip recommends
    assert wired.limits[-1] == 7


def test_more_is_asked_for_when_nothing_is_in_flight(wired: Wired) -> None:
    with memory.wired(3 * GIB) as ask, memory.wired(2 * GIB):
        ask(4 * GIB)
        assert 3 * GIB in wired.waited and wired.limits[-1] == 4 * GIB
        ask(50 * GIB)
        assert wired.limits[-1] == 12 * GIB
    assert wired.limits[-1] == 7


def test_users_that_overlap_end_in_any_order(wired: Wired) -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(memory.wired(3 * GIB))
    second.enter_context(memory.wired(2 * GIB))
    assert wired.limits[-1] == 3 * GIB
    first.close()
    assert wired.limits[-1] == 2 * GIB
    second.close()
    assert wired.limits[-1] == 7


def test_nothing_is_wired_without_metal(wired: Wired, chip: Callable[..., None]) -> None:
    chip("")
    with memory.wired(1) as ask:
        ask(2)
    assert wired.limits == [7]


@pytest.mark.parametrize(
    ("held", "bound"), [(16 * GIB, [GIB]), (256 * MIB, [32 * MIB]), (GIB, [64 * MIB]), (0, [])], ids=str
)
def test_a_sixteenth_of_the_memory_may_lie_dead_and_a_little_always(
    held: int, bound: list[int], chip: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[int] = []
    monkeypatch.setattr("mlx.core.set_cache_limit", bounds.append)
    chip("Apple M4" if held else "", memory=held)
    memory.bound()
    assert bounds == bound


@pytest.mark.parametrize(
    ("dead", "held", "cleared"),
    [(32 * MIB, 0, False), (32 * MIB + 1, 0, True), (100 * MIB, 600 * MIB, False), (100 * MIB + 1, 600 * MIB, True),
     (32 * MIB, 100 * MIB, False)],
)  # fmt: skip
def test_freed_buffers_go_back_where_they_are_more_than_a_sixth_of_what_is_held(
    dead: int, held: int, cleared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    monkeypatch.setattr("mlx.core.get_cache_memory", lambda: dead)
    monkeypatch.setattr("mlx.core.clear_cache", lambda: done.append(1))
    memory.trim(lambda: held)
    assert done == [1] * cleared
