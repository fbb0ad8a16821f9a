"""`likely synth`: rows made by a model, as a pipeline file says, each with where it came from."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.opening import Progress, Ruled, open_session
from engine import ranks
from engine.synth.config import PipelineConfig, read

if TYPE_CHECKING:
    from engine.session import Session


@click.command(cls=Ruled)
@click.argument("pipeline", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "-M", metavar="MODEL", envvar="LIKELY_MODEL", help="In the place of generate.model.")
@click.option("--out", metavar="FOLDER", help="In the place of out.")
@click.option("--seed", type=click.IntRange(0), help="In the place of seed.")
@click.option("--json", "as_json", is_flag=True, help="One object an event on stdout.")
def command(pipeline: Path, model: str | None, out: str | None, seed: int | None, as_json: bool) -> None:
    """Make rows as PIPELINE says, a TOML file, and write train.jsonl, valid.jsonl and dropped.jsonl to its folder.

    \b
    likely synth sums.toml                      draw, filter, deduplicate, decontaminate, balance, split
    likely synth sums.toml                      the same again goes on where it was stopped or killed
    likely synth sums.toml -M my-model --out other
    likely tune made/ --loss completion         train on what was made
    """
    config = read(pipeline, model=model, out=out, seed=seed)
    _make(config, as_json)


def _open(name: str, adapters: "tuple[str, ...]") -> "Session":
    from engine.tune.adapters import CONFIG

    if name and (Path(name).expanduser() / CONFIG).exists():
        from app.evaluator import open_adapter

        with Progress() as progress:
            return open_adapter(name, progress.show)[0]
    return open_session(name, adapters=adapters)


def _make(config: PipelineConfig, as_json: bool) -> None:
    from engine.synth import pipeline as stages

    together = ranks.joined()
    quiet = together is not None and not together.leads
    try:
        with Progress() as progress:
            for event in stages.run(config, lambda name, adapters: _open(name, tuple(adapters))):
                if quiet:
                    continue
                match event:
                    case stages.JobDone(done, jobs, rows, aside):
                        progress.show(f"drawing · {rows} rows, {aside} aside", done, jobs)
                    case stages.RowsScored(what, done, total):
                        progress.show(f"{what}", done, total)
                    case _:
                        progress.show("", 0, 0)
                        _say(event, as_json)
    except KeyboardInterrupt:
        click.echo("stopped; what was drawn is kept, and the same command goes on from there", err=True)
        sys.exit(130)


def _say(event: Any, as_json: bool) -> None:
    from engine.synth.pipeline import RowsWarned, RowsWritten, StageYield

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
    from engine.synth.pipeline import RowsWritten, StageYield

    match event:
        case StageYield(stage, came, kept, reasons):
            return {"event": "stage", "stage": stage, "came": came, "kept": kept, "reasons": dict(reasons)}
        case RowsWritten(folder, sides, dropped):
            return {"event": "written", "folder": str(folder), **sides, "dropped": dropped}
    return {"event": "warning", "line": event.line}
