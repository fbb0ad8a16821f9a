"""`likely rm`: remove a fetched model from the store."""

import click


@click.command()
@click.argument("model")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def command(model: str, yes: bool) -> None:
    """Remove MODEL from this machine. Folders and files outside the store are never touched."""
    from engine.sources import store

    info = store.find(model)
    if not yes:
        click.confirm(f"remove {info.name} ({info.nbytes / 1e6:,.0f} MB)?", abort=True)
    store.remove(model)
    click.echo(f"{info.name} is removed: {info.nbytes / 1e6:,.0f} MB freed")
