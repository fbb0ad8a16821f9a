"""Holes of `likely fill` by an autoregressive model: the text on stdout, each that was taken on stderr."""

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.generate.replaying_passes import pass_line
from likely.app.words.heat import visible
from likely.app.words.units import bits, json_line
from likely.engine.base.errors import ParameterError
from likely.engine.decode.sampled.infill import Holes, Infill, InfillAttempt
from likely.engine.sampling.trace.step import SamplingConfig

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.text.tokenizer import Tokenizer

MASK = -1  # no token: an autoregressive model has none for it


def show_infilled(
    session: "Session",
    text: str,
    nbest: int | None,
    mcmc: int | None,
    recipe: SamplingConfig,
    seed: int,
    *,
    whole: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Fill from left to right; ParameterError for a diffusion model, whose own way is without these options."""
    from likely.engine.decode.searches.power import effective
    from likely.engine.diffusion import infilling

    if getattr(session.model.config, "diffusion", None) is not None:
        raise ParameterError(
            f"{'--nbest' if mcmc is None else '--mcmc'} is of autoregressive models, and {session.info.name} is a "
            "diffusion model, which sees both sides: leave it out"
        )
    canvas = tuple(infilling.canvas(text, session.tokenizer, MASK, session.context, whole=whole))
    holes = Holes(session, canvas, MASK, recipe, seed, session.tokenizer)
    attempts: list[InfillAttempt] = []
    totals: list[float] = []  # of the text that stands after each attempt
    count = 0
    for attempt in holes.nbest(nbest) if nbest is not None else holes.mcmc(mcmc or 1):
        count = attempt.number
        if attempt.accepted:
            attempts.append(attempt)
            if not quiet:
                click.echo(pass_line(attempt.number, texts_of(attempt.text.ids, session.tokenizer)), err=True)
        totals.append(attempts[-1].text.total)
    last = attempts[-1].text
    if not quiet:
        way = (
            f"the likeliest of {count} texts"
            if mcmc is None
            else f"{(len(attempts) - 1) / mcmc:.0%} of {mcmc} proposals taken, "
            f"worth {effective(totals):.1f} independent texts"
        )
        click.echo(
            f"{len(holes.free)} tokens from left to right · {way} · {bits(-last.total):.2f} bits · seed {seed}",
            err=True,
        )
    if as_json:
        click.echo(json_line(as_dict(holes, attempts, session.tokenizer)))
    else:
        shown = "".join(texts_of(last.ids, session.tokenizer))
        click.echo(visible(shown) if sys.stdout.isatty() else shown)


def as_dict(holes: Holes, attempts: list[InfillAttempt], tokenizer: "Tokenizer") -> dict[str, Any]:
    """The object that `fill --json` prints: a token's `step` is the attempt that drew it, `logprob` in nats."""
    last, free, step = attempts[-1].text, set(holes.free), dict.fromkeys(holes.free, 1)
    revisions = []
    for before, after in pairwise(attempts):
        for at in holes.free:
            if (old := before.text.ids[at]) != (new := after.text.ids[at]):
                step[at] = after.number
                revisions.append({"position": at, "step": after.number, "from": old, "to": new})
    tokens = [
        {
            "position": at,
            "id": token,
            "text": text,
            "step": step.get(at),
            "logprob": _logprob(last, at) if at in free else None,
            "given": at not in free,
        }
        for at, (token, text) in enumerate(zip(last.ids, texts_of(last.ids, tokenizer), strict=True))
    ]
    return {"ids": list(last.ids), "tokens": tokens, "revisions": revisions, "logprob": last.total}


def texts_of(ids: tuple[int, ...], tokenizer: "Tokenizer") -> list[str]:
    """The text of each token."""
    detokenizer = tokenizer.detokenizer(special=True)
    texts = [detokenizer.push(token) for token in ids]
    texts[-1] += detokenizer.flush()
    return texts


def _logprob(text: Infill, at: int) -> float:
    return text.logprobs[at - text.first]
