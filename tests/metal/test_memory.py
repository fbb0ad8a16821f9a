"""Memory that stays resident, and how much may lie dead; with a fake device."""

from collections.abc import Callable

import pytest

from metal import memory, mx
from tests.metal.conftest import GIB


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The wired limits so far; it begins at 7."""
    found = [7]

    def set_limit(limit: int) -> int:
        found.append(limit)
        return found[-2]

    monkeypatch.setattr(mx, "set_wired_limit", set_limit)
    return found


def test_memory_is_wired_while_it_is_used(chip: Callable[..., None], limits: list[int]) -> None:
    chip("Apple M4")
    with pytest.raises(ValueError, match="inside"), memory.wired(5 * GIB):
        assert limits == [7, 5 * GIB]
        raise ValueError("inside")
    with memory.wired(50 * GIB):
        assert limits[-1] == 12 * GIB  # no more than the chip recommends
    assert limits == [7, 5 * GIB, 7, 12 * GIB, 7]


def test_more_is_asked_for_when_nothing_is_in_flight(
    chip: Callable[..., None], limits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chip("Apple M4")
    waited: list[int] = []
    monkeypatch.setattr(mx, "synchronize", lambda: waited.append(limits[-1]))
    with memory.wired(3 * GIB) as ask, memory.wired(2 * GIB):
        ask(4 * GIB)
        assert waited == [3 * GIB] and limits[-1] == 4 * GIB
        ask(50 * GIB)
        assert limits[-1] == 12 * GIB
    assert limits[-1] == 7


def test_users_that_overlap_end_in_any_order(chip: Callable[..., None], limits: list[int]) -> None:
    chip("Apple M4")
    first, second = memory.wired(3 * GIB), memory.wired(2 * GIB)
    first.__enter__()
    second.__enter__()
    assert limits[-1] == 3 * GIB
    first.__exit__(None, None, None)
    assert limits[-1] == 2 * GIB
    second.__exit__(None, None, None)
    assert limits[-1] == 7


@pytest.mark.skipif(mx.metal.is_available(), reason="the other tests have a fake Mac")
def test_nothing_is_wired_without_metal(limits: list[int]) -> None:
    with memory.wired(1) as ask:
        ask(2)
        assert limits == [7]


def test_what_mlx_keeps_is_bounded_on_a_mac(chip: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[int] = []
    monkeypatch.setattr(mx, "set_cache_limit", bounds.append)
    memory.bound()
    assert not bounds or mx.metal.is_available()  # a CPU's own limit is small
    chip("Apple M4")
    memory.bound()
    assert bounds[-1] == GIB


@pytest.mark.parametrize(("memory_", "bound"), [(16 * GIB, GIB), (256 << 20, 32 << 20), (1 << 30, 64 << 20)])
def test_a_sixteenth_of_the_memory_may_lie_dead_and_a_little_always(
    memory_: int, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[int] = []
    monkeypatch.setattr(mx, "set_cache_limit", bounds.append)
    monkeypatch.setattr(memory, "device", lambda: FakeDevice(memory_))
    memory.bound()
    assert bounds == [bound]
    monkeypatch.setattr(memory, "device", lambda: FakeDevice(0))
    memory.bound()
    assert bounds == [bound]


class FakeDevice:
    """A device with so much memory."""

    def __init__(self, memory: int) -> None:
        self.memory = memory


@pytest.mark.parametrize(
    ("dead", "held", "cleared"),
    [(32 << 20, 0, False), ((32 << 20) + 1, 0, True), (100 << 20, 600 << 20, False), ((100 << 20) + 1, 600 << 20, True),
     (32 << 20, 100 << 20, False)],
)  # fmt: skip
def test_freed_buffers_go_back_where_they_are_more_than_a_sixth_of_what_is_held(
    dead: int, held: int, cleared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    monkeypatch.setattr(mx, "get_cache_memory", lambda: dead)
    monkeypatch.setattr(mx, "clear_cache", lambda: done.append(1))
    memory.trim(held)
    assert done == [1] * cleared
