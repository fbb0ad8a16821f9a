"""`likely chat`: the full screen, or with --plain a conversation line by line."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from likely.app.cli.options.opening import (
    RuledCommand,
    activation_option,
    adapter_option,
    check_context,
    context_option,
    draws_no_screen,
    model_option,
    on_terminal,
    open_session,
    parallel_option,
    rope_option,
    system_option,
    weighed_adapter,
    with_rope,
)
from likely.app.cli.options.sampling import read_recipe, sampling_options, says_recipe
from likely.app.store import system_prompts
from likely.engine.base.files.home import home
from likely.engine.sampling.presets import ORDERS

if TYPE_CHECKING:
    from likely.app.tui.chat.start import Start


@click.command("chat", cls=RuledCommand)
@model_option
@rope_option
@context_option
@adapter_option
@click.option("--plain", is_flag=True, help="Lines instead of a full screen: for pipes, ssh and screen readers.")
@click.option("--resume", metavar="ID", help="Reopen a conversation where it was left.")
@system_option
@click.option("--server", metavar="URL", help="Watch the requests of a server of likely's, as they run.")
@click.option(
    "--server-key",
    envvar="LIKELY_SERVER_KEY",
    type=click.Path(dir_okay=False),
    help="File with its key for watching. Default: that of this user's server on this machine, by its port.",
)
@activation_option
@parallel_option
@sampling_options
def command(
    model: str,
    rope: str | None,
    context: int | None,
    adapters: tuple[str, ...],
    plain: bool,
    resume: str | None,
    system: str | None,
    server: str | None,
    server_key: str | None,
    activation_bits: int | None,
    parallel: str | None,
    **values: Any,
) -> None:
    """Chat with a model on this machine.

    \b
    likely chat                       full screen
    likely chat -M qwen3-4b           ... with this model, from now on also where none is named
    likely chat --plain --temp 0.7    lines; ctrl-c stops an answer, ctrl-d ends
    likely chat --server http://127.0.0.1:8080    the requests of a likely serve, token by token
    """
    system = system_prompts.read(home(), system) if system else system
    model = with_rope(model, rope)
    if not plain and draws_no_screen():
        if resume is not None:
            raise click.UsageError("--resume is for the full screen, which this terminal does not draw (TERM=dumb)")
        click.echo("this terminal draws no full screen (TERM=dumb): likely chat --plain, line by line", err=True)
        if server is not None:
            raise click.UsageError("--server is for the full screen, which this terminal does not draw (TERM=dumb)")
        plain = True
    if plain:
        from likely.app.cli.generate.text_chat import converse

        recipe, run = read_recipe(values)
        session = open_session(
            model, adapters=adapters, parallel=parallel, activation_bits=activation_bits, context=context
        )
        if click.get_current_context().get_parameter_source("model") is ParameterSource.COMMANDLINE:
            from likely.engine.base.files import preferences

            preferences.choose(model)
        converse(session, recipe, run, system=system, masks=values["max_tokens"])
        return
    if parallel is not None:
        raise click.UsageError("the full screen is one process's: use --plain with --parallel")
    if not on_terminal():
        raise click.UsageError("the full screen needs a terminal; use --plain in a pipe")
    if server is not None:
        from likely.app.serve.watch.address import ServerAddress
        from likely.app.tui import watch

        sys.exit(watch(ServerAddress.read(server, home(), server_key or "")))
    from likely.app.tui import run as screen

    check_context(context, model)
    weighed = [weighed_adapter(adapter) for adapter in adapters]
    start = _start(values, system)
    bits = activation_bits
    sys.exit(screen(model or None, resume, adapters=weighed, start=start, activation_bits=bits, context=context))


def _start(values: Mapping[str, Any], system: str | None) -> "Start | None":
    """The settings with which the full screen's conversations begin; None where none was given."""
    recipe, limits = read_recipe(values)
    sampled = says_recipe(values)
    if not (sampled or system or values["seed"] is not None or values["max_tokens"]):
        return None
    from likely.app.tui.chat.start import Start

    order = tuple(kind.__name__ for kind in ORDERS[values["order"]]) if sampled else ()
    seed = None if values["seed"] is None else limits.seed
    return Start(recipe if sampled else None, order, system or "", seed, values["max_tokens"])
