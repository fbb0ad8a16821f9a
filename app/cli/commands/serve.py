"""`likely serve`: an endpoint on this machine that speaks OpenAI's protocol, Anthropic's and Ollama's."""

from dataclasses import replace

import click

from likely.app.cli.options import name_completion
from likely.app.cli.options.float_range import FloatRange
from likely.app.cli.options.opening import (
    RuledCommand,
    activation_option,
    check_context,
    context_option,
    default_model,
    rope_option,
    with_rope,
)
from likely.app.serve.bounds import BOUNDS
from likely.app.words.heat import visible
from likely.engine.base.errors import ParameterError


@click.command("serve", cls=RuledCommand)
@click.option(
    "--model",
    "-M",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=name_completion.models,
    help="A model to load at the start; repeatable. A request that names none means the first.",
)
@rope_option
@context_option
@click.option(
    "--adapter",
    "-A",
    "adapters",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    help="An adapter that requests may name, as its folder is called.",
)
@click.option("--only", is_flag=True, help="Serve these models alone, not the others on this machine.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any but this machine's own needs --api-key.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--api-key", envvar="LIKELY_API_KEY", metavar="KEY", help="Answer only requests with this key.")
@click.option(
    "--memory",
    type=FloatRange(min=0, min_open=True),
    metavar="GB",
    help="Most that loaded models may take. Default: what a GPU holds well, else half of the memory.",
)
@click.option(
    "--running", type=click.IntRange(1, 128), default=BOUNDS.running, show_default=True, help="Requests drawn at once."
)
@click.option(
    "--waiting", type=click.IntRange(0, 4096), default=BOUNDS.waiting, show_default=True, help="Requests that may wait."
)
@activation_option
@click.option("--quiet", "-q", is_flag=True, help="Print no line for each request.")
def command(
    models: tuple[str, ...],
    rope: str | None,
    context: int | None,
    adapters: tuple[str, ...],
    only: bool,
    host: str,
    port: int,
    api_key: str | None,
    memory: float | None,
    running: int,
    waiting: int,
    activation_bits: int | None,
    quiet: bool,
) -> None:
    """Serve models of this machine over HTTP: chat, completions, embeddings, with every log-probability.

    \b
    likely serve
    likely serve -M smollm2 --port 9000
    curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hi"}]}'
    """
    from likely.app.serve.server import ServeOptions, serve

    if api_key is not None and not api_key.strip():
        raise ParameterError("--api-key is empty, so that anybody would be served: give a key, or leave it out")
    options = ServeOptions(
        tuple(with_rope(model, rope) for model in models or (default_model(),)),
        host,
        port,
        api_key or "",
        adapters,
        int((memory or 0) * 1e9),
        only,
        replace(BOUNDS, running=running, waiting=waiting),
        quiet,
        activation_bits,
        context,
    )
    for model in options.models:
        check_context(context, model)
    serve(
        options,
        lambda lines: click.echo("\n".join(map(visible, lines.splitlines())), err=True),
        lambda address: click.echo(f"likely serves {options.models[0]} at {address}", err=True),
    )
