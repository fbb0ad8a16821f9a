"""`likely synth` as a person calls it: a pipeline file, what it prints, its reports, and their texts and objects."""

import json
import math
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from likely.app.cli.commands import synth
from likely.app.cli.reports import estimate_text
from likely.app.cli.reports.estimate_text import CurveReport
from likely.app.cli.reports.synth_text import (
    arm_line,
    arm_object,
    generation_line,
    generation_object,
    report_lines,
    report_object,
)
from likely.engine.base.statistics.estimates import Change, Estimate
from likely.engine.measure.estimate.bounds import RiskBound
from likely.engine.measure.estimate.curve import CurveForecast, HeldOutSize, LearningCurve
from likely.engine.measure.estimate.ladder import LadderRung
from likely.engine.measure.synth.collapse import Generation
from likely.engine.measure.synth.report import GridCoverage, RowsReport
from likely.engine.measure.synth.training import Arm
from tests.cli.conftest import random_model
from tests.engine.synth.makers import rows_of, write_rows

ROWS = [
    {"prompt": f"{a} {b} is", "completion": f" {b} {a}"}
    for a in ("red", "blue", "big", "old")
    for b in ("cat", "dog", "fish", "bird")
]


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(random_model(tmp_path / "tiny"))


def pipeline(folder: Path, text: str) -> Path:
    write_rows(folder / "rows.jsonl", ROWS)
    path = folder / "pipeline.toml"
    path.write_text(text.replace("@", str(folder)))
    return path


def called(*words: Any) -> Result:
    return CliRunner().invoke(synth.command, [str(word) for word in words])


AUGMENT = """
out = "@/made"
[generate]
method = "augment"
data = "@/rows.jsonl"
answers = 4
rate = 0.5
"""


def test_a_pipeline_prints_its_yield_and_writes_its_rows(tmp_path: Path) -> None:
    file = pipeline(tmp_path, AUGMENT)
    done = called(file, "--report")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["generate", "filter", "deduplicate", "decontaminate", "balance"]
    kept = 64 - sum(row["dropped"].startswith("generate") for row in aside(tmp_path))
    assert lines[0].split()[1:4] == ["64", "->", str(kept)]
    assert "made rows against 16 real ones" in done.output and "  mmd2_p " in done.output
    beside = tmp_path / "made" / synth.NEIGHBOURS
    beside.unlink()
    beside.mkdir()
    assert "  mmd2_p " in called(file, "--report").output  # what could not be written costs no report
    again = called(file, "--json")
    events = [json.loads(line) for line in again.output.splitlines()]
    written = events[-1]
    assert written["event"] == "written" and written["train"] == len(rows_of(tmp_path / "made" / "train.jsonl")) > 10
    assert events[0]["came"] == 64 and events[0]["stage"] == "generate"


def aside(folder: Path) -> list[dict[str, Any]]:
    return rows_of(folder / "made" / "dropped.jsonl")


def test_what_is_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from likely.engine.base.errors import LikelyError

    for text, line in (
        ("sed = 1", "unknown option sed; did you mean seed?"),
        ("seed = ", "not TOML"),
        ('[generate]\nmethod = "verified"\ntask = "arithmatic"', "there is no task arithmatic"),
        ('[generate]\nmethod = "magpie"\nrowz = 3', r"\[generate\]: unknown option rowz; did you mean rows?"),
    ):
        found = called(pipeline(tmp_path, text))
        assert isinstance(found.exception, LikelyError) and line.replace("\\", "") in str(found.exception)
    for words, why in (
        ((), "method = augment makes rows without a model"),
        (("--generations", 2), "[collapse] learner = counts asks no model"),
    ):
        found = called(pipeline(tmp_path, AUGMENT), "--model", "smollm2", *words)
        assert found.exit_code == 2 and f"--model: {why}" in found.output
    found = called(pipeline(tmp_path, AUGMENT), "--effect")
    assert found.exit_code == 2 and "name one in the file, task = ... under [train]" in found.output
    later = '[deduplicate]\nagainst = ["@/gone.jsonl"]\n[decontaminate]\nagainst = ["arithmatic"]\n[report]\n'
    later += 'heldout = "@/no.jsonl"'
    for words, whys in (((), ("gone.jsonl", "there is no task arithmatic")), (("--report",), ("no.jsonl",))):
        found = called(pipeline(tmp_path, AUGMENT + later), *words)
        assert all(why in str(found.exception) for why in whys) and not (tmp_path / "made" / "drawn.jsonl").exists()
    found = called(pipeline(tmp_path, AUGMENT), "--generations", "2", "--report")
    assert found.exit_code == 2 and "--report" in found.output


def test_generations_of_frequencies_show_both_ways(tmp_path: Path) -> None:
    file = pipeline(tmp_path, AUGMENT + '[collapse]\nkind = "answer"\nrows = 30\n')
    done = called(file, "--generations", "3", "--json")
    found = [json.loads(line) for line in done.output.splitlines()]
    assert [(each["way"], each["number"]) for each in found] == [
        (way, number) for way in ("replace", "accumulate") for number in range(4)
    ]  # fmt: skip
    assert found[3]["expected"] == pytest.approx(found[0]["diversity"]["mean"] * (1 - 1 / 30) ** 3)
    assert [each["rows"] for each in found[4:]] == [16, 46, 76, 106]
    assert "│" in called(file, "--generations", "1").output and not (tmp_path / "made").exists()


@pytest.mark.slow
def test_effect_and_generations_of_a_model(tmp_path: Path, tiny: str) -> None:
    """What the numbers are worth is not told here: arms have equal tokens, and a generation learns from rows."""
    text = (
        AUGMENT
        + f"""model = "{tiny}"
max_tokens = 6
[train]
task = "@/task.toml"
steps = 4
rank = 2
rate = 1e-3
[collapse]
learner = "model"
rows = 4
"""
    )
    task = [{"prompt": row["prompt"], "answer": row["completion"].strip()} for row in ROWS[:3]]
    write_rows(tmp_path / "task.jsonl", task)
    (tmp_path / "task.toml").write_text('data = "task.jsonl"\nmax_tokens = 3\n')
    file = pipeline(tmp_path, text)
    called(file, "--effect", "--json")
    done = called(file, "--effect", "--json")  # what the first left is in nobody's way
    assert done.exit_code == 0, done.output
    arms = {each["arm"]: each for each in map(json.loads, done.output.splitlines()) if each["event"] == "arm"}
    assert list(arms) == ["base", "real", "made", "both"] and arms["both"]["rows"] > arms["made"]["rows"] > 16
    assert all(abs(arms[name]["tokens"] / arms["real"]["tokens"] - 1) < 0.2 for name in ("made", "both"))
    assert set(arms["both"]["over"]) == {"base", "real", "made"}
    done = called(file, "--generations", "1", "--json")
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["rows"] for line in done.output.splitlines()] == [16, 4, 16, 20]
    write_rows(tmp_path / "texts.jsonl", [{"text": f"text {i}"} for i in range(6)])  # drawn from their beginning
    done = called(pipeline(tmp_path, text + '[report]\nreal = "@/texts.jsonl"\n'), "--generations", "1", "--json")
    assert [json.loads(line)["rows"] for line in done.output.splitlines()] == [6, 4, 6, 10], done.output
    for line, words in ((f'adapters = ["{tmp_path}/lora"]', "leave out generate.adapters"),
                        ('strategy = "budget 2"', "does not think")):  # fmt: skip
        refused = called(
            pipeline(tmp_path, text.replace("max_tokens = 6", f"max_tokens = 6\n{line}")), "--generations", "1"
        )
        assert refused.exit_code and words in f"{refused.output} {refused.exception}", refused.output


@pytest.mark.slow
def test_two_ranks_make_the_rows_that_one_process_makes(tmp_path: Path, tiny: str) -> None:
    """Also where a journal is there already, which rank 0 alone reads."""
    from tests.endtoend.test_together import MAIN
    from tests.processes import finish, start

    write_rows(tmp_path / "task.jsonl", [{"prompt": f"what is {i}?", "answer": "x"} for i in range(4)])
    yes = tmp_path / "yes.py"
    yes.write_text("import json, sys\nprint(len(json.loads(sys.stdin.readline())['said']) % 2)\n")
    text = f"""
[generate]
task = "@/task.jsonl"
model = "{tiny}"
answers = 4
max_tokens = 12
stop = ["1", "2", "a", "e", "x"]
verifier = "{sys.executable} {yes}"
"""
    file = pipeline(tmp_path, text)
    words = ["synth", str(file), "--out"]
    alone = called(file, "--out", tmp_path / "alone")
    assert alone.exit_code == 0, alone.output
    whole = (tmp_path / "alone" / "drawn.jsonl").read_bytes()
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "drawn.jsonl").write_bytes(whole[: whole.index(b"\n", len(whole) // 3) + 1])
    first, second = finish(start(2, tmp_path, [*MAIN, *words, str(tmp_path / "both")]))
    assert first[0] == 0 and second == (0, "", ""), first
    for name in ("drawn", "train", "dropped"):
        kept = [rows_of(tmp_path / folder / f"{name}.jsonl") for folder in ("alone", "both")]
        assert len(kept[0]) == len(kept[1]) > 0
        assert [row.get("completion") for row in kept[0]] == [row.get("completion") for row in kept[1]]


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
