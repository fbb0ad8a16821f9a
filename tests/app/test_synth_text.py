"""Texts and objects of made rows and of estimates of few rows, from reports made by hand."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from likely.app.cli import estimate_text
from likely.app.cli.estimate_text import CurveReport
from likely.app.cli.synth_text import (
    arm_line,
    arm_object,
    generation_line,
    generation_object,
    report_lines,
    report_object,
)
from likely.engine.estimate.bounds import RiskBound
from likely.engine.estimate.curve import Foretelling, HeldOutSize, LearningCurve
from likely.engine.estimate.ladder import LadderRung
from likely.engine.statistics.estimates import Change, Estimate
from likely.engine.synth.collapse import Generation
from likely.engine.synth.report import GridCoverage, RowsReport
from likely.engine.synth.training import Arm

LN2 = math.log(2)
FOUND = Estimate(0.5, 0.1, bounds=(0.25, 0.75), n=9)
ALONE = Estimate(2.0, math.nan)
REPORT = RowsReport(
    made=12, real=34,
    figures={"mmd2": FOUND, "precision": ALONE,
             "length_js": Estimate(LN2, 0.1, bounds=(LN2 / 2, 2 * LN2)), "odd": FOUND},
    template=("What is\x1b", 0.256, 0.104),
    lengths=(("8", 0.5, 1.0), ("a name that is longer than twenty", 0.021, 0.0)),
    labels=(("yes", 0.02, 0.021),),
    asked=GridCoverage(3, 4, {"kind\n": {"a": 1, "b\r": 2}}), notes=("few rows",), beside=({"x": 1},),
)  # fmt: skip


def test_a_report_on_rows_is_a_line_a_figure() -> None:
    assert list(report_lines(REPORT)) == [
        "12 made rows against 34 real ones",
        "  mmd2                 0.500 [0.250, 0.750]         distance of the two laws by these features, without bias",
        "  precision            2.000                        made texts near a real one: low, bad texts",
        "  length_js            1.000 [0.500, 2.000]         bits, of lengths by doubling",
        "  odd                  0.500 [0.250, 0.750]",
        "  commonest opening    26% of made rows, 10% of real ones: 'What is␛'",
        f"  words 8                    made 50.0% {'█' * 12:24} real 100.0% {'█' * 24}",
        f"  words a name that is longe made  2.1% {'█':24} real  0.0% ",
        f"  answers yes                  made  2.0% {'':24} real  2.1% █",
        "  grid: 3 of 4 cells have a row",
        "  kind\n: a 1, b␍ 2",
        "  few rows",
    ]


def test_a_report_on_rows_is_an_object() -> None:
    told = report_object(REPORT)
    assert told["figures"]["mmd2"] == {"mean": 0.5, "low": 0.25, "high": 0.75}
    assert told["figures"]["precision"] == {"mean": 2.0} and "beside" not in told
    assert told["asked"] == asdict(REPORT)["asked"] and told["made"] == 12 and json.dumps(told)


def test_an_arm_is_set_against_those_before_it() -> None:
    base = Arm("base", 0, 0, (0.0, 0.0, 1.0, 0.0, 0.0, 0.0))
    real = Arm("real", 20, 300, (1.0, 0.0, 1.0, 0.0, 0.0, 0.0))
    made = Arm("made", 10, 12345, (1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    known = {"base": base}
    assert arm_line(base, known) == "base        0 rows         0 tokens  0.167 [0.030, 0.564]"
    known["real"] = real
    assert arm_line(real, known) == (
        "real       20 rows       300 tokens  0.333 [0.097, 0.700]  over base +0.167 [-0.289, +0.564] not seen"
    )
    known["made"] = made
    said = arm_line(made, known)
    assert said.startswith(
        "made       10 rows     12345 tokens  1.000 [0.610, 1.000]  over base +0.833 [+0.000, +0.970] "
    )
    assert said.count("over") == 2 and "over real +0.667" in said
    told = arm_object(made, known)
    assert (told["event"], told["arm"], told["rows"], told["tokens"]) == ("arm", "made", 10, 12345)
    assert list(told["over"]) == ["base", "real"] and told["over"]["real"]["p"] == pytest.approx(0.125)
    assert told["over"]["base"]["mean"] == pytest.approx(5 / 6)
    assert "over" not in arm_line(base, known)


@pytest.mark.parametrize(("expected", "at"), [(0.0, 0), (0.5, 12), (0.98, 23), (1.0, 23)])
def test_a_generation_has_a_mark_where_it_was_to_be(expected: float, at: int) -> None:
    each = Generation(3, "replacing", 100, 7, Estimate(0.25, 0.1, bounds=(0.125, 0.5)), expected)
    bar = list("█" * 6 + " " * 18)
    bar[at] = "│"
    figures = f"0.250 [0.125, 0.500]  │ expected {expected:.3f}"
    assert generation_line(each) == f"replacing    3     100 rows      7 kinds  {''.join(bar)} {figures}"
    assert generation_object(each) == {
        "event": "generation", "number": 3, "way": "replacing", "rows": 100, "kinds": 7, "expected": expected,
        "diversity": {"mean": 0.25, "low": 0.125, "high": 0.5},
    }  # fmt: skip


# -- estimates -------------------------------------------------------------------------------------------------------

NATS = Estimate(2 * LN2, 0.1, bounds=(LN2, 3 * LN2), n=9)
GAIN = Change(Estimate(-LN2, 0.1, bounds=(-2 * LN2, -LN2 / 2), n=9), 0.01)
RUNGS = [
    LadderRung("a/very/long/name/of/a/model", -1, 0, 1, NATS, FOUND, None),
    LadderRung("m", 2, 80, 3, NATS, FOUND, GAIN),
    LadderRung("m", 2, 160, 0, ALONE, ALONE, None, "failed\nbadly"),
]
TABLE = [
    "base                 layers   rows  bits a row               right                gain over no training",
    "ng/name/of/a/model      all      0  2.000 [1.000, 3.000]     0.500 [0.250, 0.750]".replace("ng/n", "/long/n"),
    "m                         2     80  2.000 [1.000, 3.000]     0.500 [0.250, 0.750] -1.000 [-2.000, -0.500] worse",
    "m                         2    160  failed badly",
]


def test_rungs_are_a_table() -> None:
    assert list(estimate_text.table_lines(RUNGS)) == [
        TABLE[0],
        f"{'long/name/of/a/model':20}{TABLE[1][23:]}",
        *TABLE[2:],
    ]
    told = estimate_text.table_object(RUNGS)
    assert told["event"] == "table" and told["rungs"][1] == {
        "model": "m", "layers": 2, "rows": 80, "seeds": 3, "failed": "",
        "nats": {"mean": NATS.mean, "low": LN2, "high": 3 * LN2}, "accuracy": {"mean": 0.5, "low": 0.25, "high": 0.75},
        "gain": {"mean": -LN2, "low": -2 * LN2, "high": -LN2 / 2, "p": 0.01},
    }  # fmt: skip
    assert told["rungs"][0]["gain"] is None and told["rungs"][2]["nats"]["low"] is None


def test_a_curve_says_what_more_rows_are_worth() -> None:
    draws = np.array([1.0, 2.0, 3.0]) * LN2
    curve = LearningCurve(np.array([20.0, 80.0]), np.array([1.0, 0.5]), draws, draws, draws / LN2, draws)
    worth = Foretelling(LN2 / 2, LN2 / 4, LN2)
    out = HeldOutSize(20.0, 80.0, worth, Foretelling(LN2, LN2 / 2, 2 * LN2, seen=LN2 / 4))
    inside = HeldOutSize(20.0, 80.0, worth, Foretelling(0.5, 0.25, 1.0, seen=0.75))
    found = CurveReport(
        RUNGS[:1], {"loss": (curve, worth, out), "errors": (curve, Foretelling(0.1, 0.05, 0.2), inside)}, {}
    )
    low, high = curve.numbers["E"].low / LN2, curve.numbers["E"].high / LN2
    lines = list(estimate_text.curve_lines(found, 100))
    assert lines[2:] == [
        f"loss (bits a token): E + B n^-beta, E 2 [{low:.4g}, {high:.4g}], beta 2 [{low:.4g}, {high:.4g}]",
        "  100 rows beyond 80 are worth 0.5 [0.25, 1]",
        "  held out: from 20 to 80 rows 1 [0.5, 2] was told, 0.2500 seen: OUTSIDE",
        f"errors (share of rows that greedy decoding misses): E + B n^-beta, E {2 * LN2:.4g} [{low * LN2:.4g}, "
        f"{high * LN2:.4g}], beta 2 [{low:.4g}, {high:.4g}]",
        "  100 rows beyond 80 are worth 0.1 [0.05, 0.2]",
        "  held out: from 20 to 80 rows 0.5 [0.25, 1] was told, 0.7500 seen: inside",
    ]
    told = estimate_text.curve_object(found, 100)
    assert told["event"] == "curve" and told["curves"]["loss"]["worth"] == {"rows": 100, **asdict(worth)}
    assert told["curves"]["loss"]["held_out"]["begin"] == 20.0 and told["curves"]["loss"]["E"]["told"] == pytest.approx(
        2 * LN2
    )
    bare = CurveReport([], {"loss": (curve, worth, None)}, {"errors": "all are 0"})
    lines = list(estimate_text.curve_lines(bare, 7))
    assert lines[1] == "errors (share of rows that greedy decoding misses): all are 0" and len(lines) == 4
    assert estimate_text.curve_object(bare, 7)["curves"]["loss"]["held_out"] is None


def test_bounds_are_called_vacuous_where_they_are() -> None:
    found = [
        RiskBound("errors, by held-out rows", 50, 0.1, 0.25, 1.0, 0.95),
        RiskBound("nats, PAC-Bayes", 9, LN2, 4 * LN2, 3 * LN2, 0.9, kl=1234.6),
        RiskBound("errors, at the edge", 9, 0.5, 1.0, 1.0, 0.9, kl=0.4),
    ]
    first, second, third = estimate_text.bounds_lines(found)
    assert first == f"{'errors, by held-out rows':46}    50 rows  0.1000 seen, below 0.2500  at 95%"
    vacuous = "VACUOUS: 3.000 is known without rows"
    assert (
        second == f"{'bits, PAC-Bayes':46}     9 rows  1.0000 seen, below 4.0000 bits at 90%  KL 1,781 bits  {vacuous}"
    )
    assert third.endswith("at 90%  KL 1 bits  VACUOUS: 1.000 is known without rows")
    told = estimate_text.bounds_object(found)
    assert told["event"] == "bounds" and [each["vacuous"] for each in told["bounds"]] == [False, True, True]
