"""`likely pull`: fetch a model into the store."""

import click

from app.cli.opening import Progress


@click.command()
@click.argument("model")
def command(model: str) -> None:
    """Fetch MODEL: an alias, or a repository of the hub.

    \b
    likely pull smollm2
    likely pull mlx-community/Qwen3-0.6B-4bit
    """
    from engine.sources import store

    with Progress() as progress:
        info = store.pull(model, progress.show)
    click.echo(f"{info.name} is here: {info.nbytes / 1e6:,.0f} MB, {info.family}, {info.quantization}")
