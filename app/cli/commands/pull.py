"""`likely pull`: fetch a model."""

import click

from likely.app.cli.options import name_completion
from likely.app.cli.options.opening import Progress
from likely.app.words.heat import sanitize_line


@click.command()
@click.argument("model", shell_complete=name_completion.known)
def command(model: str) -> None:
    """Fetch MODEL: a short name of the catalogue, or a repository of the hub; tiny ones are made here in seconds.

    What the hub has goes into its cache, where mlx-lm and others find it too; an interrupted download goes on where it
    stopped.

    \b
    likely pull smollm2
    likely pull qwen3-4b
    likely pull tiny-characters     trained here, without any download
    likely pull mlx-community/Qwen3-0.6B-4bit
    """
    from likely.app.cli.options.choosing import gigabytes
    from likely.engine.weights.sources import store

    with Progress() as progress:
        info = store.pull(model, progress.show)
    size = gigabytes(info.nbytes)
    click.echo(
        sanitize_line(f"{info.name} is here: {size}, {info.family}, {info.quantization}, {info.path}; {info.source}")
    )
    if words := store.surprise(info):
        click.echo(words, err=True)
