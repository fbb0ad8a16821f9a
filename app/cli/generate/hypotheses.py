"""Answers of a search, on stdout and in a file: all at once, the best first, each with what orders it."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.generate import text_chat
from likely.app.cli.generate.answers import say_kept, spelled_otherwise
from likely.app.cli.generate.walks import walk_lines
from likely.app.store.run_trace import run_trace
from likely.app.store.stored_rows import figures_row
from likely.app.words import heat
from likely.app.words.interruption import INTERRUPTED, stopped_by_signals
from likely.app.words.units import NATS, SEARCHED, bits, json_line, searched
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Reloaded
from likely.engine.decode.loop.texts import GrownText, Texts, search_answers
from likely.engine.decode.searches.spelling import respelled
from likely.engine.decode.searches.stochastic_beam import expected
from likely.engine.sampling.thinking import thinking_of
from likely.engine.sampling.trace.fields import step_object

if TYPE_CHECKING:
    from likely.app.words.limits import Limits
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.decode.session import Session
    from likely.engine.text.tokenizer import Tokenizer


def show_hypotheses(
    session: "Session",
    ids: list[int],
    control: RunControl,
    limits: "Limits",
    *,
    strategy: "Strategy",
    as_json: bool,
    special: bool,
    quiet: bool,
    save: Path | None,
) -> None:
    """Write what a search finds, best first; with `as_json` one object each. Exit code 130 if the person stopped it."""
    texts = Texts[GrownText](1)
    events = session.generate(
        ids, control, seed=limits.seed, max_tokens=limits.max_tokens, stop=limits.stop, strategy=strategy
    )
    with stopped_by_signals(control.cancel):  # also while they are saved
        for event in texts.follow(events):
            if isinstance(event, Reloaded):
                click.echo(heat.sanitize_line(event.line), err=True)
        hypotheses = search_answers(texts.values(), strategy.most)
        try:
            _write(hypotheses, strategy, session.tokenizer, as_json=as_json, special=special, quiet=quiet)
        finally:  # where nobody reads them, too
            if save is not None and (session.ranks is None or session.ranks.leads):
                from likely.engine.sampling.trace import file

                file.save([
                    replace(
                        run_trace(session, ids, one.steps, limits.seed, one.done.reason),
                        meta={"strategy": str(strategy)} | {name: str(value) for name, value in one.figures.items()},
                    )
                    for one in hypotheses if one.done is not None
                ], save)  # fmt: skip
    if any(one.done is not None and one.done.reason == "cancelled" for one in hypotheses):
        say_kept(save)
        sys.exit(INTERRUPTED)


def _object(text: GrownText, tokenizer: "Tokenizer") -> dict[str, Any]:
    """The object that `--json` prints of a text; `own_spelling`: the tokenizer's ids for it, if others."""
    own = respelled(tokenizer, text.ids)
    return {
        "ids": text.ids,
        "text": text.text,
        **({} if own is None else {"own_spelling": own}),
        "logprob": text.logprob,
        **figures_row(text.figures),
        "finish": text.reason,
        "tokens": [step_object(step) for step in text.steps],
    }


def _write(
    hypotheses: Sequence[GrownText],
    strategy: "Strategy",
    tokenizer: "Tokenizer",
    *,
    as_json: bool,
    special: bool,
    quiet: bool,
) -> None:
    """Hypotheses as they are printed, best first."""
    for place, one in enumerate(hypotheses, 1):
        if as_json:
            click.echo(json_line(_object(one, tokenizer), **dict.fromkeys(SEARCHED, NATS)))
            continue
        note = f"{searched(one.figures)} · {one.reason}{spelled_otherwise(tokenizer, one.ids)}"
        click.echo(click.style(f"[{place}] {bits(-one.logprob):.2f} bits · {note}", dim=True))
        click.echo(heat.visible(text_chat.shown_text(one, special, thinking_of(tokenizer))))
        for line in [] if quiet else walk_lines(one.figures, one.scores, len(one.steps)):
            click.echo(line, err=True)
    if not quiet and hypotheses and hypotheses[0].done is not None:
        stats = hypotheses[0].done.stats
        click.echo(
            f"{stats.prompt_tokens} prompt tokens ({stats.reused_tokens} reused) in {stats.prefill_s:.2f} s · "
            f"{strategy.words} · {len(hypotheses)} answers in {stats.decode_s:.2f} s",
            err=True,
        )
        if all("inclusion" in one.figures for one in hypotheses):
            click.echo(_on_average(hypotheses), err=True)


def _on_average(hypotheses: Sequence[GrownText]) -> str:
    """Means over all answers, as a sample without replacement estimates them, with standard errors."""
    drawn = [[step for step in one.steps if step.origin != "forced"] for one in hypotheses]
    logprobs = [math.fsum(step.logprob_after or 0.0 for step in steps) for steps in drawn]
    inclusions = [one.figures["inclusion"] for one in hypotheses]
    tokens = expected([len(steps) for steps in drawn], logprobs, inclusions)
    surprisal = expected([bits(-one.logprob) for one in hypotheses], logprobs, inclusions)
    weights = math.fsum(math.exp(p) / q for p, q in zip(logprobs, inclusions, strict=True))
    return (
        f"an answer has {tokens[0]:.1f} ± {tokens[1]:.1f} tokens and {surprisal[0]:.1f} ± {surprisal[1]:.1f} bits, "
        f"estimated without bias (the weights, 1 on average, sum to {weights:.2f})"
    )
