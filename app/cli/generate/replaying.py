"""`likely run --replay`: a saved run as it was drawn, or under other parameters, without the model."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from likely.app.cli.generate.replayed_text import (
    GLYPH,
    as_object,
    best,
    bounds,
    drawn_at,
    piece_text,
    replayed,
    spread,
    under,
)
from likely.app.cli.generate.replaying_passes import show_passes
from likely.app.store.sampling_text import change
from likely.app.words import heat
from likely.app.words.tables import Columns
from likely.app.words.units import json_line
from likely.engine.sampling.trace import file
from likely.engine.sampling.trace.replay import StepReplay, states_at
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep


def show_replay(path: Path, recipe: SamplingConfig | None, *, as_json: bool) -> None:
    """For each token of a file's runs: its probability as drawn and under `recipe`, by default the one that drew it; a
    range where that is not known."""
    traces = file.load(path)
    for n, trace in enumerate(traces, 1):
        whose = {"answer": n} if len(traces) > 1 else {}
        if trace.denoising is not None:
            show_passes(trace, recipe, f"[{n}] " if whose else "", as_json=as_json, answer=whose)
            continue
        rows = _replayed(trace, recipe)
        if as_json:
            for step, new in rows:
                click.echo(json_line(whose | as_object(trace, step, new, recipe)))
        else:
            _show(trace, list(rows), recipe, f"[{n}] " if whose else "")


def _show(trace: Trace, rows: list[tuple[TokenStep, StepReplay]], recipe: SamplingConfig | None, whose: str) -> None:
    mode = heat.colour_mode(sys.stdout)
    model = heat.sanitize_line(trace.model)
    click.echo(f"{whose}{model} · seed {trace.seed} · {len(rows)} tokens, {under(trace, recipe)}")
    columns = Columns("{token:<18} {drawn at:>9} {would be:>16} {kept:>11}  {candidates}")
    click.echo(columns.heading)
    last: TokenStep | None = None
    for step, new in rows:
        if recipe is None and last is not None and (moved := change(last.recipe, step.recipe)):
            click.echo(f"{GLYPH} from here on {moved}")
        last, name = step, piece_text(step.piece)
        bits = None if step.logprob is None else -step.logprob / math.log(2)
        low, high = bounds(new, step.token)
        count = f"{new.kept[0]}" if new.kept[0] == new.kept[1] else f"{new.kept[0]}-{new.kept[1]}"
        row = columns.line(name, drawn_at(step), spread(low, high), count, best(trace, new))
        click.echo(heat.paint(name, heat.level(bits), mode) + row[len(name) :])


def _replayed(trace: Trace, recipe: SamplingConfig | None) -> Iterator[tuple[TokenStep, StepReplay]]:
    for n, step in enumerate(trace.steps):
        by = recipe or step.recipe
        states = states_at(by.transforms, trace.lexicon, trace.prompt, trace.steps[:n])
        if (outcome := replayed(step, states, (trace.seed, step.position), recipe)) is not None:
            yield step, outcome
