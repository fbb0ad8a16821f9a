"""Words of `likely scale` on ladders made by hand: the law and all beside it, what runs cost, files, toys."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from app.cli import likely as program
from app.cli import scale, scale_runs, scale_toy
from app.cli.scale_runs import LadderOutlook
from engine.errors import DataError
from engine.evaluate.estimates import Estimate
from engine.scaling.cost import LadderCost
from engine.scaling.forecast import Foretold
from engine.scaling.ladder import LeftOut
from engine.scaling.law import Law
from engine.scaling.plan import Rung
from engine.scaling.running import RungEnded, RungResult
from engine.scaling.toys import Toy, ToyFit
from tests.app.ladders import BARE, REPORT
from tests.pictures import assert_picture

Captured = pytest.CaptureFixture[str]


def test_all_that_is_found_is_said_in_parts(capsys: Captured) -> None:
    scale._show(REPORT)
    scale._show(BARE)
    assert_picture("app/pictures/scale.txt", capsys.readouterr().out)


def test_all_that_is_found_is_an_object() -> None:
    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: short(each) for name, each in value.items()}
        if isinstance(value, list):
            return [short(each) for each in value]
        return float(f"{value:.6g}") if isinstance(value, float) else value

    lines = [json.dumps(short(scale._told(scale._object(found))), indent=1) for found in (REPORT, BARE)]
    assert_picture("app/pictures/scale.json", "\n".join(lines) + "\n")


def test_what_no_json_has_is_null_at_any_depth() -> None:
    assert scale._told({"a": [1.0, math.nan, (math.inf, "b")], "c": {"d": -math.inf, "e": 3}}) == {
        "a": [1.0, None, [None, "b"]], "c": {"d": None, "e": 3},
    }  # fmt: skip


def test_only_twelve_of_each_are_said(capsys: Captured) -> None:
    left = [LeftOut(i, "bad") for i in range(13)]
    seen = [Foretold(i, 1e9, 2.0, 1.9, 2.1, 2.0 + (i == 0)) for i in range(13)]
    scale._show(replace(REPORT, left_out=left, foretold=seen))
    out = capsys.readouterr().out
    assert out.count("  left out: row") == 12 and "  left out: 1 more (--json names them)\n" in out
    assert out.count("seen 2.0000   inside") == 12 and "outside" not in out and "  12 of 13 inside\n" in out
    scale._show(replace(REPORT, left_out=left[:12]))
    assert "more (--json" not in capsys.readouterr().out


@pytest.mark.parametrize(("at", "said"), [(4.8e8, "none within these runs"), (1e9, "C^-0.120, from 1e+09 on C^-0.080"),
                                          (4.8e9, "none within these runs")])  # fmt: skip
def test_a_break_is_one_within_the_runs(at: float, said: str, capsys: Captured) -> None:
    assert REPORT.broken is not None
    scale._show(replace(REPORT, broken=replace(REPORT.broken, at=at)))
    assert f"With a break, along the envelope: {said}\n" in capsys.readouterr().out


def test_a_budget_is_above_0() -> None:
    kind = scale.Compute()
    assert kind.convert("1e18", None, None) == 1e18
    for wrong in ("0", "-1", "inf", "nan", "x"):
        with pytest.raises(click.UsageError, match="takes floating-point operations above 0 such as 1e18, got"):
            kind.convert(wrong, None, None)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """`scale fit` and `show` find a report without fitting; notes of how they were asked."""
    from engine.scaling import ladder, report

    noted: list[Any] = []
    (tmp_path / "runs.csv").write_text("")

    def read(path: Path, mapped: Any, **more: Any) -> Any:
        noted.append((path.name, dict(mapped), more))
        return "runs", ["left"]

    def found(*args: Any, **more: Any) -> Any:
        noted.append((args, more))
        return REPORT

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ladder, "read_runs", read)
    monkeypatch.setattr(report, "report", found)
    return noted


def test_a_fit_is_asked_as_its_options_say(fits: list[Any]) -> None:
    result = CliRunner().invoke(program, ["scale", "fit", "runs.csv"])
    assert result.exit_code == 0 and result.output.startswith("L(N, D) = ")
    assert fits == [
        ("runs.csv", {}, {"keep_all": False}),
        (("runs", ["left"], ()), {"count": 2000, "seed": 0, "keep_all": False}),
    ]
    fits.clear()
    words = ["--keep-all", "--budget", "1e9", "--budget", "2e9", "--refits", "100", "--seed", "3", "--json"]
    result = CliRunner().invoke(program, ["scale", "fit", "runs.csv", *words, "--map", "loss=L"])
    assert json.loads(result.output)["n"] == 8 and fits[0][2] == {"keep_all": True} and list(fits[0][1]) == ["loss"]
    assert fits[1] == (("runs", ["left"], (1e9, 2e9)), {"count": 100, "seed": 3, "keep_all": True})
    for wrong in (["--refits", "99"], ["--refits", "100001"], ["--seed", "-1"]):
        assert CliRunner().invoke(program, ["scale", "fit", "runs.csv", *wrong]).exit_code == 2
    assert CliRunner().invoke(program, ["scale", "fit", "runs.csv", "--refits", "100000"]).exit_code == 0


def test_pictures_are_files(fits: list[Any], tmp_path: Path) -> None:
    from app import ladder_figures

    words = ["scale", "show", "runs.csv", "--svg", "p.svg", "--html", "p.html", "--seed", "4"]
    result = CliRunner().invoke(program, words)
    assert result.exit_code == 0 and result.output == "", result.output
    assert fits[1] == (("runs", ["left"]), {"seed": 4})
    assert (tmp_path / "p.svg").read_text() == ladder_figures.svg(REPORT, 3e8), "as fast as the large runs were"
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    CliRunner().invoke(program, ["scale", "show", "runs.csv", "--svg", "p.svg", "--rate", "1e9"])
    assert (tmp_path / "p.svg").read_text() == ladder_figures.svg(REPORT, 1e9) and fits[3][1] == {"seed": 0}
    for wrong in ("0", "x", "-1"):
        said = CliRunner().invoke(program, ["scale", "show", "runs.csv", "--svg", "q.svg", "--rate", wrong])
        assert said.exit_code == 2 and "--rate" in said.output
    for option in (["--map", "loss=L"], ["--rate", "1e9"], ["--seed", "1"]):
        said = CliRunner().invoke(program, ["scale", "show", "runs.csv", *option])
        assert f"{option[0]} is of a file: add --svg, --png or --html" in said.output and said.exit_code == 2
    said = CliRunner().invoke(program, ["scale", "show", "runs.csv"])
    assert "the screen needs a terminal" in said.output and said.exit_code == 2


def test_a_screen_s_exit_code_is_the_program_s(fits: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import app.tui
    from app.cli import scale_show

    shown: list[Path] = []
    monkeypatch.setattr(scale_show, "on_terminal", lambda: True)
    monkeypatch.setattr(app.tui, "ladder", lambda runs: shown.append(runs) or 7)
    assert CliRunner().invoke(program, ["scale", "show", "runs.csv"]).exit_code == 7 and shown == [Path("runs.csv")]


# -- plans and runs --------------------------------------------------------------------------------------------------

PLAN: Any = SimpleNamespace(out=Path("out"))
RUNG = Rung("50k", 50_000, 1_000_000, 0)


def outlook(
    count: int = 2, done: int = 1, seconds: float = 90.0, memory: int = 5_000_000, unique: int = 600_000
) -> LadderOutlook:
    rungs = [replace(RUNG, seed=i, tokens=1_000_000 + 500_000 * i) for i in range(count + done)]
    cost = LadderCost(rungs[:count], [seconds] * count, memory)
    return LadderOutlook(PLAN, rungs, ["50k at 1e9: too few tokens"], cost, unique)


def test_what_runs_cost_is_a_table(capsys: Captured) -> None:
    scale_runs._tell(outlook())
    assert capsys.readouterr().out.splitlines() == [
        "  run                                N             D   C = 6 N D  here",
        "  50k-1000000-0                 50,000     1,000,000    3.00e+11  1 min 30 s",
        "  50k-1500000-1                 50,000     1,500,000    4.50e+11  1 min 30 s",
        "  left out: 50k at 1e9: too few tokens",
        "  2 of them read the text's 600,000 tokens again, up to 2.5 times in all",
        "2 runs, 1 done already: 3 min 00 s on this machine, one after another, by probes (4.17 GFLOP/s); "
        "5 MB at the most",
    ]
    scale_runs._tell(outlook(0, 3))
    assert capsys.readouterr().out == "  left out: 50k at 1e9: too few tokens\n0 runs, 3 done already\n"
    scale_runs._tell(outlook(1, 0, memory=0, unique=1_000_000))
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  left out: 50k at 1e9: too few tokens",
        "1 run: 1 min 30 s on this machine, one after another, by probes (3.33 GFLOP/s)",
    ]
    for count, more in ((40, ""), (41, "  1 more")):
        scale_runs._tell(outlook(count, 0))
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith("  50k-") for line in lines) == 40 and (more in lines) is bool(more)


RESULT = RungResult("50k-1000000-0", 50_000, 10, 1_000_000, 5, 2.34567, 2.3, 2.4, 75.0, 0, "here")


def test_a_run_that_has_ended_is_a_line(capsys: Captured) -> None:
    scale_runs._ended(RungEnded(RUNG, RESULT), False)
    scale_runs._ended(RungEnded(RUNG, replace(RESULT, loss=None), True), False)
    assert capsys.readouterr().out.splitlines() == [
        "  50k-1000000-0           loss 2.3457   1 min 15 s",
        "  50k-1000000-0           diverged: left out of every fit   1 min 15 s, from before",
    ]
    scale_runs._ended(RungEnded(RUNG, RESULT, True), True)
    assert json.loads(capsys.readouterr().out) | {"run": 0} == {
        "run": 0, "parameters": 50_000, "embedding": 10, "tokens": 1_000_000, "unique": 5, "loss": 2.34567, "low": 2.3,
        "high": 2.4, "seconds": 75.0, "seed": 0, "machine": "here", "before": True,
    }  # fmt: skip


def test_a_plan_is_an_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "l.toml").write_text("")
    monkeypatch.setattr(scale_runs, "_planned", lambda path: outlook())
    found = json.loads(CliRunner().invoke(program, ["scale", "plan", str(tmp_path / "l.toml"), "--json"]).output)
    assert found["runs"][1] == {
        "size": "50k", "parameters": 50_000, "tokens": 1_500_000, "seed": 1, "name": "50k-1500000-1", "seconds": 90.0,
    }  # fmt: skip
    assert {**found, "runs": 0} == {
        "runs": 0, "done": 1, "left_out": ["50k at 1e9: too few tokens"], "unique": 600_000, "seconds": 180.0,
        "rate": pytest.approx(7.5e11 / 180), "memory": 5_000_000,
    }  # fmt: skip
    monkeypatch.setattr(scale_runs, "_planned", lambda path: outlook(0, 1))
    found = json.loads(CliRunner().invoke(program, ["scale", "plan", str(tmp_path / "l.toml"), "--json"]).output)
    assert found["rate"] is None and found["done"] == 1
    words = CliRunner().invoke(program, ["scale", "plan", str(tmp_path / "l.toml")]).output
    assert words.endswith("0 runs, 1 done already\n")


def test_runs_are_told_as_they_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine.scaling import running

    (tmp_path / "l.toml").write_text("")
    stops = [False]

    def run(plan: Any, rungs: Any, trainer: Any, control: Any) -> Any:
        yield running.RungMoved(RUNG, 10, 3.0)
        yield running.RungElsewhere(RUNG)
        yield RungEnded(RUNG, RESULT)
        if stops[0]:
            control.stop()

    monkeypatch.setattr(scale_runs, "_planned", lambda path: outlook(seconds=1800.0))
    monkeypatch.setattr(scale_runs, "trainer", lambda plan: "trainer")
    monkeypatch.setattr(running, "run", run)
    words = ["scale", "run", str(tmp_path / "l.toml")]
    said = CliRunner().invoke(program, words)
    assert said.exit_code == 0
    assert said.output.splitlines()[-3:] == [
        "  50k-1000000-0: another process has it", "  50k-1000000-0           loss 2.3457   1 min 15 s",
        "the table: out/runs.csv",
    ]  # fmt: skip
    assert CliRunner().invoke(program, [*words, "--within", "1"]).exit_code == 0, "an hour is what it takes"
    refused = CliRunner().invoke(program, [*words, "--within", "0.99"])
    assert isinstance(refused.exception, DataError)
    assert str(refused.exception).endswith(
        "2 runs would take 1 h 00 min on this machine, more than --within 0.99 hours: fewer or smaller runs, or allow "
        "more"
    )
    assert CliRunner().invoke(program, [*words, "--within", "0"]).exit_code == 2
    lines = CliRunner().invoke(program, [*words, "--json"]).output.splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["loss"] == 2.34567
    stops[0] = True
    said = CliRunner().invoke(program, words)
    assert said.exit_code == 130 and said.output.endswith("the same command goes on from there\n")


# -- toys ------------------------------------------------------------------------------------------------------------

TOY = Toy("quanta", "size", np.array([10, 1000]), 0.25, "skills", lambda *_: None)  # type: ignore[arg-type,return-value]


def test_a_toy_is_set_beside_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.scaling import toys

    asked: list[int] = []

    def measure(toy: Toy, seeds: int) -> ToyFit:
        asked.append(seeds)
        return ToyFit(toy, Estimate(0.3, 0.01, bounds=(0.28, 0.325), n=2), np.array([[2.0, 1.0], [4.0, 2.0]]))

    monkeypatch.setattr(toys, "measure", measure)
    monkeypatch.setattr(scale_toy, "_toys", lambda name, alpha, text: [TOY])
    said = CliRunner().invoke(program, ["scale", "toy", "quanta"])
    assert said.output.splitlines() == [
        "quanta, by size: skills", "          10  3", "       1,000  1.5",
        "  predicted 0.2500   found 0.3000 [0.2800, 0.3250], 5 seeds   off +0.0500", "",
    ]  # fmt: skip
    told = json.loads(CliRunner().invoke(program, ["scale", "toy", "quanta", "--json", "--seeds", "2"]).output)
    assert told == {
        "toy": "quanta", "along": "size", "predicted": 0.25, "exponent": 0.3, "interval": [0.28, 0.325], "seeds": 2,
        "cause": "skills", "scale": [10, 1000], "losses": [[2.0, 1.0], [4.0, 2.0]],
    }  # fmt: skip
    assert asked == [5, 2]
    for wrong, line in (
        (["quanta", "--seeds", "1"], "not in the range"), (["quanta", "--seeds", "1001"], "not in the range"),
        (["quanta", "--alpha", "0.1"], "not in the range"), (["quanta", "--alpha", "1.6"], "not in the range"),
        (["manifold", "--alpha", "1"], "--alpha is planted in quanta and features: manifold has its exponent from its"),
        (["quanta", "--text", __file__], "--text is for bigrams: quanta makes its own data"),
    ):  # fmt: skip
        refused = CliRunner().invoke(program, ["scale", "toy", *wrong])
        assert refused.exit_code == 2 and line in refused.output
    for fine in (["features", "--alpha", "0.2"], ["quanta", "--alpha", "1.5"], ["bigrams", "--text", __file__]):
        assert CliRunner().invoke(program, ["scale", "toy", *fine]).exit_code == 0


def test_toys_are_made_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine.scaling import toys

    noted: list[Any] = []
    for name in ("quanta", "features", "manifold", "bigrams"):
        monkeypatch.setattr(toys, name, lambda *args, name=name, **more: noted.append((name, args, more)) or [TOY])
    (tmp_path / "t.txt").write_text("words")
    for call in (("quanta", None, None), ("quanta", 0.5, None), ("features", 0.5, None), ("manifold", None, None),
                 ("bigrams", None, tmp_path / "t.txt")):  # fmt: skip
        assert scale_toy._toys(*call) == [TOY]
    assert noted == [
        ("quanta", (), {}), ("quanta", (), {"alpha": 0.5}), ("features", (), {"alpha": 0.5}), ("manifold", (), {}),
        ("bigrams", ("words",), {}),
    ]  # fmt: skip
    scale_toy._toys("bigrams", None, None)
    assert noted[-1][0] == "bigrams" and "\n" in noted[-1][1][0] and len(noted[-1][1][0]) > 100_000
    assert isinstance(REPORT.fitted.law, Law)
