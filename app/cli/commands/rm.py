"""`likely rm`: remove a fetched model."""

import sys
from typing import TYPE_CHECKING

import click

from likely.app.cli.options import name_completion
from likely.app.words.heat import sanitize_line
from likely.engine.base.errors import DataError

if TYPE_CHECKING:
    from likely.engine.base.files.artifacts import Artifact


@click.command()
@click.argument("model", shell_complete=name_completion.both)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--shared", is_flag=True, help="Also from the hub's cache, where other programs find it too.")
def command(model: str, yes: bool, shared: bool) -> None:
    """Remove MODEL from this machine: a fetched one, or an adapter or a model that was made here.

    What LM Studio or you have put here is never touched.

    \b
    likely rm smollm2
    likely rm my-adapter
    """
    from likely.engine.base.files import artifacts
    from likely.engine.weights.sources import store

    if one := artifacts.find(model):
        _remove_made(one, yes)
        return
    info = store.removable(model, shared=shared)
    if not yes:
        whose = "" if store.is_ours(info) else " from the hub's cache, for every program that uses it"
        _ask(f"remove {info.name} ({info.nbytes / 1e6:,.0f} MB){whose}?")
    store.remove(model, shared=shared)
    click.echo(sanitize_line(f"{info.name} is removed: {info.nbytes / 1e6:,.0f} MB freed"))


def _ask(question: str) -> None:
    """Ask whether to go on. DataError where nobody can answer, as standard input is at its end."""
    try:
        sure = click.confirm(question)
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():  # ctrl+c, or ctrl+d
            raise
        click.echo()
        raise DataError("nothing was removed, as nobody was there to answer: --yes removes unasked") from None
    if not sure:
        raise click.Abort


def _remove_made(one: "Artifact", yes: bool) -> None:
    """Delete what was made here, or only forget it where it is gone. DataError where others' files lie in it."""
    from likely.engine.base.files import artifacts

    if others := artifacts.foreign_files(one):
        raise DataError(f"{one.path} holds {', '.join(others[:3])} too, which was not made here: delete it yourself")
    size = f"{one.nbytes / 1e6:,.0f} MB" if one.there else ""
    if one.there and not yes:
        _ask(sanitize_line(f"remove {one.name} ({one.kind}, {size}, {one.path})?"))
    artifacts.remove(one)
    click.echo(sanitize_line(f"{one.name} is {f'removed: {size} freed' if size else 'forgotten: it was gone already'}"))
