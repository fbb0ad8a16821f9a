"""The command line. `__init__.py` lists the commands and imports each only when it runs.

Read first: __init__.py. Uses: jobs, lessons, results, serve, store, tools, tui, words.
"""

import errno
import gc
import os
import sys
from importlib import import_module

import click

from likely.app.cli.generate import streams
from likely.app.words import interruption
from likely.app.words.heat import sanitize_line, visible
from likely.metal.errors import LikelyError

VERBS = {
    "chat": "Chat on the full screen, or line by line with --plain.",
    "learn": "Learn what a language model is, in twelve chapters on a model of yours.",
    "run": "Answer one prompt on stdout.",
    "fill": "Fill the holes of a text, in any order, by a diffusion model.",
    "reason": "Think about one question several times, and choose an answer.",
    "explain": "Show what a model thinks of every token of a given text.",
    "eval": "Measure models on tasks and texts, with error bars.",
    "inside": "Look inside a model: layers, heads, embeddings, causes.",
    "synth": "Make rows to train on, by a model, checked.",
    "pretrain": "Train a model from random weights on your own text.",
    "tune": "Fine-tune a model on rows of text.",
    "posterior": "Measure how much an adapter's answers depend on the few rows it saw.",
    "estimate": "Say what a few rows are worth: learning curves, transfer, starts, bounds.",
    "bench": "Measure how fast a model runs on this machine.",
    "quantize": "Write a model in fewer bits, and measure what that costs.",
    "fuse": "Make an adapter part of its model.",
    "diff": "Show how two models differ on a text.",
    "scale": "Fit scaling laws to runs: what more parameters, tokens or compute would give.",
    "serve": "Serve models over HTTP, as OpenAI's, Anthropic's and Ollama's clients ask.",
    "models": "List the models and adapters that are here.",
    "pull": "Fetch a model.",
    "rm": "Remove a model that was fetched, or what was made here.",
    "prove": "Prove, live, that samplers and searches have the laws that they should.",
    "doctor": "Say what this machine offers and how to mend what is slow.",
    "completion": "Print the completion script for a shell.",
    "man": "Print the manual page.",
}


EVERYDAY = ("chat", "learn", "run", "tune", "eval", "fuse", "quantize", "serve", "models", "pull", "rm", "doctor")
ALIASES = {  # words of elsewhere
    "train": "tune", "finetune": "tune", "fine-tune": "tune", "ls": "models", "list": "models", "generate": "run",
    "evaluate": "eval", "merge": "fuse", "download": "pull", "remove": "rm", "benchmark": "bench",
}  # fmt: skip
NEAREST = {"export": "fuse --out (an adapter in its model) or quantize --gguf (a model as one file)"}
NEAREST["convert"] = NEAREST["export"]


# errors without a name of a file that a disk makes; ENOENT is of no folder for temporary files
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENOENT)
WRITING = "a file could not be written"


class Verbs(click.Group):
    """Loads a verb's module only when it is called: the start of `likely run` must not pay for the screen's imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        gc.disable()  # what modules make stays: searching it for garbage took a tenth of the start
        try:
            command: click.Command = import_module(f"likely.app.cli.commands.{name}").command
        finally:
            gc.freeze()  # else the next search goes through all of it
            gc.enable()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Everyday"):
            formatter.write_dl([(name, VERBS[name]) for name in EVERYDAY])
        with formatter.section("Lab"):
            formatter.write_dl([(name, about) for name, about in VERBS.items() if name not in EVERYDAY])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        match args:
            case ["version"]:
                from importlib.metadata import version

                click.echo(f"likely {version('likely')}")
                ctx.exit()
            case ["help"]:
                click.echo(ctx.get_help())
                ctx.exit()
            case ["help", *of]:
                args = [*of, "--help"]
        args = [ALIASES.get(args[0], args[0]), *args[1:]]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = NEAREST.get(args[0]) or " or ".join(get_close_matches(args[0], [*VERBS, *ALIASES], 2))
            meant = f" Did you mean {near}?" if near else ""
            ways = "" if near else " A prompt stands behind likely run, a model in likely chat -M MODEL."
            said = f"{error.message.rstrip('.')}.{meant}{ways} The commands are {', '.join(VERBS)}."
            raise click.UsageError(said, ctx) from None


@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="likely", message="%(prog)s %(version)s")
@click.pass_context
def likely(ctx: click.Context) -> None:
    """A language-model lab in the terminal: chat with a model that runs on this machine, move its sampling while it
    speaks, and see the distribution that every token was drawn from.

    \b
    likely                                 open the chat
    likely run "Why is the sky blue?"      one answer on stdout
    likely explain "The sky is blue."      surprisal of every token of a text
    """
    if "MLX_RANK" in os.environ:
        from likely.app.cli.commands import distributed_launch

        distributed_launch.check(ctx.invoked_subcommand)
    if ctx.invoked_subcommand is None:
        from likely.app.cli.options.opening import draws_no_screen, on_terminal

        model = os.environ.get("LIKELY_MODEL", "")
        if on_terminal() and not draws_no_screen():  # the options, of which there are none, would import numpy
            from likely.app import tui

            sys.exit(tui.run(model))
        command = Verbs.get_command(ctx.command, ctx, "chat")  # type: ignore[arg-type]
        assert command is not None
        ctx.invoke(command, model=model)


def main() -> None:
    """The entry point: run a verb, and turn what a person can act on into one line and an exit code."""
    settled = interruption.settle()
    streams.settle()
    streams.allow_files()
    if "MLX_RANK" in os.environ or "OMPI_COMM_WORLD_SIZE" in os.environ:
        from likely.app.cli.commands import distributed_launch

        sys.exit(distributed_launch.run(_run))
    try:
        code = _run()
    except KeyboardInterrupt:  # behind the verb, which had ended or told of its own interruption
        code = interruption.INTERRUPTED
    except Exception:
        if not settled.came:
            raise
        click.echo("likely: stopped", err=True)  # a module in C that was being imported made an ImportError of it
        code = interruption.INTERRUPTED
    interruption.leave()
    sys.exit(code)


def _run() -> int:
    """The exit code of the verb that was called. No line has a byte that moves a terminal: files choose their words."""
    try:
        code = likely.main(standalone_mode=False, prog_name="likely")
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.UsageError as error:
        click.UsageError(visible(_helped(error).format_message()), error.ctx).show()
        code = 2
    except click.ClickException as error:
        click.ClickException(visible(error.format_message())).show()
        code = error.exit_code
    except LikelyError as error:
        click.echo("\n".join(map(sanitize_line, (f"likely: {error.lines[0]}", *error.lines[1:]))), err=True)
        code = 1
    except SystemExit as end:
        code = end.code
    except (click.Abort, KeyboardInterrupt):
        click.echo("likely: stopped", err=True)
        code = interruption.INTERRUPTED
    except RuntimeError as error:
        from likely.engine.base.errors import out_of_memory

        if (full := out_of_memory(error)) is None:
            raise
        click.echo(f"likely: {sanitize_line(str(full))}", err=True)
        code = 1
    except BrokenPipeError:
        # the reader went away (`likely run ... | head`): nothing is wrong, and nothing more can be written
        streams.discard(sys.stdout)
        code = 0
    except streams.OutputError as error:
        streams.discard(sys.stdout)
        click.echo(f"likely: standard output cannot be written: {error.strerror}", err=True)
        code = 1
    except OSError as error:  # a path that cannot be used, or a full disk: that of what is the person's to mend
        if error.filename is None and error.errno not in DISK:
            raise
        click.echo(f"likely: {sanitize_line(f'{error.filename or WRITING}: {error.strerror}')}", err=True)
        code = 1
    return code if isinstance(code, int) else 0


def _helped(error: click.UsageError) -> click.UsageError:
    """The error, and what to do about it where a model stands where none is taken: as a word, or after `-m`."""
    if error.ctx is not None and isinstance(error.ctx.command, Verbs) and isinstance(error, click.NoSuchOption):
        how = "options stand behind a verb, as in likely chat -M MODEL or likely run PROMPT"
        return click.UsageError(f"{error.format_message().rstrip('.')}: {how}.", error.ctx)
    params = error.ctx.command.params if error.ctx is not None else []
    named = next((param.opts[0] for param in params if param.name in ("model", "models")), "")
    model = f"a model is named with {named}" if named.startswith("-") else ""
    if error.message.startswith("Got unexpected extra argument"):
        return click.UsageError(
            f"{error.message}. Quote words that belong together{model and f'; {model}'}.", error.ctx
        )
    of = getattr(error, "option_name", "") or "".join(getattr(getattr(error, "param", None), "opts", ())[-1:])
    if model and of == "-m" and "not in the range" not in error.message:
        return click.UsageError(f"{error.format_message().rstrip('.')}; {model}.", error.ctx)
    return error
