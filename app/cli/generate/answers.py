"""Answers of `likely run`: one as it is drawn, or several side by side, on stdout and in a file."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.generate import text_chat
from likely.app.store import sampling_text
from likely.app.store.run_trace import run_trace
from likely.app.words import heat
from likely.app.words.interruption import INTERRUPTED, stopped_by_signals
from likely.app.words.units import bits, json_line
from likely.engine.base.concurrency.resumable import whole
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted
from likely.engine.decode.loop.texts import GrownText, Texts
from likely.engine.decode.sampled.resampling import constrained, effective_size, log_weight, resampled, shares
from likely.engine.decode.searches.spelling import respelled
from likely.engine.measure.choice_scores import Choice, probability
from likely.engine.sampling.thinking import THINK, Kind, MarkSplitter, end_of, opens, thinking_of
from likely.engine.sampling.thought_information import ThoughtInformation, informing, part_figures
from likely.engine.sampling.trace.fields import step_object
from likely.engine.sampling.trace.step import TokenStep

if TYPE_CHECKING:
    from likely.app.words.limits import Limits
    from likely.engine.decode.loop.strategy import Strategy
    from likely.engine.decode.session import Session
    from likely.engine.text.tokenizer import Tokenizer


def show_answers(
    session: "Session",
    ids: list[int],
    control: RunControl,
    limits: "Limits",
    *,
    n: int,
    strategy: "Strategy",
    as_json: bool,
    special: bool,
    quiet: bool,
    save: Path | None,
    resample: bool = False,
    hide_thinking: bool = False,
) -> None:
    """Write the answers: one alone as it is drawn, several each under its number when all of it is there; with
    `as_json` one object a token as it comes. With `resample` the one of several that is drawn by its weight. All are
    saved in one file. Exit code 130 if the person stopped them."""
    seed, alone = limits.seed, n == strategy.width(n) == 1
    opened, marks = opens(end_of(ids, session.tokenizer.piece)), thinking_of(session.tokenizer)
    texts = Texts[GrownText](n)
    meta: dict[str, str] = {}
    events = texts.follow(
        session.generate(
            ids, control, n=n, seed=seed, max_tokens=limits.max_tokens, stop=limits.stop, strategy=strategy
        )
    )

    def finish(branch: int) -> None:
        """Tell of an answer that has ended; one that thought when all have: to measure takes time of theirs."""
        text, whose = texts[branch], {"answer": branch + 1} if not alone else {}
        assert text.done is not None
        found = None if control.cancelled else whole(informing(session, ids, text.steps, opened))
        if as_json:
            end = {"finish": text.reason, "seed": seed + branch, **asdict(text.done.stats)}
            end |= {name: asdict(part) for name, part in part_figures(text.steps, opened).items()}
            end |= {} if found is None else found.as_dict()
            if (p := _probability(text.steps)) is not None:
                end["probability"] = p
            elif constrained(text.steps):
                end["log_weight"] = log_weight(text.steps)
            click.echo(json_line({**whose, **end, "drawn_by": drawn_by(text.steps)}))
        elif not (alone or resample):
            said = text_chat.shown_text(text, special, marks)
            if hide_thinking:
                parts = splitter(session, ids)
                said = text_chat.said(parts.push("".join(map(parts.text, text.steps)), last=True), False)
            click.echo(f"[{branch + 1}]\n{heat.visible(said)}")
        if not quiet:
            _summarise(text, seed, session.tokenizer, "" if alone else f"[{branch + 1}] ", opened, found)

    with stopped_by_signals(control.cancel):  # also while the run is saved: an answer that is complete is not lost
        try:
            if alone and not as_json:
                text_chat.stream(
                    events,
                    sys.stdout,
                    special=special,
                    marks=marks,
                    parting=splitter(session, ids) if hide_thinking else None,
                )
                click.echo()
                finish(0)
            thought: list[int] = []
            for event in events:
                if isinstance(event, Emitted) and as_json:
                    whose = {"answer": event.branch + 1} if not alone else {}
                    click.echo(json_line({**whose, **step_object(event.step)}))
                elif isinstance(event, Done):
                    if part_figures(texts[event.branch].steps, opened):
                        thought.append(event.branch)
                    else:
                        finish(event.branch)
            for branch in thought:
                finish(branch)
            if resample and not control.cancelled:
                meta = _resample(texts, seed, as_json=as_json, special=special, quiet=quiet)
        finally:  # where nobody reads the answer any more, too
            begun = any(text.done or text.steps for text in texts.values())
            if save is not None and begun and (session.ranks is None or session.ranks.leads):
                from likely.engine.sampling.trace import file

                ends = {branch: texts[branch].reason or "cancelled" for branch in sorted(texts)}
                runs = [run_trace(session, ids, texts[b].steps, seed + b, reason) for b, reason in ends.items()]
                file.save([replace(run, meta=meta) for run in runs], save)
    if any(text.reason == "cancelled" for text in texts.values()):
        say_kept(save)
        sys.exit(INTERRUPTED)


def splitter(session: "Session", ids: Sequence[int]) -> MarkSplitter:
    """The splitter of an answer behind a prompt into thought and words."""
    kind: Kind = "thought" if opens(end_of(ids, session.tokenizer.piece)) else "said"
    return MarkSplitter(kind, thinking=thinking_of(session.tokenizer) or THINK)


def show_choices(among: Sequence[Choice], law: Sequence[float], *, as_json: bool, quiet: bool) -> None:
    """Say of each choice its probability among them, given as `law` in nats, and by itself, the likeliest first: on
    stderr, or with `as_json` as one object."""
    rows = sorted(zip(among, law, strict=True), key=lambda row: -row[1])
    if as_json:
        objects = [{"text": c.text, "logprob": c.logprob, "probability": math.exp(p)} for c, p in rows]
        click.echo(json_line({"choices": objects}))
    elif not quiet:
        for choice, p in rows:
            line = f"{_share(math.exp(p)):>8} {bits(-choice.logprob):9.2f} bits  {heat.visible(repr(choice.text))}"
            click.echo(line, err=True)


def _share(p: float) -> str:
    return f"{p:.2%}" if p >= 1e-4 or not p else f"{p:.1e}"


def spelled_otherwise(tokenizer: "Tokenizer", ids: Sequence[int]) -> str:
    """That an answer's tokens are not those that the tokenizer writes its text with; "" where they are."""
    own = respelled(tokenizer, ids)
    return "" if own is None else f" · in {len(ids)} tokens, which the tokenizer would write in {len(own)} others"


def drawn_by(steps: Sequence[TokenStep]) -> list[Mapping[str, Any]]:
    """The recipes of tokens as JSON values, each that followed another."""
    from likely.engine.sampling.trace.file import recipe_row

    return [recipe_row(recipe) for recipe in sampling_text.drawn_by(steps)]


def say_kept(save: Path | None) -> None:
    """Say where a run is that was stopped."""
    if save is not None:
        click.echo(f"likely: stopped; what was drawn is in {save}", err=True)


def _resample(
    texts: Mapping[int, GrownText], seed: int, *, as_json: bool, special: bool, quiet: bool
) -> dict[str, str]:
    """Draw one of the answers by its weight and write it; which it is, for a file."""
    weights = [log_weight(texts[branch].steps) for branch in sorted(texts)]
    drawn, worth = resampled(weights, seed), effective_size(weights)
    share = float(shares(weights)[drawn])
    if as_json:
        click.echo(json_line({"resampled": drawn + 1, "share": share, "effective_size": worth}))
    else:
        click.echo(heat.visible(text_chat.shown_text(texts[drawn], special)))
    if not quiet:
        click.echo(
            f"[{drawn + 1}] of {len(weights)} by its weight: {_share(share)} · they are worth {worth:.1f}", err=True
        )
    return {"resampled": str(drawn + 1)}


def _summarise(
    text: GrownText, seed: int, tokenizer: "Tokenizer", whose: str, opened: bool, found: ThoughtInformation | None
) -> None:
    assert text.done is not None
    line = text_chat.summary(text.steps, text.done, opened, found)
    if (p := _probability(text.steps)) is not None:
        line += f" · {_share(p)} among the choices"
    elif constrained(text.steps):
        line += f" · allowed {bits(log_weight(text.steps)):.2f} bits"
        line += spelled_otherwise(tokenizer, text.ids)
    click.echo(f"{whose}{line} · seed {seed + text.done.branch}", err=True)


def _probability(steps: Sequence[TokenStep]) -> float | None:
    return probability(steps[0].recipe, [step.token for step in steps]) if steps else None
