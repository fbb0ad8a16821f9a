"""Learning from rewards: what is drawn is what is trained, what teaches nothing changes nothing, and a kill nothing."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli import likely
from likely.engine.adapters.config import configure
from likely.engine.adapters.sites import trainable
from likely.engine.answers.vote import pass_at
from likely.engine.errors import DataError, ParameterError
from likely.engine.rewards.figures import HeldOut, Rewarded, held_out
from likely.engine.tune import rollouts
from likely.engine.tune.control import Ended, Stepped, TrainControl
from likely.engine.tune.metrics import read
from likely.engine.tune.open_run import open_run
from likely.engine.tune.row_scores import target_losses
from likely.engine.tune.run import TrainingRun
from likely.engine.tune.samples import TrainingSample
from likely.engine.tune.trainer import train
from tests.engine import tiny

# right where the answer is e, which a model says half of the time
JUDGE = "import json, sys; print(float(json.loads(sys.stdin.readline())['said'].strip() == 'e'))"
SAME = "import sys; sys.stdin.readline(); print(0.3)"
FOOLED = "import sys; sys.stdin.readline(); print(1.0)"
NONE = "import sys; sys.exit('not now')"
ROWS = [{"prompt": f"say {i}", "completion": "e"} for i in range(6)]


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that says e or o, and ends."""
    folder = tmp_path_factory.mktemp("two")
    both = written(folder / "both.jsonl", [{**row, "completion": letter} for row in ROWS for letter in "eo"])
    words = ["tune", str(both), "-M", str(tiny.random_folder(folder / "random", times=6)), "--out", str(folder / "a"),
             "--rank", "8", "--rate", "0.02", "--steps", "60", "--valid", "0", "--no-verdict",
             "--rehearsal", "0"]  # fmt: skip
    for each in (words, ["fuse", str(folder / "a"), "--out", str(folder / "model")]):
        done = CliRunner().invoke(likely, each)
        assert done.exit_code == 0, done.output
    return folder / "model"


def opened(folder: Path, model: Path, judge: str = JUDGE, resume: bool = False, **options: Any) -> TrainingRun:
    (folder / "judge.py").write_text(judge)
    how = {"model": str(model), "data": str(written(folder / "rows.jsonl", ROWS)), "objective": "reward", "valid": 0.0,
           "answers": 8, "batch": 2, "tokens": 8, "rate": 0.01, "steps": 4, "save_every": 0, "out": str(folder / "out"),
           "schedule": "constant", "verifier": f"{sys.executable} -S {folder / 'judge.py'}", **options}  # fmt: skip
    return open_run(configure(how), lambda *_: None, resume=resume).run


@pytest.mark.slow(3)
def test_what_is_drawn_is_what_is_trained(model: Path, tmp_path: Path) -> None:
    """The ids, and before the first update the log-probabilities that they were drawn with."""
    run = opened(tmp_path, model)
    row = run.rows.train[0]
    assert isinstance(row, TrainingSample)
    each = rollouts.problem(run, row)
    assert (each.prompt, each.answer) in {(row["prompt"], "e") for row in ROWS}
    of = {one.ids: one for one in rollouts.draw(run, each, 8, (1, 0))}
    assert {one.text for one in of.values() if one.right} <= {"e"} and len(of) > 1
    items, figures = rollouts.rewarded(run, 1, [0])
    assert 0 < figures.reward < 1 and figures.groups == (0, 1, 0) and abs(figures.kl) < 1e-3
    assert items and {item.ids[len(each.ids) :] for item in items} <= {*of}
    for item, (lost, _) in zip(items, target_losses(trainable(run.base), items, run.config), strict=True):
        drawn = of[item.ids[len(each.ids) :]]
        assert -lost.sum() == pytest.approx(drawn.logprob, abs=2e-4)
        assert (item.weight > 0) == drawn.right
    assert sum(item.weight for item in items) == pytest.approx(0, abs=1e-9)


@pytest.mark.slow(6)
def test_rewards_rise_and_a_run_that_goes_on_ends_in_the_same_bytes(model: Path, tmp_path: Path) -> None:
    told = list(train(opened(tmp_path, model, steps=16)))
    rewards = [event.reward for event in told if isinstance(event, Rewarded)]
    assert isinstance(told[-1], Ended) and np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.2
    for last in (5, 16):
        run, control = opened(tmp_path, model, steps=16, resume=last == 16, out=str(tmp_path / "parts")), TrainControl()
        for event in train(run, control):
            if isinstance(event, Stepped) and event.step == last:
                control.stop()
    for file in ("adapters.safetensors", "rollouts.jsonl"):
        one, other = ((tmp_path / name / file).read_bytes() for name in ("out", "parts"))
        assert one == other, file
    assert {json.loads(line)["step"] for line in one.decode().splitlines()} == {*range(1, 17)}


@pytest.mark.slow(8)
def test_an_option_of_rewards_makes_another_training(model: Path, tmp_path: Path) -> None:
    others = {"": 0, "advantage": "std", "share": "each", "kl": 0.5, "answers": 6, "tokens": 2}
    found = {}
    for name, value in others.items():
        folder, option = tmp_path / f"as-{name}", {name: value} if name else {}
        list(train(opened(tmp_path, model, steps=2, out=str(folder), **option)))
        found[name] = (folder / "adapters.safetensors").read_bytes()
    assert [name for name in others if name and found[name] == found[""]] == []


@pytest.mark.slow(2)
def test_equal_rewards_leave_the_adapter_as_it_was_bit_for_bit(model: Path, tmp_path: Path) -> None:
    run = opened(tmp_path, model, SAME, steps=3, tokens=64)
    before = {name: np.array(value) for name, value in run.trained.parameters().items()}
    told = list(train(run))
    assert {event.groups for event in told if isinstance(event, Rewarded)} == {(2, 0, 0)}
    assert all(np.array_equal(np.array(value), before[name]) for name, value in run.trained.parameters().items())


@pytest.mark.slow(1)
def test_a_verifier_that_fails_stops_the_run(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="step 1: the verifier gave no verdict on"):
        list(train(opened(tmp_path, model, NONE)))


@pytest.mark.slow(1)
def test_a_verifier_that_is_fooled_is_told_before_anything_is_learned(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an empty answer is judged right"):
        next(train(opened(tmp_path, model, FOOLED)))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"kind": "full"}, "trains an adapter"),
        ({"dropout": 0.1}, "without dropout"),
        ({"objective": "sft"}, "answers goes with objective = reward|tokens goes with objective = reward"),
        ({"warm_start": "x"}, "fuse the adapter"),
        ({"verifier": "/none/check"}, "cannot start the verifier /none/check: there is no such program"),
        ({"label_smoothing": 0.1}, "label_smoothing goes with objective = sft"),
    ],
)
def test_what_rewards_cannot_honour_is_refused(options: dict[str, Any], line: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=line):
        opened(tmp_path, model, **options)


@pytest.mark.slow(4)
def test_the_last_object_has_pass_at_k_of_base_and_policy(model: Path, tmp_path: Path) -> None:
    rows = str(written(tmp_path / "rows.jsonl", ROWS))
    words = ["tune", rows, "-M", str(model), "--objective", "reward", "--steps", "8", "--rate", "0.01", "--batch", "2",
             "--tokens", "8", "--eval-answers", "4", "--eval-every", "5", "--test", rows, "--valid", "0",
             "--out", str(tmp_path / "o")]  # fmt: skip
    done = CliRunner().invoke(likely, [*words, "--json"])
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    looks, last = [each for each in told if each["event"] == "held_out"], told[-1]
    assert [each["step"] for each in looks] == [0, 5, 8] and last["measured_at"] == 8
    assert looks[0]["policy"] == looks[0]["base"] == last["base"] and looks[-1]["policy"] == last["policy"]
    timed = [each["drawn_s"] + each["verified_s"] + each["updated_s"] for each in told if each["event"] == "rewarded"]
    assert sum(timed) == pytest.approx([each["elapsed_s"] for each in told if each["event"] == "stepped"][-1])
    assert {*last["base"]} == {*last["policy"]} == {"pass@1", "pass@2", "pass@4"} and last["problems"] == 6
    assert last["policy"]["pass@1"] > last["base"]["pass@1"]
    refused = CliRunner().invoke(likely, [*words, "--screen"])
    assert refused.exit_code == 2 and "no view of rewards" in refused.output


@pytest.mark.slow(2)
def test_a_run_that_gets_no_better_ends_and_what_was_held_out_is_read_again(model: Path, tmp_path: Path) -> None:
    rows = str(written(tmp_path / "held.jsonl", ROWS))
    how = {"rate": 1e-12, "steps": 9, "eval_every": 2, "patience": 2, "eval_answers": 4, "test": rows}
    told = list(train(opened(tmp_path, model, **how)))
    looks = [event for event in told if isinstance(event, HeldOut)]
    assert isinstance(told[-1], Ended) and (told[-1].reason, told[-1].step) == ("patience", 4)
    assert [(each.step, each.now == each.before) for each in looks] == [(0, True), (2, True), (4, True)]
    for each, right in zip(looks[-1].seen, looks[-1].before, strict=True):
        assert {one.right for one in each.now if one.text == each.answer} <= {True}
        assert sum(one.right for one in each.before) == right and len(each.now) == 4
    again = [event for event in read(tmp_path / "out") if isinstance(event, Rewarded | HeldOut)]
    assert again == [replace(event, seen=()) if isinstance(event, HeldOut) else event
                     for event in told if isinstance(event, Rewarded | HeldOut)]  # fmt: skip


def test_pass_at_k_is_compared_on_the_same_problems_and_says_where_it_crosses() -> None:
    before, now = [0, 1, 2, 1, 1, 3, 0, 1], [4, 0, 4, 0, 4, 4, 0, 4]  # of 4 answers each: sharper
    found = held_out(before, now, 4)
    assert [one.k for one in found.passed] == [1, 2, 4] and found.crossing == 4
    for one in found.passed:
        assert one.base.mean == pytest.approx(np.mean([pass_at(one.k, right, 4) for right in before]))
        assert one.rise.estimate.mean == pytest.approx(one.policy.mean - one.base.mean)
    assert held_out(now, before, 4).crossing is None
