"""A chart drawn alone: its axes, its curves, its marks, and what of them is left out where there is no room."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.tui import plot
from app.tui.widgets.chart import ROOM, Board, Chart, Curve, Mark, Picture, apart
from tests.tui.widgets.drawing import Pictures

STEPS = tuple(range(0, 101, 5))
FALLING = tuple(4.0 - 0.03 * step for step in STEPS)
MARKS = (
    Mark(0, 4.0, 3.6, 4.2),
    Mark(40, 2.9, 2.5, 3.3),
    Mark(42, 2.9, 2.5, 3.3),
    Mark(60, 1.5, 1.2, 2.0, best=True),
    Mark(61, 1.6, 1.2, 2.0),
    Mark(100, 2.0, 1.9, 2.1),
    Mark(200, 9.0, 9.0, 9.0),
    Mark(80, float("nan"), 0.0, 0.0),
)
LOSS = Picture(
    (("LOSS", "heading"), ("  train 1.00", "bar"), ("  validation 2.0 ± 0.1", "chosen"), ("  nats", "")),
    (Curve(STEPS, FALLING, "bar"), Curve(STEPS, (2.0,) * len(STEPS), "cut", dotted=True)),
    MARKS[:3],
    right=100.0,
)


def chart(picture: Picture, **more: Any) -> Chart:
    found = Chart()
    found.show(replace(picture, **more))
    return found


def test_a_chart_at_its_sizes(pictures: Pictures) -> None:
    sizes = [
        (60, 12),
        (60, 8),
        (40, 6),
        (32, 6),
        (31, 6),
        (30, 5),
        (30, 4),
        (30, 3),
        (30, 2),
        (30, 1),
        (12, 6),
        (11, 6),
    ]
    for width, height in [*sizes, (10, 6)]:
        pictures.draw(chart(LOSS), width, height)
    for height in (5, 4, 3, 1):
        pictures.draw(chart(LOSS, heading=()), 40, height, "without a heading")
        pictures.draw(chart(LOSS, axis=False), 40, height, "without an axis")
    pictures.draw(chart(LOSS, axis=False), 4, 4, "without an axis")
    pictures.draw(chart(LOSS, axis=False), 3, 4, "without an axis")
    pictures.draw(Chart(), 30, 6, "empty")
    pictures.sweep(chart(LOSS), range(8, 60), 6, slice(0, 6, 5), "heading and axis")
    pictures.compare("chart-sizes")
    pictures.redraws()
    chart(LOSS)
    assert pictures.redraws() == 1


def test_what_stands_in_it(pictures: Pictures) -> None:
    pictures.draw(chart(LOSS, marks=MARKS), 60, 10, "marks")
    points = ((0, 1.0, "x", "alarm"), (50, 2.0, "o", "better"), (100, 4.0, "x", "tick"), (101, 2.0, "!", "alarm"))
    pictures.draw(chart(LOSS, points=points, marks=()), 40, 8, "points")
    outside = ((-1, 2.0, "!", "alarm"), (50, -5.0, "!", "alarm"), (50, 9.0, "!", "alarm"))
    pictures.draw(chart(LOSS, points=points + outside, floor=1.0, left=0.0), 40, 8, "points, and some outside")
    uprights = (
        (0, "begins", "faint"),
        (50, "half", "accent"),
        (97, "cut off", "faint"),
        (100, "no room", "faint"),
        (101, "!", ""),
    )
    pictures.draw(chart(LOSS, uprights=uprights), 50, 8, "lines from top to bottom")
    pictures.draw(chart(LOSS, uprights=((-1, "!", ""),), left=20.0), 50, 8, "from step 20 on")
    spike = Curve(STEPS, (*FALLING[:10], 99.0, *FALLING[11:]), "bar")
    pictures.draw(chart(LOSS, curves=(spike,), marks=()), 40, 8, "a spike")
    pictures.draw(chart(LOSS, curves=(replace(spike, loose=True),), marks=()), 40, 8, "a loose spike")
    pictures.draw(chart(LOSS, floor=-2.0), 40, 8, "a floor")
    pictures.compare("chart-contents")


def test_axes_of_steps_and_of_names(pictures: Pictures) -> None:
    for right in (1, 2, 7, 99.6, 1000, 123456):
        for width in (16, 31, 32, 60):
            xs = (0.0, right)
            it = chart(Picture(), curves=(Curve(xs, (0.0, 1.0), "bar"),), right=right, along="token")
            pictures.draw(it, width, 6, f"to {right}")
    across = ((0.0, "none"), (1.0, "one"), (2.0, "two"), (3.5, "many"), (4.0, "end"), (-1.0, "!"), (4.1, "!"))
    up = ((0.0, "low"), (1.0, "a long name"), (0.5, "half"), (-0.1, "!"), (9.0, "!"))
    named = Picture(curves=(Curve((0.0, 4.0), (0.0, 1.0), "bar"),), right=4.0, across=across, up=up, along="layer")
    for width in (60, 40, 24, 16):
        pictures.draw(chart(named), width, 7, "names")
    pictures.sweep(chart(named), range(12, 44), 7, slice(6, 7), "names")
    ends = ((0.0, "a"), (1.5, "middle"), (4.0, "b"), (3.0, "c"))
    pictures.draw(chart(named, across=ends), 40, 7, "a name at the very beginning")
    pictures.draw(chart(named, across=()), 40, 7, "no names")
    pictures.compare("chart-axes")


def test_values_have_as_many_labels_as_there_is_room_for(pictures: Pictures) -> None:
    line = Picture(curves=(Curve((0.0, 1.0), (0.0, 100.0), "bar"),))
    for rows in (1, 2, 3, 4, 6, 8, 10, 14, 20, 24, 32):
        pictures.draw(chart(line), 30, rows + (rows > 2), f"{rows} rows")
    pictures.draw(chart(Picture(curves=(Curve((0.0, 1.0), (0.4, 1.4), "bar"),))), 30, 2, "two labels")
    flat = Picture(curves=(Curve((0.0, 1.0), (5.0, 5.0), "bar"),))
    pictures.draw(chart(flat), 30, 8, "a flat line")
    pictures.compare("chart-labels")


def test_a_board_keeps_the_last_thing_of_a_cell() -> None:
    board = Board(4, 2)
    assert list(board.runs(0)) == [("    ", "")]
    board.draw(np.array([[0, 1, 0, 0], [0, 0, 0, 255]]), "bar")
    board.put(0, 2, "x", "tick")
    board.put(0, 3, "y", "tick")
    board.put(1, 0, "z", "bar")
    assert list(board.runs(0)) == [(" ", ""), ("⠁", "bar"), ("xy", "tick")]
    assert list(board.runs(1)) == [("z", "bar"), ("  ", ""), ("⣿", "bar")]
    board.draw(np.array([[0, 0, 2, 0], [0, 0, 0, 0]]), "cut")
    assert list(board.runs(0)) == [(" ", ""), ("⠁", "bar"), ("⠂", "cut"), ("y", "tick")]
    assert board.names == ["", "bar", "tick", "cut"]


@pytest.mark.parametrize(
    "xs, best, kept",
    [
        ((0, 10, 20), (), (20, 10, 0)),
        ((0, 3, 20), (), (20, 3)),
        ((0, ROOM, 2 * ROOM), (), (8, 4, 0)),
        ((0, ROOM - 1, 20), (0,), (0, 20)),
        ((-1, 0, 30, 31), (), (30, 0)),
    ],
)
def test_marks_that_crowd_each_other_are_left_out_the_newest_stays(
    xs: Sequence[int], best: Sequence[int], kept: Sequence[int]
) -> None:
    frame = plot.Frame(0, 30, 0, 1, 31, 4)  # a step a cell
    marks = [Mark(x, 0.5, 0, 1, x in best) for x in xs]
    assert [mark.x for mark in apart(frame, marks)] == list(kept)
    assert apart(frame, [Mark(3, float("nan"), 0, 1), Mark(4, float("inf"), 0, 1)]) == []
