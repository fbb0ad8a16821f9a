"""Trials on a tiny model: what each comes to, what is kept, what the rest takes; and learned starts."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.statistics.estimates import compare, mean
from likely.engine.measure.estimate import meta, search
from likely.engine.measure.estimate.ladder import RowPool
from likely.engine.measure.estimate.meta import MetaOptions
from likely.engine.measure.estimate.search import OptionGrid
from likely.engine.measure.estimate.trial import Trial, TrialResult, encoded, measured, one, remaining, run
from likely.engine.text.rows.training_row import TrainingRow, parse
from likely.engine.train.losses import batch_losses
from likely.engine.train.losses.row_scores import RowScore
from likely.engine.train.taught import ready, teach
from likely.engine.weights.adapters import adapters
from likely.engine.weights.adapters.config import Config, configure
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.metal import mx
from tests.engine import tiny


def rows_of(count: int, name: str = "r") -> tuple[TrainingRow, ...]:
    return tuple(parse({"prompt": f"{name}{i}", "completion": "x"}, f"{name}:{i}") for i in range(count))


ROWS = rows_of(6)
OPTIONS = {"length": 48, "rate": 1e-2, "steps": 1, "batch": 4, "rank": 2, "layers": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(tiny.random_folder(tmp_path_factory.mktemp("trials") / "model"))


def planned(*amounts: int) -> list[Trial]:
    return [Trial({"b": n, "a": "x"}, configure(OPTIONS), ROWS[:n], ROWS[4:]) for n in amounts]


def test_trials_are_made_once_and_the_rest_is_told_by_their_mean(checkpoint: Checkpoint, tmp_path: Path) -> None:
    plan, head = planned(0, 1, 2, 3), {"k": (1, 2)}
    first = run(lambda _: checkpoint, plan, tmp_path, head)
    begun = [next(first), next(first)]
    first.close()  # type: ignore[attr-defined]
    assert [(e.done, e.total) for e in begun] == [(1, 4), (2, 4)]
    spent = [e.result.seconds for e in begun]
    assert [e.left_s for e in begun] == pytest.approx([3 * spent[0], 2 * np.mean(spent)])
    assert [each.name["b"] for each in remaining(plan, tmp_path, {"k": [1, 2]})] == [2, 3]
    assert remaining(plan, tmp_path / "none", {}) == plan

    def base(each: Trial) -> Checkpoint:
        assert each.name["b"] in (2, 3)  # the others are in the journal
        return checkpoint

    again = list(run(base, plan[::-1], tmp_path, {"k": [1, 2]}))
    assert [e.result.name["b"] for e in again] == [3, 2, 1, 0] and [e.left_s for e in again[1:]] == [0.0] * 3
    assert again[3].result == begun[0].result and again[2].result == begun[1].result
    for asked in (lambda: list(run(base, plan, tmp_path, {"k": 3})), lambda: remaining(plan, tmp_path, {"k": 3})):
        with pytest.raises(DataError, match="belongs to a run with another k"):
            asked()


def test_one_trial_is_taught_measured_and_leaves_no_folder(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, config = tmp_path / "trial", configure({**OPTIONS, "steps": 3, "save_every": 1, "out": str(tmp_path / "o")})
    found = one(checkpoint, Trial({"a": 1}, config, ROWS[:2], ROWS[4:]), folder)
    opened, _ = teach(checkpoint, replace(config, out=str(tmp_path / "by itself")), ROWS[:2])
    assert found.rows == measured(opened, ROWS[4:]) and len(found.rows) == 2
    assert (found.name, found.steps, found.failed) == ({"a": 1}, 3, "") and not folder.exists()
    wild = replace(config, rate=1e30, steps=9)
    failed = one(checkpoint, Trial({}, wild, ROWS[:3], ROWS[4:]), folder)
    assert (failed.rows, failed.steps) == ((), 0) and "failed" in failed.failed and not folder.exists()
    none = one(checkpoint, Trial({}, config, (), ROWS[4:]), folder)
    base = measured(ready(checkpoint, replace(config, out=str(tmp_path / "base")), ROWS[4:]), ROWS[4:])
    assert none.steps == 0 and none.rows == base != found.rows


def test_rows_are_measured_by_their_targets_and_pairs_by_the_objective(checkpoint: Checkpoint, tmp_path: Path) -> None:
    opened = ready(checkpoint, configure({**OPTIONS, "out": str(tmp_path / "a")}), ROWS)
    for row, score in zip(encoded(opened, ROWS).samples, measured(opened, ROWS), strict=True):
        logits = np.array(checkpoint.model(mx.array([row.ids[:-1]]))[0], np.float64)
        logp = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        at = np.flatnonzero(row.trained[1:])
        lost = -logp[at, np.array(row.ids[1:])[at]]
        assert score[:3] == pytest.approx((lost.sum(), (lost**2).sum(), len(at)), rel=1e-5)
        assert score.right == (logp[at].argmax(-1) == np.array(row.ids[1:])[at]).all()
    pairs = tuple(parse({"prompt": f"{i}", "chosen": "a", "rejected": "b"}, "") for i in range(3))
    dpo = ready(checkpoint, configure({**OPTIONS, "objective": "dpo", "out": str(tmp_path / "b")}), pairs)
    log2 = math.log(2)  # while nothing has moved, no answer is above the other
    assert [s[:3] for s in measured(dpo, pairs)] == [pytest.approx((log2, log2**2, 1), rel=1e-5)] * 3


def test_a_search_s_trials_are_every_point_with_every_fold(tmp_path: Path) -> None:
    path, anchors = tmp_path / "rows.jsonl", tmp_path / "anchors.jsonl"
    for file, count in ((path, 7), (anchors, 3)):
        file.write_text("".join(json.dumps({"prompt": f"p{i}", "completion": "x"}) + "\n" for i in range(count)))
    grid = OptionGrid({"steps": (3, 5), "kl": (0.1, 0.2)}, folds=3, seed=2)
    config = Config(data=str(path), kl_data=str(anchors), valid=0.4, epochs=9.0, rate=0.25, out="o")
    planned = search.plan(config, grid)
    assert [dict(each.name) for each in planned.trials] == [
        {**point, "fold": k} for point in grid.points for k in range(3)
    ]
    assert len(planned.rows) == 7 and (planned.grid, planned.config) == (grid, config)
    places = search.folds(planned.rows, 3, 2)
    for each in planned.trials:
        outside = tuple(r for r, place in zip(planned.rows, places, strict=True) if place == each.name["fold"])
        assert each.held == outside and all((row in outside) != (row in each.rows) for row in planned.rows)
        assert len(each.rows) + len(outside) == 7 and len(each.anchors) == 3
        assert (each.config.steps, each.config.kl) == (each.name["steps"], each.name["kl"])
        assert (each.config.epochs, each.config.valid, each.config.rate) == (0.0, 0.0, 0.25)
    assert planned.head["folds"] == 3 and planned.head["order of the folds"] == 2 and planned.head["rate"] == 0.25


def pools(**sizes: int) -> dict[str, RowPool]:
    return {name: RowPool(rows_of(count, name), (), f"print {name}") for name, count in sizes.items()}


@pytest.mark.parametrize("method", ["reptile", "fomaml"])
def test_a_start_moves_by_what_each_training_comes_to(method: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Reptile towards the weights it comes to, first-order MAML against the gradient there on rows that it did not
    see; by steps that get shorter from round to round."""
    some, config = pools(x=6, y=7), configure({**OPTIONS, "steps": 2, "seed": 1})
    made = list(meta.learn(checkpoint, some, config, MetaOptions(method, 2, 3, 0.5, 7), tmp_path / "start"))
    random, inner = np.random.default_rng(7), replace(config, out=str(tmp_path / "inner"), valid=0.0, seed=7)
    theta = ready(checkpoint, inner, some["x"].rows).run.trained.parameters()
    for number in range(2):
        task = ("x", "y")[int(random.integers(2))]
        order = random.permutation(len(some[task].rows))
        rows = [some[task].rows[i] for i in order[:3]]
        opened, _ = teach(checkpoint, inner, rows, begin=lambda run, theta=theta: run.trained.set(theta))  # type: ignore[misc]
        here, rate = opened.run.trained.parameters(), 0.5 * (1 - number / 2)
        way = math.sqrt(sum(float(mx.sum(mx.square(here[n] - theta[n]))) for n in theta))
        assert (made[number].number, made[number].task) == (number + 1, task)
        assert made[number].way == pytest.approx(way, rel=1e-4)
        if method == "reptile":
            theta = {n: theta[n] + rate * (here[n] - theta[n]) for n in theta}
            continue
        others = encoded(opened, [some[task].rows[i] for i in order[3:6]]).samples
        sums, slope = batch_losses.gradient(opened.run.model, opened.run.trained, others, opened.run.config)
        theta = {n: theta[n] - rate * slope[n] / sums.count for n in theta}
    stored = adapters.read(tmp_path / "start").arrays
    for name, array in theta.items():
        assert np.asarray(stored[name]) == pytest.approx(np.asarray(array), abs=1e-6), name


def test_tasks_are_the_files_and_folders_beside_the_one_held_out(tmp_path: Path) -> None:
    home = tmp_path / "tasks"
    home.mkdir()
    lines = "".join(json.dumps({"prompt": f"p{i}", "completion": "x"}) + "\n" for i in range(40))
    for name in ("a.jsonl", "c.jsonl"):
        (home / name).write_text(lines)
    (home / "notes.md").write_text("no task")
    with pytest.raises(DataError, match="has 2 tasks: a start takes 2 or more beside the one held out"):
        meta.tasks(home, "a", Config(valid=0.1))
    (home / "b").mkdir()
    (home / "b" / "train.jsonl").write_text(lines)
    found = meta.tasks(home, "b", Config(valid=0.1))
    assert list(found) == ["a", "b", "c"] and len(found["a"].rows) == 36 and len(found["a"].held) == 4
    with pytest.raises(ParameterError, match="has no task 'd' to hold out: it has a, b, c"):
        meta.tasks(home, "d", Config(valid=0.1))
    (home / "c").mkdir()
    (home / "c" / "train.jsonl").write_text(lines)
    with pytest.raises(DataError, match="has two tasks 'c': rename one"):
        meta.tasks(home, "a", Config(valid=0.1))


def test_trainings_on_the_held_out_task_are_from_both_starts(tmp_path: Path) -> None:
    task = RowPool(rows_of(8), rows_of(3, "held"), "")
    found = meta.trials(Config(model="m"), task, [2, 8], 2, tmp_path)
    assert [(each.name["start"], each.name["rows"], each.name["seed"]) for each in found] == [
        (start, amount, seed) for start in ("zero", "learned") for amount in (2, 8) for seed in (0, 1)
    ]
    assert [each.config.warm_start for each in found] == [""] * 4 + [str(tmp_path)] * 4
    assert [each.rows for each in found[:4]] == [each.rows for each in found[4:]] and found[0].held == task.held


def test_starts_are_compared_on_as_many_rows_and_on_the_most() -> None:
    losses = {
        ("zero", 2): ([3.0, 5.0], [5.0, 5.0]), ("zero", 8): ([2.0, 3.0], [2.0, 2.0]),
        ("learned", 2): ([2.0, 2.0], [1.0, 3.0]), ("learned", 8): ([1.0, 2.0], [1.0, 1.0]),
    }  # fmt: skip
    results = [
        TrialResult(
            {"start": start, "rows": amount, "seed": seed}, tuple(RowScore(x, x * x, 1, True) for x in own), 1, 0.0
        )
        for (start, amount), both in losses.items()
        for seed, own in enumerate(both)
    ]
    few, many = meta.compared(results)
    zero, learned, most = [4.0, 5.0], [1.5, 2.5], [2.0, 2.5]
    assert (few.rows, few.zero, few.learned) == (2, mean(zero), mean(learned))
    assert few.change == compare(zero, learned) and few.saved == compare(most, learned)
    assert (many.rows, many.zero, many.learned) == (8, mean(most), mean([1.0, 1.5])) and many.change == many.saved
    with pytest.raises(DataError, match="a training on the task failed: it rose; lower rate"):
        meta.compared([*results, TrialResult({"start": "zero", "rows": 2}, (), 0, 0.0, "it rose")])


def test_a_start_is_known_by_its_tasks_and_options(tmp_path: Path) -> None:
    some, config = pools(x=3, y=4), Config(model="m", layers=2, rate=0.5)
    first = meta.identity(some, config, MetaOptions())
    assert not meta.is_made(tmp_path, first)
    meta.seal(tmp_path, first)
    assert meta.is_made(tmp_path, first)
    for tasks, by, options in (
        (pools(x=3), config, MetaOptions()), (some, replace(config, model="n"), MetaOptions()),
        (some, config, MetaOptions(rounds=9)),
    ):  # fmt: skip
        assert not meta.is_made(tmp_path, meta.identity(tasks, by, options))
