"""`likely rm`: remove a fetched model."""

import click

from likely.app.heat import one_line


@click.command()
@click.argument("model")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--shared", is_flag=True, help="Also from the hub's cache, where other programs find it too.")
def command(model: str, yes: bool, shared: bool) -> None:
    """Remove MODEL from this machine. What LM Studio or you have put here is never touched."""
    from likely.engine.sources import store

    info = store.removable(model, shared=shared)
    if not yes:
        whose = "" if store.is_ours(info) else " from the hub's cache, for every program that uses it"
        click.confirm(f"remove {info.name} ({info.nbytes / 1e6:,.0f} MB){whose}?", abort=True)
    store.remove(model, shared=shared)
    click.echo(one_line(f"{info.name} is removed: {info.nbytes / 1e6:,.0f} MB freed"))
