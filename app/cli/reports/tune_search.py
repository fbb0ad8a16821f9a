"""`likely tune --search`: its plan, progress, and the table of paths, validation against strength."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options.opening import Progress
from likely.app.results.awake import kept_awake
from likely.app.results.training_plan import duration
from likely.app.words.heat import sanitize_line
from likely.app.words.interruption import INTERRUPTED
from likely.app.words.units import PER_TOKEN, bits, finite, json_line
from likely.engine.base import distributed
from likely.engine.base.files.home import expanded

if TYPE_CHECKING:
    from likely.engine.base.statistics.estimates import Estimate
    from likely.engine.measure.estimate.search import SearchPlan, SearchPoint, SearchResult
    from likely.engine.measure.estimate.trial import TrialDone
    from likely.engine.weights.adapters.config import Config

CELLS = 24  # of a full bar


def chosen(
    settings: "Config", file: Path, words: Sequence[str], *, dry_run: bool, as_json: bool
) -> "tuple[Config, bool, Mapping[str, Any]] | None":
    """The options that the search chose, whether their run on all rows has begun, and the values; None after a dry
    run."""
    from likely.engine.base.errors import DataError
    from likely.engine.measure.estimate.search import at, plan, read_grid, search, summed
    from likely.engine.train.saved_options import STATE
    from likely.engine.weights.sources.checkpoint import load

    if distributed.joined() is not None:
        raise click.UsageError("--search is one process's work: start without mlx.launch")
    folder = expanded(settings.out)
    if (folder / STATE).exists() and not (folder / "search").exists():
        raise DataError(f"{folder} holds a training that no search began: give the search another --out")
    planned = plan(settings, read_grid(file), words)
    with Progress() as progress:
        checkpoint = load(settings.model, progress.show)
        summary = _plan(planned, checkpoint, folder / "search")
        click.echo(json.dumps({"event": "planned", **summary}) if as_json else _plan_line(summary), err=not as_json)
        if dry_run:
            return None
        results = []
        with kept_awake(), going_on():
            for event in search(checkpoint, planned, folder / "search"):
                results.append(event.result)
                show_trial(event, progress, as_json)
    result = summed(planned.grid, results)
    if as_json:
        click.echo(json_line({"event": "chosen", **_object(result)}, loss=PER_TOKEN, limit=PER_TOKEN))
    else:
        click.echo("\n".join(lines(result)))
    values = result.chosen.values
    return replace(at(settings, values), out=str(folder)), (folder / STATE).exists(), values


def as_one_training(words: Sequence[str], values: "Mapping[str, Any]") -> list[str]:
    """The command of the training on all rows alone, of the words of one that searches and the values it chose."""
    arguments = [
        word
        for before, word in zip(("", *words), words, strict=False)
        if "--search" not in (before, word) and not word.startswith("--search=")
    ]
    flags = {**values, "valid": 0}  # folds stood in its place
    return [
        *arguments,
        *(part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", f"{value}")),
    ]


@contextmanager
def going_on() -> Iterator[None]:
    """Trials that are interrupted end with the line that what was done is kept."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped; the trainings that were done are kept, and the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)


def show_trial(event: "TrialDone", progress: Progress, as_json: bool) -> None:
    """A trial that was done, in the line of progress or as an object."""
    result = event.result
    rest = f" · {duration(event.left_s)} left" if event.left_s else ""
    name = ", ".join(f"{key} {value}" for key, value in result.name.items())
    progress.show(f"{name}{rest}", event.done, event.total)
    if as_json:
        fields = {"name": result.name, "failed": result.failed, "seconds": result.seconds}
        loss = finite(result.loss.mean) if result.rows else None
        click.echo(json_line({"event": "trial", **fields, "loss": loss}, loss=PER_TOKEN))


def _plan(planned: "SearchPlan", checkpoint: Any, folder: Path) -> dict[str, Any]:
    """Counts, and the seconds that the trainings that are left should take by the estimate of one."""
    from likely.engine.measure.estimate.trial import cost, remaining

    missing = remaining(planned.trials, folder, planned.head)
    return {
        "points": len(planned.grid.points),
        "folds": planned.grid.folds,
        "trainings": len(planned.trials),
        "done": len(planned.trials) - len(missing),
        "rows": len(planned.rows),
        "seconds": cost(lambda _: checkpoint, missing),
    }


def _plan_line(summary: dict[str, Any]) -> str:
    return (
        f"{summary['points']} points x {summary['folds']} folds of {summary['rows']} rows: "
        f"{summary['trainings']} trainings, {summary['done']} done already; about {duration(summary['seconds'])}"
    )


def lines(result: "SearchResult") -> Iterator[str]:
    """A table for each option that was searched, and what was chosen by which rule."""
    for name in result.grid.values:
        yield f"{name}: loss of held-out rows, bits a token, mean of {result.grid.folds} folds ± its standard error"
        points = result.path(name)
        known = [point.loss.mean for point in points if not point.failed]
        low, high = min(known, default=0.0), max(known, default=0.0)
        for point in points:
            yield f"  {point.values[name]:>10g}  {_row(point, result, low, high)}"
    yield (
        f"least loss {bits(result.best.loss.mean):.4f} at {_values(result.best)}; within one standard error "
        f"({bits(result.limit):.4f}) the simplest is {_values(result.chosen)}"
    )


def _row(point: "SearchPoint", result: "SearchResult", low: float, high: float) -> str:
    if point.failed:
        return sanitize_line(point.failed)
    loss = point.loss
    bar = "█" * max(1, round(CELLS * (loss.mean - low) / (high - low))) if high > low else ""
    marks = [word for word, other in (("least", result.best), ("chosen", result.chosen)) if point is other]
    right = f"{point.accuracy.mean:6.1%} right"
    return f"{bits(loss.mean):8.4f} ± {bits(loss.error):.4f}  {right}  {bar:{CELLS}} {', '.join(marks)}".rstrip()


def _values(point: "SearchPoint") -> str:
    return ", ".join(f"{name} {value:g}" for name, value in point.values.items())


def _object(result: "SearchResult") -> dict[str, Any]:
    return {
        "points": [_point(point) for point in result.points],
        "best": dict(result.best.values),
        "chosen": dict(result.chosen.values),
        "limit": result.limit,
    }


def _point(point: "SearchPoint") -> dict[str, Any]:
    if point.failed:
        return {"values": dict(point.values), "failed": point.failed}
    return {"values": dict(point.values), "loss": _estimate(point.loss), "accuracy": _estimate(point.accuracy)}


def _estimate(estimate: "Estimate") -> dict[str, float | None]:
    return {"mean": finite(estimate.mean), "error": finite(estimate.error)}
