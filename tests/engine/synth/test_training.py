"""Training on made rows: which arms, at which tokens, and what a taught model draws."""

import json
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import DataError
from likely.engine.decode.session import Session
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.measure.evaluate.tasks.tasks import Task
from likely.engine.measure.synth.config import TrainOptions
from likely.engine.measure.synth.training import Arm, TaughtModel, arms, measure, taught
from likely.engine.measure.synth.writer import Writer
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.text.rows.training_row import TrainingRow, parse
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from tests.engine import tiny

OPTIONS = TrainOptions(steps=2, rate=0.01, rank=3, batch=2, length=77, seed=4)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return load(tiny.random_folder(tmp_path / "base"))


def rows_of(*texts: str) -> tuple[TrainingRow, ...]:
    return tuple(
        parse({"prompt": t, "completion": f" {t}!"} if t else {"text": "plain"}, str(i)) for i, t in enumerate(texts)
    )


def task(rows: list[dict[str, Any]]) -> Task:
    return Task("t", lambda: iter(rows), "t")


CHOICES = [{"context": f"{i}?", "choices": ["a", "b"], "gold": i % 2} for i in range(5)]


def test_an_adapter_is_taught_by_the_pipeline_s_options(checkpoint: Checkpoint, tmp_path: Path) -> None:
    opened, tokens = taught(checkpoint, rows_of("a", "bb", "ccc"), OPTIONS, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (said["lora_parameters"]["rank"], said["step"], said["rate"], said["seed"]) == (3, 2, 0.01, 4)
    assert len(opened.run.rows.train) == 3 and not opened.run.rows.valid and tokens > 0
    _, more = taught(checkpoint, rows_of("a", "bb", "ccc"), OPTIONS, tmp_path / "more", tokens=5 * tokens)
    assert more == pytest.approx(5 * tokens, rel=0.2)


def test_arms_are_the_base_and_each_set_at_the_first_one_s_tokens(checkpoint: Checkpoint, tmp_path: Path) -> None:
    sets = {"real": rows_of(*"abcdefgh"), "made": rows_of(*"ij"), "both": rows_of(*"abc")}
    base, *others = arms(checkpoint, sets, task(CHOICES), OPTIONS, tmp_path)
    assert base == measure("base", Session(checkpoint), task(CHOICES), 0, 0)
    assert [(arm.name, arm.rows) for arm in others] == [("real", 8), ("made", 2), ("both", 3)]
    assert all(len(arm.values) == 5 and arm.tokens == pytest.approx(others[0].tokens, rel=0.5) for arm in others)
    assert others[0].tokens > 0 and (tmp_path / "both" / "adapters.safetensors").exists()


def test_items_are_asked_in_their_order_by_the_first_measure(checkpoint: Checkpoint) -> None:
    odd = {"context": "", "choices": ["a"], "gold": 0}
    found = measure("arm", Session(checkpoint), task([CHOICES[0], odd, *CHOICES[1:]]), 3, 40)
    alone = [measure("arm", Session(checkpoint), task([row]), 3, 40).values[0] for row in CHOICES]
    assert found == Arm("arm", 3, 40, tuple(alone))
    with pytest.raises(DataError, match="t: no item of it can be asked"):
        measure("arm", Session(checkpoint), task([odd]), 3, 40)


def test_a_taught_model_draws_as_many_answers_to_each_prompt_as_there_are(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    writer = Writer(Session(checkpoint), SamplingConfig(), PLAIN, 4)
    model = TaughtModel(checkpoint, OPTIONS, writer, tmp_path / "out")
    model.fit(rows_of("a", "b", "a", ""))
    found = model.draw(6, 3)
    prompts = [row.messages[0]["content"] if row.messages else "" for row in found]
    assert prompts == ["a", "a", "a", "b", "b", ""] and found[-1].form == "text"
    assert len({row.digest for row in found}) == 6  # each is drawn by itself
    assert found == model.draw(6, 3) != model.draw(6, 4)
    model.fit(rows_of("a"))
    assert len(model.draw(70, 1)) == 70  # more than are drawn side by side
