"""Trainer of a run on this machine. Imported in its worker's thread and nowhere else: everything of mlx hangs on it."""

from collections.abc import Iterator, Sequence

from app.awake import kept_awake
from app.model_provider import loaded
from app.requests import TrainingPlan
from app.training_plan import describe, pace
from engine.errors import ParameterError
from engine.sources.checkpoint import Checkpoint, load
from engine.sources.fetch.progress import Report
from engine.tune import metrics, probes, trainer
from engine.tune.config import Config
from engine.tune.control import Answer, Event, Request, TrainControl
from engine.tune.open_run import Opened, open_run
from engine.tune.report import refuse_if_too_large, report
from engine.tune.rows import TrainingRow

PROMPTS = 3  # rows whose beginnings are watched
WORDS = 12  # of a text that are its beginning
ROW = 512  # tokens of the row that is shown


class LocalTrainer:
    """A run on this machine."""

    def __init__(self) -> None:
        self.opened: Opened | None = None

    @property
    def run(self) -> trainer.TrainingRun:
        if self.opened is None:
            raise ParameterError("there is no run: open one first")
        return self.opened.run

    def open(self, config: Config, resume: bool, progress: Report) -> TrainingPlan:
        """Read the data, load the model, and say what will be done; OutOfMemory where a step will not fit."""
        progress("reading the data", 0, 0)
        self.opened = opened = open_run(config, progress, resume=resume, load=shared if config.kind != "full" else load)
        if self.run.group is not None:
            raise ParameterError("the screen shows a run of one process: leave out --screen to train on several")
        progress("measuring this machine", 0, 0)
        found = report(self.run)
        refuse_if_too_large(found, self.run.config)
        rows = opened.data.valid or opened.data.train
        tokenizer = opened.checkpoint.tokenizer
        past = metrics.read(self.run.folder) if resume else []
        return TrainingPlan(
            lines=tuple(describe(opened, found)),
            model=opened.checkpoint.info.name,
            folder=str(self.run.folder),
            steps=self.run.steps,
            past=tuple(event for event in past if event.step <= self.run.counters.step),
            prompts=tuple(dict.fromkeys(filter(None, map(beginning, rows[:PROMPTS])))),
            chat=bool(rows[0].messages) and tokenizer.chat_template is not None,
            pace=pace(opened, found),
            row=first_row(opened),
            vocabulary=tuple(tokenizer.piece(token) for token in range(tokenizer.vocab_size)),
        )

    def train(self, control: TrainControl) -> Iterator[Event]:
        with kept_awake():
            yield from trainer.train(self.run, control)

    def answer(self, request: Request) -> Answer:
        return probes.answer(self.run, request)


def shared(name: str, progress: Report) -> Checkpoint:
    """The model of that name: over the weights that are in memory already, where it is loaded to be talked to.

    Not for a run that moves the weights themselves: it would need a copy as soon as it has begun.
    """
    return loaded(name) or load(name, progress)


def first_row(opened: Opened) -> tuple[tuple[int, bool], ...]:
    """The first training row as the model sees it, the template's tokens too: ids, and which of them are targets."""
    samples = opened.train.samples
    return tuple(zip(samples[0].ids, samples[0].trained, strict=True))[:ROW] if samples else ()


def beginning(row: TrainingRow) -> str:
    """The question of a row, or the first words of its text."""
    if not row.messages:
        return " ".join(row.text.split()[:WORDS])
    asked: Sequence[object] = [m.get("content") for m in row.messages if m["role"] == "user"]
    return asked[0] if asked and isinstance(asked[0], str) else ""
