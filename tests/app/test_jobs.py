"""Jobs of a worker by engines, trainers and evaluators of a script: their events in their order, and nothing else."""

import gc
import json
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from likely.app import fill_jobs
from likely.app import requests as r
from likely.app.evaluation_jobs import EvaluationJobs
from likely.app.evaluations import Evaluations
from likely.app.jobs import ModelJobs, TrainingJobs
from likely.app.ladder_jobs import LadderJobs, ReadLadder, WriteLadder, table_of
from likely.app.local_evaluator import LocalEvaluator
from likely.app.local_trainer import LocalTrainer, beginning
from likely.app.looks import OpenLook
from likely.app.scoreboard import Scoreboard
from likely.app.worker import WORKED
from likely.engine.adapters.config import Config, configure
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Stats
from likely.engine.errors import DataError, LikelyError, ParameterError
from likely.engine.evaluate.tasks import Problem
from likely.engine.prompt import Prompt
from likely.engine.statistics.estimates import Estimate
from likely.engine.trace.unmasking import DenoisingStep, Unmasked, Unmasking
from likely.engine.tune.control import Paused, Stepped, TrainControl
from tests.app.results import evaluation, fill
from tests.fakes import ByteTokenizer
from tests.serve.scripted import FACTS, step
from tests.serve.served import write_model

STATS = Stats(1, 0, 1, 0.0, 0.0)
TEXT = Prompt(parts=("ab",))


class Engine:
    """Answers by these events; notes of how it was asked."""

    def __init__(self, name: str = "m", *events: Any) -> None:
        self.facts = replace(FACTS, name=name, mask=7)
        self.events, self.tokenizer, self.cache_nbytes = events, ByteTokenizer(), 99
        self.asked: list[Any] = []
        self.closed = 0

    def __getattr__(self, name: str) -> Any:
        def asked(*args: Any, **more: Any) -> Any:
            self.asked.append((name, args, more))
            return {
                "scoring": pieces([step(0), step(1)]), "logits_after": np.zeros(2), "adapt": ("on",),
                "steer": ("steered",), "read": pieces(None),
                "canvas": [1, 7] if args and "[" in str(args[0]) else None, "answer_canvas": [1, 2, 7, 7],
            }.get(name, iter(self.events))  # fmt: skip

        return asked

    def close(self) -> None:
        self.closed += 1


def pieces(found: Any) -> Generator[int, None, Any]:
    """A computation of two turns."""
    yield 1
    yield 2
    return found


class Shop:
    """Models by their names, each an engine."""

    def __init__(self, *engines: Engine) -> None:
        self.engines = {engine.facts.name: engine for engine in engines}
        self.chosen = "m"

    def choose(self, prefer: Any) -> str:
        return self.chosen

    def opening(self, model: str, progress: Any) -> Generator[Any, None, Engine]:
        yield from ()
        progress("reading", 1, 2)
        progress("ready")
        return self.engines[model]

    def offers(self) -> list[Any]:
        return ["offer"]


def run(executor: Any, request: Any, told: list[Any] | None = None) -> list[Any]:
    """All that is told of a request."""
    turns = executor.execute(request, (told if told is not None else []).append)
    return [event for event in turns if event is not None and event is not WORKED]


def loaded(*engines: Engine) -> ModelJobs:
    made = ModelJobs(Shop(*engines))  # type: ignore[arg-type]
    for engine in engines:
        run(made, r.Load(engine.facts.name))
    return made


def test_a_model_is_loaded_once_and_let_go() -> None:
    engine, told = Engine(), []
    made = ModelJobs(Shop(engine))  # type: ignore[arg-type]
    frozen = gc.get_freeze_count()
    assert run(made, r.Load(""), told) == [r.Loaded(engine.facts)]
    assert told == [r.Progressed("m", "reading", 1, 2), r.Progressed("m", "ready", 0, 0)]
    assert gc.get_freeze_count() > frozen or frozen
    assert run(made, r.Load("m"), told) == [r.Loaded(engine.facts)] and len(told) == 2
    assert run(made, r.Unload("m")) == [] and engine.closed == 1 and made.engines == {}
    assert run(made, r.Unload("m")) == [] and engine.closed == 1
    made.provider.chosen = ""  # type: ignore[attr-defined]
    assert run(made, r.Load("")) == [r.Offered(("offer",))] == run(made, r.Offer())
    control = RunControl()
    control.cancel()
    with pytest.raises(LikelyError, match="m was not loaded: it was stopped"):
        run(made, r.Load("m", control=control))
    other = loaded(engine)
    other.close()
    assert engine.closed == 2


def test_what_is_not_loaded_is_named() -> None:
    made = ModelJobs(Shop())  # type: ignore[arg-type]
    for request in (r.Count("m", "x"), r.Score("m", TEXT), r.Generate("m", TEXT, RunControl())):
        with pytest.raises(LikelyError, match="m is not loaded: choose a model first"):
            run(made, request)
    with pytest.raises(LikelyError, match="no model is not loaded"):
        run(made, r.Count("", "x"))


def test_a_run_counts_its_own_time() -> None:
    engine = Engine("m", Emitted(0, step(0)), Emitted(0, step(1)), Done(0, "eot", STATS))
    made, control = loaded(engine), RunControl()
    found = run(made, r.Generate("m", TEXT, control, seed=3, max_tokens=9, force="c", stop=("s",)))
    assert [type(event).__name__ for event in found] == ["Began", "Emitted", "Emitted", "Cached", "Done"]
    assert found[0] == r.Began((97, 98)) and found[3] == r.Cached(99) and list(control.forced) == [99]
    assert 0.0 < found[1].step.elapsed_s <= found[2].step.elapsed_s
    ((_, args, more),) = engine.asked
    assert args == ([97, 98], control) and {**more, "strategy": 0} == {
        "seed": 3,
        "max_tokens": 9,
        "stop": ("s",),
        "strategy": 0,
    }
    with pytest.raises(RuntimeError, match="a run ended without saying why"):
        run(loaded(Engine("m", Emitted(0, step(0)))), r.Generate("m", TEXT, RunControl()))


def test_a_run_that_is_paused_waits_and_one_whose_model_left_ends() -> None:
    made, control = loaded(Engine("m", Done(0, "eot", STATS))), RunControl()
    control.pause(True)
    events = made.execute(r.Generate("m", TEXT, control), lambda event: None)
    assert next(events) == r.Began((97, 98)) and next(events) is None and next(events) is None
    control.pause(False)
    assert next(events) == r.Cached(99)
    made.engines["m"] = Engine()  # type: ignore[assignment]
    assert isinstance(next(events), Done)
    with pytest.raises(LikelyError, match="m was unloaded"):
        next(events)
    looks = loaded(Engine("m", "one", "two"))
    events = looks.execute(r.Inside("m", TEXT, OpenLook(), RunControl()), lambda event: None)
    assert next(events) == "one"
    looks.engines.clear()
    with pytest.raises(LikelyError, match="m was unloaded"):
        next(events)


def test_each_question_is_asked_of_its_engine() -> None:
    engine = Engine("m", "seen")
    made, control = loaded(engine), RunControl()
    (scored,) = run(made, r.Score("m", Prompt(parts=("abc", "de")), ("there",)))
    assert [each.token for each in scored.steps] == [0, 1]
    assert scored.last == 2 and len(scored.spans) == 1 and engine.asked[-1][1] == ([97, 98, 99, 100, 101],)
    (exact,) = run(made, r.Exact("m", TEXT))
    assert not exact.logits.flags.writeable and engine.asked[-1][:2] == ("logits_after", ([97, 98],))
    assert run(made, r.Count("m", "ab")) == [r.Tokenized((97, 98))]
    assert run(made, r.Adapt("m", "add", "x", 0.5)) == [r.AdaptersChanged("m", ("on",))]  # type: ignore[arg-type]
    assert engine.asked[-1] == ("adapt", ("add", "x", 0.5), {}) and r.Adapt("m", "add", "x").weight == 1.0
    run(made, r.Steer("m", "kind", (TEXT,), (Prompt(parts=("c",)),), 2))
    assert engine.asked[-1] == ("steer", ("kind", [[97, 98]], [[99]], 2), {})
    assert run(made, r.Inside("m", TEXT, OpenLook(), control)) == ["seen"]
    assert engine.asked[-1] == ("look_inside", ([97, 98], OpenLook(), control), {})


# -- canvases --------------------------------------------------------------------------------------------------------


def test_a_canvas_is_ids_a_text_with_gaps_or_an_answer() -> None:
    engine, how = Engine(), Unmasking(block=4)
    ask = r.Fill("m", TEXT, RunControl(), how=how)
    special = frozenset({4, 7})
    assert fill_jobs.lay(engine, replace(ask, ids=(5, 6))) == r.Laid((5, 6), 0, special) and engine.asked == []  # type: ignore[arg-type]
    assert fill_jobs.lay(engine, replace(ask, text="a [MASK:1]")) == r.Laid((1, 7), 0, special)  # type: ignore[arg-type]
    assert fill_jobs.lay(engine, replace(ask, text="plain", prefill="c", masks=3)) == r.Laid((1, 2, 7, 7), 2, special)  # type: ignore[arg-type]
    assert engine.asked[-1][1] == ([97, 98], [99], 3, 4)
    fill_jobs.lay(engine, ask)  # type: ignore[arg-type]
    assert engine.asked[-1][1] == ([97, 98], [], 0, 4)
    engine.facts = replace(engine.facts, mask=None)
    assert fill_jobs.lay(engine, replace(ask, ids=(5,))).special == {4}  # type: ignore[arg-type]


def test_passes_are_told_with_their_pieces_and_time() -> None:
    passes = [DenoisingStep(i, (Unmasked(i, step(token)),), ()) for i, token in ((1, 1), (2, 4))]
    engine = Engine("m", *passes)
    ask = r.Fill("m", TEXT, RunControl(), seed=3, ids=(1, 7))
    laid, first, second, end = run(loaded(engine), ask)
    assert laid == r.Laid((1, 7), 0, frozenset({4, 7})) and end == r.FillEnded(False)
    assert 0.0 < first.elapsed_s <= second.elapsed_s and first.step.step == 1
    token = first.step.unmasked[0].token
    assert (token.piece, token.special, token.elapsed_s) == (b" there", False, first.elapsed_s)
    assert second.step.unmasked[0].token.special and engine.asked[-1][2] == {"seed": 3}
    paused = replace(ask, control=RunControl())
    paused.control.pause(True)
    events = loaded(Engine("m", *passes)).execute(paused, lambda event: None)
    assert isinstance(next(events), r.Laid) and next(events) is None and next(events) is None
    paused.control.pause(False)
    assert isinstance(next(events), r.Denoised)
    paused.control.cancel()
    assert list(events) == [r.FillEnded(True)]


def test_a_bound_is_told_as_it_is_read() -> None:
    def bounding(*given: Any) -> Iterator[int]:
        yield 4
        yield 3
        return Estimate(2.0, 0.1)  # type: ignore[return-value]

    engine, control = Engine(), RunControl()
    engine.bounding = bounding  # type: ignore[method-assign]
    ask = r.AskBound("m", (1, 7), (1,), control)
    assert run(loaded(engine), ask) == [r.Bounding(4), r.Bounding(7), r.Bounded(Estimate(2.0, 0.1), 1)]
    events = loaded(engine).execute(ask, lambda event: None)
    next(events)
    control.cancel()
    assert list(events) == []


# -- trainings -------------------------------------------------------------------------------------------------------


class Trainer:
    """A run of these events."""

    def __init__(self, *events: Any) -> None:
        self.events = events
        self.opened: list[Any] = []

    def open(self, config: Any, resume: bool, progress: Any) -> Any:
        self.opened.append((config, resume))
        progress("reading", 1, 2)
        return "plan"

    def train(self, control: TrainControl) -> Iterator[Any]:
        yield from self.events

    def answer(self, request: Any) -> Any:
        return f"answer to {request.text}"


def test_a_training_is_planned_and_goes_on() -> None:
    from likely.engine.tune.control import Complete

    trainer, told, control = Trainer("a", "b"), [], TrainControl()
    made, config = TrainingJobs(trainer), Config(data="d", out="o")  # type: ignore[arg-type]
    assert run(made, r.Train(config, True, control), told) == ["plan", "a", "b"]
    assert told == [r.Progressed("o", "reading", 1, 2), r.Progressed("o", "training", 0, 0)] and trainer.opened == [
        (config, True)
    ]
    assert run(made, r.TrainOn(control)) == ["a", "b"]
    complete = Complete.__new__(Complete)
    object.__setattr__(complete, "text", "q")
    assert run(made, complete) == ["answer to q"]
    control.stop()
    with pytest.raises(LikelyError, match="the run was stopped before it began"):
        run(made, r.Train(config, False, control))


def test_a_training_that_waits_gives_turns() -> None:
    control = TrainControl()
    control.pause()
    events = TrainingJobs(Trainer(Paused(1), "on")).execute(r.TrainOn(control), lambda event: None)  # type: ignore[arg-type]
    assert next(events) == Paused(1) and next(events) is None and next(events) is None
    control.go_on()
    assert list(events) == ["on"]


def test_a_row_is_shown_by_its_beginning() -> None:
    def row(*messages: Any, text: str = "") -> Any:
        return SimpleNamespace(messages=messages, text=text)

    assert beginning(row(text=" ".join(map(str, range(14))))) == "0 1 2 3 4 5 6 7 8 9 10 11"
    user, system = {"role": "user", "content": "q"}, {"role": "system", "content": "s"}
    assert beginning(row(system, user, {"role": "user", "content": "r"})) == "q"
    assert beginning(row(system)) == "" == beginning(row({"role": "user", "content": [1]}))


def test_a_run_on_this_machine_is_opened_planned_and_gone_on_with(tmp_path: Path) -> None:
    """A chat's first questions are what it will be asked, and a resumed run has its past."""
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "ab"}]} for q in "qrqs"]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model, said = write_model(tmp_path / "tiny"), list[str]()
    given = {"model": str(model), "data": str(tmp_path / "rows.jsonl"), "out": str(tmp_path / "run"), "steps": 4}
    config = configure({**given, "batch": 1, "rank": 2, "save_every": 2, "layers": 1, "length": 64})
    trainer = LocalTrainer()
    with pytest.raises(ParameterError, match="there is no run: open one first"):
        _ = trainer.run
    plan = trainer.open(config, False, lambda stage, done, total: said.append(stage))
    assert "reading the data" in said and "measuring this machine" in said
    assert plan.lines and plan.folder == given["out"] and (plan.steps, plan.past) == (4, ())
    assert set(plan.prompts) <= set("qrs") and plan.prompts and plan.chat
    tokens, taught = zip(*plan.row, strict=True)
    assert b"ab" in b"".join(plan.vocabulary[token] for token, own in plan.row if own) and not taught[0]
    assert b":" in b"".join(plan.vocabulary[token] for token in tokens)
    steps = [event.step for event in trainer.train(TrainControl()) if isinstance(event, Stepped)]
    assert steps == [1, 2, 3, 4]
    again = LocalTrainer().open(replace(config, steps=6), True, lambda *_: None)
    assert [event.step for event in again.past if isinstance(event, Stepped)] == [1, 2, 3, 4] and again.steps == 6


# -- evaluations -----------------------------------------------------------------------------------------------------


class Evaluator:
    """The measurements of a store, an outcome behind each."""

    def __init__(self, control: Any = None) -> None:
        self.control = control

    def run(self, order: Any, store: Evaluations, progress: Any) -> Iterator[Any]:
        progress("opening", 0, 0)
        each = fill(store)[1]
        yield replace(each, total=9)
        yield SimpleNamespace(number=7, cluster=None, values={"exact": 1.0})
        yield Problem(8, "odd", "w")


def test_a_board_is_told_before_and_behind_its_items_and_waits_where_it_is_paused(tmp_path: Path) -> None:
    made, told = EvaluationJobs(Evaluator, tmp_path / "e.db"), list[Any]()
    order = r.Evaluate(("t",), ("m",))
    events = made.execute(order, told.append)
    first = next(events)
    assert isinstance(first, Scoreboard) and first.live == ("ask", "one")
    assert told == [r.Progressed("", "opening", 0, 0)]
    order.control.paused = True
    assert next(events) is None and next(events) is None
    order.control.paused = False
    *others, last = [event for event in events if event is not None]
    assert any(isinstance(event, Problem) for event in others)
    assert isinstance(last, Scoreboard) and last.live is None
    assert last.scores["ask", "one"].estimate.n == 4 and last.scores["ask", "one"].total == 9
    order = replace(order, control=r.EvaluateControl())
    order.control.stopped = True
    with pytest.raises(LikelyError, match="stopped before anything was measured"):
        run(made, order)
    made.close()


def test_a_run_that_is_stopped_ends_with_its_board(tmp_path: Path) -> None:
    made, order = EvaluationJobs(Evaluator, tmp_path / "e.db"), r.Evaluate(("t",), ("m",))
    events = made.execute(order, lambda event: None)
    next(events)
    order.control.stopped = True
    (board,) = list(events)
    assert isinstance(board, Scoreboard) and board.live is None and board.scores["ask", "one"].estimate.n == 3


def test_earlier_results_are_recalled_examined_and_reported(tmp_path: Path) -> None:
    made = EvaluationJobs(Evaluator, tmp_path / "e.db")
    with pytest.raises(DataError, match="nothing was measured yet: there is nothing to report"):
        run(made, r.Report(tmp_path / "r.html"))
    fill(made.store)
    (board,) = run(made, r.Recall())
    assert board.models == ("one", "two") and board.unkept == ""
    (found,) = run(made, r.Examine("choose", ("one", "two")))
    assert found.models == ("one", "two") and found.won == 1
    with pytest.raises(LikelyError, match="choose was not measured with three"):
        run(made, r.Examine("choose", ("one", "three")))
    from likely.engine.evaluate.figures import Tally

    made.scores.begin(evaluation("new", "one", "x"), Tally())
    assert run(made, r.Examine("new", ("one",))) == []
    assert (
        run(made, r.Report(tmp_path / "r.html")) == [r.Reported(tmp_path / "r.html")] and (tmp_path / "r.html").exists()
    )
    made.close()
    (tmp_path / "f").write_text("")
    lost = EvaluationJobs(Evaluator, tmp_path / "f" / "e.db")
    (board,) = run(lost, r.Recall())
    assert board.unkept.startswith("results are not kept in")


def test_a_run_on_this_machine_says_how_to_measure_again(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"text": f"ab {i}"}) for i in range(4)))
    task, model = str(tmp_path / "t.jsonl"), str(write_model(tmp_path / "tiny"))
    made = EvaluationJobs(LocalEvaluator, tmp_path / "e.db")
    *_, board = run(made, r.Evaluate((task,), (model,), limit=3))
    assert isinstance(board, Scoreboard) and board.models == (model,) and board.scores["t", model].estimate.n == 3
    (kept,) = made.store.all()
    assert kept.command == ["likely", "eval", task, "-M", model, "--limit", "3"]
    made.close()


# -- ladders ---------------------------------------------------------------------------------------------------------


def test_a_ladder_is_read_and_written(tmp_path: Path) -> None:
    """From a folder of a ladder, by a law that is known."""
    table = ["parameters,tokens,loss"]
    for n in (1e6, 3e6, 1e7, 3e7):
        table += [f"{n},{d},{1.7 + 400 / n**0.34 + 410 / d**0.28}" for d in (1e8, 3e8, 1e9, 3e9)]
    (tmp_path / "runs.csv").write_text("\n".join(table))
    made = LadderJobs()
    (read,) = run(made, ReadLadder(tmp_path))
    assert read.path == tmp_path and read.rate is None and table_of(tmp_path / "x.csv") == tmp_path / "x.csv"
    svg, page = tmp_path / "a.svg", tmp_path / "a.html"
    assert run(made, WriteLadder(read, svg, page)) == [page]
    assert svg.read_text().startswith("<svg") and "<html" in page.read_text()
    made.close()
