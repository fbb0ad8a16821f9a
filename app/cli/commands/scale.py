"""`likely scale`: what more parameters, tokens or compute would give, by the law of runs that were made."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options.opening import VerbGroup
from likely.app.cli.reports import scale_runs, scale_show, scale_toy
from likely.app.words import units

if TYPE_CHECKING:
    from likely.engine.measure.scaling.report import SweepReport

MEANS = {
    "E": "what no model gets below",
    "A": "of parameters",
    "B": "of tokens",
    "alpha": "how fast parameters pay",
    "beta": "how fast tokens pay",
    "a": "best size N ~ C^a",
}
UNITS = dict.fromkeys(("E", "loss", "losses", "told", "seen"), units.PER_TOKEN) | dict.fromkeys(
    ("compute", "at"), "FLOP"
)
SHOWN = 12  # rows of a table of runs


class Compute(click.ParamType):
    """A budget in floating-point operations, above 0."""

    name = "flop"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            budget = float(value)
        except ValueError:
            budget = math.nan
        if not 0 < budget < math.inf:
            self.fail(f"takes floating-point operations above 0 such as 1e18, got {value!r}", param, ctx)
        return budget


@click.group(cls=VerbGroup)
def command() -> None:
    """Scaling laws: how loss falls with parameters, tokens and compute, from runs that are made here or elsewhere."""


command.add_command(scale_runs.plan)
command.add_command(scale_runs.run)
command.add_command(scale_show.show)
command.add_command(scale_toy.toy)


@command.command()
@click.argument("runs", type=click.Path(path_type=Path, dir_okay=False))
@scale_show.mapped_option
@click.option("--keep-all", is_flag=True, help="Leave no run out; a run that cannot be fitted is then an error.")
@click.option("--budget", "budgets", multiple=True, type=Compute(), help="What this much compute buys; repeatable.")
@click.option(
    "--refits",
    default=2000,
    show_default=True,
    type=click.IntRange(100, 100_000),
    help="Refits that the intervals are made of.",
)
@click.option("--seed", default=0, type=click.IntRange(0), help="Seed of the refits.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
def fit(
    runs: Path,
    mapped: tuple[str, ...],
    keep_all: bool,
    budgets: tuple[float, ...],
    refits: int,
    seed: int,
    as_json: bool,
) -> None:
    """Fit L(N, D) = E + A/N^alpha + B/D^beta to RUNS, a CSV file with columns parameters, tokens and loss (nats).

    \b
    likely scale fit runs.csv --budget 1e18
    likely scale fit theirs.csv --map "parameters=Model Size" --map "compute=Training FLOP" --json
    """
    from likely.engine.measure.scaling.report import report
    from likely.engine.measure.scaling.sweep import mapping, read_runs

    usable, excluded = read_runs(runs, mapping(mapped), keep_all=keep_all)
    result = report(usable, excluded, budgets, count=refits, seed=seed, keep_all=keep_all)
    if as_json:
        click.echo(units.json_line(_finite(_object(result)), **UNITS))
    else:
        _show(result)


def _object(report: "SweepReport") -> dict[str, Any]:
    fitted = report.fitted
    return {
        **asdict(fitted.law),
        "objective": fitted.objective,
        "n": len(fitted.runs),
        "intervals": {name: list(span) for name, span in report.intervals.items()},
        "left_out": [asdict(run) for run in report.left_out],
        "a": fitted.law.size_exponent,
        "coverage": report.coverage,
        "sensitivity": [asdict(refit) for refit in report.sensitivity],
        "held_out": [asdict(run) for run in report.foretold],
        "broken": None if report.broken is None else asdict(report.broken),
        "repeated": None if report.repeated is None else asdict(report.repeated),
        "without_embedding": None if report.without_embedding is None else asdict(report.without_embedding.law),
        "iso_flop": [{**asdict(group), "bias": group.bias(fitted.law)} for group in report.iso_flop],
        "exponents": {
            name: None
            if estimate is None
            else {"a": estimate.mean, "low": estimate.interval[0], "high": estimate.interval[1]}
            for name, estimate in (("iso_flop", report.by_parabolas), ("envelope", report.by_envelope))
        },
        "budgets": [asdict(purchase) | {"open": purchase.is_open} for purchase in report.purchases],
    }


def _finite(value: Any) -> Any:
    """A value for JSON: numbers that are not finite (the runs do not determine them) become None, at any depth."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return units.finite(value) if isinstance(value, float) else value


def _show(report: "SweepReport") -> None:
    for part in (_law, _doubts, _best_sizes, _forecasts, _other_forms, _purchases):
        lines = list(part(report))
        if lines:
            click.echo("\n".join(lines) + "\n")


def _law(report: "SweepReport") -> Iterator[str]:
    law, runs, off = report.fitted.law, report.fitted.runs, report.fitted.residuals
    values = {**asdict(law), "a": law.size_exponent}
    yield f"L(N, D) = E + A/N^alpha + B/D^beta   C = 6 N D   {len(runs)} runs, 95 % of {len(report.laws)} refits"
    for name, means in MEANS.items():
        low, high = report.intervals[name]
        held = "" if report.coverage is None or name not in report.coverage else f"   holds {report.coverage[name]:.0%}"
        yield f"  {name:<6}{values[name]:>10.4g}  {f'[{low:.4g}, {high:.4g}]':<22}  {means}{held}"
    if report.fitted.at_limit:
        yield "  E is at its lower limit, 0: these runs do not determine it, so its interval has no known coverage"
    if report.coverage is not None:
        yield "  so few runs: simulated anew from this law, an interval held the truth as often as is said beside it"
    far = int(abs(off).argmax())
    residuals = f"residuals sd {off.std():.4f}, largest {off[far]:+.4f} in row {runs.row[far]}"
    yield f"  objective {report.fitted.objective:.6g}; {residuals}"
    yield from (f"  left out: {run}" for run in report.left_out[:SHOWN])
    if len(report.left_out) > SHOWN:
        yield f"  left out: {len(report.left_out) - SHOWN} more (--json names them)"


def _doubts(report: "SweepReport") -> Iterator[str]:
    yield "What hangs on single runs"
    for refit in report.sensitivity:
        yield f"  {refit.without:<34}alpha {refit.alpha:.4f}   beta {refit.beta:.4f}   a {refit.a:.4f}"
    if report.without_embedding is not None:
        law = report.without_embedding.law
        values = f"alpha {law.alpha:.4f}   beta {law.beta:.4f}   a {law.size_exponent:.4f}"
        yield f"  {'embedding parameters not counted':<34}{values}"


def _best_sizes(report: "SweepReport") -> Iterator[str]:
    if report.iso_flop:
        yield "Best size by parabolas of one budget   (bias: the law's own parabola at these sizes over its best size)"
    for budget in report.iso_flop:
        best = "not between them" if budget.best is None else f"{budget.best:.3g}"
        bias = budget.bias(report.fitted.law)
        tail = "" if bias is None else f"   bias {bias:.3f}"
        yield f"  C {budget.compute:<10.3g}{len(budget.sizes)} sizes, x{budget.window:<6.3g} best {best}{tail}"
    for name, exponent in (("parabolas", report.by_parabolas), ("the envelope", report.by_envelope)):
        if exponent is not None:
            low, high = exponent.interval
            yield f"  a by {name}: {exponent.mean:.3f} [{low:.3f}, {high:.3f}], {exponent.n} points"


def _forecasts(report: "SweepReport") -> Iterator[str]:
    if not report.foretold:
        return
    yield "Foretold from the smaller runs alone, then seen"
    for run in report.foretold[-SHOWN:]:
        forecast = f"told {run.told:.4f} [{run.low:.4f}, {run.high:.4f}]"
        yield f"  C {run.compute:<10.3g}{forecast}   seen {run.seen:.4f}   {'inside' if run.is_inside else 'outside'}"
    yield f"  {sum(run.is_inside for run in report.foretold)} of {len(report.foretold)} inside"


def _other_forms(report: "SweepReport") -> Iterator[str]:
    if (bent := report.broken) is not None:
        compute = report.fitted.runs.compute
        if compute.min() < bent.at < compute.max():
            words = f"C^-{bent.before:.3f}, from {bent.at:.2g} on C^-{bent.after:.3f}"
        else:
            words = "none within these runs"
        yield f"With a break, along the envelope: {words}"
    if (again := report.repeated) is not None:
        worth = f"each repetition worth less: R* {again.half_life:.3g} repetitions"
        if not again.worn:
            worth = f"nothing shows wear, by up to {again.repetitions:.3g} repetitions"
        rest = f"alpha {again.law.alpha:.4f}, beta {again.law.beta:.4f}, objective {again.objective:.6g}"
        yield f"Tokens read again, {worth}; {rest}"


def _purchases(report: "SweepReport") -> Iterator[str]:
    yield "What compute buys"
    for bought in report.purchases:
        head = f"  C {bought.compute:<10.3g}N {bought.parameters:<10.3g}D {bought.tokens:<10.3g}"
        if bought.intervals is None:
            yield f"{head}open: {bought.times:.3g} times the largest run, and a law is believed up to ten times it"
        else:
            low, high = bought.intervals["loss"]
            yield f"{head}loss {bought.loss:.4f} [{low:.4f}, {high:.4f}]"
