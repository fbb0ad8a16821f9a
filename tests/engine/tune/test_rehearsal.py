"""The pull to the base's own answers: its value in float64 by whole distributions, its gradient by differences, and
that of the rows which are read beside them."""

from pathlib import Path

import numpy as np
import pytest

from likely.engine.decode.session import Session
from likely.engine.train.control import Stepped, TrainControl
from likely.engine.train.losses import batch_losses
from likely.engine.train.open_run import open_run
from likely.engine.train.run import rehearsal
from likely.engine.train.run.trainer import save, train
from likely.engine.train.tuned_models import open_model
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.engine import tiny
from tests.engine.tune.test_verdict import answered, law, opened


def test_the_pull_is_the_kl_from_the_base_on_its_own_answers(tmp_path: Path) -> None:
    run = opened(tmp_path, rehearsal=2.0, steps=4, batch=2).run
    base, some = Session(load(run.config.model)), rehearsal.rehearsed(run)
    assert len(some) == 4  # one beside the two rows of each step
    start, rows = run.trained.parameters(), batch_losses.samples_of(run.rows.train[:2])
    assert float(rehearsal.gradient(run.model, run.trained, rows, some, run.config)[0].kl) == pytest.approx(0, abs=1e-3)
    random = np.random.default_rng(0)
    moved = {name: a + mx.array(random.normal(0, 0.05, a.shape).astype(np.float32)) for name, a in start.items()}
    run.trained.set(moved)
    save(run)
    tuned = Session(open_model(run.config.out))
    kls = []
    for one in some:
        first = one.sample.trained.index(True)
        assert [*one.sample.ids[first:]] == answered(base, one.sample.where, rehearsal.ANSWER)
        p, q = (law(session, [*one.sample.ids])[first - 1 : -1] for session in (base, tuned))
        kls += (np.exp(p) * (p - q)).sum(-1).tolist()
    sums, slope = rehearsal.gradient(run.model, run.trained, rows, some, run.config)
    kl = float(sums.kl) / sums.count
    assert sums.count == sum(row.targets for row in rows) and kl == pytest.approx(np.mean(kls), rel=1e-4) and kl > 1e-3
    lost = batch_losses.value(run.model, run.trained, rows, run.config).lost
    assert float(sums.lost) == pytest.approx(float(lost), rel=1e-5)
    way = {name: mx.array(random.normal(0, 1, a.shape).astype(np.float32)) for name, a in start.items()}
    sides = []
    for sign in (-1, 1):
        run.trained.set({name: a + sign * 1e-3 * way[name] for name, a in moved.items()})
        found = rehearsal.gradient(run.model, run.trained, rows, some, run.config)[0]
        sides.append(float(found.lost) + 2.0 * float(found.kl))
    along = sum(float(mx.sum(slope[name] * way[name])) for name in start)
    assert along == pytest.approx((sides[1] - sides[0]) / 2e-3, rel=0.02)


def test_a_model_whose_logits_are_capped_says_that_it_rehearses_nothing(tmp_path: Path) -> None:
    capped = {"model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16}
    models = [tiny.random_folder(tmp_path / name, tiny.LLAMA | how) for name, how in (("gemma", capped), ("llama", {}))]
    said = [opened(tmp_path, model=str(model), rate=0.0).run.chosen for model in models]
    assert "not held to the base's own answers, as its logits are capped: --kl" in said[0]
    assert "rehearsal 2" in said[1] and "capped" not in said[1]


def test_asking_the_base_and_the_look_at_the_end_are_foretold_and_told(tmp_path: Path) -> None:
    asks = opened(tmp_path, rehearsal=2.0, steps=3, batch=2)
    assert asks.beside.asking_s > 0 < asks.beside.looking_s
    assert asks.whole_s == asks.plan.seconds + asks.beside.asking_s + asks.beside.looking_s
    assert asks.plan.peak > asks.plan.program + asks.plan.memory.total > 10e6  # this Python, and what it will take
    nothing = opened(tmp_path, rehearsal=0.0, verdict=False, test="")
    assert (nothing.beside.asking_s, nothing.beside.looking_s, nothing.whole_s) == (0, 0, nothing.plan.seconds)
    tries = opened(tmp_path, rehearsal=0.0, steps=90)
    assert tries.trial_s == pytest.approx(tries.plan.seconds / 3) and asks.trial_s == nothing.trial_s == 0
    told = list[tuple[str, int, int]]()
    control = TrainControl(report=lambda *stage: told.append(stage))
    list(train(asks.run, control))
    assert told == [*(("asking the base", number, 3) for number in range(3)), ("reading what the base answered", 0, 3)]
    over = open_run(asks.run.config, resume=True)  # and has nothing left to do
    list(train(over.run, control))
    assert len(told) == 4 and over.beside.asking_s == 0


@pytest.mark.parametrize("asking", [True, False])
def test_a_run_that_goes_on_asks_the_base_nothing_again(asking: bool, tmp_path: Path) -> None:
    """Stopped while it asked, it asks what is left; after a step, nothing. To the weights of one that was not."""
    how = {"rehearsal": 2.0, "steps": 3, "batch": 2}
    whole, run = opened(tmp_path, **how).run, opened(tmp_path, out=str(tmp_path / "stopped"), **how).run
    list(train(whole))
    control, told = TrainControl(), list[tuple[str, int, int]]()
    if asking:
        control.report = lambda stage, number, _: control.stop() if number else None
    for event in train(run, control):
        if isinstance(event, Stepped):
            control.stop()
    again = open_run(run.config, resume=True).run
    left = [("asking the base", 2, 3)] if asking else []
    assert len(rehearsal.unasked(again)) == len(left)
    list(train(again, TrainControl(report=lambda *stage: told.append(stage))))
    assert told == [*left, ("reading what the base answered", 0, 3)]
    arrays = again.trained.parameters()
    assert all(mx.array_equal(arrays[name], a) for name, a in whole.trained.parameters().items())


def test_answers_of_a_run_that_came_to_nothing_are_not_those_of_another(tmp_path: Path) -> None:
    run = opened(tmp_path, rehearsal=2.0, steps=1).run
    list(train(run))
    kept, stale = (tmp_path / "out" / rehearsal.FILE).read_text(), tmp_path / "other" / rehearsal.FILE
    stale.parent.mkdir()
    stale.write_text(kept.replace('"said": [', '"said": [3, 3, '))
    list(train(opened(tmp_path, rehearsal=2.0, steps=1, out=str(stale.parent)).run))
    assert stale.read_text() == kept
