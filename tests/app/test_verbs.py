"""Verbs of posteriors, of few rows and of made rows, with the engine's part done by a script."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

from app.cli import estimate, synth
from app.cli import likely as program
from engine.errors import DataError
from engine.estimate.bounds import RiskBound
from engine.posterior.stored import FILE, FitFacts
from tests.app.test_synth_text import REPORT as ROWS
from tests.app.test_synth_text import RUNGS

Captured = pytest.CaptureFixture[str]


def said(*words: str) -> Any:
    return CliRunner().invoke(program, words)


# -- posteriors ------------------------------------------------------------------------------------------------------

FACTS = FitFacts("laplace", "a", "b", 12.3456, -98.76, 20, 45)


def test_a_posterior_is_fitted_as_its_options_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine.posterior import fit

    noted: list[Any] = []

    def takes(name: str, gives: Any) -> None:
        def noted_(*args: Any, **more: Any) -> Any:
            noted.append(
                (
                    name,
                    [str(arg) for arg in args if not callable(arg)],
                    {k: v for k, v in more.items() if k != "progress"},
                )
            )
            return gives

        monkeypatch.setattr(fit, name, noted_)

    (
        takes("open_adapter", "opened"),
        takes("read_rows", "rows"),
        takes("fit_laplace", FACTS),
        takes("fit_swag", FACTS),
        takes("join", FACTS),
    )
    result = said("posterior", "laplace", "ad")
    assert result.output.splitlines() == [
        f"wrote {Path('ad') / FILE}: laplace · 20 rows, 45 targets · prior precision 12.35 · log evidence -142.5 bits",
        "likely explain -A ad TEXT shows what hangs on it",
    ]
    assert noted == [
        ("open_adapter", ["ad", ""], {}),
        ("read_rows", ["opened", "", "()"], {}),
        ("fit_laplace", ["opened", "rows"], {"last": True, "precision": None, "draws": 1, "seed": 0}),
    ]
    noted.clear()
    words = [
        "--structure",
        "kron",
        "--prior-precision",
        "100",
        "--draws",
        "100",
        "-M",
        "m",
        "--data",
        "d",
        "--map",
        "a=b",
        "--seed",
        "3",
    ]
    told = json.loads(said("posterior", "laplace", "ad", *words, "--json").output)
    assert told == {
        "out": str(Path("ad") / FILE),
        "kind": "laplace",
        "adapter": "a",
        "base": "b",
        "precision": 12.3456,
        "log_evidence": -98.76,
        "rows": 20,
        "tokens": 45,
        "units": {"log_evidence": "nats"},
    }
    assert noted[0][1] == ["ad", "m"] and noted[1][1] == ["opened", "d", "('a=b',)"]
    assert noted[2][2] == {"last": False, "precision": 100.0, "draws": 100, "seed": 3}
    noted.clear()
    said("posterior", "swag", "ad"), said("posterior", "swag", "ad", "--steps", "2", "--rate", "0.5")
    assert [more for name, _, more in noted if name == "fit_swag"] == [
        {"steps": 100, "rate": None, "seed": 0},
        {"steps": 2, "rate": 0.5, "seed": 0},
    ]
    takes("join", FitFacts("ensemble", "a", "b"))
    assert said("posterior", "ensemble", "ad", "x", "y").output.startswith(f"wrote {Path('ad') / FILE}: ensemble\n")
    assert noted[-1] == ("join", ["opened", "(PosixPath('x'), PosixPath('y'))"], {})
    for wrong in (
        ["laplace", "ad", "--draws", "0"],
        ["laplace", "ad", "--draws", "101"],
        ["laplace", "ad", "--prior-precision", "0"],
        ["swag", "ad", "--steps", "1"],
        ["swag", "ad", "--rate", "0"],
        ["ensemble", "ad"],
        ["laplace", "ad", "--seed", "-1"],
    ):
        assert said("posterior", *wrong).exit_code == 2, wrong


# -- few rows --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ladders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Trainings that are not made; notes of what was asked."""
    from engine.estimate import ladder, trial

    noted: list[Any] = []
    monkeypatch.chdir(tmp_path)
    results = [
        SimpleNamespace(
            failed=failed, name={"rows": rows}, loss=SimpleNamespace(mean=loss), accuracy=SimpleNamespace(mean=0.75)
        )
        for rows, loss, failed in ((0, 9.0, ""), (20, 2.0, ""), (40, 1.5, "broke"), (80, 1.0, ""))
    ]
    monkeypatch.setattr(ladder, "pool", lambda settings: noted.append(settings) or SimpleNamespace(rows=[0] * 100))
    monkeypatch.setattr(ladder, "sizes", lambda asked, count: noted.append((asked, count)) or (asked or (50, 100)))
    monkeypatch.setattr(ladder, "rungs", lambda *args, **more: noted.append((args[2:], more)) or list("abcd"))
    monkeypatch.setattr(ladder, "head", lambda settings, rows: {})
    monkeypatch.setattr(ladder, "table", lambda results: noted.append(results) or RUNGS)
    monkeypatch.setattr(trial, "remaining", lambda trials, folder, head: noted.append(str(folder)) or list("cd"))
    monkeypatch.setattr(trial, "cost", lambda bases, left: 90.0)
    events = [SimpleNamespace(result=result, left_s=0.0, done=1, total=4) for result in results]
    monkeypatch.setattr(trial, "run", lambda *args: iter(events))
    monkeypatch.setattr(estimate, "show_trial", lambda event, progress, as_json: None)
    return noted


def test_a_curve_is_of_the_rungs_that_did_not_fail(ladders: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.estimate import curve

    fitted: list[Any] = []

    def fit(counts: Any, values: Any) -> Any:
        fitted.append((counts, values))
        raise DataError("too few")

    monkeypatch.setattr(curve, "fit", fit)
    result = said("estimate", "curve", "rows.jsonl", "--sizes", "20,40", "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert fitted == [([20.0, 80.0], [2.0, 1.0]), ([20.0, 80.0], [0.25, 0.25])]
    assert (
        result.output.splitlines()[0] == "4 trainings, 2 done already; about 1 min 30 s"
        and "loss (bits a token): too few" in result.output
    )
    assert (
        ladders[0].valid == 0.25
        and ladders[0].out == "estimate"
        and ladders[1] == ((20, 40), 100)
        and ladders[2] == (((20, 40), 2), {})
    )
    dry = said("estimate", "curve", "rows.jsonl", "--dry-run", "--json", "--out", "o", "-M", "m")
    assert json.loads(dry.output) == {"event": "planned", "trainings": 4, "done": 2, "seconds": 90.0}
    assert ladders[-1] == "o" and ladders[-2] == (((50, 100), 3), {}) and len(fitted) == 2
    assert [each.model for each in ladders if hasattr(each, "model")][-1] == "m"
    told = json.loads(said("estimate", "curve", "rows.jsonl", "--json").output.splitlines()[-1])
    assert told["event"] == "curve" and told["without"] == {"loss": "too few", "errors": "too few"}
    worth: list[Any] = []
    made = SimpleNamespace(largest=80.0, worth=lambda begin, end: worth.append((begin, end)), numbers={})
    monkeypatch.setattr(curve, "fit", lambda counts, values: made)
    monkeypatch.setattr(curve, "checked", lambda counts, values: None)
    monkeypatch.setattr(estimate.text, "curve_lines", lambda told, more: [f"{list(told.curves)} {more}"])
    assert said("estimate", "curve", "rows.jsonl").output.splitlines()[-1] == "['loss', 'errors'] 100"
    assert said("estimate", "curve", "rows.jsonl", "--next", "7").output.endswith(" 7\n")
    assert worth == [(80.0, 180.0)] * 2 + [(80.0, 87.0)] * 2
    for wrong in (["--seeds", "0"], ["--seeds", "101"], ["--next", "0"], ["--sizes", "a"]):
        assert said("estimate", "curve", "rows.jsonl", *wrong).exit_code == 2, wrong


def test_a_ladder_of_bases_is_a_table(ladders: list[Any]) -> None:
    result = said("estimate", "transfer", "rows.jsonl", "-M", "a", "-M", "b", "--layers", "2,-1", "--sizes", "0,20")
    assert result.exit_code == 0 and "gain over no training" in result.output and ladders[0].model == "a"
    assert ladders[2] == (((0, 20), 1), {"models": ("a", "b"), "layers": (2, -1)})
    ladders.clear()
    told = json.loads(said("estimate", "transfer", "rows.jsonl", "--json").output.splitlines()[-1])
    assert told["event"] == "table" and ladders[1:3] == [((), 100), ((0, 50, 100), 100)]
    assert (
        said("estimate", "transfer", "rows.jsonl", "--dry-run").output
        == "4 trainings, 2 done already; about 1 min 30 s\n"
    )


def test_whole_numbers_have_commas_between_them() -> None:
    kind = estimate.Numbers()
    assert kind.convert("20,-1, 3", None, None) == (20, -1, 3) and kind.convert((1, 2), None, None) == (1, 2)
    with pytest.raises(
        click.UsageError, match="takes whole numbers with commas between them such as 20,40,80, got '1,x'"
    ):
        kind.convert("1,x", None, None)


def test_a_bound_is_of_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine.estimate import guarantee
    from engine.sources import checkpoint
    from engine.tune import data

    noted: list[Any] = []
    digests = {"h": ["1", "2"], "t": ["3"], "same": ["2", "3"]}

    class Guarantees:
        def __init__(self, checkpoint: Any, adapter: Any, rows: Any) -> None:
            noted.append((checkpoint, str(adapter), len(rows)))

        def held_out(self, rows: Any, delta: float) -> Any:
            noted.append(("held", len(rows), delta))
            return [RiskBound("errors", 2, 0.1, 0.2, 1.0, 0.95)]

        def variances(self) -> str:
            return "variances"

        def trained(self, rows: Any, variances: Any, *, draws: int, delta: float) -> Any:
            noted.append(("trained", len(rows), variances, draws, delta))
            return [RiskBound("errors too", 1, 0.1, 0.3, 1.0, 0.95)]

    monkeypatch.setattr(guarantee, "Guarantees", Guarantees)
    monkeypatch.setattr(guarantee, "options", lambda adapter: SimpleNamespace(model="base"))
    monkeypatch.setattr(checkpoint, "load", lambda name, progress: f"loaded {name}")
    monkeypatch.setattr(
        data,
        "read",
        lambda name, valid: SimpleNamespace(train=[SimpleNamespace(digest=digest) for digest in digests[name]]),
    )
    words = ["estimate", "bound", str(tmp_path)]
    result = said(*words, "--held-out", "h", "--trained", "t", "--posterior", "--draws", "5", "--delta", "0.1")
    assert [line.split("  ")[0].strip() for line in result.output.splitlines()] == ["errors", "errors too"]
    assert noted == [("loaded base", str(tmp_path), 2), ("held", 2, 0.1), ("trained", 1, "variances", 5, 0.1)]
    noted.clear()
    assert json.loads(said(*words, "--trained", "t", "--json").output)["event"] == "bounds"
    assert noted == [("loaded base", str(tmp_path), 1), ("trained", 1, None, 20, 0.05)]
    assert said(*words, "--held-out", "h").exit_code == 0 and noted[-1] == ("held", 2, 0.05)
    for wrong, line in (
        ([], "a bound is of rows: give --held-out, --trained or both"),
        (["--held-out", "h", "--posterior"], "--posterior is of a bound"),
        (["--held-out", "h", "--trained", "same"], "1 rows of --held-out are in --trained"),
        (["--trained", "t", "--delta", "0"], "delta"),
        (["--trained", "t", "--delta", "1"], "delta"),
        (["--trained", "t", "--draws", "0"], "draws"),
    ):
        refused = said(*words, *wrong)
        assert refused.exit_code == 2 and line in refused.output, refused.output


# -- made rows -------------------------------------------------------------------------------------------------------


def test_stages_are_told_as_they_end(capsys: Captured) -> None:
    from engine.synth.pipeline import RowsWarned, RowsWritten, StageYield

    events = [
        StageYield("filter", 200, 150, {"length": 30, "language": 20}),
        StageYield("split", 0, 0, {}),
        RowsWarned("few rows"),
        RowsWritten(Path("made"), {"train": 9, "valid": 0, "test": 1}, 7),
    ]
    for event in events:
        synth._say(event, False)
    out, err = capsys.readouterr()
    assert (
        out.splitlines()
        == [
            "filter            200 ->     150   75%  length 30 · language 20",
            "split               0 ->       0     -",
            "made: train 9, test 1; 7 aside in dropped.jsonl",
        ]
        and err == "likely: few rows\n"
    )
    for event in events:
        synth._say(event, True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "stage", "stage": "filter", "came": 200, "kept": 150, "reasons": {"length": 30, "language": 20}},
        {"event": "stage", "stage": "split", "came": 0, "kept": 0, "reasons": {}},
        {"event": "warning", "line": "few rows"},
        {"event": "written", "folder": "made", "train": 9, "valid": 0, "test": 1, "dropped": 7},
    ]


def pipeline(**more: Any) -> Any:
    given: dict[str, Any] = {
        "generate": SimpleNamespace(model="m", method="verified", adapters=()),
        "train": SimpleNamespace(task="t"),
        "real": "r",
        "out": "o",
        "report": SimpleNamespace(heldout="", model=""),
        "asked": None,
        "seed": 3,
        "collapse": SimpleNamespace(kind="answer", learner="counts", rows=9),
    }
    return SimpleNamespace(**given | more)


def test_what_a_pipeline_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("")
    config, noted = [pipeline()], []
    monkeypatch.setattr(synth, "read", lambda path, **more: noted.append(more) or config[0])
    for name in ("_make", "_report", "_effect", "_generations"):
        monkeypatch.setattr(synth, name, lambda *args, name=name: noted.append((name, *args[1:])))
    words = ["synth", str(tmp_path / "p.toml")]
    monkeypatch.setenv("LIKELY_MODEL", "named")
    assert said(*words, "--report", "--effect").exit_code == 0
    assert noted == [
        {"model": None, "out": None, "seed": None},
        ("_make", False),
        ("_report", False),
        ("_effect", False),
    ]
    for changed, more, line in (
        (pipeline(train=SimpleNamespace(task="")), ["--effect"], "--effect evaluates on a task"),
        (pipeline(real=""), ["--effect"], "real rows are wanted"),
        (pipeline(real=""), ["--report"], "real rows are wanted"),
        (
            pipeline(generate=SimpleNamespace(model="m", method="preference")),
            ["--effect"],
            "--effect trains on rows, not on pairs",
        ),
    ):
        config[0] = changed
        refused = said(*words, *more)
        assert refused.exit_code == 2 and line in refused.output
    noted.clear()
    config[0] = pipeline(generate=SimpleNamespace(model="", method="verified"))
    said(*words, "--generations", "2", "--json")
    assert noted == [
        {"model": None, "out": None, "seed": None},
        {"model": "named", "out": None, "seed": None},
        ("_generations", 2, True),
    ]
    monkeypatch.setattr(synth.ranks, "joined", lambda: object())
    for more in (["--report"], ["--effect"], ["--generations", "1"]):
        assert "one process's work: start without mlx.launch" in said(*words, *more).output
    assert said(*words).exit_code == 0


def test_made_rows_are_set_against_real_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured) -> None:
    from engine.synth import inputs, report

    monkeypatch.setattr(synth, "_kept", lambda config: ["made"])
    monkeypatch.setattr(inputs, "pairs", lambda name: [name])
    noted: list[Any] = []
    monkeypatch.setattr(
        report, "report", lambda made, real, features, **more: noted.append((made, real, features, more)) or ROWS
    )
    config = pipeline(out=str(tmp_path))
    synth._report(config, False)
    out = capsys.readouterr().out
    beside = tmp_path / "neighbours.jsonl"
    assert out.startswith("12 made rows against 34") and out.endswith(
        f"  each row's nearest real one and longest shared run: {beside}\n"
    )
    assert beside.read_text() == '{"x": 1}\n' and noted == [(["made"], ["r"], None, {"heldout": [], "grid": None})]
    synth._report(pipeline(out=str(tmp_path), report=SimpleNamespace(heldout="h", model="")), True)
    assert json.loads(capsys.readouterr().out)["event"] == "report" and noted[1][3]["heldout"] == ["h"]


def test_rows_are_made_event_by_event(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from engine.synth import pipeline as stages

    shown: list[Any] = []
    events: list[Any] = [stages.JobDone(1, 9, 20, 3), stages.RowsScored("scoring", 2, 8), stages.RowsWarned("few")]
    monkeypatch.setattr(synth.Progress, "show", lambda self, *args: shown.append(args))
    monkeypatch.setattr(stages, "run", lambda config, opens: iter(events))
    synth._make(pipeline(), False)
    assert (
        shown == [("drawing · 20 rows, 3 aside", 1, 9), ("scoring", 2, 8), ("", 0, 0)]
        and capsys.readouterr().err == "likely: few\n"
    )
    monkeypatch.setattr(synth.ranks, "joined", lambda: SimpleNamespace(leads=False))
    synth._make(pipeline(), False)
    assert len(shown) == 3 and capsys.readouterr().err == ""

    def stopped(config: Any, opens: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "run", stopped)
    with pytest.raises(SystemExit) as end:
        synth._make(pipeline(), False)
    assert end.value.code == 130 and "the same command goes on from there" in capsys.readouterr().err
