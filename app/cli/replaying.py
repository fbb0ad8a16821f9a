"""`likely run --replay`: a saved run under other parameters, without the model."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from app import heat
from app.cli.replayed_text import as_object, best, bounds, drawn_at, named, said, spread
from app.cli.replaying_passes import show_passes
from app.units import json_line
from engine.trace import file
from engine.trace.replay import Replayed, replay, states_at
from engine.trace.trace import Recipe, TokenStep, Trace


def show_replay(path: Path, recipe: Recipe, *, as_json: bool) -> None:
    """For each token of a file's runs: its probability as drawn and under `recipe`, a range where that is not known."""
    traces = file.load(path)
    for n, trace in enumerate(traces, 1):
        whose = {"answer": n} if len(traces) > 1 else {}
        if trace.denoising is not None:
            show_passes(trace, recipe, f"[{n}] " if whose else "", as_json=as_json, answer=whose)
            continue
        rows = _replayed(trace, recipe)
        if as_json:
            for step, new in rows:
                click.echo(json_line(whose | as_object(trace, step, new)))
        else:
            _show(trace, list(rows), recipe, f"[{n}] " if whose else "")


def _show(trace: Trace, rows: list[tuple[TokenStep, Replayed]], recipe: Recipe, whose: str) -> None:
    mode = heat.colour_mode(sys.stdout)
    model = heat.one_line(trace.model)
    click.echo(f"{whose}{model} · seed {trace.seed} · {len(rows)} tokens, drawn again under {named(recipe)}")
    click.echo(f"{'token':<18} {'drawn at':>9} {'would be':>16} {'kept':>11}  candidates")
    for step, new in rows:
        name = said(step.piece)
        bits = None if step.logprob is None else -step.logprob / math.log(2)
        shown = heat.paint(name, heat.level(bits), mode) + " " * max(0, 18 - len(name))
        low, high = bounds(new, step.token)
        kept = f"{new.kept[0]}" if new.kept[0] == new.kept[1] else f"{new.kept[0]}-{new.kept[1]}"
        click.echo(f"{shown} {drawn_at(step):>9} {spread(low, high):>16} {kept:>11}  {best(trace, new)}")


def _replayed(trace: Trace, recipe: Recipe) -> Iterator[tuple[TokenStep, Replayed]]:
    for n, step in enumerate(trace.steps):
        if step.snapshot is not None:
            states = states_at(recipe.transforms, trace.lexicon, trace.prompt, trace.steps[:n])
            key = (trace.seed, step.position)
            yield step, replay(step.snapshot, recipe.transforms, states, key, greedy=recipe.greedy)
