"""`likely chat`: the full screen, or with --plain a conversation line by line."""

import sys

import click

from app.cli.opening import model_option, open_session, parallel_option
from app.cli.sampling import read_recipe, sampling_options


@click.command()
@model_option
@click.option("--plain", is_flag=True, help="Lines instead of a full screen: for pipes, ssh and screen readers.")
@click.option("--resume", metavar="ID", help="Reopen a conversation where it was left.")
@click.option("--system", metavar="TEXT", help="System prompt (--plain).")
@parallel_option
@sampling_options
def command(
    model: str, plain: bool, resume: str | None, system: str | None, parallel: str | None, **values: object
) -> None:
    """Chat with a model on this machine.

    \b
    likely chat                       full screen
    likely chat --plain --temp 0.7    lines; ctrl-c stops an answer, ctrl-d ends
    """
    if plain:
        from app.plain import converse

        recipe, run = read_recipe(values)
        converse(open_session(model, parallel=parallel), recipe, run, system=system)
        return
    if parallel is not None:
        raise click.UsageError("the full screen is one process's: use --plain with --parallel")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the full screen needs a terminal; use --plain in a pipe")
    from app.tui import run as screen

    sys.exit(screen(model=model, resume=resume))
