"""`likely synth`: rows made by a model, as a pipeline file says, each with where it came from."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options.opening import Progress, RuledCommand, default_model, open_session
from likely.app.cli.options.table_options import map_option
from likely.app.words.interruption import INTERRUPTED
from likely.engine.base import distributed
from likely.engine.base.files.home import expanded
from likely.engine.measure.synth.config import WITHOUT_MODEL, PipelineConfig, read

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.measure.synth.collapse import Learner
    from likely.engine.measure.synth.row import SynthRow

NEIGHBOURS = "neighbours.jsonl"  # of the made rows among the real ones


@click.command("synth", cls=RuledCommand)
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "-M", metavar="MODEL", help="The model, in place of the pipeline's generate.model.")
@click.option("--out", metavar="FOLDER", help="The folder, in place of the pipeline's out.")
@click.option("--seed", type=click.IntRange(0), help="The seed, in place of the pipeline's seed.")
@map_option
@click.option("--report", "reported", is_flag=True, help="Then compare the rows with real ones, as [report] says.")
@click.option(
    "--effect", is_flag=True, help="Then train on real rows, made ones and both, and compare, as [train] says."
)
@click.option(
    "--generations",
    type=click.IntRange(1),
    metavar="N",
    help="Make no rows: learn from rows and draw them N times over, replacing and accumulating, as [collapse] says.",
)
@click.option("--json", "as_json", is_flag=True, help="One object an event on stdout.")
def command(
    pipeline: Path, model: str | None, out: str | None, seed: int | None, mapped: tuple[str, ...], reported: bool,
    effect: bool, generations: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Make rows as PIPELINE says, a TOML file, and write train.jsonl, valid.jsonl and dropped.jsonl to its folder.

    \b
    likely synth sums.toml                      draw, filter, deduplicate, decontaminate, balance, split
    likely synth sums.toml                      the same again goes on where it was stopped or killed
    likely synth sums.toml --report --effect    are they like real rows, and do they help?
    likely synth sums.toml --generations 5      what becomes of a model that learns from itself
    likely tune made/ --loss completion         train on what was made
    """
    config = read(pipeline, model=model, out=out, seed=seed, map=mapped or None)
    if not config.generate.model and (named := os.environ.get("LIKELY_MODEL")):
        config = read(pipeline, model=named, out=out, seed=seed, map=mapped or None)
    if model is not None and (idle := _idle(config, effect, generations is not None)):
        raise click.UsageError(f"--model: {idle}; leave it out")
    if (reported or effect or generations is not None) and distributed.joined() is not None:
        raise click.UsageError("--report, --effect and --generations are one process's work: start without mlx.launch")
    if generations is not None:
        _generations(config, generations, as_json)
        return
    if effect and not config.train.task:
        raise click.UsageError("--effect evaluates on a task: name one in the file, task = ... under [train]")
    if (reported or effect) and not config.real:
        raise click.UsageError("real rows are wanted: name them in the file, real = ... under [report]")
    if effect and config.generate.method == "preference":
        raise click.UsageError("--effect trains on rows, not on pairs: likely tune FOLDER --objective dpo does")
    _look_up(config, reported=reported, effect=effect)
    _make(config, as_json)
    if reported:
        _report(config, as_json)
    if effect:
        _effect(config, as_json)


def _look_up(config: PipelineConfig, *, reported: bool, effect: bool) -> None:
    """DataError where rows or a task that come after drawing cannot be read."""
    from likely.engine.measure.synth import inputs

    wanted = [config.real] * (reported or effect) + [config.report.heldout] * (reported and bool(config.report.heldout))
    for source in wanted:
        inputs.training_rows(source, config.names)
    if effect:
        inputs.task_of(config.train.task, config.names)


def _idle(config: PipelineConfig, effect: bool, generations: bool) -> str:
    """Why nothing is asked of generate.model, "" where it is."""
    if generations:
        learner = config.collapse.learner
        return "" if learner == "model" else f"[collapse] learner = {learner} asks no model"
    method = config.generate.method
    needed = effect or method not in WITHOUT_MODEL or config.generate.model in config.scorers.values()
    return "" if needed else f"method = {method} makes rows without a model"


def _open(name: str, adapters: "tuple[str, ...]") -> "Session":
    from likely.app.results.evaluator import is_adapter, open_adapter

    if is_adapter(name):
        if adapters:
            raise click.UsageError(f"generate.adapters go on a model: {name} is an adapter's folder already")
        with Progress() as progress:
            return open_adapter(name, progress.show)[0]
    return open_session(name, adapters=adapters)


def _make(config: PipelineConfig, as_json: bool) -> None:
    from likely.engine.measure.synth import pipeline

    together = distributed.joined()
    quiet = together is not None and not together.leads
    try:
        with Progress() as progress:
            for event in pipeline.run(config, lambda name, adapters: _open(name, tuple(adapters))):
                if quiet:
                    continue
                match event:
                    case pipeline.JobDone(done, jobs, rows, aside):
                        progress.show(f"drawing · {rows} rows, {aside} aside", done, jobs)
                    case pipeline.RowsScored(what, done, total):
                        progress.show(what, done, total)
                    case _:
                        progress.show("", 0, 0)
                        _say(event, as_json)
    except KeyboardInterrupt:
        click.echo("stopped; what was drawn is kept, and the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)


def _report(config: PipelineConfig, as_json: bool) -> None:
    """Set the rows against real ones."""
    import numpy as np

    from likely.app.cli.reports.synth_text import report_lines, report_object
    from likely.engine.base.files.whole_file import write_whole
    from likely.engine.measure.synth import inputs
    from likely.engine.measure.synth.report import report

    synthetic, real = _synthetic(config), inputs.pairs(config.real, config.names)
    heldout = inputs.pairs(config.report.heldout, config.names) if config.report.heldout else []
    features = None
    if config.report.model:
        from likely.engine.measure.evaluate.scoring.features import pooled

        session = open_session(config.report.model)
        texts = ([row.text for row in synthetic], inputs.texts(real), inputs.texts(heldout))
        features = tuple(pooled(session, some) if some else np.zeros((0, 1)) for some in texts)
    result = report(synthetic, real, features, heldout=heldout, grid=config.attributes)  # type: ignore[arg-type]
    click.echo(json.dumps({"event": "report", **report_object(result)}) if as_json else "\n".join(report_lines(result)))
    beside = expanded(config.out) / NEIGHBOURS
    write_whole(beside, (json.dumps(row, ensure_ascii=False) + "\n" for row in result.beside))
    if not as_json:
        click.echo(f"  each row's nearest real one and longest shared run: {beside}")


def _effect(config: PipelineConfig, as_json: bool) -> None:
    """Train on real rows, on made ones and on both."""
    from likely.app.cli.reports.synth_text import arm_line, arm_object
    from likely.engine.measure.synth import inputs, training
    from likely.engine.weights.sources.checkpoint import load

    synthetic = inputs.rows(str(expanded(config.out) / "train.jsonl"))
    real = inputs.training_rows(config.real, config.names)
    task = inputs.task_of(config.train.task, config.names)
    with Progress() as progress:
        checkpoint = load(config.generate.model or default_model(), progress.show)
    known: dict[str, training.Arm] = {}
    sets = {"real": real, "made": synthetic, "both": (*real, *synthetic)}
    for arm in training.arms(checkpoint, sets, task, config.train, expanded(config.out) / "effect"):
        known[arm.name] = arm
        click.echo(json.dumps(arm_object(arm, known)) if as_json else arm_line(arm, known))


def _generations(config: PipelineConfig, count: int, as_json: bool) -> None:
    """Learn and draw over and over, in both ways."""
    from likely.app.cli.reports.synth_text import generation_line, generation_object
    from likely.engine.measure.synth import collapse, inputs

    if not config.real:
        raise click.UsageError("--generations begins with real rows: name them in the file, real = ... under [report]")
    real = inputs.training_rows(config.real, config.names)
    c, kind = config.collapse, inputs.KIND_OF[config.collapse.kind]
    session = _learning(config) if c.learner == "model" else None
    for way in collapse.WAYS:
        learner: Learner[Any] = collapse.Frequencies() if session is None else _taught(config, session, way)
        for generation in collapse.generations(real, learner, count, way, kind, n=c.rows, seed=config.seed):
            click.echo(json.dumps(generation_object(generation)) if as_json else generation_line(generation))


def _learning(config: PipelineConfig) -> "Session":
    """The model that learns, an adapter of which is trained anew for each generation."""
    if config.generate.adapters:
        raise click.UsageError("--generations trains an adapter of its own on the model: leave out generate.adapters")
    return open_session(config.generate.model)


def _taught(config: PipelineConfig, session: "Session", way: str) -> "Learner[Any]":
    from likely.engine.decode.strategy_table import parse
    from likely.engine.measure.synth.training import TaughtModel
    from likely.engine.measure.synth.writer import Writer
    from likely.engine.sampling.presets import recipe

    g = config.generate
    strategy = parse(g.strategy).bind({}, session.tokenizer)
    writer = Writer(session, recipe(g.sampling), strategy, g.max_tokens, g.chat)
    folder = expanded(config.out) / "generations" / way
    return TaughtModel(session.checkpoint, config.train, writer, folder, g.stop)


def _synthetic(config: PipelineConfig) -> "list[SynthRow]":
    from likely.engine.measure.evaluate.tasks.task_files import rows
    from likely.engine.measure.synth.row import of_value
    from likely.engine.measure.synth.stages import SIDES

    files = [expanded(config.out) / f"{side}.jsonl" for side in SIDES]
    return [of_value(value) for file in files if file.exists() for value in rows(file)]


def _say(event: Any, as_json: bool) -> None:
    from likely.engine.measure.synth.pipeline import RowsWarned, RowsWritten, StageYield

    if as_json:
        click.echo(json.dumps(_object(event)))
        return
    match event:
        case StageYield(stage, came, kept, reasons):
            why = " · ".join(f"{reason} {count}" for reason, count in reasons.items())
            share = f"{kept / came:5.0%}" if came else "    -"
            click.echo(f"{stage:13} {came:7} -> {kept:7} {share}{f'  {why}' if why else ''}")
        case RowsWarned(line):
            click.echo(f"likely: {line}", err=True)
        case RowsWritten(folder, sides, dropped):
            there = ", ".join(f"{side} {count}" for side, count in sides.items() if count)
            click.echo(f"{folder}: {there}; {dropped} aside in dropped.jsonl")


def _object(event: Any) -> dict[str, Any]:
    from likely.engine.measure.synth.pipeline import RowsWritten, StageYield

    match event:
        case StageYield(stage, came, kept, reasons):
            return {"event": "stage", "stage": stage, "came": came, "kept": kept, "reasons": dict(reasons)}
        case RowsWritten(folder, sides, dropped):
            return {"event": "written", "folder": str(folder), **sides, "dropped": dropped}
    return {"event": "warning", "line": event.line}
