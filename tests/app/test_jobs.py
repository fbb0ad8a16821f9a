"""Jobs of a worker on tiny real models: what is told of each request, in its order, and what one waits for."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.jobs import calls
from likely.app.jobs import requests as r
from likely.app.jobs.calls import call
from likely.app.jobs.evaluation_jobs import EvaluationJobs
from likely.app.jobs.interpretability import Inside, question
from likely.app.jobs.jobs import ModelJobs, TrainingJobs
from likely.app.jobs.local_evaluator import LocalEvaluator
from likely.app.jobs.local_trainer import LocalTrainer
from likely.app.jobs.model_provider import LocalModelProvider
from likely.app.jobs.scaling_jobs import ReadSweep, SweepJobs, WriteSweep, table_of
from likely.app.jobs.worker import WORKED
from likely.app.results.scoreboard import Scoreboard
from likely.engine.base.errors import DataError, Interrupted, LikelyError, ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Prefilled
from likely.engine.decode.prompt import Prompt
from likely.engine.train.control import Compare, Compared, Ended, Paused, Stepped, TrainControl
from likely.engine.weights.adapters.config import Config, configure
from likely.metal import mx
from tests.app.results import fill
from tests.engine import tiny
from tests.serve.served import write_model

TEXT = Prompt(parts=("ab",))


def run(executor: Any, request: Any, told: list[Any] | None = None) -> list[Any]:
    """All that is told of a request."""
    turns = executor.execute(request, (told if told is not None else []).append)
    return [event for event in turns if event is not None and event is not WORKED]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("jobs") / "tiny"))


@pytest.fixture
def jobs(model: str) -> ModelJobs:
    made = ModelJobs(LocalModelProvider())
    run(made, r.Load(model))
    return made


# -- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow(2)
def test_a_model_is_loaded_once_and_let_go(model: str) -> None:
    made, told = ModelJobs(LocalModelProvider()), list[Any]()
    (loaded,) = run(made, r.Load(model), told)
    assert loaded.facts.name == model and told and all(each.model == model for each in told)
    count = len(told)
    assert run(made, r.Load(model), told) == [loaded] and len(told) == count
    assert run(made, r.Unload(model)) == run(made, r.Unload(model)) == []
    for request in (
        call(calls.tokens, model, "x"),
        call(calls.score, model, TEXT),
        r.Generate(model, TEXT, RunControl()),
    ):
        with pytest.raises(LikelyError, match="is not loaded: choose a model first"):
            run(made, request)
    with pytest.raises(LikelyError, match="no model is not loaded"):
        run(made, call(calls.tokens, "", "x"))
    control = RunControl()
    control.cancel()
    with pytest.raises(LikelyError, match="was not loaded: it was stopped"):
        run(made, r.Load(model, control=control))


@pytest.mark.slow(2)
def test_a_run_begins_with_its_prompt_counts_its_own_time_and_ends_once(jobs: ModelJobs, model: str) -> None:
    ask = r.Generate(model, TEXT, RunControl(), seed=3, max_tokens=6, force="c")
    found = run(jobs, ask)
    (counted,), (forced,) = (run(jobs, call(calls.tokens, model, text)) for text in ("ab", "c"))
    assert found[0] == r.Began(counted)
    steps = [event.step for event in found if isinstance(event, Emitted)]
    assert len(steps) == 6 and steps[0].token == forced[0] and steps[0].origin == "forced"
    times = [step.elapsed_s for step in steps]
    assert times == sorted(times) and times[0] > 0
    assert isinstance(found[-1], Done) and sum(isinstance(event, Done) for event in found) == 1
    assert isinstance(found[-2], r.Cached) and found[-2].nbytes > 0
    again = run(jobs, replace(ask, control=RunControl()))
    assert [e.step.token for e in again if isinstance(e, Emitted)] == [step.token for step in steps]


@pytest.mark.slow
def test_a_run_that_is_paused_waits_and_one_whose_model_left_ends(jobs: ModelJobs, model: str) -> None:
    control = RunControl()
    control.pause(True)
    events = jobs.execute(r.Generate(model, TEXT, control, max_tokens=4), lambda event: None)
    assert isinstance(next(events), r.Began) and next(events) is None and next(events) is None
    control.pause(False)
    assert isinstance(next(event for event in events if event is not None), Prefilled | Emitted)
    looking = jobs.execute(call(calls.look, model, TEXT, question(Inside.opened), RunControl()), lambda event: None)
    next(looking)
    run(jobs, r.Unload(model))
    run(jobs, r.Load(model))  # that one has read nothing of the run
    for left in (events, looking):
        with pytest.raises(LikelyError, match="was unloaded"):
            list(left)


def test_a_text_is_scored_token_by_token_and_its_parts_are_found(jobs: ModelJobs, model: str) -> None:
    """Each by the logits after what stands before it, in float64."""
    (scored,) = run(jobs, call(calls.score, model, Prompt(parts=("abc", "de")), ("de",)))
    assert b"".join(step.piece for step in scored.steps) == b"abcde"
    for at in range(1, len(scored.steps)):
        before = tuple(step.token for step in scored.steps[:at])
        (exact,) = run(jobs, call(calls.logits, model, Prompt(parts=(before,), whole=True)))
        logits = exact.astype(np.float64)
        assert not exact.flags.writeable
        wanted = logits[scored.steps[at].token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        assert scored.steps[at].logprob == pytest.approx(wanted, abs=1e-4)
    ((start, end),) = filter(None, scored.spans)
    assert scored.last == end - start
    assert b"".join(step.piece for step in scored.steps[start:end]) == b"de"


def test_a_chat_and_a_training_share_one_load_of_the_weights(tmp_path: Path) -> None:
    shape = {**tiny.LLAMA, "hidden_size": 256, "intermediate_size": 2048, "head_dim": 64}
    arrays = {name: mx.array(0.2 * a if a.ndim > 1 else a) for name, a in tiny.weights(shape).items()}
    folder = str(tiny.write_folder(tmp_path / "model", shape, arrays))
    weights = sum(array.nbytes for array in arrays.values())
    del arrays
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "{i}", "completion": "b"}}\n' for i in range(3)))
    mx.clear_cache()
    before = mx.get_active_memory()
    made = ModelJobs(LocalModelProvider())
    run(made, r.Load(folder))
    trainer = LocalTrainer()
    given = {"model": folder, "data": str(tmp_path / "rows.jsonl"), "out": str(tmp_path / "run"), "steps": 1}
    trainer.open(configure({**given, "batch": 1, "rank": 2, "length": 32}), False, lambda *_: None)
    mx.clear_cache()
    assert 0.9 * weights < mx.get_active_memory() - before < 1.5 * weights
    assert run(made, call(calls.tokens, folder, "ab"))


# -- trainings -------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, model: str) -> Config:
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "ab"}]} for q in "qrqs"]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = {"model": model, "data": str(tmp_path / "rows.jsonl"), "out": str(tmp_path / "run"), "steps": 4}
    return configure({**given, "batch": 1, "rank": 2, "save_every": 2, "layers": 1, "length": 64})


@pytest.mark.slow
def test_a_training_is_planned_made_asked_and_gone_on_with(config: Config) -> None:
    """A chat's first questions are what it will be asked, and a resumed run has its past."""
    made, told = TrainingJobs(LocalTrainer()), list[Any]()
    with pytest.raises(ParameterError, match="there is no run: open one first"):
        run(made, Compare("ab"))
    plan, *events = run(made, r.Train(config, False, TrainControl()), told)
    stages = [each.stage for each in told]
    assert {"reading the data", "measuring this machine"} <= set(stages) and stages[-1] == "training"
    assert plan.lines and plan.folder == config.out and (plan.steps, plan.past) == (4, ())
    assert plan.prompts and set(plan.prompts) <= set("qrs") and plan.chat
    taught = [token for token, own in plan.row if own]
    assert b"ab" in b"".join(plan.vocabulary[token] for token in taught) and not plan.row[0][1]
    assert [event.step for event in events if isinstance(event, Stepped)] == [1, 2, 3, 4]
    assert isinstance(events[-1], Ended) and events[-1].reason == "done"
    (compared,) = run(made, Compare("ab"))
    assert isinstance(compared, Compared) and compared.difference.positions
    plan, *events = run(TrainingJobs(LocalTrainer()), r.Train(replace(config, steps=6), True, TrainControl()))
    assert [event.step for event in plan.past if isinstance(event, Stepped)] == [1, 2, 3, 4]
    assert [event.step for event in events if isinstance(event, Stepped)] == [5, 6]


@pytest.mark.slow
def test_a_training_that_waits_gives_turns_and_one_that_is_stopped_never_begins(config: Config) -> None:
    made, control = TrainingJobs(LocalTrainer()), TrainControl()
    control.pause()
    events = made.execute(r.Train(config, False, control), lambda event: None)
    next(events)  # the plan
    assert next(event for event in events if event is not None) == Paused(0) and next(events) is None
    control.go_on()
    assert isinstance([event for event in events if event is not None][-1], Ended)
    control.stop()
    with pytest.raises(Interrupted, match="stopped before it began"):
        run(TrainingJobs(LocalTrainer()), r.Train(config, False, control))


# -- evaluations -----------------------------------------------------------------------------------------------------


@pytest.fixture
def measuring(tmp_path: Path, model: str) -> Callable[..., tuple[EvaluationJobs, r.Evaluate]]:
    def made(**more: Any) -> tuple[EvaluationJobs, r.Evaluate]:
        (tmp_path / "t.jsonl").write_text(
            "\n".join(json.dumps({"text": f"ab {i}"}) for i in range(4)) + '\n{"text": ""}'
        )
        order = r.Evaluate((str(tmp_path / "t.jsonl"),), (model,), **more)
        return EvaluationJobs(LocalEvaluator, tmp_path / "e.db"), order

    return made


Measuring = Callable[..., tuple[EvaluationJobs, r.Evaluate]]


def boards(events: Iterator[Any]) -> list[Scoreboard]:
    return [event for event in events if isinstance(event, Scoreboard)]


def test_a_board_is_told_before_and_behind_its_items_and_waits_where_it_is_paused(
    measuring: Measuring, model: str, tmp_path: Path
) -> None:
    made, order = measuring()
    events = made.execute(order, lambda event: None)
    first = next(event for event in events if event is not None)
    assert isinstance(first, Scoreboard) and first.live == ("t", model)
    order.control.pause(True)
    assert next(events) is None and next(events) is None
    order.control.pause(False)
    last = boards(events)[-1]
    score = last.scores["t", model]
    assert last.live is None and (score.estimate.n, score.evaluation.total) == (4, 5)  # one row is none
    (kept,) = made.store.all()
    assert kept.command[:2] == ["likely", "eval"] and kept.command[-2:] == ["-M", model]
    made, order = measuring(limit=2)
    assert boards(iter(run(made, order)))[-1].scores["t", model].estimate.n == 2
    run(made, r.Report(tmp_path / "r.html"))
    assert "<td class=n>2<td>" in (tmp_path / "r.html").read_text(), "of what the board is of, of all that is kept"
    order.control.cancel()
    with pytest.raises(LikelyError, match="stopped before anything was measured"):
        run(made, order)
    with pytest.raises(LikelyError, match="typos are varied of choices and questions: t has documents"):
        run(*measuring(vary="typos", variants=2))
    (tmp_path / "sums.jsonl").write_text(json.dumps({"question": "two and two?", "answer": "4"}))
    made, order = measuring(vary="typos", variants=2)
    board = boards(iter(run(made, replace(order, tasks=(str(tmp_path / "sums.jsonl"),)))))[-1]
    assert board.tasks == ("sums", "sums (typos 1)", "sums (typos 2)")
    assert made.store.latest()[0].command[-4:] == ["--vary", "typos", "--variants", "2"]
    made.close()


def test_a_run_that_is_stopped_ends_with_its_board(measuring: Measuring, model: str) -> None:
    made, order = measuring()
    events = made.execute(order, lambda event: None)
    next(event for event in events if event is not None)
    order.control.cancel()
    last = boards(events)[-1]
    assert (last.live is None and ("t", model) not in last.scores) or last.scores["t", model].estimate.n < 4


def test_earlier_results_are_recalled_examined_and_reported(tmp_path: Path) -> None:
    made = EvaluationJobs(LocalEvaluator, tmp_path / "e.db")
    with pytest.raises(DataError, match="nothing was measured yet: there is nothing to report"):
        run(made, r.Report(tmp_path / "r.html"))
    fill(made.store)
    (board,) = run(made, r.Recall())
    assert board.models == ("one", "two") and board.unkept == ""
    (found,) = run(made, r.Examine("choose", ("one", "two")))
    assert found.models == ("one", "two") and found.won == 1
    with pytest.raises(LikelyError, match="choose was not measured with three"):
        run(made, r.Examine("choose", ("one", "three")))
    assert run(made, r.Report(tmp_path / "r.html")) == [r.Reported(tmp_path / "r.html")]
    assert "<h1>" in (tmp_path / "r.html").read_text()
    made.close()
    (tmp_path / "f").write_text("")
    (board,) = run(EvaluationJobs(LocalEvaluator, tmp_path / "f" / "e.db"), r.Recall())
    assert board.unkept.startswith("results are not kept in")


# -- ladders ---------------------------------------------------------------------------------------------------------


def test_a_ladder_is_read_and_written(tmp_path: Path) -> None:
    """From a folder of a ladder, by a law that is known."""
    table = ["parameters,tokens,loss"]
    for n in (1e6, 3e6, 1e7, 3e7):
        table += [f"{n},{d},{1.7 + 400 / n**0.34 + 410 / d**0.28}" for d in (1e8, 3e8, 1e9, 3e9)]
    (tmp_path / "runs.csv").write_text("\n".join(table))
    made = SweepJobs()
    (read,) = run(made, ReadSweep(tmp_path))
    assert read.path == tmp_path and read.rate is None and table_of(tmp_path / "x.csv") == tmp_path / "x.csv"
    svg, page = tmp_path / "a.svg", tmp_path / "a.html"
    assert run(made, WriteSweep(read, svg, page)) == [page]
    assert svg.read_text().startswith("<svg") and "<html" in page.read_text()
    made.close()
