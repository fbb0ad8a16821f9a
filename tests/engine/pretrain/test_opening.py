"""A pretraining before its first step: what it is to take and is compared with, and what a ladder asks of it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import DataError
from engine.pretrain import pretraining
from engine.pretrain.config import PretrainConfig, configure
from engine.pretrain.pretraining import FILE, asked, check_architecture, open_run, shape_for
from engine.pretrain.shape import ModelShape, counts
from engine.scaling import rung_trainer
from engine.scaling.cost import SpeedProbe
from engine.scaling.plan import LadderPlan, Rung
from engine.scaling.rung_trainer import PretrainRungs
from engine.scaling.running import RungMoved, RungResult, SizeFacts
from engine.trace.trace import Recipe
from engine.tune import optimisers
from engine.tune.control import Complete, Stepped
from engine.tune.samples import TrainingSample
from tests.engine.pretrain.texts import config, words

SHAPE = ModelShape("llama", layers=2, width=16, heads=2)


def rows(lengths: list[int], valid: int = 1) -> Any:
    made = [TrainingSample(tuple(range(n)), (True,) * n, "") for n in lengths]
    return SimpleNamespace(train=made, valid=made[:valid])


def settings(made: PretrainConfig, lengths: list[int]) -> Any:
    return pretraining._settings(made, rows(lengths), SHAPE, {"vocab_size": 40})


def test_the_trainer_s_options_are_by_the_text_and_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    base = configure({"context": 8, "batch": 2, "accumulate": 3, "data": "d", "out": "o", "tokens": 1000})
    found = settings(base, [9] * 10)  # 80 targets in 5 batches: a step has 48
    assert found.steps == round(1000 / 48) == 21 and found.warmup == round(0.02 * 21) == 0
    assert (found.batch, found.accumulate, found.length, found.packing, found.loss) == (2, 3, 9, True, "all")
    assert (found.kind, found.objective, found.data, found.out, found.epochs) == ("full", "sft", "d", "o", 0.0)
    assert (found.rate, found.schedule, found.floor, found.decay, found.clip) == (2**-7, "cosine", 0.1, 0.1, 1.0)
    assert (found.eval_every, found.eval_rows, found.save_every, found.patience, found.valid) == (
        100,
        200,
        100,
        0,
        0.05,
    )
    own = settings(
        replace(base, rate=0.5, warmup=0.5, seed=4, optimiser="muon", checkpointing=True, tensorboard=True), [9] * 10
    )
    assert (own.rate, own.warmup, own.seed, own.optimiser) == (0.5, round(0.5 * 21), 4, "muon")
    assert own.checkpointing and own.tensorboard
    many = settings(replace(base, tokens=0), [9] * 10)
    assert many.steps == round(4 * 80 / 48)  # at most four passes
    monkeypatch.setattr(pretraining, "counts", lambda *of: (12, 99) if of == (SHAPE, 40, 8) else None)
    assert settings(replace(base, tokens=0), [9] * 10).steps == round(20 * 12 / 48)
    assert settings(replace(base, tokens=1), [9] * 10).steps == 1
    masked = settings(replace(base, objective="mdlm", sample_tokens=0), [9] * 10)
    assert (masked.length, masked.objective) == (8, "mdlm")
    assert [pretraining._length(replace(base, objective=o)) for o in ("autoregressive", "mdlm", "block")] == [9, 8, 8]


def text(train: int, valid: int = 3, tokens: int = 40) -> Any:
    def part(name: str, length: int) -> Any:
        n = train if name == "train" else valid
        return Part(n, length)

    return SimpleNamespace(rows=part, facts=SimpleNamespace(tokens=tokens, asked=["t", "bytes", 0, 0.5]))


class Part:
    """Rows of a part, known by how many targets they have."""

    def __init__(self, targets: int, length: int) -> None:
        self.targets, self.length = targets, length

    def __len__(self) -> int:
        return self.targets


def test_a_text_holds_a_batch_and_something_to_set_aside() -> None:
    made = configure({"context": 8, "batch": 2, "data": "d"})
    found = pretraining._rows(made, text(16))
    assert (found.train.length, found.valid.length) == (9, 9) and json.loads(found.fingerprint) == [
        "t",
        "bytes",
        0,
        0.5,
    ]  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="d has 15 tokens to train on, fewer than one batch of 2 texts of 8"):
        pretraining._rows(made, text(15))
    with pytest.raises(DataError, match="has no text to set aside"):
        pretraining._rows(made, text(16, 0))


def test_a_size_is_of_the_text_s_tokens_and_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(pretraining, "shape_of", lambda *given, **how: told.append((given, how)) or SHAPE)
    made = configure({"size": "7k", "context": 16})
    assert shape_for(made, text(9)) == (SHAPE, 40)
    assert shape_for(replace(made, objective="mdlm", parametrisation="standard"), text(9)) == (SHAPE, 41)
    assert told == [(("7k", "llama", 40, 16), {"tied": False}), (("7k", "llama", 41, 16), {"tied": True})]
    own = ModelShape(width=32)
    assert shape_for(made, text(9), own) == (own, 40) and len(told) == 2
    check_architecture(made)
    with pytest.raises(Exception, match="muP wants a head of its own"):
        check_architecture(made, ModelShape(tied=True))
    with pytest.raises(Exception, match="muP wants a head of its own"):
        check_architecture(replace(made, family="gpt2"))
    check_architecture(replace(made, parametrisation="standard", family="gpt2"))


def test_a_sample_is_asked_for_with_a_seed_of_its_step() -> None:
    opened: Any = SimpleNamespace(sample="once", config=SimpleNamespace(sample_tokens=12, seed=100))
    assert asked(opened, 7) == Complete("once", False, 12, Recipe(), 107)


def test_what_a_run_began_with_is_asked_for_again(tmp_path: Path) -> None:
    made = configure({"data": "d", "tokens": 500, "schedule": "cosine"})
    then = {"config": {**made.__dict__}, "shape": {**SHAPE.__dict__}, "warmup": 3}
    (tmp_path / FILE).write_text(json.dumps(then))
    assert pretraining._then(tmp_path, made, SHAPE)["warmup"] == 3
    for changed, line in (
        ({"seed": 1}, "began with seed = 0, got 1"),
        ({"tokens": 501}, "began with tokens = 500, got 501"),
        ({"batch": 9}, "began with batch = 8, got 9"),
    ):
        with pytest.raises(DataError, match=line):
            pretraining._then(tmp_path, replace(made, **changed), SHAPE)
    with pytest.raises(DataError, match="began with width = 16, got 24"):
        pretraining._then(tmp_path, made, replace(SHAPE, width=24))
    plateau = replace(made, schedule="wsd")
    del then["config"]["seed"]  # of before the option: what it does where nothing is said
    (tmp_path / FILE).write_text(json.dumps({**then, "config": {**then["config"], "schedule": "wsd"}}))
    assert pretraining._then(tmp_path, replace(plateau, tokens=900), SHAPE)["config"]["tokens"] == 500
    with pytest.raises(DataError, match="began with seed = 0, got 2"):
        pretraining._then(tmp_path, replace(plateau, seed=2), SHAPE)


@pytest.mark.parametrize(
    ("began", "steps", "taken", "fits"),
    [
        (100, 100, 99, True),
        (100, 200, 79, True),
        (100, 200, 80, False),
        (200, 100, 79, True),
        (200, 100, 80, False),
        (100, 101, 0, True),
    ],
)
def test_steps_are_changed_before_the_rate_falls(began: int, steps: int, taken: int, fits: bool) -> None:
    run: Any = SimpleNamespace(
        config=SimpleNamespace(warmup=2), counters=SimpleNamespace(step=taken), steps=steps, folder="f"
    )
    first = optimisers.decay_start(100, 2)
    assert (taken < first) == fits or steps == began
    if fits:
        pretraining._check_decay(run, began)
        return
    with pytest.raises(
        DataError, match=rf"has taken {taken} steps, and of 100 in all the rate falls from step {first} on"
    ):
        pretraining._check_decay(run, began)


def test_a_run_is_opened_with_its_figures_and_refuses_a_folder_of_another(tmp_path: Path) -> None:
    data = words(tmp_path)
    made = config(data, tmp_path / "m", sample_tokens=5)
    opened = open_run(made)
    prepared, run = opened.prepared, opened.run
    whole, inner = counts(prepared.shape, 257, 32)
    assert (prepared.parameters, prepared.parameters_without_embedding, prepared.vocab) == (whole, inner, 257)
    facts = opened.corpus.facts
    assert (prepared.train_tokens, prepared.valid_tokens, prepared.valid_bytes) == (
        facts.train_tokens,
        facts.valid_tokens,
        facts.valid_bytes,
    )
    assert prepared.steps == run.steps and prepared.rate == run.config.rate == 2**-7
    assert prepared.tokens == pytest.approx(128 * 6, rel=0.1) and prepared.memory == opened.found.memory.total
    assert prepared.tokens == round(opened.found.trained / opened.found.batches * 2 * run.steps)
    held = opened.corpus.tokenizer.decode(run.rows.valid[0].ids[:16]).split()
    assert opened.sample == " ".join(held[: pretraining.SAMPLED_WORDS]) and opened.sample
    info = opened.checkpoint.info
    assert (info.name, info.parameters, info.nbytes, info.source) == ("m", whole, 4 * whole, "pretraining")
    assert run.session is not None and run.name == str(tmp_path / "m") and not (tmp_path / "m" / FILE).exists()
    assert open_run(replace(made, sample="once upon")).sample == "once upon"
    assert open_run(replace(made, sample_tokens=0)).sample == ""
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


# -- the runs of a ladder ----------------------------------------------------------------------------------------------


def plan(tmp_path: Path, **training: Any) -> LadderPlan:
    return LadderPlan(("20k",), out=tmp_path / "ladder", training={"data": "d", "context": 16, "batch": 3, **training})


def test_a_size_s_facts_are_looked_at_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def corpus(config: PretrainConfig, parameters: float) -> Any:
        made.append((config, parameters))
        return SimpleNamespace(facts=SimpleNamespace(train_tokens=777))

    monkeypatch.setattr(rung_trainer, "corpus", corpus)
    monkeypatch.setattr(rung_trainer, "shape_for", lambda config, text: (SHAPE, 40))
    found = PretrainRungs(plan(tmp_path, seed=3, eval_every=5)).facts("20k")
    assert found == SizeFacts(counts(SHAPE, 40, 16)[0], 777)
    ((config_, parameters),) = made
    assert parameters == 20_000 and config_.corpus == str(tmp_path / "ladder" / "corpus")
    assert (config_.size, config_.out, config_.tokens, config_.seed, config_.patience) == (
        "20k",
        str(tmp_path / "ladder"),
        0,
        0,
        0,
    )
    assert (config_.eval_every, config_.sample_tokens, config_.context, config_.batch) == (5, 0, 16, 3)
    plain = PretrainRungs(plan(tmp_path))._config("20k", tmp_path, 9, 4)
    assert (plain.eval_every, plain.sample_tokens, plain.tokens, plain.seed) == (0, 0, 9, 4)


def stepped(step: int, tokens: int, elapsed: float) -> Stepped:
    return Stepped(step, 12, 0.0, 3.0, 2.5, 1e-3, 1.0, tokens, 1.0, 0.0, 0.0, 0, elapsed)


def test_a_probe_is_the_middle_of_its_later_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_: list[PretrainConfig] = []
    prepared = object.__new__(pretraining.Prepared)
    for name, value in (("parameters", 21_000), ("memory", 99)):
        object.__setattr__(prepared, name, value)

    def pretrain(config: PretrainConfig) -> Iterator[Any]:
        asked_.append(config)
        yield prepared
        yield from (stepped(i + 1, 50 * (i + 1), t) for i, t in enumerate((9.0, 10.0, 12.0, 15.0, 16.0, 19.0)))
        yield "saved"

    monkeypatch.setattr(rung_trainer, "pretrain", pretrain)
    ticks = iter((100.0, 130.0))
    monkeypatch.setattr(rung_trainer.time, "perf_counter", lambda: next(ticks))
    found = PretrainRungs(plan(tmp_path, accumulate=4)).probe("20k")
    (config_,) = asked_
    assert config_.tokens == 16 * 3 * 4 * 12 and config_.rate == 1e-9 and Path(config_.out).name == "run"
    assert found == SpeedProbe(21_000, 2.5 / 50, 30.0 - 19.0, 99)  # 2, 3, 1, 3: the first one is left out


@pytest.mark.parametrize(("reason", "loss"), [("done", 2.0), ("diverged", None), ("nan", None), ("patience", 2.0)])
def test_a_rung_tells_how_far_it_is_and_what_it_gave(
    reason: str, loss: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    last = pretraining.Pretrained(tmp_path, reason, 1000, 800, 320, 77, 2.0, 1.9, 2.1, 3.0, 4.5)

    def pretrain(config: PretrainConfig, control: Any, *, resume: bool) -> Iterator[Any]:
        calls.append((config.tokens, config.seed, config.out, control, resume))
        yield stepped(1, 50, 1.0)
        yield "saved"
        yield stepped(2, 100, 2.0)
        yield last

    monkeypatch.setattr(rung_trainer, "pretrain", pretrain)
    monkeypatch.setattr(rung_trainer, "node", lambda: "here")
    trainer, rung, folder = PretrainRungs(plan(tmp_path)), Rung("20k", 1000, 320, 5), tmp_path / "run"
    control: Any = object()
    folder.mkdir()
    (folder / "half").write_text("")
    found = list(trainer.train(rung, folder, control))
    assert not folder.exists()  # killed while it was being made: it begins anew
    assert calls == [(320, 5, str(folder), control, False)]
    low, high = (None, None) if loss is None else (1.9, 2.1)
    assert found == [
        RungMoved(rung, 50, 2.5),
        RungMoved(rung, 100, 2.5),
        RungResult("20k-320-5", 1000, 200, 320, 77, loss, low, high, 4.5, 5, "here"),
    ]
    folder.mkdir()
    (folder / FILE).write_text("{}")
    list(trainer.train(rung, folder, control))
    assert calls[1][-1] is True and folder.exists()


def test_a_rung_that_was_stopped_gave_nothing_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = pretraining.Pretrained(tmp_path, "stopped", 1000, 800, 320, 77, 2.0, 1.9, 2.1, 3.0, 4.5)
    monkeypatch.setattr(rung_trainer, "pretrain", lambda *_, **__: iter([last]))
    control: Any = object()
    assert list(PretrainRungs(plan(tmp_path)).train(Rung("20k", 1, 2, 3), tmp_path / "run", control)) == []
