"""From options to a run that is ready: the data read and tokenised, the model loaded, the adapter on it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from likely.engine.base import distributed
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files import artifacts
from likely.engine.base.files.home import expanded
from likely.engine.base.objectives import OF_PAIRS
from likely.engine.decode.answers.program import Verifier
from likely.engine.decode.session import Session
from likely.engine.text.rows.training_row import TrainingRow, check_map, read_map
from likely.engine.train.assess import forecast, trials  # fmt: skip
from likely.engine.train.assess.report import report
from likely.engine.train.control import TrainingPlan
from likely.engine.train.data import data, paraphrases, samples
from likely.engine.train.run import adaptation, contrast, rehearsal, rewording, rollouts
from likely.engine.train.run.metrics import check_board
from likely.engine.train.run.run import Set, TrainingRun, prepare
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.sources.checkpoint import Checkpoint, load
from likely.engine.weights.sources.fetch.progress import Report, silent


@dataclass(frozen=True)
class Tuning:
    """A run, and what its rows were."""

    run: TrainingRun
    checkpoint: Checkpoint
    data: data.Data
    train: samples.Samples
    valid: samples.Samples
    adapts: bool = False  # an autoregressive model becomes one of masked diffusion
    progress: Report = silent  # of what a forecast draws

    @cached_property
    def plan(self) -> TrainingPlan:
        """The plan of its steps, at this machine's speed."""
        run, drawing = self.run, self.drawing
        if drawing is None:
            return report(run)
        left = run.steps - run.counters.step
        return replace(report(run, (drawing.lengths, drawing.targets)), seconds=left * drawing.step_s)

    @cached_property
    def drawing(self) -> forecast.Drawing | None:
        """Forecast of steps that draw, where they do."""
        return forecast.drawing(self.run, self.progress) if self.run.config.goal.drawn else None

    @cached_property
    def beside(self) -> forecast.Beside:
        """Forecast of what is no step: asking the base, and the look in the end."""
        return forecast.beside(self.run, self.drawing)

    @property
    def whole_s(self) -> float:
        """Seconds that all of it should take."""
        return self.plan.seconds + self.beside.asking_s + self.beside.looking_s

    @property
    def trial_s(self) -> float:
        """Seconds more that it takes where it hardly begins to learn: of the trial of a remedy (`trials`)."""
        run = self.run
        left = run.steps - run.counters.step
        tries = left and run.config.verdict and trials.possible(run, run.steps)
        return trials.STEPS / left * self.plan.seconds if tries else 0.0


def open_run(
    config: Config,
    progress: Report = silent,
    *,
    resume: bool = False,
    load: Callable[[str, Report], Checkpoint] = load,
    read: Callable[..., data.Data] = data.read,
) -> Tuning:
    """The run that the options describe. The data are read first: their faults are known before the model is loaded.

    `load` gives a model that is this run's alone; its arrays may be another's too. `read` reads data, with the options
    of `data.read`.
    """
    if not config.data:
        raise ParameterError("give DATA: a file, a folder, or the id of a hub data set")
    check_board(config)
    if (out := expanded(config.out)).is_file():
        raise ParameterError(f"--out is a folder, and {out} is a file: choose another")
    if config.verifier:
        Verifier.of(config.verifier)
    names = read_map(config.map)
    dataset = read(config.data, names=names, valid=config.valid, keep_duplicates=config.duplicates, progress=progress)
    check_objective(config, dataset)
    keys = set(dataset.keys)
    if config.test:
        try:
            test = read(config.test, names=names, valid=0, progress=progress)
        except DataError as error:
            raise DataError(f"--test: {error}") from None
        dataset, keys = with_test(dataset, test, config), keys | test.keys
    anchors: tuple[TrainingRow, ...] = ()
    if config.kl_data:
        beside = data.read(config.kl_data, names=names, valid=0, progress=progress)
        anchors, keys = beside.train, keys | beside.keys
    check_map(names, keys)
    if (place := expanded(config.data)).exists():
        config = replace(config, data=str(place.absolute()))  # so that it is found from another folder, too
    checkpoint = load(config.model, progress)
    context = checkpoint.model.config.context
    if config.length > context:
        config = replace(config, length=context)
    opened = assemble(checkpoint, config, dataset, anchors, resume=resume, progress=progress)
    opened.run.made_as = artifacts.PRETRAINED if opened.adapts else artifacts.ADAPTER
    return opened


def with_test(dataset: data.Data, test: data.Data, config: Config) -> data.Data:
    """The data with the rows of --test in the place of a test file of their own. DataError for rows of another form."""
    check_objective(config, test)
    trained = {row.digest for row in dataset.train}
    overlap = dataset.overlap + sum(row.digest in trained for row in test.train)
    judging = test.judging if dataset.judging is None else dataset.judging.beside(test.judging)
    return replace(dataset, test=test.train, overlap=overlap, judging=judging)


def check_objective(config: Config, dataset: data.Data) -> None:
    """DataError for pairs where likelihood is asked for, and the other way round."""
    if dataset.judging is not None and not config.goal.drawn:
        raise DataError(
            f"objective {config.objective} learns from rows that show the answer, and {config.data} is a task, whose "
            "problems are learned by --objective reward"
        )
    preferences, pairs = "preference" in dataset.forms, config.goal.of_pairs is not None
    if preferences != pairs:
        wants = "rows with chosen and rejected" if pairs else f"--objective {' or '.join(OF_PAIRS)}"
        raise DataError(
            f"objective {config.objective} does not fit these rows ({dict(dataset.forms)}): expected {wants}"
        )


def assemble(
    checkpoint: Checkpoint,
    config: Config,
    dataset: data.Data,
    anchors: tuple[Any, ...] = (),
    *,
    resume: bool = False,
    progress: Report = silent,
) -> Tuning:
    """The run of options on a model and data that are there."""
    adapts = config.goal.bound and not config.goal.blocks and checkpoint.model.config.diffusion is None
    if config.anneal and not adapts:
        raise ParameterError(f"anneal is of an autoregressive model, and {checkpoint.info.name} sees both ways already")
    if adapts:
        checkpoint = adaptation.adapted(checkpoint)
    how = {"length": config.length, "loss": config.loss, "too_long": config.too_long}
    train, valid, test, anchors_read = (
        samples.prepare(rows, checkpoint.tokenizer, **how) if rows else samples.Samples(())  # type: ignore[arg-type]
        for rows in (dataset.train, dataset.valid, dataset.test, anchors)
    )
    rows = Set(
        train.pairs or train.samples,
        valid.pairs or valid.samples,
        anchors_read.samples,
        dataset.fingerprint,
        test.pairs or test.samples,
        dataset.judging,
    )
    name = str(checkpoint.info.path) if Path(config.model).exists() else config.model
    together = distributed.joined()
    group = None if together is None else together.group
    rewords = paraphrases.told_apart(rows.train, checkpoint.tokenizer)
    run = prepare(
        checkpoint.model,
        config,
        rows,
        Path(config.out),
        name=name,
        resume=resume,
        asks=True,
        rewords=rewords,
        group=group,
    )
    if adapts:
        run.keep = adaptation.folder_writer(checkpoint)
    run.session = Session(checkpoint, reload=False)
    if run.config.init == "contrast":
        contrast.check(run)
    if run.config.rehearsal > 0:
        rehearsal.check(run)
    if run.config.reword > 0:
        rewording.check(run)
    if run.config.goal.drawn:
        rollouts.check(run)
    return Tuning(run, checkpoint, dataset, train, valid, adapts, progress)
