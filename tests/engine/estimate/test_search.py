"""Cross-validation: folds, the one-standard-error rule by hand, a journal that goes on, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.measure.estimate import search, trial
from likely.engine.measure.estimate.search import OptionGrid
from likely.engine.measure.estimate.trial import TrialResult
from likely.engine.text.rows.training_row import parse
from likely.engine.train.data import data
from likely.engine.train.losses.row_scores import RowScore
from likely.engine.weights.adapters.config import Config, configure
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.metal import mx
from tests.engine import tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(tiny.random_folder(tmp_path_factory.mktemp("search") / "model"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    values = [{"prompt": f"tag {i % 3}", "completion": f"<{i % 9}>"} for i in range(18)]
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def folded(values: dict[str, float], *losses: float) -> list[TrialResult]:
    """Results of folds with one row of one target each."""
    return [
        TrialResult({**values, "fold": k}, (RowScore(loss, loss * loss, 1, loss < 1),), 1, 0.0)
        for k, loss in enumerate(losses)
    ]


def test_the_simplest_within_one_standard_error_is_chosen_as_by_hand() -> None:
    """Least: 0.1 with mean 1.0, sd 0.2 of 4 folds, so error 0.1 and limit 1.1. 1.0 (mean 1.08) is in, 10 (1.12) out."""
    grid = OptionGrid({"l1": (0.0, 0.1, 1.0, 10.0)}, folds=4)
    spread = (0.2**2 * 3 / 4) ** 0.5
    results = [
        *folded({"l1": 0.0}, 1.05, 1.05, 1.05, 1.05),
        *folded({"l1": 0.1}, 1 - spread, 1 + spread, 1 - spread, 1 + spread),
        *folded({"l1": 1.0}, 1.0, 1.1, 1.1, 1.12),
        *folded({"l1": 10.0}, 1.12, 1.12, 1.12, 1.12),
    ]
    found = search.summed(grid, results)
    assert found.best.values == {"l1": 0.1} and found.limit == pytest.approx(1.1)
    assert found.best.loss.error == pytest.approx(0.1) and found.best.accuracy.mean == 0.5
    assert found.chosen.values == {"l1": 1.0}
    # fewer steps are simpler; a point that failed is none to choose, and a search of such alone is an error
    fewer = OptionGrid({"steps": (5, 10, 20)}, folds=2)
    some = [*folded({"steps": 5}, 3, 3.2), *folded({"steps": 10}, 1.0, 1.3), *folded({"steps": 20}, 0.9, 1.2)]
    assert search.summed(fewer, some).chosen.values == {"steps": 10}
    failed = [TrialResult({"steps": n, "fold": k}, (), 0, 0.0, "the loss rose") for n in (5, 10) for k in (0, 1)]
    assert search.summed(fewer, [*failed, *some[4:]]).chosen.values == {"steps": 20}
    with pytest.raises(DataError, match="no point of the grid could be trained: the loss rose"):
        search.summed(fewer, [*failed, *(TrialResult({"steps": 20, "fold": 0}, (), 0, 0.0, "NaN"),)])


def test_simplicity_counts_every_option_by_its_own_direction() -> None:
    grid = OptionGrid({"dropout": (0.0, 0.1, 0.5), "layers": (-1, 2, 1)})
    simple = [grid.simplicity(point) for point in grid.points]
    assert simple == [0.0, 0.25, 0.5, 0.25, 0.5, 0.75, 0.5, 0.75, 1.0]
    assert [point.values["layers"] for point in search.summed(
        grid, [result for i, point in enumerate(grid.points) for result in folded(point, i + 0.0, i + 0.0)]
    ).path("layers")] == [-1, 2, 1]  # fmt: skip


def test_folds_are_of_one_size_and_equal_rows_are_together() -> None:
    rows = [parse({"text": f"row {i % 11}"}, str(i)) for i in range(22)]
    places = search.folds(rows, 5, 0)
    assert places[:11] == places[11:] and sorted(places[:11].count(k) for k in range(5)) == [2, 2, 2, 2, 3]
    assert search.folds(rows[::-1], 5, 0)[::-1] == places != search.folds(rows, 5, 1)
    with pytest.raises(DataError, match="12 folds need 12 different rows, got 11"):
        search.folds(rows, 12, 0)


@pytest.mark.slow
def test_a_search_goes_on_from_its_journal_and_its_trials_are_trainings_of_tune(
    checkpoint: Checkpoint, rows: Path, tmp_path: Path
) -> None:
    given = {"data": str(rows), "out": str(tmp_path / "out")}
    config = configure({"length": 48, "rate": 1e-2, "steps": 1, "batch": 6, "rank": 2, "layers": 1, **given})
    planned = search.plan(config, OptionGrid({"dropout": (0.0, 0.5)}, folds=3))
    results = searched(checkpoint, planned, tmp_path / "search")
    assert len(results) == 6 and trial.cost(lambda _: checkpoint, planned.trials) > 0
    path = tmp_path / "search" / trial.FILE
    whole = path.read_bytes()
    # cut in the middle of the fifth trial's line: two are made again
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:40])
    left = trial.remaining(planned.trials, tmp_path / "search", planned.head)
    assert [each.name["fold"] for each in left] == [1, 2]
    again = searched(checkpoint, planned, tmp_path / "search")
    assert path.read_bytes().startswith(b"".join(lines[:5]))
    assert not trial.remaining(planned.trials, tmp_path / "search", planned.head)
    assert [result.rows for result in again] == [result.rows for result in results]
    # a trial is what `tune` makes of these rows, and the whole row is right where each token is
    first = planned.trials[0]
    opened, _ = trial.teach(checkpoint, search.at(config, {"dropout": 0.0}), first.rows)
    scores = trial.measured(opened, first.held)
    assert scores == results[0].rows and len(scores) == len(first.held)
    logits = opened.run.model(mx.array([data_ids(opened, first.held[0])[:-1]]))[0]
    ids = data_ids(opened, first.held[0])
    likeliest = mx.argmax(logits, axis=-1).tolist()
    targets = range(len(ids) - scores[0].targets, len(ids))
    assert scores[0].right == all(likeliest[i - 1] == ids[i] for i in targets)
    logp = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    assert scores[0].total == pytest.approx(-sum(float(logp[i - 1, ids[i]]) for i in targets), rel=1e-5)
    # another grid over the same options uses what is there, other options do not
    wider = search.plan(config, OptionGrid({"dropout": (0.0, 0.5, 0.7)}, folds=3))
    assert len(trial.remaining(wider.trials, tmp_path / "search", wider.head)) == 3
    assert len(searched(checkpoint, wider, tmp_path / "search")) == 9
    other = search.plan(configure({"rank": 4}, config), OptionGrid({"dropout": (0.0, 0.5)}, folds=3))
    with pytest.raises(DataError, match="belongs to a run with another rank"):
        searched(checkpoint, other, tmp_path / "search")


def searched(checkpoint: Checkpoint, planned: search.SearchPlan, folder: Path) -> list[TrialResult]:
    return [done.result for done in search.search(checkpoint, planned, folder)]


def data_ids(opened: trial.Tuning, row: object) -> list[int]:
    found = trial.samples.prepare([row], opened.checkpoint.tokenizer, length=48)  # type: ignore[list-item]
    return list(found.samples[0].ids)


def test_what_a_search_cannot_honour_is_refused_by_name(tmp_path: Path, rows: Path) -> None:
    file = tmp_path / "grid.toml"
    for text, line in (
        ("folds = 5", r"has no \[grid\]"),
        ("fold = 5\n[grid]\nl1 = [0.0, 1.0]", "unknown option fold; did you mean folds"),
        ("folds = 1\n[grid]\nl1 = [0.0, 1.0]", "folds must be at least 2, got 1"),
        ("folds = true\n[grid]\nl1 = [0.0, 1.0]", "folds must be a whole number"),
        ("[grid]\nl2sp = [0.0, 1.0]", "unknown option l2sp; did you mean l2_sp"),
        ("[grid]\nl1 = 1.0", "l1 under .grid. must be a list"),
        ("[grid]\nl1 = [0.0]", "makes 1 points of 5 folds"),
        ("[grid]\nl1 = [0, 0.0]", "l1 under .grid. has a value twice"),
        ("[grid]\nl1 = [0, 'much']", "l1 must be a number, got 'much'"),
        ("[grid]\ndropout = [0, 1.5]", "dropout must be 0 to 0.95, got 1.5"),
        ("[grid]\nsteps = [" + ", ".join(map(str, range(1, 300))) + "]", "299 points of 5 folds.*1000 trainings"),
    ):
        file.write_text(text)
        with pytest.raises(ParameterError, match=line):
            search.read_grid(file)
    config = Config(data=str(rows))
    grid = OptionGrid({"l1": (0.0, 1.0)})
    for given, line in (
        (["patience"], "patience is of validation rows.*search steps instead"),
        (["l1"], "l1 is searched"),
    ):
        with pytest.raises(ParameterError, match=line):
            search.plan(config, grid, given)
    with pytest.raises(ParameterError, match="label_smoothing goes with objective = sft"):
        pairs = tmp_path / "pairs.jsonl"
        pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 2)
        search.plan(
            Config(data=str(pairs), objective="dpo"), OptionGrid({"label_smoothing": (0.0, 0.1)}, folds=2)
        )  # fmt: skip
    with pytest.raises(DataError, match="objective dpo does not fit these rows"):
        search.plan(Config(data=str(rows), objective="dpo"), grid)
    assert data.read(rows, valid=0).train  # the rows themselves are sound


def test_a_journal_of_other_entries_is_damaged(tmp_path: Path) -> None:
    """Valid JSON that is no trial's result is one line, and nothing is trained."""
    sound: dict[str, Any] = {"name": {"fold": 0}, "rows": [[1.0, 1.0, 2, True]], "steps": 1, "seconds": 0, "failed": ""}
    planned = [trial.Trial({"fold": 0}, Config(), (), ())]

    def results(entry: dict[str, Any]) -> list[trial.TrialDone]:
        (tmp_path / trial.FILE).write_text(f"{{}}\n{json.dumps(entry)}\n")
        return list(trial.run(lambda _: pytest.fail("trained"), planned, tmp_path, {}))

    assert results(sound)[0].result.loss.mean == 0.5
    endless = results(sound | {"rows": [[math.inf, math.inf, 2, False]]})  # as a model may have said of a row
    assert endless[0].result.loss.mean == math.inf
    for wrong in ({"name": 3}, {"rows": [[1.0, 1.0]]}, {"rows": [["a", 1.0, 2, True]]}, {"steps": "many"}):
        with pytest.raises(DataError, match="is damaged"):
            results(sound | wrong)
    with pytest.raises(DataError, match="is damaged"):
        results({"nothing": 0})
