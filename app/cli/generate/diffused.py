"""An answer of `likely run` by diffusion: on stdout when it is there, its passes in a file."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.generate import text_chat
from likely.app.cli.generate.answers import drawn_by, say_kept
from likely.app.cli.options.opening import Progress
from likely.app.store.run_trace import run_trace
from likely.app.words import heat
from likely.app.words.interruption import INTERRUPTED, stopped_by_signals
from likely.app.words.units import json_line
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Stats
from likely.engine.sampling.trace.fields import step_object
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, Unmasking

if TYPE_CHECKING:
    from likely.app.words.limits import Limits
    from likely.engine.decode.session import Session
    from likely.engine.diffusion.answering import AnswerCanvas, DiffusedAnswer


def show_diffused(
    session: "Session",
    ids: Sequence[int],
    how: Unmasking,
    recipe: SamplingConfig,
    limits: "Limits",
    *,
    max_tokens: int | None,
    prefill: Sequence[int],
    as_json: bool,
    special: bool,
    quiet: bool,
    save: Path | None,
) -> None:
    """Write the answer, with `as_json` one object a token; its passes are saved. Exit code 130 if it was stopped."""
    from likely.engine.diffusion import answering

    canvas = answering.answer_canvas(session, ids, prefill=prefill, max_tokens=max_tokens or 0, block=how.block)
    passes: list[DenoisingStep] = []
    control = RunControl(recipe)
    with stopped_by_signals(control.cancel):  # also while it is saved
        with Progress() as progress:
            for step in answering.answer(session, canvas, how, recipe, seed=limits.seed):
                passes.append(step)
                progress.show("filling", sum(len(one.unmasked) for one in passes), canvas.masks)
                if control.cancelled:
                    break
        answer = answering.read_answer(canvas, passes, session.tokenizer, limits.stop)
        took = max((one.token.elapsed_s for step in passes for one in step.unmasked), default=0.0)
        stats = Stats(len(ids), 0, len(answer.tokens), 0.0, took)
        try:
            _write(answer, stats, len(passes), limits.seed, as_json=as_json, special=special, quiet=quiet)
        finally:  # where nobody reads it, too
            if save is not None:
                keep(save, session, canvas, how, passes, limits.seed, answer.finish)
    if control.cancelled:
        say_kept(save)
        sys.exit(INTERRUPTED)


def _write(
    answer: "DiffusedAnswer", stats: Stats, passes: int, seed: int, *, as_json: bool, special: bool, quiet: bool
) -> None:
    """An answer as it is printed, of so many passes."""
    if as_json:
        for row in objects(answer):
            click.echo(json_line(row))
        end = {"finish": answer.finish, "seed": seed, **asdict(stats), "passes": passes}
        end |= {"drawn_by": drawn_by(answer.tokens)}
        click.echo(json_line({**end, "revisions": revisions(answer)}))
    else:
        text = "".join(text_chat.shown(step, special) for step in answer.tokens) + answer.rest
        click.echo(heat.visible(text) if sys.stdout.isatty() else text)
    if not quiet:
        speed = stats.tokens / stats.decode_s if stats.decode_s > 0 else 0.0
        click.echo(
            f"{stats.prompt_tokens} prompt tokens · {len(answer.tokens)} tokens in {passes} passes at {speed:.1f}/s · "
            f"{len(answer.revisions)} revised · {answer.finish} · seed {seed}",
            err=True,
        )


def objects(answer: "DiffusedAnswer") -> list[dict[str, Any]]:
    """The objects that `--json` prints, one a token: the fields of `likely fill` and those of `likely run`."""
    return [
        {"position": step.position, **step_object(step), "step": number, "given": number is None}
        for step, number in zip(answer.tokens, answer.passes, strict=True)
    ]


def revisions(answer: "DiffusedAnswer") -> list[dict[str, Any]]:
    """Tokens that a later pass replaced, anywhere on the canvas."""
    return [
        {"position": one.token.position, "step": one.step, "from": one.before, "to": one.token.token}
        for one in answer.revisions
    ]


def keep(
    path: Path,
    session: "Session",
    canvas: "AnswerCanvas",
    how: Unmasking,
    passes: Sequence[DenoisingStep],
    seed: int,
    finish: str,
) -> None:
    """Save a run by diffusion."""
    from likely.engine.sampling.trace import file
    from likely.engine.sampling.trace.record import DenoisingRecord

    record = DenoisingRecord(canvas.mask, canvas.start, how, tuple(passes))
    file.save([run_trace(session, canvas.ids, record.steps, seed, finish, record)], path)
