"""A ladder's charts and rows of words, drawn from a law that is known: pages that were looked at, and edges."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.segment import Segment

from app.ladder_jobs import LadderRead
from app.tui.widgets import ladder
from app.tui.widgets.caption import Caption, Words
from app.tui.widgets.chart import Chart, Picture
from engine.scaling.fitted import Fitted
from engine.scaling.forecast import Foretold, buy
from engine.scaling.frontier import budgets
from engine.scaling.ladder import Ladder, LeftOut
from engine.scaling.law import Law
from engine.scaling.report import LadderReport
from tests.pictures import assert_picture
from tests.tui.drawn import page, paper, stand

LAW = Law(1.69, 406.4, 410.7, 0.34, 0.28)
SPREAD = np.linspace(-1.0, 1.0, 41)


def runs(count: int = 3, sizes: int = 5) -> Ladder:
    """Runs around the best size of each budget, each one off the law by its own half per cent."""
    parameters, tokens = [], []
    for compute in np.geomspace(1e17, 1e19, count):
        n = LAW.best(compute)[0] * np.geomspace(0.25, 4, sizes)
        parameters.append(n)
        tokens.append(compute / 6 / n)
    n, d = np.concatenate(parameters), np.concatenate(tokens)
    off = np.exp(0.005 * np.cos(np.arange(len(n)) * 2.0))
    return Ladder(n, d, LAW.loss(n, d) * off, np.arange(len(n)) + 2)


def reported(found: Ladder | None = None, **more: object) -> LadderReport:
    """What is found of runs, its refits scripted: E, alpha and beta lie evenly around the law's."""
    found = runs() if found is None else found
    fitted = Fitted(LAW, found, np.zeros(5), 0.0)
    laws = np.stack([
        1.69 + 0.06 * SPREAD, 406.4 + 0 * SPREAD, 410.7 + 0 * SPREAD, 0.34 + 0.002 * SPREAD, 0.28 - 0.003 * SPREAD,
    ], -1)  # fmt: skip
    its = {"E": (1.63, 1.75), "alpha": (0.33, 0.36), "beta": (0.25, 0.29), "a": (math.nan, 0.5)}
    how: dict[str, object] = {
        "fitted": fitted, "laws": laws, "intervals": its, "coverage": {"E": 0.94, "alpha": 0.951}, "left_out": [],
        "sensitivity": [], "iso_flop": budgets(found), "by_parabolas": None, "by_envelope": None, "foretold": [],
        "broken": None, "repeated": None, "without_embedding": None, "purchases": [],
    }  # fmt: skip
    return LadderReport(**{**how, **more})  # type: ignore[arg-type]


def read(rate: float | None = None, **more: object) -> LadderRead:
    return LadderRead(Path("plays"), reported(**more), rate)


def charted(picture: Picture, width: int, height: int) -> list[str]:
    chart = stand(Chart, size=(width, height))
    chart.show(picture)
    return page(chart, width, height)


def told(rows: list[Words] | tuple[Words, ...], width: int = 100) -> list[str]:
    caption = stand(Caption)
    caption.show(*rows)
    return page(caption, width, 30)


def said(rows: list[Words]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


@pytest.mark.parametrize(("width", "height"), [(70, 18), (44, 9)])
def test_the_charts_are_as_they_were_looked_at(width: int, height: int) -> None:
    it = read(1e15)
    bought = buy(it.report.fitted, it.report.laws, 3600e15)
    far = buy(it.report.fitted, it.report.laws, 3e20)
    pictures = {
        "compute, 1 h bought": ladder.loss_picture(it, "compute", bought, "1 h"),
        "compute, beyond what is told": ladder.loss_picture(it, "compute", far, "30x"),
        "compute, nothing bought": ladder.loss_picture(it, "compute", None, ""),
        "parameters": ladder.loss_picture(it, "parameters", bought, "1 h"),
        "tokens": ladder.loss_picture(it, "tokens", None, ""),
        "parabolas": ladder.parabola_picture(it.report),
        "no parabola": ladder.parabola_picture(reported(iso_flop=[])),
        "residuals": ladder.residual_picture(it.report),
    }
    with paper():
        rows = [row for name, each in pictures.items() for row in (f"== {name}", *charted(each, width, height))]
    assert_picture(f"tui/pictures/pages-ladder-{width}.txt", rows)


def test_the_rows_of_words_are_as_they_were_looked_at() -> None:
    seen = [
        Foretold(5, 1e18, 3.2, 3.1, 3.3, 3.25), Foretold(6, 2.5e18, 3.1, 3.0, 3.2, 3.21),
        Foretold(7, 1e19, 2.9, 2.8, 3, 3),
    ]  # fmt: skip
    left = [LeftOut(3, "nan", "wild"), LeftOut(9, "nan")]
    hours, times = read(1e15), read(None)
    bare = replace(reported().fitted, law=Law(1.7, 300.0, 400.0, 0.31, 0.3))
    blocks: dict[str, list[Words]] = {
        "the law": ladder.law_rows(reported()),
        "the law, of many runs, without embeddings": ladder.law_rows(reported(coverage=None, without_embedding=bare)),
        **{f"hours, chosen {i}": ladder.bought_rows(hours, i, 14) for i in (0, 4, 9)},
        **{f"times, chosen {i}": ladder.bought_rows(times, i, 30) for i in (0, 4, 7)},
        **{f"hours, in {rows} rows": ladder.bought_rows(hours, 3, rows) for rows in (5, 9, 10, 11)},
        "foretold": list(ladder.foretold_rows(reported(foretold=seen, left_out=left), 9)),
        "foretold, in 4 rows": list(ladder.foretold_rows(reported(foretold=seen), 4)),
        "foretold, in 3 rows": list(ladder.foretold_rows(reported(foretold=seen), 3)),
        "foretold, in 2 rows": list(ladder.foretold_rows(reported(foretold=seen), 2)),
        "nothing foretold": list(ladder.foretold_rows(reported(), 9)),
    }
    with paper():
        assert_picture(
            "tui/pictures/pages-ladder-words.txt",
            [row for name, rows in blocks.items() for row in (f"== {name}", *told(rows))],
        )


def test_a_picture_says_what_it_is_of() -> None:
    it, x = read(), np.log10(runs().compute)
    bought = buy(it.report.fitted, it.report.laws, 1e19)
    found = ladder.loss_picture(it, "compute", bought, "1x")
    assert found.left == pytest.approx(x.min() - 0.3) and found.right == pytest.approx(21.0)
    assert [(pytest.approx(at), *rest) for at, *rest in found.uprights] == [
        (19.0, "told", "faint"), (20.0, "open", "accent"),
    ]  # fmt: skip
    ends = [
        (round(float(c.xs[0]), 6), round(float(c.xs[-1]), 6), len(c.xs), c.ink, c.loose, c.dotted) for c in found.curves
    ]
    assert ends == [
        (19, 20, 40, "accent", True, False), (19, 20, 40, "accent", True, False),
        (20, 21, 40, "cut", True, True), (20, 21, 40, "cut", True, True),
        (17, 19, 60, "chosen", False, False), (19, 20, 40, "chosen", False, False),
    ]  # fmt: skip
    for curve in found.curves[4:]:
        compute = 10 ** np.asarray(curve.xs)
        np.testing.assert_allclose(curve.ys, np.log(LAW.loss(*LAW.best(compute))))
    for below, above in (found.curves[:2], found.curves[2:4]):
        assert (np.asarray(below.ys) < np.asarray(above.ys)).all()
    glyphs = [(glyph, ink) for _, _, glyph, ink in found.points]
    assert glyphs == [("•", "bar")] * 15 + [("●", "chosen")] * 3 + [("◆", "tick")]
    assert found.points[-1][:2] == pytest.approx((19.0, math.log(bought.loss)))
    assert found.points[15][:2] == pytest.approx((17.0, math.log(it.report.iso_flop[0].loss or 0)))
    assert found.up and found.up[0][0] >= min(math.log(LAW.loss(*LAW.best(1e20))), *np.log(runs().loss)) - 0.3
    size = ladder.loss_picture(it, "parameters", bought, "1x")
    logs = np.log10(runs().parameters)
    assert (size.left, size.right) == pytest.approx((logs.min() - 0.3, logs.max() + 0.3))
    assert [p[:2] for p in size.points] == [pytest.approx(p) for p in zip(logs, np.log(runs().loss), strict=True)]
    curves = ladder.parabola_picture(it.report)
    sizes = [n for group in it.report.iso_flop for n in group.sizes]
    assert (curves.left, curves.right) == pytest.approx((math.log10(min(sizes)) - 0.1, math.log10(max(sizes)) + 0.1))
    for curve, group in zip(curves.curves, it.report.iso_flop, strict=True):
        assert (curve.xs[0], curve.xs[-1], len(curve.xs)) == pytest.approx(
            (math.log10(group.sizes[0]), math.log10(group.sizes[-1]), 40)
        )
        assert group.best is None or (math.log10(group.best), group.loss, "●", "chosen") in curves.points
    off = ladder.residual_picture(it.report)
    assert (off.left, off.right) == pytest.approx((x.min() - 0.2, x.max() + 0.2))
    np.testing.assert_allclose([y for _, y, *_ in off.points], 0.5 * np.cos(np.arange(15) * 2.0))
    assert list(off.curves[0].ys) == [0.0, 0.0] and off.curves[0].dotted


def test_a_budget_without_a_lowest_point_has_its_curve_alone() -> None:
    (group, *_) = budgets(runs(1))
    found = ladder.parabola_picture(reported(iso_flop=[replace(group, best=None, loss=None)]))
    assert len(found.curves) == 1 and {glyph for *_, glyph, _ in found.points} == {"•"}
    it = LadderRead(Path("a"), reported(iso_flop=[replace(group, best=None, loss=None)]), None)
    assert {glyph for *_, glyph, _ in ladder.loss_picture(it, "compute", None, "").points} == {"•"}


def test_powers_of_ten_within_a_range_are_named_all_or_every_so_many() -> None:
    assert ladder.decades(2.1, 5.0) == [(3.0, "1e3"), (4.0, "1e4"), (5.0, "1e5")]
    assert ladder.decades(3.0, 3.9) == [(3.0, "1e3")] and ladder.decades(3.1, 3.9) == []
    assert [name for _, name in ladder.decades(0, 11)] == [f"1e{n}" for n in range(0, 12, 2)]
    assert [name for _, name in ladder.decades(0, 10)] == [f"1e{n}" for n in range(11)]
    assert [name for _, name in ladder.decades(0, 17)] == ["1e0", "1e3", "1e6", "1e9", "1e12", "1e15"]


def test_round_losses_stand_at_their_logarithms() -> None:
    found = ladder.levels(math.log(2.0), math.log(3.2))
    assert [name for _, name in found] == ["2.0", "2.2", "2.4", "2.6", "2.8", "3.0", "3.2"]
    assert [at for at, _ in found] == pytest.approx([math.log(float(name)) for _, name in found])
    assert ladder.levels(math.log(0.9999999), math.log(1.0000001)) and ladder.levels(0.0, 0.0) == []


@pytest.mark.parametrize(
    ("low", "value", "high", "drawn"),
    [
        (0, 0, 8, "●────────"), (0, 8, 8, "────────●"), (0, 3, 8, "───●─────"), (0, -5, 8, "●────────"),
        (0, 50, 8, "────────●"), (math.nan, 1, 8, " " * 9), (0, 1, math.inf, " " * 9), (1, 1, 1, " " * 9),
        (2, 1.5, 1, " " * 9), (-4, 0, 4, "────●────"), (10, 11, 18, "─●───────"),
    ],
)  # fmt: skip
def test_an_interval_is_drawn_with_its_point(low: float, value: float, high: float, drawn: str) -> None:
    assert ladder._whisker(low, value, high) == drawn


def test_budgets_are_hours_where_the_speed_is_known_and_else_multiples_of_the_largest_run() -> None:
    hours = ladder.budgets(read(2e12))
    assert hours[0] == ("0.25 h", 1.8e15) and hours[-1] == ("168 h", 3600 * 168 * 2e12) and len(hours) == 10
    times = ladder.budgets(read(None))
    assert [name for name, _ in times] == ["0.5x", "1x", "2x", "5x", "10x", "20x", "50x", "100x"]
    assert [compute for _, compute in times] == pytest.approx([t * 1e19 for t in (0.5, 1, 2, 5, 10, 20, 50, 100)])


@pytest.mark.slow
@pytest.mark.parametrize("rows", range(2, 22))
@pytest.mark.parametrize("chosen", [0, 3, 9])
def test_what_is_bought_fills_its_rows_and_shows_the_chosen_budget(rows: int, chosen: int) -> None:
    lines = said(ladder.bought_rows(read(1e15), chosen, rows))
    table = [line[3:11].strip() for line in lines[9:]]
    assert len(lines) == min(rows, 7 if rows < 11 else 19)
    names = [name for name, _ in ladder.budgets(read(1e15))]
    if table:
        assert names[chosen] in table and table == names[names.index(table[0]) :][: len(table)]
        assert [line for line in lines if line.startswith(" ▶")] == [lines[9 + table.index(names[chosen])]]


def test_a_slider_stands_where_its_share_is() -> None:
    for share, left, right in ((0, 0, 33), (1, 33, 0), (1 / 3, 11, 22)):
        text = said([ladder._slider("a", "b", share)])[0]
        assert text == f" a {'━' * left}●{'─' * right} b"


def test_a_caption_cuts_no_word_of_the_law() -> None:
    with paper():
        assert all(isinstance(segment, Segment) for row in Caption.lines(stand(Caption), 10, 1) for segment in row)
