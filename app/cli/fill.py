"""`likely fill`: tokens for the holes of a text, in any order, by a diffusion model."""

import json
import math
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from app.cli.opening import Ruled, adapter_option, model_option, open_session, read_text
from app.cli.sampling import draw_options, read_recipe
from app.cli.training import table_options
from app.heat import one_line, visible
from engine.diffusion.unmasking import DenoisingStep, Unmasking
from engine.trace.trace import Recipe

if TYPE_CHECKING:
    from engine.diffusion.infilling import Filled
    from engine.session import Session

SHADE = "░"


@click.command("fill", cls=Ruled)
@click.argument("text", required=False)
@model_option
@adapter_option
@click.option("--json", "as_json", is_flag=True, help="One object on stdout: ids, tokens and revisions.")
@click.option("--quiet", "-q", is_flag=True, help="No steps on stderr.")
@table_options(Unmasking)
@draw_options
def command(text: str | None, model: str, adapters: tuple[str, ...], as_json: bool, quiet: bool, **values: Any) -> None:
    """Fill the holes of TEXT (or standard input) by a diffusion model: [MASK:N] stands for N tokens.

    \b
    likely fill "The [MASK:8] of France" -M mine
    likely fill "12+[MASK:2]=046" -M mine --temp 0 --steps 1
    likely fill "[MASK:32]" -M mine --block 8 --threshold 0.9 --revise 2
    """
    names = [f.name for f in fields(Unmasking)]
    how = Unmasking(**{name: values[name] for name in names if values[name] is not None}).checked()
    recipe, limits = read_recipe({**values, "max_tokens": None, "stop": ()})
    given = read_text(text, "TEXT")
    show(open_session(model, adapters=adapters), given, how, recipe, limits.seed, as_json=as_json, quiet=quiet)


def show(
    session: "Session", text: str, how: Unmasking, recipe: Recipe, seed: int, *, as_json: bool, quiet: bool
) -> None:
    """The text in the end on stdout, and as it is after each pass on stderr."""
    from engine.diffusion import infilling
    from engine.diffusion.denoiser import of_model

    mask = of_model(session.model, session.info.name).mask
    ids = infilling.canvas(text, session.tokenizer, mask, session.context)
    passes: list[DenoisingStep] = []
    for each in infilling.infill(session, ids, how, recipe, seed=seed):
        passes.append(each)
        if not quiet:
            _say(infilling.filled(ids, mask, passes, session.tokenizer), each.step)
    found = infilling.filled(ids, mask, passes, session.tokenizer)
    if not quiet:
        click.echo(_disagreement(passes), err=True, nl=False)
        click.echo(
            f"{ids.count(mask)} tokens in {len(passes)} passes · {len(found.revisions)} revised · seed {seed}", err=True
        )
    if as_json:
        click.echo(json.dumps(found.as_dict(), ensure_ascii=False))
    else:
        click.echo(visible(found.text) if sys.stdout.isatty() else found.text)


def _disagreement(passes: list[DenoisingStep]) -> str:
    """How far the passes with an approximate cache were from those without, a line where it was measured."""
    found = [each.disagreement for each in passes if each.disagreement is not None]
    if not (masks := sum(each.masks for each in found)):
        return ""
    others, kl = sum(each.other for each in found), sum(each.kl for each in found)
    return (
        f"cache: at {others} of {masks} masks in {len(found)} passes another token is likeliest than without, "
        f"KL {kl / masks / math.log(2):.2g} bits a mask\n"
    )


def _say(found: "Filled", step: int) -> None:
    """The canvas after a pass in one line: masks are shaded."""
    open_ = "".join(SHADE if token.step is None and not token.given else token.text for token in found.tokens)
    click.echo(f"{step:>4}  {one_line(open_)}", err=True)
