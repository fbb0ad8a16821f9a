"""Scores side by side and how sure against how right, drawn without an app and compared; walks through them."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from textual import events
from textual.geometry import Size

from app.differing import Confidence, TaskDetail
from app.scoreboard import Cell, Scoreboard, TaskScore
from app.tui.widgets.reliability import ReliabilityPlot
from app.tui.widgets.score_table import ScoreTable, letter, number, scale
from engine.evaluate.calibration import Bin
from engine.evaluate.estimates import Change, Estimate
from engine.evaluate.figures import ComparedMeasure
from tests.pictures import assert_picture
from tests.tui.drawn import asked, page, paper, posted, stand

SIZE = Size(80, 24)
MODELS = ("hub/base/", "good", "a-model-of-a-long-name", "二十")
TASKS = ("sums", "bytes", "a task with a name that is too long", "once", "exact")


def estimate(mean: float, half: float, n: int = 40) -> Estimate:
    return Estimate(mean, half / 2, bounds=(mean - half, mean + half), n=n)


def score(mean: float, half: float, measure: str = "acc", n: int = 40, total: int = 0) -> TaskScore:
    return TaskScore(measure, estimate(mean, half, n), total)


def change(task: str, model: str, by: float, p: float, measure: str = "acc") -> ComparedMeasure:
    return ComparedMeasure(task, measure, (MODELS[0], model), Change(estimate(by, 0.1), p), p, 40)


SCORES: Mapping[Cell, TaskScore] = {
    ("sums", MODELS[0]): score(0.5, 0.1), ("sums", MODELS[1]): score(0.75, 0.05),
    ("sums", MODELS[2]): score(0.25, 0.12, n=1234),
    ("bytes", MODELS[0]): score(1.25, 0.02, "bits_per_byte"), ("bytes", MODELS[1]): score(12.5, 0.4, "bits_per_byte"),
    ("bytes", MODELS[3]): score(1234.5, 0.4, "bits_per_byte"),
    ("once", MODELS[1]): TaskScore("acc", Estimate(1.0, math.inf, 1, n=1)),
    ("exact", MODELS[0]): score(1.0, 0.0), ("exact", MODELS[1]): score(1.0, 0.0),
}  # fmt: skip
COMPARED: Mapping[Cell, ComparedMeasure] = {
    ("sums", MODELS[1]): change("sums", MODELS[1], 0.25, 0.001),
    ("sums", MODELS[2]): change("sums", MODELS[2], -0.25, 0.001),
    ("bytes", MODELS[1]): change("bytes", MODELS[1], 11.0, 0.001, "bits_per_byte"),
    ("exact", MODELS[1]): change("exact", MODELS[1], 0.0, 1.0),
}  # fmt: skip
BOARD = Scoreboard(TASKS, MODELS, SCORES, COMPARED)
CELL = "sums", MODELS[2]
LIVE = replace(
    BOARD, live=("sums", MODELS[2]),
    scores={**SCORES, ("sums", MODELS[2]): score(0.25, 0.12, n=1234, total=5678)},
)  # fmt: skip


def table(board: Scoreboard, at: int = 0, model: int = 0, size: tuple[int, int] = (80, 24)) -> ScoreTable:
    found = stand(ScoreTable, size=size)
    found.show(board)
    found.at, found.model = at, model
    return found


def test_scores_are_as_they_were_looked_at() -> None:
    boards = {
        "four models": (BOARD, 0, 0), "the second model, a task of the other group": (BOARD, 4, 1),
        "the last": (BOARD, 2, 3),
        "live": (LIVE, 1, 2),
        "live, of known length": (replace(LIVE, scores={**SCORES, CELL: score(0.25, 0.1, n=12, total=999)}), 0, 0),
        "live, of unknown length": (replace(LIVE, scores=SCORES), 0, 2),
        "two models": (replace(BOARD, models=MODELS[:2]), 0, 1), "one model": (replace(BOARD, models=MODELS[:1]), 3, 0),
        "live without a score": (replace(BOARD, live=("once", MODELS[0])), 0, 0),
        "one group": (replace(BOARD, tasks=("sums", "exact")), 1, 1),
        "the other group": (replace(BOARD, tasks=("bytes",)), 0, 1),
        "nothing": (Scoreboard(), 0, 0),
    }  # fmt: skip
    with paper():
        rows = []
        for name, (board, at, model) in boards.items():
            sizes = ((150, 9), (100, 5), (70, 9), (52, 4)) if name == "four models" else ((120, 9), (71, 3))
            for width, height in sizes:
                rows += [f"== {name}, {width}x{height}", *page(table(board, at, model), width, height)]
    assert_picture("tui/pictures/pages-scores.txt", rows)


def test_columns_share_the_width_the_first_stays_and_the_chosen_one_is_seen() -> None:
    with paper():
        for room in range(20, 200):
            for model in range(4):
                it = table(BOARD, model=model)
                shown, whisker = it._columns(room)
                used = sum(it._wide(index, whisker, shown) for index in shown)
                assert model in shown and (len(shown) == 1 or shown[0] == 0) and len(set(shown)) == len(shown)
                assert whisker == 0 or 8 <= whisker <= 15
                assert used <= room or len(shown) == 1
                many = max([n for n in range(2, 5) if n * 22 + (n - 1) * 10 <= room], default=1)
                assert len(shown) == many
                assert shown[-1] == max(model, many - 1) or many == 1
                spare = (room - used) // len(shown)
                assert whisker == 15 or spare <= 0 or whisker == 0


def test_a_table_that_is_too_tall_scrolls_with_the_task_that_is_looked_at() -> None:
    with paper():
        for height in range(3, 10):
            for at in range(5):
                it = table(BOARD, at)
                lines = page(it, 120, height)
                assert len(lines) == min(height, 7) and sum("▶" in line for line in lines) == 1
                its = next(i for i, line in enumerate(lines) if "▶" in line)
                split = at == 4  # the words between the groups stand before it
                assert its == 1 + at + split - it._top(height) and 0 <= it._top(height) <= max(7 - height, 0)
                assert its < height - 1 or at == 4 or height == 3


def test_keys_and_clicks_choose_a_task_and_a_model() -> None:
    with paper():
        it = table(BOARD, size=(120, 9))
        assert it.rows == ["sums", "a task with a name that is too long", "once", "exact", "bytes"]
        asked(it)
        for by, turn, at, model, moved in (
            (-1, 0, 0, 0, False), (1, 0, 1, 0, True), (9, 0, 4, 0, True), (1, 0, 4, 0, False), (0, 1, 4, 1, True),
            (0, 9, 4, 3, True), (0, 1, 4, 3, False), (0, -9, 4, 0, True), (0, -1, 4, 0, False), (-9, 0, 0, 0, True),
        ):  # fmt: skip
            it.action_move(by) if by else it.action_turn(turn)
            assert (it.at, it.model, asked(it)[0], len(posted(it))) == (at, model, moved, int(moved))
        for y, at in ((0, 0), (1, 0), (4, 3), (5, 4), (6, 4), (7, 4), (2, 1), (-1, 1)):
            it.on_click(cast(events.Click, SimpleNamespace(y=y)))
            assert it.at == at, y
        it.on_click(cast(events.Click, SimpleNamespace(y=7)))
        assert it.at == 1  # below the last
        assert it.chosen == it.rows[1] and it.picked == MODELS[0]
        short = table(BOARD, 4, size=(120, 4))
        for y, at in ((3, 4), (2, 4), (1, 3)):
            short.on_click(cast(events.Click, SimpleNamespace(y=y)))
            assert short.at == at, y
            short.at = 4
        one = table(replace(BOARD, tasks=("sums", "exact")), size=(120, 9))
        for y, at in ((2, 1), (3, 1), (1, 0)):
            one.on_click(cast(events.Click, SimpleNamespace(y=y)))
            assert one.at == at
        empty = table(Scoreboard())
        posted(empty)
        empty.action_move(1)
        empty.action_turn(1)
        assert (empty.at, empty.model, empty.chosen, empty.picked) == (0, 0, "", "") and not posted(empty)


def test_another_board_keeps_the_task_and_takes_the_rows_it_needs() -> None:
    with paper():
        it = stand(ScoreTable)
        for board, at, model, needed, laid_out in (
            (BOARD, 0, 0, 7, True), (replace(BOARD, tasks=TASKS[::-1]), 3, 3, 7, False),
            (replace(BOARD, models=MODELS[:2]), 0, 1, 7, False),
            (replace(BOARD, tasks=("sums", "exact")), 0, 1, 3, True),
            (replace(BOARD, tasks=("exact", "sums")), 1, 1, 3, False),
            (replace(BOARD, tasks=("bytes",)), 0, 1, 3, False),
            (Scoreboard(), 0, 0, 1, True),
        ):  # fmt: skip
            it.show(board)
            assert (it.at, it.get_content_height(SIZE, SIZE, 80)) == (at, needed) and asked(it) == (True, laid_out)
            assert it.model == model
            it.model = 3 if board is BOARD else it.model


def test_a_figure_has_six_characters_or_less_and_a_column_a_letter() -> None:
    for x, said in (
        (0.5, "0.500"), (-0.5, "-0.500"), (9.9994, "9.999"), (10.0, "10.0"), (999.94, "999.9"), (1000.0, "1000"),
        (-1234.5, "-1234"), (99_999.0, "99999"), (1e5, "1e+05"), (-2.5e7, "-2e+07"), (math.nan, "-"), (math.inf, "-"),
        (9.9996, "10.0"), (-9.9996, "-10.0"), (999.96, "1000"), (99_999.7, "1e+05"),
    ):  # fmt: skip
        assert number(x) == said
    assert [letter(i) for i in (0, 1, 25, 26)] == ["A", "B", "Z", "·"]


def test_a_row_is_as_wide_as_its_intervals_and_a_little_more() -> None:
    assert scale([score(0.5, 0.25), score(0.75, 0.25)]) == pytest.approx((0.25 - 0.06, 1.0 + 0.06))
    assert scale([]) == pytest.approx((-0.08, 1.08))
    assert scale([score(2.0, 0.0)]) == pytest.approx((1.92, 2.08))
    assert scale([TaskScore("acc", Estimate(0.5, math.inf, 1, n=1))]) == pytest.approx((0.42, 0.58))


@pytest.mark.parametrize(
    ("mean", "half", "size", "first", "drawn"),
    [
        (0.5, 0.5, 9, None, "────●────"), (0.5, 0.25, 9, None, "  ──●──  "), (0.5, 0.0, 9, None, "    ●    "),
        (0.5, 0.1875, 9, None, "  ╶─●─╴  "), (0.5, 0.25, 9, 0.0, "┊ ──●──  "), (0.5, 0.25, 9, 0.5, "  ──●──  "),
        (0.5, 0.25, 9, 1.0, "  ──●── ┊"), (0.0, 0.25, 9, None, "●──      "), (1.0, 0.25, 9, 0.6, "     ┊──●"),
        (0.5, math.inf, 9, None, "────●────"), (2.0, 0.25, 9, None, "        ●"), (0.0, 0.0625, 9, None, "●╴       "),
        (1.0, 0.0625, 9, None, "       ╶●"), (0.0625, 0.0, 9, None, "●╴       "), (0.9375, 0.05, 9, None, "       ╶●"),
    ],
)  # fmt: skip
def test_a_whisker_ends_in_half_cells(mean: float, half: float, size: int, first: float | None, drawn: str) -> None:
    with paper() as host:
        it = table(BOARD)
        given = TaskScore("acc", Estimate(mean, 1.0, bounds=(mean - half, mean + half)))
        for nothing in (False, True):
            span = 0.0, 1.0, math.nan if first is None or nothing else first
            segments = it._whisker(given, span, size, host.look.bar, reference=first is not None)
            text = "".join(segment.text for segment in segments)
            assert text == (drawn.replace("┊", " ") if nothing and first not in (0.5,) else drawn)
        none = TaskScore("acc", Estimate(math.nan, 1.0, bounds=(0.25, 0.75)))
        assert (
            "".join(s.text for s in it._whisker(none, (0.0, 1.0, 0.5), 9, host.look.bar, reference=False))
            == "  ─────  "
        )
        flat = it._whisker(given, (0.5, 0.5, 0.5), size, host.look.bar, reference=False)
        assert len(flat) == size


# -- reliability -----------------------------------------------------------------------------------------------------

BINS = (Bin(0.2, 0.3, 4, 0.25, 0.0), Bin(0.5, 0.6, 9, 0.55, 0.75), Bin(0.9, 1.0, 20, 1.0, 1.0))
SURE = Confidence(BINS, estimate(0.123, 0.02))
UNSURE = Confidence((Bin(0, 0.1, 1, 0.0, 0.5), Bin(0.8, 0.9, 2, 0.85, 0.3)), Estimate(0.5, math.inf, 1))


def test_reliability_is_as_it_was_looked_at() -> None:
    details: dict[str, tuple[TaskDetail | None, list[int]]] = {
        "nothing": (None, []), "no confidences": (TaskDetail("a", ("m", "n"), (None, None)), [0, 1]),
        "one": (TaskDetail("a", ("m",), (SURE,)), [2]), "two": (TaskDetail("a", ("m", "n"), (SURE, UNSURE)), [0, 3]),
        "the second alone": (TaskDetail("a", ("m", "n"), (None, UNSURE)), [0, 1]),
        "of no column": (TaskDetail("a", ("m", "n"), (SURE, UNSURE)), [0]),
    }  # fmt: skip
    with paper():
        rows = []
        for name, (detail, letters) in details.items():
            for width, height in ((40, 15), (24, 9), (15, 8), (15, 7), (14, 12), (30, 6)):
                plot = stand(ReliabilityPlot)
                plot.show(detail, letters)
                assert asked(plot)[0]
                plot.show(detail, list(letters))
                assert not asked(plot)[0]
                rows += [f"== {name}, {width}x{height}", *page(plot, width, height)]
        plot.show(detail, [1, 0])
        assert asked(plot)[0]
    assert_picture("tui/pictures/pages-reliability.txt", rows)
