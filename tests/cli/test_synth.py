"""`likely synth` as a person calls it: a pipeline file, what it prints, and the reports behind it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from likely.app.cli import synth
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


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    from likely.engine.errors import LikelyError

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
