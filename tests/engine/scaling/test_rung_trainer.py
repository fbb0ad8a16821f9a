"""The runs of a ladder as `engine.pretrain` trains them: sizes, a probe, a run that is killed and goes on."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from likely.engine.scaling import running
from likely.engine.scaling.ladder import read_runs
from likely.engine.scaling.plan import LadderPlan
from likely.engine.scaling.rung_trainer import PretrainRungs
from likely.engine.scaling.running import RungEnded, RungMoved
from likely.engine.tune.control import TrainControl


@pytest.mark.slow
def test_a_ladder_of_tiny_models_is_trained_and_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(f"{n} and {n + 1} are {2 * n + 1}." for n in range(400)))
    training = {"data": str(tmp_path / "text.txt"), "tokenizer": "bytes", "context": 16, "batch": 4, "accumulate": 1}
    plan = LadderPlan(
        ("15k",), "grid", tokens=(320.0, 640.0), ratios=(0.0, 1e9), out=tmp_path / "out",
        training={**training, "save_every": 2},
    )  # fmt: skip
    hot = PretrainRungs(replace(plan, out=tmp_path / "hot", training={**training, "rate": 1e9}))
    hot.facts("15k")
    assert math.isfinite(hot.probe("15k").a_token_s)  # what diverges is priced too: it was nan, and less than any limit
    trainer = PretrainRungs(plan)
    parameters = trainer.facts("15k").parameters
    assert 10_000 < parameters < 20_000
    probe = trainer.probe("15k")
    assert probe.parameters == parameters and probe.a_token_s > 0 and probe.memory > 0
    rungs, _ = plan.rungs({"15k": parameters})
    (plan.out / running.RUNS / rungs[0].name).mkdir(parents=True)
    (plan.out / running.RUNS / rungs[0].name / "config.json").write_text("{}")  # of one that was killed at its start
    events = running.run(plan, rungs, trainer)
    for event in events:
        if isinstance(event, RungMoved) and event.rung is rungs[1] and event.tokens > 300:
            break
    events.close()  # type: ignore[attr-defined]
    control = TrainControl()
    for event in running.run(plan, rungs, trainer, control):  # stopped, it keeps the step that it took
        if isinstance(event, RungMoved):
            stopped_at, _ = event.tokens, control.stop()
    again = list(running.run(plan, rungs, trainer))
    moved = [event.tokens for event in again if isinstance(event, RungMoved)]
    assert [e.before for e in again if isinstance(e, RungEnded)] == [True, False] and moved[0] > stopped_at > 128
    runs, left = read_runs(plan.out / running.TABLE, {}, keep_all=True)
    assert len(runs) == 2 and not left and (runs.loss < math.log(300)).all() and (runs.parameters == parameters).all()
    said = json.loads((plan.out / running.RUNS / rungs[0].name / "pretrain.json").read_text())["config"]
    assert said["eval_every"] == 0 and said["sample_tokens"] == 0  # what nobody sees is not paid for
    assert runs.tokens[1] > 1.5 * runs.tokens[0] and runs.embedding is not None and (runs.embedding > 0).all()
