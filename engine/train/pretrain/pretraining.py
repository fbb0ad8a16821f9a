"""Pretraining from options to a model's folder, by the trainer of `engine.tune`, as events.

    for event in pretrain(configure({"data": "texts", "size": "1M", "out": "mine"})):
        ...

The folder is a model like any other: config, tokenizer and weights, written at each checkpoint; `best` in it holds the
one with the least validation loss, `corpus` the tokens, and `pretrain.json` what was asked for. A run that was killed
goes on (`resume`) to the same weights, bit for bit on one machine, from whatever it had come to.
"""

import json
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from likely.engine.base import distributed
from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.home import expanded
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.train.assess.report import refuse_if_too_large, report
from likely.engine.train.control import Answer, Complete, Ended, Event, TrainControl, TrainingPlan, Validated
from likely.engine.train.data import batches
from likely.engine.train.pretrain import parametrization as widths
from likely.engine.train.pretrain.config import FILE, PretrainConfig
from likely.engine.train.pretrain.corpus import Corpus, copy_tokenizer, corpus
from likely.engine.train.pretrain.shape import (
    ModelShape,
    check_family,
    config_of,
    counts,
    parameters_of,
    read_shape,
    shape_of,
)
from likely.engine.train.run import probes, state, trainer
from likely.engine.train.run.optimizers import decay_start
from likely.engine.train.run.run import Set, TrainingRun, prepare
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.adapters.full import FullWeights
from likely.engine.weights.adapters.stored import write_arrays, write_json
from likely.engine.weights.sources.checkpoint import Checkpoint
from likely.engine.weights.sources.fetch.progress import Report, silent
from likely.engine.weights.sources.gguf.precision import Precision
from likely.engine.weights.sources.model_info import ModelInfo, fingerprint
from likely.metal import mx
from likely.models.families import registry

PER_PARAMETER, PASSES = 20, 4  # tokens, and over the text, where none are asked for
# what may differ between a run and its resumption: where things are and how often; the schedule ends at its tokens, and
# wsd alone may be given more of them
FREE = (
    "data", "out", "corpus", "eval_every", "eval_rows", "save_every", "patience", "sample", "sample_tokens",
    "tensorboard",
)  # fmt: skip
SAMPLED_WORDS = 8  # of the held-out text that samples go on from


@dataclass(frozen=True)
class PretrainingPlan:
    """The plan of a run. Loss is not known yet; time and memory are estimates."""

    folder: Path
    shape: ModelShape
    vocab: int
    parameters: int
    parameters_without_embedding: int
    train_tokens: int  # unique
    valid_tokens: int
    valid_bytes: int
    steps: int
    tokens: int  # that are trained, about
    rate: float
    seconds: float
    memory: int  # bytes at the peak of a step
    available: int


@dataclass(frozen=True)
class Pretrained:
    """The outcome of a run. The loss is the last validation's, nats a token, with its 95 % interval; or None."""

    folder: Path
    reason: str
    parameters: int
    parameters_without_embedding: int
    tokens: int
    unique_tokens: int
    loss: float | None
    low: float | None
    high: float | None
    bits_per_byte: float | None
    seconds: float


PretrainEvent = PretrainingPlan | Event | Answer | Pretrained


@dataclass(frozen=True)
class Pretraining:
    """A run that is ready."""

    config: PretrainConfig
    run: TrainingRun
    corpus: Corpus
    checkpoint: Checkpoint
    prepared: PretrainingPlan
    plan: TrainingPlan
    sample: str  # what samples go on from; "" for none

    @property
    def whole_s(self) -> float:
        """Seconds that its steps should take."""
        return self.plan.seconds


def pretrain(
    config: PretrainConfig,
    control: TrainControl | None = None,
    progress: Report = silent,
    *,
    shape: ModelShape | None = None,
    resume: bool = False,
) -> Iterator[PretrainEvent]:
    """Train to the end: `PretrainingPlan`, the trainer's events with samples between, `Ended`, `Pretrained`.

    `shape` takes the place of the options' size. Raises what `open_run` and `train` do; closing the iterator abandons
    what was learned since the last `Saved`.
    """
    opened = open_run(config, progress, shape=shape, resume=resume)
    yield opened.prepared
    yield from train(opened, control)


def train(opened: Pretraining, control: TrainControl | None = None) -> Iterator[Event | Answer | Pretrained]:
    """The events of training an open run to its end. OutOfMemory, before anything is written, where a step would not
    fit."""
    run = opened.run
    refuse_if_too_large(opened.plan, run.config, length="--context", lighter="a smaller --size", there=False)
    with trainer.alone(run, "pretrain"):
        yield from _steps(opened, control)


def _steps(opened: Pretraining, control: TrainControl | None) -> Iterator[Event | Answer | Pretrained]:
    run, prepared = opened.run, opened.prepared
    if run.leads:
        asked_for = {"config": asdict(opened.config), "shape": asdict(prepared.shape), "warmup": run.config.warmup}
        write_json(run.folder / FILE, asked_for)  # first: what is found with it can be gone on with
        if not (run.folder / state.FILE).exists():
            write(run, run.folder, opened.checkpoint.config, opened.corpus)
    last: Validated | None = None
    reason = ""
    for event in trainer.steps(run, control):
        yield event
        if isinstance(event, Ended):
            reason = event.reason
        elif isinstance(event, Validated):
            last = event
            if opened.sample:
                yield probes.answer(run, sample_request(opened, run.counters.step))
    if last is None and run.rows.valid and reason == "done":  # nothing was left to do
        last = trainer.validate(run)
    loss, low, high, bits = (last.loss, last.low, last.high, last.bits_per_byte) if last else (None,) * 4
    yield Pretrained(
        run.folder, reason, prepared.parameters, prepared.parameters_without_embedding, run.counters.tokens,
        prepared.train_tokens, loss, low, high, bits, run.counters.elapsed_s,
    )  # fmt: skip


def sample_request(opened: Pretraining, step: int) -> Complete:
    """The request of a sample: by the model's own probabilities, with a seed of its own at each step."""
    return Complete(opened.sample, False, opened.config.sample_tokens, SamplingConfig(), opened.config.seed + step)


def open_run(
    config: PretrainConfig, progress: Report = silent, *, shape: ModelShape | None = None, resume: bool = False
) -> Pretraining:
    """The run that the options describe, or what one in its folder had come to. Writes nothing yet but the corpus.

    DataError for a text that is none or too short, and for a folder that holds another run or model; ParameterError
    for a size, shape or options that cannot be.
    """
    folder = expanded(config.out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out takes a folder, and {folder} is a file: give another name")
    begun, foreign, has_state = ((folder / name).exists() for name in (FILE, "config.json", state.FILE))
    if (together := distributed.joined()) is not None:  # as rank 0 found it, which may have begun to write
        begun, foreign, has_state = together.broadcast([begun, foreign, has_state])
    if resume and not begun:
        raise DataError(f"{folder} has no run to resume: expected {FILE}")
    if not resume and begun:
        raise DataError(f"{folder} holds a run already: --resume goes on with it, another --out leaves it alone")
    if not begun and foreign:
        raise DataError(f"{folder} holds another model: choose another --out")
    if shape is None and config.size.endswith(".toml"):  # before the text is read, which takes its time
        shape = read_shape(config.size)
    asked_for = parameters_of(config.size)
    check_architecture(config, shape)
    unused = not begun and not config.corpus
    if together is None:
        text = corpus(config, asked_for, progress, unused=unused)
    else:
        text = together.in_turn(lambda: corpus(config, asked_for, progress, unused=unused))
    shape, vocab = shape_for(config, text, shape)
    described = config_of(shape, vocab, config.context)
    if config.goal.bound:
        described |= {"mask_token_id": vocab - 1}
    if config.goal.blocks:
        described |= {"block_size": config.block_size}
    rows = _rows(config, text)
    settings = began = _settings(config, rows, shape, described)
    if resume:
        then = _then(folder, config, shape)
        began = _settings(replace(config, tokens=then["config"]["tokens"]), rows, shape, described)
        settings = replace(settings, warmup=then.get("warmup", began.warmup))
    progress("making the model", 0, 0)
    model = registry.blank(described)
    chosen = widths.parametrisation(config, model)
    widths.start(model, chosen, config.seed)
    run = prepare(
        model, settings, rows, folder, name=str(folder), resume=resume and has_state,
        group=None if together is None else together.group,
        groups=widths.groups(model, chosen, config.optimiser, config.decay),
    )  # fmt: skip
    _check_decay(run, began.steps)
    run.keep = lambda run, to: write(run, to, described, text)
    whole = sum(array.size for array in model.arrays.values())
    info = ModelInfo(
        folder.name, folder, "pretraining", shape.family, "F32", whole, config.context, "", 4 * whole, fingerprint([])
    )
    checkpoint = Checkpoint(model, text.tokenizer, info, described, Precision(mx.float32, packed=False))
    run.session = Session(checkpoint, reload=False)
    progress("measuring this machine", 0, 0)
    return _prepared(config, run, text, checkpoint, shape, vocab)


def check_architecture(config: PretrainConfig, shape: ModelShape | None = None) -> None:
    """ParameterError for a family that is none, and for one that the parametrisation is not for."""
    asked_for = shape or ModelShape(config.family)
    check_family(asked_for.family)
    widths.check_tied(config.parametrisation, asked_for.family, asked_for.tied or asked_for.always_tied)


def shape_for(config: PretrainConfig, text: Corpus, shape: ModelShape | None = None) -> tuple[ModelShape, int]:
    """The shape that the options ask for where none is given, and its vocabulary, for a text as tokens."""
    vocab = text.facts.tokens + config.goal.bound  # the mask is a row that the tokenizer never spells
    tied = config.parametrisation == "standard"  # muP is against a head that is the embedding
    return shape or shape_of(config.size, config.family, vocab, config.context, tied=tied), vocab


def write(run: TrainingRun, folder: Path, config: dict[str, Any], text: Corpus) -> None:
    """The model as it is now, as a folder like any other; each file lands whole."""
    assert isinstance(run.trained, FullWeights)
    arrays = registry.spelled(config, run.trained.stored(run.trained.parameters()))
    write_arrays(folder / "model.safetensors", {n: mx.contiguous(a) for n, a in arrays.items()}, {"format": "mlx"})
    if not (folder / "config.json").exists():
        copy_tokenizer(text.folder, folder)
        write_json(folder / "config.json", {**config, "torch_dtype": "float32"})


def _length(config: PretrainConfig) -> int:
    """Ids of the longest row; from left to right nobody reads the last."""
    return config.context + (not config.goal.bound)


def _rows(config: PretrainConfig, text: Corpus) -> Set:
    train, valid = (text.rows(part, _length(config)) for part in ("train", "valid"))
    least = config.batch * config.context
    if train.targets < least:
        raise DataError(
            f"{config.data} has {train.targets:,} tokens to train on, fewer than one batch of {config.batch} texts of "
            f"{config.context}: give more text, or a smaller --batch or --context"
        )
    if not len(valid):
        raise DataError(f"{config.data} has no text to set aside: give more, or a larger --valid")
    return Set(train, valid, fingerprint=json.dumps(text.facts.key))


def _settings(config: PretrainConfig, rows: Set, shape: ModelShape, described: dict[str, Any]) -> Config:
    """The trainer's options."""
    vocab = int(described["vocab_size"])
    length = _length(config)
    plan = batches.plan(rows.train, size=config.batch, length=length, packing=True, seed=config.seed, epoch=0)
    unique = batches.targets(rows.train)
    a_step = unique / len(plan) * config.accumulate
    tokens = config.tokens or min(PER_PARAMETER * counts(shape, vocab, config.context)[0], PASSES * unique)
    steps = max(1, round(tokens / a_step))
    return Config(
        model="", objective=config.goal.name,
        data=config.data, out=config.out, valid=config.valid, loss="all", length=length, packing=True,
        kind="full", optimiser=config.optimiser, rate=config.rate or widths.peak(config, shape.width),
        schedule=config.schedule, warmup=round(config.warmup * steps), floor=config.floor, steps=steps,
        batch=config.batch, accumulate=config.accumulate, clip=config.clip, decay=config.decay,
        checkpointing=config.checkpointing, seed=config.seed, eval_every=config.eval_every, eval_rows=config.eval_rows,
        patience=config.patience, save_every=config.save_every, tensorboard=config.tensorboard, keep_state=True,
        verdict=False,
    )  # fmt: skip


def _prepared(
    config: PretrainConfig, run: TrainingRun, text: Corpus, checkpoint: Checkpoint, shape: ModelShape, vocab: int
) -> Pretraining:
    plan, facts = report(run), text.facts
    whole, inner = counts(shape, vocab, config.context)
    prepared = PretrainingPlan(
        run.folder, shape, vocab, whole, inner, facts.train_tokens, facts.valid_tokens, facts.valid_bytes,
        run.steps, round(plan.trained / plan.batches * run.config.accumulate * run.steps), run.config.rate,
        plan.seconds, plan.peak, plan.available,
    )  # fmt: skip
    begin = run.rows.valid[0].ids[: min(8 * SAMPLED_WORDS, config.context // 2)]
    held = " ".join(text.tokenizer.decode(begin).split()[:SAMPLED_WORDS])
    goes_on = config.sample_tokens and not config.goal.bound
    sample = (config.sample or held or "The") if goes_on else ""
    return Pretraining(config, run, text, checkpoint, prepared, plan, sample)


def _then(folder: Path, config: PretrainConfig, shape: ModelShape) -> dict[str, Any]:
    """Options and shape that the run in a folder began with; DataError where these are other options."""
    then: dict[str, Any] = foreign_json.read(folder / FILE, {"config": {"tokens": int}, "shape": dict, "warmup?": int})
    free = (*FREE, "tokens") if config.schedule == "wsd" else FREE
    for before, now, names in ((then["config"], config, free), (then["shape"], shape, ())):
        for f in fields(now):
            value = getattr(now, f.name)
            began = before.get(f.name, value if f.default is MISSING else f.default)  # it may be of before the option
            if f.name not in names and began != value:
                raise DataError(f"{folder} began with {f.name} = {began!r}, got {value!r}: give the same options")
    return then


def _check_decay(run: TrainingRun, began: int) -> None:
    """DataError for other steps than a run `began` with, where its rate has left the plateau that both have."""
    c, step = run.config, run.counters.step
    first = decay_start(min(began, run.steps), c.warmup)
    if run.steps != began and step >= first:
        raise DataError(
            f"{run.folder} has taken {step} steps, and of {min(began, run.steps)} in all the rate falls from step "
            f"{first} on: --tokens may be changed before that alone"
        )
