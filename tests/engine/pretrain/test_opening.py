"""A pretraining before its first step: what it is to take and is compared with, and what a ladder asks of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import DataError
from likely.engine.measure.scaling.plan import ScalingRun, SweepPlan
from likely.engine.measure.scaling.run_trainer import PretrainingRuns
from likely.engine.measure.scaling.running import ScalingRunProgress, ScalingRunResult
from likely.engine.train.control import Stepped, TrainControl
from likely.engine.train.pretrain import pretraining
from likely.engine.train.pretrain.config import FILE
from likely.engine.train.pretrain.pretraining import open_run, pretrain, sample_request
from likely.engine.train.pretrain.shape import ModelShape, counts
from tests.engine.pretrain.texts import config, words

SHAPE = ModelShape("llama", layers=1, width=16, heads=2)


def test_the_trainer_s_options_are_by_the_text_and_the_shape(tmp_path: Path) -> None:
    data = words(tmp_path)
    made = config(data, tmp_path / "m", tokens=10_000, accumulate=3, corpus=str(tmp_path / "corpus"))
    opened = open_run(made, shape=SHAPE)
    found, facts = opened.run.config, opened.corpus.facts
    a_step = opened.plan.trained / opened.plan.batches * 3
    assert opened.run.steps == round(10_000 / a_step) > 10 and found.warmup == round(0.02 * opened.run.steps)
    assert (found.rate, found.schedule, found.floor, found.decay, found.clip) == (2**-7, "cosine", 0.1, 0.1, 1.0)
    usual = open_run(replace(made, tokens=0), shape=SHAPE)  # twenty a parameter, and at most four passes
    assert 20 * usual.prepared.parameters > 4 * opened.plan.trained
    assert usual.run.steps == round(4 * opened.plan.trained / a_step)
    assert open_run(replace(made, tokens=1), shape=SHAPE).run.steps == 1
    masked = open_run(replace(made, objective="mdlm"), shape=SHAPE)
    assert (masked.run.config.length, masked.run.config.objective) == (32, "mdlm")
    assert masked.prepared.vocab == facts.tokens + 1 == opened.prepared.vocab + 1


def test_what_a_run_began_with_is_asked_for_again(tmp_path: Path) -> None:
    made = config(words(tmp_path), tmp_path / "m", schedule="wsd", tokens=128 * 20, save_every=1)
    control = TrainControl()
    for event in pretrain(made, control, shape=SHAPE):
        if isinstance(event, Stepped) and event.step == 2:
            control.stop()

    def resumed(shape: ModelShape = SHAPE, **changed: Any) -> Any:
        return open_run(replace(made, **changed), shape=shape, resume=True)

    for changed, line in (
        ({"seed": 1}, "began with seed = 0, got 1"),
        ({"batch": 9}, "began with batch = 2, got 9"),
        ({"schedule": "cosine"}, "began with schedule = 'wsd', got 'cosine'"),
    ):
        with pytest.raises(DataError, match=line):
            resumed(**changed)
    with pytest.raises(DataError, match="began with width = 16, got 24"):
        resumed(replace(SHAPE, width=24, heads=3))
    assert resumed(save_every=5, eval_rows=3).run.counters.step == 2
    assert resumed(tokens=128 * 40).run.steps == pytest.approx(2 * resumed().run.steps, abs=1)  # on the plateau it may


def test_a_run_is_opened_with_its_figures_and_refuses_a_folder_of_another(tmp_path: Path) -> None:
    data = words(tmp_path)
    made = config(data, tmp_path / "m", sample_tokens=5)
    opened = open_run(made)
    prepared, run = opened.prepared, opened.run
    whole, inner = counts(prepared.shape, 257, 32)
    assert (prepared.parameters, prepared.parameters_without_embedding, prepared.vocab) == (whole, inner, 257)
    assert prepared.tokens == pytest.approx(128 * 6, rel=0.1) and prepared.memory == opened.plan.peak
    held = opened.corpus.tokenizer.decode(run.rows.valid[0].ids[:16]).split()
    assert opened.sample == " ".join(held[: pretraining.SAMPLED_WORDS]) and opened.sample
    sampled = sample_request(opened, 7)
    assert (sampled.text, sampled.chat, sampled.tokens) == (opened.sample, False, 5)
    assert sampled.seed == made.seed + 7 != sample_request(opened, 8).seed
    assert open_run(replace(made, sample="once upon")).sample == "once upon"
    (tmp_path / "m" / "config.json").write_text("{}")
    with pytest.raises(DataError, match="holds another model: choose another --out"):
        open_run(made)
    with pytest.raises(DataError, match="has no run to resume"):
        open_run(made, resume=True)
    (tmp_path / "m" / FILE).write_text("{}")
    with pytest.raises(DataError, match="holds a run already: --resume goes on with it"):
        open_run(made)
    with pytest.raises(DataError, match=r"--out takes a folder, and .* is a file"):
        open_run(replace(made, out=str(data)))


def plan(tmp_path: Path, **training: Any) -> SweepPlan:
    said = {"data": str(words(tmp_path)), "tokenizer": "bytes", "context": 16, "batch": 3, "accumulate": 1}
    return SweepPlan(("20k",), out=tmp_path / "ladder", training={**said, **training})


def test_a_size_s_facts_and_its_speed_are_looked_at_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(tmp_path)
    rungs = PretrainingRuns(made)
    facts = rungs.facts("20k")
    assert facts.parameters == pytest.approx(20_000, rel=0.25) and not list(made.out.glob("**/*.safetensors"))
    data = tmp_path / "words.txt"
    assert 0.6 * data.stat().st_size < facts.unique < data.stat().st_size  # of a text of bytes, less what is held back
    now = iter(float(i) for i in range(10**6))
    monkeypatch.setattr("time.perf_counter", lambda: next(now))  # whatever is timed takes a second or more
    found = rungs.probe("20k")
    assert found.parameters == facts.parameters and found.memory > 4 * facts.parameters
    assert found.a_token_s == pytest.approx(1 / 48, rel=0.3) and found.beside_s > 1


def test_a_rung_tells_how_far_it_is_and_what_it_gave(tmp_path: Path) -> None:
    trainer, rung, folder = (
        PretrainingRuns(plan(tmp_path, save_every=1)),
        ScalingRun("20k", 1000, 320, 5),
        tmp_path / "run",
    )
    folder.mkdir()
    (folder / "half").write_text("")  # killed while it was being made: it begins anew
    control, seen = TrainControl(), []
    for event in trainer.train(rung, folder, control):
        seen.append(event)
        control.stop()
    assert len(seen) == 1 and not (folder / "half").exists()  # stopped, it gave nothing yet
    *moved, last = trainer.train(rung, folder, TrainControl())
    tokens = [event.tokens for event in moved if isinstance(event, ScalingRunProgress)]
    assert seen[0].tokens < tokens[0] and tokens == sorted(tokens) and tokens[-1] == pytest.approx(320, rel=0.2)
    assert isinstance(last, ScalingRunResult) and last.loss is not None
    assert (last.run, last.seed, last.tokens) == ("20k-320-5", 5, tokens[-1])
    assert last.low < last.loss < last.high and 0 < last.embedding < last.parameters  # type: ignore[operator]
    assert json.loads((folder / FILE).read_text())["config"]["seed"] == 5


def test_a_rung_that_diverged_has_no_loss(tmp_path: Path) -> None:
    training = {"rate": 1e6, "warmup": 0.0, "clip": 0.0, "schedule": "constant"}
    trainer = PretrainingRuns(plan(tmp_path, **training))
    *_, last = trainer.train(ScalingRun("20k", 1000, 48 * 30, 0), tmp_path / "run", TrainControl())
    assert isinstance(last, ScalingRunResult) and (last.loss, last.low, last.high) == (None, None, None)


def test_a_text_that_was_too_short_or_only_planned_does_not_refuse_the_next_one(tmp_path: Path) -> None:
    data, out = words(tmp_path, 6000), tmp_path / "m"
    made = config(data, out)
    whole = data.read_text()
    data.write_text(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="fewer than one batch"):
        open_run(replace(made, batch=1000), shape=SHAPE)
    data.write_text(whole)
    for text in (whole, 2 * whole):  # a plan each: no model has read the first
        data.write_text(text)
        facts = open_run(made, shape=SHAPE).corpus.facts
        assert facts.train_bytes + facts.valid_bytes == len(text.encode())
    list(pretrain(replace(made, tokens=1), shape=SHAPE))
    data.write_text(whole)
    with pytest.raises(DataError, match="holds a run already"):
        open_run(made, shape=SHAPE)
