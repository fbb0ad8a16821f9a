"""`likely estimate`: what few rows are worth: curves, transfer, starts that learn faster, bounds on the risk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options import name_completion
from likely.app.cli.options.float_range import FloatRange
from likely.app.cli.options.opening import Progress, RuledCommand, VerbGroup, chosen_model, tell
from likely.app.cli.options.table_options import AdapterPlace, map_option, options
from likely.app.cli.reports import estimate_text as text
from likely.app.cli.reports.tune_search import going_on, show_trial
from likely.app.results.training_plan import duration
from likely.app.words.units import PER_TOKEN, json_line
from likely.engine.base.errors import DataError
from likely.engine.base.files.home import expanded
from likely.engine.base.options import read_toml
from likely.engine.weights.adapters.config import Config, configure

if TYPE_CHECKING:
    from likely.engine.measure.estimate.ladder import Bases
    from likely.engine.measure.estimate.trial import Trial, TrialResult
    from likely.engine.text.rows.training_row import TrainingRow

A_ROW = dict.fromkeys(("nats", "gain", "zero", "learned", "change", "saved"), "nats a row")

HELD = 0.25  # of the rows, where neither the data nor the options say which are held out


class Numbers(click.ParamType):
    """Whole numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):  # the default
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"takes whole numbers with commas between them such as 20,40,80, got {value!r}", param, ctx)


training = options(  # of every verb of trainings
    click.option(
        "--config", "-c", type=click.Path(path_type=Path, dir_okay=False),
        help="Options of the trainings, as likely tune has them, from a TOML file.",
    ),
    map_option,
    click.option("--out", default="estimate", show_default=True, help="Folder of the trainings."),
    click.option("--dry-run", is_flag=True, help="Say how many trainings that is and what they cost, and stop."),
    click.option("--json", "as_json", is_flag=True, help="One object an event on stdout."),
)  # fmt: skip


@click.group(cls=VerbGroup)
def command() -> None:
    """Say what a few rows are worth: learning curves, transfer, starts, bounds."""


@command.command()
@click.argument("data")
@click.option("--model", "-M", help="The base model, over --config; if left out, the one chosen last.")
@click.option(
    "--sizes", type=Numbers(), default=(), help="Numbers of rows. Default: all, a half, a quarter ... of all."
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 100), help="Trainings of each size.")
@click.option(
    "--next",
    "more",
    default=100,
    show_default=True,
    type=click.IntRange(1),
    help="Worth of so many more rows.",
)
@training
def curve(
    data: str, model: str | None, sizes: tuple[int, ...], seeds: int, more: int, config: Path | None,
    mapped: tuple[str, ...], out: str, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Learn from more and more of DATA, fit E + B n^-beta, and say what the next rows are worth.

    \b
    likely estimate curve rows.jsonl --sizes 20,40,80,160,320 --seeds 3
    """
    from likely.engine.measure.estimate import curve as curves
    from likely.engine.measure.estimate import ladder

    settings = _settings(config, data, out, model, mapped)
    rows = ladder.pool(settings)
    amounts = ladder.sizes(sizes, len(rows.rows))
    trials = ladder.rungs(settings, rows, amounts, seeds)
    results = _results(trials, settings, ladder.head(settings, rows), dry_run, as_json)
    if results is None:
        return
    sound = [result for result in results if not result.failed and result.name["rows"]]
    columns = {
        "loss": [result.loss.mean for result in sound],
        "errors": [1 - result.accuracy.mean for result in sound],
    }
    counts = [float(result.name["rows"]) for result in sound]
    report = text.CurveReport(list(ladder.table(results)), {}, {})
    for name, values in columns.items():
        try:
            fitted = curves.fit(counts, values)
        except DataError as error:
            report.without[name] = str(error)
        else:
            worth = fitted.worth(fitted.largest, fitted.largest + more)
            report.curves[name] = (fitted, worth, curves.checked(counts, values))
    click.echo(
        json_line(text.curve_object(report, more), **A_ROW, loss=PER_TOKEN)
        if as_json
        else "\n".join(text.curve_lines(report, more))
    )


@command.command()
@click.argument("data")
@click.option("--model", "-M", "models", multiple=True, help="A base; repeatable.")
@click.option("--layers", type=Numbers(), default=(), help="How many of the last layers are adapted, -1 all.")
@click.option("--sizes", type=Numbers(), default=(), help="Numbers of rows; 0 is the base itself.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1, 100), help="Trainings of each.")
@training
def transfer(
    data: str, models: tuple[str, ...], layers: tuple[int, ...], sizes: tuple[int, ...], seeds: int,
    config: Path | None, mapped: tuple[str, ...], out: str, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Which base, which layers, how many rows of DATA: a table from a ladder of trainings.

    \b
    likely estimate transfer rows.jsonl -M smollm2 -M gemma3 --layers 2,-1 --sizes 0,20,80
    """
    from likely.engine.measure.estimate import ladder

    settings = _settings(config, data, out, models[0] if models else None, mapped)
    rows = ladder.pool(settings)
    amounts = ladder.sizes(sizes or (0, *ladder.sizes((), len(rows.rows))), len(rows.rows))
    trials = ladder.rungs(settings, rows, amounts, seeds, models=models, layers=layers)
    results = _results(trials, settings, ladder.head(settings, rows), dry_run, as_json)
    if results is None:
        return
    rungs = list(ladder.table(results))
    click.echo(json_line(text.table_object(rungs), **A_ROW) if as_json else "\n".join(text.table_lines(rungs)))


@command.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--held-out", "held", required=True, metavar="TASK", help="The task in FOLDER that no round sees.")
@click.option("--model", "-M", help="The base model, over --config; if left out, the one chosen last.")
@click.option("--method", default="reptile", show_default=True, type=click.Choice(("reptile", "fomaml")))
@click.option(
    "--rounds", default=100, show_default=True, type=click.IntRange(1), help="Rounds, each of one task drawn at random."
)
@click.option("--rows", default=10, show_default=True, type=click.IntRange(1), help="Rows of a task in a round.")
@click.option(
    "--rate",
    default=0.5,
    show_default=True,
    type=FloatRange(0),
    help="How far a round moves the start; falls to 0.",
)
@click.option("--sizes", type=Numbers(), default=(), help="Numbers of rows of the held-out task.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 100), help="Trainings of each size.")
@training
def meta(
    folder: Path, held: str, model: str | None, method: str, rounds: int, rows: int, rate: float,
    sizes: tuple[int, ...], seeds: int, config: Path | None, mapped: tuple[str, ...], out: str, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Learn a start for adapters from a FOLDER of tasks, and see how many rows it saves on one held out.

    \b
    likely estimate meta tasks/ --held-out sorting -c inner.toml
    likely tune new.jsonl --warm-start estimate/start
    """
    from likely.engine.measure.estimate import ladder
    from likely.engine.measure.estimate import meta as meta_learning
    from likely.engine.measure.estimate.trial import remaining
    from likely.engine.weights.sources.checkpoint import load

    settings = _settings(config, str(folder), out, model, mapped)
    known = meta_learning.tasks(folder, held, settings)
    task = known.pop(held)
    start, options = expanded(out) / "start", meta_learning.MetaOptions(method, rounds, rows, rate, settings.seed)
    amounts = ladder.sizes(sizes, len(task.rows))
    trials = meta_learning.trials(settings, task, amounts, seeds, start)
    head = {**ladder.head(settings, task), "start": meta_learning.identity(known, settings, options)}
    missing = remaining(trials, expanded(out), head)  # before a start that it belongs to is learned anew
    learned = meta_learning.is_made(start, head["start"])
    with Progress() as progress:
        bases = ladder.Bases(lambda name: load(name, progress.show))
        inner = [] if learned else meta_learning.inner_trials(known, settings, options)
        _plan([*missing, *inner], len(trials) - len(missing), bases, as_json)
        if dry_run:
            return
        if not learned:
            checkpoint = bases.of(trials[0])
            for step in meta_learning.learn(checkpoint, known, settings, options, start):
                progress.show(f"round {step.number} · {step.task} · way {step.way:.3f}", step.number, rounds)
            meta_learning.seal(start, head["start"])
        changes = meta_learning.compared(_run(trials, bases, settings, head, progress, as_json))
    click.echo(json_line(text.meta_object(changes), **A_ROW) if as_json else "\n".join(text.meta_lines(changes, start)))


@command.command(cls=RuledCommand)
@click.argument("adapter", type=AdapterPlace(), shell_complete=name_completion.adapters)
@click.option("--held-out", "held", metavar="ROWS", help="Rows that no training saw.")
@click.option("--trained", metavar="ROWS", help="The rows that it was trained on: PAC-Bayes.")
@click.option(
    "--posterior",
    "stored",
    is_flag=True,
    help="Take the variances that likely posterior fitted; without it three widths are tried.",
)
@click.option("--draws", default=20, show_default=True, type=click.IntRange(1), help="Models drawn from the posterior.")
@click.option(
    "--delta",
    default=0.05,
    show_default=True,
    type=FloatRange(0, 1, min_open=True, max_open=True),
    help="How often a bound may fail.",
)
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def bound(
    adapter: Path, held: str | None, trained: str | None, stored: bool, draws: int, delta: float, as_json: bool
) -> None:  # fmt: skip
    """Bounds on how wrong ADAPTER is on rows to come; vacuous ones are called so.

    \b
    likely estimate bound adapter --held-out test.jsonl --trained rows.jsonl
    """
    from likely.engine.measure.estimate.guarantee import Guarantees, options
    from likely.engine.text.rows.training_row import read_map
    from likely.engine.train.data import data
    from likely.engine.weights.sources.checkpoint import load

    if held is None and trained is None:
        raise click.UsageError("a bound is of rows: give --held-out, --trained or both")
    config = options(adapter)
    parts, names = (("held", held), ("trained", trained)), read_map(config.map)
    read = {name: data.read(rows, names=names, valid=0).train for name, rows in parts if rows}
    if len(read) == 2 and (shared := {row.digest for row in read["held"]} & {row.digest for row in read["trained"]}):
        raise click.UsageError(f"{len(shared)} rows of --held-out are in --trained: rows that were held out are not")
    if "held" in read and "trained" not in read and (seen := _seen(adapter, read["held"], names)):
        tell(
            f"{seen} of {len(read['held'])} rows of --held-out are in the data that {adapter} was trained on: bounds "
            "by them do not hold; give rows that no training saw"
        )
    with Progress() as progress:
        guarantees = Guarantees(load(config.model, progress.show), adapter, next(iter(read.values())))
    bounds = guarantees.held_out(read["held"], delta) if "held" in read else []
    if "trained" in read:
        variances = guarantees.variances() if stored else None
        bounds += guarantees.trained(read["trained"], variances, draws=draws, delta=delta)
    click.echo(json_line(text.bounds_object(bounds)) if as_json else "\n".join(text.bounds_lines(bounds)))


def _seen(adapter: Path, held: "Sequence[TrainingRow]", names: Mapping[str, str]) -> int:
    """How many rows an adapter was trained on, by the data that its config names; 0 where that is no longer there."""
    from likely.engine.train.data import data
    from likely.engine.weights.adapters import adapters

    options = adapters.options(adapter)[0]
    source = str(options.get("data") or "")
    if not source or not expanded(source).exists():
        return 0
    try:
        known = data.read(source, names=names, valid=options.get("valid", Config().valid)).train
    except DataError:  # other rows stand there now
        return 0
    digests = {row.digest for row in known}
    return sum(row.digest in digests for row in held)


def _settings(config: Path | None, data: str, out: str, model: str | None, mapped: Sequence[str]) -> Config:
    from_file = read_toml(config) if config is not None else {}
    model = model or ("" if "model" in from_file else chosen_model())
    named = {**({"model": model} if model else {}), **({"map": mapped} if mapped else {})}
    return configure({"valid": HELD, **from_file, **named, "data": data, "out": out})


def _results(
    trials: "Sequence[Trial]", settings: Config, head: dict[str, Any], dry_run: bool, as_json: bool
) -> "list[TrialResult] | None":
    """The results of all trials, or nothing after a dry run; what they cost is said before."""
    from likely.engine.measure.estimate.ladder import Bases
    from likely.engine.measure.estimate.trial import remaining
    from likely.engine.weights.sources.checkpoint import load

    missing = remaining(trials, expanded(settings.out), head)  # before a base is loaded
    with Progress() as progress:
        bases = Bases(lambda name: load(name, progress.show))
        _plan(missing, len(trials) - len(missing), bases, as_json)
        return None if dry_run else _run(trials, bases, settings, head, progress, as_json)


def _plan(missing: "Sequence[Trial]", done: int, bases: "Bases", as_json: bool) -> None:
    """Print how many trials are left and how long they should take."""
    from likely.engine.measure.estimate.trial import cost

    seconds = cost(bases.of, missing)
    if as_json:
        click.echo(json_line({"event": "planned", "trainings": len(missing) + done, "done": done, "seconds": seconds}))
    else:
        click.echo(f"{len(missing) + done} trainings, {done} done already; about {duration(seconds)}", err=True)


def _run(
    trials: "Sequence[Trial]", bases: "Bases", settings: Config, head: dict[str, Any], progress: Progress, as_json: bool
) -> "list[TrialResult]":
    from likely.engine.measure.estimate.trial import run

    results = []
    with going_on():
        for event in run(bases.of, trials, expanded(settings.out), head):
            results.append(event.result)
            show_trial(event, progress, as_json)
    return results
