"""The pace of guessing, step by step against values worked out by hand."""

import pytest

from engine.decode.draft_length import DraftLength


def paced(hope: tuple[float, float], *rounds: tuple[int, int, float]) -> DraftLength:
    pace = DraftLength(hope)
    for guessed, accepted, seconds in rounds:
        pace.record(guessed, accepted, seconds)
    return pace


def test_what_was_guessed_is_added_up_and_weighed() -> None:
    pace = DraftLength((3.0, 1.0))
    assert pace.rate == 0.75 and pace.pays and pace.length() == 0
    pace.record(0, 0, 1.0)
    assert (pace.rounds, pace.elapsed_s, pace.guessed, pace.accepted, pace.lost_s) == (1, 1.0, 0, 0, 0.0)
    assert pace.rate == 0.75
    pace.record(4, 3, 2.0)  # right 0.9 * 3 + 3, wrong 0.9 * 1 + 1; four tokens for two seconds
    assert (pace.rounds, pace.elapsed_s, pace.guessed, pace.accepted) == (2, 3.0, 4, 3)
    assert pace.rate == pytest.approx(5.7 / (5.7 + 1.9)) and pace.lost_s == pytest.approx(-2.0)
    pace.record(4, 4, 3.0)  # right 0.9 * 5.7 + 4, wrong 0.9 * 1.9
    assert pace.rate == pytest.approx(9.13 / (9.13 + 1.71)) and pace.lost_s == pytest.approx(-4.0)
    assert pace.guessed == 8 and pace.accepted == 7
    pace.record(0, 0, 2.0)  # a plain round: back to what was hoped, by a fiftieth of the way
    right, wrong = 9.13 + 0.02 * (3 - 9.13), 1.71 + 0.02 * (1 - 1.71)
    assert pace.rate == pytest.approx(right / (right + wrong))
    pace.watch(True)
    assert pace.rate == pytest.approx((0.9 * right + 1) / (0.9 * (right + wrong) + 1))
    pace.watch(False)
    assert pace.rate == pytest.approx((0.81 * right + 0.9) / (0.81 * (right + wrong) + 1.9))


def test_a_round_before_any_plain_one_has_lost_nothing() -> None:
    pace = paced((1.0, 1.0), (4, 0, 5.0))
    assert pace.lost_s == 0 and pace.length() == 0 and pace.pays


LOST = [
    ([(0, 0, 1.0), (1, 0, 2.03)], True),  # lost 1.03, of 0.0303 + 1.0
    ([(0, 0, 1.0), (1, 0, 2.032)], False),
    ([(0, 0, 1.0)] * 100 + [(1, 0, 2.9)], True),  # lost 1.9, of 1.029 + 1.0
    ([(0, 0, 1.0)] * 100 + [(1, 0, 3.1)], False),
]  # fmt: skip


def test_guessing_may_lose_a_plain_round_and_a_hundredth_of_the_time() -> None:
    for rounds, pays in LOST:
        pace = paced((1e9, 1.0), *rounds)
        assert pace.pays == pays and (pace.length() > 0 or not pays)
        if not pays:
            assert pace.length() == 0


LENGTHS = [
    ((0.5, 1.5), [(0, 0, 1.0)], 0),  # 1 + 1/4 + ... < 2.5
    ((3.0, 1.0), [(0, 0, 1.0)], 4),  # 3.05 / 2.5, and no further at first
    ((1e6, 1.0), [(0, 0, 1.0), (1, 1, 1.0)], 4),
    ((1e6, 1.0), [(0, 0, 1.0), (2, 2, 1.0)], 4),
    ((1e6, 1.0), [(0, 0, 1.0), (4, 4, 1.0)], 8),
    ((1e6, 1.0), [(0, 0, 1.0), (4, 4, 1.0), (8, 8, 1.0)], 15),
    ((1e6, 1.0), [(0, 0, 1.0), (15, 15, 1.0)], 15),
    ((1e6, 1.0), [(0, 0, 1.0), (4, 4, 1.0), (8, 8, 1.9)], 15),  # of 8 it costs 1.9: 4.7 a second, 15: 8.4
    ((1.0, 1.0), [(0, 0, 1.0), (4, 4, 2.0)], 8),  # no longer one was tried: as that
    ((1.0, 3.0), [(0, 0, 1.0), (4, 4, 1.9), (4, 0, 1.9)], 2),
    ((1.0, 3.0), [(0, 0, 1.0), (4, 0, 1.9)], 0),
]  # fmt: skip


def test_the_length_is_that_of_most_tokens_a_second() -> None:
    for hope, rounds, length in LENGTHS:
        pace = paced(hope, *rounds)
        assert pace.length() == length
