"""`likely estimate` as a person calls it, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from likely.app.cli.commands import estimate, posterior, tune
from tests.cli.conftest import random_model
from tests.engine.synth.makers import write_rows


def called(*words: Any) -> Result:
    return CliRunner().invoke(estimate.command, [str(word) for word in words])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a model, rows, tasks and options of trainings."""
    monkeypatch.chdir(tmp_path)
    random_model(tmp_path / "tiny")
    rows = [{"prompt": f"{i} ", "completion": "ab"[i % 2]} for i in range(24)]
    write_rows(tmp_path / "rows.jsonl", rows)
    (tmp_path / "tasks").mkdir()
    for name in ("one", "two", "three"):
        write_rows(tmp_path / "tasks" / f"{name}.jsonl", [row | {"prompt": f"{name} {row['prompt']}"} for row in rows])
    (tmp_path / "c.toml").write_text('model = "tiny"\nsteps = 1\nbatch = 4\nlength = 32\nlayers = 1\nrank = 1\n')
    return tmp_path


@pytest.mark.slow
def test_a_curve_and_a_ladder_are_tables_and_go_on(place: Path) -> None:
    words = ("curve", "rows.jsonl", "-c", "c.toml", "--out", "o", "--sizes", "2,4,8,12", "--seeds", 2, "--next", 50)
    dry = called(*words, "--dry-run")
    assert dry.exit_code == 0 and "8 trainings, 0 done already; about" in dry.output and not (place / "o").exists()
    done = called(*words)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("tiny")] == ["2", "4", "8", "12"]
    assert "  50 rows beyond 12 are worth" in done.output and "held out: from 8 to 12 rows" in done.output
    kept = (place / "o" / "trials.jsonl").read_bytes()
    again = called(*words, "--json")
    events = [json.loads(line) for line in again.output.splitlines()]
    assert (place / "o" / "trials.jsonl").read_bytes() == kept and len(events) == 10
    assert events[0] == {"event": "planned", "trainings": 8, "done": 8, "seconds": 0}
    loss = events[-1]["curves"]["loss"]
    assert loss["worth"]["rows"] == 50 and loss["worth"]["low"] <= loss["worth"]["told"] <= loss["worth"]["high"]
    assert set(events[-1]["without"]) | set(events[-1]["curves"]) == {"loss", "errors"}
    named = ("transfer", "rows.jsonl", "-M", "tiny", "-c", "c.toml", "--out", "t")
    ladder = (*named, "--layers", "1,-1", "--sizes", "0,4")
    found = called(*ladder)
    assert found.exit_code == 0, found.output
    cells = [line.split() for line in found.output.splitlines() if line.startswith("tiny")]
    assert [(cell[1], cell[2]) for cell in cells] == [("1", "0"), ("1", "4"), ("all", "0"), ("all", "4")]
    rungs = json.loads(called(*ladder, "--json").output.splitlines()[-1])["rungs"]
    assert rungs[0]["nats"] == rungs[2]["nats"] and rungs[0]["gain"] is None and rungs[1]["gain"]["p"] <= 1
    for wrong, line in ((("--sizes", "2,99"), "got (2, 99)"), (("--sizes", "two"), "whole numbers with commas")):
        refused = called(*words[:6], *wrong)
        assert refused.exit_code and line in refused.output + str(refused.exception)


@pytest.mark.slow
def test_a_start_is_learned_and_an_adapter_is_bounded(place: Path) -> None:
    words = ("meta", "tasks", "--held-out", "two", "-c", "c.toml", "--out", "m", "--rounds", 2, "--rows", 4,
             "--sizes", "2,6", "--seeds", 1)  # fmt: skip
    dry = called(*words, "--dry-run")
    assert dry.exit_code == 0 and "6 trainings, 0 done already; about" in dry.output and not (place / "m").exists()
    done = called(*words)
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()[-3:-1]] == ["2", "6"]
    start = (place / "m" / "start" / "adapters.safetensors").stat().st_mtime_ns
    again = called(*words, "--json")
    assert (place / "m" / "start" / "adapters.safetensors").stat().st_mtime_ns == start  # it is not learned again
    assert [row["rows"] for row in json.loads(again.output.splitlines()[-1])["rows"]] == [2, 6]
    other = called(*words, "--rounds", 3)  # of another start: refused before that is learned in the place of this one
    assert "another start: choose another out" in str(other.exception)
    assert (place / "m" / "start" / "adapters.safetensors").stat().st_mtime_ns == start
    (place / "tasks" / "choices.jsonl").write_text("")  # of rows by hand, no task
    refused = called("meta", "tasks", "--held-out", "four", "-c", "c.toml")
    assert "no task 'four' to hold out: it has one, three, two" in refused.output + str(refused.exception)
    bound = called("bound", "m/start", "--held-out", "rows.jsonl", "--trained", "tasks/one.jsonl", "--draws", 2)
    assert bound.exit_code == 0, bound.output
    lines = bound.output.splitlines()
    assert len(lines) == 4 and all(" at 95%" in line for line in lines) and "VACUOUS: 1.000" in lines[2]
    told = json.loads(called("bound", "m/start", "--held-out", "rows.jsonl", "--delta", 0.1, "--json").output)["bounds"]
    assert [each["confidence"] for each in told] == [0.9, 0.9] and {each["vacuous"] for each in told} <= {True, False}
    # with the variances of a posterior that was fitted, which must be over every weight
    by_rows = ("bound", "m/start", "--trained", "tasks/one.jsonl", "--draws", 2, "--posterior")
    for words, line in ((("bound", "m/start", "--held-out", "rows.jsonl", "--posterior"), "give --trained"),
                        (by_rows, "holds no posterior")):  # fmt: skip
        refused = called(*words)
        assert refused.exit_code and line in refused.output + str(refused.exception)
    for structure in ("last", "kron"):
        fit = ["laplace", "m/start", "--structure", structure, "--data", "tasks/one.jsonl", "--prior-precision", "500"]
        assert CliRunner().invoke(posterior.command, fit).exit_code == 0
        bound = called(*by_rows)
        if structure == "last":
            assert "has no variance for" in str(bound.exception)
    assert bound.exit_code == 0, bound.output
    assert bound.output.count("KL ") == 2 and bound.output.splitlines()[0] != lines[2]
    assert "give --held-out, --trained or both" in called("bound", "m/start").output
    both = called("bound", "m/start", "--held-out", "rows.jsonl", "--trained", "rows.jsonl")
    assert both.exit_code == 2 and "24 rows of --held-out are in --trained" in both.output


@pytest.mark.slow(3)
def test_a_bound_by_rows_that_were_trained_on_is_warned_of(place: Path) -> None:
    write_rows(place / "new.jsonl", [{"prompt": f"new {i} ", "completion": "a"} for i in range(3)])
    asked = ["rows.jsonl", "-c", "c.toml", "--out", "a", "--valid", "0"]
    trained = CliRunner().invoke(tune.command, asked)
    assert trained.exit_code == 0, trained.output
    mixed = (place / "rows.jsonl").read_text().splitlines(True)[:5] + (place / "new.jsonl").read_text().splitlines(True)
    (place / "mixed.jsonl").write_text("".join(mixed))
    for rows, line in (("rows", "24 of 24 rows"), ("mixed", "5 of 8 rows"), ("new", "")):
        found = called("bound", "a", "--held-out", f"{rows}.jsonl", "--json")
        assert found.exit_code == 0, found.output
        assert (line in found.stderr) if line else "--held-out" not in found.stderr
        assert len(json.loads(found.stdout)["bounds"]) == 2
