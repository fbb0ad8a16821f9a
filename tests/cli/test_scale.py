"""`likely scale fit` as a person and a program call it."""

import csv
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.cli.conftest import Likely
from tests.laws.test_scaling import ladder

GRID = [(n, d) for n in (1e6, 1e7, 1e8) for d in (1e8, 1e9, 1e10)]
RISING, LEVEL = (
    "parameters,tokens,loss\n" + "".join(f"{n},{d},{loss(n)}\n" for n, d in GRID)
    for loss in (lambda n: 2 + n / 1e8, lambda n: 3.0)
)


@pytest.fixture
def fit(likely: Likely) -> Likely:
    """`likely scale fit ARGS`."""
    return lambda *words: likely("scale", "fit", *words)


def table(folder: Path, *more: str, sizes: int = 7) -> Path:
    runs = ladder(5, sizes, 0.005)
    rows = [f"{n},{d},{loss}" for n, d, loss in zip(runs.parameters, runs.tokens, runs.loss, strict=True)]
    path = folder / "runs.csv"
    path.write_text("\n".join(["parameters,tokens,loss", *rows, *more]) + "\n")
    return path


def test_json_has_the_law_its_intervals_and_what_was_left_out(fit: Likely, tmp_path: Path) -> None:
    path = table(tmp_path, "1e8,1e10,nan", "1e8,1e10,30", "0,1e9,3", "x,1e9,3", "1e8,,3", "", "1e8,1e10,-2")
    found = json.loads(fit(path, "--json")[1])
    nats = dict.fromkeys(("E", "loss", "losses", "told", "seen"), "nats a token")
    assert found["units"] == {"compute": "FLOP"} | nats
    assert found["n"] == 35 and [each["row"] for each in found["left_out"]] == [37, 38, 39, 40, 41, 43]
    assert "diverged" in found["left_out"][1]["reason"] and "no number: 'x'" in found["left_out"][3]["reason"]
    for name in ("E", "A", "B", "alpha", "beta", "a"):
        low, high = found["intervals"][name]
        assert low < found[name] < high
    assert found["objective"] > 0 and found["coverage"] is None
    assert [each["open"] for each in found["budgets"]] == [False, False, True]
    assert len(found["iso_flop"]) == 5 and 0 < found["exponents"]["envelope"]["a"] < 1


@pytest.mark.slow(4)
@pytest.mark.parametrize(
    ("losses", "null"),
    [
        ((5.133, 4.499, 4.092, 4.202, 2.624, 3.075, 3.281, 3.227, 2.854), True),
        ((3.0, 3.119, 2.89, 2.644, 2.818, 2.603, 3.024, 3.536, 2.803), False),
    ],
)
def test_what_few_and_noisy_runs_do_not_determine_is_null(
    fit: Likely, tmp_path: Path, losses: tuple[float, ...], null: bool
) -> None:
    """Refits give factors that no float holds, and laws by which a loss is none."""
    (tmp_path / "runs.csv").write_text(
        "parameters,tokens,loss\n" + "".join(f"{n},{d},{x}\n" for (n, d), x in zip(GRID, losses, strict=True))
    )
    code, out, err = fit(tmp_path / "runs.csv", "--json", "--refits", "100")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert code == 0 and not err and (found["intervals"]["A"][1] is None) == null


@pytest.mark.slow
def test_the_same_seed_gives_the_same_and_other_units_the_same_law(fit: Likely, tmp_path: Path) -> None:
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
def test_a_person_sees_what_hangs_on_what(fit: Likely, tmp_path: Path) -> None:
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
def test_bad_input_is_one_line(fit: Likely, tmp_path: Path, rows: str, options: tuple[str, ...], words: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(rows.encode("latin-1"))
    code, out, err = fit(path, *options)
    assert code in (1, 2) and not out and words in err.strip().splitlines()[-1]
    assert code == 2 or len(err.strip().splitlines()) == 1


LADDER = """
sizes = ["15k", "30k"]
compute = [2e7, 4e7]
ratios = [0.01, 200]
out = "plays"
[training]
data = "days.jsonl"
tokenizer = "characters"
context = 16
batch = 2
"""


@pytest.mark.slow(5)
def test_a_ladder_says_what_it_costs_and_then_runs(
    likely: Likely, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The table that comes of it is read by the verb that fits; what has run is not run again."""
    monkeypatch.chdir(tmp_path)
    rows = (json.dumps({"text": f"Day {n} was a day like any other."}) for n in range(60))
    Path("days.jsonl").write_text("".join(f"{row}\n" for row in rows))
    Path("plays.toml").write_text(LADDER)
    planned = json.loads(likely("scale", "plan", "plays.toml", "--json").out)
    names = [each["name"] for each in planned["runs"]]
    assert len(names) == 2 and planned["done"] == 0
    assert planned["seconds"] == pytest.approx(sum(each["seconds"] for each in planned["runs"]))
    assert planned["rate"] == pytest.approx(
        6 * sum(each["parameters"] * each["tokens"] for each in planned["runs"]) / planned["seconds"]
    )
    code, out, err = likely("scale", "run", "plays.toml", "--within", "1e-9")
    assert code == 1 and "more than --within 1e-09 hours" in err and not (Path("plays") / "runs.csv").exists()
    assert "2 runs: " in out and all(name in out for name in names)  # the cost comes first
    code, out, err = likely("scale", "run", "plays.toml", "--json")
    ended = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [each["run"] for each in ended] == names, err
    assert all(each["low"] <= each["loss"] <= each["high"] and not each["before"] for each in ended)
    assert planned["units"] == {"seconds": "s", "rate": "FLOP/s", "memory": "bytes"}
    assert ended[0]["units"] == {"seconds": "s"} | dict.fromkeys(("loss", "low", "high"), "nats a token")
    assert "0 runs, 2 done already" in likely("scale", "plan", "plays.toml").out
    again = likely("scale", "run", "plays.toml").out
    assert again.count("from before") == 2 and all(f"loss {each['loss']:.4f}" in again for each in ended)
    table = list(csv.DictReader((Path("plays") / "runs.csv").open()))
    assert [float(row["loss"]) for row in table] == pytest.approx([each["loss"] for each in ended], rel=1e-4)
    assert "2 of 2 runs saw fewer tokens than they have parameters" in likely("scale", "fit", "plays/runs.csv").err


@pytest.mark.slow(3)
def test_what_is_said_to_a_person_are_the_numbers_of_the_object(likely: Likely, tmp_path: Path) -> None:
    path = table(tmp_path, "1e8,1e10,nan", sizes=3)
    words = ("scale", "fit", path, "--budget", "1e20", "--refits", "100")
    found, said = json.loads(likely(*words, "--json").out), likely(*words).out
    for name in ("E", "A", "B", "alpha", "beta"):
        numbers = re.search(rf"^  {name} +(\S+)  \[(\S+), (\S+)\]", said, re.MULTILINE)
        assert numbers is not None, name
        wanted = [found[name], *found["intervals"][name]]
        assert [float(each) for each in numbers.groups()] == pytest.approx(wanted, rel=2e-3), name
    (budget,) = (each for each in found["budgets"] if each["compute"] == 1e20)
    line = next(x for x in said.splitlines() if x.startswith("  C 1e+20"))
    low, high = budget["intervals"]["loss"]
    assert f"loss {budget['loss']:.4f} [{low:.4f}, {high:.4f}]" in line and f"N {budget['parameters']:.3g}" in line
    assert f"left out: row {found['left_out'][0]['row']}: {found['left_out'][0]['reason']}" in said


@pytest.mark.slow
def test_pictures_are_files_that_say_what_was_found(
    likely: Likely, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = table(tmp_path, "1e8,1e10,nan"), {name: tmp_path / f"ladder.{name}" for name in ("svg", "png", "html")}

    def run(*args: str | Path) -> tuple[int, str]:
        code, _, err = likely("scale", "show", *args)
        return code, err

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
    monkeypatch.setitem(sys.modules, "resvg_py", None)  # is not installed: told before the runs are read
    (tmp_path / "rubbish").touch()
    assert "--png wants the package resvg-py" in run(tmp_path / "rubbish", "--png", out["png"])[1]


@pytest.mark.slow
def test_a_toys_exponent_is_the_one_that_was_planted_and_the_text_says_the_objects_numbers(likely: Likely) -> None:
    words = ("scale", "toy", "features", "--alpha", "0.6", "--seeds", "2")
    code, out, _ = likely(*words, "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [(each["toy"], each["along"]) for each in told] == [
        ("features", "parameters"), ("features", "examples"),
    ]  # fmt: skip
    assert [each["predicted"] for each in told] == pytest.approx([0.6, 0.6], abs=0.1)  # of a spectrum that ends
    for each in told:
        low, high = each["interval"]
        assert low < each["exponent"] < high and len(each["losses"]) == each["seeds"] == 2
        # the exponent is the mean of the slopes of each seed's losses, as least squares in logarithms nearly has them
        slopes = [-np.polyfit(np.log(each["scale"]), np.log(losses), 1)[0] for losses in each["losses"]]
        assert each["exponent"] == pytest.approx(np.mean(slopes), rel=0.25)
    _, text, _ = likely(*words)
    found = re.findall(r"predicted ([\d.]+)   found ([\d.]+) \[([\d.]+), ([\d.]+)\], 2 seeds   off ([+-][\d.]+)", text)
    wanted = [(e["predicted"], e["exponent"], *e["interval"], e["exponent"] - e["predicted"]) for e in told]
    assert [tuple(map(float, each)) for each in found] == [pytest.approx(each, abs=6e-5) for each in wanted]
    sizes = [int(size.replace(",", "")) for size in re.findall(r"^ +([\d,]+)  [\d.e-]+$", text, re.MULTILINE)]
    assert sizes == [n for each in told for n in each["scale"]]


def test_a_toy_refuses_what_it_does_not_plant(likely: Likely) -> None:
    for words, line in (
        (("manifold", "--alpha", "0.6"), "--alpha is planted in quanta and features: manifold has its exponent from"),
        (("quanta", "--text", __file__), "--text is for bigrams: quanta makes its own data"),
    ):
        code, _, said = likely("scale", "toy", *words)
        assert code == 2 and line in " ".join(said.split())
