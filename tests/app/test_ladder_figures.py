"""Pictures of a ladder that was made by hand, and its page."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from likely.app.results import scaling_figures
from likely.app.results.scaling_figures import Axes, bought, short
from likely.engine.measure.scaling.forecast import Purchase
from tests.app.ladders import BARE, REPORT, RUNS

AXES = Axes("Title <1>", (10.0, 1000.0), (1.0, 5.0), "along & across")


def test_a_page_has_all_that_was_found() -> None:
    page = scaling_figures.page("plays & <more>", REPORT, 1e9)
    assert "<h1>plays &amp; &lt;more&gt;</h1>" in page
    for name, (low, high) in REPORT.intervals.items():
        assert f"{low:.4g}" in page and f"{high:.4g}" in page, name
    for each in REPORT.left_out:
        assert f"row {each.row}" in page and each.reason.replace("&", "&amp;") in page
    size = {"k": 1e3, "M": 1e6}
    bought = re.findall(r"([\d.]+) ([kM]) parameters on ([\d.]+) ([kM]) tokens, loss ([\d.]+)", page)
    assert len(bought) >= 4
    for n, k, d, m, loss in bought:  # what a time buys is on the law
        assert float(loss) == pytest.approx(REPORT.fitted.law.loss(float(n) * size[k], float(d) * size[m]), abs=0.003)
    assert page.count("<svg") == len(scaling_figures.PICTURES) and page.count("<svg") == page.count("</svg>")
    for run in range(len(RUNS.loss)):  # each with its numbers, in the pictures that have runs
        assert page.count(f"loss {RUNS.loss[run]:.4g}") + page.count(f"{RUNS.loss[run]:.3f}") >= 1, run
    bare = scaling_figures.page("bare", BARE, None)
    assert bare.count("<svg") == page.count("<svg") and "<li>row" not in bare and "nan" not in bare.lower()


def test_what_is_open_or_without_times_is_said_so() -> None:
    spans = {"loss": (1.9, 2.1)}
    assert (
        bought(Purchase(1e9, 1, 2.5e6, 4e7, 2.0, spans)) == "2.5 M parameters on 40 M tokens, loss 2.000 [1.900, 2.100]"
    )
    words = "1 k parameters on 40 tokens, loss 2.000, open: 12.3 times the largest run"
    assert bought(Purchase(1e9, 12.345, 1e3, 40, 2.0, None)) == words
    assert "15 min" not in scaling_figures.svg(REPORT, None)


def test_a_number_is_three_digits_and_a_letter() -> None:
    for value, words in (
            (0.25, "0.25"), (999, "999"), (1000, "1 k"), (999.6, "1 k"), (999_400, "999 k"), (999_600, "1 M"),
            (2.346e6, "2.35 M"), (1e9, "1 B"),
            (1e12, "1 T"), (9.99e14, "999 T"), (1e15, "1e15"), (2.5e20, "2.5e20"), (12.0, "12"),
    ):  # fmt: skip
        assert short(value) == words


def test_values_fall_where_the_axes_have_them() -> None:
    assert AXES.at(10, 1) == (56, 296) and AXES.at(1000, 5) == (548, 28)
    assert AXES.at(100, 2) == pytest.approx((302, 229))
    logs = replace(AXES, y=(1.0, 100.0), log_y=True)
    assert logs.at(10, 10) == pytest.approx((56, 162))


def test_a_line_leaves_out_what_is_outside_and_what_is_no_number() -> None:
    xs, ys = [9.985, 9.995, 10, 100, 1000, 1000.9, 1001.1], [1.0] * 7
    assert AXES.line(xs, ys, "#123").count(",") == 5
    assert AXES.line([10, 10, 10, 10, 10], [0.999, 1.0, 5.0, 5.001, math.nan], "#123", "more").startswith(
        '<polyline points="56.0,296.0 56.0,28.0" fill="none" stroke="#123" stroke-width="2" more/>'
    )
    assert AXES.line([1.0], [2.0], "#123") == ""


def test_an_area_stays_in_the_frame() -> None:
    xs = np.array([10.0, 100.0, 1000.0])
    area = AXES.area(xs, np.array([0.5, 1.0, math.nan]), np.array([2.0, 6.0, 5.0]), "#456")
    points = "56.0,229.0 302.0,28.0 548.0,28.0 302.0,296.0 56.0,296.0"
    assert area == f'<polygon points="{points}" fill="#456" fill-opacity=".25"/>'


def test_residuals_of_runs_on_the_law_have_a_scale_too() -> None:
    told = REPORT.fitted.law.loss(RUNS.parameters, RUNS.tokens)
    exact = replace(REPORT, fitted=replace(REPORT.fitted, runs=replace(RUNS, loss=told)))
    drawn = scaling_figures.PICTURES[2](exact)("")
    assert drawn.count('cy="162.0"') == 8 and ">1e-06<" in drawn
