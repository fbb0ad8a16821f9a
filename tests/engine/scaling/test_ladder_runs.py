"""A ladder's plan and cost, its running with a stand-in for who trains, and its rungs as they are trained."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.errors import DataError, LikelyError
from likely.engine.measure.scaling import running
from likely.engine.measure.scaling.cost import SpeedProbe, chosen, cost
from likely.engine.measure.scaling.plan import ScalingRun, SweepPlan, read_plan
from likely.engine.measure.scaling.run_trainer import PretrainingRuns
from likely.engine.measure.scaling.running import (
    ScalingRunElsewhere,
    ScalingRunEnded,
    ScalingRunProgress,
    ScalingRunResult,
    ScalingRunStarted,
    SizeFacts,
)
from likely.engine.measure.scaling.sweep import MappedColumn, read_runs
from likely.engine.train.control import TrainControl
from tests.laws.test_scaling import LAW

SIZES = {"10k": 10_000, "30k": 30_000, "100k": 100_000}


class PlantedRungs:
    """Runs that give a law's loss; those that `fail` are killed half-way once, and 100k on few tokens diverges."""

    def __init__(self, fail: str = "") -> None:
        self.fail = fail
        self.trained: list[str] = []

    def facts(self, size: str) -> SizeFacts:
        return SizeFacts(SIZES[size], 10**6)

    def probe(self, size: str) -> SpeedProbe:
        return SpeedProbe(SIZES[size], 1e-9 * SIZES[size], 2.0)

    def train(
        self, rung: ScalingRun, folder: Path, control: TrainControl
    ) -> Iterator[ScalingRunProgress | ScalingRunResult]:
        self.trained.append(rung.name + "+" * folder.exists())
        folder.mkdir(exist_ok=True)
        yield ScalingRunProgress(rung, rung.tokens // 2, 3.0)
        if rung.name == self.fail:
            self.fail = ""
            raise KeyboardInterrupt
        loss = None if rung.name == "100k-200000-0" else LAW.loss(rung.parameters, rung.tokens)
        yield ScalingRunResult(
            rung.name, rung.parameters, 100, rung.tokens, 10**6, loss, loss, loss, 1.5, rung.seed, "here"
        )


def grid(out: Path) -> tuple[SweepPlan, list[ScalingRun]]:
    plan = SweepPlan(tuple(SIZES), "grid", tokens=(2e5, 1e6, 4e6), ratios=(1.5, 300.0), out=out)
    return plan, plan.rungs(SIZES)[0]


def test_a_plan_has_the_budgets_and_the_cost_that_were_asked(tmp_path: Path) -> None:
    path = tmp_path / "plays.toml"
    path.write_text('sizes = ["0.1M", "10k", 30e3]\ncompute = [6e9, 6e10]\nseeds = [0, 1]\nratios = [0.5, 90]\n')
    plan = read_plan(path)
    rungs, left = plan.rungs(SIZES)
    assert plan.sizes == tuple(SIZES) and plan.out == tmp_path / "plays"
    # of 6e10 the smallest would have 100 tokens a parameter, of 6e9 the largest 0.1
    assert len(rungs) == 2 * 4 and len({rung.name for rung in rungs}) == 8 and len(left) == 2
    assert {round(rung.compute / 6e9) for rung in rungs} == {1, 10}
    assert [r.compute for r in rungs] == sorted(r.compute for r in rungs)
    for tokenizer, read in (("bytes", "bytes"), ("mine", str(tmp_path / "mine")), ("/mine", "/mine")):
        path.write_text(f'sizes = [1e4]\ncompute = [1e9]\n[training]\ndata = "a.txt"\ntokenizer = "{tokenizer}"\n')
        assert read_plan(path).training == {"data": str(tmp_path / "a.txt"), "tokenizer": read}
    assert "10k on 1,000,000 tokens: 100 a parameter, not 0.5 to 90" in left and len(left) == 2
    # a run costs what two probes say: exactly, where time a token is a power of the size
    assert chosen(dict.fromkeys(SIZES, 1)) == list(SIZES) and chosen({"10k": 1}) == ["10k"]
    found = cost(rungs, [SpeedProbe(n, 2e-9 * n**1.1, 3.0) for n in (10_000, 30_000)])
    for rung, seconds in zip(found.rungs, found.seconds, strict=True):
        assert seconds == pytest.approx(3 + 2e-9 * rung.parameters**1.1 * rung.tokens)
    assert found.rate == pytest.approx(sum(r.compute for r in rungs) / found.total_s)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sizes = []\ncompute = [1e9]", "sizes takes a list of at least one"),
        ('sizes = ["10x"]\ncompute = [1e9]', "sizes takes numbers above 0 such as 150k or 1e12, got '10x'"),
        ("sizes = [1e4]\ncompute = [-1]", "compute takes numbers above 0"),
        ("sizes = [1e4]\ncompute = [nan]", "compute takes numbers above 0"),
        ("sizes = [1e4]\ntokens = [1e6]", "tokens does nothing in layout isoflop: it takes compute"),
        ('sizes = [1e4]\nlayout = "heap"\ncompute = [1]', "layout must be one of isoflop, grid"),
        ("sizes = [1e4]\ncompute = [1e9]\nseeds = [true]", "seeds takes whole numbers"),
        ("sizes = [1e4]\ncompute = [1e9]\nratios = [5, 1]", "ratios takes the fewest and the most"),
        ("sizes = [1e4]\ncompute = [1e9]\n[training]\ntokens = 5", "training.tokens is the ladder's to set"),
        ("sizes = [1e4]\ncomptue = [1e9]", "did you mean compute?"),
        ("sizes = [", "not TOML"),
    ],
)
def test_a_plan_that_is_none_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "plays.toml"
    path.write_text(text)
    with pytest.raises(LikelyError) as error:
        read_plan(path)
    assert words in str(error.value) and str(path) in str(error.value)


def test_a_ladder_goes_on_where_it_was_killed_and_trains_nothing_twice(tmp_path: Path) -> None:
    plan, rungs = grid(tmp_path)
    trainer = PlantedRungs(fail=rungs[3].name)
    with pytest.raises(KeyboardInterrupt):
        list(running.run(plan, rungs, trainer))
    assert len(running.results(tmp_path)) == 3
    events = list(running.run(plan, rungs, trainer))
    assert [e.before for e in events if isinstance(e, ScalingRunEnded)] == [True] * 3 + [False] * (len(rungs) - 3)
    assert trainer.trained == [r.name for r in rungs[:4]] + [rungs[3].name + "+"] + [r.name for r in rungs[4:]]
    runs, left = read_runs(tmp_path / running.TABLE, {})
    assert len(runs) == len(rungs) - 1 and [each.run for each in left] == ["100k-200000-0"]
    assert "diverged" in str(left[0]) and "(100k-200000-0)" in str(left[0])
    assert runs.seconds is not None and (runs.seconds == 1.5).all()
    with pytest.raises(DataError, match=r"another training\.context"):
        list(running.run(SweepPlan(tuple(SIZES), out=tmp_path, training={"context": 8}), rungs, trainer))
    (tmp_path / running.RUNS / "training.json").write_text('{"context": null}')  # that says no more than {}
    assert len(list(running.run(plan, rungs, trainer))) == len(rungs)


def test_a_run_whose_time_is_not_known_is_still_a_run(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text("parameters,tokens,loss,seconds\n1e6,2e7,3,-\n2e6,4e7,2.9,1.5\n4e6,8e7,2.8,0\n")
    runs, left = read_runs(table, {})
    assert not left and runs.seconds is not None and np.isnan(runs.seconds).tolist() == [True, False, True]


def test_tokens_are_compute_by_6_n_only_where_no_column_has_them(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    for tokens in ("tokens", "else"):
        table.write_text(f"parameters,{tokens},loss,flops\n1e6,2e7,3,6e14\n2e6,4e7,2.9,12e14\n")
        runs, _ = read_runs(table, {"compute": MappedColumn("flops")})
        assert runs.tokens.tolist() == ([2e7, 4e7] if tokens == "tokens" else [1e8, 1e8])


def test_two_that_share_a_folder_share_the_runs(tmp_path: Path) -> None:
    """By turns, event for event: whoever comes to a run that the other has passes it by."""
    plan, rungs = grid(tmp_path)
    here, there = PlantedRungs(), PlantedRungs()
    first, second = running.run(plan, rungs, here), running.run(plan, rungs, there)
    events, live = [], [first, second]
    while live:
        for each in list(live):
            event = next(each, None)
            if event is None:
                live.remove(each)
            else:
                events.append(event)
    assert sorted(here.trained + there.trained) == sorted(rung.name for rung in rungs)
    assert here.trained and there.trained and any(isinstance(event, ScalingRunElsewhere) for event in events)
    assert sum(isinstance(event, ScalingRunStarted) for event in events) == len(rungs)
    runs, left = read_runs(tmp_path / running.TABLE, {})
    assert len(runs) + len(left) == len(rungs)


@pytest.mark.slow
def test_a_ladder_of_tiny_models_is_trained_and_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(f"{n} and {n + 1} are {2 * n + 1}." for n in range(400)))
    training = {"data": str(tmp_path / "text.txt"), "tokenizer": "bytes", "context": 16, "batch": 4, "accumulate": 1}
    plan = SweepPlan(
        ("15k",), "grid", tokens=(320.0, 640.0), ratios=(0.0, 1e9), out=tmp_path / "out",
        training={**training, "save_every": 2},
    )  # fmt: skip
    hot = PretrainingRuns(replace(plan, out=tmp_path / "hot", training={**training, "rate": 1e9}))
    hot.facts("15k")
    assert math.isfinite(hot.probe("15k").a_token_s)  # what diverges is priced too: it was nan, and less than any limit
    trainer = PretrainingRuns(plan)
    parameters = trainer.facts("15k").parameters
    assert 10_000 < parameters < 20_000
    probe = trainer.probe("15k")
    assert probe.parameters == parameters and probe.a_token_s > 0 and probe.memory > 0
    rungs, _ = plan.rungs({"15k": parameters})
    (plan.out / running.RUNS / rungs[0].name).mkdir(parents=True)
    (plan.out / running.RUNS / rungs[0].name / "config.json").write_text("{}")  # of one that was killed at its start
    events = running.run(plan, rungs, trainer)
    for event in events:
        if isinstance(event, ScalingRunProgress) and event.rung is rungs[1] and event.tokens > 300:
            break
    events.close()  # type: ignore[attr-defined]
    control = TrainControl()
    for event in running.run(plan, rungs, trainer, control):  # stopped, it keeps the step that it took
        if isinstance(event, ScalingRunProgress):
            stopped_at, _ = event.tokens, control.stop()
    again = list(running.run(plan, rungs, trainer))
    moved = [event.tokens for event in again if isinstance(event, ScalingRunProgress)]
    assert [e.before for e in again if isinstance(e, ScalingRunEnded)] == [True, False] and moved[0] > stopped_at > 128
    runs, left = read_runs(plan.out / running.TABLE, {}, keep_all=True)
    assert len(runs) == 2 and not left and (runs.loss < math.log(300)).all() and (runs.parameters == parameters).all()
    said = json.loads((plan.out / running.RUNS / rungs[0].name / "pretrain.json").read_text())["config"]
    assert said["eval_every"] == 0 and said["sample_tokens"] == 0  # what nobody sees is not paid for
    assert runs.tokens[1] > 1.5 * runs.tokens[0] and runs.embedding is not None and (runs.embedding > 0).all()
