"""Options and start of the verbs that load a model: the model option, a text from arguments or stdin, a session."""

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from likely.app.cli.options import name_completion
from likely.app.words.heat import columns, sanitize_line
from likely.engine.base import distributed
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.files.whole_file import read_bounded, read_whole
from likely.models.configuration.rope_scaling import MARK, RopeScaling

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

WAIT_S = 2.0  # for standard input, before a person is told

model_option = click.option(
    "--model",
    "-M",
    default="",
    envvar="LIKELY_MODEL",
    metavar="MODEL",
    shell_complete=name_completion.models,
    help="A short name, a hub repository, a folder or a .gguf file; if left out, the model chosen last.",
)

adapter_option = click.option(
    "--adapter",
    "-A",
    "adapters",
    multiple=True,
    metavar="FOLDER[=WEIGHT]",
    shell_complete=name_completion.adapters,
    help="Put an adapter on the model, by its folder or by the name of one that was made here: mlx-lm's or PEFT's. "
    "FOLDER/best has the weights that did best on what was held out, FOLDER the last. Several add up.",
)

rope_option = click.option(
    "--rope",
    metavar="KIND:FACTOR",
    help="A longer context than the model was made for, by scaling its RoPE: yarn:2, ntk:2 or linear:2. It costs "
    "accuracy: likely eval --text measures how much, and so does the chat before it is taken.",
)

context_option = click.option(
    "--context",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most N tokens of prompt and answer together: fewer than the model reads, for less memory.",
)

system_option = click.option(
    "--system", metavar="TEXT|FILE", help="System prompt: the name of one that was kept in the chat, a file, or words."
)

activation_option = click.option(
    "--activation-bits",
    type=click.Choice(["8"]),
    callback=lambda ctx, option, value: None if value is None else int(value),
    help="Round activations to 8 bits, measured ones too: faster with several answers, less exact (likely "
    "doctor says how much).",
)

parallel_option = click.option(
    "--parallel",
    type=click.Choice(["tensor", "pipeline"]),
    help="Under mlx.launch, what the ranks share: every layer (tensor, the default) or whole layers each (pipeline).",
)


def read_text(argument: str | None, what: str) -> str:
    """The argument, or standard input when it is `-` or left out; DataError for bytes that are not UTF-8."""
    if argument is not None and argument != "-":
        return _decoded(argument, what)
    if argument is None and sys.stdin.isatty():
        raise click.UsageError(f"missing {what}: give it as an argument or on standard input")
    return _read_input()


def read_prompt(argument: str | None, what: str, files: Sequence[Path] = (), *, alone: bool = True) -> str:
    """The argument, files, and what is piped in, with a blank line between two; a terminal and what is empty add
    nothing. Of several ranks none reads what is piped in beside an argument: they are not `alone`.

    Raises as `read_text`, and DataError for a file that cannot be read as text.
    """
    if (argument is None and not files) or argument == "-":
        return _joined([read_text(argument, what), *map(read_whole, files)])
    given = [_decoded(argument or "", what), *map(read_whole, files)]
    if not alone or sys.stdin is None or sys.stdin.isatty():
        return _joined(given)
    waits = Timer(WAIT_S, tell, ["waiting for the end of standard input, which is read too: < /dev/null leaves it out"])
    waits.daemon = True
    waits.start()
    try:
        return _joined([*given, _read_input()])
    finally:
        waits.cancel()


def _decoded(argument: str, what: str) -> str:
    """The argument; DataError for one with bytes that are no UTF-8, which Python has hidden in halves of pairs."""
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        hidden = ord(argument[error.start]) & 0xFF
        raise DataError(f"{what} must be UTF-8, got the byte 0x{hidden:02x} at character {error.start + 1}") from None
    return argument


def _joined(texts: Sequence[str]) -> str:
    """Texts that say something, with a blank line between two; one alone as it is."""
    said = [text for text in texts if text.strip()]
    return said[0] if len(said) == 1 else "\n\n".join(text.strip("\n") for text in said)


def _read_input() -> str:
    data = read_bounded(sys.stdin.buffer, "standard input")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input must be UTF-8, got the byte 0x{data[error.start]:02x} at offset {error.start}: "
            "convert it first (iconv -t utf-8)"
        ) from None


def check_place(save: Path | None) -> None:
    """DataError where a run could not be saved at a path: called before the run."""
    if save is not None and save.is_dir():
        raise DataError(f"--save takes the name of a file, got the folder {save.absolute()}")
    if save is not None and not save.absolute().parent.is_dir():
        raise DataError(f"{save}: the run cannot be saved there, as {save.parent} is no folder: make it first")


def draws_no_screen() -> bool:
    """Whether there is a terminal that can only write lines."""
    return os.environ.get("TERM") == "dumb" and sys.stdout.isatty()


def on_terminal() -> bool:
    """Whether standard input and output are terminals that can show a screen."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def with_rope(model: str, rope: str | None) -> str:
    """A model's name with the longer context that is asked for, if any. ConfigError for no `RopeScaling`."""
    if rope is None:
        return model
    scaling = RopeScaling.read(rope)
    return f"{model or default_model()}{MARK}{scaling}"


def check_context(context: int | None, model: str) -> None:
    """ParameterError for a bound on the context that is more than a model reads which is here."""
    if context is None:
        return
    from likely.engine.weights.sources import store

    info = store.resolve(model) if model else store.default()
    if info is not None and 0 < info.context < context:
        raise ParameterError(
            f"--context must be at most {info.context}, which {info.name} reads, got {context}: leave it out, or make "
            "the model's longer with --rope"
        )


def open_session(
    model: str,
    *,
    adapters: Sequence[str] = (),
    keep_prefix: bool = False,
    parallel: str | None = None,
    whole: bool = False,
    activation_bits: int | None = None,
    context: int | None = None,
    **cache: Any,
) -> "Session":
    """A session on a model, fetched first if it is not here; progress on stderr where that is a terminal.

    `adapters` are directories, each with `=` and a weight if it is not 1; `parallel` is how the ranks of a launcher
    share the model; with `whole` each has all of it. `activation_bits` are of products with packed weights, by default
    16 for what is drawn and as exact as float32 for what is measured.

    `context` bounds the tokens of a text. `keep_prefix` keeps what the model remembers of prompts in files; `cache`
    says how its caches are made (`LanguageModel.make_cache`).
    """
    weighed = [weighed_adapter(adapter) for adapter in adapters]
    together = None if whole else distributed.joined()
    model = model or default_model()
    if adapters and together is not None:
        raise click.UsageError("--adapter is for one process: likely fuse makes the adapter part of the model first")
    if parallel is not None and together is None:
        raise click.UsageError("--parallel is for several ranks: start with mlx.launch -n 2 -- likely run ...")
    check_context(context, model)
    gc.disable()  # what loading makes stays; searching it for garbage, again and again, took an eighth of the start
    try:
        from likely.engine.decode import memory_limits
        from likely.engine.decode.session import Session
        from likely.engine.weights.sources.checkpoint import Partition, load

        parting = None if together is None else Partition(together, parallel or "tensor")
        with Progress() as progress:
            checkpoint = load(model, progress=progress.show, parting=parting, activation_bits=activation_bits)
        prefixes = None
        if keep_prefix:
            from likely.engine.base.files.home import home
            from likely.engine.decode.prefix_cache import Prefixes

            identity = f"{checkpoint.info.weights} {checkpoint.precision}"  # keys of one dtype do not suit another
            prefixes = Prefixes(identity, folder=home() / "prefixes", tell=tell)
        session = Session(checkpoint, prefixes, ranks=together, context=context, **cache)
        if words := memory_limits.warning(session):
            tell(words)
        if weighed:
            from likely.engine.train.attach.stack import stack_of

            for folder, weight in weighed:
                stack_of(session).add(folder, weight)
        return session
    finally:
        gc.freeze()
        gc.enable()


def tell(line: str) -> None:
    """Print a note about the run on stderr; the run goes on."""
    click.echo(f"likely: {sanitize_line(line)}", err=True)


def default_model() -> str:
    """The model to use where none is named: `chosen_model`, or the answer to a question.

    UsageError, in one line that says how to choose, where there is nobody to ask.
    """
    if name := chosen_model():
        return name
    from likely.app.cli.options.choosing import ask

    return ask()


def chosen_model() -> str:
    """LIKELY_MODEL, else the model that was chosen last or is the only one here; "" where there is none."""
    from likely.engine.weights.sources import store

    return os.environ.get("LIKELY_MODEL") or (info.name if (info := store.default()) else "")


def weighed_adapter(text: str) -> tuple[str, float]:
    """The directory and the weight of FOLDER[=WEIGHT]."""
    folder, sign, weight = text.rpartition("=")
    if not sign:
        return text, 1.0
    try:
        return folder, float(weight)
    except ValueError:
        raise click.UsageError(f"--adapter takes FOLDER or FOLDER=WEIGHT, got {text}: {weight} is no number") from None


class VerbGroup(click.Group):
    """Group of commands under one verb: its help says each one's sentence whole, and a call without one names them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(10_000)) for name, one in sorted(self.commands.items())])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise click.UsageError(f"say which: {', '.join(sorted(self.commands))}", ctx)
        return super().parse_args(ctx, args)


class RuledCommand(click.Command):
    """A verb whose options are checked against `app.cli.rules` before it runs. Its help says what goes with what, of
    many options the everyday ones first, and of options that cannot go with what is given a shell is offered none."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        everything = click.Option(
            ["--help-all"], is_flag=True, is_eager=True, expose_value=False, hidden=True, callback=_show_everything
        )
        self.params.append(everything)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from likely.app.cli.options.everyday import EVERYDAY

        if ctx.meta.get(EVERYTHING) or self.name not in EVERYDAY:
            super().format_options(ctx, formatter)
            return
        shown = {param.name: param for param in self.get_params(ctx) if isinstance(param, click.Option)}
        helped = self.get_help_option(ctx)
        names = [*EVERYDAY[self.name], *([helped.name] if helped is not None else [])]
        records = [record for name in names if name in shown and (record := shown[name].get_help_record(ctx))]
        rest = sum(param.get_help_record(ctx) is not None for name, param in shown.items() if name not in names)
        with formatter.section("Options"):
            formatter.write_dl([*records, ("--help-all", f"Show the other {rest} options too.")])

    def invoke(self, ctx: click.Context) -> Any:
        from likely.app.cli.options.rules import check

        check(ctx)
        return super().invoke(ctx)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from likely.app.cli.options.rules import notes

        sentences = notes(self)
        for param in self.params:
            sentence = sentences.get(param.name or "")
            if isinstance(param, click.Option) and sentence and sentence not in (text := param.help or ""):
                param.help = f"{text} {sentence}".strip()
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from likely.app.cli.options.rules import closed

        names = closed(ctx)
        flags = {flag for param in self.params if param.name in names for flag in (*param.opts, *param.secondary_opts)}
        return [item for item in super().shell_complete(ctx, incomplete) if item.value not in flags]


EVERYTHING = "every option"  # asked for, of a context


def _show_everything(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        ctx.meta[EVERYTHING] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


class Progress:
    """One line on stderr that is rewritten while something takes long, and gone when it is over."""

    def __init__(self) -> None:
        self._shown = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        self._write("")

    def show(self, stage: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        share = f"{_bar(done / total)} {done / total:4.0%}" if total else ""
        size = f" of {total / 1e6:,.0f} MB" if total > 1_000_000 else ""
        stage, room = sanitize_line(stage), columns("plain") - len(share + size) - 2
        if len(stage) > room:  # a line that wraps is not rewritten
            stage = stage[: max(room - 1, 0)] + "…"
        self._write(f"{stage} {share}{size}".rstrip())

    def _write(self, line: str) -> None:
        if line != self._shown:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
            self._shown = line


def _bar(share: float, width: int = 24) -> str:
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return ("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8]).ljust(width)[:width]
