"""`likely fill`: tokens for the holes of a text, in any order by a diffusion model, or by one from left to right."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.generate.replaying_passes import pass_line
from likely.app.cli.options.factorization import unmasking
from likely.app.cli.options.opening import (
    RuledCommand,
    adapter_option,
    check_place,
    model_option,
    open_session,
    read_text,
)
from likely.app.cli.options.sampling import draw_options, read_recipe, says_recipe
from likely.app.cli.options.table_options import table_options
from likely.app.words.heat import sanitize_line, visible
from likely.app.words.interruption import INTERRUPTED, stopped_by_signals
from likely.app.words.units import bits, json_line
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.control import RunControl
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasking

if TYPE_CHECKING:
    from likely.engine.decode.session import Session


@click.command("fill", cls=RuledCommand)
@click.argument("text", required=False)
@model_option
@adapter_option
@click.option("--json", "as_json", is_flag=True, help="One object on stdout: ids, tokens and revisions.")
@click.option("--quiet", "-q", is_flag=True, help="No steps on stderr.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Write every pass to a file.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Show the passes of a saved run under these parameters, without running the model.",
)
@click.option("--whole", is_flag=True, help="TEXT is a whole one: an end of text stands behind it.")
@click.option(
    "--nbest",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="By an autoregressive model: the likeliest whole text of N that see the left alone.",
)
@click.option(
    "--mcmc",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="By an autoregressive model: a walk of N proposals to p(hole | left, right).",
)
@table_options(Unmasking)
@draw_options
def command(
    text: str | None,
    model: str,
    adapters: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    save: Path | None,
    replay: Path | None,
    whole: bool,
    nbest: int | None,
    mcmc: int | None,
    **values: Any,
) -> None:
    """Fill the holes of TEXT (or standard input) by a diffusion model: [MASK:N] stands for N tokens.

    With --nbest or --mcmc by an autoregressive one, which draws from left to right and cannot see what follows.

    \b
    likely fill "The[MASK:8] of France" -M mine
    likely fill "12+[MASK:2]=046" -M mine --temp 0 --steps 1 --whole
    likely fill "[MASK:32]" -M mine --block 8 --threshold 0.9 --revise 2
    likely fill "The[MASK:3] of France" -M smollm2 --mcmc 50
    """
    how = unmasking(values)
    ordered = nbest is not None or mcmc is not None
    recipe, limits = read_recipe({**values, "max_tokens": None, "stop": ()}, searches=ordered)
    if replay is not None:
        if text is not None:
            raise click.UsageError("--replay shows a saved run: it takes no TEXT")
        from likely.app.cli.generate.replaying import show_replay

        show_replay(replay, recipe if says_recipe(values) else None, as_json=as_json)
        return
    check_place(save)
    words = read_text(text, "TEXT")
    session = open_session(model, adapters=adapters)
    if not quiet:
        _hint(words, session)
    if ordered:
        from likely.app.cli.generate.infilled import show_infilled

        show_infilled(session, words, nbest, mcmc, recipe, limits.seed, whole=whole, as_json=as_json, quiet=quiet)
        return
    show(session, words, how, recipe, limits.seed, whole=whole, as_json=as_json, quiet=quiet, save=save)


def show(
    session: "Session",
    text: str,
    how: Unmasking,
    recipe: SamplingConfig,
    seed: int,
    *,
    whole: bool,
    as_json: bool,
    quiet: bool,
    save: Path | None,
) -> None:
    """The text in the end on stdout, and as it is after each pass on stderr; all passes in a file. Exit code 130 if the
    person stopped it, after a pass."""
    from likely.app.cli.generate.answers import say_kept
    from likely.app.cli.generate.diffused import keep
    from likely.engine.diffusion import infilling
    from likely.engine.diffusion.answering import AnswerCanvas, with_texts
    from likely.engine.diffusion.denoiser import of_model

    if getattr(session.model.config, "diffusion", None) is None:
        raise ParameterError(
            f"{session.info.name} is autoregressive and has no mask token: fill from left to right with --nbest N or "
            "--mcmc N, or choose a diffusion model, such as likely pretrain --objective mdlm makes"
        )
    mask = of_model(session.model, session.info.name).mask
    ids = infilling.canvas(text, session.tokenizer, mask, session.context, whole=whole)
    passes: list[DenoisingStep] = []
    control = RunControl(recipe)
    with stopped_by_signals(control.cancel):  # also while it is saved
        drawn = infilling.infill(session, ids, how, recipe, seed=seed)
        for step in with_texts(drawn, session.tokenizer, session.pool.precision):
            passes.append(step)
            if not quiet:
                now = infilling.filled(ids, mask, passes, session.tokenizer).tokens
                texts = [None if token.step is None and not token.given else token.text for token in now]
                click.echo(pass_line(step.step, texts), err=True)
            if control.cancelled:
                break
        answer = infilling.filled(ids, mask, passes, session.tokenizer)
        count = sum(token.step is not None for token in answer.tokens) if control.cancelled else ids.count(mask)
        if save is not None:
            finish = "length" if count == ids.count(mask) else "cancelled"
            keep(save, session, AnswerCanvas(tuple(ids), 0, mask), how, passes, seed, finish)
        if not quiet:
            click.echo(_disagreement(passes), err=True, nl=False)
            click.echo(
                f"{count} tokens in {len(passes)} passes · {len(answer.revisions)} revised · seed {seed}", err=True
            )
        if as_json:
            click.echo(json_line(answer.as_dict()))
        else:
            click.echo(visible(answer.text) if sys.stdout.isatty() else answer.text)
    if control.cancelled:
        say_kept(save)
        sys.exit(INTERRUPTED)


def _hint(text: str, session: "Session") -> None:
    """A line where a space before a hole keeps the model from its words."""
    from likely.engine.diffusion.infilling import lone_space

    if (better := lone_space(text, session.tokenizer)) is not None:
        click.echo(
            "a space before a hole is a token by itself, and words of this model bring their own: "
            f"write {sanitize_line(better)}",
            err=True,
        )


def _disagreement(passes: list[DenoisingStep]) -> str:
    """How far the passes with an approximate cache were from those without, a line where it was measured."""
    differences = [step.disagreement for step in passes if step.disagreement is not None]
    if not (masks := sum(difference.masks for difference in differences)):
        return ""
    others, kl = sum(difference.other for difference in differences), sum(difference.kl for difference in differences)
    return (
        f"cache: at {others} of {masks} masks in {len(differences)} passes another token is likeliest than without, "
        f"KL {bits(kl / masks):.2g} bits a mask\n"
    )
