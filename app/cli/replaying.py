"""`likely run --replay`: a saved run under other parameters, without the model."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from app import heat
from engine.trace import file
from engine.trace.fields import step_object
from engine.trace.replay import Replayed, replay, states_at
from engine.trace.trace import Recipe, TokenStep, Trace

SHOWN = 4  # candidates a token


def show_replay(path: Path, recipe: Recipe, *, as_json: bool) -> None:
    """For each token of a file's runs: its probability as drawn and under `recipe`, a range where that is not known."""
    traces = file.load(path)
    for n, trace in enumerate(traces, 1):
        rows = _replayed(trace, recipe)
        whose = {"answer": n} if len(traces) > 1 else {}
        if as_json:
            for step, new in rows:
                click.echo(json.dumps(whose | _object(trace, step, new), ensure_ascii=False))
        else:
            _show(trace, list(rows), recipe, f"[{n}] " if whose else "")


def _show(trace: Trace, rows: list[tuple[TokenStep, Replayed]], recipe: Recipe, whose: str) -> None:
    mode = heat.colour_mode(sys.stdout)
    model = heat.one_line(trace.model)
    click.echo(f"{whose}{model} · seed {trace.seed} · {len(rows)} tokens, drawn again under {_named(recipe)}")
    click.echo(f"{'token':<18} {'drawn at':>9} {'would be':>16} {'kept':>11}  candidates")
    for step, new in rows:
        name = _name(step.piece)
        bits = None if step.logprob is None else -step.logprob / math.log(2)
        shown = heat.paint(name, heat.level(bits), mode) + " " * max(0, 18 - len(name))
        low, high = _of(new, step.token)
        order = sorted(range(len(new.ids)), key=lambda i: -float(new.middle[i]))[:SHOWN]
        best = "  ".join(
            f"{_name(trace.lexicon.piece(int(new.ids[i])))} {_range(float(new.low[i]), float(new.high[i]))}"
            for i in order
            if new.high[i] > 0
        )
        kept = f"{new.kept[0]}" if new.kept[0] == new.kept[1] else f"{new.kept[0]}-{new.kept[1]}"
        drawn = math.exp(step.logprob_after) if step.logprob_after is not None else math.nan
        click.echo(f"{shown} {drawn:>9.2%} {_range(low, high):>16} {kept:>11}  {best}")


def _replayed(trace: Trace, recipe: Recipe) -> Iterator[tuple[TokenStep, Replayed]]:
    for n, step in enumerate(trace.steps):
        if step.snapshot is not None:
            states = states_at(recipe.transforms, trace.lexicon, trace.prompt, trace.steps[:n])
            key = (trace.seed, step.position)
            yield step, replay(step.snapshot, recipe.transforms, states, key, greedy=recipe.greedy)


def _object(trace: Trace, step: TokenStep, new: Replayed) -> dict[str, Any]:
    return {
        **step_object(step),
        "p_after": list(_of(new, step.token)),
        "exact": new.exact,
        "kept": list(new.kept),
        "rest": list(new.rest),
        "candidates": [
            {
                "id": int(i),
                "text": trace.lexicon.piece(int(i)).decode(errors="replace"),
                "p_after": [float(low), float(high)],
            }
            for i, low, high in zip(new.ids, new.low, new.high, strict=True)
            if high > 0
        ],
    }


def _of(new: Replayed, token: int) -> tuple[float, float]:
    """The bounds of the token that was drawn; a snapshot always holds it."""
    at = int((new.ids == token).argmax())
    return float(new.low[at]), float(new.high[at])


def _range(low: float, high: float) -> str:
    return f"{low:.2%}" if high - low < 1e-4 else f"{low:.2%} to {high:.2%}"


def _name(piece: bytes) -> str:
    return heat.visible(repr(piece.decode(errors="replace"))[1:-1]) or "''"


def _named(recipe: Recipe) -> str:
    if recipe.greedy:
        return "greedy"
    return ", ".join(repr(t) for t in recipe.transforms) or "no transforms"
