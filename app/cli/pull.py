"""`likely pull`: fetch a model."""

import click

from likely.app.cli.opening import Progress
from likely.app.heat import one_line


@click.command()
@click.argument("model")
def command(model: str) -> None:
    """Fetch MODEL: a short name of the catalogue, or a repository of the hub.

    What the hub has goes into its cache, where mlx-lm and others find it too; an interrupted download goes on where it
    stopped.

    \b
    likely pull smollm2
    likely pull qwen3-4b
    likely pull mlx-community/Qwen3-0.6B-4bit
    """
    from likely.engine.sources import store

    with Progress() as progress:
        info = store.pull(model, progress.show)
    click.echo(
        one_line(f"{info.name} is here: {info.nbytes / 1e6:,.0f} MB, {info.family}, {info.quantization}, {info.path}")
    )
    if words := store.surprise(info):
        click.echo(words, err=True)
