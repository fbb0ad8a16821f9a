"""`likely scale fit` as a person and a program call it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import app.cli
from engine.scaling.forms import PowerLaws
from engine.scaling.toys import Toy
from tests.engine.scaling.test_fit import LAW, ladder
from tests.engine.scaling.test_ladder_runs import PlantedRungs

Fit = Callable[..., tuple[int, str, str]]
GRID = [(n, d) for n in (1e6, 1e7, 1e8) for d in (1e8, 1e9, 1e10)]
RISING, LEVEL = (
    "parameters,tokens,loss\n" + "".join(f"{n},{d},{loss(n)}\n" for n, d in GRID)
    for loss in (lambda n: 2 + n / 1e8, lambda n: 3.0)
)


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Fit:
    """Run `likely scale fit ARGS`; gives (exit code, stdout, stderr)."""

    def run(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["likely", "scale", "fit", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            app.cli.main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    return run


def table(folder: Path, *more: str, sizes: int = 7) -> Path:
    runs = ladder(5, sizes, 0.005)
    rows = [f"{n},{d},{loss}" for n, d, loss in zip(runs.parameters, runs.tokens, runs.loss, strict=True)]
    path = folder / "runs.csv"
    path.write_text("\n".join(["parameters,tokens,loss", *rows, *more]) + "\n")
    return path


def test_json_has_the_law_its_intervals_and_what_was_left_out(fit: Fit, tmp_path: Path) -> None:
    path = table(tmp_path, "1e8,1e10,nan", "1e8,1e10,30", "0,1e9,3", "x,1e9,3", "1e8,,3", "", "1e8,1e10,-2")
    found = json.loads(fit(path, "--json")[1])
    assert found["n"] == 35 and [each["row"] for each in found["left_out"]] == [37, 38, 39, 40, 41, 43]
    assert "diverged" in found["left_out"][1]["reason"] and "no number: 'x'" in found["left_out"][3]["reason"]
    for name in ("E", "A", "B", "alpha", "beta", "a"):
        low, high = found["intervals"][name]
        assert low < found[name] < high
    assert found["objective"] > 0 and found["coverage"] is None
    assert [each["open"] for each in found["budgets"]] == [False, False, True]
    assert len(found["iso_flop"]) == 5 and 0 < found["exponents"]["envelope"]["a"] < 1


def test_what_runs_do_not_determine_is_null(fit: Fit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Refits of few and noisy runs give factors that no float holds."""
    monkeypatch.setattr(PowerLaws, "laws", lambda self, theta: np.full((len(theta), 5), [1.0, np.inf, 2.0, 0.3, 0.3]))
    monkeypatch.setattr(PowerLaws, "law", lambda self, theta: LAW)
    code, out, err = fit(table(tmp_path), "--json", "--refits", "100")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert code == 0 and not err and found["intervals"]["A"] == [None, None]
    assert found["intervals"]["B"] == [2.0, 2.0] and found["budgets"][0]["intervals"]["loss"] == [None, None]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_and_other_units_the_same_law(fit: Fit, tmp_path: Path) -> None:
    path = table(tmp_path)
    _, plain, _ = fit(path, "--json")
    assert fit(path, "--json")[1] == plain
    for option in ("--seed", "--refits"):
        assert fit(path, "--json", option, "100")[1] != plain
    lines = path.read_text().splitlines()
    rows = [[float(x) for x in line.split(",")] for line in lines[1:]]
    other = tmp_path / "theirs.csv"
    text = [f"{n / 1e6!r},{6 * n * d!r},{loss!r}" for n, d, loss in rows]
    other.write_text("\n".join(["Size (M), FLOP,final loss", *text]))
    maps = ["--map", "parameters=Size (M)*1e6", "--map", "compute=FLOP", "--map", "loss=final loss"]
    mapped = json.loads(fit(other, "--json", *maps)[1])
    assert mapped["alpha"] == pytest.approx(json.loads(plain)["alpha"], rel=1e-6)


@pytest.mark.slow
def test_a_person_sees_what_hangs_on_what(fit: Fit, tmp_path: Path) -> None:
    path = table(tmp_path, "1e8,1e10,nan", sizes=3)
    _, text, _ = fit(path, "--budget", "1e21", "--budget", "1e23")
    for words in (
        "left out: row 17",
        "without the 5 highest",
        "envelope",
        "told",
        "open: 100 times",
        "held the truth",
        "holds",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ("parameters,loss\n1,2\n", (), "has no column 'tokens', but parameters, loss: say --map tokens=COLUMN"),
        ("", (), "no header"),
        ("parameters,tokens,loss\n", (), "no run to fit"),
        ("parameters,tokens,loss\n1,2,nan\n", (), "no run to fit: row 2: it diverged"),
        ("parameters,tokens,loss\n1e6,1e7,3\n1e6,1e7,inf\n", ("--keep-all",), "row 3: it diverged: its loss is inf"),
        ("parameters,tokens,loss\n1e6,1e7,3\n", (), "6 runs or more"),
        (RISING, (), "the loss does not fall with both parameters and tokens"),
        (LEVEL, (), "the loss does not fall with both parameters and tokens"),
        ("parameters,tokens,loss\n1e9,20,3\n1e8,3,4\n", (), "2 of 2 runs saw fewer tokens than they have parameters"),
        ("N,tokens,loss\n1,2,3\n", ("--map", "parameters=n"), "has column 'n' (parameters) not"),
        ("N,N,loss\n1,2,3\n", ("--map", "parameters=N"), "'N' (parameters) twice"),
        ("parameters,tokens,loss\n1,2,3\n", ("--map", "size=N"), "NAME one of parameters, tokens"),
        ("parameters,tokens,loss\n1,2,3\n", ("--map", "tokens=tokens*0"), "above 0"),
        ("parameters,tokens,loss\n1,2,3\n", ("--budget", "-1"), "above 0 such as 1e18"),
        ("parameters,tokens,loss\n1,2,3\n", ("--budget", "nan"), "above 0 such as 1e18"),
        ("\x00\x01\xff", (), "must be UTF-8"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(fit: Fit, tmp_path: Path, rows: str, options: tuple[str, ...], words: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(rows.encode("latin-1"))
    code, out, err = fit(path, *options)
    assert code in (1, 2) and not out and words in err.strip().splitlines()[-1]
    assert code == 2 or len(err.strip().splitlines()) == 1


def test_a_ladder_says_what_it_costs_and_then_runs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With a stand-in for who trains; the table that comes of it is fitted by the same verb."""

    def run(*args: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["likely", "scale", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            app.cli.main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    trainer = PlantedRungs()
    monkeypatch.setattr("app.cli.scale_runs.trainer", lambda plan: trainer)
    path = tmp_path / "plays.toml"
    path.write_text('layout = "grid"\nsizes = ["10k", "30k", "100k"]\ntokens = [2e5, 1e6, 4e6]\nratios = [1.5, 300]\n')
    planned = json.loads(run("plan", path, "--json")[1])
    assert len(planned["runs"]) == 8 and planned["left_out"] == [
        "10k on 4,000,000 tokens: 400 a parameter, not 1.5 to 300"
    ]
    assert planned["seconds"] == pytest.approx(sum(each["seconds"] for each in planned["runs"]))
    code, out, err = run("run", path, "--within", "0.001")
    assert code == 1 and "8 runs: 17 min" not in err and "more than --within 0.001 hours" in err and not trainer.trained
    assert "2 of them read the text's 1,000,000 tokens again, up to 4 times in all" in out
    assert "8 runs: " in out and " on this machine" in out  # the cost came first
    code, out, _ = run("run", path)
    assert code == 0 and out.count("loss ") == 7 and "100k-200000-0           diverged: left out of every fit" in out
    assert "0 runs, 8 done already" in run("plan", path)[1]
    code, out, _ = run("fit", tmp_path / "plays" / "runs.csv", "--json")
    assert json.loads(out)["left_out"][0]["run"] == "100k-200000-0" and json.loads(out)["n"] == 7


def test_a_toy_sets_its_prediction_beside_its_outcome(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    planted = Toy(
        "manifold", "points", np.array([10, 100, 1000]), 0.5, "a cause", lambda n, r: n**-0.5 * r.normal(1, 0.01)
    )
    monkeypatch.setattr("engine.scaling.toys.manifold", lambda: [planted])

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["likely", "scale", "toy", *args])
        with pytest.raises(SystemExit) as end:
            app.cli.main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    found = json.loads(run("manifold", "--json")[1])
    assert found["predicted"] == 0.5 and found["interval"][0] < found["exponent"] < found["interval"][1]
    assert "predicted 0.5000   found 0.5" in run("manifold", "--seeds", "3")[1]
    assert "--alpha is planted in quanta and features" in run("manifold", "--alpha", "0.5")[2]
    (tmp_path / "text").write_text("to be")
    assert "--text is for bigrams" in run("quanta", "--text", str(tmp_path / "text"))[2]
    assert run("bigrams", "--text", str(tmp_path / "text"))[2].startswith("likely: bigrams take a text of 500")


@pytest.mark.slow
def test_pictures_are_files_that_say_what_was_found(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, out = table(tmp_path, "1e8,1e10,nan"), {name: tmp_path / f"ladder.{name}" for name in ("svg", "png", "html")}

    def run(*args: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["likely", "scale", "show", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            app.cli.main()
        return int(end.value.code or 0), capfd.readouterr().err

    options = [each for name, file in out.items() for each in (f"--{name}", file)]
    assert run(path, *options, "--rate", "1e17")[0] == 0
    drawn = ElementTree.parse(out["svg"]).getroot()
    assert len(drawn.findall(".//{*}svg")) == 4
    assert len(drawn.findall(".//{*}title")) > 3 * 35  # of every run, its numbers, in three pictures
    assert out["png"].read_bytes().startswith(b"\x89PNG")
    page = out["html"].read_text()
    assert "row 37: it diverged" in page and ", open: " in page and "<script" not in page and "http://www.w3" in page
    assert "the screen needs a terminal" in run(path)[1] and "--rate is of a file" in run(path, "--rate", "1e9")[1]
    assert "--map is of a file" in run(path, "--map", "loss=loss")[1]
    assert "has column 'L' (loss) not" in run(path, "--map", "loss=L", "--svg", out["svg"])[1]
    assert "--rate takes numbers above 0" in run(path, "--svg", out["svg"], "--rate", "-1")[1]
