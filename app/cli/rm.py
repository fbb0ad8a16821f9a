"""`likely rm`: remove a fetched model."""

from typing import TYPE_CHECKING

import click

from likely.app.heat import one_line

if TYPE_CHECKING:
    from likely.engine.made import Made


@click.command()
@click.argument("model")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--shared", is_flag=True, help="Also from the hub's cache, where other programs find it too.")
def command(model: str, yes: bool, shared: bool) -> None:
    """Remove MODEL from this machine: a fetched one, or an adapter or a model that was made here.

    What LM Studio or you have put here is never touched.

    \b
    likely rm smollm2
    likely rm my-adapter
    """
    from likely.engine import made
    from likely.engine.sources import store

    if one := made.find(model):
        _remove_made(one, yes)
        return
    info = store.removable(model, shared=shared)
    if not yes:
        whose = "" if store.is_ours(info) else " from the hub's cache, for every program that uses it"
        click.confirm(f"remove {info.name} ({info.nbytes / 1e6:,.0f} MB){whose}?", abort=True)
    store.remove(model, shared=shared)
    click.echo(one_line(f"{info.name} is removed: {info.nbytes / 1e6:,.0f} MB freed"))


def _remove_made(one: "Made", yes: bool) -> None:
    """Delete what was made here, or only forget it where it is gone. DataError where others' files lie in it."""
    from likely.engine import made
    from likely.engine.errors import DataError

    if others := made.strangers(one):
        raise DataError(f"{one.path} holds {', '.join(others[:3])} too, which was not made here: delete it yourself")
    size = f"{one.nbytes / 1e6:,.0f} MB" if one.there else ""
    if one.there and not yes:
        click.confirm(one_line(f"remove {one.name} ({one.kind}, {size}, {one.path})?"), abort=True)
    made.remove(one)
    click.echo(one_line(f"{one.name} is {f'removed: {size} freed' if size else 'forgotten: it was gone already'}"))
