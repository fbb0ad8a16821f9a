"""The pace of a computation in pieces, by a clock of its own."""

import time

import pytest

from likely.engine.base.concurrency.pace import FIRST, LEAST, TURN_S, Pace


@pytest.mark.parametrize("unit_s", [1e-5, 0.0007, 0.006, 0.051, 3.0])
def test_a_piece_is_as_many_units_as_a_turn_lasts_and_no_fewer_than_the_least(
    unit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power of two; where one unit is longer than a turn, too."""
    now = [0.0]
    pace = Pace()
    assert pace.size == FIRST
    with monkeypatch.context() as patch:
        for clock in ("perf_counter", "process_time"):
            patch.setattr(time, clock, lambda: now[0])
        pace.begin()
        now[0] += unit_s * FIRST
        pace.took(FIRST)
    assert pace.size == max([LEAST, *(2**k for k in range(20) if 2**k * unit_s < TURN_S)])
