"""The arithmetic of curves: where dots fall, what thinning keeps, which numbers stand on an axis."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from likely.app.tui.base.drawing import plot
from likely.app.tui.base.drawing.plot import Mark
from likely.app.tui.widgets.figures.chart import ROOM, apart

finite = st.floats(-1e6, 1e6)


def rendered(bits: np.ndarray) -> set[tuple[int, int]]:
    """The dots (x, y) of a picture, counted from the upper left."""
    found = set()
    for row, column in np.argwhere(bits):
        for y in range(4):
            for x in range(2):
                if bits[row, column] & plot.BITS[y, x]:
                    found.add((int(column) * 2 + x, int(row) * 4 + y))
    return found


def test_a_diagonal_runs_from_corner_to_corner() -> None:
    frame = plot.Frame(0, 1, 0, 1, 4, 2)
    dots = rendered(plot.curve(frame, [0, 1], [0, 1]))
    assert dots == {(x, 7 - x) for x in range(8)}


def test_a_single_point_is_one_dot_and_no_point_is_none() -> None:
    frame = plot.Frame(0, 10, 0, 1, 5, 3)
    assert rendered(plot.curve(frame, [0], [1.0])) == {(0, 0)}
    assert not plot.curve(frame, [], []).any()
    assert not plot.curve(frame, [1, 2], [math.nan, math.inf]).any()


def test_what_is_out_of_the_frame_lies_on_its_edge_and_before_it_is_left_out() -> None:
    frame = plot.Frame(5, 10, 0, 1, 5, 3)
    assert rendered(plot.curve(frame, [7], [99.0])) == {(4, 0)}
    assert not plot.curve(frame, [1, 2], [0.5, 0.5]).any()


@given(
    st.lists(finite, min_size=1, max_size=3000), st.integers(1, 40), st.integers(1, 10), st.sampled_from([0.0, 50.0])
)
def test_thinning_keeps_every_columns_lowest_and_highest(
    values: list[float], width: int, height: int, apart: float
) -> None:
    y = np.array(values)
    x = np.arange(len(y), dtype=float)
    x[1:] += apart  # the first alone in its column
    frame = plot.Frame(0, max(float(x[-1]), 1), float(y.min()), float(y.max()), width, height)
    tx, ty = plot.thin(x, y, frame)
    assert len(tx) <= max(len(x), 4 * width) and (np.diff(tx) >= 0).all()
    columns = np.rint(frame.dots(x, y)[0]).astype(int)
    kept = np.rint(frame.dots(tx, ty)[0]).astype(int)
    for column in np.unique(columns):
        assert ty[kept == column].min() == y[columns == column].min()
        assert ty[kept == column].max() == y[columns == column].max()


@given(st.lists(finite, min_size=1, max_size=200), st.integers(1, 30), st.integers(1, 8))
def test_a_curve_has_a_dot_in_every_column_that_has_a_point(values: list[float], width: int, height: int) -> None:
    y = np.array(values)
    x = np.arange(len(y), dtype=float)
    frame = plot.Frame(0, max(len(y) - 1, 1), float(y.min()), float(y.max()), width, height)
    dots = rendered(plot.curve(frame, list(x), list(y)))
    assert {dot for dot, _ in dots} >= {int(c) for c in np.rint(frame.dots(x, y)[0])}
    if len(y) > 1 and y.max() > y.min():
        assert {row for _, row in dots} >= {0, 4 * height - 1}  # the extremes touch the edges


def test_values_fall_on_dots_cells_and_their_edges() -> None:
    frame = plot.Frame(10, 20, -1, 3, 6, 3)  # 12 dots wide, 12 high
    x, y = frame.dots(np.array([10, 15, 20, 25.0]), np.array([3, 1, -1, 9.0]))
    np.testing.assert_allclose(x, [0, 5.5, 11, 16.5])
    np.testing.assert_allclose(y, [0, 5.5, 11, 0])
    assert frame.dots(np.array([10.0]), np.array([-4.0]))[1].tolist() == [11]
    assert [frame.column(x) for x in (0, 10, 11, 12.9, 13.1, 20, 99)] == [0, 0, 0, 1, 2, 5, 5]
    assert [frame.row(y) for y in (9, 3, 2.1, 1.9, 0.1, -0.1, -1, -9)] == [0, 0, 0, 1, 1, 2, 2, 2]
    flat = plot.Frame(2, 2, 5, 5, 4, 4)
    assert [each.tolist() for each in flat.dots(np.array([2, 2.5]), np.array([5, 4.5]))] == [[0, 3.5], [0, 7.5]]
    assert (flat.column(2), flat.row(5), flat.column(2.5), flat.row(4.5)) == (0, 0, 2, 2)


def test_a_dotted_curve_has_each_fourth_column() -> None:
    frame = plot.Frame(0, 1, 0, 1, 6, 2)
    whole, dotted = (rendered(plot.curve(frame, [0, 1], [0, 1], dotted=dotted)) for dotted in (False, True))
    assert dotted == {(x, y) for x, y in whole if x in (0, 4, 8)} and {x for x, _ in whole} == set(range(12))


def test_a_hole_in_a_curve_is_bridged_and_what_lies_before_or_behind_the_frame_is_not_drawn() -> None:
    frame = plot.Frame(0, 7, 0, 7, 4, 2)
    assert rendered(plot.curve(frame, [0, 3, 7], [7, math.nan, 7])) == {(x, 0) for x in range(8)}
    assert rendered(plot.curve(frame, [-1, 0, 7, 8], [0, 7, 7, 0])) == {(x, 0) for x in range(8)}
    assert rendered(plot.curve(frame, [7], [math.inf])) == set()


def test_points_are_joined_by_steps_of_a_dot_at_most() -> None:
    x, y = plot.joined(np.array([0.0, 4.0, 4.0, 5.0]), np.array([0.0, 2.0, 2.0, -2.5]))
    np.testing.assert_allclose(x, [0, 1, 2, 3, 4, 4, 4.2, 4.4, 4.6, 4.8, 5])
    np.testing.assert_allclose(y, [0, 0.5, 1, 1.5, 2, 2, 1.1, 0.2, -0.7, -1.6, -2.5])
    assert [each.tolist() for each in plot.joined(np.array([3.0]), np.array([4.0]))] == [[3], [4]]


def test_a_curve_is_thinned_only_where_it_has_more_than_two_points_a_column() -> None:
    frame = plot.Frame(0, 3, 0, 9, 2, 2)  # 4 columns of dots
    x, y = np.array([0, 0, 0, 1, 1, 1, 2, 3.0]), np.array([5, 1, 9, 2, 8, 3, 4, 6.0])
    assert [each.tolist() for each in plot.thin(x, y, frame)] == [x.tolist(), y.tolist()]
    x, y = np.append(x, 3.0), np.append(y, 7.0)
    assert [each.tolist() for each in plot.thin(x, y, frame)] == [[0, 0, 1, 1, 2, 2, 3, 3], [1, 9, 8, 2, 4, 4, 7, 6]]


def test_ticks_are_as_many_as_there_is_room_for() -> None:
    for low, high, count, found in [
        (0, 10, 5, [0, 5, 10]),
        (0, 10, 6, [0, 2, 4, 6, 8, 10]),
        (0, 10, 11, list(range(11))),
        (0, 10, 3, [0, 5, 10]),
        (0, 10, 2, [0, 10]),
        (0, 10, 1, [0]),
        (-3, 4, 3, [0]),
        (0.1, 0.45, 4, [0.1, 0.2, 0.3, 0.4]),
        (1e5, 3e5, 2, [2e5]),
        (1, 1.3, 3, [1, 1.2]),
        (-1e-9, 1, 2, [0, 1]),
        (0, 1 - 1e-12, 2, [0, 1]),
        (3, 3, 4, []),
        (4, 3, 4, []),
        (0, 1, 0, []),
        (math.nan, 1, 3, []),
        (0, math.inf, 3, []),
    ]:
        assert plot.ticks(low, high, count) == pytest.approx(found, abs=1e-8)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(1, 20))
def test_ticks_are_round_and_within_the_range(low: float, size: float, count: int) -> None:
    found = plot.ticks(low, low + size, count)
    assert len(found) <= count
    assert all(low - 1e-6 * size <= value <= low + size * (1 + 1e-6) for value in found)
    if len(found) > 1:
        mantissa = f"{found[1] - found[0]:.3e}".partition("e")[0]
        assert mantissa in ("1.000", "2.000", "5.000")


def test_a_tick_has_the_digits_that_it_needs() -> None:
    for value, step, said in [
        (1.5, 0.5, "1.5"),
        (2, 1, "2"),
        (0.25, 0.05, "0.25"),
        (12e3, 2e3, "12,000"),
        (2e-4, 1e-4, "2e-4"),
        (0, 0.5, "0.0"),
        (1e-3, 1e-3, "0.001"),
        (-9e-4, 1e-4, "-9e-4"),
        (1e6, 1e5, "1e6"),
        (999_999, 1, "999,999"),
        (-2.5e6, 1e5, "-2e6"),
        (3.25, 0.1, "3.2"),
        (3, 10, "3"),
        (3, 0, "3"),
        (0.5, -1, "0"),
    ]:
        assert plot.label(value, step) == said


def test_a_span_leaves_out_spikes_of_what_is_loose_but_nothing_of_what_is_firm() -> None:
    noisy = np.ones(1000)
    noisy[10] = 500.0
    low, high = plot.span([np.array([1.0, 3.0])], [noisy])
    assert low <= 1 and 3 <= high < 5
    low, high = plot.span([np.array([1.0, 500.0])], [noisy])
    assert high >= 500
    assert plot.span([], []) == (0.0, 1.0)
    low, high = plot.span([np.array([2.0, 2.0])])
    assert low < 2 < high


def test_a_span_leaves_a_little_room() -> None:
    for parts, loose, span in [
        ([[1, 3]], [], (0.92, 3.08)),
        ([[-1, 3]], [], (-1.16, 3.16)),
        ([[0.05, 3]], [], (0.0, 3.118)),  # no lower than 0 where nothing is
        ([[0, 5]], [], (0.0, 5.2)),
        ([[2, 2]], [], (1.8, 2.2)),
        ([[-2]], [], (-2.2, -1.8)),
        ([[0, 0]], [], (0.0, 1.0)),  # a share of which nothing is there yet
        ([[1, math.nan], [3, math.inf], []], [[-math.inf]], (0.92, 3.08)),
        ([], [list(range(101))], (0.0, 99 + 0.04 * 98)),
        ([[50]], [list(range(101, 202))], (50 - 0.04 * 150, 200 + 0.04 * 150)),
        ([[math.nan]], [[]], (0.0, 1.0)),
    ]:
        found = plot.span([np.array(each, float) for each in parts], [np.array(each, float) for each in loose])
        assert found == pytest.approx(span, rel=1e-9, abs=1e-12)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=60, unique=True), st.data())
def test_marks_keep_their_distance_and_the_best_and_the_newest_are_there(steps: list[int], data: st.DataObject) -> None:
    steps.sort()
    best = data.draw(st.sampled_from(steps))
    marks = [Mark(step, 1.0, 0.9, 1.1, step == best) for step in steps]
    frame = plot.Frame(0, max(steps[-1], 1), 0, 2, 60, 10)
    kept = apart(frame, marks)
    columns = sorted(frame.column(mark.x) for mark in kept)
    assert all(b - a >= ROOM for a, b in pairwise(columns))
    assert any(mark.best for mark in kept)
    newest = frame.column(steps[-1])
    assert newest - max(columns) < ROOM
