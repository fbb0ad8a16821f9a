"""`likely chat`: the full screen, or with --plain a conversation line by line."""

import os
import sys

import click
from click.core import ParameterSource

from app.cli.opening import adapter_option, model_option, open_session, parallel_option, weighed_adapter
from app.cli.sampling import read_recipe, sampling_options


@click.command()
@model_option
@adapter_option
@click.option("--plain", is_flag=True, help="Lines instead of a full screen: for pipes, ssh and screen readers.")
@click.option("--resume", metavar="ID", help="Reopen a conversation where it was left.")
@click.option("--system", metavar="TEXT", help="System prompt (--plain).")
@parallel_option
@sampling_options
def command(
    model: str,
    adapters: tuple[str, ...],
    plain: bool,
    resume: str | None,
    system: str | None,
    parallel: str | None,
    **values: object,
) -> None:
    """Chat with a model on this machine.

    \b
    likely chat                       full screen
    likely chat -M qwen3-4b           ... with this model, from now on also where none is named
    likely chat --plain --temp 0.7    lines; ctrl-c stops an answer, ctrl-d ends
    """
    if not plain and os.environ.get("TERM") == "dumb" and sys.stdout.isatty():
        click.echo("this terminal draws no full screen (TERM=dumb): likely chat --plain, line by line", err=True)
        plain = True
    if plain:
        from app.plain import converse

        recipe, run = read_recipe(values)
        session = open_session(model, adapters=adapters, parallel=parallel)
        if click.get_current_context().get_parameter_source("model") is ParameterSource.COMMANDLINE:
            from engine.sources import preferences

            preferences.choose(model)
        converse(session, recipe, run, system=system)
        return
    if parallel is not None:
        raise click.UsageError("the full screen is one process's: use --plain with --parallel")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the full screen needs a terminal; use --plain in a pipe")
    from app.tui import run as screen

    sys.exit(screen(model=model or None, resume=resume, adapters=[weighed_adapter(given) for given in adapters]))
