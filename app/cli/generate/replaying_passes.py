"""Passes of a run by diffusion on a terminal: the canvas after each, what it drew, and what other parameters would.

One line a pass is what `likely fill` says too while it runs.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import numpy as np

from likely.app.cli.generate.replayed_text import (
    as_object,
    best,
    bounds,
    drawn_at,
    piece_text,
    replayed,
    spread,
    under,
)
from likely.app.words import heat
from likely.app.words.units import json_line
from likely.engine.sampling.trace.record import DenoisingRecord, canvases
from likely.engine.sampling.trace.replay import StepReplay
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import DenoisingStep, OpenMask, Unmasked
from likely.engine.sampling.transforms import start

SHADE = "░"


def pass_line(number: int, texts: Iterable[str | None]) -> str:
    """The canvas after a pass in one line: a mask, None, is shaded."""
    return f"{number:>4}  {heat.sanitize_line(''.join(SHADE if text is None else text for text in texts))}"


def show_passes(
    trace: Trace, recipe: SamplingConfig | None, whose: str, *, as_json: bool, answer: dict[str, int]
) -> None:
    """Every pass of a run: its canvas and the tokens that it drew, as drawn and under `recipe`, by default
    the one that drew it; with `as_json` one object a token, and one a pass for the masks that it left."""
    record = trace.denoising
    assert record is not None
    if not as_json:
        drawn = f"{len(trace.steps)} tokens in {len(record.passes)} passes by {record.how.by}"
        click.echo(f"{whose}{heat.sanitize_line(trace.model)} · seed {trace.seed} · {drawn}, {under(trace, recipe)}")
    before = list(trace.prompt)
    for step, canvas in zip(record.passes, canvases(trace.prompt, record.passes), strict=True):
        rows = list(_replayed(trace, record, step, before, recipe))
        if as_json:
            for one, new in rows:
                position = {"pass": step.step, "position": one.token.position, "before": one.before}
                click.echo(json_line(answer | position | as_object(trace, one.token, new, recipe)))
            masks = [_open_object(trace, mask) for mask in step.open]
            click.echo(json_line(answer | {"pass": step.step, "open": masks}))
        else:
            click.echo(pass_line(step.step, _texts(trace, record, canvas)))
            for one, new in rows:
                _show(trace, one, new)
            if step.open:
                mean = float(np.mean([mask.entropy for mask in step.open])) / math.log(2)
                click.echo(f"      {len(step.open)} masks left, of {mean:.2f} bits each on average")
        before = canvas


def _texts(trace: Trace, record: DenoisingRecord, canvas: Sequence[int]) -> Iterator[str | None]:
    """Texts of a canvas, a character that is split over tokens as that, None for a mask."""
    held = b""
    for token in canvas:
        if token != record.mask:
            held += trace.lexicon.piece(token)
            continue
        yield held.decode(errors="replace")
        held = b""
        yield None
    yield held.decode(errors="replace")


def _replayed(
    trace: Trace, record: DenoisingRecord, step: DenoisingStep, canvas: Sequence[int], recipe: SamplingConfig | None
) -> Iterator[tuple[Unmasked, StepReplay | None]]:
    """Each token of a pass and what `recipe` would do there, or its own did. None where tokens are drawn anew and a
    transform looks at those that stood: which others were masked and came again as they were, no record says."""
    known = [token for token in canvas if token != record.mask]
    anew = any(one.before is not None for one in step.unmasked)
    for one in step.unmasked:
        states = start((recipe or one.token.recipe).transforms, trace.lexicon, known, np)
        key = (trace.seed, step.step * len(trace.prompt) + one.token.position)
        unknown = anew and any(state is not None for state in states)
        yield one, None if unknown else replayed(one.token, states, key, recipe)


def _show(trace: Trace, one: Unmasked, new: StepReplay | None) -> None:
    step = one.token
    name = piece_text(step.piece)
    bits = None if step.logprob is None else -step.logprob / math.log(2)
    shown = heat.paint(name, heat.level(bits), heat.colour_mode(sys.stdout)) + " " * max(0, 18 - len(name))
    would = "" if new is None else spread(*bounds(new, step.token))
    others = "" if new is None else best(trace, new)
    stood = "" if one.before is None else f"  was {piece_text(trace.lexicon.piece(one.before))}"
    click.echo(f"      {step.position:>5} {shown} {drawn_at(step):>9} {would:>16}  {others}{stood}".rstrip())


def _open_object(trace: Trace, mask: OpenMask) -> dict[str, Any]:
    candidates = [
        {"id": int(i), "text": trace.lexicon.piece(int(i)).decode(errors="replace"), "logprob": float(logprob)}
        for i, logprob in zip(mask.ids, mask.logprobs, strict=True)
        if logprob > -math.inf
    ]
    return {"position": mask.position, "entropy": mask.entropy, "candidates": candidates}
