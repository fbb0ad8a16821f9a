"""`likely posterior`: a posterior over an adapter's weights, kept beside it, for error bars on what it says."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likely.app.cli.options import name_completion
from likely.app.cli.options.float_range import FloatRange
from likely.app.cli.options.opening import Progress, VerbGroup
from likely.app.cli.options.table_options import AdapterPlace, map_option, options
from likely.app.words.heat import sanitize_line
from likely.app.words.units import NATS, bits, json_line

if TYPE_CHECKING:
    from likely.engine.train.posterior.stored import FitFacts

ABOVE_0 = FloatRange(0, min_open=True)
adapter_argument = click.argument("adapter", type=AdapterPlace(), shell_complete=name_completion.adapters)


base_options = options(
    click.option("--json", "as_json", is_flag=True, help="One object on stdout."),
    click.option("--model", "-M", default="", help="Its base model, if not the one that its folder names."),
)
fitting_options = options(  # of fits that read rows
    click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of what is drawn."),
    map_option,
    click.option("--data", default="", help="The rows it was trained on, if not those that its folder names."),
    base_options,
)


@click.group(cls=VerbGroup)
def command() -> None:
    """Fit a posterior over an adapter's weights: how much its answers depend on the few rows it saw.

    It is kept in the adapter's folder; `likely explain -A ADAPTER` and the chat show "±" where it is there.
    """


@command.command()
@adapter_argument
@click.option(
    "--structure",
    type=click.Choice(["last", "kron"]),
    default="last",
    show_default=True,
    help="The last layer alone, by one forward pass, or every layer, by a pass forward and back.",
)
@click.option(
    "--prior-precision", type=ABOVE_0, metavar="NUMBER", help="Of the prior; if left out, that of the most evidence."
)
@click.option(
    "--draws", default=1, show_default=True, type=click.IntRange(1, 100), help="Tokens drawn at each trained position."
)
@fitting_options
def laplace(
    adapter: Path,
    structure: str,
    prior_precision: float | None,
    draws: int,
    model: str,
    data: str,
    mapped: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Fit a Gaussian about the trained weights, from the curvature of the loss on the rows (Kronecker-factored).

    \b
    likely posterior laplace my-adapter
    likely posterior laplace my-adapter --structure kron --prior-precision 100
    """
    from likely.engine.train.posterior import fit

    with Progress() as progress:
        opened = fit.open_adapter(adapter, model, progress.show)
        rows = fit.read_rows(opened, data, mapped, progress.show)
        posterior = fit.fit_laplace(
            opened,
            rows,
            last=structure == "last",
            precision=prior_precision,
            draws=draws,
            seed=seed,
            progress=progress.show,
        )
    _tell(adapter, posterior, as_json)


@command.command()
@adapter_argument
@click.option("--steps", default=100, show_default=True, type=click.IntRange(2), help="Further steps of training.")
@click.option("--rate", type=ABOVE_0, metavar="NUMBER", help="Learning rate; if left out, half of the adapter's own.")
@fitting_options
def swag(
    adapter: Path,
    steps: int,
    rate: float | None,
    model: str,
    data: str,
    mapped: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Fit a Gaussian to the weights that further training at a constant rate goes through; the adapter is not changed.

    \b
    likely posterior swag my-adapter --steps 200
    """
    from likely.engine.train.posterior import fit

    with Progress() as progress:
        opened = fit.open_adapter(adapter, model, progress.show)
        rows = fit.read_rows(opened, data, mapped, progress.show)
        posterior = fit.fit_swag(opened, rows, steps=steps, rate=rate, seed=seed, progress=progress.show)
    _tell(adapter, posterior, as_json)


@command.command()
@adapter_argument
@click.argument("others", nargs=-1, required=True, type=AdapterPlace())
@base_options
def ensemble(adapter: Path, others: tuple[Path, ...], model: str, as_json: bool) -> None:
    """Join ADAPTER and OTHERS, trained alike from other seeds, as members with equal weights.

    \b
    for s in 0 1 2 3 4; do likely tune rows.jsonl --seed $s --out member-$s; done
    likely posterior ensemble member-0 member-1 member-2 member-3 member-4
    """
    from likely.engine.train.posterior import fit

    with Progress() as progress:
        opened, differing = fit.open_adapter(adapter, model, progress.show), list[str]()
        posterior = fit.join(opened, others, differing.append)
    for line in differing:
        click.echo(sanitize_line(f"likely: {line}"), err=True)
    _tell(adapter, posterior, as_json)


def _tell(adapter: Path, facts: "FitFacts", as_json: bool) -> None:
    from likely.engine.train.posterior.stored import FILE

    if as_json:
        click.echo(json_line({"out": str(adapter / FILE), **asdict(facts)}, log_evidence=NATS))
        return
    parts = [f"wrote {adapter / FILE}: {facts.kind}"]
    if facts.rows:
        parts.append(f"{facts.rows} rows, {facts.tokens} targets")
    if facts.precision is not None:
        parts.append(f"prior precision {facts.precision:.4g}")
    if facts.log_evidence is not None:
        parts.append(f"log evidence {bits(facts.log_evidence):.1f} bits")
    click.echo(sanitize_line(" · ".join(parts)))
    click.echo(sanitize_line(f'likely explain -A {adapter} TEXT shows its "±", --chat QUESTION how sure the answer is'))
