"""Texts and objects of made rows and of estimates of few rows, from reports made by hand."""

import json
import math
import re
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
from likely.engine.estimate.curve import CurveForecast, HeldOutSize, LearningCurve
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


def numbers(line: str) -> list[float]:
    return [float(each.replace(",", "")) for each in re.findall(r"-?\d[\d,]*\.?\d*", line)]


def test_a_report_on_rows_says_in_a_line_a_figure_what_the_object_holds() -> None:
    told, lines = report_object(REPORT), list(report_lines(REPORT))
    assert numbers(lines[0]) == [12, 34] == [told["made"], told["real"]] and "beside" not in told and json.dumps(told)
    for name, line in zip(told["figures"], lines[1:5], strict=True):
        found = list(told["figures"][name].values())
        scale = 1 / LN2 if "bits" in line else 1.0  # nats in the object, and bits are said to be bits
        assert line.split()[0] == name and numbers(line[23:46]) == pytest.approx([scale * x for x in found], abs=5e-4)
    assert told["figures"]["precision"] == {"mean": 2.0} and told["asked"] == asdict(REPORT)["asked"]
    text = "\n".join(lines)
    assert "26% of made rows, 10% of real ones: 'What is␛'" in text and "3 of 4 cells" in text and "few rows" in text
    (wide,) = [line.partition("real") for line in lines if "words 8" in line]
    assert numbers(wide[0])[1:] == [50] and numbers(wide[2]) == [100] and 2 * wide[0].count("█") == wide[2].count("█")


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


def test_rungs_are_a_table_of_the_objects_numbers_in_bits() -> None:
    _, first, second, failed = estimate_text.table_lines(RUNGS)
    told = estimate_text.table_object(RUNGS)["rungs"]
    assert told[1]["gain"] == {"mean": -LN2, "low": -2 * LN2, "high": -LN2 / 2, "p": 0.01}
    for line, each in ((first, told[0]), (second, told[1])):
        found = [x / LN2 for x in each["nats"].values()] + list(each["accuracy"].values())
        found += [x / LN2 for name, x in (each["gain"] or {}).items() if name != "p"]
        assert numbers(line)[-len(found) :] == pytest.approx(found, abs=5e-4)
    assert first.startswith("long/name/of/a/model") and " all " in first and second.endswith(" worse")
    assert failed.endswith("failed badly") and told[2]["nats"]["low"] is None and told[0]["gain"] is None


def test_a_curve_says_what_more_rows_are_worth() -> None:
    draws = np.array([1.0, 2.0, 3.0]) * LN2
    curve = LearningCurve(np.array([20.0, 80.0]), np.array([1.0, 0.5]), draws, draws, draws / LN2, draws)
    worth = CurveForecast(LN2 / 2, LN2 / 4, LN2)
    out = HeldOutSize(20.0, 80.0, worth, CurveForecast(LN2, LN2 / 2, 2 * LN2, seen=LN2 / 4))
    inside = HeldOutSize(20.0, 80.0, worth, CurveForecast(0.5, 0.25, 1.0, seen=0.75))
    found = CurveReport(
        RUNGS[:1], {"loss": (curve, worth, out), "errors": (curve, CurveForecast(0.1, 0.05, 0.2), inside)}, {}
    )
    lines = list(estimate_text.curve_lines(found, 100))[2:]
    for name, unit, line in (("loss", LN2, lines[0]), ("errors", 1.0, lines[3])):
        ends = [curve.numbers["E"].low / unit, curve.numbers["E"].high / unit]
        assert line.startswith(name) and numbers(line.partition(", E ")[2])[:3] == pytest.approx(
            [2 * LN2 / unit, *ends], rel=1e-3
        )
    assert numbers(lines[1]) == [100, 80, 0.5, 0.25, 1] and numbers(lines[4]) == [100, 80, 0.1, 0.05, 0.2]
    assert numbers(lines[2]) == [20, 80, 1, 0.5, 2, 0.25] and lines[2].endswith("OUTSIDE")
    assert numbers(lines[5]) == [20, 80, 0.5, 0.25, 1, 0.75] and lines[5].endswith("inside")
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
    assert numbers(first)[-4:] == [50, 0.1, 0.25, 95] and "VACUOUS" not in first
    assert numbers(second)[-6:] == [9, 1, 4, 90, 1781, 3] and "VACUOUS" in second and "VACUOUS" in third
    told = estimate_text.bounds_object(found)
    assert told["event"] == "bounds" and [each["vacuous"] for each in told["bounds"]] == [False, True, True]
