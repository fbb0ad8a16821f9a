"""Trainer of a run on this machine. It imports mlx: imported in its worker's thread and nowhere else."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from likely.app.jobs.model_provider import loaded
from likely.app.results.awake import kept_awake
from likely.app.results.training_kind import TrainingConfig
from likely.app.results.training_plan import describe, describe_pretraining, pace
from likely.engine.base.errors import ParameterError
from likely.engine.base.files import artifacts
from likely.engine.measure.evaluate.tasks.problems import read
from likely.engine.text.rows.training_row import TrainingRow
from likely.engine.train.assess.examination import examined
from likely.engine.train.assess.report import refuse_if_too_large
from likely.engine.train.control import Answer, Event, Request, TrainControl, TrainingPlan
from likely.engine.train.losses import batch_losses
from likely.engine.train.open_run import Tuning, open_run
from likely.engine.train.pretrain import pretraining
from likely.engine.train.pretrain.config import PretrainConfig
from likely.engine.train.pretrain.pretraining import Pretrained, Pretraining
from likely.engine.train.run import metrics, probes, trainer
from likely.engine.weights.sources import store
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.engine.weights.sources.fetch.progress import Report

PROMPTS = 3  # rows whose beginnings are watched
WORDS = 12  # of a text that are its beginning
ROW = 512  # tokens of the row that is shown


class LocalTrainer:
    """A run on this machine."""

    def __init__(self) -> None:
        self.opened: Tuning | Pretraining | None = None

    @property
    def run(self) -> trainer.TrainingRun:
        if self.opened is None:
            raise ParameterError("there is no run: open one first")
        return self.opened.run

    def open(self, config: TrainingConfig, resume: bool, progress: Report) -> TrainingPlan:
        """Read the data, make or load the model, and say what will be done; OutOfMemory where a step will not fit."""
        progress("reading the data", 0, 0)
        opened: Tuning | Pretraining
        prompts: Sequence[str] = ()
        chat = False
        if isinstance(config, PretrainConfig):
            self.opened = opened = pretraining.open_run(config, progress, resume=resume)
            opened.run.made_as = artifacts.PRETRAINED
            model, lines = opened.prepared.shape.family, describe_pretraining(opened)
        else:
            ready = shared if config.kind != "full" else load
            self.opened = opened = open_run(config, progress, resume=resume, load=ready, read=read)
            progress("measuring this machine", 0, 0)
            refuse_if_too_large(opened.plan, self.run.config)
            model, lines = opened.checkpoint.info.name, describe(opened)
            rows = opened.data.valid or opened.data.train
            prompts = [text for text in map(beginning, rows[:PROMPTS]) if text]
            chat = (
                bool(rows[0].messages)
                and rows[0].form != "problem"
                and opened.checkpoint.tokenizer.chat_template is not None
            )
        if self.run.group is not None:
            raise ParameterError("the screen shows a run of one process: leave out --screen to train on several")
        tokenizer = opened.checkpoint.tokenizer
        past = metrics.read(self.run.folder) if resume else []
        return replace(
            opened.plan,
            lines=tuple(lines),
            model=model,
            folder=str(self.run.folder),
            past=tuple(event for event in past if event.step <= self.run.counters.step),
            prompts=tuple(dict.fromkeys(prompts)),
            chat=chat,
            pace=pace(opened),
            row=first_row(self.run),
            vocabulary=tuple(tokenizer.piece(token) for token in range(tokenizer.vocab_size)),
        )

    def foretell(self, config: TrainingConfig, progress: Report) -> Sequence[str]:
        """Cost of a run in lines; of a model that is not here, that it cannot be said yet."""
        if isinstance(config, PretrainConfig):
            return ()
        if store.resolve(config.model) is None:
            return ("the model is not here yet: once it is, the cost can be said",)
        plan = self.open(config, False, progress)
        progress("foretold", 0, 0)
        return (*plan.pace[:2], f"{plan.steps:,} steps in all")

    def train(self, control: TrainControl) -> Iterator[Event | Answer]:
        with kept_awake():
            if isinstance(self.opened, Pretraining):
                events = pretraining.train(self.opened, control)
                yield from (event for event in events if not isinstance(event, Pretrained))
            else:
                yield from examined(trainer.train(self.run, control), self.run, control)

    def answer(self, request: Request) -> Answer:
        return probes.answer(self.run, request)


def shared(name: str, progress: Report) -> Checkpoint:
    """The model of that name: over the weights that are in memory already, where it is loaded to be talked to.

    Not for a run that moves the weights themselves: it would need a copy as soon as it has begun.
    """
    return loaded(name) or load(name, progress)


def first_row(run: trainer.TrainingRun) -> tuple[tuple[int, bool], ...]:
    """The first training row as the model sees it, the template's tokens too: ids, and which of them are targets."""
    for sample in batch_losses.samples_of(run.rows.train[:1]):
        return tuple(zip(sample.ids, batch_losses.targets_of(sample, run.config), strict=True))[:ROW]
    return ()


def beginning(row: TrainingRow) -> str:
    """The question of a row, or the first words of its text."""
    if not row.messages:
        return " ".join(row.text.split()[:WORDS])
    prompts: Sequence[object] = [m.get("content") for m in row.messages if m["role"] == "user"]
    return prompts[0] if prompts and isinstance(prompts[0], str) else ""
