"""`likely completion`: the script that makes a shell complete this program's commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  eval "$(likely completion bash)"       (in ~/.bashrc)
    zsh:   eval "$(likely completion zsh)"        (in ~/.zshrc)
    fish:  likely completion fish | source        (in ~/.config/fish/config.fish)
    """
    from likely.app.cli import likely

    cls = get_completion_class(shell)
    assert cls is not None
    click.echo(cls(likely, {}, "likely", "_LIKELY_COMPLETE").source())
