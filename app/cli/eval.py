"""`likely eval`: how good models are at tasks and on texts, every number with its error bar."""

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.opening import Progress, adapter_option, open_session, weighed_adapter
from engine.errors import DataError, ParameterError

if TYPE_CHECKING:
    from app.evaluations import Evaluation, Evaluations, Row
    from app.evaluator import Evaluator
    from app.scoreboard import Measurement
    from app.task_sources import Sourced
    from engine.evaluate.estimates import Estimate
    from engine.evaluate.figures import ComparedMeasure, Tally
    from engine.evaluate.tasks import Problem
    from engine.session import Session

SHOWN_S = 1.0  # the line of progress changes that often


@click.command()
@click.argument("tasks", nargs=-1)
@click.option(
    "--model",
    "-M",
    "models",
    multiple=True,
    metavar="MODEL",
    help="A model or an adapter's folder; repeat to compare: the others against the first.",
)
@adapter_option
@click.option("--text", type=click.Path(path_type=Path, dir_okay=False), help="Perplexity of this file.")
@click.option(
    "--window", default=512, show_default=True, type=click.IntRange(2), help="Tokens that are predicted from."
)
@click.option(
    "--prefix-token",
    "prefix",
    default="default",
    metavar="none|ID",
    help="What stands before a text that nothing precedes. Default: BOS, else EOS.",
)
@click.option("--chat", is_flag=True, help="Put contexts and texts through the chat template.")
@click.option("--limit", type=click.IntRange(1), help="Ask the first so many items.")
@click.option(
    "--shots", type=click.IntRange(0), help="Examples before each question: the first rows, which are not asked."
)
@click.option("--cluster", metavar="COLUMN", help="Items that are equal in this column are not independent.")
@click.option("--measure", "measures", multiple=True, metavar="NAME", help="Show these measures alone; repeatable.")
@click.option("--strategy", default="", metavar="NAME", help="How answers are drawn, as in `likely run`.")
@click.option("--samples", default=1, type=click.IntRange(1, 256), help="Answers a question: adds pass@k and maj@n.")
@click.option("--temp", "temperature", default=0.0, type=click.FloatRange(0), help="Of answers. Default: 0.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of answers that are drawn.")
@click.option("--fresh", is_flag=True, help="Measure again what was measured before.")
@click.option("--compare", "stored", is_flag=True, help="Show what was measured before, of TASKS or of all.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Also write one HTML file.")
@click.option("--json", "as_json", is_flag=True, help="An object a figure on stdout.")
@click.option("--items", is_flag=True, help="With --json: an object an item.")
def command(
    tasks: tuple[str, ...],
    models: tuple[str, ...],
    adapters: tuple[str, ...],
    text: Path | None,
    window: int,
    prefix: str,
    chat: bool,
    limit: int | None,
    shots: int | None,
    cluster: str | None,
    measures: tuple[str, ...],
    strategy: str,
    samples: int,
    temperature: float,
    seed: int,
    fresh: bool,
    stored: bool,
    report: Path | None,
    as_json: bool,
    items: bool,
) -> None:
    """Measure models on TASKS: files of rows (.jsonl, .csv), .toml files, or built-in ones.

    \b
    likely eval pairs.jsonl                           rows of good and bad, or of context, choices and gold, or ...
    likely eval arithmetic pairs.jsonl -M smollm2 -M my-adapter
    likely eval --text book.txt --window 512          perplexity and bits a byte
    likely eval --compare --report evaluations.html   what was measured before
    """
    from app.evaluations import Evaluations
    from app.evaluator import Evaluator
    from app.task_sources import sources
    from engine.evaluate.evaluation import Protocol
    from engine.home import home

    if items and not as_json:
        raise click.UsageError("--items is for programs: give --json too")
    if not stored and not tasks and text is None:
        raise click.UsageError("name a task (a .jsonl, .csv or .toml file, or a built-in one), or give --text FILE")
    if adapters and len(models) > 1:
        raise click.UsageError("--adapter goes with one model: name an adapter's folder as a model with -M instead")
    store = Evaluations(home() / "evaluations.db")
    try:
        if stored:
            done = _stored(store, tasks, models)
        else:
            unconditional = not measures or "acc_mutual_info" in measures
            protocol = Protocol(prefix, window, chat, strategy, samples, temperature, seed, unconditional)
            evaluator = Evaluator(
                store, lambda model: _open(model, adapters), protocol, limit, fresh, sys.argv, sys.stderr.isatty()
            )
            run = _Run(evaluator, quiet=as_json and not sys.stderr.isatty())
            done = run.all(sources(tasks, text, shots, cluster), models or (os.environ.get("LIKELY_MODEL", ""),))
        _say(store, done, measures, as_json, items, comparing=stored)
        if report is not None:
            from app.report import write

            write(report, store, [(each.evaluation, each.below) for each in done])
    finally:
        store.close()
    if not stored and run.stopped:
        click.echo("stopped; what was measured is kept, and the same command goes on from there", err=True)
        raise click.exceptions.Exit(130)


# -- what is measured -------------------------------------------------------------------------------------------------


class _Run:
    """A run of the evaluator with a line of progress; what was measured of each task by each model."""

    def __init__(self, evaluator: "Evaluator", *, quiet: bool) -> None:
        self.evaluator, self.quiet = evaluator, quiet
        self.stopped = False

    def all(self, sources: "Sequence[Sourced]", models: Sequence[str]) -> "list[Measurement]":
        from app.scoreboard import Measurement
        from engine.evaluate.figures import Tally
        from engine.evaluate.tasks import Problem

        found: list[Measurement] = []
        tally, before, began, last = Tally(), 0, 0.0, 0.0
        with Progress() as progress, closing(self.evaluator.run(sources, models)) as events:
            try:
                for event in events:
                    now = time.monotonic()
                    if isinstance(event, Measurement):
                        found.append(event)
                        self._known(event)
                        tally = self.evaluator.store.tally(event.evaluation, event.below)
                        before, began, last = len(tally.numbers), now, now
                    elif not isinstance(event, Problem):
                        tally.add(event.number, event.cluster, event.values)
                    if now - last >= SHOWN_S:
                        last, measured, total = now, len(tally.numbers), found[-1].total
                        left = (total - measured) * (now - began) / max(1, measured - before)
                        progress.show(_line(found[-1].evaluation, tally, left if total else None), measured, total)
            except KeyboardInterrupt:
                self.stopped = True
        return found

    def _known(self, event: "Measurement") -> None:
        if event.known and not self.quiet:
            said = event.evaluation
            click.echo(f"{said.task}, {said.model}: {event.known} items are known from before", err=True)


def _line(evaluation: "Evaluation", tally: "Tally", left: float | None) -> str:
    """The progress line: the first measure with its interval as it is so far, and the time left."""
    found = tally.main
    shown = "" if found is None else f" {_number(found.mean)} {_span(found)}"
    wait = "" if left is None else f" {left / 60:.0f} min left" if left > 90 else f" {max(0.0, left):.0f} s left"
    return f"{evaluation.task} {evaluation.model}{shown} ({len(tally.numbers)}){wait}"


def _open(model: str, adapters: Sequence[str]) -> "tuple[Session, str]":
    """A session on a model or an adapter's folder, and what its weights are known by."""
    from app.evaluator import files, weights
    from engine.tune import adapters as stored

    folder = Path(model).expanduser()
    if model and (folder / stored.CONFIG).exists():
        from engine.session import Session
        from engine.tune.tuned import open_model

        if adapters:
            raise click.UsageError("--adapter goes with a model: -M names an adapter's folder already")
        with Progress() as progress:
            session = Session(open_model(model, progress.show))
        return session, f"{weights(session)} {files(folder)}"
    session = open_session(model, adapters=adapters)
    weighed = [weighed_adapter(given) for given in adapters]
    return session, " ".join([weights(session), *(f"{files(Path(f).expanduser())}={w}" for f, w in weighed)])


def _stored(store: "Evaluations", tasks: Sequence[str], models: Sequence[str]) -> "list[Measurement]":
    """Results of earlier runs, the latest of each task and model."""
    from app.scoreboard import Measurement

    names = [Path(name).name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".csv") for name in tasks]
    latest = store.latest([*tasks, *names], models)
    if not latest:
        raise DataError("nothing was measured yet of these: likely eval TASK measures")
    found = sorted(latest, key=lambda each: (each.task, models.index(each.model) if models else 0))
    return [Measurement(each, None, {"form": each.asked["form"], **each.asked["protocol"]}) for each in found]


# -- how it is said ---------------------------------------------------------------------------------------------------


def _say(
    store: "Evaluations",
    done: "Sequence[Measurement]",
    measures: Sequence[str],
    as_json: bool,
    items: bool,
    *,
    comparing: bool,
) -> None:
    if items:
        for each in done:
            for row in store.rows(each.evaluation, each.below):
                click.echo(json.dumps(_item(each, row), ensure_ascii=False))
        return
    from engine.evaluate.figures import comparisons, left_out

    tallies = {(e.evaluation.task, e.evaluation.model): store.tally(e.evaluation, e.below) for e in done}
    rows = []
    for each in done:
        task, model = each.evaluation.task, each.evaluation.model
        odd = left_out(store.problems(each.evaluation, each.below))
        figures = tallies[task, model].figures()
        for name in measures:
            if name not in figures:
                raise ParameterError(f"{task} has no measure {name}: it has {', '.join(figures)}")
        rows += [(each, name, found, odd) for name, found in figures.items() if not measures or name in measures]
    models = list(dict.fromkeys(e.evaluation.model for e in done))
    compared = comparisons(tallies, models) if len(models) > 1 else []
    compared = [each for each in compared if not measures or each.measure in measures]
    if as_json:
        for each, name, found, odd in rows:
            click.echo(json.dumps(_figure(each, name, found, odd), ensure_ascii=False))
        if comparing:
            for change in compared:
                click.echo(json.dumps(_comparison(change), ensure_ascii=False))
        return
    _table(rows)
    for each in done:
        _odd(each, store.problems(each.evaluation, each.below))
    for change in compared:
        click.echo(_sentence(change))


def _figure(each: "Measurement", name: str, found: "Estimate", odd: dict[str, dict[str, int]]) -> dict[str, Any]:
    low, high = found.interval
    return {
        "task": each.evaluation.task,
        "model": each.evaluation.model,
        "measure": name,
        "value": _finite(found.mean),
        "se": _finite(found.error),
        "low": _finite(low),
        "high": _finite(high),
        "n": found.n,
        "protocol": {**each.protocol, **({"rows": odd} if odd else {})},
    }


def _item(each: "Measurement", row: "Row") -> dict[str, Any]:
    return {
        "task": each.evaluation.task,
        "model": each.evaluation.model,
        "item": row.number,
        **({"cluster": row.cluster} if row.cluster is not None else {}),
        **row.measures,
        **row.detail,
    }


def _comparison(found: "ComparedMeasure") -> dict[str, Any]:
    low, high = found.change.estimate.interval
    return {
        "task": found.task,
        "measure": found.measure,
        "models": list(found.models),
        "difference": _finite(found.change.estimate.mean),
        "se": _finite(found.change.estimate.error),
        "low": _finite(low),
        "high": _finite(high),
        "p": found.p,
        "n": found.n,
        "needed": found.change.needed,
        "verdict": found.verdict,
    }


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _table(rows: "Sequence[tuple[Measurement, str, Estimate, Any]]") -> None:
    cells = [("task", "model", "measure", "value", "95 %", "n")]
    for each, name, found, _ in rows:
        e = each.evaluation
        exact = name in ("tokens", "bytes")
        value, span = (f"{found.mean:.0f}", "") if exact else (_number(found.mean), _span(found))
        cells.append((e.task, e.model, name, value, span, str(found.n)))
    wide = [max(len(row[i]) for row in cells) for i in range(6)]
    for row in cells:
        left = "  ".join(cell.ljust(w) for cell, w in zip(row[:3], wide[:3], strict=True))
        right = "  ".join(cell.rjust(w) for cell, w in zip(row[3:], wide[3:], strict=True))
        click.echo(f"{left}  {right}")


def _number(x: float) -> str:
    return (
        "-" if not math.isfinite(x) else f"{x:.4f}" if abs(x) < 10 else f"{x:.2f}" if abs(x) < 10_000 else f"{x:,.0f}"
    )


def _span(found: "Estimate") -> str:
    low, high = found.interval
    return (
        f"{_number(low)} to {_number(high)}"
        if math.isfinite(low) and math.isfinite(high)
        else "from one item: no error"
    )


def _odd(each: "Measurement", problems: "Sequence[Problem]") -> None:
    """Which rows are not like the others, so that none is dropped in silence."""
    kinds: dict[tuple[str, bool], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.kind, problem.scored), []).append(problem)
    for (kind, scored), found in kinds.items():
        rows = ", ".join(str(problem.number + 1) for problem in found[:8]) + (", ..." if len(found) > 8 else "")
        fate = "scored" if scored else "left out"
        words = f"{each.evaluation.task}, {each.evaluation.model}: {len(found)} {kind} ({fate}), row {rows}"
        click.echo(f"{words}: {found[0].words}", err=True)


def _sentence(found: "ComparedMeasure") -> str:
    low, high = found.change.estimate.interval
    span = f"{low:+.4f} to {high:+.4f}" if math.isfinite(low) and math.isfinite(high) else "from one item: no error"
    unit = " a token" if found.measure == "nats" else ""
    hint = ""
    if found.verdict == "not seen" and found.change.needed and found.change.needed > found.n:
        hint = f"; {found.change.needed:,} items would show a difference of this size four times in five"
    return (
        f"{found.task} {found.measure}: {found.models[1]} against {found.models[0]} "
        f"{found.change.estimate.mean:+.4f}{unit} ({span}; {found.n} items, p {found.p:.2g}): {found.verdict}{hint}"
    )
