"""Every option of a training: on a tiny model what comes out is another with it, or it is refused by its name."""

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.train.control import Saved, Stepped, Validated
from likely.engine.train.open_run import open_run
from likely.engine.train.run.trainer import train
from likely.engine.weights.adapters.config import Config, configure
from tests.engine import tiny

BASE: dict[str, Any] = {"steps": 3, "length": 48, "batch": 2, "rate": 1e-2, "save_every": 0, "eval_every": 1}
OTHER: dict[str, Any] = {  # another value than the default's and BASE's
    "valid": 0.3, "duplicates": False, "loss": "all", "length": 24, "too_long": "drop", "packing": True,
    "anneal": 0.5,
    "objective": "orpo", "beta": 0.5, "kind": "dora", "rank": 2, "alpha": 3.0, "scale": 5.0, "rslora": True,
    "init": "pissa", "layers": 1, "modules": ("q_proj",), "dropout": 0.5, "quantize": 4, "group_size": 32,
    "optimiser": "sgd", "rate": 3e-3, "lora_plus_ratio": 8.0, "schedule": "linear", "warmup": 2, "floor": 0.5,
    "epochs": 0.5, "steps": 2, "batch": 1, "accumulate": 2, "clip": 0.01, "decay": 0.5, "l1": 0.1, "l2_sp": 5.0,
    "label_smoothing": 0.3, "rehearsal": 3.0, "reword": 0.5,
    "warm_start": "start",
    "kl": 5.0, "kl_data": "other.jsonl", "seed": 1, "eval_every": 2, "eval_rows": 1, "patience": 1, "save_every": 1,
    "tensorboard": True, "out": "elsewhere", "data": "other.jsonl", "map": ("asked=prompt",),
}  # fmt: skip
BESIDE: dict[str, dict[str, Any]] = {  # what an option needs, and what it would be hidden by
    "anneal": {"objective": "mdlm"},
    "beta": {"objective": "orpo", "data": "pairs.jsonl"},
    "objective": {"data": "pairs.jsonl", "objective": "dpo"},
    "group_size": {"quantize": 4},
    "kl_data": {"kl": 5.0},
    "epochs": {"steps": 0, "epochs": 1.0},
    "patience": {"rate": 1e-30, "steps": 4},
    "packing": {"packing": False},
    "reword": {"data": "asked.jsonl"},
    "map": {"data": "mapped.jsonl", "map": ("question=prompt",)},
}
# the same numbers for less memory, or for further steps alone (test_trainer.py), or only looked at
SAME = {"checkpointing", "keep_state", "test", "verdict"}
DRAWN = {  # test_rewards.py
    "answers", "tokens", "advantage", "share", "reuse", "verifier", "timeout", "look_first", "eval_answers", "expert",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models and files of rows."""
    at = tmp_path_factory.mktemp("options")
    for name, seed in (("model", 0), ("model2", 1)):
        tiny.random_folder(at / name, seed=seed)
    rows = [{"prompt": f"tag {i}", "completion": f"<{i * 7}>" + "ab" * (4 * i)} for i in range(12)]
    pairs = [{"prompt": f"tag {i}", "chosen": f"<{i}>", "rejected": f"{i}"} for i in range(12)]
    mapped = [{"question": f"tag {i}", "asked": f"other {i}", "completion": f"<{i}>"} for i in range(12)]
    asked = [{"prompt": f"and the cat is in the {i}", "completion": f"<{i}>"} for i in range(12)]
    for name, values in (
        ("rows", [*rows, *rows[:4]]), ("other", rows[::-2]), ("pairs", pairs), ("mapped", mapped), ("asked", asked),
    ):  # fmt: skip
        (at / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    outcome(at, at, out=str(at / "start"))
    return at


def outcome(folder: Path, at: Path, **values: Any) -> tuple[object, ...]:
    """What a training leaves and tells, without its times."""
    for name in ("data", "kl_data", "warm_start"):
        if values.get(name):
            values[name] = str(folder / values[name])
    given = {"model": str(folder / values.pop("model", "model")), "data": str(folder / "rows.jsonl")} | values
    opened = open_run(configure({"out": str(at / "out"), **BASE, **given}), lambda *_: None)
    told = [
        (type(event).__name__, getattr(event, "step", 0), getattr(event, "loss", 0.0), getattr(event, "rate", 0.0))
        for event in train(opened.run)
        if isinstance(event, Stepped | Validated | Saved)
    ]
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in at.rglob("adapters.safetensors")}
    return told, weights, sorted({str(path.relative_to(at)).partition(".tfevents")[0] for path in at.rglob("*")})


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """Outcomes without the option, by what stands beside it."""
    return {}


def test_every_option_is_asked_for() -> None:
    assert OTHER.keys() | SAME | DRAWN | {"model"} == {f.name for f in fields(Config)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", *OTHER])
def test_an_option_makes_another_training(
    name: str, folder: Path, tmp_path: Path, known: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    beside, other = BESIDE.get(name, {}), "model2" if name == "model" else OTHER[name]
    if str(beside) not in known:
        known[str(beside)] = outcome(folder, tmp_path / "without", **beside)
    if name == "out":
        other = str(tmp_path / "with" / other)
    assert outcome(folder, tmp_path / "with", **{**beside, name: other}) != known[str(beside)]


@pytest.mark.soak
@pytest.mark.parametrize(
    "context",
    [{"kind": "full"}, {"optimiser": "sgd"}, {"optimiser": "adafactor"}, {"schedule": "constant"}, {"packing": True}],
    ids=str,
)
def test_an_option_beside_another_is_refused_by_name_or_makes_another_training(
    context: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ignored = []
    for name in OTHER.keys() - {"out", "data"} - context.keys():
        beside, at = {**BESIDE.get(name, {}), **context}, tmp_path / name
        try:
            found = outcome(folder, at / "with", **{**beside, name: OTHER[name]})
        except ParameterError as error:
            if not any(option in str(error) for option in (name, *beside)):
                ignored.append(f"{name}: {error}")
            continue
        if found == outcome(folder, at / "without", **beside):
            ignored.append(name)
    assert not ignored
