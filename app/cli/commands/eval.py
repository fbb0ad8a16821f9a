"""`likely eval`: how good models are at tasks and on texts, every number with its error bar."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from likely.app.cli.evaluation import eval_further, eval_variations
from likely.app.cli.evaluation.eval_output import number, say, show, span
from likely.app.cli.options import name_completion
from likely.app.cli.options.float_range import FloatRange
from likely.app.cli.options.opening import (
    Progress,
    RuledCommand,
    activation_option,
    adapter_option,
    open_session,
    rope_option,
    tell,
    weighed_adapter,
    with_rope,
)
from likely.app.cli.options.table_options import map_option, table_options
from likely.app.results.scoreboard import Score, left_s
from likely.app.store.evaluations import Evaluation, Evaluations
from likely.app.words.interruption import INTERRUPTED
from likely.engine.base import distributed
from likely.engine.base.errors import DataError
from likely.engine.base.files import artifacts
from likely.engine.measure.evaluate.scoring.protocol import USUAL, Protocol
from likely.engine.measure.evaluate.tasks.variations import KINDS

if TYPE_CHECKING:
    from likely.app.results.evaluator import Evaluator
    from likely.app.results.task_sources import TaskSource
    from likely.engine.decode.session import Session
    from likely.engine.measure.evaluate.figures.figures import Tally

COMMANDLINE = ParameterSource.COMMANDLINE
SHOWN_S = 1.0  # the line of progress changes that often


@click.command("eval", cls=RuledCommand)
@click.argument("tasks", nargs=-1)
@click.option(
    "--model",
    "-M",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=name_completion.both,
    help="A model or an adapter's folder; repeat to compare: the others against the first.",
)
@rope_option
@adapter_option
@activation_option
@click.option("--text", type=click.Path(path_type=Path, dir_okay=False), help="Perplexity of this file.")
@table_options(Protocol, ranged=True)
@click.option("--limit", type=click.IntRange(1, 10**12), help="Ask the first so many items.")
@click.option(
    "--shots", type=click.IntRange(0), help="Examples before each question: the first rows, which are not asked."
)
@click.option("--cluster", metavar="COLUMN", help="Items that are equal in this column are not independent.")
@map_option
@click.option("--measure", "measures", multiple=True, metavar="NAME", help="Show these measures alone; repeatable.")
@click.option("--by", "column", metavar="COLUMN", help="Also the figures of each value in this column: of each domain.")
@click.option("--positions", is_flag=True, help="Also perplexity by how many tokens stood before, of texts.")
@click.option(
    "--difference", type=FloatRange(0, min_open=True), help="Say how many items it takes to see one as large."
)
@click.option(
    "--vary",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help="Also the same items otherwise: how far scores and distributions move. Repeatable.",
)
@click.option("--variants", default=3, show_default=True, type=click.IntRange(1, 32), help="Variations of each kind.")
@click.option("--paraphraser", metavar="MODEL", help="Writes paraphrases, which rows bring otherwise (paraphrases).")
@click.option("--judge", metavar="MODEL", help="Says whose answers are better, the others' or the first model's.")
@click.option("--calibrate-on", "validation", metavar="TASK", help="Choices to fit a temperature on: adds *_scaled.")
@click.option(
    "--generated", type=click.Path(path_type=Path, dir_okay=False), help="Texts to set against those of --reference."
)
@click.option("--reference", type=click.Path(path_type=Path, dir_okay=False), help="Texts as they should be.")
@click.option(
    "--training",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where n-grams are looked up; with TASKS, which items it holds.",
)
@click.option("--fresh", is_flag=True, help="Measure again what was measured before.")
@click.option("--compare", "stored", is_flag=True, help="Show what was measured before, of TASKS or of all.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Also write one HTML file.")
@click.option("--json", "as_json", is_flag=True, help="An object a figure on stdout.")
@click.option("--items", is_flag=True, help="An object an item.")
def command(
    tasks: tuple[str, ...],
    models: tuple[str, ...],
    rope: str | None,
    adapters: tuple[str, ...],
    activation_bits: int | None,
    text: Path | None,
    limit: int | None,
    shots: int | None,
    cluster: str | None,
    mapped: tuple[str, ...],
    measures: tuple[str, ...],
    column: str | None,
    positions: bool,
    difference: float | None,
    kinds: tuple[str, ...],
    variants: int,
    paraphraser: str | None,
    judge: str | None,
    validation: str | None,
    generated: Path | None,
    reference: Path | None,
    training: Path | None,
    fresh: bool,
    stored: bool,
    report: Path | None,
    as_json: bool,
    items: bool,
    **options: Any,
) -> None:
    """Measure models on TASKS: files of rows (.jsonl, .json, .csv, .parquet), .toml files, or built-in ones.

    \b
    likely eval pairs.jsonl                           rows of good and bad, or of context, choices and gold, or ...
    likely eval rows.jsonl -M smollm2 -A my-adapter   rows to train on: what they teach is the right answer
    likely eval arithmetic pairs.jsonl -M smollm2 -M my-adapter
    likely eval --text book.txt --window 512          perplexity and bits a byte
    likely eval judged.jsonl -M judge                 rows of prompt, answer_a and answer_b, judged both ways round
    likely eval coherence:essays.jsonl -M judge       stand-ins: fluency:, coherence:, relevance:, meaning:, probes:
    likely eval questions.jsonl --vary typos          how far a score moves where items are asked otherwise
    likely eval --generated a.jsonl --reference b.jsonl   texts against texts; -M names the model of the features
    likely eval --compare --report evaluations.html   what was measured before
    """
    from likely.app.results.evaluator import Evaluator
    from likely.app.results.task_sources import sources
    from likely.engine.base.files.home import home

    if rope is not None:
        models = tuple(with_rope(model, rope) for model in models or (os.environ.get("LIKELY_MODEL", ""),))
    if (generated is None) != (reference is None):
        raise click.UsageError("--generated and --reference go together")
    if training is not None and generated is None and not tasks:
        raise click.UsageError("--training goes with TASKS that are measured, or with --generated")
    together = distributed.joined()
    if generated is not None and together is not None:
        raise click.UsageError("--generated is one process's work: start it without mlx.launch")
    if judge is not None and together is not None:
        raise click.UsageError("--judge is one process's work: start it without mlx.launch")
    if generated is not None and reference is not None:
        if tasks or len(models) > 1:
            raise click.UsageError("--generated measures texts by itself: no tasks, at most one -M")
        _samples(generated, reference, training, models, adapters, measures, as_json)
        return
    if not stored and not tasks and text is None:
        raise click.UsageError("name a task (a .jsonl, .csv or .toml file, or a built-in one), or give --text FILE")
    if adapters and len(models) > 1:
        raise click.UsageError("--adapter goes with one model: name an adapter's folder as a model with -M instead")
    if column is not None and not tasks and not stored:
        raise click.UsageError("--by is of TASKS, whose rows have columns")
    if difference is not None and len(models) < 2 and not stored:
        raise click.UsageError("--difference is between two models: name both with -M")
    store = Evaluations(home() / "evaluations.db", tell)
    try:
        held: list[TaskSource] = []
        task_sources: list[TaskSource] = []
        varied: list[eval_variations.VariedTask] = []
        judged: list[Evaluation] = []
        if stored:
            done = _stored(store, tasks, models)
        else:
            unconditional = not measures or "acc_mutual_info" in measures
            settings = {name: value for name, value in options.items() if value is not None}
            protocol = Protocol(**settings, unconditional=unconditional)
            weighed = [(str(artifacts.place(folder).absolute()), w) for folder, w in map(weighed_adapter, adapters)]
            evaluator = Evaluator(
                store,
                lambda model: _open_told(model, adapters, activation_bits, task_sources, protocol),
                protocol,
                limit,
                fresh,
                sys.argv,
                sys.stderr.isatty(),
                weighed,
            )
            task_sources = sources(tasks, text, shots, cluster, mapped, _remembered(models, adapters))
            _check_asked(task_sources, protocol, seeded=bool(protocol.paths or kinds or protocol.draws))
            held = sources((validation,), None, shots, cluster, mapped) if validation is not None else []
            _check_held(held, task_sources)
            if judge is not None:
                eval_further.check_judge(task_sources, models)
            varied = eval_variations.plan(
                task_sources, kinds, variants, protocol.seed, limit, paraphraser, lambda model: _open(model, ())[0]
            )
            run = _Run(evaluator, quiet=as_json and not sys.stderr.isatty())
            others = [source for variation in varied for source in variation.sources]
            done = run.all([*held, *task_sources, *others], models or (os.environ.get("LIKELY_MODEL", ""),))
            if judge is not None and not run.stopped:
                judged = run.all(eval_further.judged(store, done, task_sources), (judge,))
        if together is not None and not together.leads:
            return  # rank 0 has everyone's results
        shown = {source.source.name for source in task_sources}
        aside = [] if stored else [evaluation for evaluation in done if evaluation.task not in shown]
        done = [evaluation for evaluation in done if evaluation not in aside]
        validated = [evaluation for evaluation in aside if held and evaluation.task == held[0].source.name]
        more = [figure for evaluation in done for figure in eval_further.scaled(store, evaluation, validated)]
        more += eval_variations.figures(store, done, aside, varied)
        done += judged
        if training is not None:
            more += eval_further.contaminated(store, done, task_sources, training)
        if column is not None:
            more += eval_further.by_column(done, store, column)
        if positions:
            more += eval_further.by_position(done, store)
        if options["paths"]:
            more += eval_further.ambiguity(done, store)
        say(store, done, measures, as_json, items, more=more, difference=difference)
        if report is not None:
            from likely.app.results.report import write

            write(report, store, done)
    finally:
        store.close()
    if not stored and run.stopped:
        ending = "; what was measured is kept, and the same command goes on from there" if store.kept else ""
        click.echo(f"stopped{ending}", err=True)
        raise click.exceptions.Exit(INTERRUPTED)


# -- what is measured -------------------------------------------------------------------------------------------------


class _Run:
    """A run of the evaluator with a line of progress; what was measured of each task by each model."""

    def __init__(self, evaluator: "Evaluator", *, quiet: bool) -> None:
        self.evaluator, self.quiet = evaluator, quiet
        self.stopped = False

    def all(self, sources: "Sequence[TaskSource]", models: Sequence[str]) -> list[Evaluation]:
        from likely.engine.measure.evaluate.figures.figures import Tally
        from likely.engine.measure.evaluate.tasks.tasks import Problem

        evaluations: list[Evaluation] = []
        tally, before, began, last = Tally(), 0, 0.0, 0.0
        with Progress() as progress, closing(self.evaluator.run(sources, models)) as events:
            try:
                for event in events:
                    now = time.monotonic()
                    if isinstance(event, Evaluation):
                        evaluations.append(event)
                        self._known(event)
                        tally = self.evaluator.store.tally(event)
                        before, began, last = len(tally.numbers), now, now
                    elif not isinstance(event, Problem):
                        tally.add(event.number, event.cluster, event.values)
                    if now - last >= SHOWN_S:
                        last, measured, total = now, len(tally.numbers), evaluations[-1].total
                        seconds = left_s(total, measured, before, now - began)
                        progress.show(_line(evaluations[-1], tally, seconds), measured, total)
            except KeyboardInterrupt:
                self.stopped = True
        return evaluations

    def _known(self, event: Evaluation) -> None:
        if event.known and not self.quiet:
            click.echo(f"{event.task}, {event.model}: {event.known} items are known from before", err=True)


def _line(evaluation: Evaluation, tally: "Tally", seconds: float | None) -> str:
    """The progress line: the first measure with its interval as it is so far, and the time left."""
    estimate = tally.main
    least = "<= " if tally.bounded else ""
    shown = "" if estimate is None else f" {least}{number(estimate.mean)} {span(estimate)}"
    wait = "" if seconds is None else f" {max(0.0, seconds):.0f} s left"
    if seconds is not None and seconds > 90:
        wait = f" {seconds / 60:.0f} min left"
    return f"{evaluation.task} {evaluation.model}{shown} ({len(tally.numbers)}){wait}"


def _open(model: str, adapters: Sequence[str], activation_bits: int | None = None) -> "tuple[Session, str]":
    """A session on a model or an adapter's folder, and what its weights are known by."""
    from likely.app.results.evaluator import files, is_adapter, open_adapter, weights

    if is_adapter(model):
        if adapters:
            raise click.UsageError("--adapter goes with a model: -M names an adapter's folder already")
        with Progress() as progress:
            return open_adapter(model, progress.show, activation_bits)
    session = open_session(model, adapters=adapters, whole=True, activation_bits=activation_bits)
    weighed = [weighed_adapter(adapter) for adapter in adapters]
    return session, " ".join([weights(session), *(f"{files(artifacts.place(f))}={w}" for f, w in weighed)])


def _open_told(
    model: str,
    adapters: Sequence[str],
    activation_bits: int | None,
    task_sources: "Sequence[TaskSource]",
    protocol: Protocol,
) -> "tuple[Session, str]":
    """`_open`, and a line where an adapter is asked otherwise than it was trained: without the chat template."""
    from likely.app.results.evaluator import is_adapter
    from likely.engine.measure.evaluate.tasks.tasks import Question, Task

    session, identity = _open(model, adapters, activation_bits)
    questions = any(isinstance(s.source, Task) and s.source.form is Question for s in task_sources)
    trained = bool(adapters) or is_adapter(model)
    if questions and trained and not protocol.chat and session.tokenizer.chat_template is not None:
        tell("questions are asked without the chat template, by which `likely tune` trains: --chat asks as it does")
    return session, identity


def _remembered(models: Sequence[str], adapters: Sequence[str]) -> tuple[str, ...]:
    """The columns' names, THEIRS=OURS, that the first adapter which has any was trained with."""
    from likely.app.results.evaluator import is_adapter
    from likely.engine.weights.adapters.stored import read_config

    folders = filter(is_adapter, [*models, *(weighed_adapter(adapter)[0] for adapter in adapters)])
    schemas = {"map?": ([str], None)}
    return next((tuple(m) for f in folders if (m := read_config(artifacts.place(f), schemas).get("map"))), ())


def _check_asked(task_sources: "Sequence[TaskSource]", protocol: Protocol, *, seeded: bool) -> None:
    """UsageError for an option that none of the tasks has a use for."""
    from likely.engine.measure.evaluate.tasks.tasks import Document, Question, Task

    if protocol.paths and protocol.chat:
        raise click.UsageError("--paths is of plain texts: a chat template's tokens have no others")
    window = protocol.window or USUAL
    if protocol.stride > window:
        raise click.UsageError(f"--stride is at most the window, {window} tokens, got {protocol.stride}")
    ctx = click.get_current_context()
    flags = {p.name: p.opts[0] for p in ctx.command.params if ctx.get_parameter_source(str(p.name)) == COMMANDLINE}
    forms = {source.source.form if isinstance(source.source, Task) else Document for source in task_sources}
    texts, drawn = ("window", "stride", "paths", "positions"), ("strategy", "samples", "temperature", "seed")
    for form, what, options in (
        (Document, "of texts: --text FILE, or a task whose rows have a text", texts),
        (Question, "of tasks whose answers are drawn", drawn[:-1] if seeded else drawn),
    ):
        for name in options if form not in forms else ():
            if name in flags:
                raise click.UsageError(f"{flags[name]} is {what}")


def _check_held(held: "Sequence[TaskSource]", task_sources: "Sequence[TaskSource]") -> None:
    """UsageError where the temperature would be fitted on what is reported, or on no choices."""
    from likely.engine.measure.evaluate.tasks.tasks import Task

    for source in held:
        if not isinstance(source.source, Task) or source.source.form.NAME != "choices":
            raise click.UsageError("--calibrate-on wants a task of choices")
        if len(held) > 1 or any(s.source.identity == source.source.identity for s in task_sources):
            raise click.UsageError("--calibrate-on wants one task, and other items than those that are reported")
        if any(s.source.name == source.source.name for s in task_sources):
            raise click.UsageError(f"two tasks are called {source.source.name}: give the validation items another name")


def _samples(
    generated: Path,
    reference: Path,
    training: Path | None,
    models: Sequence[str],
    adapters: Sequence[str],
    measures: Sequence[str],
    as_json: bool,
) -> None:
    from likely.app.cli.evaluation.eval_samples import measured

    if adapters and not models:
        raise click.UsageError("--adapter goes with a model: -M names the one whose features are taken")
    model = models[0] if models else None
    figures = measured(generated, reference, training, model, lambda name: _open(name, adapters)[0])
    task = f"{generated.name} against {reference.name}"
    there = [
        (Evaluation(task, str(details["features"]), {}, protocol=details), measure, of)
        for measure, of, details in figures
    ]
    show([Score(*score) for score in there], measures, as_json=as_json)


def _stored(store: Evaluations, tasks: Sequence[str], models: Sequence[str]) -> list[Evaluation]:
    """Results of earlier runs, the latest of each task and model."""
    names = [Path(name).name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".csv") for name in tasks]
    latest = store.latest([*tasks, *names], models)
    if not latest:
        raise DataError("nothing was measured yet of these: likely eval TASK measures")
    evaluations = sorted(latest, key=lambda each: (each.task, models.index(each.model) if models else 0))
    return [
        replace(evaluation, protocol={"form": evaluation.asked["form"], **evaluation.asked["protocol"]})
        for evaluation in evaluations
    ]
