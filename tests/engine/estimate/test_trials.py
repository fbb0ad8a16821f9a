"""Trials with a stand-in for who trains: what each is given, what is kept, what the rest takes; and learned starts."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import DataError, ParameterError
from engine.estimate import meta, search, trial
from engine.estimate.ladder import Bases, RowPool
from engine.estimate.meta import MetaOptions
from engine.estimate.search import OptionGrid
from engine.estimate.trial import RowScore, Trial, TrialResult, measured, one, remaining, run
from engine.evaluate.estimates import compare, mean, ratio, share
from engine.tune.config import Config
from engine.tune.rows import TrainingRow, parse
from engine.tune.taught import TrainingFailed
from metal import mx


def rows_of(count: int, name: str = "r") -> tuple[TrainingRow, ...]:
    return tuple(parse({"prompt": f"{name}{i}", "completion": "x"}, f"{name}:{i}") for i in range(count))


ROWS = rows_of(6)
PLAN = [Trial({"b": i, "a": "x"}, Config(), ROWS[:i], ROWS[4:]) for i in range(4)]


def scored(number: int) -> TrialResult:
    return TrialResult({"b": number, "a": "x"}, (RowScore(float(number), number**2, 1, True),), 2, 1.0 + number)


def test_trials_are_made_once_and_the_rest_is_told_by_their_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def trained(checkpoint: Any, each: Trial, folder: Path) -> TrialResult:
        made.append((checkpoint, each.name["b"], folder))
        return scored(each.name["b"])

    monkeypatch.setattr(trial, "one", trained)
    first = run(lambda each: f"base {each.name['b']}", PLAN, tmp_path, {"k": (1, 2)})  # type: ignore[arg-type, return-value]
    begun = [next(first), next(first)]
    first.close()  # type: ignore[attr-defined]
    assert [(e.done, e.total) for e in begun] == [(1, 4), (2, 4)]
    assert [e.left_s for e in begun] == [1.0 * 3, 1.5 * 2] and begun[1].result == scored(1)
    assert made == [("base 0", 0, tmp_path / ".trial"), ("base 1", 1, tmp_path / ".trial")]
    assert [each.name["b"] for each in remaining(PLAN, tmp_path, {"k": [1, 2]})] == [2, 3]
    assert remaining(PLAN, tmp_path / "none", {}) == PLAN
    again = list(run(lambda each: "base", PLAN[::-1], tmp_path, {"k": [1, 2]}))  # type: ignore[arg-type, return-value]
    assert [e.result.name["b"] for e in again] == [3, 2, 1, 0] and len(made) == 4
    assert [e.left_s for e in again] == [4.0, 0.0, 0.0, 0.0] and again[3].result == scored(0)
    assert [e.left_s for e in run(lambda each: "", PLAN[:1], tmp_path, {"k": [1, 2]})] == [0.0]  # type: ignore[arg-type, return-value]
    with pytest.raises(DataError, match="belongs to a run with another k"):
        list(run(lambda each: "", PLAN, tmp_path, {"k": 3}))  # type: ignore[arg-type, return-value]
    with pytest.raises(DataError, match="belongs to a run with another k"):
        remaining(PLAN, tmp_path, {"k": 3})


def test_a_result_s_figures_are_by_row() -> None:
    result = TrialResult({}, (RowScore(3.0, 5.0, 2, True), RowScore(1.0, 1.0, 1, False)), 1, 1.0)
    assert result.loss == ratio([(3.0, 5.0, 2), (1.0, 1.0, 1)]) and result.accuracy == share([1.0, 0.0])


def test_one_trial_is_taught_measured_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    opened = SimpleNamespace(run=SimpleNamespace(counters=SimpleNamespace(step=7)))

    def taught(checkpoint: Any, config: Config, rows: Any, *, anchors: Any = ()) -> Any:
        Path(config.out).mkdir()
        asked.append(("teach", checkpoint, config, rows, anchors))
        if len(rows) == 3:
            raise TrainingFailed("the loss rose")
        return opened, 99

    monkeypatch.setattr(trial, "teach", taught)
    monkeypatch.setattr(trial, "ready", lambda *given: asked.append(("ready", *given)) or opened)
    monkeypatch.setattr(trial, "measured", lambda *given: asked.append(("measured", *given)) or scored(1).rows)
    folder, base = tmp_path / "trial", SimpleNamespace()
    config = Config(eval_every=9, save_every=3, rate=0.5)
    found = one(base, Trial({"a": 1}, config, ROWS[:2], ROWS[4:], ROWS[3:4]), folder)  # type: ignore[arg-type]
    own = replace(config, out=str(folder), eval_every=0, save_every=0)
    assert asked == [("teach", base, own, ROWS[:2], ROWS[3:4]), ("measured", opened, ROWS[4:])]
    assert (found.name, found.rows, found.steps, found.failed) == ({"a": 1}, scored(1).rows, 7, "")
    assert not folder.exists() and 0 <= found.seconds < 60
    failed = one(base, Trial({}, config, ROWS[:3], ROWS[4:]), folder)  # type: ignore[arg-type]
    assert (failed.rows, failed.steps, failed.failed) == ((), 0, "the loss rose") and not folder.exists()
    asked.clear()
    none = one(base, Trial({}, config, (), ROWS[4:]), folder)  # type: ignore[arg-type]
    assert asked == [("ready", base, own, ROWS[4:]), ("measured", opened, ROWS[4:])] and none.steps == 7


def test_rows_are_measured_by_their_targets_and_pairs_by_the_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Any = SimpleNamespace(run=SimpleNamespace(model="m", trained="t", config="c"))
    single = SimpleNamespace(pairs=(), samples=("a", "b"))
    monkeypatch.setattr(trial, "encoded", lambda o, rows: single)
    each = [(np.array([1.0, 2.0, 0.5]), True), (np.array([3.0]), False)]
    monkeypatch.setattr(trial, "target_losses", lambda run, items: each if items == ("a", "b") else [])
    assert measured(opened, ROWS) == (RowScore(3.5, 5.25, 3, True), RowScore(3.0, 9.0, 1, False))
    monkeypatch.setattr(trial, "encoded", lambda o, rows: SimpleNamespace(pairs=("p", "q", "z"), samples=()))
    sums = {"p": (1.5, 1.0), "q": (0.5, 0.0), "z": (2.0, 0.5)}

    def value(model: Any, trained: Any, items: Any, config: Any) -> Any:
        assert (model, trained, config) == ("m", "t", "c")
        lost, right = sums[items[0]]
        return SimpleNamespace(lost=mx.array(lost), right=mx.array(right))

    monkeypatch.setattr(trial.objectives, "value", value)
    assert measured(opened, ROWS) == (
        RowScore(1.5, 2.25, 1, True), RowScore(0.5, 0.25, 1, False), RowScore(2.0, 4.0, 1, True)
    )  # fmt: skip


def test_a_cost_is_of_each_kind_of_training_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def ready(checkpoint: Any, config: Config, rows: Any, anchors: Any) -> Any:
        asked.append((config.rate, config.warm_start, len(rows), len(anchors)))
        assert Path(config.out).name == "trial" and Path(config.out).parent.is_dir()
        return SimpleNamespace(run=SimpleNamespace(steps=4, seconds=10.0 * len(rows)))

    monkeypatch.setattr(trial, "ready", ready)
    monkeypatch.setattr(trial, "report", lambda each: each)
    one_step: list[Any] = []
    monkeypatch.setattr(trial, "_of_one_step", lambda c, t: one_step.append((c, t.held)) or (9.0 if t.held else 1.0))
    fast, slow = Config(rate=0.1, warm_start="x"), Config(rate=0.2)
    plan = [
        Trial({}, fast, ROWS[:2], ROWS[4:], ROWS[:1]), Trial({}, replace(fast, seed=5), ROWS[2:4], ROWS[4:]),
        Trial({}, slow, ROWS[:2], ROWS[4:]), Trial({}, fast, ROWS[:1], ()), Trial({}, fast, (), ROWS[4:]),
    ]  # fmt: skip
    total = trial.cost(lambda _: "base", plan)  # type: ignore[arg-type, return-value]
    assert asked == [(0.1, "", 2, 1), (0.2, "", 2, 0), (0.1, "", 1, 0)]
    assert one_step == [("base", ROWS[4:]), ("base", ())]
    # steps: 20 each three times, 10 once, none; beside: 9 - 20 / 4 where something is measured, else none below 0
    assert total == 3 * 20 + 10 + 4 * 4.0 + 0.0


def test_one_step_is_timed_with_what_is_measured_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(trial, "measured", lambda opened, rows: asked.append(("measured", rows)))

    def taught(checkpoint: Any, config: Config, rows: Any, *, anchors: Any) -> Any:
        asked.append(
            (config.steps, config.epochs, config.eval_every, config.save_every, config.patience, rows, anchors)
        )
        if len(rows) == 3:
            raise TrainingFailed("no")
        return "opened", 0

    monkeypatch.setattr(trial, "teach", taught)
    config = Config(epochs=3.0, eval_every=4, save_every=4, patience=2)
    spent = trial._of_one_step("c", Trial({}, config, ROWS[:2], ROWS[4:], ROWS[:1]))  # type: ignore[arg-type]
    assert asked == [(1, 0.0, 0, 0, 0, ROWS[:2], ROWS[:1]), ("measured", ROWS[4:])] and 0 <= spent < 60
    asked.clear()
    trial._of_one_step("c", Trial({}, config, ROWS[:2], ()))  # type: ignore[arg-type]
    assert 0 <= trial._of_one_step("c", Trial({}, config, ROWS[:3], ROWS[4:])) < 60  # type: ignore[arg-type]
    assert [each[0] for each in asked] == [1, 1]


def test_a_base_is_kept_until_another_is_asked_for() -> None:
    loaded: list[str] = []
    bases = Bases(lambda name: loaded.append(name) or f"{name} {len(loaded)}")  # type: ignore[arg-type, return-value]
    told = [bases.of(Trial({}, Config(model=name), (), ())) for name in ("a", "a", "b", "a")]
    assert told == ["a 1", "a 1", "b 2", "a 3"]  # type: ignore[comparison-overlap]


# -- searches ----------------------------------------------------------------------------------------------------------


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
    assert not {"out", "steps", "kl"} & set(planned.head) and planned.head["data"] != str(path)
    assert search.plan(replace(config, kl_data=""), grid).trials[0].anchors == ()
    assert search.at(config, {"kl": 0.3}).epochs == 9.0  # steps are not searched
    fixed = replace(config, epochs=0.0, steps=9, kl=0.1)
    assert (search.at(fixed, {"epochs": 2.0}).steps, search.at(fixed, {"kl": 0.3}).steps) == (0, 9)


def test_a_grid_s_file_has_folds_a_seed_and_options(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text("folds = 4\nseed = 3\n[grid]\nl1 = [0, 0.5]\nlayers = [-1, 2]\n")
    assert search.read_grid(path) == OptionGrid({"l1": (0.0, 0.5), "layers": (-1, 2)}, 4, 3)
    path.write_text("[grid]\nsteps = [1, 2]\n")
    assert search.read_grid(path) == OptionGrid({"steps": (1, 2)}, 5, 0)
    path.write_text(f"folds = 2\n[grid]\nsteps = {list(range(1, 501))}\n")
    assert len(search.read_grid(path).points) == 500
    path.write_text(f"folds = 2\n[grid]\nsteps = {list(range(1, 502))}\n")
    with pytest.raises(ParameterError, match="1000 trainings at most"):
        search.read_grid(path)
    path.write_text("folds = 2\n[grid]\nsteps = [1, 2]\n")
    assert search.read_grid(path).folds == 2
    assert OptionGrid({"l1": (0.5,)}).simplicity({"l1": 0.5}) == 0.0


# -- learned starts ----------------------------------------------------------------------------------------------------


def pools(**sizes: int) -> dict[str, RowPool]:
    return {name: RowPool(rows_of(count, name), (), f"print {name}") for name, count in sizes.items()}


class Learner:
    """Stands in for training: a training adds the number of its rows to each array, in which all are kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Any] = []
        self.written: list[Any] = []
        self.gradients: list[Any] = []
        monkeypatch.setattr(meta, "ready", self.ready)
        monkeypatch.setattr(meta, "teach", self.teach)
        monkeypatch.setattr(meta, "write", lambda run, folder: self.written.append((run.trained.now, folder)))
        monkeypatch.setattr(meta, "encoded", lambda opened, rows: SimpleNamespace(pairs=(), samples=rows))
        monkeypatch.setattr(meta.objectives, "gradient", self.gradient)

    def opened(self, config: Config) -> Any:
        trained = SimpleNamespace(now={"a": mx.array([1.0, 2.0]), "b": mx.array([[0.5]])})
        trained.parameters = lambda: trained.now
        trained.set = lambda arrays: setattr(trained, "now", dict(arrays))
        return SimpleNamespace(run=SimpleNamespace(trained=trained, model="m", config=config))

    def ready(self, checkpoint: Any, config: Config, rows: Any) -> Any:
        return self.opened(config)

    def teach(self, checkpoint: Any, config: Config, rows: Any, *, begin: Callable[[Any], None]) -> Any:
        opened = self.opened(config)
        begin(opened.run)
        self.asked.append((config, [row.where for row in rows], dict(opened.run.trained.now)))
        opened.run.trained.set({name: array + len(rows) for name, array in opened.run.trained.now.items()})
        return opened, 0

    def gradient(self, model: Any, trained: Any, items: Any, config: Any) -> Any:
        self.gradients.append([row.where for row in items])
        return SimpleNamespace(count=4.0), {name: array * 0 + 8.0 for name, array in trained.now.items()}


def test_reptile_moves_towards_where_each_training_came_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, some = Learner(monkeypatch), pools(x=5, y=9)
    config = Config(eval_every=5, save_every=5, valid=0.3, seed=1)
    options = MetaOptions("reptile", 4, 3, 0.5, 7)
    made = list(meta.learn("base", some, config, options, tmp_path))  # type: ignore[arg-type]
    random, expected, shift = np.random.default_rng(7), [], 0.0
    for number in range(4):
        task = ("x", "y")[int(random.integers(2))]
        rows = [f"{task}:{i}" for i in random.permutation(len(some[task].rows))[:3]]
        expected.append((task, rows, shift))
        shift += 0.5 * (1 - number / 4) * 3
    assert [(each.number, each.task) for each in made] == [(i + 1, task) for i, (task, _, _) in enumerate(expected)]
    assert [each.way for each in made] == pytest.approx([3 * math.sqrt(3)] * 4)
    for (own, rows, start), (_, wanted, moved) in zip(learner.asked, expected, strict=True):
        assert rows == wanted and start["a"].tolist() == pytest.approx([1 + moved, 2 + moved])
        assert (own.out, own.eval_every, own.save_every, own.valid, own.seed) == (str(tmp_path / "trial"), 0, 0, 0.0, 7)
    ((last, folder),) = learner.written
    assert folder == tmp_path and last["a"].tolist() == pytest.approx([1 + shift, 2 + shift])
    assert last["b"].tolist() == [[pytest.approx(0.5 + shift)]] and learner.gradients == []


def test_first_order_maml_moves_against_the_gradient_on_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, some = Learner(monkeypatch), pools(x=6, y=7)
    made = list(meta.learn("base", some, Config(), MetaOptions("fomaml", 2, 3, 0.5), tmp_path))  # type: ignore[arg-type]
    assert len(made) == 2 and len(learner.gradients) == 2
    for (_, rows, _), others in zip(learner.asked, learner.gradients, strict=True):
        assert len(rows) == len(others) == 3 and not set(rows) & set(others)
        assert {row[0] for row in rows} == {row[0] for row in others}
    moved = -(0.5 * 1 + 0.5 * 0.5) * 8 / 4
    assert learner.written[0][0]["a"].tolist() == pytest.approx([1 + moved, 2 + moved])
    with pytest.raises(DataError, match="task x has 6 rows, and a round of fomaml takes 8"):
        next(meta.learn("base", some, Config(), MetaOptions("fomaml", 1, 4), tmp_path))  # type: ignore[arg-type]
    next(meta.learn("base", some, Config(), MetaOptions("reptile", 1, 6), tmp_path))  # type: ignore[arg-type]
    said = MetaOptions()
    assert (said.method, said.rounds, said.rows, said.rate, said.seed) == ("reptile", 100, 10, 0.5, 0)


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


def test_a_start_is_known_by_its_tasks_and_options(tmp_path: Path) -> None:
    some = pools(x=3, y=4)
    first = meta.identity(some, Config(model="m", layers=2, rate=0.5), MetaOptions())
    assert first["tasks"] == {"x": "print x", "y": "print y"} and first["by"]["method"] == "reptile"
    assert (first["options"]["model"], first["options"]["layers"], first["options"]["rate"]) == ("m", 2, 0.5)
    assert not meta.is_made(tmp_path, first)
    meta.seal(tmp_path, first)
    assert meta.is_made(tmp_path, first)
    for other in (
        meta.identity(pools(x=3), Config(model="m", layers=2, rate=0.5), MetaOptions()),
        meta.identity(some, Config(model="n", layers=2, rate=0.5), MetaOptions()),
        meta.identity(some, Config(model="m", layers=2, rate=0.5), MetaOptions(rounds=9)),
    ):
        assert not meta.is_made(tmp_path, other)
    (tmp_path / meta.MADE_OF).write_text("{")
    assert meta.is_made(tmp_path, first) is False


def test_trainings_on_the_held_out_task_are_from_both_starts(tmp_path: Path) -> None:
    task = RowPool(rows_of(8), rows_of(3, "held"), "")
    found = meta.trials(Config(model="m"), task, [2, 8], 2, tmp_path)
    assert [(each.name["start"], each.name["rows"], each.name["seed"]) for each in found] == [
        (start, amount, seed) for start in ("zero", "learned") for amount in (2, 8) for seed in (0, 1)
    ]
    assert [each.config.warm_start for each in found] == [""] * 4 + [str(tmp_path)] * 4
    assert [each.rows for each in found[:4]] == [each.rows for each in found[4:]] and found[0].held == task.held
    inner = meta.inner_trials({"t": task}, Config(), MetaOptions(rounds=3, rows=5))
    assert [each.name for each in inner] == [{"round": i} for i in range(3)]
    assert all(each.rows == task.rows[:5] and each.held == () for each in inner)


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
