"""Words of a step under other parameters: its token, probabilities and candidates, in a table or as JSON."""

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from likely.app.store.sampling_text import drawn_by, words
from likely.app.words import heat
from likely.app.words.units import searched
from likely.engine.sampling.trace.fields import step_object
from likely.engine.sampling.trace.file import recipe_row
from likely.engine.sampling.trace.replay import StepReplay, replay, replay_drawn
from likely.engine.sampling.trace.run_trace import Trace
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep
from likely.engine.sampling.transforms import Key, States

SHOWN = 4  # candidates a token
GLYPH = "◆"  # before a token from which on others are drawn otherwise


def best(trace: Trace, new: StepReplay) -> str:
    """The likeliest candidates under other parameters."""
    order = sorted(range(len(new.ids)), key=lambda i: -float(new.middle[i]))[:SHOWN]
    return "  ".join(
        f"{piece_text(trace.lexicon.piece(int(new.ids[i])))} {spread(float(new.low[i]), float(new.high[i]))}"
        for i in order
        if new.high[i] > 0
    )


def as_object(trace: Trace, step: TokenStep, new: StepReplay | None, recipe: SamplingConfig | None) -> dict[str, Any]:
    """A step as `--json` prints it: the model's own numbers, under `drawn` those of the distribution that it was drawn
    from, and under `replayed` those of `recipe`, by default the one that drew it, where they are known. Each of the two
    names its recipe."""
    own, every = step_object(step, drawn=False), step_object(step)
    drawn = {name: value for name, value in every.items() if name not in own}
    fields = own | {"drawn": drawn | {"recipe": recipe_row(step.recipe)}}
    if new is None:
        return fields
    replayed = {
        "p_after": list(bounds(new, step.token)),
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
        "recipe": recipe_row(recipe or step.recipe),
    }
    return fields | {"replayed": replayed}


def replayed(step: TokenStep, states: States, key: Key, recipe: SamplingConfig | None) -> StepReplay | None:
    """A step under a recipe, with the states and the key of its place; None as it was drawn, and None where nothing was
    kept of it."""
    if recipe is None:
        return replay_drawn(step, states, key)
    if step.snapshot is None:
        return None
    return replay(step.snapshot, recipe.transforms, states, key, greedy=recipe.greedy)


def under(trace: Trace, recipe: SamplingConfig | None) -> str:
    """By what a run is replayed, in words; None: as it was drawn, by recipes one after another."""
    if recipe is not None:
        return f"drawn again under {words(recipe)}"
    if found := trace.meta.get("strategy"):  # which draws nothing
        return heat.sanitize_line(f"found by {found} · {searched(_figures(trace.meta))}")
    return f"as drawn under {words(*drawn_by(trace.steps))}"


def _figures(meta: Mapping[str, str]) -> dict[str, float]:
    """The figures of a search in a file."""
    figures: dict[str, float] = {}
    for name, value in meta.items():
        with suppress(ValueError):
            figures[name] = value == "True" if value in ("True", "False") else float(value)
    return figures


def bounds(new: StepReplay, token: int) -> tuple[float, float]:
    """The bounds of the token that was drawn; a snapshot always holds it."""
    at = int((new.ids == token).argmax())
    return float(new.low[at]), float(new.high[at])


def spread(low: float, high: float) -> str:
    """A probability, or its range."""
    return f"{low:.2%}" if high - low < 1e-4 else f"{low:.2%} to {high:.2%}"


def drawn_at(step: TokenStep) -> str:
    """The probability that a token was drawn with; "-" where nothing was drawn."""
    return "-" if step.logprob_after is None else f"{math.exp(step.logprob_after):.2%}"


def piece_text(piece: bytes) -> str:
    """A token's bytes in a table."""
    return heat.visible(repr(piece.decode(errors="replace"))[1:-1]) or "''"
