"""`likely man`: the manual page, from the tables that `--help` reads."""

from collections.abc import Iterator
from importlib.metadata import version

import click

ENVIRONMENT = {
    "LIKELY_HOME": "The folder of conversations, settings and models that were fetched.",
    "LIKELY_MODELS": "More folders with models, separated as in PATH.",
    "LIKELY_MODEL": "The model, where --model is left out.",
    "LIKELY_API_KEY, LIKELY_SERVER_KEY": "The key that `likely serve` asks for; that `likely chat --server` brings.",
    "LIKELY_METAL": "0 leaves the GPU alone.",
    "LIKELY_COMPILE": "0 runs steps uncompiled.",
    "LIKELY_PACKED": "off keeps quantised weights out of the packed calls on a CPU.",
    "LIKELY_THEME": "light or dark, whatever the terminal says.",
    "LIKELY_ASCII": "Anything: the screen draws with ASCII alone.",
}
EXIT_STATUS = {
    "0": "Done.",
    "1": "A problem that a person can act on: one line on standard error.",
    "2": "A wrong call.",
    "130": "Interrupted.",
}


@click.command()
def command() -> None:
    """Print the manual page.

    \b
    likely man > likely.1
    man ./likely.1
    """
    click.echo("\n".join(_page()))


def _page() -> Iterator[str]:
    """The page, line by line, in roff's man macros (groff_man(7))."""
    from likely.app.cli import EVERYDAY, VERBS, likely

    top = click.Context(likely, info_name="likely")
    about, _, examples = (likely.help or "").partition("\b")
    yield f'.TH LIKELY 1 "" "likely {version("likely")}" "User Commands"'
    yield from (".SH NAME", f"likely \\- {_escaped(' '.join(about.split(':')[0].split()))}")
    yield from (".SH SYNOPSIS", ".B likely", "[\\fIVERB\\fR] [\\fIOPTIONS\\fR]")
    yield from (".SH DESCRIPTION", *_prose(about), *_example(examples))
    for title, names in (("EVERYDAY VERBS", EVERYDAY), ("LAB VERBS", [n for n in VERBS if n not in EVERYDAY])):
        yield f".SH {title}"
        for name in names:
            verb = likely.get_command(top, name)
            assert verb is not None
            yield from _verb(verb, click.Context(verb, info_name=name, parent=top))
    for title, table in (("ENVIRONMENT", ENVIRONMENT), ("EXIT STATUS", EXIT_STATUS)):
        yield f".SH {title}"
        for name, said in table.items():
            yield from _item(name, said)


def _verb(verb: click.Command, ctx: click.Context) -> Iterator[str]:
    """A verb, and those below it: how it is called, what it does, its options, all of them."""
    yield f'.SS "{_escaped(" ".join([ctx.command_path, *verb.collect_usage_pieces(ctx)]))}"'
    about, _, examples = (verb.help or "").partition("\b")
    yield from (*_prose(about), *_example(examples))
    for param in verb.get_params(ctx):
        if isinstance(param, click.Option) and param.name not in ("help", "help_all"):
            record = param.get_help_record(ctx)
            if record is not None:
                yield from _item(*record)
    for name in verb.list_commands(ctx) if isinstance(verb, click.Group) else ():
        below = verb.get_command(ctx, name)  # type: ignore[attr-defined]
        assert below is not None
        yield from _verb(below, click.Context(below, info_name=name, parent=ctx))


def _item(name: str, said: str) -> tuple[str, ...]:
    return ".TP", f".B {_escaped(name)}", _escaped(" ".join(said.split()))


def _prose(text: str) -> Iterator[str]:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    for at, words in enumerate(filter(None, paragraphs)):
        yield from (".PP",) * (at > 0)  # a heading begins one too
        yield _escaped(words)


def _example(text: str) -> Iterator[str]:
    """Lines as they stand; what follows an empty one is prose again."""
    lines, _, rest = text.strip("\n").partition("\n\n")
    if lines.strip():
        yield from (".PP", ".EX", *(_escaped(line.strip()) for line in lines.splitlines()), ".EE")
    if rest.strip():
        yield from (".PP", *_prose(rest.replace("\b", "")))


def _escaped(text: str) -> str:
    """No letter of it is a request of roff's, and a hyphen is the one that a shell takes."""
    line = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line
