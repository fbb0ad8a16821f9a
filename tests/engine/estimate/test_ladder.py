"""Ladders by hand, and starts that were learned: fewer rows of a new task, on a tiny model."""

from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.measure.estimate import bounds, guarantee, ladder, meta
from likely.engine.measure.estimate.bounds import GaussianPosterior
from likely.engine.measure.estimate.ladder import RowPool
from likely.engine.measure.estimate.trial import TrialResult, run
from likely.engine.text.rows.training_row import TrainingRow, parse
from likely.engine.train.losses.row_scores import RowScore
from likely.engine.train.run import trainer
from likely.engine.train.taught import ready, teach
from likely.engine.weights.adapters import adapters
from likely.engine.weights.adapters.config import Config, configure
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.metal import mx
from tests.engine import tiny

OPTIONS = {"length": 48, "rate": 3e-2, "steps": 4, "batch": 4, "rank": 2, "optimiser": "sgd", "clip": 0.0}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(tiny.random_folder(tmp_path_factory.mktemp("ladder") / "model"))


def shifted(by: int, count: int, seed: int) -> tuple[TrainingRow, ...]:
    """Rows of a task: each of two letters moved on in a ring of six."""
    words = np.random.default_rng(seed).choice(list("abcdef"), (count, 2))
    return tuple(
        parse(
            {"prompt": "".join(word), "completion": "".join("abcdef"[("abcdef".index(c) + by) % 6] for c in word)}, ""
        )
        for word in words
    )


def test_rungs_are_nested_and_the_table_is_by_hand(tmp_path: Path) -> None:
    rows = RowPool(shifted(1, 8, 0), shifted(1, 3, 1), "")
    trials = ladder.rungs(Config(model="a"), rows, [0, 2, 4], 2, models=("a", "b"), layers=(1, -1))
    assert len(trials) == 2 * 2 * (1 + 2 + 2) and trials[0].rows == ()
    assert trials[3].rows[:2] == trials[1].rows and trials[3].rows[:2] != trials[4].rows[:2]
    assert (trials[-1].config.model, trials[-1].config.layers, trials[-1].config.seed) == ("b", -1, 1)

    def result(amount: int, seed: int, *losses: float) -> TrialResult:
        scores = tuple(RowScore(loss, loss**2, 1, loss < 1) for loss in losses)
        return TrialResult({"model": "a", "layers": -1, "rows": amount, "seed": seed}, scores, 1, 0.0)

    base, some = ladder.table([result(0, 0, 3.0, 2.0), result(4, 0, 1.0, 0.5), result(4, 1, 2.0, 0.5)])
    assert base.nats.mean == 2.5 and base.gain is None and base.seeds == 1
    assert some.nats.mean == 1.0 and some.accuracy.mean == 0.5 and some.gain is not None
    assert some.gain.estimate.mean == pytest.approx(1.5)  # (3 - 1.5 + 2 - 0.5) / 2
    prints: set[str] = set()
    failed = TrialResult({"model": "a", "layers": -1, "rows": 4, "seed": 0}, (), 0, 0.0, "NaN")
    assert next(ladder.table([failed])).failed == "NaN"
    for tested in ("a", "b"):  # another test file of as many rows is another pool
        (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
        (tmp_path / "test.jsonl").write_text(f'{{"text": "{tested}"}}\n{{"text": "c"}}\n')
        prints = {*prints, ladder.pool(Config(data=str(tmp_path), valid=0.0)).fingerprint}
    assert len(prints) == 2
    assert ladder.sizes((), 100) == [6, 12, 25, 50, 100] and ladder.sizes((8, 4, 8), 10) == [4, 8]
    with pytest.raises(ParameterError, match=r"0 to the 10 rows.*got .4, 11"):
        ladder.sizes((4, 11), 10)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["reptile", "fomaml"])
def test_a_learned_start_needs_fewer_rows_of_a_task_that_it_never_saw(
    method: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    known = {f"shift {by}": RowPool(shifted(by, 24, by), (), "") for by in (1, 2, 3)}
    config = configure(OPTIONS)
    rate = 0.5 if method == "reptile" else 0.1
    made = list(meta.learn(checkpoint, known, config, meta.MetaOptions(method, 8, 6, rate), tmp_path / "start"))
    assert len(made) == 8 and {each.task for each in made} == set(known) and made[0].way > 0
    task = RowPool(shifted(4, 16, 9), shifted(4, 30, 10), "")
    trials = meta.trials(config, task, [4, 16], 1, tmp_path / "start")
    results = [done.result for done in run(lambda _: checkpoint, trials, tmp_path / "trials", {})]
    few, many = meta.compared(results)
    # on 4 rows it is better than the usual start on 4, and than that on 16: intervals paired by row, below 0
    assert few.change.estimate.interval[1] < 0 and few.saved.estimate.interval[1] < 0
    assert many.change.estimate == many.saved.estimate
    # the start is a directory that tune begins at, bit for bit, where its form is the same
    warm = configure({**OPTIONS, "warm_start": str(tmp_path / "start"), "out": str(tmp_path / "out")})
    begun = ready(checkpoint, warm, task.rows).run.trained.parameters()
    stored = adapters.read(tmp_path / "start").arrays
    assert all(bool(mx.array_equal(begun[name], stored[name])) for name in stored)
    for changed, line in (({"rank": 4}, "is another adapter"), ({"layers": 1}, "is another adapter"),
                          ({"scale": 3.0}, "has scale 2 at .*, and 3 is trained"),
                          ({"kind": "dora"}, "is of kind lora, and dora is trained")):  # fmt: skip
        with pytest.raises(ParameterError, match=line):
            ready(checkpoint, configure(changed, warm), task.rows)
    with pytest.raises(DataError, match="has 24 rows, and a round of"):
        next(meta.learn(checkpoint, known, config, meta.MetaOptions(method, 1, 25), tmp_path / "more"))


@pytest.mark.slow
def test_bounds_of_an_adapter_are_of_its_own_rows(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """By the numbers of the adapter itself and of its start; it is left as it was."""
    rows = tuple(parse({"prompt": f"{i}", "completion": "a"}, "") for i in range(60))
    config = configure({**OPTIONS, "layers": 1, "rank": 1, "modules": ["mlp.down_proj"],
                        "out": str(tmp_path / "a")})  # fmt: skip
    opened, _ = teach(checkpoint, config, rows)
    trainer.save(opened.run)
    made = guarantee.Guarantees(checkpoint, tmp_path / "a", rows)
    error, loss = made.held_out(rows)
    losses = made.losses(rows)
    assert made.trivial == {guarantee.ERRORS: 1.0, guarantee.LOSS: pytest.approx(np.log(288))}
    largest = np.log(288 / guarantee.SMOOTHING)
    wrong = int(losses[guarantee.ERRORS].sum())
    assert error.upper == pytest.approx(bounds.clopper_pearson(wrong, 60)) and error.confidence == 0.95
    assert loss.upper == pytest.approx(bounds.hoeffding(losses[guarantee.LOSS].mean(), 60, largest))
    assert error.n == 60 and error.empirical == losses[guarantee.ERRORS].mean() <= error.upper
    before = made.losses(rows[:5])
    by_rows = made.trained(rows, draws=3)
    assert [bound.kl is not None and bound.kl > 0 for bound in by_rows] == [True, True]
    assert all(bound.upper >= bound.empirical for bound in by_rows) and by_rows[0].is_vacuous
    np.testing.assert_array_equal(made.losses(rows[:5])[guarantee.LOSS], before[guarantee.LOSS])  # it is itself again
    # the prior is where an adapter of this seed begins, which no row has moved
    assert all((made.start[name] == 0).all() for name in made.start if name.endswith(".lora_b"))
    with pytest.raises(DataError, match="2 rows make 4 samples"):
        made.losses([parse({"text": "a" * 80}, "")] * 2)
    kls = [
        GaussianPosterior(made.mean, {n: np.array(width**2) for n in made.mean}, made.start).divergence(0.025)[0]
        for width in guarantee.WIDTHS
    ]
    assert all(any(bound.kl == pytest.approx(kl) for kl in kls) for bound in by_rows)  # the best of a few widths
    on = configure({"warm_start": str(tmp_path / "a"), "out": str(tmp_path / "on")}, config)
    trainer.save(teach(checkpoint, on, rows)[0].run)
    with pytest.raises(ParameterError, match=r"began at warm_start .*a, which may have seen these rows"):
        guarantee.Guarantees(checkpoint, tmp_path / "on", rows).trained(rows)
