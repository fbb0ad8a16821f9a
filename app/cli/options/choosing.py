"""Which model, asked once on the terminal: of those on this machine, or of those that suit its memory."""

import sys

import click

from likely.app.words.heat import sanitize_line
from likely.engine.base.errors import CheckpointError
from likely.engine.base.files import preferences
from likely.engine.base.machine import hardware
from likely.engine.weights.sources import store
from likely.engine.weights.sources.fetch import catalogue
from likely.engine.weights.sources.model_info import ModelInfo

SHOWN = 8


def ask() -> str:
    """The name of the model that the person chooses, which is remembered.

    CheckpointError, in one line that says how to choose, where standard input or error is no terminal.
    """
    here = store.list()
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CheckpointError(_how(here))
    if here:
        click.echo("Which model? (asked once; -M names another)", err=True)
        names = [info.name for info in here]
        rows = [f"{info.name:<36} {gigabytes(info.nbytes):>8}  {info.source}" for info in here]
    else:
        memory = hardware.memory()
        offered = catalogue.offers(memory)
        offered = [*offered[: SHOWN - 1], offered[-1]] if len(offered) > SHOWN else offered
        click.echo(f"No model is on this machine yet. These suit its {memory / 2**30:.0f} GB of memory:", err=True)
        names = [known.name for known in offered]
        rows = [
            f"{known.name:<14} {gigabytes(known.nbytes):>8}  {known.license:<10} {known.good_for}" for known in offered
        ]
    for number, row in enumerate(rows, 1):
        click.echo(sanitize_line(f"{number:>3}  {row}"), err=True)
    number = click.prompt("number", type=click.IntRange(1, len(names)), default=1, err=True)
    preferences.choose(names[number - 1])
    return names[number - 1]


def _how(here: tuple[ModelInfo, ...]) -> str:
    if here:
        names = ", ".join(info.name for info in here[:3]) + (", ..." if len(here) > 3 else "")
        return (
            f"{len(here)} models are here and none is chosen ({names}): name one with -M, "
            "or choose one for good with `likely models --default NAME`"
        )
    small = catalogue.KNOWN[catalogue.DEFAULT]
    best = catalogue.offers(hardware.memory())[0]
    return (
        f"no model is on this machine: fetch one with `likely pull {best.name}` ({gigabytes(best.nbytes)}) "
        f"or `likely pull {small.name}` ({gigabytes(small.nbytes)}), or name one with -M"
    )


def gigabytes(nbytes: int) -> str:
    """A size in bytes as text, in GB, MB, or kB."""
    if nbytes < 1e6:
        return f"{nbytes / 1e3:.0f} kB"
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"
