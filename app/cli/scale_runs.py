"""`likely scale plan` and `run`: what a ladder of runs costs on this machine, and the runs themselves."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.opening import Progress
from app.interruption import INTERRUPTED

if TYPE_CHECKING:
    from engine.scaling.cost import LadderCost
    from engine.scaling.plan import LadderPlan, Rung
    from engine.scaling.running import RungEnded, RungTrainer

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
    _, rungs, left, found = _planned(ladder)
    if as_json:
        runs = [{**asdict(r), "name": r.name, "seconds": s} for r, s in zip(found.rungs, found.seconds, strict=True)]
        total = {"seconds": found.total_s, "rate": found.rate if found.rungs else None, "memory": found.memory}
        click.echo(json.dumps({"runs": runs, "done": len(rungs) - len(runs), "left_out": left, **total}))
        return
    _tell(rungs, left, found)


@click.command()
@ladder
@click.option(
    "--within",
    default=24.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
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
    from app.training_plan import duration
    from engine.errors import DataError
    from engine.scaling import running

    read, rungs, left, found = _planned(ladder)
    if not as_json:
        _tell(rungs, left, found)
    if found.total_s > within * 3600:
        raise DataError(
            f"{ladder}: its {len(found.rungs)} runs take {duration(found.total_s)} on this machine, more than --within "
            f"{within:g} hours: fewer or smaller runs, or allow more"
        )
    try:
        with Progress() as progress:
            for event in running.run(read, rungs, trainer(read)):
                match event:
                    case running.RungMoved(rung, tokens, loss):
                        progress.show(f"{rung.name} · loss {loss:.3f}", tokens, rung.tokens)
                    case running.RungEnded():
                        progress.show("", 0, 0)
                        _ended(event, as_json)
                    case running.RungElsewhere(rung) if not as_json:
                        click.echo(f"  {rung.name}: another process has it", err=True)
    except KeyboardInterrupt:
        click.echo("stopped; what was trained is kept, and the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)
    if not as_json:
        click.echo(f"the table: {read.out / running.TABLE}")


def trainer(plan: "LadderPlan") -> "RungTrainer":
    """Who trains the runs of a plan here."""
    from engine.scaling.rung_trainer import PretrainRungs

    return PretrainRungs(plan)


def _planned(path: Path) -> "tuple[LadderPlan, list[Rung], list[str], LadderCost]":
    """The plan of a file, its runs and what was left out, and the cost of those that are not done."""
    from engine import machine
    from engine.errors import DataError
    from engine.scaling import cost, plan, running

    read = plan.read_plan(path)
    teacher = trainer(read)
    with Progress() as progress:
        progress.show("looking at the sizes", 0, 0)
        sizes = {size: teacher.facts(size).parameters for size in read.sizes}
        rungs, left = read.rungs(sizes)
        if not rungs:
            raise DataError(f"{path} has no run: {left[0]}")
        done = [each.run for each in running.results(read.out)]
        missing = [rung for rung in rungs if rung.name not in done]
        probes = []
        for number, size in enumerate(asked := cost.chosen({rung.size: rung.parameters for rung in missing})):
            progress.show(f"timing {size}", number, len(asked))
            probes.append(teacher.probe(size))
    found = cost.cost(missing, probes)
    cost.check_memory(found, machine.memory())
    return read, rungs, left, found


def _tell(rungs: "list[Rung]", left: list[str], found: "LadderCost") -> None:
    from app.training_plan import duration

    lines = [f"  {'run':<24}{'N':>12}{'D':>14}{'C = 6 N D':>12}  here"]
    for rung, seconds in list(zip(found.rungs, found.seconds, strict=True))[:SHOWN]:
        lines.append(
            f"  {rung.name:<24}{rung.parameters:>12,}{rung.tokens:>14,}{rung.compute:>12.2e}  {duration(seconds)}"
        )
    if len(found.rungs) > SHOWN:
        lines.append(f"  {len(found.rungs) - SHOWN} more")
    lines += [f"  left out: {line}" for line in left]
    done = len(rungs) - len(found.rungs)
    said = f"{len(found.rungs)} runs" + (f", {done} done already" if done else "")
    if found.rungs:
        said += f": {duration(found.total_s)} on this machine, one after another, by probes"
        said += f" ({found.rate / 1e9:.3g} GFLOP/s)"
        said += f"; {found.memory / 1e6:,.0f} MB at the most" if found.memory else ""
    click.echo("\n".join([*lines, said]))


def _ended(event: "RungEnded", as_json: bool) -> None:
    from app.training_plan import duration

    result = event.result
    if as_json:
        click.echo(json.dumps({**asdict(result), "before": event.before}))
        return
    loss = "diverged: left out of every fit" if result.loss is None else f"loss {result.loss:.4f}"
    before = ", from before" if event.before else ""
    click.echo(f"  {result.run:<24}{loss}   {duration(result.seconds)}{before}")
