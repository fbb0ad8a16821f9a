"""`likely scale plan` and `run`: what a ladder of runs costs on this machine, and the runs themselves."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.cli.options.float_range import FloatRange
from likely.app.cli.options.opening import Progress
from likely.app.results.awake import kept_awake
from likely.app.words import units
from likely.app.words.interruption import INTERRUPTED, stopped_by_signals
from likely.app.words.tables import Columns

if TYPE_CHECKING:
    from likely.engine.measure.scaling.cost import SweepCost
    from likely.engine.measure.scaling.plan import ScalingRun, SweepPlan
    from likely.engine.measure.scaling.running import ScalingRunEnded, ScalingRunTrainer

UNITS = {"seconds": "s", "rate": "FLOP/s", "memory": "bytes"}
UNITS |= dict.fromkeys(("loss", "low", "high"), units.PER_TOKEN)
SHOWN = 40  # runs of a plan
ladder = click.argument("ladder", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@ladder
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def plan(ladder: Path, as_json: bool) -> None:
    """Say which runs LADDER, a TOML file, has, and what each costs here, by short probes of three sizes.

    \b
    sizes = ["50k", "150k", "500k"]        parameters in all
    compute = [1e11, 3e11, 1e12]           FLOP of each parabola; or layout = "grid" and tokens = [...]
    [training]                             as `likely pretrain` takes it, the same for every run
    data = "plays.txt"
    """
    it = _planned(ladder)
    if not as_json:
        _tell(it)
        return
    price = it.cost
    runs = [{**asdict(r), "name": r.name, "seconds": s} for r, s in zip(price.rungs, price.seconds, strict=True)]
    total = {"seconds": price.total_s, "rate": price.rate if runs else None, "memory": price.memory}
    done = len(it.rungs) - len(runs)
    plans = {"runs": runs, "done": done, "left_out": it.left, "unique": it.unique, **total}
    click.echo(units.json_line(plans, **UNITS))


@click.command()
@ladder
@click.option(
    "--within",
    default=24.0,
    show_default=True,
    type=FloatRange(0, min_open=True),
    metavar="HOURS",
    help="Do not begin what takes longer on one machine like this.",
)
@click.option("--json", "as_json", is_flag=True, help="One object a run on stdout.")
def run(ladder: Path, within: float, as_json: bool) -> None:
    """Train the runs of LADDER one after another, each a line of runs.csv in its folder, which `scale fit` reads.

    The same again goes on where it was stopped or killed; called on several machines with one shared folder, each takes
    runs that no other has.

    \b
    likely scale run plays.toml
    likely scale fit plays/runs.csv
    """
    from likely.app.results.training_plan import duration
    from likely.engine.base.errors import DataError
    from likely.engine.measure.scaling import running
    from likely.engine.train.control import TrainControl

    it = _planned(ladder)
    if not as_json:
        _tell(it)
    if it.cost.total_s > within * 3600:
        raise DataError(
            f"{ladder}: {_runs(len(it.cost.rungs))} would take {duration(it.cost.total_s)} on this machine, more than "
            f"--within {within:g} hours: fewer or smaller runs, or allow more"
        )
    control = TrainControl()
    with kept_awake(), stopped_by_signals(control.stop), Progress() as progress:
        for event in running.run(it.plan, it.rungs, trainer(it.plan), control):
            match event:
                case running.ScalingRunProgress(rung, tokens, loss):
                    progress.show(f"{rung.name} · loss {loss:.3f}", tokens, rung.tokens)
                case running.ScalingRunEnded():
                    progress.show("", 0, 0)
                    _ended(event, as_json)
                case running.ScalingRunElsewhere(rung) if not as_json:
                    click.echo(f"  {rung.name}: another process has it", err=True)
    if control.stopped:
        click.echo("stopped; what was trained is kept, and the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)
    if not as_json:
        click.echo(f"the table: {it.plan.out / running.TABLE}")


def trainer(plan: "SweepPlan") -> "ScalingRunTrainer":
    """Who trains the runs of a plan here."""
    from likely.engine.measure.scaling.run_trainer import PretrainingRuns

    return PretrainingRuns(plan)


@dataclass(frozen=True)
class SweepOutlook:
    """A plan, its runs, those that were left out in words, the cost of what is not done, and the text's tokens."""

    plan: "SweepPlan"
    rungs: "list[ScalingRun]"
    left: list[str]
    cost: "SweepCost"
    unique: int


def _planned(path: Path) -> SweepOutlook:
    """The outlook of a plan's file."""
    from likely.engine.base.errors import DataError
    from likely.engine.measure.scaling import cost, plan, running

    read = plan.read_plan(path)
    teacher = trainer(read)
    with Progress() as progress:
        progress.show("looking at the sizes", 0, 0)
        facts = {size: teacher.facts(size) for size in read.sizes}
        rungs, problems = read.rungs({size: size_facts.parameters for size, size_facts in facts.items()})
        if not rungs:
            raise DataError(f"{path} has no run: {problems[0]}")
        done = [result.run for result in running.results(read.out)]
        missing = [rung for rung in rungs if rung.name not in done]
        probes = []
        for number, size in enumerate(sizes := cost.chosen({rung.size: rung.parameters for rung in missing})):
            progress.show(f"timing {size}", number, len(sizes))
            probes.append(teacher.probe(size))
    unique = min(size_facts.unique for size_facts in facts.values())
    return SweepOutlook(read, rungs, problems, cost.cost(missing, probes), unique)


def _tell(it: SweepOutlook) -> None:
    from likely.app.results.training_plan import duration

    price = it.cost
    columns = Columns("  {run:<24}{N:>12}{D:>14}{C = 6 N D:>12}  {here}")
    lines = [columns.heading] if price.rungs else []
    for rung, seconds in list(zip(price.rungs, price.seconds, strict=True))[:SHOWN]:
        size, tokens, compute = f"{rung.parameters:,}", f"{rung.tokens:,}", f"{rung.compute:.2e}"
        lines.append(columns.line(rung.name, size, tokens, compute, duration(seconds)))
    if len(price.rungs) > SHOWN:
        lines.append(f"  {len(price.rungs) - SHOWN} more")
    lines += [f"  left out: {line}" for line in it.left]
    if again := [rung.tokens / it.unique for rung in price.rungs if rung.tokens > it.unique]:
        lines.append(
            f"  {len(again)} of them read the text's {it.unique:,} tokens again, up to {max(again):.3g} times in all"
        )
    done = len(it.rungs) - len(price.rungs)
    summary = _runs(len(price.rungs)) + (f", {done} done already" if done else "")
    if price.rungs:
        summary += f": {duration(price.total_s)} on this machine, one after another, by probes"
        summary += f" ({price.rate / 1e9:.3g} GFLOP/s)"
        summary += f"; {price.memory / 1e6:,.0f} MB at the most" if price.memory else ""
    click.echo("\n".join([*lines, summary]))


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _ended(event: "ScalingRunEnded", as_json: bool) -> None:
    from likely.app.results.training_plan import duration

    result = event.result
    if as_json:
        click.echo(units.json_line({**asdict(result), "before": event.before}, **UNITS))
        return
    loss = "diverged: left out of every fit" if result.loss is None else f"loss {result.loss:.4f}"
    before = ", from before" if event.before else ""
    click.echo(f"  {result.run:<24}{loss}   {duration(result.seconds)}{before}")
