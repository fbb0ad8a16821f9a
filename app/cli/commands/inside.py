"""`likely inside`: what a model does between a text and its next word."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.commands.explain import read_given
from likely.app.cli.options.opening import RuledCommand, adapter_option, model_option, open_session
from likely.app.words.units import bits

if TYPE_CHECKING:
    from likely.engine.decode.session import Session


class Head(click.ParamType):
    """LAYER.HEAD"""

    name = "LAYER.HEAD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value  # type: ignore[return-value]
        layer, dot, head = str(value).partition(".")
        if not (dot and layer.isdecimal() and head.isdecimal()):
            self.fail(f"a head is named LAYER.HEAD, as in 3.0, got {value!r}", param, ctx)
        return int(layer), int(head)


@click.command("inside", cls=RuledCommand)
@click.argument("text", required=False)
@click.option("--file", "-f", type=click.Path(path_type=Path), help="Read the text from a file.")
@model_option
@adapter_option
@click.option("--chat", is_flag=True, help="TEXT is a question: put it through the chat template.")
@click.option("--raw", is_flag=True, expose_value=False, help="TEXT is read as it is (the default).")
@click.option("--lens", is_flag=True, help="What the model would say next after each layer (the default).")
@click.option("--tuned", is_flag=True, help="Use the tuned lens that is kept for this model.")
@click.option(
    "--tune-lens",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Fit that lens to a text of some 20,000 tokens.",
)
@click.option("--heads", is_flag=True, help="How widely each head reads at each token: entropies.")
@click.option(
    "--scores", is_flag=True, help="What kind each head is: previous token, duplicate, induction, first token."
)
@click.option("--attention", type=Head(), help="What one head reads at each token.")
@click.option("--without-first", is_flag=True, help="Without the first token, a sink.")
@click.option("--rollout", is_flag=True, help="What each token reads through all layers, mean heads.")
@click.option("--attribution", is_flag=True, help="What each part wrote of the next token's logit.")
@click.option(
    "--against",
    type=int,
    metavar="ID",
    help="The token that an attribution is the difference to; of a patch, the one that is not the answer.",
)
@click.option(
    "--target", metavar="WORD", help="Why WORD comes next: rank by layer, what wrote it, earlier words it needs; bits."
)
@click.option("--foil", metavar="WORD", help="What WORD is compared with; the likeliest other token if left out.")
@click.option("--ablate", type=Head(), help="What the next token's logit is without one head.")
@click.option("--patch", metavar="TEXT", help="A corrupted TEXT of as many tokens: where does the answer come back?")
@click.option(
    "--part",
    type=click.Choice(["residual", "attention", "mlp", "heads"]),
    default="residual",
    show_default=True,
    help="What is taken from the clean text; a head at all of its tokens.",
)
@click.option("--spellings", metavar="TEXT", help="Other ways to write this TEXT in tokens, right after the first.")
@click.option("--importance", is_flag=True, help="Which tokens of TEXT mattered for the next one.")
@click.option("--toward", multiple=True, metavar="TEXT", help="Steer toward such texts, and see how far TEXT is moved.")
@click.option("--away", multiple=True, metavar="TEXT", help="Away from such texts.")
@click.option("--layer", type=int, metavar="N", help="After this layer; the middle one if left out.")
@click.option(
    "--direction",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep the direction; likely chat --adapter FOLDER=2 steers by it.",
)
@click.option("--neighbours", type=int, metavar="ID", help="The tokens whose embeddings lie nearest.")
@click.option("--sum", metavar="WORDS", help="The tokens nearest to a sum, as in 'king - man + woman'.")
@click.option("--relations", is_flag=True, help="How often such sums come out, over a built-in set of pairs.")
@click.option("--merges", metavar="WORD", help="The merges that made the tokens of a word.")
@click.option("--centred", is_flag=True, help="After the mean of all tokens is taken off.")
@click.option("--output", is_flag=True, help="Rows of the head instead of the input embedding.")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Write activations as safetensors.")
@click.option("--keep", multiple=True, metavar="PATTERN", help="Which activations, as in 'layers.*.residual'.")
@click.option("--json", "as_json", is_flag=True, help="One object on stdout: ids and what is asked for.")
@click.option("--csv", "as_csv", is_flag=True, help="One look as a table with commas on stdout.")
@click.option("--svg", "as_svg", is_flag=True, help="One look that is a grid as a picture on stdout.")
def command(
    text: str | None,
    file: Path | None,
    model: str,
    adapters: tuple[str, ...],
    chat: bool,
    as_json: bool,
    as_csv: bool,
    as_svg: bool,
    **options: Any,
) -> None:
    """Look inside the model while it reads TEXT (or standard input): layers, heads, embeddings, causes.

    \b
    likely inside "The capital of France is"
    likely inside "The capital of France is" --attention 17.5
    likely inside "The capital of France is" --target Paris --foil London
    likely inside "The capital of France is" --patch "The capital of Italy is"
    likely inside "The capital of France is" --save inside.safetensors --keep 'layers.*.residual'
    likely inside --neighbours 3504 --centred --json
    """
    from likely.app.cli.options.rules import is_given
    from likely.app.cli.reports.inside_looks import LOOKS, TEXTLESS, ids_of
    from likely.app.cli.reports.inside_text import show
    from likely.app.words import inside_tables, tables
    from likely.engine.inside.saved import save
    from likely.engine.inside.subject import subject

    options["chat"] = chat
    looks = [look for look in LOOKS if is_given(options[look])]
    alone = looks and set(looks) <= TEXTLESS and options["save"] is None
    if alone and not as_json and file is not None:
        raise click.UsageError(f"--{looks[0]} is of the model alone: leave out --file")
    only_fits = options["tune_lens"] is not None and not looks and options["save"] is None
    textless = (alone or only_fits) and text is None and file is None
    if not (looks or as_json or textless) and options["save"] is None:
        looks, options["lens"] = ["lens"], True
    if (as_csv or as_svg) and len(looks) != 1:
        raise click.UsageError(f"--csv and --svg are one look: ask for one of {', '.join('--' + x for x in LOOKS)}")
    if as_svg and looks[0] not in inside_tables.GRIDS:
        raise click.UsageError(f"--svg draws a grid, and --{looks[0].replace('_', '-')} is none: take --csv")
    content = "" if textless else read_given(file, text, "look into")
    options["text"] = content
    session = open_session(model, adapters=adapters)
    ids = [] if textless else ids_of(session, content, chat)
    session.logits_after(ids or [0])  # a model that gives no numbers is loaded in a wider type, or named
    if options["tune_lens"] is not None:
        _tune_lens(session, options["tune_lens"])
        if textless and not looks:
            return
    inspected = None if textless else subject(session, ids)
    if inspected is not None and inspected.first and looks:
        click.echo(f"likely: {len(ids)} tokens are read, the last {len(inspected.positions)} are shown", err=True)
    results = {look: LOOKS[look](session, inspected, options) for look in looks}
    if options["save"] is not None:
        assert inspected is not None
        files = save(options["save"], inspected, options["keep"] or ("*.residual",), session.info.name)
        click.echo(f"{len(files)} activations are in {options['save']}", err=True)
    words = inside_tables.Words(session.tokenizer, ids, inspected.first if inspected is not None else 0)
    if as_json:
        click.echo(inside_tables.object_of(ids, inspected.first if inspected is not None else 0, results))
        return
    for look, value in results.items():
        shown = inside_tables.FORMS[look](value, words)
        if as_csv:
            click.echo(tables.csv_text(shown), nl=False)
        elif isinstance(shown, tables.Grid) and as_svg:
            click.echo(tables.svg(shown))
        else:
            show(shown)


def _tune_lens(session: "Session", file: Path) -> None:
    """Fit the lens, keep it, and say on stderr what it brings."""
    from likely.app.cli.options.opening import Progress
    from likely.engine.inside import tuned_lens
    from likely.engine.inside.subject import transformer

    ids = session.tokenizer.encode(read_given(file, None, "fit a lens to"), bos=True)
    with Progress() as progress:
        found = tuned_lens.fit(transformer(session), ids, progress=lambda done, all_: progress.show("lens", done, all_))
    tuned_lens.save(tuned_lens.file_of(session.info.weights), found)
    kl = " ".join(f"{bits(old):.2f}→{bits(new):.2f}" for old, new in zip(found.before, found.after, strict=True))
    click.echo(f"KL to the last layer on held-out text, bits a token, from the embedding up: {kl}", err=True)
    if found.worse:
        names = ", ".join(map(str, found.worse))
        click.echo(f"rows {names} did not get better and keep the plain lens: fit it to more text", err=True)
